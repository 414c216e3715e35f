"""One self-contained HTML page of all reports of a run: figures are in it, nothing is fetched."""

import base64
import mimetypes
from html import escape
from string import Template

from functa_jax.tasks.task import text
from groundfloor.runs import atomic, duration

STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #fff; --faint: #666; --line: #ddd; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e4e4; --paper: #161616; --faint: #9a9a9a; --line: #383838; }
}
body { margin: 0 auto; max-width: 68rem; padding: 1rem; color: var(--ink);
  background: var(--paper); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin: 3rem 0 .3rem; }
nav { margin-top: 1rem; } nav a { margin-right: 1rem; } a { color: inherit; }
.question { font-size: 1.05rem; margin: 0 0 1rem; }
.remark, footer { color: var(--faint); font-size: .875rem; max-width: 50rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .75rem .2rem 0; text-align: left; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
thead th { vertical-align: bottom; } tbody th { font-weight: normal; color: var(--faint); }
.number { text-align: right; }
figure { margin: 1.5rem 0; } figcaption { color: var(--faint); font-size: .8rem; }
img { max-width: 100%; height: auto; background: #fff; padding: 4px;
  box-sizing: border-box; border-radius: 4px; }
"""

PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$style</style>
</head>
<body>
<h1>$title</h1>
$summary
<nav>$links</nav>
$sections
<footer>$footer</footer>
</body>
</html>
""")

SECTION = Template("""<section id="$name">
<h2>$name</h2>
<p class="question">$question</p>
<div class="scroll">$table</div>
$remarks
$figures
</section>""")


def write(path, title, summary, reports, questions):
    """Write the page, whole or not at all.

    summary: summary.json of the run, or {}; reports: list of what material.report wrote, in order,
    whose figures lie beside `path`; questions: {task: its question}.
    """
    html = PAGE.substitute(
        title=escape(title),
        style=STYLE,
        summary=f'<div class="scroll">{_pairs(facts(summary))}</div>',
        links=" ".join(f'<a href="#{escape(r["task"])}">{escape(r["task"])}</a>' for r in reports),
        sections="\n".join(
            section(report, questions.get(report["task"], ""), path.parent) for report in reports
        ),
        footer=escape(_footer(reports)),
    )
    with atomic(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def facts(summary):
    """What a reader wants to know of a run: {name: text}, of what its summary.json holds."""
    found = {
        "data set": summary.get("data"),
        "train images": _count(summary.get("train_images")),
        "numbers per image": summary.get("numbers"),
        "outer steps": _count(summary.get("outer_steps")),
        "test PSNR (mean of per-image)": _dB(summary.get("test_psnr")),
        "PCA with as many numbers": _dB(summary.get("pca_test_psnr")),
    }
    for name, result in summary.get("accuracy", {}).items():
        found[f"test accuracy, {name}"] = f"{100 * result['test']:.2f} % ({result['classifier']})"
    found["seed"] = summary.get("seed")
    if "train_seconds" in summary:
        found["training"] = f"{duration(summary['train_seconds'])}, {summary.get('device')}"
    found["checkpoint"] = summary.get("checkpoint")
    return {name: str(value) for name, value in found.items() if value is not None}


def _count(value):
    return None if value is None else f"{value:,}"


def _dB(value):
    return None if value is None else f"{value:.2f} dB"


def _footer(reports):
    if not reports:
        return "No task has been run."
    newest = max(reports, key=lambda report: report.get("finished", ""))
    commit = newest.get("commit", "unknown")[:12] + ", changed" * newest.get(
        "uncommitted_changes", False
    )
    return f"Commit {commit}; {newest.get('machine', '')}; last task {newest.get('finished', '')}."


def section(report, question, folder):
    """The HTML of one task; figures are read from `folder`."""
    return SECTION.substitute(
        name=escape(report["task"]),
        question=escape(question),
        table=table(report["rows"]),
        remarks="\n".join(f'<p class="remark">{escape(line)}</p>' for line in report["remarks"]),
        figures="\n".join(figure(folder / name) for name in report["figures"]),
    )


def table(rows):
    """Rows (dicts with mostly the same columns) as an HTML table; numbers are set right."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    classes = {
        column: ' class="number"' * all(_is_number(row.get(column)) for row in rows)
        for column in columns
    }
    head = "".join(f'<th scope="col"{classes[name]}>{escape(str(name))}</th>' for name in columns)
    lines = [
        "".join(f"<td{classes[name]}>{escape(text(row.get(name)))}</td>" for name in columns)
        for row in rows
    ]
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _is_number(value):
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _pairs(pairs):
    lines = "\n".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>'
        for name, value in pairs.items()
    )
    return f"<table>\n<tbody>\n{lines}\n</tbody>\n</table>"


def figure(path):
    """A figure with its picture (.png, .gif, ...) as a data URI."""
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    data = base64.b64encode(path.read_bytes()).decode()
    name = escape(path.stem.replace("_", " "))
    return (
        f'<figure><img src="data:{kind};base64,{data}" alt="{name}" loading="lazy">'
        f"<figcaption>{name}</figcaption></figure>"
    )
