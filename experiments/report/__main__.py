"""The paper, from the result files: report.pdf, report.html, and the package of both with the code.

    python -m experiments.report         seconds; nothing is measured, no LaTeX is needed

Every number of the text is looked up in experiments/results, and the code that it quotes in the
files themselves. A missing key, a missing picture, and a sentence that the results no longer bear
out end the build with one line that says so.
"""

from dataclasses import dataclass
from pathlib import Path

from experiments import runner
from experiments.report import build, facts
from groundfloor import cli
from groundfloor.runs import atomic


@dataclass(frozen=True)
class Config:
    """Where the paper goes, and whose it is."""

    out: Path = Path(__file__).parent
    """Folder for report.pdf, report.html and Final-Project.zip."""
    results: Path = runner.RESULTS
    """Folder with the result files; pictures are those of experiments/results."""
    authors: tuple[str, ...] = ()
    """Names, with student numbers where they are asked for; none: those of the git log."""


def main(config):
    """Build all three, saying each; returns their paths."""
    told = facts.gather(config.results, config.authors)
    pdf, page, package = (
        config.out / name for name in ("report.pdf", "report.html", "Final-Project.zip")
    )
    write(pdf, build.compiled(told))
    write(page, build.page(told).encode())
    build.package(package, pdf.read_bytes())
    print(package, flush=True)
    return [pdf, page, package]


def write(path, contents):
    """Write bytes, whole or not at all, and say so."""
    with atomic(path) as temporary:
        temporary.write_bytes(contents)
    print(path, flush=True)


if __name__ == "__main__":
    cli.run(main, Config)
