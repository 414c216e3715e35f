"""Does BatchNorm smooth the landscape? Train networks with and without it, and measure.

At some steps the batch's loss and gradient are followed along a line through the weights (Santurkar
et al. 2018, `probe`); at every step the change of the gradient since the step before is kept (the
course's distance). Results: summary.json, traces/, and pictures. A stopped run goes on where it
was. The instrument for a model of your own: `from optim_torch.landscape import probe`.
"""

from dataclasses import dataclass

from groundfloor import cli, plots, precision, tables
from groundfloor.joining import join
from groundfloor.output import Join
from groundfloor.pytorch import batches, memory
from groundfloor.runs import Run, counted, duration
from optim_torch.landscape import bands, figures, traces
from optim_torch.landscape.probing import cost, probe
from optim_torch.landscape.recording import with_precision
from optim_torch.landscape.settings import COURSE_RATES, NOT_IDENTITY, Settings, load_data

__all__ = ["Config", "main", "probe"]


@dataclass(frozen=True)
class Config(Join, Settings):
    """The networks, their training, what is measured, and where to write."""


PRESETS = {
    "digits": Config(
        dataset="digits",
        model="VGG_A_Light",
        batch_size=64,
        steps=400,
        probe_every=5,
        rates=(0.03, 0.1, 0.3, 1.0),
    ),
    "digits-edge": Config(  # gradient descent: one batch holds all images
        dataset="digits",
        model="VGG_A_Light",
        scale=0.5,
        n_items=512,
        batch_size=512,
        steps=400,
        probe_every=20,
        curvature=512,
        rates=(0.05, 0.1, 0.2),
    ),
    "cifar10-light": Config(
        model="VGG_A_Light", rates=(0.02, 0.05, 0.1, 0.2), steps=1500, probe_every=20
    ),
    "cifar10-course": Config(optimizer="adam", rates=COURSE_RATES, steps=7000),
    "cifar10-paper": Config(),
}


def main(config, preset):
    """Train what is missing, measure, draw; returns the summary."""
    plots.use(config.figures)
    memory.keep_freed()
    device = batches.choose_device(config.device)
    data_set, specs = load_data(config), traces.specs(config)
    run = Run.of("landscape", preset, config, data_set, not_identity=NOT_IDENTITY)
    finished = [f"traces/{spec.stem}.npz" for spec in specs]
    of_networks = ("norms", "rates", "seeds")
    join(run, config.join, finished, {"precision.json": precision.kept}, of_networks)
    passes = cost(config.lengths) * -(-config.steps // config.probe_every)
    total = passes + config.steps
    print(
        f"{counted(len(specs), 'network')}, {counted(config.steps, 'step')} each; "
        f"probes take {passes:,} of {total:,} passes: {100 * passes / total:.0f} %",
        flush=True,
    )
    where = run.path("precision.json")
    config = with_precision(config, specs[0], data_set, device, where)
    networks = traces.record_all(config, data_set, device, run.path("traces"))
    seconds = sum(float(trace["seconds"]) for trace in networks.values())
    probing = sum(float(trace["probe_seconds"]) for trace in networks.values())
    print(f"{duration(seconds)} in all, {100 * probing / seconds:.0f} % of it for the probes")
    summary = bands.summary(networks)
    run.write_summary(
        table=summary,
        seconds=seconds,
        probe_seconds=probing,
        precision=config.precision,
        precision_seconds=precision.timed(where),
    )
    figures.draw(run.path("figures"), networks)
    show(summary, run)
    tables.write(run.path("table"), list(map(_line, summary)), config.table)
    return run.summary()


def show(table, run):
    """Print the summary, a line for each network and rate, and what is not in its numbers."""
    print("\nnorm    rate      test accuracy     width of loss   change of gradient   β: shortest")
    print("                                                       (medians over steps)    longest")
    for row in table:
        _, betas = zip(*sorted(zip(row["lengths"], row["beta"], strict=True)), strict=True)
        print(
            f"{row['norm']:7s} {row['rate']:<8g} {_percent(row['test']):16s} "
            f"{_number(row['loss_width'], 4):>14s}   {_number(row['change_most'], 4):>15s}      "
            f"{_number(betas[0], 3):>9s} {_number(betas[-1], 3):>9s}"
        )
    for row in table:
        if shares := row.get("edges"):
            words = ", ".join(f"{name} {value:.2f}" for name, value in shares.items())
            print(f"{row['norm']} at rate {row['rate']:g}, share of the edge of stability: {words}")
    for row in table:
        which = f"{row['norm']} at rate {row['rate']:g}"
        if row["diverged"]:
            count = f"{row['diverged']} of {row['seeds']}" if row["seeds"] > 1 else "it"
            print(f"{which}: {count} diverged or ended at chance, not in these numbers and bands")
        if row["no_gradient"]:
            print(
                f"{which}: no gradient to go along in {row['no_gradient']} probes (0 or not finite)"
            )
    print(f"\n{run.folder}: summary.json, traces/, figures/")


def _line(row):
    """A row of the summary as plain values, for a file."""
    betas = sorted(zip(row["lengths"], row["beta"], strict=True))
    test = row["test"] or {"mean": None, "std": None}
    return {
        "norm": row["norm"],
        "rate": row["rate"],
        "seeds": row["seeds"],
        "diverged": row["diverged"],
        "test mean": test["mean"],
        "test std": test["std"],
        "loss width": row["loss_width"],
        "gradient change": row["change_most"],
        "beta shortest": betas[0][1],
        "beta longest": betas[-1][1],
        **{f"edge, {name}": value for name, value in row["edges"].items()},
    }


def _percent(spread):
    if spread is None:
        return "     -"
    std = "" if spread["std"] is None else f" ± {100 * spread['std']:4.2f}"
    return f"{100 * spread['mean']:6.2f}{std} %"


def _number(value, digits):
    return "-" if value is None else f"{value:.{digits}f}"


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
