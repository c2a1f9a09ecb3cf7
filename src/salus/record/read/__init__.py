"""One file per file format; a format is not a modality."""
