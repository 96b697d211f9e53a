"""What a trained tagger says of images: in memory, as files, as a Beam job."""
