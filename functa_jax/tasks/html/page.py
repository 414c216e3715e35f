"""One self-contained HTML page of all reports of a run: figures are in it, nothing is fetched."""

import base64
import mimetypes
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

from groundfloor.runs import atomic, duration
from groundfloor.tables import cell, complete, is_number

ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)
ENVIRONMENT.filters["cell"] = cell


def write(path, title, summary, reports, questions):
    """Write the page, whole or not at all.

    summary: summary.json of the run, or {}; reports: what task.report returned, in order, whose
    figures lie beside `path`; questions: {task: its question}.
    """
    template = ENVIRONMENT.get_template("page.html")
    sections = [
        {
            "task": report["task"],
            "question": questions.get(report["task"], ""),
            "columns": columns(report["rows"]),
            "rows": complete(report["rows"]),
            "remarks": report["remarks"],
            "figures": [
                (Path(name).stem.replace("_", " "), data_uri(path.parent / name))
                for name in report["figures"]
            ],
        }
        for report in reports
    ]
    html = template.render(
        title=title, facts=facts(summary), sections=sections, footer=footer(reports)
    )
    with atomic(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def facts(summary):
    """What a reader wants to know of a run: {name: text}, of what its summary.json holds."""

    def text(key, form):
        value = summary.get(key)
        return None if value is None else form.format(value)

    facts = {
        "data set": text("data", "{}"),
        "train images": text("train_images", "{:,}"),
        "numbers per image": text("numbers", "{}"),
        "outer steps": text("outer_steps", "{:,}"),
        "test PSNR (mean of per-image)": text("test_psnr", "{:.2f} dB"),
        "PCA with as many numbers": text("pca_test_psnr", "{:.2f} dB"),
    }
    for name, result in summary.get("accuracy", {}).items():
        facts[f"test accuracy, {name}"] = f"{100 * result['test']:.2f} % ({result['classifier']})"
    facts["seed"] = text("seed", "{}")
    if "train_seconds" in summary:
        facts["training"] = f"{duration(summary['train_seconds'])}, {summary.get('device')}"
    facts["checkpoint"] = text("checkpoint", "{}")
    return {name: value for name, value in facts.items() if value is not None}


def footer(reports):
    """Commit, machine and time of the newest report."""
    if not reports:
        return "No task has been run."
    newest = max(reports, key=lambda report: report.get("finished", ""))
    commit = newest.get("commit", "unknown")[:12]
    changed = ", changed" * newest.get("uncommitted_changes", False)
    machine, finished = newest.get("machine", ""), newest.get("finished", "")
    return f"Commit {commit}{changed}; {machine}; last task {finished}."


def columns(rows):
    """{column: whether it holds numbers, which are set right} of a table."""
    rows = complete(rows)
    return {name: all(is_number(row[name]) for row in rows) for name in rows[0]}


def data_uri(path):
    """The address that holds a picture (.png, .gif, ...) itself."""
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
