"""Run folders: config.json, environment.json, metrics.jsonl, summary.json, checkpoints/, figures/.

Everything is written under a temporary name and renamed, so that a file is whole or absent.
"""

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import re
import shutil
import sys
import time
import weakref
from operator import itemgetter
from pathlib import Path
from statistics import mean, stdev

from groundfloor.errors import UserError, unreadable
from groundfloor.machine import environment, now

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


@contextlib.contextmanager
def atomic(path):
    """Yield a temporary path beside `path`; it becomes `path` when the block ends well.

    A place that cannot be written and a full disk are a UserError.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        beside = error.filename and Path(error.filename) in (temporary, *temporary.parents)
        if beside or error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise UserError(f"cannot write {path}: {error.strerror}") from None
        raise
    finally:
        with contextlib.suppress(OSError):  # where the folder is none
            temporary.unlink()


def _unfinished(path):
    """Whether a kill may have left this file, inside `atomic` or before config.json was there."""
    whole = path.name in (".lock", "environment.json")
    return whole or re.fullmatch(r"\..+\.\d+(\.\w+)?", path.name)


def write_json(path, value):
    """Write `value` as indented JSON, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n")


def copy_file(source, target):
    """Copy a file, whole or not at all."""
    with atomic(target) as temporary:
        shutil.copy(source, temporary)


def read_json(path):
    """The value in a JSON file; a missing or damaged one is a UserError that names it."""
    try:
        return json.loads(Path(path).read_text())
    except OSError as error:
        raise unreadable(path, error) from None
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error})") from None


def read_dict(path, what, *keys):
    """The dict in a JSON file; UserError as `read_json`, and where it holds no `what` with these
    keys."""
    value = read_json(path)
    if not isinstance(value, dict) or not all(key in value for key in keys):
        raise UserError(f"{path} is damaged (it holds no {what})")
    return value


class Stopping:
    """What a stopped command would go on from: said when the user presses Ctrl-C.

    `kept` is None until something is kept, then words such as "step 500 in runs/x".
    """

    kept = None
    asked = False  # whether Ctrl-C was pressed


_locks = weakref.WeakValueDictionary()  # (device, inode) of a lock's file: the open file


def lock(folder):
    """Keep other processes out of a folder as long as the returned object lives.

    UserError if another process is in it. Within one process all share the lock; the system takes
    it back from a killed one. File systems and systems without such locks go unguarded.
    """
    path = Path(folder) / ".lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    except OSError:  # who writes here will say so
        return None
    status = os.fstat(file.fileno())
    place = (status.st_dev, status.st_ino)
    if (held := _locks.get(place)) is not None:
        return held
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise UserError(
                f"another command is at work in {folder}: wait until it ends, or choose another "
                "--name or --out"
            ) from None
        except OSError:  # a network's file system
            pass
    _locks[place] = file  # not before: a refused one may live on in a traceback
    return file


@contextlib.contextmanager
def locked(folder):
    """As `lock`, for a block."""
    held = lock(folder)
    try:
        yield
    finally:
        del held


class Run:
    """A run folder. Opening an existing one resumes it, if settings and data are the same.

    No other process can open it as long as this object lives.
    """

    def __init__(self, folder, settings, *, data_fingerprint, files=None, defaults=None):
        """settings: JSON-able dict of everything that decides the result (no paths, no devices).

        data_fingerprint: `Dataset.fingerprint` of the images, or None where there are none.
        files: dict of a setting's name -> path or None, of files that the run is made from: their
        content hash stands in the settings, wherever they lie. defaults: settings' values in runs
        from before they existed. Raises UserError, in one line, if the folder holds anything else.
        """
        self.folder = Path(folder)
        hashes = {name: path and content_hash(path) for name, path in (files or {}).items()}
        whole = {**settings, **hashes, "data_fingerprint": data_fingerprint}
        self.config = json.loads(json.dumps(whole))
        self.known = json.loads(json.dumps(defaults or {}))
        path = self.folder / "config.json"
        if path.exists():
            old = read_dict(path, "settings")
            _refuse_other_config(self.folder, {**self.known, **old}, {**self.known, **self.config})
        elif self.folder.is_dir() and not all(map(_unfinished, self.folder.iterdir())):
            raise UserError(
                f"{self.folder} is not a run folder and not empty; choose another --out"
            )
        self.lock = lock(self.folder)
        began = self.folder / "environment.json"
        if not path.exists():
            # Once, and now: the code may change while it runs, and until it is resumed.
            write_json(began, environment())
            write_json(path, self.config)
        kept = began.exists()  # not in runs of before
        self.environment = read_dict(began, "environment", "commit") if kept else environment()
        self.metrics_path = self.folder / "metrics.jsonl"
        _cut_to_whole_lines(self.metrics_path)

    @classmethod
    def of(cls, command, preset, config, data_set, *, not_identity, files=(), removed=None):
        """The run of a command: `config.out`, or runs/COMMAND-PRESET[-NAME].

        config: the command's dataclass; its fields but `not_identity` are the settings, those named
        in `files` by their content. data_set: `groundfloor.data.datasets.Dataset`. removed: dict of
        settings that earlier versions had, each with the only value that can be resumed.
        """
        settings = dataclasses.asdict(config)
        kept = {k: v for k, v in settings.items() if k not in (*not_identity, *files)}
        if "dataset" in kept:
            kept["dataset"] = data_set.name  # of one's own images the whole path
        defaults = {
            field.name: field.default
            for field in dataclasses.fields(config)
            if field.name in kept and field.default is not dataclasses.MISSING
        }
        return cls(
            run_folder(command, preset, config),
            kept,
            data_fingerprint=data_set.fingerprint,
            files={name: settings[name] for name in files},
            defaults=defaults | (removed or {}),
        )

    def path(self, *parts):
        """A path inside the run folder."""
        return self.folder.joinpath(*parts)

    def log(self, **row):
        """Append one row to metrics.jsonl."""
        try:
            with self.metrics_path.open("a") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise UserError(f"cannot write {self.metrics_path}: {error.strerror}") from None

    def rows(self):
        """All rows of metrics.jsonl; a last line cut short by a kill is left out."""
        return read_rows(self.metrics_path)

    def forget_after(self, step):
        """Drop the rows of later steps than the one that training resumes from."""
        kept = [row for row in self.rows() if row["step"] <= step]
        with atomic(self.metrics_path) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in kept))

    @property
    def joined(self):
        """The file that says which parts came from other runs (groundfloor.joining)."""
        return self.path("joined.json")

    def write_summary(self, **results):
        """summary.json: `results` and where, with what and from which commit they were made.

        Of joined runs that is the oldest, and "joined" lists this one and the others, those with
        the parts that came from them.
        """
        others = read_json(self.joined) if self.joined.exists() else []
        everyone = [self.environment, *others]
        oldest = min(everyone, key=itemgetter("finished"))
        made = {key: value for key, value in oldest.items() if key != "parts"}
        if others:
            results["joined"] = everyone
            made["uncommitted_changes"] = any(one.get("uncommitted_changes") for one in everyone)
        write_json(self.path("summary.json"), {**results, **made, "finished": now()})

    def summary(self):
        """The results of a finished run, or None."""
        path = self.path("summary.json")
        return read_dict(path, "results") if path.exists() else None


def run_folder(command, preset, config):
    """Where a command writes: its --out, or runs/COMMAND-PRESET[-NAME]."""
    parts = (command, preset, config.name)
    return config.out or Path("runs") / "-".join(part for part in parts if part)


def content_hash(path):
    """16 hexadecimal digits of the SHA-256 of a file; a missing one is a UserError."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        raise unreadable(path, error) from None


def _cut_to_whole_lines(path):
    """Drop what a kill left of a last line, so that rows can be appended."""
    with contextlib.suppress(OSError):
        text = path.read_bytes()
        whole = text.rfind(b"\n") + 1
        if whole < len(text):
            os.truncate(path, whole)


def read_rows(path):
    """Rows (dicts) of a metrics.jsonl file, leaving out a last line that a kill cut short.

    Any other line that is no row means damage: UserError with its number.
    """
    rows = []
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise unreadable(path, error) from None
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line or b"null")
        except ValueError:  # also of bytes that are no text
            row = None
        if isinstance(row, dict):
            rows.append(row)
        elif number < len(lines):
            raise UserError(f"{path} is damaged in line {number}; restore it or delete the run")
    return rows


def changes(old, new, but=()):
    """Settings that differ, as "width 8 -> 16, depth 2 -> 3"; "" if none does. but: names that may.

    The same images may lie elsewhere.
    """
    images = new.get("data_fingerprint")
    if images and old.get("data_fingerprint") == images:
        but = (*but, "dataset")
    keys = [key for key in {**old, **new} if key not in but and old.get(key) != new.get(key)]
    return ", ".join(f"{key} {old.get(key)} -> {new.get(key)}" for key in keys)


def _refuse_other_config(folder, old, new):
    if not (changed := changes(old, new)):
        return
    advice = "choose another --name or --out, or delete it"
    if not changes(old, new, but=("data_fingerprint",)):
        raise UserError(f"{folder} was made from other images ({changed}); {advice}")
    raise UserError(f"{folder} holds a run with other settings ({changed}); {advice}")


def spread(values):
    """Mean and sample standard deviation over seeds (None for one seed), as a dict."""
    values = list(values)
    return {"mean": mean(values), "std": stdev(values) if len(values) > 1 else None}


class Progress:
    """A progress bar on a terminal and in a notebook; elsewhere a plain line every `seconds`.

    with Progress(1000, "step", start=200) as progress: progress.advance(10, psnr="31.2 dB")
    """

    def __init__(self, total, unit, *, start=0, seconds=20.0):
        self.total, self.unit, self.start, self.seconds = total, unit, start, seconds
        self.done, self.began = start, time.monotonic()
        self.said = self.began
        self.bar = None
        if sys.stderr.isatty() or "ipykernel" in sys.modules:  # a terminal, or a notebook
            from tqdm.auto import tqdm  # not above: a functaset is read with NumPy alone

            self.bar = tqdm(total=total, initial=start, unit=unit, dynamic_ncols=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.bar is not None:
            self.bar.close()

    def advance(self, count, **numbers):
        """`count` more are done; `numbers` (name=text) are shown beside."""
        self.done += count
        if self.bar is not None:
            self.bar.set_postfix(numbers, refresh=False)
            self.bar.update(count)
            return
        now = time.monotonic()
        if now - self.said >= self.seconds or self.done >= self.total:
            self.said = now
            rate = (self.done - self.start) / max(now - self.began, 1e-9)
            shown = "".join(f", {name} {text}" for name, text in numbers.items())
            left = duration((self.total - self.done) / max(rate, 1e-9))
            print(
                f"{self.done:,}/{self.total:,} {self.unit}s, {rate:.3g} {self.unit}s/s, {left} left"
                f"{shown}",
                flush=True,
            )

    def say(self, text):
        """Print a line without breaking the bar."""
        self.bar.write(text) if self.bar is not None else print(text, flush=True)


def counted(count, noun, plural=None):
    """A number with its noun: "1 cell", "2,000 cells", "3 classes"."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def duration(seconds):
    """Seconds in words: "42 s", "3 min 05 s", "2 h 10 min"."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
