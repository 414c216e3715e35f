"""Runs of the same settings and other seeds, or other parts, of several machines become one."""

from pathlib import Path

from groundfloor.errors import UserError
from groundfloor.runs import changes, copy_file, read_dict, read_json, write_json


def join(run, others, parts, same, may_differ=("seeds",)):
    """Take over the finished parts of other run folders that `run` lacks.

    others: folders. parts: patterns of the files in such a folder that say that a part is finished;
    files of its name with other suffixes belong to it. same: dict of a pattern -> function of a
    path, whose value all runs must have in common (the network that their parts begin with); its
    file is taken over where there is none. may_differ: settings that say which parts a run has.
    joined.json says what came from where, each part before it is there. UserError, in one line, if
    anything else of a run differs, or if it does not say who made it: then nothing of it is taken.
    """
    for other in map(Path, others):
        settings = read_dict(other / "config.json", "settings")
        changed = changes({**run.known, **settings}, {**run.known, **run.config}, but=may_differ)
        if changed:
            raise UserError(f"{other} cannot be joined: it has other settings ({changed})")
        makers = _makers(other)
        shared = [path for pattern in same for path in sorted(other.glob(pattern))]
        for pattern, value in same.items():
            _refuse_another(run, other, pattern, value)
        for part in (*shared, *(p for pattern in parts for p in sorted(other.glob(pattern)))):
            if not run.path(part.relative_to(other)).exists():
                _take(run, other, part, makers)


def _refuse_another(run, other, pattern, value):
    theirs, ours = sorted(other.glob(pattern)), sorted(run.folder.glob(pattern))
    if ours and not set(map(value, theirs)) <= set(map(value, ours)):
        raise UserError(
            f"{other} cannot be joined: its {theirs[0].name} is another. Runs that shall be joined "
            "begin alike: --join the first one's folder before anything is trained"
        )


def _makers(folder):
    """Who made a run folder: its own environment, and {part: environment} of joined parts."""
    own = read_dict(folder / "environment.json", "environment", "commit", "finished")
    path = folder / "joined.json"
    try:
        joined = read_json(path) if path.exists() else []
        parts = {part: {**one, "parts": []} for one in joined for part in one["parts"]}
        if not all(isinstance(one["finished"], str) for one in parts.values()):
            raise TypeError
    except (KeyError, TypeError):
        raise UserError(f"{path} does not say who made what") from None
    return own, parts


def _take(run, other, part, makers):
    """Copy a part, last the file that says that it is finished; before it, who made it."""
    belonging = [path for path in part.parent.iterdir() if path.stem == part.stem and path != part]
    for path in filter(Path.is_file, belonging):
        copy_file(path, run.path(path.relative_to(other)))
    name = str(part.relative_to(other).with_suffix(""))
    own, others = makers
    maker = {**others.get(name, own), "parts": []}
    known = read_json(run.joined) if run.joined.exists() else []
    for one in known:  # said already, before a kill
        one["parts"] = [other for other in one["parts"] if other != name]
    mine = next((one for one in known if {**one, "parts": []} == maker), None)
    if mine is None:
        known.append(mine := maker)
    mine["parts"].append(name)
    write_json(run.joined, [one for one in known if one["parts"]])
    copy_file(part, run.path(part.relative_to(other)))
