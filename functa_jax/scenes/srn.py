"""Scenes from folders in the layout of SRN cars (Sitzmann et al. 2019): one folder an object.

    PATH[/cars_train, /cars_val, /cars_test]/OBJECT/rgb/*.png, pose/*.txt, intrinsics.txt

A pose is the 4 x 4 matrix from camera to world, with y down and z forward; the first number of
intrinsics.txt is the focal length in pixels. Read as DeepMind's functa does (srn_cars.py): axes
turned to y up and z backward, and objects with a view of one colour left out.
"""

import contextlib
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from functa_jax.scenes import cameras
from groundfloor.data import pictures
from groundfloor.data.functions import Functions, FunctionSet, fingerprint
from groundfloor.data.split import PARTS, drawn
from groundfloor.errors import UserError, first_line, reading
from groundfloor.runs import Progress, counted

AXES = np.diag([1.0, -1.0, -1.0, 1.0])
VIEWS, SIDE = 24, 32  # of an object, at most; pixels of a picture's side


@dataclass(frozen=True)
class Object:
    """Files of one object: pictures and poses, one a view, and the focal length in pixels."""

    folder: Path
    pictures: tuple[Path, ...]
    poses: tuple[Path, ...]
    focal: float

    @classmethod
    def of(cls, folder):
        """The object in a folder; UserError, in one line, for a folder that is none."""
        with reading(folder / "intrinsics.txt", "the intrinsics of a camera"):
            focal = float((folder / "intrinsics.txt").read_text().split()[0])
            if not 0 < focal < np.inf:
                raise ValueError(f"its focal length is {focal:g}")
        views = tuple(sorted((folder / "rgb").glob("*.png")))
        poses = tuple(sorted((folder / "pose").glob("*.txt")))
        if not views or [path.stem for path in views] != [path.stem for path in poses]:
            raise UserError(
                f"{folder} has {counted(len(views), 'picture')} in rgb and "
                f"{counted(len(poses), 'pose')}: one of each is needed for a view, of one name"
            )
        return cls(folder, views, poses, focal)

    def read(self, views, side):
        """(colours uint8 (views, side * side, 3), rays (views, side * side, 6)) of `views` of
        them, evenly spread."""
        rows = np.arange(views) * len(self.pictures) // views
        colours, poses = [], []
        for row in rows:
            path = self.pictures[row]
            try:
                height, width, _ = pictures.describe(path)
                colours.append(pictures.read(path, 3, side).reshape(-1, 3))
            except (OSError, ValueError, SyntaxError) as error:
                raise UserError(f"{path} is damaged or no picture ({first_line(error)})") from None
            poses.append(_pose(self.poses[row]))
        focal = self.focal / min(height, width)
        return np.stack(colours), cameras.rays(np.stack(poses) @ AXES, side, focal)


def _pose(path):
    with reading(path, "a pose"):
        pose = np.array(path.read_text().split(), np.float64)
        if pose.size != 16 or not np.isfinite(pose).all():
            raise ValueError(f"{counted(pose.size, 'number')}, not 16 that are finite")
        turn = pose.reshape(4, 4)[:3, :3]
        if not np.allclose(turn @ turn.T, np.eye(3), atol=1e-3):
            raise ValueError("its axes are not orthonormal")
        return pose.reshape(4, 4)


def load(path, images=None, views=VIEWS, side=SIDE):
    """A FunctionSet of the objects in a folder: colours of rays, each object's own.

    images: at most this many objects of each split; views: of an object, as many as the one with
    fewest has at most; side: of the pictures, which are cut square and made smaller. Where
    the folder has no cars_train, cars_val and cars_test (or other names that end so), an eighth of
    the objects each is drawn for val and test by their content. UserError, in one line, for what
    cannot be read.
    """
    path = Path(path).expanduser()
    folders = _splits(path)
    objects = {part: [Object.of(folder) for folder in folders[part]] for part in PARTS}
    if images:
        objects = {part: found[:images] for part, found in objects.items()}
    every = [one for part in PARTS for one in objects[part]]
    views = min(views, *(len(one.pictures) for one in every))
    read, blank = {}, 0
    with Progress(len(every), "object") as progress:
        for one in every:
            colours, rays = one.read(views, side)
            if (np.ptp(colours, axis=(1, 2)) > 0).all():
                read[one.folder] = colours, rays
            else:
                blank += 1
            progress.advance(1)
    if blank:
        print(f"left out {counted(blank, 'object')} with a view of one colour", flush=True)
    splits = {}
    for part in PARTS:
        kept = [read[one.folder] for one in objects[part] if one.folder in read]
        shape = len(kept), views * side**2
        values = np.array([colours for colours, _ in kept], np.uint8).reshape(*shape, 3)
        coords = np.array([rays for _, rays in kept], np.float32).reshape(*shape, 6)
        splits[part] = Functions(values, coords, np.full(len(kept), -1), np.arange(len(kept)))
    digest = fingerprint(*splits.values())
    return FunctionSet(
        str(path.resolve()),  # by which it is found again
        "scenes",
        splits["train"],
        splits["val"],
        splits["test"],
        num_classes=0,
        fingerprint=digest,
        lattice=(views, side, side),
    )


def is_folder(path):
    """Whether a path is a folder in this layout."""
    with contextlib.suppress(OSError, RuntimeError, ValueError):  # of a name that is no path
        path = Path(path).expanduser()
        return any(any(path.glob(f"{above}/intrinsics.txt")) for above in ("*", "*/*"))
    return False


def _splits(path):
    """{part: folders of objects}."""
    if not path.is_dir():
        raise UserError(f"{path} is no folder of scenes")
    inside = _folders(path)
    named = {
        part: [entry for entry in inside if entry.name.endswith(f"_{part}") or entry.name == part]
        for part in PARTS
    }
    if any(named.values()):
        found = {part: [one for top in named[part] for one in _folders(top)] for part in PARTS}
        if not found["train"]:
            raise UserError(f"{path} has no objects in a folder whose name ends in train")
        return found
    if not inside:
        raise UserError(f"{path} has no objects: folders with rgb, pose and intrinsics.txt")
    keys = [_key(folder) for folder in inside]
    test = drawn(keys, 1 / 8, "test")
    rest = [key for key, held in zip(keys, test, strict=True) if not held]
    val = np.zeros(len(keys), bool)
    val[~test] = drawn(rest, 1 / 7, "val") if rest else False
    names = np.where(test, "test", np.where(val, "val", "train"))
    return {part: [inside[row] for row in np.flatnonzero(names == part)] for part in PARTS}


def _folders(path):
    return sorted(entry for entry in path.iterdir() if entry.is_dir())


def _key(folder):
    """What an object is drawn by: a digest of its first picture."""
    digest = hashlib.sha256()
    for path in sorted((folder / "rgb").glob("*.png"))[:1]:
        digest.update(path.read_bytes())
    return digest.digest()
