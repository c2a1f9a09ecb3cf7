"""De-identifies PNG, JPEG and TIFF pictures: everything but the pixels goes, written text is covered.

Takes a file and a `Work`; writes the same format. A JPEG without text keeps its compressed data bit for bit. Leaves out: a face that a
photograph shows (a notice says so).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps, ImageSequence, UnidentifiedImageError

from salus.errors import FormatError, MissingExtra
from salus.record.deidentify.pixels import MOST_LOOKS, merged, shown
from salus.record.deidentify.work import Box, Done, Work, in_words

ENDINGS = {"PNG": "png", "JPEG": "jpg", "TIFF": "tif"}
ORIENTATION = 0x0112
STRUCTURE_ONLY = frozenset(
    {
        "jfif",
        "jfif_version",
        "jfif_unit",
        "jfif_density",
        "adobe",
        "adobe_transform",
        "dpi",
        "compression",
        "gamma",
        "progressive",
        "progression",
        "transparency",
        "interlace",
        "aspect",
        "resolution",
    }
)
"""What Pillow says of a file that describes its form and nobody."""
JPEG_KEPT = frozenset({0xE0, 0xEE})
"""APP0 (JFIF) and APP14 (Adobe's colour transform); other application segments and comments may hold anything."""


def frames_of(path: Path) -> Iterator[Image.Image]:
    """Yield the pictures of a file as they look.

    Raises:
        FormatError: it cannot be decoded.
    """
    try:
        with Image.open(path) as opened:
            for frame in ImageSequence.Iterator(opened):
                frame.load()
                yield ImageOps.exif_transpose(frame)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError, KeyError, TypeError) as error:
        raise FormatError(f"Cannot de-identify '{path.name}': it cannot be decoded ({type(error).__name__}). Export it again.") from error


def _text_in(frame: Image.Image, work: Work) -> tuple[Box, ...]:
    if work.finder is None:
        raise MissingExtra("find burned-in text", "deidentify")
    grey = frame.mode.startswith(("I", "F"))
    return merged(work.finder().find(shown(np.asarray(frame if grey else frame.convert("RGB")))))


def deidentify_picture(path: Path, target: Path, work: Work) -> Done:
    """Write a picture without its metadata and with its text covered."""
    with path.open("rb") as stream:
        head = stream.read(4)
    kind = "PNG" if head[:4] == b"\x89PNG" else "JPEG" if head[:2] == b"\xff\xd8" else "TIFF"
    counts: Counter[tuple[str, str]] = Counter()
    bare, boxes = list(frames_of(path)), 0
    for _ in range(MOST_LOOKS):
        found = merged(box for frame in bare for box in _text_in(frame, work))
        if not found:
            break
        bare, boxes = [_bare(frame, found) for frame in bare], boxes + len(found)
    with Image.open(path) as opened:
        turned = opened.getexif().get(ORIENTATION, 1) != 1
        counts["metadata", "removed"] += len(set(opened.info) - STRUCTURE_ONLY) + len(opened.getexif())
    notices = ("a photograph may show a face, a tattoo or a scar; it is not changed beyond written text",)
    if boxes:
        counts["burned-in-text", "masked"] += boxes
    if kind == "JPEG" and not boxes and not turned:
        target.write_bytes(_without_segments(path))
        return Done((target,), counts, notices)
    bare = bare if boxes else [_bare(frame, ()) for frame in bare]
    options = (
        {"quality": 95, "subsampling": 0} if kind == "JPEG" else {"save_all": True, "append_images": bare[1:]} if kind == "TIFF" else {}
    )
    bare[0].save(target, format=kind, **options)
    return Done((target,), counts, notices)


def _bare(frame: Image.Image, boxes: tuple[Box, ...]) -> Image.Image:
    """Return the pixels alone, text covered."""
    if frame.mode == "P" or frame.mode == "PA":
        frame = frame.convert("RGBA" if "transparency" in frame.info else "RGB")
    new = Image.frombytes(frame.mode, frame.size, frame.tobytes())
    draw = ImageDraw.Draw(new)
    for top, left, bottom, right in boxes:
        draw.rectangle((left, top, right - 1, bottom - 1), fill=0 if len(new.getbands()) == 1 else (0, 0, 0, 255)[: len(new.getbands())])
    return new


def _without_segments(path: Path) -> bytes:
    """Return a JPEG without application segments and comments; the rest bit for bit (ITU-T T.81, annex B)."""
    data, position, kept = path.read_bytes(), 2, [b"\xff\xd8"]
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker, length = data[position + 1], int.from_bytes(data[position + 2 : position + 4], "big")
        if marker == 0xFF:
            position += 1
            continue
        if marker == 0xDA:
            end = data.rfind(b"\xff\xd9")
            if end < position:
                raise FormatError(f"Cannot de-identify '{path.name}': the JPEG has no end. Export it again.")
            return b"".join([*kept, data[position : end + 2]])
        is_application = 0xE0 <= marker <= 0xEF
        if not (marker == 0xFE or (is_application and marker not in JPEG_KEPT)) and not (
            marker == 0xE0 and data[position + 4 : position + 8] != b"JFIF"
        ):
            kept.append(data[position : position + 2 + length])
        position += 2 + length
    raise FormatError(f"Cannot de-identify '{path.name}': its segments do not fit together. Export it again.")


def check_picture(path: Path, target: Path, work: Work) -> tuple[str, ...]:
    """Return why a picture may not be delivered; empty when nothing was left."""
    left: Counter[str] = Counter()
    with Image.open(target) as opened:
        left["metadata"] += len(set(opened.info) - STRUCTURE_ONLY)
        if opened.format != "TIFF":
            left["metadata"] += len(opened.getexif())
        else:
            left["metadata"] += len({270, 271, 272, 305, 306, 315, 316, 33432, 34665, 34853, 700, 33723} & set(opened.tag_v2))  # type: ignore[attr-defined]
    for frame in frames_of(target):
        left["burned-in-text"] += len(_text_in(frame, work))
    return in_words(left)
