"""Runs of the same settings and other seeds, of several machines, become one."""

from pathlib import Path

from groundfloor.errors import UserError
from groundfloor.runs import changes, copy_file, read_dict, read_json, write_json


def join(run, others, parts, same):
    """Take over the finished parts of other run folders that `run` lacks.

    others: folders. parts: patterns of the files in such a folder that say that a part is finished;
    files of its name with other suffixes belong to it. same: dict of a pattern -> function of a
    path, whose value all runs must have in common (the network that their parts begin with); its
    file is taken over where there is none. joined.json says what came from where. UserError, in one
    line, if anything but the seeds of a run differs: then nothing of it is taken over.
    """
    for other in map(Path, others):
        settings = read_dict(other / "config.json", "settings")
        changed = changes({**run.known, **settings}, {**run.known, **run.config}, but=("seeds",))
        if changed:
            raise UserError(f"{other} cannot be joined: it has other settings ({changed})")
        _share(run, other, same)
        taken = {
            str(part.relative_to(other).with_suffix(""))
            for pattern in parts
            for part in sorted(other.glob(pattern))
            if _take(run, other, part)
        }
        if taken:
            known = read_json(run.joined) if run.joined.exists() else []
            write_json(run.joined, [*known, *_made(other, taken)])


def _share(run, other, same):
    for pattern, value in same.items():
        theirs, ours = sorted(other.glob(pattern)), sorted(run.folder.glob(pattern))
        if ours and not set(map(value, theirs)) <= set(map(value, ours)):
            raise UserError(f"{other} cannot be joined: its {theirs[0].name} is another")
        for path in theirs:
            _take(run, other, path)


def _take(run, other, part):
    """Copy a part, last the file that says that it is finished; whether it was missing."""
    if run.path(part.relative_to(other)).exists():
        return False
    belonging = [path for path in part.parent.iterdir() if path.stem == part.stem and path != part]
    for path in (*filter(Path.is_file, belonging), part):
        copy_file(path, run.path(path.relative_to(other)))
    return True


def _made(folder, taken):
    """Who made the parts of a run folder that were taken: list of environments with `parts`."""
    joined, made = folder / "joined.json", []
    for one in read_json(joined) if joined.exists() else []:
        made.append({**one, "parts": sorted(taken & {*one["parts"]})})
        taken = taken - {*one["parts"]}
    own = read_dict(folder / "environment.json", "environment", "commit")
    made.append({**own, "parts": sorted(taken)})
    return [one for one in made if one["parts"]]
