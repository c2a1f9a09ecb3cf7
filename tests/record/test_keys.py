"""The key ring: made once, for its owner alone, refused where it is wrong; an erased key stays erased."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from salus.errors import ConfigError, StoreError, WrongKeyError
from salus.record.keys import KeyRing


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return KeyRing(tmp_path / "ring", may_make=True)


def test_a_key_is_made_once_and_kept(ring: KeyRing) -> None:
    made = ring.make_key("p1")
    again = KeyRing(ring.path)
    assert again.key_of("p1") == made == again.make_key("p1") and len(made.secret) == 32
    assert again.make_key("p2").secret != made.secret
    assert ring.knows(made.tag) and not ring.knows(ring.tag_of("p3"))


def test_files_hold_no_id_and_no_bare_key_and_are_for_the_owner(ring: KeyRing) -> None:
    made = ring.make_key("patient-with-a-name")
    raw = ring.path.read_bytes()
    assert b"patient-with-a-name" not in raw and made.secret not in raw and ring.master_path.read_bytes().split()[1] not in raw
    assert ring.path.stat().st_mode & 0o777 == ring.master_path.stat().st_mode & 0o777 == 0o600
    assert made.secret.hex() not in repr(made) and str(made.secret) not in repr(made)


def test_erased_stays_erased(ring: KeyRing) -> None:
    made = ring.make_key("p1")
    wrapped = sqlite3.connect(ring.path).execute("SELECT wrapped FROM patients").fetchone()[0]
    assert ring.forget("p1") and not ring.forget("p1") and not ring.forget("never there")
    assert wrapped not in ring.path.read_bytes() and ring.is_erased(made.tag)
    for use in (ring.key_of, ring.make_key):
        with pytest.raises(StoreError, match=rf"^Cannot use the key of patient {made.tag[:12]}: it was erased\. New data"):
            use("p1")


def test_unknown_patient(ring: KeyRing) -> None:
    with pytest.raises(StoreError, match=r"^Cannot find patient \w{12}: this key ring has no key of theirs\. Check the id"):
        ring.key_of("p9")


def test_another_master_key_is_refused(ring: KeyRing, tmp_path: Path) -> None:
    other = KeyRing(tmp_path / "other", may_make=True)
    with pytest.raises(WrongKeyError, match=r"^Cannot open key ring 'ring': 'other.master' is another ring's master key. Name its own.$"):
        KeyRing(ring.path, other.master_path)


def test_a_key_of_another_patient_in_the_row_is_refused(ring: KeyRing) -> None:
    one, two = ring.make_key("p1"), ring.make_key("p2")
    with sqlite3.connect(ring.path) as table:
        table.execute("UPDATE patients SET wrapped = (SELECT wrapped FROM patients WHERE tag = ?) WHERE tag = ?", (one.tag, two.tag))
    with pytest.raises(WrongKeyError, match=rf"Cannot open the key of patient {two.tag[:12]}: it was wrapped by another"):
        ring.key_of("p2")


@pytest.mark.parametrize("missing", ["ring", "ring.master"])
def test_half_a_ring_is_never_made_good(ring: KeyRing, tmp_path: Path, missing: str) -> None:
    ring.make_key("p1")
    (tmp_path / missing).unlink()
    with pytest.raises(ConfigError, match=rf"'{missing}': No such file or directory\. Check the path; a lost key cannot be made again\."):
        KeyRing(tmp_path / "ring", may_make=True)
    assert not (tmp_path / missing).exists()


def test_without_leave_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"No such file"):
        KeyRing(tmp_path / "ring")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["ring", "ring.master"])
def test_a_file_open_to_others_is_refused(ring: KeyRing, tmp_path: Path, name: str) -> None:
    (tmp_path / name).chmod(0o640)
    with pytest.raises(ConfigError, match=re.escape(f"others may read '{name}' (mode 640). Run: chmod 600 '{name}'")):
        KeyRing(ring.path)


@pytest.mark.parametrize("content", [b"", b"\xff" * 50, b"salus-master-1 YWJj\n"])
def test_what_is_no_master_key_is_refused(ring: KeyRing, content: bytes) -> None:
    ring.master_path.write_bytes(content)
    with pytest.raises(StoreError, match=r"^Cannot read master key 'ring.master': it is not one, or is cut short"):
        KeyRing(ring.path)


@pytest.mark.parametrize("content", [b"", b"not a database" * 100])
def test_what_is_no_ring_is_refused(ring: KeyRing, content: bytes) -> None:
    ring.path.write_bytes(content)
    with pytest.raises(StoreError, match=r"^Cannot use key ring 'ring': "):
        KeyRing(ring.path)


MAKER = """
import sys
from pathlib import Path
from salus.record.keys import KeyRing
ring = KeyRing(Path(sys.argv[1]), may_make=True)
print(*(ring.make_key(f"p{n}").secret.hex() for n in range(20)))
"""


def test_two_processes_make_one_ring_and_one_key_each(tmp_path: Path) -> None:
    started = [
        subprocess.Popen([sys.executable, "-c", MAKER, str(tmp_path / "ring")], stdout=subprocess.PIPE, env=os.environ) for _ in range(3)
    ]
    printed = [one.communicate(timeout=60)[0] for one in started]
    assert [one.returncode for one in started] == [0, 0, 0]
    assert len(set(printed)) == 1 and len(set(printed[0].split())) == 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ring", "ring.master"]
