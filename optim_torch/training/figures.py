"""Pictures of a run: learning curves, the path of W and Γ, the structure of each layer."""

import numpy as np

from groundfloor.plots import figure

SELECTED, DROPPED = "tab:blue", "tab:red"
MOST_LAYERS = 6  # side by side in the picture of the path


def curves(path, rows):
    """Train loss, validation accuracy and density against epochs, where there are any."""
    panels = [("loss", "mean train loss", "log"), ("val_accuracy", "validation accuracy", "linear")]
    panels += [("density", "density of supp Γ", "linear")]
    panels = [panel for panel in panels if any(panel[0] in row for row in rows)]
    with figure(path, 1, len(panels), size=(3.4 * len(panels), 2.6), squeeze=False) as (_, axes):
        for axis, (key, label, scale) in zip(axes[0], panels, strict=True):
            shown = [row for row in rows if key in row]
            axis.plot([row["epoch"] for row in shown], [row[key] for row in shown])
            axis.set(xlabel="epoch", ylabel=label, yscale=scale)


def path(path, arrays):
    """Norms of every recorded group against epochs: W above, Γ below, one column a layer.

    Of deep networks six layers are shown, from the first to the last.

    Blue: in the support of Γ at the end; red: not.
    """
    names = [key.removeprefix("w/") for key in arrays if key.startswith("w/")]
    if not names:
        return
    shown = np.linspace(0, len(names) - 1, min(len(names), MOST_LAYERS)).round().astype(int)
    names = [names[i] for i in shown]
    size = (2.6 * len(names), 4.6)
    with figure(path, 2, len(names), size=size, squeeze=False, sharex=True) as (_, axes):
        for column, name in enumerate(names):
            selected = arrays[f"gamma/{name}"][-1] > 0
            for row, kind in enumerate(("w", "gamma")):
                norms(axes[row, column], arrays["time"], arrays[f"{kind}/{name}"], selected)
            axes[0, column].set(title=name)
            axes[1, column].set(xlabel="epoch")
        axes[0, 0].set(ylabel="norm of W")
        axes[1, 0].set(ylabel="norm of Γ")


def norms(axis, times, values, selected):
    """Lines of norms (T, G) against times (T,), the selected groups (G,) above the others."""
    for chosen, colour in ((~selected, DROPPED), (selected, SELECTED)):
        if chosen.any():
            axis.plot(times, values[:, chosen], color=colour, linewidth=0.5, alpha=0.7)
    axis.set_ylim(bottom=0)


def layers(path, rows):
    """Share of the entries of each layer on the support of Γ."""
    with figure(path, size=(5.5, 0.9 + 0.24 * len(rows))) as (_, axis):
        positions = np.arange(len(rows))[::-1]
        axis.barh(positions, [row["density"] for row in rows], color=SELECTED)
        axis.set_yticks(positions, [row["layer"] for row in rows])
        for position, row in zip(positions, rows, strict=True):
            text = f" {row['selected']:,} of {row['groups']:,}"
            inside = row["density"] > 0.75
            axis.text(
                row["density"],
                position,
                text + " " * inside,
                va="center",
                ha="right" if inside else "left",
                color="white" if inside else "black",
                fontsize=7,
            )
        axis.set(xlim=(0, 1), xlabel="share of entries on supp Γ (numbers: selected groups)")
        axis.grid(axis="y", visible=False)
