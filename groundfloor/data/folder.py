"""A folder of one's own images: in class folders or without labels, split by hand or not.

photos/cat/a.jpg  photos/dog/b.png          classes cat and dog
photos/a.jpg  photos/b.png                  no labels
photos/train/cat/a.jpg  photos/test/...     splits as they are, each as above
"""

import hashlib
import sys
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image, UnidentifiedImageError

from groundfloor.data import decoded, pictures
from groundfloor.data.split import SPLIT_SEED, Split
from groundfloor.errors import UserError, first_line
from groundfloor.machine import cores
from groundfloor.runs import counted

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
PARTS = {  # folders, in any case
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
KEEP_FROM = 2**24  # bytes of files; of larger folders the decoded pixels are kept


def read(folder, resolution=None, skip_damaged=False):
    """({"train": Split, ...}, number of classes, 0 without labels, digests of train) of a folder,
    or of one image file.

    val and test are there where they are folders beside train, and no others are. Hidden files and
    links to folders above are passed over. ids count the files in the order of their names, train's
    and then val's; those of classes come in a fixed random order, so that the first ones are of all
    classes. The digests, bytes by id, are of the content of the files; b"" of damaged ones.
    Channels: 1 where all images are grey, else 3, and alpha where all have it and any is
    transparent. resolution: as of `pictures.read`; None: all must be of one size.
    Raises UserError for what is mixed up or damaged; damaged files are left out if asked to.
    """
    paths, ignored = _image_files(folder)
    parts, labels, classes = layout(folder, paths)
    counts = Counter(parts)
    print(
        f"{folder}: {counted(len(paths), 'image')} "
        + (
            f"of {counted(len(classes), 'class', 'classes')} ({_some(classes)})"
            if classes
            else "without labels"
        )
        + "".join(f", {counts[part]:,} in {part}" for part in counts if len(counts) > 1)
        + (f"; {counted(ignored, 'other file')} ignored" if ignored else ""),
        file=sys.stderr,
    )
    place = _place(folder, paths, resolution, skip_damaged)
    kept = place and decoded.read(place)
    if kept:
        if damaged := len(paths) - sum(map(len, kept[0].values())):
            print(f"left out, damaged: {counted(damaged, 'file')}", file=sys.stderr)
        return *kept, _contents(paths, parts)
    images, good = _read_all(folder, paths, resolution, skip_damaged)
    parts, labels = np.array(parts), np.array(labels, np.int64)
    splits = {}
    for part in ("train", "val", "test"):
        rows = np.flatnonzero((parts == part) & good)
        if part == "train" and not len(rows):
            raise UserError(f"{folder}: none of its train images can be read")
        if part not in counts:
            continue
        ids = rows - np.argmax(parts == ("test" if part == "test" else "train"))
        order = np.arange(len(rows))
        if classes:
            np.random.default_rng(SPLIT_SEED).shuffle(order)
        splits[part] = Split(images[rows[order]], labels[rows[order]], ids[order])
    if place and decoded.writable(place):
        decoded.write(place, splits, len(classes))
    return splits, len(classes), _contents(paths, parts)


# ---- which files ----


def _image_files(folder):
    """(paths of its images, by part and then by name; how many other files there are)."""
    if (folder / "dataset_info.json").is_file():
        raise UserError(
            f"{folder} is a prepared TFDS set: give --dataset {folder.parent.name} "
            f"--data-dir {folder.parent.parent}"
        )
    paths = list(files(folder))
    images = [path for path in paths if path.suffix.lower() in SUFFIXES]
    if not images:
        others = f", only {counted(len(paths), 'other file')}" if paths else ""
        raise UserError(f"{folder} holds no images ({', '.join(SUFFIXES)}){others}")
    return images, len(paths) - len(images)


def files(path, above=()):
    """All files below a path that are not hidden, in the order of their names."""
    if not path.is_dir():
        yield path
        return
    real = path.resolve()
    if real in above:  # a link that leads back
        return
    for inner in sorted(path.iterdir()):
        usual = inner.is_dir() or inner.is_file() or inner.is_symlink()  # no pipe, no device
        if usual and not inner.name.startswith("."):
            yield from files(inner, (*above, real))


def layout(folder, paths):
    """(part of each image, label of each, names of classes), by the folders that they lie in.

    `paths` are sorted in place: train, val, test.
    """
    if paths == [folder]:
        return ["train"], [-1], []
    inner = {path: path.relative_to(folder).parts for path in paths}
    tops = {parts[0] for parts in inner.values() if len(parts) > 1}
    flat = [path for path, parts in inner.items() if len(parts) == 1]
    part_of = dict.fromkeys(paths, "train")
    named = {top: PARTS[top.lower()] for top in tops if top.lower() in PARTS}
    split_by_hand = "train" in named.values() and len(named) == len(tops) and not flat
    deep = {parts[0] for parts in inner.values() if len(parts) > 2}
    looks_like_splits = len(set(named.values())) > 1 or deep & named.keys()
    if looks_like_splits and not split_by_hand:  # as classes, test would be trained on
        raise UserError(
            f"{folder} holds {_some(sorted(named))}, which look like splits: there must be train "
            "among them, and no other folders or images beside them"
        )
    if split_by_hand:
        part_of = {path: named[parts[0]] for path, parts in inner.items()}
        paths.sort(key=lambda path: list(dict.fromkeys(PARTS.values())).index(part_of[path]))
        inner = {path: parts[1:] for path, parts in inner.items()}
        flat = [path for path, parts in inner.items() if len(parts) == 1]
    if 0 < len(flat) < len(paths):
        raise UserError(f"{flat[0]} lies beside class folders: move it into one of them, or away")
    classes = [] if flat else sorted({parts[0] for parts in inner.values()})
    number = {name: label for label, name in enumerate(classes)}
    labels = [number[inner[path][0]] if classes else -1 for path in paths]
    return [part_of[path] for path in paths], labels, classes


def _some(names, most=5):
    return ", ".join(map(str, names[:most])) + (", ..." if len(names) > most else "")


# ---- their pixels ----


def _place(folder, paths, resolution, skip_damaged):
    """Where the decoded pixels are kept, or None."""
    try:
        if sum(path.stat().st_size for path in paths) < KEEP_FROM:
            return None
    except OSError:  # a link that leads nowhere: reading says so
        return None
    names = "\n".join(path.relative_to(folder).as_posix() for path in paths)
    made_by = f"{resolution} {skip_damaged}\n{names}"
    where = hashlib.sha256(str(folder).encode()).hexdigest()[:8]
    return decoded.place(f"{folder.name}-{where}-{resolution}", paths, made_by)


def _read_all(folder, paths, resolution, skip_damaged):
    """(uint8 images (n, h, w, c), which of them are good), of all paths."""
    faults = {}

    def attempt(function, path, *args):
        try:
            return function(path, *args)
        except (PermissionError, MemoryError):
            raise
        except UnidentifiedImageError:
            faults[path] = f"no {', '.join(pictures.FORMATS)}"
        except Exception as error:  # Pillow raises many kinds for the same damage
            faults[path] = getattr(error, "strerror", None) or first_line(error)

    with warnings.catch_warnings(), ThreadPoolExecutor(cores()) as pool:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # twice as many are a fault
        heads = list(pool.map(lambda path: attempt(pictures.describe, path), paths))
        good = [(path, head) for path, head in zip(paths, heads, strict=True) if head]
        if not good:
            raise UserError(f"{folder}: none of its images can be read: {_named(folder, faults)}")
        size = (resolution, resolution) if resolution else _common_size(good)
        channels = _common_channels([head[2] for _, head in good])
        try:
            images = np.empty((len(paths), *size, channels), np.uint8)
        except (MemoryError, ValueError):  # ValueError: beyond what an address can count
            raise UserError(
                f"{folder}: {len(paths):,} images of {size[0]}x{size[1]} do not fit into memory"
            ) from None

        def fill(row):
            image = attempt(pictures.read, paths[row], channels, resolution)
            if image is not None:
                images[row] = image

        list(pool.map(fill, [row for row, head in enumerate(heads) if head]))
    if faults and not skip_damaged:
        raise UserError(
            f"{folder}: {len(faults):,} damaged of {counted(len(paths), 'image')}: "
            f"{_named(folder, faults)}; --skip-damaged leaves them out"
        )
    if faults:
        print(f"left out, damaged: {len(faults):,}: {_named(folder, faults)}", file=sys.stderr)
    good = np.array([path not in faults for path in paths])
    if channels in (2, 4) and (images[good][..., -1] == 255).all():
        images = images[..., :-1]
    return images, good


def _contents(paths, parts):
    """Digests of the files of train, in their order."""

    def digest(path):
        try:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").digest()
        except OSError:  # damaged, and left out
            return b""

    train = [path for path, part in zip(paths, parts, strict=True) if part == "train"]
    with ThreadPoolExecutor(cores()) as pool:
        return list(pool.map(digest, train))


def _named(folder, faults):
    names = sorted(f"{path.relative_to(folder)} ({why})" for path, why in faults.items())
    return _some(names)


def _common_size(good):
    sizes = Counter(head[:2] for _, head in good)
    usual = sizes.most_common(1)[0][0]
    for path, (height, width, _) in good:
        if (height, width) != usual:
            raise UserError(
                f"{path} is {height}x{width}, others are {usual[0]}x{usual[1]}: --resolution "
                "gives all one size"
            )
    return usual


def _common_channels(each):
    alpha = all(channels in (2, 4) for channels in each)
    return (1 if max(each) < 3 else 3) + alpha
