"""Do zeros make a Vision Transformer faster on this machine, and below which density?

    python -m prune_torch.breakeven --model vit_base_patch16_224

Each matrix of a block times x (tokens, in), float32: dense, as CSR with a share of its entries,
and with a share of its rows. (csr @ x.T).T: linear(x, csr) takes 4 to 6 times as long on the CPU.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from torch.nn.functional import linear

from groundfloor import checks, cli
from groundfloor.checks import Count, PositiveShare
from groundfloor.errors import UserError, first_line
from groundfloor.machine import cores, environment
from groundfloor.runs import write_json
from prune_torch.costs import latency
from prune_torch.density import prunable
from prune_torch.network import stored


@dataclass(frozen=True)
class Config(checks.Settings):
    """What to multiply, and how often."""

    model: str = "vit_tiny_patch16_224"
    """A Vision Transformer of timm; its weights are not needed."""
    densities: tuple[PositiveShare, ...] = (0.5, 0.3, 0.2, 0.1, 0.05)
    """Shares of the entries (CSR), or of the rows, that stay."""
    batch: Count = 1
    """Images at once."""
    tokens: Count = 197
    """Tokens of an image."""
    threads: Count | None = None
    """Threads of torch; default: as many as torch takes."""
    rounds: Count = 15
    """Times that dense, CSR and rows take turns."""
    json: Path | None = None
    """File for the numbers and the machine; none: only print."""


def main(config):
    """Measure every matrix of a block, print a table and advice; returns what --json writes."""
    checks.refuse_beyond("threads", config.threads, cores(), f"there are {cores()} cores")
    threads = config.threads or torch.get_num_threads()
    if config.json:
        stored.refuse_existing(config.json, "--json")
    shapes = matrices(config.model)
    torch.set_num_threads(threads)
    warnings.filterwarnings("ignore", "Sparse CSR tensor support")
    tokens, rows, even = config.batch * config.tokens, [], {}
    print(f"{config.model}, {tokens} tokens, threads: {threads}; speed: dense ms / ms")
    for name, shape in shapes.items():
        measured = measure(shape, tokens, config.densities, config.rounds)
        even[name] = break_even(config.densities, [1 / row["csr_speed"] for row in measured])
        if not rows:
            print("".join(f"{word:>12s}" for word in ("", *measured[0])))
        for row in measured:
            print(f"{name:12s}" + "".join(f"{number:12.3g}" for number in row.values()))
            rows.append({"matrix": name, **row})
    print(advice(rows, even))
    sizes = {"model": config.model, "tokens": tokens, "threads": threads}
    results = {**sizes, "rows": rows, "csr_break_even": even, **environment()}
    if config.json:
        write_json(config.json, results)
    return results


def matrices(model):
    """The distinct matrices in the blocks of a timm ViT: "qkv 576x192" -> (out, in)."""
    for device in ("meta", "cpu"):  # shapes without memory, from timm 1.0.20 on
        try:
            with torch.device(device):
                weights = prunable(timm.create_model(model))
            break
        except Exception as error:  # timm, the hub and the network raise many kinds
            fault = first_line(error)
    else:
        raise UserError(f"{model}: {fault}")
    shapes = [(name.split(".")[-2], *weight.shape) for name, weight in weights.items()]
    return {f"{layer} {out}x{width}": (out, width) for layer, out, width in shapes}


def measure(shape, tokens, densities, rounds):
    """One row a density for a matrix (out, in): median milliseconds, median speed beside dense."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(tokens, shape[1], generator=generator)
    weight = torch.randn(shape, generator=generator)
    times = latency(products(weight, densities, generator), x, rounds)
    rows = []
    for density in densities:
        row = {"density": density, "dense_ms": times["dense", 1]["ms"]}
        for kind in ("csr", "rows"):
            row[f"{kind}_ms"] = times[kind, density]["ms"]
            row[f"{kind}_speed"] = 1 / times[kind, density]["ratio"]
        rows.append(row)
    return rows


def products(weight, densities, generator):
    """("dense", 1), ("csr", d) and ("rows", d) for each density d -> Product.

    CSR keeps round(d * entries) random entries of weight (out, in); rows the first
    round(d * out), at least one.
    """
    modules = {("dense", 1): Product(weight)}
    for density in densities:
        order = torch.randperm(weight.numel(), generator=generator)
        zeros = order[round(density * weight.numel()) :]
        sparse = weight.flatten().index_fill(0, zeros, 0.0).view_as(weight)
        modules["csr", density] = Product(sparse.to_sparse_csr())
        modules["rows", density] = Product(weight[: max(1, round(density * len(weight)))].clone())
    return modules


class Product(torch.nn.Module):
    """x (n, in) -> x @ weight.T (n, out); weight (out, in) dense or CSR."""

    def __init__(self, weight):
        super().__init__()
        self.weight = weight

    def forward(self, x):
        if self.weight.layout == torch.sparse_csr:
            return (self.weight @ x.T).T
        return linear(x, self.weight)


def break_even(densities, ratios):
    """The density up to which time / dense time is at most 1, linear between those measured.

    None if the ratio is above 1 at the lowest density; the highest density if it is nowhere.
    """
    (density, ratio), *others = sorted(zip(densities, ratios, strict=True))
    if ratio > 1:
        return None
    for higher, above in others:
        if above > 1:
            return density + (higher - density) * (1 - ratio) / (above - ratio)
        density, ratio = higher, above
    return density


def advice(rows, even):
    """Whether zeros help here, in words."""
    lowest = min(row["density"] for row in rows)
    speeds = [row["rows_speed"] for row in rows if row["density"] == lowest]
    removed = f"Rows removed: {min(speeds):.1f} to {max(speeds):.1f} times as fast at {lowest:g}."
    if not any(even.values()):
        return f"Zeros do not help here: CSR loses to dense even at density {lowest:g}. {removed}"
    below = ", ".join(f"{name} {d:.2f}" if d else f"{name} never" for name, d in even.items())
    return f"Zeros help here only as CSR and below density: {below}. {removed}"


if __name__ == "__main__":
    cli.run(main, Config)
