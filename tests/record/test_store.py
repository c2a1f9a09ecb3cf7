"""The store in a folder: what is acknowledged is there, what is damaged is named, what is erased is gone; also with others at work."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from salus.errors import ConfigError, DamagedError, MissingExtra, StoreError, WrongKeyError
from salus.record import durable
from salus.record.keys import KeyRing
from salus.record.sealed import CHUNK_BYTES, HEADER_BYTES, TAG_BYTES
from salus.record.store import Problem, Store

CONTENT = bytes(range(256)) * 5000
"""Two chunks."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"), KeyRing(tmp_path / "ring", may_make=True))


def put(store: Store, content: bytes = CONTENT, subject_id: str = "p1") -> str:
    return store.put(subject_id, io.BytesIO(content))


def objects(store: Store) -> list[Path]:
    return sorted(path for path in Path(store.root, "objects").rglob("*") if path.is_file())


def test_what_is_put_comes_back_by_any_reading(store: Store) -> None:
    address = put(store)
    again = Store(store.root, KeyRing(store.keys.path))
    with again.open("p1", address) as stream:
        assert stream.read(10) == CONTENT[:10] and stream.read(0) == b"" and stream.read() == CONTENT[10:]
        assert stream.read(5) == b"" == stream.read()
    with again.open("p1", address) as stream:
        assert b"".join(iter(lambda: stream.read(100_003), b"")) == CONTENT
    assert again.has("p1", address) and again.addresses("p1") == (address,)


def test_the_same_content_is_one_object_of_a_patient_and_another_of_the_next(store: Store) -> None:
    address = put(store)
    before = objects(store)[0].stat()
    assert put(store) == address
    after = objects(store)
    assert len(after) == 1 and (after[0].stat().st_ino, after[0].stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert put(store, subject_id="p2") != address and len(objects(store)) == 2
    assert not store.has("p2", address)


def test_nothing_readable_lies_in_the_store(store: Store) -> None:
    put(store, b"Diagnosis: asthma. " * 1000, "patient-with-a-name")
    everything = b"".join(path.read_bytes() for path in Path(store.root).rglob("*") if path.is_file())
    names = " ".join(str(path.relative_to(store.root)) for path in Path(store.root).rglob("*"))
    assert b"asthma" not in everything and b"patient-with-a-name" not in everything and "patient-with" not in names
    assert all(path.stat().st_mode & 0o077 == 0 for path in Path(store.root).rglob("*"))


def change(path: Path, how: str) -> None:
    raw = bytearray(path.read_bytes())
    step = CHUNK_BYTES + TAG_BYTES
    if how == "flipped byte":
        raw[len(raw) // 2] ^= 4
    elif how == "missing tail":
        raw = raw[: HEADER_BYTES + step]
    elif how == "swapped chunks":
        raw = raw[:HEADER_BYTES] + raw[HEADER_BYTES + step :] + raw[HEADER_BYTES:][:step]
    path.write_bytes(raw)


@pytest.mark.parametrize("how", ["flipped byte", "missing tail", "swapped chunks"])
def test_damage_is_named_and_mended_by_storing_again(store: Store, how: str) -> None:
    address, other = put(store), put(store, b"other")
    path = next(each for each in objects(store) if each.name == address)
    change(path, how)
    with pytest.raises(DamagedError, match=f"^Cannot read object {address[:12]}: chunk [01] is"), store.open("p1", address) as stream:
        stream.read()
    found = store.verify()
    assert [(one.kind, one.place) for one in found.problems] == [("damaged", f"objects/{path.parent.name}/{address}")]
    assert found.objects == 2 and store.open("p1", other).read() == b"other"
    assert put(store) == address and store.verify().problems == () and store.open("p1", address).read() == CONTENT


def test_one_patients_object_under_another_name_is_found(store: Store) -> None:
    address, other = put(store), put(store, b"other")
    one, two = (next(each for each in objects(store) if each.name == name) for name in (address, other))
    one.replace(two)
    with pytest.raises(DamagedError, match=r"it holds another object's content"):
        store.open("p1", other).read()
    with pytest.raises(StoreError, match=rf"^Cannot open object {address[:12]}: patient \w{{12}} has none of that address here\."):
        store.open("p1", address)


def test_an_object_moved_to_another_patient_has_the_wrong_key(store: Store) -> None:
    put(store)
    put(store, b"other", "p2")
    moved = Path(store.root, "objects", store.keys.tag_of("p2"), store.addresses("p1")[0])
    Path(store.root, "objects", store.keys.tag_of("p1"), moved.name).replace(moved)
    assert [one.kind for one in store.verify().problems] == ["wrong key"]
    with pytest.raises(WrongKeyError, match=f"^Cannot open object {moved.name[:12]}: another key sealed it"):
        store.open("p2", moved.name).read()


def test_another_key_ring_is_refused(store: Store, tmp_path: Path) -> None:
    put(store)
    with pytest.raises(WrongKeyError, match=r"^Cannot open the store: it belongs to another key ring. Name the key ring"):
        Store(store.root, KeyRing(tmp_path / "other", may_make=True))


def test_a_ring_that_lost_its_keys_does_not_write_new_ones_over_them(store: Store, tmp_path: Path) -> None:
    put(store)
    store.keys.path.write_bytes(b"")
    fresh = Store(store.root, KeyRing(store.keys.path, may_make=True))
    with pytest.raises(WrongKeyError, match=r"objects of theirs are here, the key ring lost the key\. Restore it\.$"):
        put(fresh)
    assert [one.kind for one in fresh.verify().problems] == ["no key"]


@pytest.mark.parametrize("place", ["store/ring", "store/deep/ring"])
def test_keys_inside_the_store_are_refused(tmp_path: Path, place: str) -> None:
    ring = KeyRing(tmp_path / place, may_make=True)
    with pytest.raises(ConfigError, match=r"^Cannot use key file 'ring': it lies inside the store. Keep keys apart"):
        Store(str(tmp_path / "store"), ring)
    apart = KeyRing(tmp_path / "apart", tmp_path / "store" / "master", may_make=True)
    with pytest.raises(ConfigError, match=r"^Cannot use key file 'master'"):
        Store(f"file://{tmp_path}/store", apart)


def test_a_folder_of_other_files_is_no_store(store: Store, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("x")
    with pytest.raises(StoreError, match=r"^Cannot open the store: that place holds files and no salus-store.json. Name an empty folder"):
        Store(str(tmp_path / "thesis"), store.keys)
    Path(store.root, "salus-store.json").write_text('{"format": 7}')
    with pytest.raises(StoreError, match=r"^Cannot open the store: format 7, this program reads 1"):
        Store(store.root, store.keys)


@pytest.mark.parametrize("address", ["", "../../ring", "A" * 64, "a" * 63])
def test_what_is_no_address_is_refused(store: Store, address: str) -> None:
    put(store)
    with pytest.raises(StoreError, match=r"^Cannot use the address: it is not 64 hex digits as `put` gives. Copy it whole.$"):
        store.open("p1", address)


def test_erasing_a_patient(store: Store) -> None:
    address, kept = put(store), put(store, subject_id="p2")
    copies = {path: path.read_bytes() for path in objects(store)}
    assert store.forget("p1") == 1 and store.verify().problems == () and store.open("p2", kept).read() == CONTENT
    assert objects(store) == [path for path in copies if path.name == kept]
    for path, raw in copies.items():  # a copy of the store is restored: what was erased stays closed
        durable.make_folders(path.parent)
        path.write_bytes(raw)
    assert [(one.kind, one.place[-64:]) for one in store.verify().problems] == [("erased", address)]
    for use in (lambda: store.open("p1", address), lambda: put(store)):
        with pytest.raises(StoreError, match=r"it was erased"):
            use()
    assert store.forget("p1") == 1 and store.verify().problems == ()


def test_a_patient_erased_while_a_write_runs_leaves_nothing(store: Store) -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            store.forget("p1")
            return super().read(size)

    put(store)
    with pytest.raises(StoreError, match=r"was erased meanwhile\. Nothing was kept\.$"):
        store.put("p1", Slow(b"late"))
    assert objects(store) == []


def test_a_source_that_fails_leaves_nothing(store: Store) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(StoreError, match=r"^Cannot store the object: Input/output error. Check space, permission"):
        store.put("p1", Broken())
    assert objects(store) == [] == list(Path(store.root, "incoming").iterdir())


def test_bytes_reach_the_disk_before_the_name_and_the_name_before_the_acknowledgement(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut cannot be made here; the order of system calls that survives one can be seen."""
    calls: list[str] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda number: (calls.append(str(Path(f"/proc/self/fd/{number}").readlink())), fsync(number))[1])
    monkeypatch.setattr(Path, "replace", lambda self, final: (calls.append("rename"), replace(self, final))[1])
    put(store)
    renamed = calls.index("rename")
    tag = str(objects(store)[0].parent)
    assert any("/incoming/salus-" in call for call in calls[:renamed]) and tag in calls[renamed:] and str(Path(tag).parent) in calls


def test_leftovers_of_a_crash_are_cleared_when_old(store: Store) -> None:
    put(store)
    old, new = Path(store.root, "incoming", "salus-old"), Path(store.root, "incoming", "salus-new")
    old.write_bytes(b"x")
    new.write_bytes(b"x")
    os.utime(old, (time.time() - 2 * 86_400,) * 2)
    assert store.verify().cleared == 1 and new.exists() and not old.exists()


WRITER = """
import io, sys, random
from pathlib import Path
from salus.record.keys import KeyRing
from salus.record.store import Store
place, seed = Path(sys.argv[1]), int(sys.argv[2])
store = Store(str(place / "store"), KeyRing(place / "ring", may_make=True))
order = list(range(40))
random.Random(seed).shuffle(order)
print(sorted((n, store.put(f"p{n % 3}", io.BytesIO(bytes([n]) * 300_000))) for n in order))
"""


def test_two_writers_at_once(tmp_path: Path) -> None:
    started = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(seed)], stdout=subprocess.PIPE, text=True) for seed in (1, 2)
    ]
    printed = [one.communicate(timeout=120)[0] for one in started]
    assert [one.returncode for one in started] == [0, 0] and printed[0] == printed[1]
    store = Store(str(tmp_path / "store"), KeyRing(tmp_path / "ring"))
    found = store.verify()
    assert (found.objects, found.content_bytes, found.problems) == (40, 40 * 300_000, ())


FULL = """
import io, resource, sys
from pathlib import Path
from salus.errors import StoreError
from salus.record.keys import KeyRing
from salus.record.store import Store
place = Path(sys.argv[1])
store = Store(str(place / "store"), KeyRing(place / "ring", may_make=True))
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
kept = store.put("p1", io.BytesIO(b"small"))
try:
    store.put("p1", io.BytesIO(bytes(3_000_000)))
except StoreError as error:
    print(error)
assert store.open("p1", kept).read() == b"small"
print(store.verify().objects, len(list((place / "store" / "incoming").iterdir())))
"""


def test_no_room_for_the_file(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == [
        "Cannot store the object: File too large. Check space, permission and connection, then try again.", "1 0",
    ]  # fmt: skip


BIG = """
import resource, sys
from pathlib import Path
from salus.record.keys import KeyRing
from salus.record.store import Store

class Zeros:
    left = 300_000_000
    def read(self, size=-1):
        size = min(size, self.left)
        self.left -= size
        return bytes(size)

place = Path(sys.argv[1])
store = Store(str(place / "store"), KeyRing(place / "ring", may_make=True))
resource.setrlimit(resource.RLIMIT_DATA, (150_000_000, 150_000_000))
address = store.put("p1", Zeros())
with store.open("p1", address) as stream:
    print(sum(len(chunk) for chunk in iter(lambda: stream.read(1 << 20), b"")))
"""


def test_a_file_larger_than_memory(tmp_path: Path) -> None:
    """300 MB through a process that may hold 150 MB of data in all, the program included."""
    done = subprocess.run([sys.executable, "-c", BIG, str(tmp_path)], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "300000000"


def test_an_unknown_kind_of_url(store: Store) -> None:
    with pytest.raises(ConfigError, match=r"^Cannot open the store: .*Give a folder, or a URL such as s3://bucket/prefix\.$"):
        Store("cloud9://bucket", store.keys)


def test_a_kind_of_url_whose_package_is_missing(store: Store) -> None:
    with pytest.raises(MissingExtra, match=r"^Cannot open a store at a gs address: .*"):
        Store("gs://bucket/prefix", store.keys)


def test_a_problem_names_no_patient(store: Store) -> None:
    put(store, subject_id="patient-with-a-name")
    change(objects(store)[0], "flipped byte")
    problem = store.verify().problems[0]
    assert isinstance(problem, Problem) and "patient-with-a-name" not in f"{problem.place}{problem.why}"
