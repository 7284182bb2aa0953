"""The store alone: what is kept, what damage does to it, how much of it stays."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors import safe_open

from makers import write_sound
from tribrain.errors import InputError, InputWarning
from tribrain.features import store as store_module
from tribrain.features.extract import extract_features
from tribrain.features.pieces import Extractors
from tribrain.features.recipe import FeatureRecipe
from tribrain.features.store import Store, default_limit, digest_of, parse_size
from tribrain.stimuli.media import probe
from tribrain.stimuli.stimulus import Stimulus

KEY = {"extractor": "video", "version": 1, "settings": {"depths": [0.5, 1.0], "pooling": "mean"}}
SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
ARRAYS = st.sampled_from([np.float32, np.float16, np.int64]).flatmap(
    lambda dtype: arrays.arrays(dtype, SHAPES)
)
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    # A lone surrogate stands for a byte of a name that is no text.
    | st.text(st.characters(exclude_categories=[]), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
KEYS = st.dictionaries(st.text(max_size=4), PLAIN, max_size=4)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store", 2**30)


@pytest.fixture(scope="module")
def lasting(tmp_path_factory):
    """One store for all examples of a property."""
    return Store(tmp_path_factory.mktemp("lasting"), 2**30)


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """A sound of three pieces."""
    samples = np.random.default_rng(0).normal(size=130 * 8000) * 0.1
    path = write_sound(tmp_path_factory.mktemp("noise") / "noise.wav", samples, 8000)
    track = probe(path)[1]
    return Stimulus("noise", track.duration, None, track, (), None, path)


@pytest.fixture(scope="module")
def series(noise):
    """Its features, made without a store."""
    made = features(noise)["audio"]
    assert made.any()
    return made


@pytest.fixture(scope="module")
def filled(noise, tmp_path_factory):
    """Folder of a store that holds its features."""
    store = Store(tmp_path_factory.mktemp("filled") / "store", 2**30)
    assert features(noise, store).reuse["audio"].computed == 3
    return store.folder


def features(stimulus, store=None):
    extractors = Extractors(FeatureRecipe(simple={"audio": ("loudness",)}))
    return extract_features(stimulus, extractors, ["audio"], window=130.0, store=store)


def files(store, suffix=""):
    found = (path for path in store.folder.glob("entries/*/*") if path.name.endswith(suffix))
    return sorted(found)


def equal(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def turned(value):
    """The same plain data with every mapping in another order."""
    if isinstance(value, dict):
        return {key: turned(value[key]) for key in reversed(value)}
    return [turned(one) for one in value] if isinstance(value, list) else value


def written(value):
    """Plain data as what is written tells it apart: True from 1, and 1 from 1.0."""
    if isinstance(value, dict):
        return "dict", frozenset((key, written(one)) for key, one in value.items())
    if isinstance(value, list):
        return "list", tuple(written(one) for one in value)
    return type(value).__name__, repr(value)


def edit(manifest, **changes):
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | changes))


def age(path, seconds):
    then = time.time() - seconds
    os.utime(path, (then, then))


def fill(store, count, size=1000):
    """Entries put in one after the other, the first one the longest ago; their keys."""
    keys = [{"number": number} for number in range(count)]
    for number, key in enumerate(keys):
        store.put(key, np.full(size, number, np.float32))
        age(store._manifest(digest_of(key)), 1000 - number)
    return keys


# What is put in comes out


@settings(max_examples=100, deadline=None)
@given(KEYS, ARRAYS)
def test_what_is_put_in_comes_out(lasting, key, array):
    lasting.put(key, array)
    assert equal(lasting.get(turned(key)), array)
    assert turned(key) in lasting


@given(KEYS, KEYS)
def test_different_keys_never_meet(one, other):
    assert (digest_of(one) == digest_of(other)) == (written(one) == written(other))


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3).T,
        np.arange(12)[::3],
        np.asfortranarray(np.arange(24, dtype=np.float32).reshape(2, 3, 4)),
        np.broadcast_to(np.float32(2), (2, 3)),
        np.array([np.nan, np.inf, -0.0], np.float16),
        np.array(7),
        np.zeros((3, 0, 2), np.float32),
    ],
    ids=["transposed", "strided", "fortran", "broadcast", "not finite", "0-d", "empty"],
)
def test_arrays_of_any_layout(store, array):
    store.put(KEY, array)
    assert equal(store.get(KEY), array)


def test_only_what_was_put_in_is_there(store):
    assert KEY not in store
    assert store.get(KEY) is None
    assert list(store.entries()) == []
    assert store.verify() == (0, [])
    assert store.prune() == (0, 0)
    assert not store.folder.exists()
    store.put(KEY, np.zeros(3))
    assert KEY in store
    assert KEY | {"version": 2} not in store
    assert store.get(KEY | {"version": 2}) is None


def test_the_last_array_of_a_key_counts(store):
    store.put(KEY, np.zeros(3))
    store.put(KEY, np.ones(4))
    assert equal(store.get(KEY), np.ones(4))
    assert store.verify() == (1, [])
    assert len(list(store.entries())) == 1


def test_another_program_can_read_the_files(store):
    array = np.arange(6, dtype=np.float16).reshape(1, 2, 3)
    store.put(KEY, array)
    data, manifest = files(store)
    content = json.loads(manifest.read_text("utf-8"))
    assert content["key"] == KEY
    assert content["file"] == data.name
    assert content["shape"] == [1, 2, 3]
    assert content["dtype"] == "float16"
    assert content["bytes"] == data.stat().st_size
    assert content["sha256"] == hashlib.sha256(data.read_bytes()).hexdigest()
    with safe_open(data, "numpy") as file:
        assert list(file.keys()) == ["values"]
        assert equal(file.get_tensor("values"), array)


# Damage


def flipped(place):
    def damage(manifest, data):
        content = bytearray(data.read_bytes())
        content[place] ^= 1
        data.write_bytes(content)

    return damage


def moved_to_another_key(manifest, data):
    edit(manifest, key=KEY)


def one_that_agrees_but_is_no_array(manifest, data):
    data.write_bytes(b"no array")
    edit(manifest, sha256=hashlib.sha256(b"no array").hexdigest())


def replace(text):
    return lambda manifest, data: manifest.write_bytes(text)


DAMAGE = {
    "length of the header": flipped(0),
    "header": flipped(20),
    "first number": flipped(-20 * 4),
    "last byte": flipped(-1),
    "array cut short": lambda manifest, data: os.truncate(data, data.stat().st_size // 2),
    "array empty": lambda manifest, data: os.truncate(data, 0),
    "array longer": lambda manifest, data: data.write_bytes(data.read_bytes() + b"\0"),
    "array missing": lambda manifest, data: data.unlink(),
    "no array": one_that_agrees_but_is_no_array,
    "JSON cut short": lambda manifest, data: os.truncate(manifest, 100),
    "JSON empty": replace(b""),
    "no JSON": replace(b"\xff\xfe\0"),
    "a list": replace(b"[1, 2]"),
    "a number": replace(b"3"),
    "nothing in it": replace(b"{}"),
    "other format": lambda manifest, data: edit(manifest, format=2),
    "other checksum": lambda manifest, data: edit(manifest, sha256="0" * 64),
    "no checksum": lambda manifest, data: edit(manifest, sha256=None),
    "other key": moved_to_another_key,
    "key is text": lambda manifest, data: edit(manifest, key="x"),
    "file is a number": lambda manifest, data: edit(manifest, file=3),
    "file is a folder": lambda manifest, data: edit(manifest, file=".."),
    "file is empty": lambda manifest, data: edit(manifest, file=""),
    "file has a zero byte": lambda manifest, data: edit(manifest, file="a\0b"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_is_said_and_the_very_same_numbers_are_computed_again(
    tmp_path, filled, noise, series, damage
):
    store = Store(shutil.copytree(filled, tmp_path / "store"), 2**30)
    for manifest in files(store, ".json"):
        if json.loads(manifest.read_text())["key"]["first"] == 120:
            damaged = manifest
    damage(damaged, damaged.parent / json.loads(damaged.read_text())["file"])
    sound, lines = store.verify()
    assert (sound, len(lines)) == (2, 1)
    assert lines[0].startswith(f"{damaged.stem[:12]}: ")
    with pytest.warns(InputWarning, match=f"entry {damaged.stem[:12]} is damaged") as said:
        again = features(noise, store)
    assert len(said) == 1
    assert (again.reuse["audio"].reused, again.reuse["audio"].computed) == (2, 1)
    assert equal(again["audio"], series)
    assert store.verify() == (3, [])
    third = features(noise, store)
    assert third.reuse["audio"].computed == 0
    assert equal(third["audio"], series)


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_entries_are_taken_away(store, damage):
    keys = fill(store, 3, size=20)
    manifest = store._manifest(digest_of(keys[1]))
    damage(manifest, manifest.parent / json.loads(manifest.read_text())["file"])
    assert sum(entry.key in keys for entry in store.entries()) >= 2  # the listing goes on
    store.verify()
    assert manifest.is_file()  # it only looked
    sound, lines = store.verify(remove=True)
    assert (sound, len(lines)) == (2, 1)
    assert not manifest.exists()
    assert keys[1] not in store
    assert store.verify() == (2, [])
    assert store.get(keys[1]) is None
    assert [store.get(keys[number])[0] for number in (0, 2)] == [0, 2]


def test_get_takes_a_damaged_entry_away(store):
    store.put(KEY, np.ones(100))
    data, manifest = files(store)
    flipped(-1)(manifest, data)
    with pytest.warns(InputWarning, match="damaged"):
        assert store.get(KEY) is None
    assert KEY not in store
    assert store.get(KEY) is None  # and says no more


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_damaged_byte_gives_other_numbers(lasting, data):
    key, array = {"property": "damage"}, np.arange(20, dtype=np.float32)
    lasting.put(key, array)
    manifest = lasting._manifest(digest_of(key))
    file = data.draw(
        st.sampled_from([manifest, manifest.parent / json.loads(manifest.read_text())["file"]])
    )
    content = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = lasting.get(key)
    if file == manifest and found is not None:
        assert equal(found, array)  # a byte that says when it was written, or so
    else:
        assert found is None
        assert [type(one.message) for one in said] == [InputWarning]


@pytest.mark.parametrize("path", ["../secret.safetensors", "/{}/secret.safetensors"])
def test_an_entry_cannot_point_outside_its_folder(store, path):
    """A doctored entry whose checksum agrees with the file that it names."""
    store.put(KEY, np.zeros(3))
    data, manifest = files(store)
    secret = manifest.parents[1] / "secret.safetensors"
    data.rename(secret)
    edit(manifest, file=path.format(secret.parent))
    assert store.verify() == (0, [f"{manifest.stem[:12]}: its array is missing"])
    assert list(store.entries()) == []
    with pytest.warns(InputWarning, match="damaged"):
        assert store.get(KEY) is None
    store.prune(0)
    assert secret.exists()


# Leftovers


def test_leftovers_are_not_read_and_go_after_an_hour(store):
    keys = fill(store, 2)
    manifest = store._manifest(digest_of(keys[0]))
    data = manifest.parent / json.loads(manifest.read_text())["file"]
    leftovers = {
        name: manifest.parent / name
        for name in (".partial-abc", ".partial-x_y.json", "0" * 64 + "-1.safetensors")
    }
    for path, source in zip(leftovers.values(), (data, manifest, data), strict=True):
        path.write_bytes(source.read_bytes())
    notes = store.folder / "checksums"
    notes.mkdir()
    leftovers["note"] = notes / ".partial-n"
    leftovers["note"].write_bytes(b"{}")
    before = sum(entry.size for entry in store.entries())
    assert len(list(store.entries())) == 2
    assert store.verify() == (2, [])
    for path in leftovers.values():
        age(path, 3500)
    store.prune()
    assert all(path.exists() for path in leftovers.values())
    for path in (*leftovers.values(), manifest, data):
        age(path, 3700)
    assert store.prune() == (0, before)
    assert not any(path.exists() for path in leftovers.values())
    assert [store.get(key)[0] for key in keys] == [0, 1]


def test_an_array_that_was_replaced_goes_after_an_hour(store):
    store.put(KEY, np.zeros(10))
    store.put(KEY, np.ones(10))
    arrays_there = files(store, ".safetensors")
    assert len(arrays_there) == 2
    for path in arrays_there:
        age(path, 3700)
    store.prune()
    assert len(files(store, ".safetensors")) == 1
    assert equal(store.get(KEY), np.ones(10))


@pytest.mark.parametrize("failing", [1, 2])
def test_writing_that_fails_leaves_the_old_entry_and_nothing_else(store, monkeypatch, failing):
    store.put(KEY, np.zeros(10))
    there = files(store)
    plain, calls = Path.open, []

    class Full:
        """Takes half of what is written, then has no room left."""

        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, data):
            self.file.write(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def opened(path, mode="r", *arguments):
        file = plain(path, mode, *arguments)
        calls.extend([path] if mode == "xb" else [])
        return Full(file) if mode == "xb" and len(calls) == failing else file

    monkeypatch.setattr(Path, "open", opened)
    with pytest.warns(InputWarning, match="No space left on device"):
        store.put(KEY, np.ones(10))
    assert len(calls) == failing
    assert not [path for path in files(store) if path.name.startswith(".")]
    assert set(there) <= set(files(store))
    assert equal(store.get(KEY), np.zeros(10))
    assert store.verify() == (1, [])


# How much is kept


def test_those_unused_for_longest_go_first(store):
    keys = fill(store, 6)
    size = next(store.entries()).size
    assert equal(store.get(keys[1]), np.full(1000, 1, np.float32))  # now used last
    removed, left = store.prune(3 * size + size // 2)
    assert removed == 3
    assert [number for number, key in enumerate(keys) if key in store] == [1, 4, 5]
    assert left == sum(entry.size for entry in store.entries())
    assert left == sum(path.stat().st_size for path in files(store))
    assert len(files(store)) == 6


def test_a_small_old_entry_does_not_outlive_a_newer_one(store):
    old, large, new = fill(store, 3)
    store.put(old, np.zeros(1, np.float32))
    age(store._manifest(digest_of(old)), 5000)
    store.put(large, np.zeros(10_000, np.float32))
    age(store._manifest(digest_of(large)), 4000)
    assert store.prune(8000)[0] == 2
    assert [key in store for key in (old, large, new)] == [False, False, True]


def test_sizes_and_times_of_entries(store):
    keys = fill(store, 3)
    by_digest = {entry.digest: entry for entry in store.entries()}
    for number, key in enumerate(keys):
        entry = by_digest[digest_of(key)]
        assert entry.key == key
        assert entry.size == entry.manifest.stat().st_size + entry.data.stat().st_size
        assert entry.size > 4000
        assert time.time() - entry.used == pytest.approx(1000 - number, abs=5)


def test_the_store_stays_under_its_limit_by_itself(tmp_path):
    store = Store(tmp_path, 50_000)
    for number in range(40):
        store.put({"number": number}, np.zeros(1000, np.float32))
        age(store._manifest(digest_of({"number": number})), 1000 - number)
        assert sum(path.stat().st_size for path in files(store)) <= 50_000
        assert {"number": number} in store
    kept = [number for number in range(40) if {"number": number} in store]
    assert kept == list(range(40 - len(kept), 40))  # the newest
    assert len(kept) >= 8


def test_a_store_that_is_too_large_is_cut_at_the_first_array(tmp_path):
    fill(Store(tmp_path, 2**30), 20)
    store = Store(tmp_path, 50_000)
    store.put(KEY, np.zeros(10))
    assert sum(path.stat().st_size for path in files(store)) <= 50_000
    assert KEY in store


def test_entries_are_not_listed_for_every_array(tmp_path, monkeypatch):
    """Listing takes long in a full store; a hundredth of the limit may be written in between."""
    store, listed = Store(tmp_path, 10**6), []
    entries = store.entries
    monkeypatch.setattr(store, "entries", lambda: listed.append(1) or entries())
    for number in range(100):
        store.put({"number": number}, np.zeros(100, np.float32))
    written = sum(path.stat().st_size for path in files(store))
    assert 2 <= len(listed) <= 1 + written / 10_000


def test_a_limit_of_nothing_keeps_nothing_and_work_goes_on(tmp_path, noise, series):
    store = Store(tmp_path / "store", 0)
    for _ in range(2):
        result = features(noise, store)
        assert result.reuse["audio"].computed == 3
        assert equal(result["audio"], series)
    assert files(store) == []


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("123", 123),
        ("123B", 123),
        ("500M", 500 * 2**20),
        ("20 GB", 20 * 2**30),
        ("1.5GiB", 3 * 2**29),
        (" 2 kib ", 2048),
        ("1.5T", 3 * 2**39),
    ],
)
def test_sizes_in_words(text, size, monkeypatch):
    assert parse_size(text) == size
    monkeypatch.setenv("TRIBRAIN_CACHE_LIMIT", text)
    assert default_limit() == Store().limit == size


@pytest.mark.parametrize("text", ["", "G", "-1G", "20 X", "1,5G", "1.G", "1e9", "inf", "20G 5M"])
def test_sizes_that_are_none(text):
    with pytest.raises(InputError, match=r"500M, 20G or 1\.5T fit"):
        parse_size(text)


def test_the_limit_is_50_gib_where_none_is_named(monkeypatch):
    monkeypatch.delenv("TRIBRAIN_CACHE_LIMIT", raising=False)
    assert Store().limit == 50 * 2**30


# A disk that takes nothing


def refuse(number):
    def write(path, data):
        raise OSError(number, os.strerror(number), f"{path}{np.random.default_rng().random()}")

    return write


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_takes_nothing_is_said_once(store, noise, series, monkeypatch, number):
    monkeypatch.setattr(store_module, "_write_whole", refuse(number))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", InputWarning)
        results = [features(noise, store) for _ in range(2)]
    assert len(said) == 1
    assert f"{store.folder} ({os.strerror(number)})" in str(said[0].message)
    for result in results:
        assert result.reuse["audio"].computed == 3
        assert equal(result["audio"], series)
    assert files(store) == []
    assert store.verify() == (0, [])


def test_a_folder_that_cannot_be_made_is_said_once(tmp_path, noise, series):
    (tmp_path / "file").write_text("no folder")
    store = Store(tmp_path / "file")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", InputWarning)
        result = features(noise, store)
        for number in range(20):
            store.put({"number": number}, np.zeros(3))
    assert [type(one.message) for one in said] == [InputWarning]
    assert equal(result["audio"], series)
    assert store.verify() == (0, [])
    assert store.prune() == (0, 0)
    assert (tmp_path / "file").read_text() == "no folder"


def test_a_disk_that_fills_up_keeps_what_it_took(store, noise, series, monkeypatch):
    write, taken = store_module._write_whole, []

    def fills_up(path, data):
        if path.suffix in (".json", ".safetensors") and "entries" in path.parts:
            taken.append(path)
        if len(taken) > 3:  # one entry and the array of the next
            refuse(errno.ENOSPC)(path, data)
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "_write_whole", fills_up)
        with pytest.warns(InputWarning, match="nothing can be kept"):
            expected = features(noise, store)["audio"]
    assert equal(expected, series)
    assert store.verify() == (1, [])
    again = features(noise, store)
    assert (again.reuse["audio"].reused, again.reuse["audio"].computed) == (1, 2)
    assert equal(again["audio"], expected)


# Checksums of files


@pytest.fixture
def reads(monkeypatch):
    """Paths that were read to the end for their checksum."""
    found = []
    read = store_module.sha256
    monkeypatch.setattr(store_module, "sha256", lambda path: found.append(path) or read(path))
    return found


@pytest.fixture
def settled(monkeypatch):
    """No change of a file is too fresh to be told from the next one."""
    monkeypatch.setattr(store_module, "_SETTLED", -1.0)


def change(path, content, mtime=None):
    """Write, once the file system's clock has moved on from the last change."""
    before = path.stat().st_ctime_ns
    while True:
        path.write_bytes(content)
        if mtime is not None:
            os.utime(path, ns=(mtime, mtime))
        if path.stat().st_ctime_ns != before:
            return
        time.sleep(0.002)


def checksum_of(content):
    return hashlib.sha256(content).hexdigest()


def test_a_file_is_read_again_only_after_a_change(store, tmp_path, reads, settled):
    film = tmp_path / "film.mp4"
    film.write_bytes(b"one")
    assert [store.checksum(film) for _ in range(3)] == [checksum_of(b"one")] * 3
    assert len(reads) == 1
    assert Store(store.folder).checksum(str(film)) == checksum_of(b"one")
    assert len(reads) == 1  # known to the next process as well
    change(film, b"three")
    assert [store.checksum(film) for _ in range(3)] == [checksum_of(b"three")] * 3
    assert len(reads) == 2


def test_a_relative_path_is_the_same_file(store, tmp_path, reads, settled, monkeypatch):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "film").write_bytes(folder.encode())
    for folder in ("a", "b", "a"):
        monkeypatch.chdir(tmp_path / folder)
        assert store.checksum("film") == checksum_of(folder.encode())
    assert len(reads) == 2


def test_an_edit_that_keeps_size_and_time_is_noticed(store, tmp_path, reads, settled):
    film = tmp_path / "film.mp4"
    film.write_bytes(b"one")
    age(film, 10**6)
    mtime = film.stat().st_mtime_ns
    store.checksum(film)
    change(film, b"two", mtime)
    assert film.stat().st_mtime_ns == mtime
    assert store.checksum(film) == checksum_of(b"two")


def test_a_file_put_in_place_of_another_is_noticed(store, tmp_path, reads, settled):
    film, other = tmp_path / "film.mp4", tmp_path / "other.mp4"
    film.write_bytes(b"one")
    other.write_bytes(b"two")
    os.utime(other, ns=(film.stat().st_mtime_ns,) * 2)
    store.checksum(film)
    other.replace(film)
    assert store.checksum(film) == checksum_of(b"two")


@pytest.mark.parametrize("old_time", [False, True], ids=["just written", "time set back"])
def test_a_file_changed_a_moment_ago_is_not_remembered(store, tmp_path, reads, old_time):
    film = tmp_path / "film.mp4"
    film.write_bytes(b"one")
    if old_time:  # as `cp -p` does
        age(film, 10**6)
    for _ in range(3):
        store.checksum(film)
    assert len(reads) == 3


def test_a_file_is_remembered_once_it_is_settled(store, tmp_path, reads, monkeypatch):
    film = tmp_path / "film.mp4"
    film.write_bytes(b"one")
    now = time.time()
    for later, expected in ((1.5, 1), (2.5, 2), (2.6, 2)):
        monkeypatch.setattr(time, "time", lambda later=later: now + later)
        store.checksum(film)
        assert len(reads) == expected


def test_a_file_that_changes_while_it_is_read_is_not_remembered(store, tmp_path, settled):
    film = tmp_path / "film.mp4"
    film.write_bytes(b"one")
    read = store_module.sha256

    def slow(path):
        digest = read(path)
        change(path, b"two")
        return digest

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_module, "sha256", slow)
        store.checksum(film)
    assert store.checksum(film) == checksum_of(b"two")


@pytest.mark.parametrize("note", [b"", b"[]", b"3", b"{}", b"\xff", b'{"stamp": []}'])
def test_a_damaged_note_of_a_checksum_counts_for_nothing(store, tmp_path, reads, settled, note):
    film = tmp_path / "film.mp4"
    film.write_bytes(b"one")
    store.checksum(film)
    for path in store.folder.glob("checksums/*"):
        path.write_bytes(note)
    assert store.checksum(film) == store.checksum(film) == checksum_of(b"one")
    assert len(reads) == 2


def test_a_checksum_is_given_where_nothing_can_be_written(tmp_path, settled):
    (tmp_path / "file").write_bytes(b"one")
    assert Store(tmp_path / "file").checksum(tmp_path / "file") == checksum_of(b"one")


def test_a_checksum_of_nothing_says_so(store, tmp_path):
    with pytest.raises(FileNotFoundError):
        store.checksum(tmp_path / "nothing")
    with contextlib.suppress(FileNotFoundError):
        assert not (store.folder / "checksums").exists()
