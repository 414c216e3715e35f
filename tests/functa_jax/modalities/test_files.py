"""Functions of one's own: what was written comes back; what is wrong is one line."""

import shutil
import sys
import wave

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from functa_jax.modalities import files, sound
from functa_jax.modalities.own_arrays import rescaled
from functa_jax.modalities.own_folders import WINDOW
from groundfloor.data.functions import lattice_points
from groundfloor.errors import UserError

COORDS = lattice_points(2, 3)


def values(n=30, points=6, channels=1, seed=0):
    return np.random.default_rng(seed).random((n, points, channels), np.float32)


def write(folder, **arrays):
    np.savez(folder / "a.npz", **arrays)
    return folder / "a.npz"


def write_wav(path, samples, rate=8000, width=2, channels=1):
    """PCM of `width` bytes; samples (N,) or (N, channels) in [-1, 1)."""
    scaled = np.rint(np.asarray(samples) * 2 ** (8 * width - 1)).astype(np.int64)
    if width == 1:
        scaled += 128
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        bytes_of = scaled.astype("<i8").reshape(-1, 1).view(np.uint8)[:, :width]
        file.writeframes(bytes_of.tobytes())
    return path


def fault(path):
    with pytest.raises(UserError) as caught:
        files.load(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def together(data):
    """Values, labels and ids of all splits, in the order of ids."""
    splits = (data.train, data.val, data.test)
    ids = np.concatenate([split.ids for split in splits])
    order = np.argsort(ids)
    assert ids[order].tolist() == list(range(len(ids)))
    return tuple(
        np.concatenate([getattr(split, name) for split in splits])[order]
        for name in ("values", "labels")
    )


# ---- .npz ----


@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.float32, np.float64, np.bool_]),
        hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=12),
        elements=st.integers(0, 1),
    )
)
def test_values_and_coords_come_back(tmp_path_factory, array):
    folder = tmp_path_factory.mktemp("npz")
    coords = np.linspace(-1, 1, array.shape[1])[:, None]
    data = files.load(write(folder, values=array, coords=coords, labels=np.arange(len(array))))
    found, labels = together(data)
    array = array[..., None] if array.ndim == 2 else array
    expected = 255 * array.astype(np.uint8) if array.dtype == bool else array
    assert np.array_equal(found, expected) and np.array_equal(labels, np.arange(len(array)))
    assert data.modality == "functions" and data.num_classes == len(array)
    # Bytes of 0 and 1 are no grey levels of 255.
    as_bytes = array.dtype == bool or (array.dtype == np.uint8 and array.max() == 0)
    assert found.dtype == (np.uint8 if as_bytes else np.float32)
    assert np.allclose(data.train.coords, coords) and data.lattice == (len(coords),)


def test_others_that_are_added_move_none(tmp_path):
    few = files.load(write(tmp_path, values=values(30), coords=COORDS))
    assert min(len(few.val), len(few.test)) > 0 and few.num_classes == 0
    added = np.concatenate([values(30), values(20, seed=1)])
    many = files.load(write(tmp_path, values=added, coords=COORDS))
    for part in ("train", "val", "test"):
        assert set(getattr(few, part).ids) <= set(getattr(many, part).ids)
    assert len(files.load(write(tmp_path, values=values(9), coords=COORDS)).test) == 0


def test_a_new_extreme_moves_none(tmp_path):
    """It changes the scale of all, not where they are drawn to."""
    array = 5 * values(30)
    few = files.load(write(tmp_path, values=array, coords=COORDS))
    many = files.load(write(tmp_path, values=np.append(array, 2 * array[:1], 0), coords=COORDS))
    assert many.scale != few.scale
    for part in ("train", "val", "test"):
        assert set(getattr(few, part).ids) <= set(getattr(many, part).ids)


def test_a_lattice_is_recognised(tmp_path):
    assert files.load(write(tmp_path, values=values(), coords=COORDS)).lattice == (2, 3)
    turned = files.load(write(tmp_path, values=values(), coords=COORDS[::-1]))
    assert turned.lattice is None
    own = np.repeat(COORDS[None], 30, 0)
    assert files.load(write(tmp_path, values=values(), coords=own)).lattice is None


def test_splits_that_are_there_stay(tmp_path):
    parts = {f"{part}_values": values(n, seed=n) for part, n in (("train", 8), ("val", 3))}
    data = files.load(write(tmp_path, coords=COORDS, **parts, test_values=values(2, seed=9)))
    assert np.array_equal(data.train.values, parts["train_values"])
    assert np.array_equal(data.val.values, parts["val_values"])
    assert data.val.ids.tolist() == [8, 9, 10] and data.test.ids.tolist() == [0, 1]


def test_coordinates_far_from_one_are_said(tmp_path, capsys):
    files.load(write(tmp_path, values=values(), coords=COORDS))
    assert "coords" not in capsys.readouterr().err
    files.load(write(tmp_path, values=values(), coords=100 * COORDS))
    assert "networks learn best on [-1, 1]" in capsys.readouterr().err


def test_the_first_functions_of_a_sorted_file_are_of_all_classes(tmp_path):
    labels = np.arange(30) // 10
    data = files.load(write(tmp_path, values=values(), coords=COORDS, labels=labels))
    assert set(data.train.labels[:9]) == {0, 1, 2}
    found, kept = together(data)
    assert np.array_equal(found, values()) and np.array_equal(kept, labels)


def test_padding_may_hold_anything(tmp_path):
    mask = np.arange(6) < np.arange(1, 31)[:, None] % 6 + 1
    ragged, coords = values(), np.repeat(COORDS[None], 30, 0)
    whole = files.load(write(tmp_path, values=ragged, coords=coords, mask=mask))
    ragged[~mask], coords[~mask] = np.nan, np.inf
    data = files.load(write(tmp_path, values=ragged, coords=coords, mask=mask))
    assert data.fingerprint == whole.fingerprint and not data.train.shared
    assert np.array_equal(data.train.mask, mask[data.train.ids])
    assert (data.train.values[~data.train.mask] == 0).all()


def test_other_units_are_scaled_by_train_and_said(tmp_path, capsys):
    celsius = 60 * values() - 20
    data = files.load(write(tmp_path, train_values=celsius, coords=COORDS))
    assert "from -19" in capsys.readouterr().err
    found, _ = together(data)
    low, high = celsius.min(), celsius.max()
    assert np.allclose(found, (celsius - low) / (high - low), atol=1e-6)
    found, _ = together(rescaled(data, None))
    np.testing.assert_allclose(found, celsius, atol=1e-4)
    found, _ = together(rescaled(data, (-20.0, 1 / 60)))
    np.testing.assert_allclose(found, values(), atol=1e-5)
    assert rescaled(data, data.scale) is data
    counts = files.load(write(tmp_path, values=np.arange(180).reshape(30, 6), coords=COORDS))
    assert together(counts)[0].max() == 1


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({}, "holds nothing; values and coords are needed"),
        ({"coords": COORDS}, "holds coords; values"),
        ({"values": values()}, "lacks coords"),
        (
            {"values": values(), "train_values": values(), "coords": COORDS},
            "name all by their splits",
        ),
        ({"values": values(), "test_values": values(), "coords": COORDS}, "and test_values"),
        ({"values": values(0), "coords": COORDS}, "(0, 6, 1)"),
        ({"values": values()[0, 0], "coords": COORDS}, "has the shape (1,)"),
        ({"values": values(), "coords": COORDS[:5]}, "coords has the shape (5, 2)"),
        ({"values": values(), "coords": COORDS[:, 0]}, "coords has the shape (6,)"),
        ({"values": values(), "coords": np.zeros((6, 7))}, "7 dimensions"),
        ({"values": values() * np.nan, "coords": COORDS}, "values is not finite"),
        ({"values": values(), "coords": COORDS * np.inf}, "coords is not finite"),
        ({"values": values(), "coords": np.full((6, 2), 1e300)}, "32-bit"),
        ({"values": values() + 1j, "coords": COORDS}, "complex"),
        ({"values": values().astype(str), "coords": COORDS}, "numbers are needed"),
        ({"values": 0 * values() + 7, "coords": COORDS}, "nothing to learn"),
        ({"values": values(), "coords": COORDS, "labels": np.zeros(3, int)}, "30 functions"),
        ({"values": values(), "coords": COORDS, "labels": np.full(30, -1)}, "whole numbers"),
        ({"values": values(), "coords": COORDS, "mask": np.ones((30, 6))}, "bool (30, 6)"),
        ({"values": values(), "coords": COORDS, "mask": np.zeros((30, 6), bool)}, "0 no point"),
        (
            {"train_values": values(), "test_values": values(5, 5), "coords": COORDS},
            "coords has the shape (6, 2)",
        ),
        (
            {
                "train_values": values(),
                "test_values": values(5, channels=2),
                "coords": COORDS,
            },
            "differ in points",
        ),
        (
            {
                "train_values": values(),
                "test_values": values(5),
                "coords": COORDS,
                "test_labels": np.zeros(5, int),
            },
            "labels of test alone",
        ),
        (
            {
                "train_values": np.uint8(values() > 0.5),
                "test_values": values(5),
                "coords": COORDS,
            },
            "values are float32 and uint8; give one type",
        ),
        (
            {"train_values": values(), "test_values": 99 * values(5), "coords": COORDS},
            "those of train stay within -0.5 to 1.5",
        ),
        (
            {
                "train_values": values(),
                "test_values": values(5),
                "coords": COORDS,
                "test_coords": COORDS[::-1],
            },
            "its splits have other points each; give coords of every function",
        ),
        (
            {"values": values(), "coords": 1.7e9 + 10 * np.arange(6)[:, None]},
            "6 points become 1 as 32-bit floats; bring coords to [-1, 1]",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path, arrays, message):
    assert message in fault(write(tmp_path, **arrays))


@given(st.integers(0, 10_000), st.booleans())
def test_damaged_files_are_one_line(tmp_path_factory, place, cut):
    path = write(tmp_path_factory.mktemp("npz"), values=values(), coords=COORDS)
    content = path.read_bytes()
    place %= len(content)
    changed = content[:place] if cut else content[:place] + b"\xff\x00" + content[place + 2 :]
    path.write_bytes(changed)
    try:
        data = files.load(path)
    except UserError as error:
        assert "\n" not in str(error) and str(path) in str(error)
    else:  # bytes that nothing depends on
        assert np.isfinite(data.train.values).all()


def test_what_is_no_data_set(tmp_path):
    assert "no file or folder" in fault(tmp_path / "missing")
    assert "holds no .npy" in fault(tmp_path)
    (tmp_path / "a.txt").write_text("hello")
    assert "no folder and no .npz" in fault(tmp_path / "a.txt")
    (tmp_path / "a.npz").write_text("hello")
    assert "damaged or not" in fault(tmp_path / "a.npz")


# ---- volumes ----


def write_volumes(folder, shape=(3, 4, 5), count=12):
    volumes = np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)
    for number, volume in enumerate(volumes):
        place = folder / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        np.save(place / f"{number:02}.npy", volume)
    return volumes


def test_volumes_come_back_with_their_classes(tmp_path):
    volumes = write_volumes(tmp_path)
    data = files.load(tmp_path)
    found, labels = together(data)
    order = [*range(0, 12, 2), *range(1, 12, 2)]  # a, then b
    assert np.array_equal(found, volumes[order].reshape(12, 60, 1))
    assert labels.tolist() == 6 * [0] + 6 * [1] and data.lattice == (3, 4, 5)
    assert np.array_equal(data.train.coords, lattice_points(3, 4, 5))


def test_volumes_split_by_hand_with_channels(tmp_path):
    write_volumes(tmp_path / "train", (2, 2, 2, 3))
    write_volumes(tmp_path / "test", (2, 2, 2, 3), count=4)
    data = files.load(tmp_path)
    assert len(data.test) == 4 and len(data.train) + len(data.val) == 12
    assert data.train.values.shape[1:] == (8, 3) and sorted(data.test.ids) == [0, 1, 2, 3]


def test_wrong_volumes(tmp_path):
    write_volumes(tmp_path)
    path = tmp_path / "a" / "00.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    assert "00.npy is damaged" in fault(tmp_path)
    for array, message in (
        (np.zeros((3, 4), np.uint8), "three sides"),
        (np.zeros((3, 4, 6), np.uint8), "is (3, 4, 5)"),
        (np.full((3, 4, 5), np.nan), "no finite numbers"),
    ):
        np.save(path, array)
        assert message in fault(tmp_path)
    np.save(path, np.zeros((3, 4, 5), np.uint8))
    write_wav(tmp_path / "a" / "c.wav", np.zeros(5))
    assert "volumes and sound" in fault(tmp_path)


def test_nifti_needs_nibabel(tmp_path, monkeypatch):
    (tmp_path / "a.nii.gz").write_bytes(b"no volume")
    monkeypatch.setitem(sys.modules, "nibabel", None)
    assert "pip install nibabel" in fault(tmp_path)


def test_nifti_volumes(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    volumes = np.random.default_rng(0).integers(-900, 900, (10, 3, 4, 5), np.int16)
    for number, volume in enumerate(volumes):
        nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / f"{number}.nii.gz")
    found, _ = together(files.load(tmp_path))
    scaled = (volumes - volumes.min()) / float(np.ptp(volumes))
    assert np.allclose(found, scaled.reshape(10, 60, 1), atol=1e-6)
    path = tmp_path / "3.nii.gz"
    path.write_bytes(path.read_bytes()[:40])
    assert "3.nii.gz" in fault(tmp_path)


# ---- sound ----


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_sound_of_any_width_comes_back(tmp_path, width):
    samples = np.random.default_rng(0).uniform(-0.9, 0.9, (12, WINDOW))
    for number, one in enumerate(samples):
        write_wav(tmp_path / "ab"[number % 2] / f"{number:02}.wav", one, width=width)
    data = files.load(tmp_path)
    found, labels = together(data)
    order = [*range(0, 12, 2), *range(1, 12, 2)]
    assert np.allclose(2 * found[..., 0] - 1, samples[order], atol=2.0 ** -(8 * width - 1) + 1e-6)
    assert data.modality == "sound" and data.train.mask is None and labels.tolist().count(1) == 6
    assert np.array_equal(data.train.coords, sound.times(WINDOW))


def test_windows_of_one_recording_stay_together(tmp_path):
    random, length = np.random.default_rng(0), WINDOW * 2 + 100
    waves = random.uniform(-1, 1, (12, length, 2)) * 0.5
    for number, one in enumerate(waves):
        write_wav(tmp_path / f"{number:02}.wav", one, channels=2)
    data = files.load(tmp_path)
    for split in (data.train, data.val, data.test):
        assert (np.unique(split.ids // 3, return_counts=True)[1] == 3).all()
        assert np.array_equal(split.mask.sum(1) == 100, split.ids % 3 == 2)
    found, _ = together(data)
    mono = found.reshape(12, -1)[:, :length]
    assert np.allclose(2 * mono - 1, waves.mean(2), atol=1e-4)


def test_wrong_sounds(tmp_path):
    path = write_wav(tmp_path / "a.wav", np.sin(np.arange(5000)) / 2)
    whole = path.read_bytes()
    for content in (b"", whole[:30], whole[:-2000], b"RIFF" + whole[1:]):
        path.write_bytes(content)
        assert "a.wav" in fault(tmp_path)
    path.write_bytes(whole)
    other = write_wav(tmp_path / "b.wav", np.sin(np.arange(5000)) / 2, rate=16_000)
    assert "16,000 samples a second" in fault(tmp_path)
    other.unlink()
    write_wav(path, np.zeros(3000))
    assert "silence" in fault(tmp_path)
    write_wav(path, np.zeros(0))
    assert "holds no sound" in fault(tmp_path)


@given(st.integers(0, 4000), st.integers(0, 255))
def test_damaged_sounds_are_one_line(tmp_path_factory, place, byte):
    folder = tmp_path_factory.mktemp("wav")
    path = write_wav(folder / "a.wav", np.sin(np.arange(1000)) / 2)
    content = bytearray(path.read_bytes())
    place %= len(content)
    content[place] = byte
    path.write_bytes(content if byte % 2 else content[:place])
    try:
        assert np.isfinite(files.load(folder).train.values).all()
    except UserError as error:
        assert "\n" not in str(error)
    shutil.rmtree(folder)


def test_silent_windows_are_left_out_and_said(tmp_path, capsys):
    wave = np.concatenate([np.zeros(WINDOW), np.sin(np.arange(WINDOW)) / 2])
    write_wav(tmp_path / "a.wav", wave)
    data = files.load(tmp_path)
    assert len(data.train) == 1 and data.train.mask is None
    assert "1 silent window left out" in capsys.readouterr().err
