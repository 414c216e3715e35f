"""Where every number comes from: command, seeds, machine, date and commit of each result file."""

import subprocess

from experiments.report.quoting import ROOT


def table(results, claims, kept=()):
    """Rows of all result files of the claims that are there, and of the files that are kept.

    A + after the commit: there were changes that were not committed.
    """
    named = [(claim.name, claim.files[0]) for claim in claims]
    named += [(f"kept: {name}", name) for name in kept]
    rows = []
    for title, name in named:
        if not results.has(name) or not name.endswith(".json"):
            continue
        found = results(name)
        commit = found.get("commit", "–")
        rows.append(
            [
                title,
                ranges(seeds_of(found)),
                found.get("machine", "–"),
                found.get("finished", "–")[:10],
                commit[:7] + ("+" if found.get("uncommitted_changes") else ""),
            ]
        )
    return rows


def seeds_of(found):
    """The seeds of a result, a list: stated for all of it, or with its run or runs."""
    if "seeds" in found.value:
        return found["seeds"].value
    runs = found["runs"] if "runs" in found.value else [found.get("run", {})]
    return sorted({run["seed"] for run in runs if run.get("seed") is not None})


def ranges(seeds):
    """Seeds as text: "0–2" where they follow each other, a dash without any."""
    if not seeds:
        return "–"
    if len(seeds) > 1 and seeds == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]}–{seeds[-1]}"
    return " ".join(map(str, seeds))


def authors():
    """Authors of the git log, those with most commits first."""
    words = ["git", "-C", ROOT, "shortlog", "-sn", "HEAD"]
    try:
        lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ["The authors"]
    return [line.split("\t")[-1].strip() for line in lines.splitlines()] or ["The authors"]
