"""Rows of a sweep in order: lines of methods, families of lines, differences to magnitude."""

from statistics import mean, stdev

import numpy as np

from groundfloor.plots import BLACK, BLUE, GREEN, GREY, ORANGE, PINK, RED, SKY

REFERENCE = "magnitude"
FAMILIES = {  # panels: who decides what stays, and when; a colour is one method in all pictures
    "dense weights, by size": {
        "magnitude-late": BLUE,
        "magnitude-floor": SKY,
        "gradual": ORANGE,
        "lottery": GREEN,
        "layerwise": RED,
        "erk": PINK,
        "pq-index": GREY,
    },
    "learned in training": {
        "dessilbi": RED,
        "l1": BLUE,
        "movement": GREEN,
        "movement-soft": SKY,
        "supermask": PINK,
        "rigl": ORANGE,
        "set": GREY,
    },
    "once, by data or chance": {
        "random": GREY,
        "snip": BLUE,
        "synflow": SKY,
        "wanda": ORANGE,
        "sparsegpt": GREEN,
        "2-of-4": RED,
    },
    "whole parts": {
        "group-lasso": RED,
        "block-lasso": PINK,
        "heads": BLUE,
        "neurons": SKY,
        "blocks": GREY,
        "variance": GREEN,
        "compensated": ORANGE,
    },
    "once, and then fitted": {
        "magnitude-refit": BLUE,
        "wanda-owl": SKY,
        "wanda-refit": ORANGE,
        "sparsegpt-owl": GREEN,
        "2-of-4-refit": RED,
        "oats": PINK,
        "relevance": GREY,
    },
    "steered, thin, and controls": {
        "l1-steered": BLUE,
        "group-lasso-steered": RED,
        "group-envelope": PINK,
        "dessilbi-steered": ORANGE,
        "lora": GREEN,
        "random-search": SKY,
        "norms-only": GREY,
    },
}
CONTROL = "unpruned"


def lines(rows):
    """dict of name -> rows: one line of a picture or table for each method, taught or not."""
    grouped = {}
    for row in rows:
        taught = f" + KD {row['distil']:g}" if row["distil"] else ""
        grouped.setdefault(row["method"] + taught, []).append(row)
    return grouped


def means(rows, column):
    """dict of density -> (mean, sample standard deviation or 0) over the seeds of one line; the
    density is None for a method that chooses its own."""
    spreads = {}
    for level in dict.fromkeys(row["density"] for row in rows):
        values = [row[column] for row in rows if row["density"] == level]
        spreads[level] = (mean(values), stdev(values) if len(values) > 1 else 0.0)
    return spreads


def families(rows):
    """{title: {name: (rows, style)}} of the families that have a line; methods that none names are
    a family of their own."""
    grouped, named = {}, {}
    for title, colours in FAMILIES.items():
        named |= {method: (title, colour) for method, colour in colours.items()}
    for name, own in lines(rows).items():
        method = own[0]["method"]
        if method in (REFERENCE, CONTROL) and not own[0]["distil"]:
            continue
        title, colour = named.get(method, ("others", BLACK))
        title = next(iter(FAMILIES)) if method == REFERENCE else title
        style = {"color": colour, "linestyle": "--" if own[0]["distil"] else "-"}
        grouped.setdefault(title, {})[name] = (own, style)
    order = [*FAMILIES, "others"]
    return {title: grouped[title] for title in order if title in grouped}


def paired(rows, reference):
    """{density: [(row, the reference's of the same density and seed), ...]}, sparsest first.

    reference: {(density, seed): row}; what it lacks is left out.
    """
    found = {}
    for row in sorted((r for r in rows if r["density"] is not None), key=lambda r: r["density"]):
        theirs = reference.get((row["density"], row["seed"]))
        if theirs is not None:
            found.setdefault(row["density"], []).append((row, theirs))
    return found


def differences(rows, reference):
    """{density: (low, difference, high)} in points, of one line's rows against the reference's.

    reference: {(density, seed): row}; what it lacks is left out.
    """
    found = {}
    for level, pairs in paired(rows, reference).items():
        gaps = [100 * (ours["top1"] - theirs["top1"]) for ours, theirs in pairs]
        if len(gaps) > 1:
            found[level] = (mean(gaps) - stdev(gaps), mean(gaps), mean(gaps) + stdev(gaps))
        else:
            ours, theirs = pairs[0]
            below = np.hypot(ours["top1"] - ours["top1_low"], theirs["top1_high"] - theirs["top1"])
            above = np.hypot(ours["top1_high"] - ours["top1"], theirs["top1"] - theirs["top1_low"])
            found[level] = (gaps[0] - 100 * below, gaps[0], gaps[0] + 100 * above)
    return found
