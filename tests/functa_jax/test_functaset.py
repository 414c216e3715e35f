"""A functaset: the files that DESIGN.md fixes, whole or in shards, read by NumPy alone."""

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import functa_jax
from functa_jax.functaset import COLUMNS, SPLITS, Functaset, Latents, shard_path
from groundfloor.errors import UserError

METADATA = {"data": "digits", "model": {"width": 8, "rate": None}, "note": "κ, “ν”\n"}


def made_up(counts=(5, 3, 4), size=6, dtype=np.float32):
    """A functaset with latents (n, size) and n = counts for train, val and test."""
    random = np.random.default_rng(0)

    def split(n):
        latents, psnr = random.normal(size=(n, size)), random.normal(30, 2, n)
        labels, ids = random.integers(-1, 10, n), random.integers(0, 60_000, n)
        return Latents(latents.astype(dtype), labels, ids, psnr.astype(np.float32))

    mean, std = random.random((2, size), np.float32)
    return Functaset(*map(split, counts), mean, std, METADATA)


def save_shards(functaset, path, count):
    """The rows of every split, cut into `count` consecutive parts."""
    for shard in range(count):
        splits = {}
        for name in SPLITS:
            columns = (getattr(getattr(functaset, name), column) for column in COLUMNS)
            splits[name] = Latents(*(np.array_split(column, count)[shard] for column in columns))
        part = Functaset(**splits, mean=functaset.mean, std=functaset.std, metadata=METADATA)
        part.save(shard_path(path, shard, count))


def assert_same(a, b):
    for name in SPLITS:
        for column in COLUMNS:
            left, right = (getattr(getattr(x, name), column) for x in (a, b))
            assert left.dtype == right.dtype
            np.testing.assert_array_equal(left, right)
    np.testing.assert_array_equal(a.mean, b.mean)
    np.testing.assert_array_equal(a.std, b.std)
    assert a.metadata == b.metadata


def fault(path):
    """The message of the UserError, which must be one line."""
    with pytest.raises(UserError) as caught:
        functa_jax.load_functaset(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@given(
    counts=st.tuples(*[st.integers(0, 40)] * 3),
    size=st.integers(1, 9),
    dtype=st.sampled_from([np.float16, np.float32]),
    shards=st.integers(1, 12),
)
def test_what_is_saved_is_loaded(counts, size, dtype, shards):
    functaset = made_up(counts, size, dtype)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "functaset.npz"
        save_shards(functaset, path, shards)
        assert len(list(Path(folder).iterdir())) == shards
        assert_same(functa_jax.load_functaset(path), functaset)


@pytest.mark.parametrize("shards", [1, 3])
def test_a_folder_or_any_shard_names_the_whole(shards, tmp_path):
    functaset = made_up()
    save_shards(functaset, tmp_path / "functaset.npz", shards)
    for path in (tmp_path, *tmp_path.iterdir()):
        assert_same(functa_jax.load_functaset(path), functaset)


def test_only_shards_of_the_same_name_belong_together(tmp_path):
    whole, other = made_up(), made_up((7, 0, 1))
    save_shards(whole, tmp_path / "functaset.npz", 2)
    save_shards(other, tmp_path / "functaset-cifar10.npz", 3)
    (tmp_path / "functaset-old-of-all.npz").write_bytes(b"in the way")
    assert_same(functa_jax.load_functaset(tmp_path / "functaset.npz"), whole)
    assert_same(functa_jax.load_functaset(tmp_path / "functaset-cifar10.npz"), other)


@pytest.mark.parametrize("name", ["latents [all].npz", "latents", "latents.v2"])
def test_any_file_name_will_do(name, tmp_path):
    for count in (1, 2):
        save_shards(made_up(), tmp_path / str(count) / name, count)
        assert_same(functa_jax.load_functaset(tmp_path / str(count) / name), made_up())


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_file_has_the_published_keys_and_types(dtype, tmp_path):
    made_up(dtype=dtype).save(tmp_path / "functaset.npz")
    kinds = {"latents": dtype, "labels": np.int64, "ids": np.int64, "psnr": np.float32}
    expected = {f"{split}_{column}": kinds[column] for split in SPLITS for column in COLUMNS}
    with np.load(tmp_path / "functaset.npz", allow_pickle=False) as file:
        arrays = dict(file)
    assert json.loads(str(arrays.pop("metadata"))) == METADATA
    expected |= {"mean": np.float32, "std": np.float32}
    assert {key: array.dtype.type for key, array in arrays.items()} == expected
    for split, rows in zip(SPLITS, (5, 3, 4), strict=True):
        assert arrays[f"{split}_latents"].shape == (rows, 6)
        assert all(arrays[f"{split}_{column}"].shape == (rows,) for column in COLUMNS[1:])
    assert arrays["mean"].shape == arrays["std"].shape == (6,)


def test_half_precision_halves_the_latents(tmp_path):
    for dtype in (np.float32, np.float16):
        made_up((1000, 10, 10), 64, dtype).save(tmp_path / f"{dtype.__name__}.npz")
    whole, half = ((tmp_path / f"float{bits}.npz").stat().st_size for bits in (32, 16))
    assert whole - half == 1020 * 64 * 2


def test_reading_needs_numpy_only(tmp_path):
    made_up().save(tmp_path / "functaset.npz")
    packages = tmp_path / "packages"  # an environment in which NumPy alone is installed
    packages.mkdir()
    for path in (Path(np.__file__).parent, Path(np.__file__).parent.with_name("numpy.libs")):
        if path.exists():
            (packages / path.name).symlink_to(path)
    code = (
        "import importlib.util, sys\n"
        "sys.path[:0] = sys.argv[2:]\n"
        "assert not any(map(importlib.util.find_spec, ('tqdm', 'scipy', 'sklearn', 'jax')))\n"
        "import functa_jax\n"
        "print(functa_jax.load_functaset(sys.argv[1]).train.latents.shape)"
    )
    root = Path(functa_jax.__file__).parents[1]
    done = subprocess.run(  # -S: without site-packages, -I: without this environment's paths
        [sys.executable, "-I", "-S", "-c", code, tmp_path, root, packages],
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("(5, 6)\n", "")


# ---- faults ----


def test_a_missing_functaset_is_named(tmp_path):
    for path in (tmp_path / "functaset.npz", tmp_path / "no" / "latents.npz"):
        assert f"{path}" in fault(path)
    assert f"{tmp_path / 'functaset.npz'}" in fault(tmp_path)


@pytest.mark.parametrize("shard", range(3))
def test_a_missing_shard_is_named(shard, tmp_path):
    path = tmp_path / "functaset.npz"
    save_shards(made_up(), path, 3)
    shard_path(path, shard, 3).unlink()
    assert f"{shard_path(path, shard, 3)} does not exist" in fault(path)


def test_shards_of_two_functasets_are_not_mixed(tmp_path):
    path = tmp_path / "functaset.npz"
    save_shards(made_up(), path, 3)
    stray = shard_path(path, 1, 3)
    Functaset(**{**vars(made_up()), "metadata": {"data": "another"}}).save(stray)
    assert str(stray) in fault(path)


@given(st.floats(0, 1, exclude_max=True), st.booleans())
def test_any_truncation_is_found(share, sharded):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "functaset.npz"
        save_shards(made_up(), path, 2 if sharded else 1)
        cut = max(Path(folder).iterdir())
        data = cut.read_bytes()
        cut.write_bytes(data[: int(share * len(data))])
        assert str(cut) in fault(path)


@given(
    key=st.sampled_from(["train_latents", "val_psnr", "test_ids", "std"]),
    place=st.floats(0, 1, exclude_max=True),
    bit=st.integers(0, 7),
)
def test_any_bit_flipped_in_an_array_is_found(key, place, bit):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "functaset.npz"
        made_up().save(path)
        with np.load(path) as file:
            value = file[key].tobytes()
        data = bytearray(path.read_bytes())
        data[data.index(value) + int(place * len(value))] ^= 1 << bit
        path.write_bytes(data)
        assert str(path) in fault(path)


@pytest.mark.parametrize("content", [b"", b"plain text\nin two lines", b"PK\x03\x04", b"\x80\x04."])
def test_a_foreign_file_is_refused(content, tmp_path):
    path = tmp_path / "functaset.npz"
    path.write_bytes(content)
    assert str(path) in fault(path)


def test_a_functa_is_not_a_functaset(tmp_path):
    path = tmp_path / "functa.npz"
    np.savez(path, about=json.dumps({}), inner_rate=np.ones(3))
    assert f"{path} is not a functaset" in fault(path)


@pytest.mark.parametrize("key", ["train_latents", "test_ids", "mean", "metadata"])
@pytest.mark.parametrize("value", [None, np.array([print], object)], ids=["missing", "pickled"])
def test_an_entry_missing_or_pickled_is_refused(key, value, tmp_path):
    path = tmp_path / "functaset.npz"
    made_up().save(path)
    with np.load(path) as file:
        content = {**file, key: value}
    if value is None:
        del content[key]
    np.savez(path, **content)
    assert str(path) in fault(path)


@pytest.mark.parametrize(
    "change", [{"test_labels": 1}, {"val_latents": 2}, {"mean": 1}, {"std": 1}]
)
def test_columns_that_do_not_fit_each_other_are_refused(change, tmp_path):
    path = tmp_path / "functaset.npz"
    made_up().save(path)
    with np.load(path) as file:
        arrays = dict(file)
    for key, cut in change.items():
        arrays[key] = arrays[key][:-cut]
    np.savez(path, **arrays)
    assert "do not fit each other" in fault(path)


@pytest.mark.parametrize("shards", [1, 3])
def test_lazy_latents_are_the_same_and_stay_on_disk(shards, tmp_path):
    functaset, path = made_up((11, 0, 4)), tmp_path / "f.npz"
    save_shards(functaset, path, shards)
    lazy = functa_jax.load_functaset(path, lazy=True)
    assert_same(lazy, functaset)
    latents, whole = lazy.train.latents, functaset.train.latents
    assert all(isinstance(part, np.memmap) for part in latents.parts if len(part))
    assert (len(latents), latents.shape, latents.ndim) == (11, (11, 6), 2)
    for rows in (3, -1, slice(2, 9), slice(None, None, -2), [8, 0, 8], whole[:, 0] > 0, []):
        np.testing.assert_array_equal(latents[rows], whole[rows])
    np.testing.assert_array_equal((latents - lazy.mean) / lazy.std, (whole - lazy.mean) / lazy.std)
    with pytest.raises(IndexError):
        latents[11]


def test_a_lazy_split_is_a_data_set_of_pytorch(tmp_path):
    torch_data = pytest.importorskip("torch.utils.data")
    save_shards(made_up(), tmp_path / "f.npz", 2)
    train = functa_jax.load_functaset(tmp_path / "f.npz", lazy=True).train
    latents, labels = next(iter(torch_data.DataLoader(train, batch_size=len(train))))
    np.testing.assert_array_equal(latents, train.latents)
    np.testing.assert_array_equal(labels, train.labels)


@pytest.mark.parametrize("damage", ["short", "compressed", "foreign"])
def test_lazy_reading_of_other_files(damage, tmp_path):
    path = tmp_path / "f.npz"
    made_up().save(path)
    if damage == "compressed":
        with np.load(path) as file:
            np.savez_compressed(path, **file)
        assert_same(functa_jax.load_functaset(path, lazy=True), made_up())
        return
    content = path.read_bytes()[:-40] if damage == "short" else b"PK no zip"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        functa_jax.load_functaset(path, lazy=True)
    assert "\n" not in str(caught.value)
