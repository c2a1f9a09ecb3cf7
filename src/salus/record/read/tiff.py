"""TIFF: pages as images (8, 16 and 32 bits, palette, tiled, compressed), OME names and sizes, and pyramids as whole slides.

Takes a path; gives one item a page, or one for a whole slide. The format does not say what kind of image it is, so the modality comes
from the manifest. Leaves out all text but OME's channels and sizes, and page sequences beyond `MOST_PAGES`.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps

from salus.errors import FormatError, MissingExtra
from salus.record.claims import UNCLAIMED, modality_of
from salus.record.normalised import UPRIGHT, colour, turn
from salus.record.patient import Code, Content, Image, Item, Skipped, Source, item_id
from salus.record.read.colour import in_srgb, is_usable, said_of
from salus.record.read.reader import FileRead, Found, Reader, ReadOptions
from salus.record.read.source import file_sha256, refuse_empty
from salus.record.read.whole_slide import GENERIC, facts_of, load_slide, vendor_of

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
MEDIA = "image/tiff"
MOST_PAGES = 16
"""Pages of one file that become items; of more, the rest is reported."""
MOST_COUNTED = 10_000
"""Pages that are counted at all."""
PILLOW_ERRORS = (OSError, SyntaxError, ValueError, EOFError, TypeError, KeyError, IndexError, OverflowError, MemoryError, RuntimeError)
"""What Pillow raises on damaged TIFF files."""
OME_MM = {"m": 1e3, "cm": 10.0, "mm": 1.0, "µm": 1e-3, "μm": 1e-3, "um": 1e-3, "nm": 1e-6}
GREY = ("1", "L", "LA", "I", "I;16", "I;16B", "F")


@dataclass(frozen=True)
class _Ome:
    """What OME-XML says of the pages (https://docs.openmicroscopy.org/ome-model/)."""

    channels: tuple[str, ...] = ()
    order: str = ""
    """Such as `XYCZT`: the dimension named third changes first from page to page."""
    sizes: tuple[int, int, int] = (1, 1, 1)
    """C, Z, T."""
    spacing_mm: tuple[float, float] | None = None

    def words(self, page: int) -> str:
        """Return channel, depth and time of a page, counted from 1."""
        if not self.order:
            return ""
        at, rest = {}, page
        for letter in self.order[2:]:
            size = dict(zip("CZT", self.sizes, strict=True))[letter]
            at[letter], rest = rest % size, rest // size
        parts = [
            f"channel {at['C'] + 1}" + (f" ({self.channels[at['C']]})" if at["C"] < len(self.channels) and self.channels[at["C"]] else "")
        ]
        parts += [f"depth {at['Z'] + 1} of {self.sizes[1]}"] if self.sizes[1] > 1 else []
        parts += [f"time {at['T'] + 1} of {self.sizes[2]}"] if self.sizes[2] > 1 else []
        return ", ".join(parts)


def read_tiff(path: Path, options: ReadOptions) -> FileRead:
    """Return the pages of a TIFF as images, or a pyramid as one whole slide; pixels stay on disk.

    Raises:
        FormatError: the file is empty, damaged, truncated, or larger in pixels than is safe.
    """
    refuse_empty(path)
    try:
        if (slide := _slide(path, options)) is not None:
            return FileRead(found=(Found(None, (slide,)),))
    except MissingExtra as error:
        if _is_pyramid(path):
            return FileRead(skipped=(Skipped(str(path), str(error)),))
    with _opened(path) as picture:
        count = _pages(path, picture)
        ome = _ome_of(picture)
        sha256 = file_sha256(path)
        items = []
        for page in range(min(count, MOST_PAGES)):
            picture.seek(page)
            items.append(_page_item(path, sha256, picture, (page, count), ome, options))
    skipped: tuple[Skipped, ...] = ()
    if count > MOST_PAGES:
        skipped = (Skipped(str(path), f"{count - MOST_PAGES} of its {count} pages: only the first {MOST_PAGES} are read"),)
    return FileRead(found=(Found(None, tuple(items)),), skipped=skipped)


def _slide(path: Path, options: ReadOptions) -> Item | None:
    """Return the item of a whole slide; None for a plain TIFF."""
    vendor = vendor_of(path)
    if not vendor:
        return None
    facts = facts_of(path)
    if vendor == GENERIC and len(facts.levels) == 1 and facts.levels[0][0] * facts.levels[0][1] <= (Pillow.MAX_IMAGE_PIXELS or 0):
        return None  # a tiled picture of ordinary size
    sha256 = file_sha256(path)
    remarks = ["labels beside the slide are not read"] + (
        ["scale is not stated: no distance can be measured"] if facts.spacing_mm is None else []
    )
    return Item(
        id=item_id(sha256, ""),
        modality=options.modality or modality_of("media:image/whole-slide"),
        code=Code("media", "image/whole-slide", "whole slide"),
        source=Source(str(path), sha256),
        category="image",
        content=Content("slide", partial(load_slide, path), facts.summary),
        remarks=tuple(remarks),
    )


def _is_pyramid(path: Path) -> bool:
    """Return whether a TIFF is tiled and holds smaller copies of its picture, so that OpenSlide is needed."""
    try:
        with _opened(path) as picture:
            is_tiled = 322 in picture.tag_v2  # type: ignore[attr-defined]
            if not is_tiled or getattr(picture, "n_frames", 1) < 2:
                return False
            picture.seek(1)
            return bool(picture.tag_v2.get(254, 0) & 1)  # type: ignore[attr-defined]
    except FormatError:
        return True  # too large for a single picture


def _page_item(path: Path, sha256: str, picture: Pillow.Image, at: tuple[int, int], ome: _Ome, options: ReadOptions) -> Item:
    page, count = at
    modality = options.modality or modality_of(f"media:{MEDIA}")
    turns = turn(picture.getexif().get(0x0112, UPRIGHT))
    width, height = picture.size
    if picture.getexif().get(0x0112, 1) in (5, 6, 7, 8):
        width, height = height, width
    spacing = ome.spacing_mm
    colours = "grey" if picture.mode in GREY else "colour"
    parts = [
        f"{height} × {width}, {colours}",
        ome.words(page) if count > 1 or ome.channels else "",
        f"page {page + 1} of {count}" if count > 1 else "",
    ]
    remarks = ["turned upright as its orientation states"] if turns else []
    bits, profile = _colour_bits(picture), picture.info.get("icc_profile")
    remarks += [f"colours of {bits} bits read with 8"] if bits > 8 else []
    remarks += [remark] if colours == "colour" and (remark := said_of(picture.mode, profile)) else []
    remarks += (
        ["pixel spacing is not stated (a resolution tag is of paper or screen): no distance can be measured"] if spacing is None else []
    )
    remarks += ["kind of image not stated: declare it in the manifest"] if modality == UNCLAIMED else []
    locator = f"page {page + 1}" if count > 1 else ""
    own = colour(picture.mode, has_profile=is_usable(picture.mode, profile), bits=bits) if colours == "colour" else ()
    return Item(
        id=item_id(sha256, locator),
        modality=modality,
        code=Code("media", MEDIA, "image"),
        source=Source(str(path), sha256, locator),
        category="image",
        content=Content("image", partial(load_page, path, page), ", ".join(part for part in parts if part)),
        remarks=tuple(remarks),
        normalised=(*turns, *own),
    )


def load_page(path: Path, page: int) -> Image:
    """Return the pixels of one page, (H, W) grey in the file's own depth or (H, W, 3) from 0 to 255, upright, in sRGB.

    Raises:
        FormatError: the pixels cannot be decoded, or are more than is safe.
    """
    with _opened(path) as picture:
        spacing = _ome_of(picture).spacing_mm
        picture.seek(page)
        profile = picture.info.get("icc_profile")
        upright = ImageOps.exif_transpose(picture)
        if upright.mode in ("1", "LA"):
            upright = upright.convert("L")
        elif upright.mode not in ("L", "I", "I;16", "I;16B", "F"):
            upright = in_srgb(upright.convert("RGB") if upright.mode != "CMYK" else upright, profile)
        return Image(np.asarray(upright, dtype=np.float32), "1", spacing)


@contextmanager
def _opened(path: Path) -> Iterator[Pillow.Image]:
    """Open a TIFF; whatever Pillow raises inside becomes a `FormatError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Pillow.DecompressionBombWarning)
            with Pillow.open(path, formats=("TIFF",)) as picture:
                yield picture
    except FormatError:
        raise
    except (Pillow.DecompressionBombError, Pillow.DecompressionBombWarning) as error:
        raise FormatError(
            f"Cannot read the image '{path.name}': more than {Pillow.MAX_IMAGE_PIXELS} pixels are not read. "
            "Store a smaller one, or a pyramid."
        ) from error
    except PILLOW_ERRORS as error:
        raise FormatError(
            f"Cannot read the image '{path.name}': it is truncated, damaged, or TIFF of a kind that is not read. Export it again."
        ) from error


def _pages(path: Path, picture: Pillow.Image) -> int:
    count = 1
    while count < MOST_COUNTED:
        try:
            picture.seek(count)
        except EOFError:
            break
        count += 1
    picture.seek(0)
    _refuse_truncated(path, picture)
    tags = picture.tag_v2  # type: ignore[attr-defined]
    if tags.prefix == b"MM" and tags.get(259, 1) != 1 and 32 in tags.get(258, ()):
        # CAUTION: Pillow swaps the bytes of such values twice and gives wrong numbers without an error (seen in 13.0)
        raise FormatError(f"Cannot read the image '{path.name}': compressed 32-bit values in big-endian order. Store it little-endian.")
    return count


def _refuse_truncated(path: Path, picture: Pillow.Image) -> None:
    """Refuse a file whose pixels are said to lie beyond its end."""
    size = path.stat().st_size
    tags = picture.tag_v2  # type: ignore[attr-defined]
    for starts, lengths in ((273, 279), (324, 325)):
        ends = [start + length for start, length in zip(tags.get(starts, ()), tags.get(lengths, ()), strict=False)]
        if ends and max(ends) > size:
            raise FormatError(f"Cannot read the image '{path.name}': it is truncated. Export or copy it again.")


def _colour_bits(picture: Pillow.Image) -> int:
    """Return the bits of one colour, as stored; 8 for what is stored in fewer."""
    bits = picture.tag_v2.get(258, ())  # type: ignore[attr-defined]
    return max(8, *map(int, bits)) if isinstance(bits, tuple) and len(bits) >= 3 else 8


def _ome_of(picture: Pillow.Image) -> _Ome:
    """Return what the OME-XML in the first page's description says; nothing else of it is read."""
    latin = str(picture.tag_v2.get(270, ""))  # type: ignore[attr-defined]
    text = latin.encode("latin-1", errors="replace").decode("utf-8", errors="replace")  # Pillow takes the tag for Latin-1, OME writes UTF-8
    if "<OME" not in text or "<!DOCTYPE" in text or "<!ENTITY" in text:
        return _Ome()
    try:
        root = ElementTree.fromstring(re.sub(r"^<\?xml[^>]*\?>", "", text.strip()))
    except ElementTree.ParseError:
        return _Ome()
    pixels = root.find(".//{*}Pixels")
    if pixels is None:
        return _Ome()
    try:
        sizes = tuple(max(1, int(pixels.get(f"Size{letter}", "1"))) for letter in "CZT")
        lengths = [
            float(pixels.get(f"PhysicalSize{axis}", "nan")) * OME_MM.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"), np.nan)
            for axis in "YX"
        ]
    except ValueError:
        return _Ome()
    order = pixels.get("DimensionOrder", "")
    channels = tuple(channel.get("Name", "") for channel in pixels.findall("{*}Channel"))
    spacing = (lengths[0], lengths[1]) if np.isfinite(lengths).all() and min(lengths) > 0 else None
    is_known = len(order) == 5 and set(order[2:]) == set("CZT")
    return _Ome(channels, order if is_known else "", (sizes[0], sizes[1], sizes[2]), spacing)


READER = Reader(
    name="tiff",
    title="TIFF image or whole slide",
    recognises=lambda _path, head: head[:4] in MAGIC,
    read=read_tiff,
    priority=10,
)
