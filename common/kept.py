"""Files that a stopped run goes on from, one a step, which survive kills and damage.

The name of a file holds the step and a digest of its bytes: `0000004690-1f2e3d4c5b6a7988.pt`.
"""

import hashlib
import re

from common.errors import UserError
from common.runs import Stopping, atomic

NAME = re.compile(r"(\d{10})-[0-9a-f]{16}(\.\w+)")


def save(folder, step, content, suffix, keep):
    """Write bytes as the state of `step`, in place of any other of this step.

    Of the files of earlier steps the newest remain, `keep` in all; those of later steps (damaged
    ones that the run could not go on from) stay until the run comes there.
    """
    path = folder / f"{step:010d}-{_digest(content)}{suffix}"
    with atomic(path) as temporary:
        temporary.write_bytes(content)
    remember(folder, step)
    others = [other for other in _files(folder, suffix) if other != path]
    earlier = [other for other in others if _step(other) < step]
    same = [other for other in others if _step(other) == step]
    for old in same + earlier[: max(0, len(earlier) + 1 - keep)]:
        old.unlink()


def newest(folder, suffix, say=print):
    """(path, bytes) of the newest good file, or None where nothing was kept.

    Nothing is deleted here, `say` hears of each damaged file. UserError if a file cannot be read,
    or if none of those there is good: then it is the user who decides to begin anew.
    """
    paths = _files(folder, suffix)
    for path in reversed(paths):
        try:
            content = path.read_bytes()
        except (OSError, MemoryError) as error:
            raise unreadable(path, error) from None
        if path.stem.split("-")[1] == _digest(content):
            return path, content
        say(f"checkpoint {path.name} is damaged and was skipped")
    if paths or any(not path.name.startswith(".") for path in _entries(folder)):
        raise UserError(f"no checkpoint in {folder} is good; move them away to begin anew")
    return None


def unreadable(path, error):
    """The UserError for a file that may be whole but could not be read."""
    return UserError(f"{path} cannot be read: {getattr(error, 'strerror', 0) or 'out of memory'}")


def remember(folder, step):
    """From here on, whoever stops the command is told that `step` is kept."""
    if step > 0:
        Stopping.kept = f"step {step:,} in {folder.parent}"


def _files(folder, suffix):
    """The files of all steps, oldest first; two of one step, after a kill, by time."""
    names = [path for path in _entries(folder) if NAME.fullmatch(path.name)]
    return sorted(
        (path for path in names if path.suffix == suffix),
        key=lambda path: (_step(path), path.stat().st_mtime_ns),
    )


def _entries(folder):
    try:
        return list(folder.iterdir()) if folder.exists() else []
    except (OSError, MemoryError) as error:
        raise unreadable(folder, error) from None


def _step(path):
    return int(path.name[:10])


def _digest(content):
    return hashlib.sha256(content).hexdigest()[:16]
