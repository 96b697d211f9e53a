"""MIRFLICKR-25k: 25,000 photographs from Flickr with labels and tags."""
