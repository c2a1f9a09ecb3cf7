"""Small DICOM files that tests write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid


def made(folder: Path, pixels: np.ndarray, *, name: str = "made.dcm", **elements: object) -> Path:
    """Write a small uncompressed image with these pixels and elements."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = elements.pop("sop_class", CTImageStorage)
    data.SOPInstanceUID = generate_uid()
    data.Modality, data.PatientID, data.PatientName = "CT", "P-1", "Doe^Jane"
    data.Rows, data.Columns = pixels.shape[:2]
    data.BitsAllocated = data.BitsStored = 8 * pixels.dtype.itemsize
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    for keyword, value in elements.items():
        setattr(data, keyword, value)
    data.PixelData = pixels.tobytes()
    path = folder / name
    data.save_as(path, enforce_file_format=True)
    return path
