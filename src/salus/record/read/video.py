"""Moving pictures: MP4, MOV, MKV, WebM and AVI, through PyAV.

Takes a path; gives one item whose frames load lazily, on an even grid of times and at most 512 pixels along the longer side. Packets are
counted when the file is read, frames are decoded only when they are asked for. Leaves out the sound track and everything that the
container says about title, place or author.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salus.errors import FormatError
from salus.record.claims import UNCLAIMED, modality_of
from salus.record.normalised import resample
from salus.record.patient import Clip, Code, Content, Item, Normalisation, Skipped, Source, item_id
from salus.record.read.av_container import MOST_PIXELS, codec_of, damaged, failures, media_of, opened, packets_of
from salus.record.read.reader import FileRead, Found, Reader, ReadOptions
from salus.record.read.sound_av import read_av_sound
from salus.record.read.source import Stamp, file_sha256, refuse_empty, stamp_of

MOST_SIDE = 512
"""Longer side of a loaded frame, pixels; larger ones are scaled down."""
MOST_RATE_HZ = 60.0
"""Frames a second that are kept; of faster clips every second, third, … is."""
MOST_BYTES = 256 << 20
"""Frames of one loaded clip; of longer clips every second, third, … is kept."""
MOST_FRAMES = 20_000
"""Frames of one loaded clip, however small."""
MOST_PACKETS = 500_000
"""Frames of a file: more than five hours at 25 a second."""
JITTER = 0.2
"""Steps between frames that differ by more than this share of the usual one are called variable."""


@dataclass(frozen=True)
class Extent:
    """What a container holds, known without decoding more than its first frame."""

    time_s: NDArray[np.float64]
    """(F,) times of the frames in the file, rising, from 0."""
    start_s: float
    """Time of the first frame on the container's own clock."""
    step_s: float
    """Usual time from frame to frame."""
    size: tuple[int, int]
    """Rows, columns, upright."""
    turned_deg: int
    """Anticlockwise turn that the file asks for, a multiple of 90."""
    is_grey: bool
    codec: str

    @property
    def slots(self) -> int:
        """Frames of an even grid from the first time to the last."""
        return round(float(self.time_s[-1]) / self.step_s) + 1

    @property
    def loaded_size(self) -> tuple[int, int]:
        """Rows, columns of a loaded frame: scaled down where longer than `MOST_SIDE`."""
        scale = min(1.0, MOST_SIDE / max(self.size))
        return max(1, round(self.size[0] * scale)), max(1, round(self.size[1] * scale))

    @property
    def stride(self) -> int:
        """One in so many slots is kept, so that rate and memory stay bounded."""
        frame_bytes = math.prod(self.loaded_size) * (1 if self.is_grey else 3)
        most = max(1, min(MOST_FRAMES, MOST_BYTES // frame_bytes))
        return max(math.ceil(1 / (self.step_s * MOST_RATE_HZ) - 1e-6), math.ceil(self.slots / most), 1)


def read_video(path: Path, options: ReadOptions) -> FileRead:
    """Return a moving picture as one item, or the sound of a container that holds only sound.

    Raises:
        FormatError: the file is empty, truncated, damaged, or too large.
        MissingExtra: PyAV is not installed.
    """
    refuse_empty(path)
    with path.open("rb") as stream:
        head = stream.read(64)
    media = media_of(head)
    if media == "video/x-msvideo" and int.from_bytes(head[4:8], "little") + 8 > path.stat().st_size + 1:
        raise FormatError(f"Cannot read the video '{path.name}': it is truncated (its RIFF header promises more bytes). Copy it again.")
    with opened(path) as container:
        has_picture = _picture_stream(container) is not None
        has_sound = len(container.streams.audio) > 0
    if not has_picture:
        return read_av_sound(path, media.replace("video", "audio"), options)
    extent = extent_of(path)
    sha256 = file_sha256(path)
    modality = options.modality or modality_of(f"media:{media}")
    rows, columns = extent.size
    kind = "grey" if extent.is_grey else "colour"
    item = Item(
        id=item_id(sha256, ""),
        modality=modality,
        code=Code("media", media, "video"),
        source=Source(str(path), sha256),
        category="video",
        content=Content(
            "clip",
            partial(load_video, path),
            f"{len(extent.time_s)} frames, {rows} × {columns}, {kind}, {1 / extent.step_s:.4g} Hz, {extent.slots * extent.step_s:.1f} s",
        ),
        remarks=(*_remarks(extent), *(("kind of video not stated: declare it in the manifest",) if modality == UNCLAIMED else ())),
        normalised=_steps(extent),
    )
    skipped = (Skipped(str(path), "the sound track of a video is not read"),) if has_sound else ()
    return FileRead(found=(Found(None, (item,)),), skipped=skipped)


def load_video(path: Path) -> Clip:
    """Return the frames on an even grid, (T, H, W) or (T, H, W, 3), 0 to 255; a slot without a frame is missing.

    Raises:
        FormatError: nothing can be decoded.
    """
    extent = extent_of(path)
    stride, slots = extent.stride, extent.slots
    rows, columns = extent.loaded_size
    kept = math.ceil(slots / stride)
    frames = np.zeros((kept, rows, columns) if extent.is_grey else (kept, rows, columns, 3), dtype=np.uint8)
    time_s = np.arange(kept) * stride * extent.step_s
    is_present = np.zeros(kept, dtype=np.bool_)
    for at_s, picture in _decoded(path, extent):
        slot = round(at_s / extent.step_s)
        if slot % stride or not 0 <= slot // stride < kept or is_present[slot // stride]:
            continue
        frames[slot // stride] = picture()
        time_s[slot // stride] = at_s
        is_present[slot // stride] = True
    if not is_present.any():
        raise FormatError(f"Cannot read the video '{path.name}': no frame of it can be decoded. Copy or export it again.")
    return Clip(frames, np.maximum.accumulate(time_s), is_present)


def extent_of(path: Path) -> Extent:
    """Return what a container holds: all packets are counted, one frame is decoded; that of the last file is kept, its frames come next.

    Raises:
        FormatError: no frame, no times, too many frames or pixels, or fewer frames than the file promises.
    """
    stamp = stamp_of(path)
    return _extent(path) if stamp is None else _kept_extent(path, stamp)


@lru_cache(maxsize=1)
def _kept_extent(path: Path, _stamp: Stamp) -> Extent:
    return _extent(path)


def _extent(path: Path) -> Extent:
    with opened(path) as container:
        stream = _picture_stream(container)
        if stream is None:
            raise FormatError(f"Cannot read the video '{path.name}': it holds no moving picture. Export it again.")
        first = next(_frames(container, stream), None)
        if first is None:
            raise FormatError(f"Cannot read the video '{path.name}': no frame of it can be decoded. Copy or export it again.")
        turned = int(first.rotation) % 360
        size = (int(first.width), int(first.height)) if turned in (90, 270) else (int(first.height), int(first.width))
        if math.prod(size) > MOST_PIXELS:
            raise FormatError(f"Cannot read the video '{path.name}': more than {MOST_PIXELS} pixels a frame. Store a smaller one.")
        is_grey = str(first.format.name).startswith("gray")
        codec = codec_of(stream)
    with opened(path) as container:
        stream = _picture_stream(container)
        times = _packet_times(path, container, stream)
        promised_s = float((stream.duration or 0) * stream.time_base) or float(container.duration or 0) / 1e6
        usual = float(1 / stream.average_rate) if stream.average_rate else 0.04
        promised_frames = int(stream.frames) if "mov" in container.format.name else 0  # other formats count something else
        _refuse_short(path, promised_frames, times, promised_s=promised_s)
    start_s, times = float(times[0]), times - times[0]
    steps = np.diff(times)
    steps = steps[steps > 1e-6]
    return Extent(times, start_s, float(np.median(steps)) if len(steps) else usual, size, turned, is_grey, codec)


def _refuse_short(path: Path, promised_frames: int, times: NDArray[np.float64], *, promised_s: float) -> None:
    """Raise when the file holds a tenth fewer frames, or ends a tenth and a second earlier, than its header promises."""
    held_s = float(times[-1] - times[0])
    if times.size < 0.9 * promised_frames or held_s < 0.9 * promised_s - 1.0:
        found = f"{promised_s:.1f} s are promised, {held_s:.1f} s are there"
        raise FormatError(f"Cannot read the video '{path.name}': it is truncated ({found}). Copy it again.")


def _picture_stream(container: Any) -> Any:
    """Return the first moving picture of a known codec, not the cover of a recording, or None."""
    import av

    cover = av.stream.Disposition.attached_pic
    return next((each for each in container.streams.video if each.codec_context is not None and not each.disposition & cover), None)


def _packet_times(path: Path, container: Any, stream: Any) -> NDArray[np.float64]:
    """Return when each frame is to be shown, rising, seconds; damaged packets are left out."""
    ticks: list[int] = []
    for packet in packets_of(container, stream):
        if packet.size and packet.pts is not None and not packet.is_corrupt and not packet.is_discard:
            ticks.append(int(packet.pts))
        if len(ticks) > MOST_PACKETS:
            raise FormatError(f"Cannot read the video '{path.name}': more than {MOST_PACKETS:,} frames. Cut it into parts.")
    if not ticks:
        raise FormatError(f"Cannot read the video '{path.name}': none of its frames states a time. Export it again.")
    return np.sort(np.array(ticks, dtype=np.float64)) * float(stream.time_base)


def _frames(container: Any, stream: Any) -> Iterator[Any]:
    """Yield the frames that decode; packets that do not are passed over, and a damaged end ends it."""
    stream.codec_context.thread_count = 1  # errors belong to the packet at hand, and memory stays small
    for packet in packets_of(container, stream):
        try:
            yield from (frame for frame in packet.decode() if not frame.is_corrupt)
        except failures():
            continue


def _decoded(path: Path, extent: Extent) -> Iterator[tuple[float, Any]]:
    """Yield seconds from the first frame, and what makes the frame upright and of its loaded size, for frames that state a time."""
    rows, columns = extent.loaded_size
    is_turned = extent.turned_deg in (90, 270)
    size = {"width": rows, "height": columns} if is_turned else {"width": columns, "height": rows}
    pixel_format = "gray" if extent.is_grey else "rgb24"
    with opened(path) as container:
        for frame in _frames(container, _picture_stream(container)):
            if frame.time is not None:
                yield float(frame.time) - extent.start_s, partial(_upright, frame, size, pixel_format, extent.turned_deg, path)


def _upright(frame: Any, size: dict[str, int], pixel_format: str, turned_deg: int, path: Path) -> NDArray[np.uint8]:
    try:
        pixels = frame.reformat(**size, format=pixel_format).to_ndarray()
    except failures() as error:
        raise damaged(path, error) from error
    return np.asarray(np.rot90(pixels, turned_deg // 90), dtype=np.uint8)


def _steps(extent: Extent) -> tuple[Normalisation, ...]:
    """Return what is done to the frames when the clip is loaded."""
    steps = [Normalisation("turn", (("degrees", float(extent.turned_deg)),))] if extent.turned_deg % 360 else []
    if extent.loaded_size != extent.size:
        sizes = dict(zip(("from_rows", "from_columns", "rows", "columns"), (*extent.size, *extent.loaded_size), strict=True))
        steps.append(Normalisation("resize", tuple((name, float(value)) for name, value in sizes.items())))
    return (*steps, *resample(1 / extent.step_s, 1 / (extent.stride * extent.step_s)))


def _remarks(extent: Extent) -> tuple[str, ...]:
    """Return what is normalised when the clip is loaded, and what is missing."""
    steps = np.diff(extent.time_s)
    missing = extent.slots - len(np.unique(np.round(extent.time_s / extent.step_s)))
    remarks = ["pixel spacing is not stated: no distance can be measured"]
    if len(steps) and np.abs(steps - extent.step_s).max() > JITTER * extent.step_s:
        remarks.append(f"variable frame rate: steps of {1000 * steps.min():.0f} to {1000 * steps.max():.0f} ms, placed on an even grid")
    if missing:
        remarks.append(f"{missing} of {extent.slots} frames of the grid are missing")
    if extent.turned_deg % 90 == 0 and extent.turned_deg:
        remarks.append(f"turned upright by {extent.turned_deg}° as the file states")
    if extent.loaded_size != extent.size:
        remarks.append(f"scaled down to {extent.loaded_size[0]} × {extent.loaded_size[1]}")
    if extent.stride > 1:
        remarks.append(f"one in {extent.stride} frames is loaded: {1 / (extent.stride * extent.step_s):.3g} Hz")
    if extent.codec not in ("ffv1", "rawvideo", "huffyuv", "png"):
        remarks.append("lossy compression")
    return tuple(remarks)


READER = Reader(
    name="video",
    title="MP4, MOV, MKV, WebM or AVI video",
    recognises=lambda _path, head: media_of(head).startswith("video/"),
    read=read_video,
    priority=10,
)
