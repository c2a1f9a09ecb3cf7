"""PNG and JPEG images.

Takes a path; gives one item whose pixels load lazily. The format does not say what kind of image it is, so the modality
comes from the manifest. Colours are brought to sRGB. Leaves out all text and EXIF content but the rotation: no place, camera or time.
"""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps, UnidentifiedImageError

from salus.errors import FormatError
from salus.record.claims import UNCLAIMED, modality_of
from salus.record.normalised import UPRIGHT, colour, turn
from salus.record.patient import Code, Content, Image, Item, Source, item_id
from salus.record.read.colour import in_srgb, is_usable, said_of
from salus.record.read.reader import FileRead, Found, Reader, ReadOptions
from salus.record.read.source import file_sha256, refuse_empty

MAGIC = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}
PILLOW_ERRORS = (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError)
EXIF_ORIENTATION = 0x0112


def read_image(path: Path, options: ReadOptions) -> FileRead:
    """Return a PNG or JPEG as one item; of the file, only the header is decoded.

    Raises:
        FormatError: the file is empty, truncated, or larger in pixels than is safe.
    """
    refuse_empty(path)
    with path.open("rb") as stream:
        media = media_of(stream.read(16))
    _refuse_without_end(path, media)
    with _opened(path) as picture:
        mode, (width, height) = picture.mode, picture.size
        exif = Pillow.Exif()
        exif.load(picture.info.get("exif", b""))  # not picture.getexif(), which decodes all pixels of a PNG
        turns = turn(exif.get(EXIF_ORIENTATION, UPRIGHT))
        is_grey = mode in ("1", "L", "LA", "I", "I;16", "F")
        profile = picture.info.get("icc_profile")
        colours = None if is_grey else said_of(mode, profile)
        bits = 16 if media == "image/png" and not is_grey and _is_deep_png(path) else 8
        if exif.get(EXIF_ORIENTATION, 1) in (5, 6, 7, 8):
            width, height = height, width
    sha256 = file_sha256(path)
    modality = options.modality or modality_of(f"media:{media}")
    remarks = ["turned upright as its EXIF orientation states"] if turns else []
    remarks += ["transparency dropped"] if mode in ("LA", "RGBA", "PA") else []
    remarks += ["colours of 16 bits read with 8"] if bits == 16 else []
    remarks += [colours] if colours else []
    remarks += ["pixel spacing is not stated: no distance can be measured"]
    remarks += ["kind of image not stated: declare it in the manifest"] if modality == UNCLAIMED else []
    item = Item(
        id=item_id(sha256, ""),
        modality=modality,
        code=Code("media", media, "image"),
        source=Source(str(path), sha256),
        category="image",
        content=Content("image", partial(load_image, path), f"{height} × {width}, {'grey' if is_grey else 'colour'}"),
        remarks=tuple(remarks),
        normalised=(*turns, *(() if is_grey else colour(mode, has_profile=is_usable(mode, profile), bits=bits))),
    )
    return FileRead(found=(Found(None, (item,)),))


def _is_deep_png(path: Path) -> bool:
    """Return whether a PNG states 16 bits a sample (IHDR, PNG 3rd edition, 11.2.1)."""
    with path.open("rb") as stream:
        head = stream.read(25)
    return len(head) == 25 and head[24] == 16


def media_of(head: bytes) -> str:
    """Return the media type by the first bytes, empty when they are neither PNG nor JPEG.

    Example:
        >>> media_of(bytes.fromhex("ffd8ffe0")), media_of(b"GIF89a")
        ('image/jpeg', '')
    """
    return next((media for magic, media in MAGIC.items() if head.startswith(magic)), "")


def load_image(path: Path) -> Image:
    """Return the pixels, (H, W) grey in the file's own depth or (H, W, 3) from 0 to 255, upright.

    Raises:
        FormatError: the pixels cannot be decoded, or are more than is safe.
    """
    with _opened(path) as picture:
        try:
            upright = ImageOps.exif_transpose(picture)
            if upright.mode in ("1", "LA"):
                upright = upright.convert("L")
            elif upright.mode not in ("L", "I", "I;16", "I;16B", "F"):
                upright = in_srgb(upright, picture.info.get("icc_profile"))
            return Image(np.asarray(upright, dtype=np.float32), "1")
        except MemoryError as error:
            size = f"{picture.height} × {picture.width} pixels"
            raise FormatError(f"Cannot load the image '{path.name}': {size} are more than memory holds. Store a smaller one.") from error
        except PILLOW_ERRORS as error:
            raise FormatError(f"Cannot decode the image '{path.name}': it is truncated or damaged. Export it again.") from error


def _opened(path: Path) -> Pillow.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Pillow.DecompressionBombWarning)
            return Pillow.open(path, formats=("PNG", "JPEG"))
    except (Pillow.DecompressionBombError, Pillow.DecompressionBombWarning) as error:
        raise FormatError(
            f"Cannot read the image '{path.name}': more than {Pillow.MAX_IMAGE_PIXELS} pixels are not read. Store a smaller one."
        ) from error
    except PILLOW_ERRORS as error:
        raise FormatError(f"Cannot read the image '{path.name}': it is truncated or damaged. Export it again.") from error


def _refuse_without_end(path: Path, media: str) -> None:
    """Refuse a file without the marker that ends its format (PNG IEND, JPEG EOI), without decoding it."""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - 4096))
        tail = stream.read()
    if (b"IEND" if media == "image/png" else b"\xff\xd9") not in tail:
        raise FormatError(f"Cannot read the image '{path.name}': it is truncated or damaged. Export it again.")


READER = Reader(
    name="image",
    title="PNG or JPEG image",
    recognises=lambda _path, head: media_of(head) != "",
    read=read_image,
    priority=10,
)
