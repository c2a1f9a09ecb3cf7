"""Measures how fast files become arrays: `python scripts/bench_ingestion.py SALUS_DATA results/ingestion.json`.

Real files (MR slices, radiographs, heart sounds, ECG records, lung ultrasound videos) are replicated under a temporary folder, each copy
with bytes of its own, and read by Salus without and with its cache, by the loop that a user would write with pydicom, Pillow, soundfile,
wfdb and PyAV, and, where MONAI is installed and has a reader, at the smallest size by MONAI's caching data sets. All give the arrays that
the same encoder takes (MONAI: its own transforms of the same kind). Every measurement is a process of its own; the operating system's
cache is warm for all; they take turns, round after round.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import av
import numpy as np
import pydicom
import soundfile
import torch
import wfdb
from numpy.typing import NDArray
from PIL import Image as Pillow
from pydicom.pixels.processing import apply_modality_lut

from salus.encode.audio import SoundEncoder
from salus.encode.image import SIDE, ImageEncoder, prepare_image
from salus.encode.preparation import preparation_of
from salus.encode.signal import LEADS, SignalEncoder, aligned
from salus.encode.sound_summary import summarise_sound
from salus.encode.video import VideoEncoder, prepare_clip
from salus.evaluate.rows import commit, tree_hash
from salus.record.cache import ArrayCache
from salus.record.ingest import ingest
from salus.record.patient import Clip, Signal

SOURCES = {
    "dicom": ("dicom_t1_series", "*.dcm", 0.3),
    "image": ("cxr_covid_chestxray", "*.jpg", 0.3),
    "sound": ("heart_sounds_cinc2016", "*.wav", 0.3),
    "wfdb": ("ecg_wfdb_samples", "s0010_re.hea", 0.05),
    "video": ("lus_video_covid_blues", "*.mp4", 0.05),
}
"""Kind → folder of the real files, their pattern, share of the items."""
WAYS = ("plain", "salus_cold", "salus_warm", "monai", "monai_persistent_cold", "monai_persistent_warm", "monai_cache_warm")
MONAI_KINDS = ("dicom", "image")
BOOTSTRAP = 2000

Array = NDArray[Any]


def plain_dicom(path: Path) -> Array:
    """Return what the image encoder takes, read with pydicom."""
    dataset = pydicom.dcmread(path)
    return prepare_image(np.asarray(apply_modality_lut(dataset.pixel_array, dataset), np.float32))


def plain_image(path: Path) -> Array:
    """Return what the image encoder takes, read with Pillow."""
    pixels = np.asarray(Pillow.open(path), np.float32)
    return prepare_image(pixels if pixels.ndim == 2 else pixels[..., :3].mean(-1))


def plain_sound(path: Path) -> Array:
    """Return what the sound encoder takes, read with soundfile."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return summarise_sound(samples[:, 0], float(rate))[None]


def plain_wfdb(path: Path) -> Array:
    """Return what the ECG encoder takes, read with wfdb."""
    record = wfdb.rdrecord(str(path.with_suffix("")), return_res=32)
    samples = np.ascontiguousarray(np.asarray(record.p_signal, np.float32).T)
    signal = Signal(samples, tuple(record.sig_name), tuple(record.units), float(record.fs))
    return aligned(signal, leads=LEADS, rate_hz=100, seconds=10)


def plain_video(path: Path) -> Array:
    """Return what the video encoder takes, read with PyAV."""
    with av.open(str(path)) as container:
        read = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    time_s = np.array([at_s for at_s, _ in read])
    return prepare_clip(Clip(np.stack([pixels for _, pixels in read]), time_s, np.ones(len(read), dtype=np.bool_)))[0]


PLAIN: dict[str, Callable[[Path], Array]] = {
    "dicom": plain_dicom,
    "image": plain_image,
    "sound": plain_sound,
    "wfdb": plain_wfdb,
    "video": plain_video,
}
ENCODERS = {"dicom": ImageEncoder, "image": ImageEncoder, "sound": SoundEncoder, "wfdb": SignalEncoder, "video": VideoEncoder}
FIRST = {"video": "frames"}
"""The array that is compared, of kinds that have more than one."""


def by_plain_loop(kind: str, paths: list[Path], workers: int) -> Iterator[Array]:
    """Yield the arrays as a user's loop makes them; with more workers, in a pool of processes."""
    if workers == 1:
        yield from map(PLAIN[kind], paths)
        return
    with multiprocessing.get_context("fork").Pool(workers, torch.set_num_threads, (1,)) as pool:
        yield from pool.imap(PLAIN[kind], paths, chunksize=16)


def by_salus(kind: str, paths: list[Path], workers: int, cache: Path) -> Iterator[Array]:
    """Yield the arrays as Salus makes them, from its cache where it holds them."""
    encoder = ENCODERS[kind]().eval()
    store = ArrayCache(cache)
    for one in ingest(paths, preparation_of(kind, encoder, {}), cache=store, workers=workers):
        for arrays in one.arrays.values():
            yield arrays[FIRST[kind]] if kind in FIRST else next(iter(arrays.values()))


def by_monai(paths: list[Path], workers: int, cache: Path, way: str) -> tuple[float, Iterable[Array]]:
    """Return the seconds that filling its cache took, and the arrays as MONAI makes them."""
    from monai.data import CacheDataset, Dataset, PersistentDataset
    from monai.transforms import Compose, EnsureChannelFirst, LoadImage, Resize, ScaleIntensityRangePercentiles

    load = LoadImage(reader="PydicomReader" if paths[0].suffix == ".dcm" else "PILReader", image_only=True)
    scale = ScaleIntensityRangePercentiles(1, 99, -1, 1, clip=True)
    steps = Compose([load, EnsureChannelFirst(), scale, Resize((SIDE, SIDE), mode="bilinear", anti_aliasing=True)])
    files, started = [str(path) for path in paths], time.perf_counter()
    if way == "monai":
        dataset: Any = Dataset(files, steps)
    elif way == "monai_cache_warm":
        dataset = CacheDataset(files, steps, num_workers=workers, progress=False)
    else:
        dataset = PersistentDataset(files, steps, cache_dir=cache)
    seconds = time.perf_counter() - started
    return seconds, torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=0 if workers == 1 else workers)


def measure(way: str, kind: str, folder: Path, workers: int, count: int) -> dict[str, Any]:
    """Return seconds, peak memory above that of the started process, and a sum of all arrays, for one way in this process."""
    torch.set_num_threads(1)
    paths = sorted((folder / kind).glob("*.hea" if kind == "wfdb" else "*"))[:count]
    cache = folder / f"cache-{kind}-{way.removesuffix('_cold').removesuffix('_warm')}-{workers}"
    if way.endswith("_cold"):
        shutil.rmtree(cache, ignore_errors=True)
    cache.mkdir(exist_ok=True)
    list(by_plain_loop(kind, paths[:2], 1))  # libraries and plug-ins are imported
    list(ingest(paths[:2], preparation_of(kind, ENCODERS[kind]().eval(), {})))
    before, fill_s = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0.0
    started = time.perf_counter()
    if way == "plain":
        made: Iterable[Array] = by_plain_loop(kind, paths, workers)
    elif way.startswith("salus"):
        made = by_salus(kind, paths, workers, cache / "arrays.sqlite")
    else:
        fill_s, made = by_monai(paths, workers, cache, way)
    total, number = 0.0, 0
    for array in made:
        total, number = total + float(np.nansum(np.asarray(array))), number + 1
    seconds = time.perf_counter() - started - fill_s
    own, children = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    peak = own + (workers * children if workers > 1 else 0)
    return {"seconds": seconds, "items": number, "sum": total, "peak_mb": peak / 1024, "grown_mb": (own - before) / 1024, "fill_s": fill_s}


def replicate(data: Path, folder: Path, total: int) -> dict[str, int]:
    """Write copies of real files, each with bytes of its own, and return how many of each kind."""
    counts = {}
    for kind, (source, pattern, share) in SOURCES.items():
        originals = sorted((data / source).rglob(pattern))
        (folder / kind).mkdir(parents=True, exist_ok=True)
        counts[kind] = round(total * share)
        for number in range(counts[kind]):
            _copy(kind, originals[number % len(originals)], folder / kind, number)
    return counts


def _copy(kind: str, original: Path, folder: Path, number: int) -> None:
    body = original.read_bytes()
    name = f"{number:06}"
    if kind == "dicom":
        dataset = pydicom.dcmread(original)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.0.1.3680043.10.99.{number}"
        dataset.save_as(folder / f"{name}.dcm")
    elif kind == "image":  # a comment segment after the start of the image
        text = name.encode()
        (folder / f"{name}.jpg").write_bytes(body[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text + body[2:])
    elif kind == "video":  # an empty box of its own at the end
        text = name.encode()
        (folder / f"{name}.mp4").write_bytes(body + (8 + len(text)).to_bytes(4, "big") + b"free" + text)
    elif kind == "sound":  # the last four bytes are two samples
        (folder / f"{name}.wav").write_bytes(body[:-4] + number.to_bytes(4, "little"))
    else:
        (folder / f"{name}.hea").write_text(original.read_text().replace(original.stem, name) + f"# copy {name}\n")
        for signal in (original.with_suffix(suffix) for suffix in (".dat", ".xyz")):
            (folder / f"{name}{signal.suffix}").write_bytes(signal.read_bytes())


def interval(values: list[float]) -> list[float]:
    """Return the median and its 95 % bootstrap interval."""
    draws = np.random.default_rng(0).choice(values, (BOOTSTRAP, len(values)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    return [round(float(value), 3) for value in (statistics.median(values), low, high)]


def run(folder: Path, counts: dict[str, int], workers: int, *, repeats: int, has_monai: bool) -> dict[str, Any]:
    """Return for each kind and way the samples a second over all rounds, and the ratios to the plain loop of the same round."""
    rounds: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for number in range(repeats):
        for kind, count in counts.items():
            ways = [way for way in WAYS if not way.startswith("monai") or (has_monai and kind in MONAI_KINDS)]
            half = len(ways) // 2 if number % 2 else 0  # others come first every second time; a warm way stays behind its cold one
            for way in ways[half:] + ways[:half] if half and not ways[half].endswith("_warm") else ways:
                asked = ["--one", way, kind, str(folder), str(workers), str(count)]
                done = subprocess.run([sys.executable, __file__, *asked], capture_output=True, text=True, check=True)
                rounds.setdefault((kind, way), []).append(json.loads(done.stdout.splitlines()[-1]))
    return {kind: _summary(kind, rounds, count) for kind, count in counts.items()}


def _summary(kind: str, rounds: dict[tuple[str, str], list[dict[str, Any]]], count: int) -> dict[str, Any]:
    plain = rounds[kind, "plain"]
    ways = {}
    for (one, way), made in rounds.items():
        if one == kind:
            if {each["items"] for each in made} != {count}:
                raise SystemExit(f"{way} gave {made[0]['items']} of {count} items of {kind}")
            ways[way] = {
                "samples_per_s": interval([count / each["seconds"] for each in made]),
                "time_to_plain": interval([each["seconds"] / base["seconds"] for each, base in zip(made, plain, strict=True)]),
                "peak_mb": round(max(each["peak_mb"] for each in made)),
                "grown_mb": round(max(each["grown_mb"] for each in made), 1),
            }
            if way.startswith("monai_cache"):
                ways[way]["fill_s"] = interval([each["fill_s"] for each in made])
    same = abs(rounds[kind, "salus_warm"][0]["sum"] - plain[0]["sum"]) <= 1e-4 * abs(plain[0]["sum"])
    return {"items": count, "salus_gives_what_the_plain_loop_gives": same, "ways": ways}


def _overall(kinds: dict[str, Any]) -> dict[str, float]:
    """Return the time of the whole mixture beside that of the plain loop, from the medians."""
    def seconds(way: str) -> float:
        return sum(float(each["items"] / each["ways"][way]["samples_per_s"][0]) for each in kinds.values())

    return {f"{way}_time_to_plain": round(seconds(way) / seconds("plain"), 4) for way in ("salus_cold", "salus_warm")}


def main() -> int:
    """Measure, print and write."""
    if sys.argv[1:2] == ["--one"]:
        way, kind, folder, workers, count = sys.argv[2:]
        print(json.dumps(measure(way, kind, Path(folder), int(workers), int(count))))
        return 0
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sizes", default="1000,10000", help="items in all, comma between; memory is compared between them")
    parser.add_argument("--repeats", type=int, default=3, help="rounds at the smallest size; larger ones run once")
    parser.add_argument("--workers", default="1,2")
    given = parser.parse_args()
    sizes = [int(size) for size in given.sizes.split(",")]
    folder = Path(tempfile.mkdtemp(prefix="ingestion-"))
    result: dict[str, Any] = {"command": "python scripts/bench_ingestion.py SALUS_DATA results/ingestion.json", "deidentified": False}
    result |= {"commit": commit(), "date": datetime.now(UTC).isoformat(timespec="seconds")}
    result["data_hashes"] = {source: tree_hash(given.data / source) for source, _, _ in SOURCES.values()}
    result |= {"machine": f"{os.cpu_count()} x {platform.machine()}", "load_before": os.getloadavg(), "sizes": {}}
    try:
        for size in sizes:
            counts = replicate(given.data, folder, size)
            time.sleep(3)  # a file that is a second old is hashed each time
            for workers in map(int, given.workers.split(",")):
                kinds = run(
                    folder,
                    counts,
                    workers,
                    repeats=given.repeats if size == sizes[0] else 1,
                    has_monai=size == sizes[0] and find_spec("monai") is not None,
                )
                result["sizes"][f"{size} items, {workers} workers"] = {"mixture": _overall(kinds), "kinds": kinds}
                result["load_after"] = os.getloadavg()
                given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
                print(size, workers, json.dumps(_overall(kinds)), flush=True)
    finally:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
