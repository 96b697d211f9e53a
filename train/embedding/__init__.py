"""The embeddings of a dataset by a frozen backbone, cached as a dataset of their own."""
