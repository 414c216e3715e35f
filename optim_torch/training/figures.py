"""Pictures of a run: learning curves, the path of W and Γ, the structure of each layer."""

import numpy as np

from groundfloor.plots import COLOURS, WIDTH, figure, legend

SELECTED, DROPPED, FREE = COLOURS["selected"], COLOURS["dropped"], COLOURS["SGD"]
MOST_LAYERS = 6  # side by side in the picture of the path


def curves(path, rows):
    """Train loss, validation accuracy and density in % against epochs, where there are any."""
    panels = [("loss", "mean train loss", 1), ("val_accuracy", "validation accuracy in %", 100)]
    panels += [("density", "density of supp Γ in %", 100)]
    panels = [panel for panel in panels if any(panel[0] in row for row in rows)]
    size = (min(WIDTH, 3.4 * len(panels)), 2.4)
    with figure(path, 1, len(panels), size=size, squeeze=False) as (_, axes):
        for axis, (key, label, factor) in zip(axes[0], panels, strict=True):
            shown = [row for row in rows if key in row]
            axis.plot([row["epoch"] for row in shown], [factor * row[key] for row in shown])
            scale = "log" if key == "loss" else "linear"
            axis.set(xlabel="epoch", ylabel=label, yscale=scale)


def path(path, arrays):
    """Norms of every recorded group against epochs: W above, Γ below, one column a layer.

    Of deep networks six layers are shown, from the first to the last.
    """
    names = [key.removeprefix("w/") for key in arrays if key.startswith("w/")]
    if not names:
        return
    shown = np.linspace(0, len(names) - 1, min(len(names), MOST_LAYERS)).round().astype(int)
    names = [names[i] for i in shown]
    size = (min(WIDTH, 1 + 2.2 * len(names)), 4.2)
    with figure(path, 2, len(names), size=size, squeeze=False, sharex=True) as (made, axes):
        for column, name in enumerate(names):
            selected = arrays[f"gamma/{name}"][-1] > 0
            for row, kind in enumerate(("w", "gamma")):
                norms(axes[row, column], arrays["time"], arrays[f"{kind}/{name}"], selected)
                axes[row, column].tick_params(labelsize=7)
            axes[0, column].set_title(name.removesuffix(".weight"))
            axes[1, column].set(xlabel="epoch")
        axes[0, 0].set(ylabel="norm of W")
        axes[1, 0].set(ylabel="norm of Γ")
        legend(made, axes, loc="outside lower center", ncols=2)


def norms(axis, times, values, selected=None):
    """Lines of norms (T, G) against times (T,), the selected groups (G,) above the others.

    selected: bool; None where nothing selects, as with SGD.
    """
    if selected is None:
        axis.plot(times, values, color=FREE, linewidth=0.5, alpha=0.7)
    else:
        for chosen, colour, label in (
            (~selected, DROPPED, "other groups"),
            (selected, SELECTED, "groups in the support of Γ at the end"),
        ):
            if chosen.any():
                style = {"color": colour, "linewidth": 0.5, "alpha": 0.7}
                axis.plot(times, values[:, chosen], **style)
                axis.plot([], [], color=colour, label=label)  # a line that can be seen
    axis.set_ylim(bottom=0)


def layers(path, rows):
    """Share of the groups of each layer in the support of Γ, in % and counted."""
    with figure(path, size=(WIDTH, 0.9 + 0.24 * len(rows))) as (_, axis):
        positions = np.arange(len(rows))[::-1]
        shares = [100 * row["selected"] / row["groups"] for row in rows]
        axis.barh(positions, shares, color=SELECTED)
        axis.set_yticks(positions, [row["layer"].removesuffix(".weight") for row in rows])
        for position, row in zip(positions, rows, strict=True):
            text = f"{row['selected']:,} of {row['groups']:,}"
            axis.text(101, position, text, va="center", fontsize=8, clip_on=False)
        axis.set(xlim=(0, 100), xlabel="groups in the support of Γ, in % of the layer's")
        axis.grid(axis="y", visible=False)
