"""Small videos and M4A sounds that tests write with PyAV."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

TITLE = "Doe, Jane 1950-01-02"
"""What the container says, and what may be shown nowhere."""


def picture(index: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """Return frame `index`: a bright corner at the top left, and grey that rises with the index, mod 20."""
    pixels = np.full((*size, 3), 40 + 5 * (index % 20), np.uint8)
    pixels[: size[0] // 3, : size[1] // 3] = 255
    return pixels


def write_video(
    path: Path, codec: str, *, times_s: Sequence[float], size: tuple[int, int] = (48, 64), pixel_format: str = "yuv420p"
) -> Path:
    """Write one frame at each time; lossless or nearly so."""
    with av.open(str(path), "w") as container:
        container.metadata["title"] = TITLE
        options = {"libx264": {"crf": "1", "g": "10"}, "mpeg4": {"qscale": "1"}}.get(codec, {})
        stream = container.add_stream(codec, rate=10, options=options)
        stream.height, stream.width, stream.pix_fmt = *size, pixel_format
        if codec == "mpeg4":
            stream.bit_rate = 4_000_000
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for index, at_s in enumerate(times_s):
            frame = av.VideoFrame.from_ndarray(picture(index, size), format="rgb24")
            frame.pts, frame.time_base = round(at_s * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_sound(path: Path, samples: np.ndarray, rate: int, codec: str = "aac") -> Path:
    """Write (C, S) samples from -1 to 1 with PyAV."""
    with av.open(str(path), "w") as container:
        container.metadata["title"] = TITLE
        stream = container.add_stream(codec, rate=rate, layout="mono" if len(samples) == 1 else "stereo")
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples, np.float32), format="fltp", layout=stream.layout.name)
        frame.sample_rate, frame.pts = rate, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
