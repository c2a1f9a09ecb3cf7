"""Colour of photographs: from a file's own ICC profile to sRGB.

Takes a Pillow picture and the bytes of its profile; gives the picture in sRGB. A profile that cannot be used leaves the colours as stored,
and `said_of` says so.
"""

from __future__ import annotations

import io

from PIL import Image as Pillow
from PIL import ImageCms

MOST_PROFILE_BYTES = 1 << 24
MODES = ("RGB", "CMYK")
"""Modes of colours that profiles are applied to; others are converted to RGB first."""


def in_srgb(picture: Pillow.Image, profile: bytes | None) -> Pillow.Image:
    """Return the picture as RGB in sRGB.

    Args:
        picture: any mode of colour.
        profile: ICC profile of its colours; None: they count as sRGB.

    Source: ICC.1:2022 (profiles), IEC 61966-2-1 (sRGB), through LittleCMS, relative colorimetric.

    Example:
        >>> in_srgb(Pillow.new("RGB", (1, 1), (10, 20, 30)), None).getpixel((0, 0))
        (10, 20, 30)
    """
    if picture.mode not in MODES:
        picture = picture.convert("RGB")
    transform = _transform(picture.mode, profile)
    changed = None if transform is None else ImageCms.applyTransform(picture, transform)
    return picture.convert("RGB") if changed is None else changed


def said_of(mode: str, profile: bytes | None) -> str | None:
    """Return the remark on a picture's colours; None when its file holds no profile.

    Example:
        >>> said_of("RGB", b"no profile")
        'its colour profile cannot be used: colours as stored'
        >>> said_of("RGB", None) is None
        True
    """
    if not profile:
        return None
    is_used = is_usable(mode, profile)
    return "colours converted from the file's own profile to sRGB" if is_used else "its colour profile cannot be used: colours as stored"


def is_usable(mode: str, profile: bytes | None) -> bool:
    """Return whether a picture's colours are converted by its file's own profile."""
    return _transform(mode if mode in MODES else "RGB", profile) is not None


def _transform(mode: str, profile: bytes | None) -> ImageCms.ImageCmsTransform | None:
    if not profile or len(profile) > MOST_PROFILE_BYTES:
        return None
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        srgb = ImageCms.createProfile("sRGB")
        return ImageCms.buildTransform(own, srgb, mode, "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
