"""Which of LeNet's filters does DessiLBI select on MNIST, and what do they look like? (Figure 1)

    python -m experiments.dessilbi_filters --jobs 2      35 minutes on 2 CPU cores

Fu et al. 2020, figure 1: filter norms of the third convolution (120 filters) against epochs, for
DessiLBI (selected blue, others red) and SGD, and the filters at epochs 20, 40 and 80, drawn by
activation maximisation. Γ belongs to that layer (by filter) and to the first linear layer (by
entry). In the paper about 15 filters are selected, from epoch 12 on; the others reach zero by
epoch 22; SGD keeps all 120. Our ν and λ (9 for a filter: 0.45 times the root of 400 entries) were
chosen on train images for that number of filters, with the rate (0.02, dropped at epoch 40) for
the time of their entry: with λ = 1, ν = 5 to 100, a rate of 0.1 and PyTorch's initial weights 61 to
91 filters stay after five epochs (optim_torch.train mnist-lenet --layers conv3 fc1 --schedule
constant --epochs 5 --nu 5).

All 60,000 train images; test is looked at once, at the end. Results: dessilbi_filters.json, .png.
"""

from dataclasses import dataclass

import torch
from skimage.util import montage

from experiments import dessilbi, runner
from groundfloor import checks, cli, npz, seeds
from groundfloor.checks import Count
from groundfloor.plots import WIDTH, figure, legend
from groundfloor.runs import spread
from optim_torch.dessilbi import structure
from optim_torch.training import build, figures, loop

LAYER = "conv3.weight"
COLUMNS = 12  # of the pictures of its filters
WEIGHTS = ("w", "w_on_support", "gamma")
KEPT = ("seed", "optimizer", "test", "train_seconds", "commit")


@dataclass(frozen=True, kw_only=True)
class Config(dessilbi.DessilbiConfig):
    """Which runs; SGD runs beside the first seed."""

    preset: str = "mnist-lenet"
    """Preset of optim_torch.train, with LeNet."""
    epochs: Count = 80
    """Passes over the train images."""
    shown: tuple[Count, ...] = (20, 40, 80)
    """Epochs whose filters are drawn."""

    def __post_init__(self):
        super().__post_init__()
        late = [epoch for epoch in self.shown if epoch > self.epochs]
        checks.require(not late, "shown", late, f"--epochs is {self.epochs:,}")


def main(config):
    """Run what is missing, then draw and write the table; returns what the JSON holds."""
    out = config.folder("dessilbi_filters")
    shared = ["--val-fraction", 0, "--layers", "conv3", "fc1"]
    shared += ["--epochs", config.epochs, "--lr", 0.02, "--drop-every", 40]
    shared += ["--keep-epochs", *config.shown]
    ours = [*shared, "--nu", 3, "--threshold", 0.45, "--scale-by-size"]
    words = {("dessilbi", seed): ours for seed in config.seeds}
    first = config.seeds[0]
    words["sgd", first] = [*shared, *dessilbi.SGD]
    summaries = dessilbi.train(config, out, words)
    runs = {out / f"dessilbi-seed{seed}": summaries["dessilbi", seed] for seed in config.seeds}
    sgd = out / f"sgd-seed{first}"
    table = {
        "selected_filters": spread(selected(run) for run in runs.values()),
        "filters_of_w_left": spread(filters_left(folder) for folder in runs),
        "first_entry_epochs": [first_entry(folder) for folder in runs],
        "density": spread(run["test"]["gamma"]["density"] for run in runs.values()),
        "sgd_filters_of_w_left": filters_left(sgd),
        "sgd_test_accuracy": summaries["sgd", first]["test"]["w"]["accuracy"],
    }
    for name in WEIGHTS:
        accuracies = [run["test"][name]["accuracy"] for run in runs.values()]
        table[f"test_accuracy_{name}"] = spread(accuracies)
    flags = ["optim_torch.train", config.preset, *map(str, ours), config.flags]
    result = runner.write(
        config.results / "dessilbi_filters.json",
        "dessilbi_filters",
        {
            "flags": " ".join(flags).rstrip(),
            "seeds": list(config.seeds),
            "table": table,
            "runs": [{key: run[key] for key in KEPT} for run in summaries.values()],
        },
        summaries.values(),
    )
    draw(config, out / f"dessilbi-seed{first}", sgd)
    for name, value in table.items():
        unit = "%" if "accuracy" in name or name == "density" else ""
        print(f"{name:28s} {runner.text(value, unit) if isinstance(value, dict) else value}")
    return result


def selected(summary):
    """Filters of the third convolution in the support of Γ."""
    (row,) = [row for row in summary["layers"] if row["layer"] == LAYER]
    return row["selected"]


def recorded(folder):
    """A context of the arrays that `dessilbi.path` recorded in a run."""
    return npz.reading(folder / "path.npz", "a recorded path")


def filters_left(folder):
    """Filters whose norm ends above a hundredth of the largest."""
    with recorded(folder) as arrays:
        norms = arrays[f"w/{LAYER}"][-1]
        return int((norms > 0.01 * norms.max()).sum())


def first_entry(folder):
    """The first epoch at whose end a filter is in the support of Γ, or None."""
    with recorded(folder) as arrays:
        epochs = arrays["time"][(arrays[f"gamma/{LAYER}"] > 0).any(axis=1)]
        return float(epochs[0]) if len(epochs) else None


def draw(config, ours, sgd):
    """Norms against epochs on the left, filters at three epochs on the right; two rows."""
    epochs = [0, *config.shown]
    size = (WIDTH, 3.6)
    ratios = {"width_ratios": [1.4, *[1] * len(epochs)]}
    path = config.results / "dessilbi_filters.png"
    with figure(path, 2, 1 + len(epochs), size=size, gridspec_kw=ratios) as (made, axes):
        for row, (folder, name) in zip(axes, ((ours, "DessiLBI"), (sgd, "SGD")), strict=True):
            with recorded(folder) as arrays:
                chosen = None if folder is sgd else arrays[f"gamma/{LAYER}"][-1] > 0
                figures.norms(row[0], arrays["time"], arrays[f"w/{LAYER}"], chosen)
            for epoch in config.shown:
                row[0].axvline(epoch, color="gray", linestyle="--", linewidth=0.8)
            row[0].set(ylabel=f"{name}: norms\nof 120 filters", xlabel="epoch")
            for axis, epoch in zip(row[1:], epochs, strict=True):
                images = filters(folder, epoch)
                grid = (-(-len(images) // COLUMNS), COLUMNS)
                mosaic = montage(images, fill=0, grid_shape=grid, padding_width=2)
                axis.imshow(mosaic, vmin=0, vmax=1)
                axis.set(title="initial weights" if not epoch else f"epoch {epoch}")
                axis.axis("off")
        legend(made, axes[0, 0], loc="outside lower center", ncols=2)


def filters(folder, epoch):
    """Images (120, side, side) in [0, 1] that excite each filter most; black for dropped filters.

    Adam climbs the filter's output from grey noise, in a network whose activations leak a hundredth
    of what is negative, so that a path which grey leaves dead can be climbed, too; the filters are
    W on the support of Γ.
    `epoch` 0 stands for the initial weights.
    """
    config, data_set, trained = loop.load(folder, epoch or None)
    side = data_set.train.images.shape[1]
    model, optimizer = trained.model, trained.optimizer
    if not epoch:
        model = build.build_model(config, data_set)
    elif hasattr(optimizer, "blocks"):
        weights = structure.restricted(optimizer, structure.masks(optimizer))
        model.conv3.weight.data.copy_(weights[LAYER])
    model.activation = torch.nn.LeakyReLU(0.01)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    count = model.conv3.out_channels
    generator = torch.Generator().manual_seed(seeds.fold(0, "grey"))
    start = 0.5 + 0.02 * torch.randn(count, 1, side, side, generator=generator)
    images = start.clone().requires_grad_()
    climber = torch.optim.Adam([images], lr=0.02, maximize=True)
    for _ in range(100):
        climber.zero_grad()
        model.features(images).flatten(1).diagonal().sum().backward()
        climber.step()
        with torch.no_grad():
            images.clamp_(0, 1)
    alive = model.conv3.weight.flatten(1).norm(dim=1) > 0
    return (images.detach()[:, 0] * alive[:, None, None]).numpy()


if __name__ == "__main__":
    cli.run(main, Config)
