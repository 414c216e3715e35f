"""One self-contained HTML page of all reports of a run: figures are in it, nothing is fetched."""

import base64
import mimetypes
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

from functa_jax.tasks.html import reading
from groundfloor import tables
from groundfloor.runs import atomic, duration
from groundfloor.tables import complete, is_number

ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)


def write(path, title, summary, reports, questions, running=""):
    """Write the page, whole or not at all.

    summary: summary.json of the run, or {}; reports: what task.report returned, in order, whose
    figures lie beside `path`; questions: {task: its question}; running: what is going on while the
    page is written, which a browser then loads again every 20 seconds.
    """
    html = ENVIRONMENT.get_template("page.html").render(
        title=title,
        running=running,
        facts=facts(summary, reports),
        sections=[section(report, questions, path.parent) for report in reports],
        footer=footer(reports),
    )
    with atomic(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def section(report, questions, folder):
    """What the page says of one report, whose figures lie in `folder`."""
    rows, numeric = complete(report["rows"]), columns(report["rows"])
    best = reading.best_rows(report["task"], report["rows"])
    forms = {name: decimals([row[name] for row in rows]) for name in numeric}

    def shown(place, row, name):
        text, marked = forms[name](row[name]), best.get(name) == place
        text += reading.interval(row, name) if marked else ""
        return {"text": text, "number": numeric[name], "best": marked}

    return {
        "task": report["task"],
        "question": questions.get(report["task"], ""),
        "columns": numeric,
        "rows": [[shown(i, row, name) for name in numeric] for i, row in enumerate(rows)],
        "marked": bool(best),
        "copies": {"CSV": tables.as_csv(rows), "LaTeX": tables.as_tex(rows)},
        "remarks": report["remarks"],
        "figures": [
            {
                "name": Path(name).stem.replace("_", " "),
                "caption": reading.caption(name),
                "source": data_uri(folder / name),
            }
            for name in report["figures"]
        ],
    }


def decimals(values):
    """A function that writes values of a column, all with as many decimals: as many as give the
    largest four digits, at most four."""
    floats = [abs(value) for value in values if isinstance(value, float)]
    largest = max((value for value in floats if value < float("inf")), default=0)
    digits = max(0, 4 - len(str(int(largest)))) if largest >= 1 else 4

    def text(value):
        return f"{value:.{digits}f}" if isinstance(value, float) else tables.cell(value)

    if floats and min((value for value in floats if value), default=1) < 10**-digits / 2:
        return tables.cell  # some would be 0: p-values, say
    return text


def facts(summary, reports=()):
    """What a reader wants to know of a run: {name: text}, of what its summary.json holds.

    Accuracies are those of classify where it has run, else of the training's quick classifiers: a
    number to quote has one place.
    """

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
    chosen = [
        row
        for report in reports
        if report["task"] == "classify"
        for row in report["rows"]
        if row.get("chosen")
    ]
    for row in chosen:
        facts[f"test accuracy, {row['features']}"] = (
            f"{row['test %']:.2f} % [{row['low']:.2f}, {row['high']:.2f}] ({row['classifier']}, "
            "chosen by classify)"
        )
    for name, result in ({} if chosen else summary.get("accuracy", {})).items():
        facts[f"test accuracy, {name}"] = (
            f"{100 * result['test']:.2f} % ({result['classifier']}, quick: classify tries more)"
        )
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
