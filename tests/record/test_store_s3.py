"""The store in an object store that speaks S3: moto's server, a real HTTP server in this process; s3fs on the other side."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from salus.errors import DamagedError, StoreError, WrongKeyError
from salus.record import store as store_module
from salus.record.keys import KeyRing
from salus.record.store import Store

URL = "s3://records/cohort"
CONTENT = bytes(range(256)) * 80_000
"""20.5 MB: three parts of an upload."""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Yield an empty bucket as another library sees it."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": endpoint,
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    bucket = boto3.resource("s3", endpoint_url=endpoint).Bucket("records")
    bucket.create()
    yield bucket
    bucket.objects.delete()
    bucket.delete()


@pytest.fixture
def store(bucket: object, endpoint: str, tmp_path: Path) -> Store:
    return Store(URL, KeyRing(tmp_path / "ring", may_make=True), options={"endpoint_url": endpoint})


def keys_in(bucket) -> list[str]:  # type: ignore[no-untyped-def]
    return sorted(each.key for each in bucket.objects.all())


def test_round_trip_in_parts(store: Store, bucket) -> None:  # type: ignore[no-untyped-def]
    address, small = store.put("p1", io.BytesIO(CONTENT)), store.put("p2", io.BytesIO(b"small"))
    assert store.open("p1", address).read() == CONTENT and store.open("p2", small).read() == b"small"
    tags = {name: store.keys.tag_of(name) for name in ("p1", "p2")}
    wanted = {"cohort/salus-store.json", f"cohort/objects/{tags['p1']}/{address}", f"cohort/objects/{tags['p2']}/{small}"}
    assert set(keys_in(bucket)) == wanted
    etag = bucket.Object(f"cohort/objects/{tags['p1']}/{address}").e_tag
    assert etag.strip('"').endswith("-3"), "sent in three parts"
    found = store.verify()
    assert (found.objects, found.content_bytes, found.problems) == (2, len(CONTENT) + 5, ())


def test_the_environment_names_the_service(store: Store) -> None:
    address = store.put("p1", io.BytesIO(b"content"))
    assert Store(URL, KeyRing(store.keys.path)).open("p1", address).read() == b"content"


@pytest.mark.parametrize("how", ["flipped", "cut"])
def test_damage_is_found_and_mended(store: Store, bucket, how: str) -> None:  # type: ignore[no-untyped-def]
    address = store.put("p1", io.BytesIO(CONTENT))
    held = bucket.Object(f"cohort/objects/{store.keys.tag_of('p1')}/{address}")
    raw = bytearray(held.get()["Body"].read())
    raw[5_000_000] ^= 1
    held.put(Body=bytes(raw) if how == "flipped" else bytes(raw[:9_000_000]))
    assert [one.kind for one in store.verify().problems] == ["damaged"]
    with pytest.raises(DamagedError, match=f"^Cannot read object {address[:12]}"):
        store.open("p1", address).read()
    assert store.put("p1", io.BytesIO(CONTENT)) == address and store.verify().problems == ()


def test_an_upload_that_breaks_off_leaves_no_object(store: Store, bucket, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    store.put("p1", io.BytesIO(b"first"))
    call = type(store.files)._call_s3

    async def broken(self, method, *args, **kwargs):  # type: ignore[no-untyped-def]
        if method == "upload_part" and kwargs["PartNumber"] == 2:
            raise ConnectionResetError(104, "Connection reset by peer")
        return await call(self, method, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(type(store.files), "_call_s3", broken)
        with pytest.raises(StoreError, match=r"^Cannot store the object: Connection reset by peer"):
            store.put("p1", io.BytesIO(CONTENT))
    assert len(store.addresses("p1")) == 1 and store.verify().problems == ()
    assert store.open("p1", store.put("p1", io.BytesIO(CONTENT))).read() == CONTENT


def test_erasing_a_patient(store: Store) -> None:
    store.put("p1", io.BytesIO(b"one"))
    kept = store.put("p2", io.BytesIO(b"two"))
    assert store.forget("p1") == 1 and store.addresses("p1") == () and store.open("p2", kept).read() == b"two"
    assert store.verify().objects == 1


def test_another_key_ring_and_a_second_maker_are_refused(store: Store, endpoint: str, tmp_path: Path) -> None:
    with pytest.raises(WrongKeyError, match=r"it belongs to another key ring"):
        Store(URL, KeyRing(tmp_path / "other", may_make=True), options={"endpoint_url": endpoint})


def test_of_two_makers_at_once_the_first_counts(
    bucket: object, endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one saw no store; its write is refused by the service, and it reads what the first one wrote."""
    rings = [KeyRing(tmp_path / name, may_make=True) for name in ("one", "two")]
    Store(URL, rings[0], options={"endpoint_url": endpoint})
    files, _ = store_module._file_system(URL, {"endpoint_url": endpoint})
    monkeypatch.setattr(type(files), "exists", lambda *_: False)
    monkeypatch.setattr(Store, "_names", lambda *_: [])
    with pytest.raises(WrongKeyError, match=r"it belongs to another key ring"):
        Store(URL, rings[1], options={"endpoint_url": endpoint})


def test_no_service_there(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"^Cannot \w+ the store: .*Check space, permission and connection, then try again\.$"):
        Store(URL, store.keys, options={"endpoint_url": "http://127.0.0.1:9", "config_kwargs": {"retries": {"max_attempts": 0}}})


def test_no_such_bucket(store: Store, endpoint: str) -> None:
    with pytest.raises(StoreError, match=r"^Cannot open the store: "):
        Store("s3://no-such-bucket/x", store.keys, options={"endpoint_url": endpoint})
