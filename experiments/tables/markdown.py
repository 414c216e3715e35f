"""Result files as Markdown tables."""

import contextlib
from dataclasses import dataclass, replace
from statistics import mean, stdev

from experiments import sweeps
from groundfloor.errors import UserError
from groundfloor.runs import read_json, read_rows
from prune_torch.protocol.families import lines


@dataclass(frozen=True)
class Column:
    """One column of a table: which value of a row, and how it is written."""

    heading: str
    key: str
    """Key into the row, whose value is a number, a word or a dict of mean and std (or interval)."""
    digits: int = 2
    share: bool = False
    """The value is a share of one, written in %."""
    at: int | str | None = None
    """Which entry of that value, where it holds several."""


@dataclass(frozen=True)
class Table:
    """Rows of one result file."""

    file: str
    """Name in the results folder."""
    title: str
    columns: tuple[Column, ...] = ()
    """None given: every number and word of the rows, under its own key."""
    rows: str = "table"
    """Key to the rows, or keys joined by dots: a list of dicts, or a dict of name -> dict."""
    note: str = ""


def accuracy(heading, key):
    return Column(heading, key, share=True)


@contextlib.contextmanager
def shown(path):
    """UserError that names the file where it does not hold what its table shows."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, StopIteration, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"{path} does not hold what its table shows ({reason})") from None


def section(table, path):
    """Lines of one table: where it comes from, its rows, its remarks."""
    if path.suffix == ".csv":
        facts = read(path.with_suffix(".json"))
        return [*origin(path.with_suffix(".json"), facts), *pruning(path, facts)]
    contents = read(path)
    written = origin(path, contents)
    if table.note:
        written += ["", table.note]
    if table.rows == "tasks":
        for task, report in contents["tasks"].items():
            written += ["", f"**{task}**", "", *grid(report["rows"], ()), ""]
            written += [f"- {remark}" for remark in report["remarks"]]
        return written
    rows = contents
    if path.suffix != ".jsonl":
        for key in table.rows.split("."):
            rows = rows[key]
    if isinstance(rows, dict):
        named = [row for row in rows.items() if isinstance(row[1], dict)]
        if len(named) == len(rows):
            rows = [{"name": name, "value": row, **row} for name, row in named]
        else:
            rows = [rows]
    return [*written, "", *grid(rows, table.columns)]


def read(path):
    """Contents of a JSON file, or the rows of a .jsonl or of a sweep's table."""
    if path.suffix == ".csv":
        return sweeps.read(path)
    return read_rows(path) if path.suffix == ".jsonl" else read_json(path)


def origin(path, contents):
    """Where a table comes from, in one line."""
    if isinstance(contents, list):
        devices = {row["device"] for row in contents if "device" in row}
        return [f"`make bench`, {path.name}" + "".join(f", {device}" for device in devices)]
    seeds = contents.get("seeds", contents.get("run", {}).get("seed"))
    made = contents.get("joined", [contents])
    parts = [
        f"`{contents['command']}`" if "command" in contents else "",
        f"seeds {' '.join(map(str, seeds))}" if isinstance(seeds, list) else "",
        f"seed {seeds}" if isinstance(seeds, int) else "",
        " and ".join(dict.fromkeys(one["machine"] for one in made if "machine" in one)),
        contents.get("finished", "")[:10],
        " and ".join(dict.fromkeys(f"commit {o['commit'][:10]}" for o in made if "commit" in o)),
        "with uncommitted changes" if contents.get("uncommitted_changes") else "",
        path.name,
    ]
    return [", ".join(part for part in parts if part)]


def grid(rows, columns):
    """A Markdown table of rows (dicts)."""
    columns = columns or [
        Column(key, key)
        for key, value in rows[0].items()
        if not isinstance(value, list)
        and (not isinstance(value, dict) or "mean" in value)
        and not key.endswith("_std")
    ]
    lines = [[column.heading for column in columns], ["---"] * len(columns)]
    lines += [[text(row, column) for column in columns] for row in rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def text(row, column):
    """The value of a column in a row, as it is written."""
    value, std = row.get(column.key), row.get(f"{column.key}_std")
    if column.at is not None:
        value = value[column.at]
    if isinstance(value, dict) and "known" in value:  # of other seeds there is none
        rest = {key: part for key, part in value.items() if key != "known"}
        return f"{text({column.key: rest}, replace(column, at=None))} ({value['known']} seeds)"
    if isinstance(value, dict):
        value, std = value["mean"], value.get("interval", value.get("std"))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value.replace("|", "\\|")
    if value is None:
        return "–"
    scale, digits = (100, column.digits) if column.share else (1, column.digits)
    if isinstance(value, int) and not column.share and std is None:
        return f"{value:,}"
    if 0 < abs(scale * value) < 10.0**-digits and scale * (std or 0) < 10.0**-digits:
        return f"{scale * value:.2g}" + ("" if std is None else f" ± {scale * std:.2g}")
    return f"{scale * value:,.{digits}f}" + ("" if std is None else f" ± {scale * std:,.{digits}f}")


def pruning(path, facts):
    """Lines of a sweep's tables: top-1 in % by method and density, the mean over seeds; before the
    steps of recovery, top-5, and the differences to magnitude, where these were measured. facts:
    what the sweep's JSON holds."""
    rows = sweeps.read(path)
    written = ["", *by_density(rows, "top1")]
    if any("top1_before" in row for row in rows):
        written += ["", "Before the steps of recovery:", "", *by_density(rows, "top1_before")]
    if any("top5" in row for row in rows):
        written += ["", "Top-5:", "", *by_density(rows, "top5")]
    if differences := facts.get("against_magnitude"):
        written += [
            "",
            "Top-1 above magnitude's, in points, by pairs of the same seed; p of Student's test of "
            "the mean over densities (two-sided, not corrected for the number of methods):",
            "",
            *paired(differences),
        ]
    return written


def paired(differences):
    """A Markdown table of `prune_torch.protocol.pairs.differences`: methods by densities."""
    found = {(row["method"], row["density"]): row for row in differences}
    densities = sorted({density for _, density in found if density != "all"})
    columns = [*densities, "all"]
    table = [["method", *(f"{density:g}" for density in densities), "all", "p"]]
    table.append(["---"] * len(table[0]))
    for name in dict.fromkeys(row["method"] for row in differences):
        own = [found.get((name, density)) for density in columns]
        p = own[-1] and own[-1]["p"]
        table.append([name, *map(shown_difference, own), "–" if p is None else f"{p:.2g}"])
    return ["| " + " | ".join(line) + " |" for line in table]


def shown_difference(row):
    """Mean ± sample standard deviation in points, with its sign; a dash for none."""
    if row is None:
        return "–"
    written = f"{round(row['difference'], 2) + 0.0:+.2f}"  # + 0.0: no -0.00
    return written if row["std"] is None else f"{written} ± {row['std']:.2f}"


def by_density(rows, column):
    """A Markdown table of one column of a sweep, a share, in %: methods by densities."""
    densities = sorted({row["density"] for row in rows}, key=lambda density: density or 0)
    headings = ["its own density" if d is None else f"{d:g}" for d in densities]
    table = [["method", *headings], ["---"] * (1 + len(densities))]
    for name, own in lines(rows).items():
        own = [row for row in own if column in row]
        shares = [[row[column] for row in own if row["density"] == d] for d in densities]
        table.append([name, *map(shown_shares, shares)])
    return ["| " + " | ".join(line) + " |" for line in table]


def shown_shares(shares):
    """Mean ± sample standard deviation in %; a single one as it is, a dash for none."""
    if len(shares) < 2:
        return f"{100 * shares[0]:.2f}" if shares else "–"
    return f"{100 * mean(shares):.1f} ± {100 * stdev(shares):.1f}"
