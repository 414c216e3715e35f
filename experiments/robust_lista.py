"""What do learned layers gain over ISTA, and what happens to them away from what they were shown?

    python -m experiments.robust_lista        30 minutes on one CPU core; no download

A (250, 500) Gaussian with columns of norm 1, 10 % of x* Gaussian, the others 0; without noise and
at 30 dB. Sixteen layers of LISTA, LISTA-CP, LISTA-CPSS, ALISTA and unrolled ADMM, with ISTA and
FISTA at the penalty that is best on another batch. Then networks trained without noise get codes of
other density, size and noise, with and without the safeguard. Errors are printed twice, as
ista.nmse_db defines them: pooled, and as the mean of each sample's dB. Three seeds: each has its
own A, start, training and test codes. A killed run goes on in --out.
Results: experiments/results/robust_lista.json and .png.

Expected, pooled, three seeds, 43 minutes of one core beside two other jobs. Without noise: ISTA -6
dB, FISTA -11, LISTA -18, LISTA-CP -22, ADMM -40, LISTA-CPSS -44, ALISTA, which learns 32 numbers,
-58; at 30 dB the last three -30 to -32. In figures of Open-L2O for A (256, 512), read off, mean of
dB: LISTA -35, LISTA-CP -30, LISTA-CPSS -63, ALISTA -79, so ours are trained less. Away from what
they were shown FISTA at its best penalty is ahead of all of them on codes ten times larger (-11 dB;
ALISTA -0.5, guarded -4) and at 10 dB of noise; on codes ten times smaller the safeguard, whose size
is that of its penalty, takes -28 dB to -3. Where networks were trained it costs nothing.
"""

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from experiments import runner
from groundfloor import checks, cli, seeds
from groundfloor.checks import Count, Positive, Seed
from groundfloor.plots import PALETTE, WIDTH, figure
from groundfloor.runs import Progress, Run, spread
from optim_torch.robust.admm import UnrolledADMM
from optim_torch.robust.ista import fista, ista, nmse_db, sparse_codes, sparse_problem
from optim_torch.robust.lista import KINDS, UnrolledISTA, train

LEVELS = {"without noise": math.inf, "30 dB": 30.0}
RATES = {"lista": 3e-3, "lista-cp": 1e-3, "lista-cpss": 1e-3, "alista": 1e-2, "admm": 1e-2}
PENALTIES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 1, 2, 3, 5)
USUAL = (0.1, 1, math.inf)
SHIFTS = (  # density, size, signal to noise in dB
    USUAL,
    (0.05, 1, math.inf),
    (0.2, 1, math.inf),
    (0.3, 1, math.inf),
    (0.1, 0.1, math.inf),
    (0.1, 10, math.inf),
    (0.1, 1, 20),
    (0.1, 1, 10),
)
ITERATIVE = {"ista": ista, "fista": fista}
GUARDED = ("lista", "lista-cpss", "alista")
SAFEGUARD = 0.99


@dataclass(frozen=True)
class Config(checks.Settings):
    """The problem, and how long is trained."""

    seeds: tuple[Seed, ...] = (0, 1, 2)
    """Each has its own A, start, training and test codes."""
    rows: Count = 250
    """m."""
    columns: Count = 500
    """n."""
    layers: Count = 16
    """Layers, and steps of ISTA and FISTA."""
    steps: Count = 200
    """Training steps of each layer, of 128 codes."""
    joint: Count = 300
    """Training steps of all layers together."""
    test: Count = 1000
    """Test codes."""
    penalty: Positive = 0.1
    """Of the ISTA that the networks start as, and of the safeguard."""
    out: Path = Path("runs/robust_lista")
    """Folder for what is done."""
    results: Path = runner.RESULTS
    """Folder for the table and the figure."""


def main(config):
    """Train, measure, write and print; returns what the JSON holds."""
    names = ("rows", "columns", "layers", "steps", "joint", "test", "penalty")
    settings = {name: getattr(config, name) for name in names} | {"rates": RATES}
    run = Run(config.out, settings, data_fingerprint=None)
    kinds = (*ITERATIVE, *KINDS, "admm")
    cells = [(seed, level, kind) for level in LEVELS for seed in config.seeds for kind in kinds]
    done = {(row["seed"], row["level"], row["kind"]) for row in run.rows()}
    left = [cell for cell in cells if cell not in done]
    with Progress(len(cells), "method", start=len(cells) - len(left)) as progress:
        for seed, level, kind in left:
            random = np.random.default_rng(seeds.fold(seed, "problem"))
            A = sparse_problem(random, config.rows, config.columns)
            found = measured(config, seed, A, level, kind)
            run.log(seed=seed, level=level, kind=kind, **found)
            progress.advance(1)
    rows = [row for row in run.rows() if (row["seed"], row["level"], row["kind"]) in cells]
    table, shifts = over_seeds(rows)
    facts = {"seeds": list(config.seeds), "table": table, "shifts": shifts}
    path = config.results / "robust_lista.json"
    result = runner.write(path, "robust_lista", facts, [run.environment])
    draw(config.results / "robust_lista.png", table, shifts)
    report(table, shifts)
    return result


def over_seeds(rows):
    """(table of the methods, table away from the training codes)."""
    table, shifts = [], []
    for level, kind in dict.fromkeys((row["level"], row["kind"]) for row in rows):
        own = [row for row in rows if (row["level"], row["kind"]) == (level, kind)]
        table.append(
            {
                "setting": level,
                "method": kind,
                "pooled": spread(row["pooled"][-1] for row in own),
                "mean_of_db": spread(row["mean_of_db"][-1] for row in own),
                "pooled_by_layer": np.mean([row["pooled"] for row in own], axis=0).tolist(),
                "seconds": spread(row["seconds"] for row in own),
            }
        )
    away = [row for row in rows if "away" in row]
    for at, (density, size, snr) in enumerate(SHIFTS):
        shift = {"density": density, "size": size, "noise": f"{snr:g} dB"}
        for row in away:
            for key, value in row["away"][at].items():
                shift.setdefault(key, []).append(value)
        keys = [key for key, value in shift.items() if isinstance(value, list)]
        shifts.append(shift | {key: spread(shift[key]) for key in keys})
    return table, shifts


def measured(config, seed, A, level, kind):
    """Errors by layer of one method on its test codes, and where it is `GUARDED` away from them."""
    snr = LEVELS[level]
    random = np.random.default_rng(seeds.fold(seed, level, "test"))
    chosen = sparse_codes(random, A, 200, snr=snr)
    x, b = sparse_codes(random, A, config.test, snr=snr)
    began = perf_counter()
    found = {}
    if kind in ITERATIVE:
        found["penalty"] = best_penalty(kind, A, chosen, config.layers)
        codes = ITERATIVE[kind](A, b, found["penalty"], config.layers)
    else:
        model = network(config, seed, A, level, kind)
        codes = model.codes(tensor(b))[0].numpy()
        if kind in GUARDED and math.isinf(snr):
            found["away"] = away(config, seed, A, model, kind)
    pooled, mean = nmse_db(codes, x)
    found |= {"pooled": pooled.tolist(), "mean_of_db": mean.tolist()}
    return found | {"seconds": perf_counter() - began}


def best_penalty(kind, A, chosen, layers):
    """Of PENALTIES the one with the least error on codes (x, b) that are not those of test."""
    x, b = chosen
    ends = [ITERATIVE[kind](A, b, penalty, layers)[-1] for penalty in PENALTIES]
    return PENALTIES[np.argmin([nmse_db(end, x)[0] for end in ends])]


def network(config, seed, A, level, kind):
    """The trained network of one kind."""
    random = np.random.default_rng(seeds.fold(seed, level, kind))
    torch.manual_seed(seeds.fold(seed, level, kind))
    make = UnrolledADMM if kind == "admm" else partial(UnrolledISTA, kind=kind)
    model = make(A, layers=config.layers, penalty=config.penalty)

    def sample(count):
        return tuple(map(tensor, sparse_codes(random, A, count, snr=LEVELS[level])))

    return train(model, sample, steps=config.steps, joint=config.joint, rate=RATES[kind])


def tensor(array):
    return torch.tensor(array, dtype=torch.float32)


def away(config, seed, A, model, kind):
    """Pooled errors of a network, with and without safeguard, and of ISTA and FISTA at the
    penalties that are best for other codes of that kind: a dict per SHIFTS."""
    rows = []
    for at, (density, size, snr) in enumerate(SHIFTS):
        random = np.random.default_rng(seeds.fold(seed, "away", at))
        x, b = sparse_codes(random, A, config.test, density, snr, size)
        guarded, taken = model.codes(tensor(b), SAFEGUARD)
        row = {
            kind: nmse_db(model(tensor(b)).detach().numpy(), x)[0],
            f"{kind} safeguarded": nmse_db(guarded[-1].numpy(), x)[0],
            f"{kind} learned steps": taken.float().mean().item(),
        }
        if kind == GUARDED[0]:
            chosen = sparse_codes(random, A, 200, density, snr, size)
            for name, method in ITERATIVE.items():
                penalty = best_penalty(name, A, chosen, config.layers)
                row[name] = nmse_db(method(A, b, penalty, config.layers)[-1], x)[0]
        rows.append(row)
    return rows


def draw(target, table, shifts):
    """Errors by layer at both noise levels, and away from the training codes."""
    with figure(target, columns=3, size=(WIDTH, 4.4)) as (_, axes):
        for ax, level in zip(axes, LEVELS, strict=False):
            for row in table:
                if row["setting"] == level:
                    ax.plot(row["pooled_by_layer"], label=row["method"])
            ax.set(title=level, xlabel="layer", ylabel="pooled error, dB")
        below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2)}
        axes[0].legend(**below)
        at = np.arange(len(shifts))
        for number, kind in enumerate((*GUARDED, *ITERATIVE)):
            for key, marker in ((kind, "o"), (f"{kind} safeguarded", "x")):
                if key in shifts[0]:
                    values = [row[key]["mean"] for row in shifts]
                    axes[2].plot(at, values, marker, color=PALETTE[number], label=key)
        shift = [key for key in ("density", "size", "noise") if key in shifts[0]]
        names = [", ".join(str(row[key]) for key in shift) for row in shifts]
        axes[2].set_xticks(at, names, rotation=90, fontsize=7)
        axes[2].set(title="away from the training codes", xlabel=", ".join(shift))
        axes[1].legend(*axes[2].get_legend_handles_labels(), title="at the right", **below)


def report(table, shifts):
    """Both tables."""
    for row in table:
        errors = f"{runner.text(row['pooled'])} dB pooled, {runner.text(row['mean_of_db'])} dB mean"
        print(f"{row['setting']:14s} {row['method']:11s} {errors}")
    for row in shifts:
        print(f"density {row['density']:g}, size {row['size']:g}, noise {row['noise']}:")
        for key, value in row.items():
            if isinstance(value, dict):
                print(f"    {key:26s} {runner.text(value)}")


if __name__ == "__main__":
    cli.run(main, Config)
