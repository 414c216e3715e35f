"""Settings of every command that say where it writes, and in which forms."""

from dataclasses import dataclass
from pathlib import Path

from groundfloor import plots, tables
from groundfloor.checks import Name, Settings


@dataclass(frozen=True)
class Output(Settings):
    """Where results go and in which forms; none of it changes a result."""

    name: Name | None = None
    """Suffix of the run folder."""
    out: Path | None = None
    """Run folder; default runs/COMMAND-PRESET[-NAME]."""
    figures: plots.Kind = "png"
    """pdf, svg: all figures as vector graphics, too, beside the PNG."""
    table: tables.Kind = None
    """The printed tables as files, too: .csv, or .tex for LaTeX with booktabs."""


@dataclass(frozen=True)
class Join(Output):
    """Where results go, and what of them other machines have made."""

    join: tuple[Path, ...] = ()
    """Folders of runs with the same settings and other seeds (landscapes: or rates, normalisers):
    what is finished there is taken over."""


FIELDS = tuple(Join.__dataclass_fields__)  # for `not_identity` of a run
