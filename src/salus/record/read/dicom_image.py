"""Images in DICOM files: what the header says of them, and their pixels in Hounsfield units or display intensity.

Takes a `Header`; gives an item whose content loads lazily. One item for each file: of a multi-frame object the middle frame.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
from pydicom.pixels.utils import as_pixel_options, iter_pixels, pixel_array
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEGExtended12Bit

from salus.errors import FormatError, MissingExtra
from salus.record.claims import modality_of
from salus.record.normalised import words as step_words
from salus.record.patient import Code, Content, Image, Item, Normalisation, Source, item_id
from salus.record.read.dicom_header import (
    PARSE_ERRORS,
    Header,
    number_of,
    numbers_of,
    observed_at,
    read_header,
    recorded_at,
    sequence_of,
    sop_class,
    text_of,
    texts_of,
)
from salus.record.read.dicom_plane import plane_of
from salus.record.read.dicom_suv import uptake_of
from salus.record.read.reader import ReadOptions
from salus.record.volume import axis_letter

MOST_PIXELS = 178_956_970
"""Rows × columns that are accepted, Pillow's own guard against decompression bombs."""
HU = "[hnsf'U]"
DCM = "http://dicom.nema.org/resources/ontology/DCM"
WORDS = {
    "CT": "CT slice",
    "MR": "MR slice",
    "CR": "radiograph (CR)",
    "DX": "radiograph (DX)",
    "US": "ultrasound image",
    "NM": "nuclear medicine image",
    "PT": "PET slice",
    "MG": "mammogram",
    "XA": "angiogram",
    "RTDOSE": "radiotherapy dose plane",
    "SEG": "segmentation mask",
}
SIDES = {"L": "left", "R": "right", "B": "both sides"}
"""DICOM PS3.3 C.7.3.1 (Laterality), C.8.11.7 (Image Laterality)."""
OVERLAY_GROUPS = range(0x6000, 0x6020, 2)
"""Groups of overlay planes (DICOM PS3.3 C.9.2)."""
OBLIQUE_COSINE = 0.98
"""Below this cosine (more than 11.5°) between an image axis and the body axis, the orientation is called oblique."""


def image_item(header: Header, sha256: str, options: ReadOptions) -> Item:
    """Return the item of a DICOM image; its pixels stay on disk.

    Raises:
        FormatError: the image is truncated, damaged or too large.
        MissingExtra: its compression needs a codec that is not installed.
    """
    rows, columns, frames = shape_of(header)
    refuse_unreadable(header)
    kind = text_of(header, "Modality").upper() or "OT"
    unit = _unit(header, kind)
    words = WORDS.get(kind, f"image ({kind})")
    size = f"{rows} × {columns}" + (f", frame {frames // 2 + 1} of {frames}" if frames > 1 else "")
    body_part = text_of(header, "BodyPartExamined").lower()
    side = SIDES.get((text_of(header, "ImageLaterality") or text_of(header, "Laterality")).upper(), "")
    view = text_of(header, "ViewPosition").upper() if kind == "MG" else ""
    summary = ", ".join(part for part in (size, words, body_part, side, view, "HU" if unit == HU else unit.replace("1", "")) if part)
    locator = f"frame {frames // 2 + 1}" if frames > 1 else "PixelData"
    return Item(
        id=item_id(sha256, locator),
        modality=options.modality or modality_of(f"dicom:{kind}"),
        code=Code(DCM, kind, words),
        source=Source(str(header.path), sha256, locator),
        observed_at=observed_at(header),
        recorded_at=recorded_at(header),
        category="image",
        content=Content("image", partial(load_image, header.path), summary),
        remarks=(
            *((f"{frames} frames: only the middle one, {frames // 2 + 1}, is read",) if frames > 1 else ()),
            *image_remarks(header, kind),
        ),
        normalised=tuple(_steps(header, unit, frames)),
        plane=plane_of(header, (rows, columns)) if frames == 1 else None,
    )


def refuse_unreadable(header: Header) -> None:
    """Raise when the pixels are not all there, or nothing installed decodes them.

    Raises:
        FormatError: the image is truncated, or its compression is unknown.
        MissingExtra: its compression needs a codec that is not installed.
    """
    rows, columns, frames = shape_of(header)
    _refuse_missing_codec(header)
    _refuse_truncated(header, rows * columns * frames)
    if get_decoder(header.transfer_syntax).available_plugins == ("pillow",):
        _refuse_what_pillow_cannot(header, frames)


def load_image(path: Path) -> Image:
    """Return the pixels of a DICOM image, (H, W) or (H, W, 3): HU for CT, else intensity; colour from 0 to 255.

    Raises:
        FormatError: the pixels cannot be decoded.
        MissingExtra: a codec is not installed.

    Source: DICOM PS3.3 C.11.1.1.2 (rescale), C.7.6.3.1.2 (photometric interpretation), C.7.6.3.1.5 (palette).
    """
    header = read_header(path)
    rows, columns, frames = shape_of(header)
    _refuse_missing_codec(header)
    _refuse_truncated(header, rows * columns * frames)
    return frame_image(header, frames // 2)


def frame_image(header: Header, index: int) -> Image:
    """Return one frame of a DICOM image, as `load_image` does.

    Raises:
        FormatError: the pixels cannot be decoded.
    """
    return image_of(header, _stored_pixels(header, index if shape_of(header)[2] > 1 else None), index)


def load_frames(header: Header, indices: Sequence[int]) -> Iterator[Image]:
    """Yield frames of a multi-frame image, each as `load_image` gives one; the file is parsed once.

    Raises:
        FormatError: the pixels cannot be decoded.
    """
    rows, columns, frames = shape_of(header)
    _refuse_missing_codec(header)
    _refuse_truncated(header, rows * columns * frames)
    is_stated = "TransferSyntaxUID" in getattr(header.dataset, "file_meta", {})
    if not is_stated or header.transfer_syntax == DeflatedExplicitVRLittleEndian or frames == 1:
        yield from (image_of(header, _stored_pixels(header, index if frames > 1 else None), index) for index in indices)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        decoded = iter_pixels(header.path, indices=list(indices))
        for index in indices:
            try:
                stored = np.asarray(next(decoded))
            except (*PARSE_ERRORS, StopIteration) as error:
                raise _undecodable(header, error) from error
            yield image_of(header, stored, index)


def image_of(header: Header, stored: NDArray[np.generic], index: int) -> Image:
    """Return one decoded frame in its unit: HU for CT, SUV or activity for PET, dose, else intensity; colour from 0 to 255."""
    photometric = text_of(header, "PhotometricInterpretation")
    spacing, orientation, window = _spacing(header), _orientation(header)[0], _window(header, index)
    if photometric == "PALETTE COLOR":
        stored = _with_palette(header, stored)
    if stored.ndim == 3:
        bits = (
            8 * stored.dtype.itemsize if photometric == "PALETTE COLOR" else int(number_of(header, "BitsStored", default=8) or 8)
        )
        colour = stored.astype(np.float64) * (255.0 / (2**bits - 1))
        return Image(np.clip(colour, 0, 255).astype(np.float32), "1", spacing, orientation, None)
    unit = _unit(header, text_of(header, "Modality").upper())
    values, low, high = _rescaled(header, stored, index)
    if is_pet(header):
        factor = uptake_of(header).factor
        values, low, high = values * factor, low * factor, high * factor
        window = (window[0] * factor, window[1] * factor) if window else None
    if photometric == "MONOCHROME1" and unit == "1":  # low stored value = bright; mirror the stored range
        values = low + high - values
        window = (low + high - window[0], window[1]) if window else None
    return Image(values.astype(np.float32), unit, spacing, orientation, window)


def shape_of(header: Header) -> tuple[int, int, int]:
    """Return rows, columns and frames.

    Raises:
        FormatError: there are no rows or columns, or more pixels than are read.
    """
    rows, columns = number_of(header, "Rows"), number_of(header, "Columns")
    frames = number_of(header, "NumberOfFrames", default=1.0)
    if not rows or not columns:
        raise FormatError(f"Cannot read DICOM '{header.path.name}': Rows or Columns is absent or 0. Export it again.")
    if rows * columns > MOST_PIXELS:
        raise FormatError(
            f"Cannot read DICOM '{header.path.name}': {rows:.0f} × {columns:.0f} pixels are more than {MOST_PIXELS}. "
            "Store a smaller image."
        )
    return int(rows), int(columns), max(1, int(frames or 1))


def _refuse_missing_codec(header: Header) -> None:
    syntax = header.transfer_syntax
    purpose = f"decode the pixels of DICOM '{header.path.name}' ({header.syntax_name})"
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise FormatError(f"Cannot {purpose}: no decoder exists for this transfer syntax. Store it in another one.") from error
    if not decoder.is_available:
        raise MissingExtra(purpose, "images")
    is_12_bit = syntax == JPEGExtended12Bit and (number_of(header, "BitsAllocated", default=8) or 8) > 8
    if is_12_bit and "pylibjpeg" not in decoder.available_plugins:
        # Pillow and GDCM decode the 8-bit kind only, and the one package that does more is GPL-3.0, so no extra brings it
        raise FormatError(f"Cannot {purpose}: lossy JPEG of 12 bits. Store it losslessly, or run: pip install pylibjpeg-libjpeg (GPL-3.0)")


def _refuse_what_pillow_cannot(header: Header, frames: int) -> None:
    # Pillow alone decodes only part of JPEG and JPEG 2000, and no header says which part: one frame is tried.
    try:
        _stored_pixels(header, frames // 2 if frames > 1 else None)
    except FormatError as error:
        raise MissingExtra(
            f"decode the pixels of DICOM '{header.path.name}' ({header.syntax_name})", "images"
        ) from error


def _refuse_truncated(header: Header, samples: int) -> None:
    if not header.pixel_position:
        return
    size = header.path.stat().st_size
    order = "big" if header.transfer_syntax.is_little_endian is False else "little"
    with header.path.open("rb") as stream:
        stream.seek(header.pixel_position + 4)
        start = stream.read(8)
        is_implicit = header.transfer_syntax.is_implicit_VR
        length = int.from_bytes(start[:4] if is_implicit else start[4:8], order)  # type: ignore[arg-type]
        begin = header.pixel_position + (8 if is_implicit else 12)
        if length == 0xFFFFFFFF:
            stream.seek(begin)
            while (tag := stream.read(4)) == b"\xfe\xff\x00\xe0":
                stream.seek(int.from_bytes(stream.read(4), "little"), 1)
                if stream.tell() > size:
                    break
            is_short = tag == b"\xfe\xff\x00\xe0" or (stream.tell() - 4 <= begin)
            promised, held = length, size - begin
        else:
            promised, held = length, size - begin
            is_short = held < promised or (
                not header.transfer_syntax.is_encapsulated and promised < _expected_bytes(header, samples)
            )
            promised = max(promised, 0 if header.transfer_syntax.is_encapsulated else _expected_bytes(header, samples))
    if is_short:
        amount = f"{promised} bytes of pixels are promised, {min(held, length)} are there"
        why = "a compressed frame ends too early" if length == 0xFFFFFFFF else amount
        raise FormatError(f"Cannot read DICOM '{header.path.name}': the file is truncated ({why}). Export or copy it again.")


def _expected_bytes(header: Header, samples: int) -> int:
    channels = int(number_of(header, "SamplesPerPixel", default=1) or 1)
    bits = int(number_of(header, "BitsAllocated", default=8) or 8)
    expected = samples * channels * bits / 8
    if text_of(header, "PhotometricInterpretation") == "YBR_FULL_422":
        expected *= 2 / 3  # two chroma samples are shared by two pixels
    return int(expected)


def _stored_pixels(header: Header, index: int | None) -> NDArray[np.generic]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            is_stated = "TransferSyntaxUID" in getattr(header.dataset, "file_meta", {})
            if is_stated and header.transfer_syntax != DeflatedExplicitVRLittleEndian:  # both need the whole data set
                return _decoded(header, index)
            whole = dcmread(header.path, force=True)
            if not is_stated:
                whole.file_meta = FileMetaDataset()
                whole.file_meta.TransferSyntaxUID = header.transfer_syntax
            return np.asarray(pixel_array(whole, index=index))
    except PARSE_ERRORS as error:
        raise _undecodable(header, error) from error


def _undecodable(header: Header, error: Exception) -> FormatError:
    return FormatError(
        f"Cannot decode the pixels of DICOM '{header.path.name}' ({header.syntax_name}): {type(error).__name__}. "
        "Export it again, or install the full codecs: pip install 'salus[images]'"
    )


def is_pet(header: Header) -> bool:
    """Return whether values are uptake of a tracer in PET."""
    return text_of(header, "Modality").upper() == "PT"


def _decoded(header: Header, index: int | None) -> NDArray[np.generic]:
    """Return what `pixel_array(path)` does, without parsing the header once more, which takes longer than most pixels.

    CAUTION: GDCM ends the whole process on some damaged JPEG-LS frames, so it is asked only where nothing else decodes the syntax.
    """
    syntax, options = header.transfer_syntax, as_pixel_options(header.dataset)
    decoder = get_decoder(syntax)
    plugins = tuple(name for name in decoder.available_plugins if name != "gdcm") or ("gdcm",)
    with header.path.open("rb") as stream:
        stream.seek(header.pixel_position)
        start = stream.read(8)
        if not syntax.is_implicit_VR:
            options["pixel_vr"] = start[4:6].decode("ascii")
            stream.read(4)
        options |= {"transfer_syntax_uid": syntax, "pixel_keyword": keyword_for_tag(header.pixel_tag or 0)}
        if not syntax.is_encapsulated:
            return decoder.as_array(stream, index=index, validate=True, **options)[0]
        begin = stream.tell()
        for plugin in plugins[:-1]:
            try:
                return decoder.as_array(stream, index=index, validate=True, decoding_plugin=plugin, **options)[0]
            except RuntimeError:  # this one cannot; the next may
                stream.seek(begin)
        return decoder.as_array(stream, index=index, validate=True, decoding_plugin=plugins[-1], **options)[0]


def _with_palette(header: Header, stored: NDArray[np.generic]) -> NDArray[np.generic]:
    try:
        return np.asarray(apply_color_lut(stored, header.dataset))
    except PARSE_ERRORS as error:
        raise FormatError(
            f"Cannot decode the pixels of DICOM '{header.path.name}': its colour palette is damaged. Export it again."
        ) from error


def functional(header: Header, sequence: str, index: int) -> Dataset | None:
    """Return the macro of an enhanced multi-frame object for one frame (DICOM PS3.3 C.7.6.16)."""
    for groups, at in (("PerFrameFunctionalGroupsSequence", index), ("SharedFunctionalGroupsSequence", 0)):
        found = sequence_of(header, groups)
        macros = sequence_of(header, sequence, dataset=found[at]) if len(found) > at else ()
        if macros:
            return macros[0]
    return None


def _slope_intercept(header: Header, index: int) -> tuple[float, float, bool]:
    if (dose := number_of(header, "DoseGridScaling")) is not None:
        return dose, 0.0, True
    macro = functional(header, "PixelValueTransformationSequence", index)
    slope = number_of(header, "RescaleSlope", dataset=macro)
    intercept = number_of(header, "RescaleIntercept", dataset=macro)
    return 1.0 if slope is None else slope, intercept or 0.0, slope is not None and intercept is not None


def _unit(header: Header, kind: str) -> str:
    if number_of(header, "DoseGridScaling") is not None and text_of(header, "DoseUnits").upper() == "GY":
        return "Gy"
    if kind == "PT":
        return uptake_of(header).unit
    macro = functional(header, "PixelValueTransformationSequence", 0)
    is_hu = text_of(header, "RescaleType", dataset=macro).upper() in ("", "HU") and _slope_intercept(header, 0)[2]
    return HU if kind == "CT" and is_hu and "LOCALIZER" not in _image_type(header) else "1"


def _image_type(header: Header) -> str:
    return " ".join(texts_of(header, "ImageType")).upper()


def _steps(header: Header, unit: str, frames: int) -> Iterator[Normalisation]:
    """Yield what `load_image` does to the stored pixels."""
    index = frames // 2
    if frames > 1:
        yield Normalisation("middle_frame", (("frame", float(index + 1)), ("of", float(frames))))
    photometric = text_of(header, "PhotometricInterpretation")
    if not photometric.startswith("MONOCHROME"):
        yield Normalisation("colour", (("from", photometric),))
        return
    slope, intercept, _ = _slope_intercept(header, index)
    if sequence_of(header, "ModalityLUTSequence"):
        yield Normalisation("lookup_table")
    elif (slope, intercept) != (1.0, 0.0):
        yield Normalisation("rescale", (("slope", slope), ("intercept", intercept)))
    if is_pet(header) and (factor := uptake_of(header).factor) != 1.0:
        yield Normalisation("rescale", (("slope", factor), ("intercept", 0.0)))
    if photometric == "MONOCHROME1" and unit == "1":
        low, high = _stored_ends(header, 8) * slope + intercept
        yield Normalisation("mirror", (("sum", float(low + high)),))


def _stored_ends(header: Header, bits_by_default: int) -> NDArray[np.float64]:
    """Return the least and the greatest value that the pixels can have as stored."""
    bits = int(number_of(header, "BitsStored", default=bits_by_default) or 8)
    is_signed = number_of(header, "PixelRepresentation", default=0) == 1
    return np.array([-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1] if is_signed else [0.0, 2.0**bits - 1])


def _rescaled(header: Header, stored: NDArray[np.generic], index: int) -> tuple[NDArray[np.float64], float, float]:
    ends = _stored_ends(header, 8 * stored.dtype.itemsize)
    if sequence_of(header, "ModalityLUTSequence"):
        values = np.asarray(apply_modality_lut(stored, header.dataset), dtype=np.float64)
        return values, float(values.min()), float(values.max())
    slope, intercept, _ = _slope_intercept(header, index)
    low, high = ends * slope + intercept
    return stored.astype(np.float64) * slope + intercept, float(low), float(high)


def _window(header: Header, index: int) -> tuple[float, float] | None:
    macro = functional(header, "FrameVOILUTSequence", index)
    centre, width = number_of(header, "WindowCenter", dataset=macro), number_of(header, "WindowWidth", dataset=macro)
    return (centre, width) if centre is not None and width is not None and width > 0 else None


def _spacing(header: Header) -> tuple[float, float] | None:
    macro = functional(header, "PixelMeasuresSequence", 0)
    spacing = numbers_of(header, "PixelSpacing", dataset=macro) or numbers_of(header, "ImagerPixelSpacing")
    return (spacing[0], spacing[1]) if len(spacing) == 2 and min(spacing) > 0 else None


def _orientation(header: Header) -> tuple[str | None, bool]:
    r"""Return `row direction\column direction` in DICOM letters, and whether the plane is oblique (DICOM PS3.3 C.7.6.2.1.1)."""
    macro = functional(header, "PlaneOrientationSequence", 0)
    cosines = numbers_of(header, "ImageOrientationPatient", dataset=macro)
    if len(cosines) != 6:
        stated = texts_of(header, "PatientOrientation")
        return ("\\".join(stated) if len(stated) == 2 and all(stated) else None), False
    axes = np.array(cosines).reshape(2, 3)
    return "\\".join(axis_letter(axis) for axis in axes), bool(np.abs(axes).max(axis=1).min() < OBLIQUE_COSINE)


def image_remarks(header: Header, kind: str) -> tuple[str, ...]:
    """Return what is normalised or unusual in the pixels of an image of this DICOM modality."""
    remarks = [uptake_of(header).words] if kind == "PT" else []
    if any(int(tag) >> 16 in OVERLAY_GROUPS for tag in header.dataset.keys()):  # noqa: SIM118  (a data set iterates over its elements)
        remarks.append("overlay graphics are in the file and not drawn")
    photometric = text_of(header, "PhotometricInterpretation")
    unit = _unit(header, kind)
    if photometric == "MONOCHROME1":
        remarks.append(step_words(Normalisation("mirror")) if unit == "1" else "MONOCHROME1 in HU: values kept")
    if photometric.startswith(("YBR", "PALETTE")):
        remarks.append(f"{photometric} converted to RGB")
    if kind == "CT" and unit != HU:
        remarks.append("no rescale to HU in this CT image: values are arbitrary intensity")
    if _spacing(header) is None:
        remarks.append("pixel spacing is not stated: no distance can be measured")
    elif not numbers_of(header, "PixelSpacing", dataset=functional(header, "PixelMeasuresSequence", 0)):
        remarks.append("spacing is at the detector, not in the patient")
    if _orientation(header)[1]:
        remarks.append("oblique plane: orientation letters name the nearest body axis")
    said = {"text is burned into the pixels": ("BurnedInAnnotation", "YES"), "lossy compression": ("LossyImageCompression", "01")}
    remarks += [words for words, (keyword, value) in said.items() if text_of(header, keyword).upper() == value]
    if kind == "OT" or not text_of(header, "Modality"):
        remarks.append(f"kind of image not stated ({sop_class(header)}): declare it in the manifest")
    return tuple(remarks)
