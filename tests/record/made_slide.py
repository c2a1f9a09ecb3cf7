"""Whole slides that tests write: pink tissue on glass, as TIFF by tifffile and as DICOM by pydicom."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image as Pillow
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, VLWholeSlideMicroscopyImageStorage, generate_uid

TISSUE = (slice(256, 768), slice(384, 1152))
"""Rows and columns: 512 × 768 of 1024 × 1536."""


def picture() -> np.ndarray:
    """Return the finest level, (1024, 1536, 3)."""
    pixels = np.full((1024, 1536, 3), 240, np.uint8)
    pixels[TISSUE] = (190, 90, 160)
    return pixels + np.random.default_rng(0).integers(0, 6, pixels.shape, dtype=np.uint8)


def write_tiff(path: Path, *, bigtiff: bool = False) -> np.ndarray:
    """Write a pyramid of three levels, half a micrometre a pixel, and return the finest."""
    finest = picture()
    with tifffile.TiffWriter(path, bigtiff=bigtiff) as stream:
        for number, step in enumerate((1, 2, 4)):
            stream.write(
                finest[::step, ::step], subfiletype=int(number > 0), tile=(256, 256), photometric="rgb", compression="zlib",
                resolution=(20000 / step, 20000 / step), resolutionunit="CENTIMETER", metadata=None,
            )  # fmt: skip
    return finest


def write_dicom(folder: Path) -> np.ndarray:
    """Write two levels of one series and the picture of its label, and return the finest level."""
    folder.mkdir()
    finest, series = picture(), generate_uid()
    _write_level(folder / "level-0.dcm", finest, series, "NONE", spacing_mm=0.0005)
    _write_level(folder / "level-1.dcm", finest[::4, ::4], series, "RESAMPLED", spacing_mm=0.002)
    _write_level(folder / "label.dcm", finest[:256, :256], series, "LABEL", spacing_mm=0.01)
    return finest


def _write_level(path: Path, pixels: np.ndarray, series: str, derived: str, *, spacing_mm: float, side: int = 256) -> None:
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    data.SOPClassUID = VLWholeSlideMicroscopyImageStorage
    data.SOPInstanceUID = generate_uid()
    data.SeriesInstanceUID, data.StudyInstanceUID, data.Modality, data.PatientID = series, f"{series}.1", "SM", "P-1"
    kind = "LABEL" if derived == "LABEL" else "VOLUME"
    data.ImageType = ["ORIGINAL" if derived == "NONE" else "DERIVED", "PRIMARY", kind, "NONE" if kind == "LABEL" else derived]
    data.Rows = data.Columns = side
    data.TotalPixelMatrixRows, data.TotalPixelMatrixColumns = pixels.shape[:2]
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PlanarConfiguration = 3, "YBR_FULL_422", 0
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation = 7, 0
    data.DimensionOrganizationType = "TILED_FULL"
    data.TotalPixelMatrixFocalPlanes = data.NumberOfOpticalPaths = 1
    measures, shared, optics = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [spacing_mm, spacing_mm], 0.001
    shared.PixelMeasuresSequence = [measures]
    optics.OpticalPathIdentifier, optics.ObjectiveLensPower = "0", 20
    data.SharedFunctionalGroupsSequence, data.OpticalPathSequence = [shared], [optics]
    frames = []
    for row in range(0, pixels.shape[0], side):
        for column in range(0, pixels.shape[1], side):
            stream = io.BytesIO()
            Pillow.fromarray(pixels[row : row + side, column : column + side]).save(stream, "JPEG", quality=95, subsampling=1)
            frames.append(stream.getvalue())
    data.NumberOfFrames, data.PixelData = len(frames), encapsulate(frames)
    data["PixelData"].VR, data["PixelData"].is_undefined_length = "OB", True
    data.save_as(path, enforce_file_format=True)
