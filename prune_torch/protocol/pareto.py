"""Accuracy against milliseconds, and which networks nothing else beats in both."""

from groundfloor.plots import figure

MARKERS = "osDv^"


def front(points):
    """Indices of the (cost, value) pairs that no other beats: none costs as little and is worth as
    much, and one of the two strictly better; by cost."""
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1]))
    kept, best = [], None
    for i in order:
        if best is None or points[i][1] > best:
            kept.append(i)
            best = points[i][1]
    return kept


def picture(path, rows):
    """One panel a number of images at once: top-1 in percent against milliseconds an image, one
    marker an engine, the front named.

    rows: dicts of name, engine, batch, ms (of a call) and top1.
    """
    batches = sorted({row["batch"] for row in rows})
    engines = list(dict.fromkeys(row["engine"] for row in rows))
    size = (5.5 * len(batches), 4.4)
    with figure(path, 1, len(batches), size=size, squeeze=False) as (_, axes):
        for axis, batch in zip(axes[0], batches, strict=True):
            own = [row for row in rows if row["batch"] == batch]
            points = [(row["ms"] / batch, 100 * row["top1"]) for row in own]
            for number, engine in enumerate(engines):
                chosen = [p for p, row in zip(points, own, strict=True) if row["engine"] == engine]
                if chosen:
                    marker = MARKERS[number % len(MARKERS)]
                    axis.scatter(*zip(*chosen, strict=True), s=18, marker=marker, label=engine)
            best = front(points)
            line = [points[i] for i in best]
            axis.step(*zip(*line, strict=True), where="post", color="black", linewidth=0.8)
            for i in best:
                text = own[i]["name"]
                axis.annotate(text, points[i], (4, -9), textcoords="offset points", fontsize=6)
            plural = "image" if batch == 1 else "images"
            axis.set(xlabel=f"ms an image, {batch} {plural} at once")
            axis.set_xlim(left=0)
        axes[0, 0].set(ylabel="test top-1 in %")
        axes[0, 0].legend(fontsize=7, loc="lower right")
