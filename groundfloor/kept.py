"""Files or folders that a stopped run goes on from, one a step, which survive kills and damage.

The name of a file holds the step and a digest of its bytes: `0000004690-1f2e3d4c5b6a7988.pt`.
That of a folder holds a digest of the names and bytes of all files in it.
"""

import hashlib
import re
import shutil

from groundfloor.errors import UserError, unreadable
from groundfloor.runs import Stopping, atomic

NAME = re.compile(r"\d{10}-[0-9a-f]{16}(\.\w+)?")
HALF = re.compile(r"\.+\d{10}\b.*")  # half written or half deleted when the run was killed


def save(folder, step, content, suffix, keep):
    """Keep `content` as the state of `step`, in place of any other of this step.

    content: bytes of a file, or a function that writes a folder in place of an empty one, whose
    path it is given. Of earlier steps the newest remain, `keep` in all; those of later steps
    (damaged ones that the run could not go on from) stay until the run comes there.
    """
    for half in [path for path in _entries(folder) if HALF.fullmatch(path.name)]:
        _delete(half)
    if callable(content):
        whole = folder / f".{step:010d}"
        with atomic(whole) as temporary:
            temporary.mkdir()
            content(temporary)
        path = _path(folder, step, _read(whole), suffix)
        if path.exists():  # a folder cannot replace another
            _remove(path)
        whole.rename(path)
    else:
        path = _path(folder, step, content, suffix)
        with atomic(path) as temporary:
            temporary.write_bytes(content)
    remember(folder, step)
    others = [other for other in _all(folder, suffix) if other != path]
    earlier = [other for other in others if _step(other) < step]
    same = [other for other in others if _step(other) == step]
    for old in same + earlier[: max(0, len(earlier) + 1 - keep)]:
        _remove(old)


def newest(folder, suffix, say=print):
    """(path, bytes) of the newest good file or folder, or None where nothing was kept.

    The bytes of a folder list what is in it. Nothing is deleted here, `say` hears of each damaged
    one. UserError if one cannot be read, or if none of those there is good: then it is the user who
    decides to begin anew.
    """
    paths = _all(folder, suffix)
    for path in reversed(paths):
        good, content = _checked(path)
        if good:
            return path, content
        say(f"checkpoint {path.name} is damaged and was skipped")
    if paths or any(not path.name.startswith(".") for path in _entries(folder)):
        raise UserError(f"no checkpoint in {folder} is good; move them away to begin anew")
    return None


def forget(folder, suffix, step):
    """Remove what is kept of `step` and of later ones, if something good is kept of an earlier."""
    paths = _all(folder, suffix)
    later = [path for path in paths if _step(path) >= step]
    if any(_checked(path)[0] for path in paths if path not in later):
        for path in later:
            _remove(path)


def remember(folder, step):
    """From here on, whoever stops the command is told that `step` is kept."""
    if step > 0:
        Stopping.kept = f"step {step:,} in {folder.parent}"


def _all(folder, suffix):
    """What is there of all steps, oldest first; two of one step, after a kill, by time."""
    paths = [path for path in _entries(folder) if NAME.fullmatch(path.name)]
    try:
        return sorted(
            (path for path in paths if path.suffix == suffix),
            key=lambda path: (_step(path), path.stat().st_mtime_ns),
        )
    except OSError as error:
        raise unreadable(error.filename, error) from None


def _entries(folder):
    try:
        return list(folder.iterdir()) if folder.exists() else []
    except (OSError, MemoryError) as error:
        raise unreadable(folder, error) from None


def _path(folder, step, content, suffix):
    return folder / f"{step:010d}-{_digest(content)}{suffix}"


def _read(path):
    """The bytes of a file; of a folder, the names and digests of all that is in it."""
    if not path.is_dir():
        return path.read_bytes()
    parts = sorted(path.iterdir())
    return "".join(f"{part.name} {_digest(_read(part))}\n" for part in parts).encode()


def _checked(path):
    """Whether the content is what was saved, and its bytes; UserError if it cannot be read."""
    try:
        content = _read(path)
    except (OSError, MemoryError) as error:
        raise unreadable(path, error) from None
    return path.stem.split("-")[1] == _digest(content), content


def _remove(path):
    if path.is_dir():  # half deleted, it would look damaged
        path = path.rename(path.with_name(f".{path.name}"))
    _delete(path)


def _delete(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def _step(path):
    return int(path.name[:10])


def _digest(content):
    return hashlib.sha256(content).hexdigest()[:16]
