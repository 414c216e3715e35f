"""From text and facts to PDF and HTML, by typst, and to the package of code and paper."""

import json
import subprocess
import zipfile
from pathlib import Path

import matplotlib
import typst

from experiments.report.quoting import ROOT
from groundfloor.errors import UserError, first_line
from groundfloor.runs import atomic

PAPER = Path(__file__).parent / "paper"
MAIN = PAPER / "main.typ"
FONTS = Path(matplotlib.get_data_path()) / "fonts/ttf"  # has STIX, a Times; fonts of the system
# are left out, so that all machines make the same pages


def compiler(facts, target="pdf"):
    """A typst compiler of the paper with these facts (dict), for "pdf" or "html".

    Raises UserError at text that needs what the facts lack, in one line.
    """
    return typst.Compiler(
        MAIN,
        root=ROOT,
        font_paths=[FONTS],
        ignore_system_fonts=True,
        sys_inputs={"facts": json.dumps(facts), "target": target},
    )


def compiled(facts, target="pdf", **options):
    """Bytes of the paper; options of typst's `compile`, as format="png"."""
    try:
        options = {"format": target} | options
        return compiler(facts, target).compile(**options)
    except typst.TypstError as error:
        raise UserError(f"the report: {first_line(error)}{_place(error)}") from None


def _place(error):
    """Where in the text an error of typst lies, as far as it says so."""
    lines = [line.strip() for line in str(getattr(error, "trace", "") or "").splitlines()]
    return f" ({lines[0]})" if lines and lines[0] else ""


def page(facts):
    """The paper as one HTML page that needs no other file."""
    text = compiled(facts, "html").decode()
    style, script = (PAPER / name for name in ("page.css", "page.js"))
    head = f"<style>{style.read_text(encoding='utf-8')}</style>"
    foot = f"<script>{script.read_text(encoding='utf-8')}</script>"
    return text.replace("</head>", f"{head}</head>").replace("</body>", f"{foot}</body>")


def package(path, pdf):
    """The package of the assignment: the code of the last commit, and the PDF (bytes) beside it.

    Raises UserError where there is no git repository.
    """
    words = ["git", "-C", ROOT, "archive", "--format=zip", "--prefix=Final-Project/", "HEAD"]
    with atomic(path) as temporary:
        try:
            subprocess.run([*words, "-o", temporary.resolve()], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            raise UserError(f"{path.name} needs git and this repository's history") from None
        with zipfile.ZipFile(temporary, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("Final-Project/report.pdf", pdf)
