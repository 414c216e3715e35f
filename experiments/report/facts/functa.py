"""How well latents hold images, beside PCA and networks of their own."""

from experiments.report.facts import published
from experiments.report.results import db, holds, mean, number

SIZES = ("128", "256", "512", "1024", "1600", "2048")


def facts(results):
    """Texts and tables of what latents hold."""
    return {
        **reconstruction(results),
        **fitted_on(results),
        **sizes(results),
        **single_images(results),
    }


def reconstruction(results):
    """PSNR beside PCA with as many numbers."""
    digits = results("reconstruction_digits.json")["table"][0]
    mnist = results("reconstruction_mnist.json")["table"][0]
    grid = results("reconstruction_cifar10_spatial_gradient.json")["table"][0]
    second_order = results("reconstruction_cifar10_spatial_cpu.json")["table"][0]
    newton = second_order["test_psnr"]
    refined = results("cifar10_vector_training.json")["validation"][-1]
    plain = results("reconstruction_cifar10_cpu.json")["table"][0]
    pca = {
        str(row["numbers"]): row["test_psnr"]
        for row in results("pca.json")["table"].rows(data="cifar10")
    }
    for row, name in ((digits, "digits"), (mnist, "MNIST")):
        holds(row["test_psnr"] > row["pca_test_psnr"], f"latents are above PCA on {name}")
    holds(newton > grid["test_psnr"] > pca["1024"], "the CIFAR-10 grid is above PCA")
    wide = published.read()["psnr"].row(method="spatial functa")["values"]["1024"]
    holds(newton >= wide, "the CIFAR-10 grid has what the paper's has")
    holds(plain["test_psnr"] < plain["pca_test_psnr"], "a plain CIFAR-10 vector is below PCA")
    best = refined["val_psnr"][-1]
    holds(best > refined["pca_val_psnr"], "a decoder that starts as PCA is above it")
    ours = {"256": f"{best:.2f}†", "1024": number(newton)}
    return {
        "digits": over_seeds(digits),
        "digits_numbers": digits["latent_dim"],
        "digits_pca": db(digits["pca_test_psnr"]),
        "mnist": db(mnist["test_psnr"]),
        "mnist_numbers": mnist["numbers"],
        "mnist_pca": db(mnist["pca_test_psnr"]),
        "mnist_gain": db(mnist["test_psnr"] - mnist["pca_test_psnr"], 1),
        "grid": db(grid["test_psnr"]),
        "grid_pca": db(pca["1024"]),
        "grid_gain": db(newton - pca["1024"], 1),
        "grid_minutes": number(grid["train_seconds"] / 60, 0),
        "grid_newton": over_seeds(second_order),
        "newton_minutes": number(second_order["train_seconds"] / 60, 0),
        "grid_width": results.network("functa_cifar10-spatial-cpu.npz")["config"]["width"],
        "plain": db(plain["test_psnr"]),
        "plain_pca": db(plain["pca_test_psnr"]),
        "refined": db(best),
        "refined_pca": db(refined["pca_val_psnr"]),
        "refined_gain": db(best - refined["pca_val_psnr"], 1),
        "state": state_of_the_art(pca, ours),
        "near_most": db(farthest(pca), 1),
        "pca_enf": db(pca["1600"], 1),
        "pca_lh_nef": db(pca["2048"], 1),
    }


def over_seeds(row):
    """PSNR of a row: mean ± standard deviation over the seeds."""
    return f"{number(row['test_psnr'])} ± {number(row['test_psnr_std'])}\u00a0dB"


def fitted_on(results):
    """What the same networks hold where L-BFGS goes on from the inner loop."""
    mnist, grid = results("lbfgs_mnist.json"), results("lbfgs_cifar10.json")
    before, *_, after = mnist["table"]
    grid_before, *_, grid_after = grid["table"]
    gain = after["test_psnr"] - before["test_psnr"]
    grid_gain = grid_after["test_psnr"] - grid_before["test_psnr"]
    holds(gain > 3, "L-BFGS finds far better latents of MNIST than three steps do")
    grid_update = results.network("functa_cifar10-spatial-cpu.npz")["config"]["update"]
    holds(grid_update == "rates", "the grid that L-BFGS goes on from has learned rates")
    holds(0 < grid_gain < gain, "and it finds less on a grid")
    ten = mnist["test_psnr_after_10_inner_steps"]
    holds(ten < before["test_psnr"], "ten steps at rates learned for three are worse than three")
    return {
        "closer": db(after["test_psnr"]),
        "closer_steps": after["lbfgs_steps"],
        "closer_gain": db(gain, 1),
        "closer_time": number(after["milliseconds"] / before["milliseconds"], 0),
        "closer_grid_gain": db(grid_gain, 1),
        "mnist_ten": db(ten),
    }


def state_of_the_art(pca, ours):
    """Rows of PSNR by numbers per image: ours, PCA's, and those of other papers with their key."""
    rows = [{"method": "PCA (ours)", "cite": None, "values": pca}]
    others = published.read()["psnr"]
    rows += [{k: v.value if hasattr(v, "value") else v for k, v in _items(row)} for row in others]
    for numbers, value in (("1600", 42.5), ("2048", 44.4)):
        holds(pca[numbers] > value, f"PCA is above published fields at {numbers} numbers")
    rows.append({"method": "this paper", "cite": None, "values": ours})
    table = []
    for row in rows:
        cells = [row["values"].get(size, "–") for size in SIZES]
        cells = [cell if isinstance(cell, str) else number(cell) for cell in cells]
        table.append({"method": row["method"], "cite": row["cite"], "cells": cells})
    return table


def farthest(pca):
    """How far functa, COIN++ and spatial functa are from PCA at most, at equal numbers, in dB."""
    rows = [row for row in published.read()["psnr"] if row["method"].startswith(("functa", "COIN"))]
    rows.append(published.read()["psnr"].row(method="spatial functa"))
    return max(abs(row["values"][n] - pca[n]) for row in rows for n in row["values"].value)


def _items(row):
    return [(key, row[key]) for key in ("method", "cite", "values")]


def sizes(results):
    """MNIST by the size of the latent."""
    rows = results("reconstruction_mnist_sizes.json")["table"]
    gains = [row["test_psnr"] - row["pca_test_psnr"] for row in rows]
    holds(min(gains) > 3, "latents are at least 3 dB above PCA at all sizes on MNIST")
    return {
        "sizes": [
            [str(row["latent_dim"]), number(row["test_psnr"]), number(row["pca_test_psnr"])]
            for row in rows
        ],
        "sizes_least": db(min(gains), 1),
        "sizes_most": db(max(gains), 1),
    }


def single_images(results):
    """A network for every image: by its size, and beside shared weights."""
    scale = results("start_scale.json")["rows"]
    usual, *others = scale.rows(images="CIFAR-10")
    larger = others[-1]
    sooner = [row["steps_to_40_dB"]["mean"] for row in others]
    photographs = scale.row(images="photographs", scale=1.0)
    holds(larger["psnr"]["mean"] > usual["psnr"]["mean"], "larger initial weights end higher")
    told = {
        "single_cifar10": db(usual["psnr"], 1),
        "single_cifar10_larger": db(larger["psnr"], 1),
        "single_steps_all": number(results("start_scale.json")["steps"], 0),
        "single_parameters": number(parameters(64, 4, 3), 0),
        "single_steps": number(usual["steps_to_40_dB"], 0),
        "single_scale": number(larger["scale"], 0),
        "single_steps_larger": f"{min(sooner):.0f} to {max(sooner):.0f}",
        "single_photographs": db(photographs["psnr"], 1),
        "single_photographs_best": db(
            max((row["psnr"] for row in scale.rows(images="photographs")), key=mean), 1
        ),
        "single_grid": None,
    }
    if not results.has("single_images_mnist.json"):
        return told
    summary = results("single_images_mnist.json")
    grid = summary["grid"]
    told["single_grid"] = [
        [str(row["width"]), str(row["depth"]), number(row["parameters"], 0)]
        + [
            number(grid.row(size=size, width=row["width"], depth=row["depth"])["psnr"], 1)
            for size in (14, 28)
        ]
        for row in grid.rows(size=14)
    ]
    for row in grid.rows(size=28):
        smaller = grid.row(size=14, width=row["width"], depth=row["depth"])
        holds(smaller["psnr"] >= row["psnr"], "a network of its own holds fewer pixels better")
        holds(row["width"] == 64 or row["psnr"] < wider(grid, row), "wider networks hold more")
    deep, wide = (grid.row(size=28, width=w, depth=d) for w, d in ((16, 5), (32, 3)))
    holds(
        deep["psnr"] > wide["psnr"] and deep["parameters"] < wide["parameters"],
        "depth buys more than width for a network of its own",
    )
    beside = summary["comparison"]
    told["single_rows"] = [
        [
            row["method"]
            + (f", {row['steps']} steps" if row.get("steps") else "")
            + {"equal numbers": " (as few numbers)", "equal time": " (as short a time)"}.get(
                row["compared"], ""
            ),
            number(row["numbers"], 0),
            number(row["psnr"]),
            number(1e3 * row["seconds_per_image"]),
        ]
        for row in beside["rows"]
    ]
    told["single_images"] = beside["images"]
    enough = beside["enough"]
    shared, equal, time = (
        beside["rows"].row(compared=kind)
        for kind in ("shared weights", "equal numbers", "equal time")
    )
    holds(
        shared["psnr"] > max(equal["psnr"], time["psnr"]),
        "shared weights are ahead of a network of its own at equal numbers and at equal time",
    )
    told["single_shared"] = db(shared["psnr"], 1)
    told["single_equal"] = db(equal["psnr"], 1)
    told["single_time"] = db(time["psnr"], 1)
    told["single_enough"] = number(enough, 0) if enough else "more numbers than we tried"
    return told


def wider(grid, row):
    """PSNR of the network of twice the width on the same images."""
    return grid.row(size=row["size"], width=2 * row["width"], depth=row["depth"])["psnr"]


def parameters(width, depth, channels):
    """Parameters of a SIREN of so many linear layers."""
    return 3 * width + (depth - 2) * (width + 1) * width + (width + 1) * channels
