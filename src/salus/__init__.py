"""Salus: one patient record in any modality, one evidenced answer.

Importing this loads neither torch nor a plug-in.
"""

__version__ = "0.1.0"
