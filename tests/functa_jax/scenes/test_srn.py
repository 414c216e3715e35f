"""srn: folders as SRN cars has them, whole and damaged."""

import shutil

import numpy as np
import pytest
from PIL import Image

from functa_jax.scenes import cameras, srn
from groundfloor.errors import UserError

SIDE = 8


def write_object(folder, number, views=3):
    """One object: noise, seen from cameras of its own."""
    random = np.random.default_rng(number)
    poses = cameras.look_at(random.normal(size=(views, 3))) @ srn.AXES
    for part in ("rgb", "pose"):
        (folder / part).mkdir(parents=True)
    (folder / "intrinsics.txt").write_text(
        f"{SIDE * cameras.FOCAL} 4.0 4.0 0.\n0. 0. 0.\n1.\n8 8\n"
    )
    pixels = random.integers(0, 256, (views, SIDE, SIDE, 3), np.uint8)
    for view in range(views):
        Image.fromarray(pixels[view]).save(folder / "rgb" / f"{view:06d}.png")
        np.savetxt(folder / "pose" / f"{view:06d}.txt", poses[view].reshape(1, 16))
    return pixels, poses @ srn.AXES


@pytest.fixture
def cars(tmp_path):
    written = {}
    for number, part in enumerate(("train", "train", "val", "test")):
        folder = tmp_path / f"cars_{part}" / f"object{number}"
        written[number] = write_object(folder, number, views=3 + number)
    return tmp_path, written


def test_colours_and_rays_are_those_of_the_files(cars):
    path, written = cars
    data = srn.load(path, side=SIDE)
    assert (data.modality, data.lattice, data.num_classes) == ("scenes", (3, SIDE, SIDE), 0)
    assert [len(getattr(data, part)) for part in srn.PARTS] == [2, 1, 1]
    pixels, poses = written[0]
    np.testing.assert_array_equal(data.train.values[0], pixels.reshape(-1, 3))
    np.testing.assert_allclose(
        data.train.coords[0], cameras.rays(poses, SIDE).reshape(-1, 6), atol=1e-5
    )
    # Of six views the three that are evenly spread.
    np.testing.assert_array_equal(data.test.values[0], written[3][0][::2].reshape(-1, 3))
    assert srn.load(path, side=SIDE).fingerprint == data.fingerprint
    assert len(srn.load(path, images=1, side=SIDE).train) == 1


def test_an_object_with_a_view_of_one_colour_is_left_out(cars, capsys):
    path, _ = cars
    white = Image.new("RGB", (SIDE, SIDE), "white")
    white.save(path / "cars_train" / "object0" / "rgb" / "000001.png")
    assert len(srn.load(path, side=SIDE).train) == 1
    assert "left out 1 object" in capsys.readouterr().out


def test_objects_without_splits_are_drawn_by_content(tmp_path):
    for number in range(12):
        write_object(tmp_path / f"o{number}", number, views=1)
    data = srn.load(tmp_path, side=SIDE)
    sizes = [len(getattr(data, part)) for part in srn.PARTS]
    assert sum(sizes) == 12 and min(sizes) >= 1
    (tmp_path / "o0").rename(tmp_path / "z")
    again = srn.load(tmp_path, side=SIDE)
    rows = sorted(map(bytes, data.test.values))
    assert rows == sorted(map(bytes, again.test.values))


DAMAGES = {
    "intrinsics.txt does not exist": lambda o: (o / "intrinsics.txt").unlink(),
    "focal length is -3": lambda o: (o / "intrinsics.txt").write_text("-3 4 4 0"),
    "intrinsics.txt is damaged": lambda o: (o / "intrinsics.txt").write_text("\n"),
    "one of each is needed": lambda o: (o / "pose" / "000001.txt").unlink(),
    "000001.txt is damaged": lambda o: (o / "pose" / "000001.txt").write_text("1 0 0"),
    "not orthonormal": lambda o: (o / "pose" / "000001.txt").write_text("2 " * 16),
    "000001.png is damaged": lambda o: (o / "rgb" / "000001.png").write_bytes(b"\x89PNG no"),
    "0 pictures": lambda o: shutil.rmtree(o / "rgb"),
    "whose name ends in train": lambda o: shutil.rmtree(o.parent) or o.parent.mkdir(),
}


@pytest.mark.parametrize("phrase", DAMAGES)
def test_a_bad_folder_is_one_line(phrase, cars):
    path, _ = cars
    shutil.rmtree(path / "cars_train" / "object1")
    DAMAGES[phrase](path / "cars_train" / "object0")
    with pytest.raises(UserError) as caught:
        srn.load(path, side=SIDE)
    assert phrase in str(caught.value) and str(path) in str(caught.value)


def test_no_folder_and_an_empty_one(tmp_path):
    for path, phrase in ((tmp_path / "x", "no folder of scenes"), (tmp_path, "has no objects")):
        with pytest.raises(UserError, match=phrase):
            srn.load(path)
