"""One modality to vectors on a time line."""
