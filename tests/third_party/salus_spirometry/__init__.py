"""Spirometry for Salus: one modality and one task. Importing this loads no torch."""
