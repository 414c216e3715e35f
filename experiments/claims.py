"""All claims in order of value: the commands, the result files, the code that they depend on.

CLAIMS are those of a processor, GPU_CLAIMS what it cannot do in a day. In a command `{out}` is the
folder of its runs, `{results}` that of its results.
"""

import ast
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
STUDIES = ("functa", "prune", "optim", "robust")


@dataclass(frozen=True)
class Claim:
    """One claim of the report."""

    study: str
    """One of STUDIES."""
    commands: tuple[str, ...]
    """What follows `python -m`, one after the other."""
    files: tuple[str, ...]
    """Results, in experiments/results; the first names the commit."""
    code: tuple[str, ...]
    """Files and folders of the repository; where they change, the results are stale."""
    minutes: float
    """Time on two CPU cores, where the files do not say it."""

    @property
    def name(self):
        """The experiment and its preset, as "landscape digits"."""
        return self.commands[-1].removeprefix("experiments.").partition(" --")[0]


DATA = ("groundfloor/data", "groundfloor/seeds.py")
PRECISION = "groundfloor/precision.py"
TRAINING = ("functa_jax/training", "functa_jax/meta_train.py", PRECISION)
MODEL = ("functa_jax/model", *TRAINING, *DATA)
FITTED = (*MODEL, "functa_jax/evaluation", "functa_jax/images")
LATENTS = (*FITTED, "functa_jax/functa.py", "functa_jax/functaset.py")

TORCH = (
    "optim_torch/",
    "prune_torch/",
    "groundfloor/data/",
    "groundfloor/pytorch/",
    *DATA[1:],
    PRECISION,
)


def with_imports(*code, inside=TORCH):
    """Files and folders of the repository, and the files of experiments/ and of `inside` (how their
    paths begin) that they import, and that these import.

    Left out are experiments/runner.py and what all commands share of groundfloor.
    A claim names those parts of functa_jax that it measures: each of them imports most others.
    """
    left = [str(f.relative_to(ROOT)) for path in code for f in _files(ROOT / path)]
    found = set(left)
    while left:
        for file in imports(left.pop()) - found:
            if file.startswith(("experiments/", *inside)) and file != "experiments/runner.py":
                found.add(file)
                left.append(file)
    named = [path for path in code if (ROOT / path).is_dir()]
    return (*code, *sorted(f for f in found - {*code} if not f.startswith(tuple(named))))


def _files(path):
    return path.rglob("*.py") if path.is_dir() else [path]


@cache
def imports(file):
    """The files of the repository that one of them imports names from, at its top or later."""
    names = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                names.add(_module(f"{node.module}.{alias.name}") or _module(node.module))
    return names - {None}


def _module(name):
    """Its file, or None if it is no module of the repository."""
    path = name.replace(".", "/")
    files = (f"{path}.py", f"{path}/__init__.py")
    return next((file for file in files if (ROOT / file).exists()), None)


def reconstruction(preset, minutes):
    """How well latents of one preset hold images."""
    command = f"experiments.reconstruction {preset} --out {{out}}"
    code = ("experiments/reconstruction.py", *FITTED)
    return Claim("functa", (command,), (f"reconstruction_{preset}.json",), code, minutes)


def lbfgs(preset, minutes):
    """What latents hold beyond the inner loop."""
    command = f"experiments.lbfgs {preset} --out {{out}}"
    code = ("experiments/lbfgs.py", *LATENTS)
    return Claim("functa", (command,), (f"lbfgs_{preset}.json",), code, minutes)


def functions(modality, minutes):
    """How well latents hold functions of one modality."""
    command = f"experiments.functions {modality} --out {{out}}"
    code = ("experiments/functions.py", "functa_jax/modalities", *FITTED)
    return Claim("functa", (command,), (f"functions_{modality}.json",), code, minutes)


def scenes(preset, minutes):
    """Novel views of scenes."""
    command = f"experiments.functions_scenes {preset} --out {{out}}"
    code = ("experiments/functions_scenes.py", "functa_jax/scenes", "functa_jax/modalities")
    return Claim("functa", (command,), (f"functions_{preset}.json",), (*code, *FITTED), minutes)


def tasks(preset, minutes):
    """What the latents of one preset are good for."""
    command = f"experiments.functa_tasks {preset} --out {{out}}"
    code = ("experiments/functa_tasks.py", *LATENTS, "functa_jax/tasks")
    return Claim("functa", (command,), (f"tasks_{preset}.json",), code, minutes)


def dessilbi(name, minutes, preset="mnist"):
    """One experiment with LeNet on MNIST."""
    command = f"experiments.dessilbi_{name}" + (f" {preset}" if preset else "")
    file = f"dessilbi_{name}{f'_{preset}' if preset else ''}.json"
    code = with_imports(f"experiments/dessilbi_{name}.py", "optim_torch/train.py")
    return Claim("optim", (f"{command} --out {{out}}",), (file,), code, minutes)


def landscape(preset, minutes):
    """The landscape with and without BatchNorm."""
    command = f"experiments.landscape {preset} --out {{out}}"
    code = with_imports("experiments/landscape.py", "optim_torch/landscape")
    return Claim("optim", (command,), (f"landscape_{preset}.json",), code, minutes)


def parts(preset, minutes):
    """The parts of a network."""
    command = f"experiments.study {preset} --out {{out}}"
    code = with_imports("experiments/study.py", "optim_torch/study")
    return Claim("optim", (command,), (f"study_{preset}.json",), code, minutes)


def pruning(preset, minutes):
    """A Vision Transformer at nine densities."""
    command = f"experiments.prune_sweep {preset} --out {{out}}"
    files = (f"prune_{preset}.json", f"prune_{preset}.csv")
    code = with_imports("experiments/prune_sweep.py", "prune_torch")
    return Claim("prune", (command,), files, code, minutes)


def readers(name, minutes):
    """One reader of the class for latents, PCA and pixels."""
    command = f"experiments.latent_readers {name} --out {{out}}"
    code = (*with_imports("experiments/latent_readers.py"), *LATENTS)
    return Claim("functa", (command,), (f"latent_readers_{name}.json",), code, minutes)


def robust(name, minutes, runs=False, uses=()):
    """Sparse robust statistics; runs: whether it has a folder of them; uses: of functa_jax."""
    command = f"experiments.robust_{name}" + (" --out {out}" if runs else "")
    code = (*with_imports(f"experiments/robust_{name}.py"), *uses)
    return Claim("robust", (command,), (f"robust_{name}.json",), code, minutes)


BENCH = Claim(
    "functa",
    ("experiments.bench functa",),
    ("bench_functa.jsonl",),
    ("experiments/bench.py", "experiments/haiku_functa.py", *FITTED),
    3,
)
CLAIMS = (
    Claim(
        "functa",
        ("experiments.pca",),
        ("pca.json",),
        ("experiments/pca.py", "functa_jax/evaluation/reconstruction.py", *DATA),
        1,
    ),
    reconstruction("digits", 10),
    reconstruction("digits_class_loss", 10),
    tasks("mnist", 90),
    dessilbi("filters", 35, preset=""),
    landscape("digits", 14),
    pruning("cifar10-small", 1200),
    pruning("digits", 60),
    reconstruction("mnist", 40),
    dessilbi("density", 12),
    landscape("digits-edge", 5),
    landscape("digits-edge-adam", 10),
    landscape("cifar10-edge", 52),
    landscape("cifar10-norms", 24),
    reconstruction("cifar10_spatial_cpu", 60),
    reconstruction("cifar10_spatial_gradient", 75),
    readers("grid", 260),
    readers("few", 120),
    readers("decoded", 1500),
    parts("cifar10-base", 60),
    parts("cifar10-94", 75),
    Claim(
        "functa",
        (
            "functa_jax.export --run experiments/results/functa_cifar10-spatial-cpu.npz "
            "--dataset cifar10 --dtype float16 --out {out}/functaset.npz",
            "experiments.compression --functaset {out}/functaset.npz --out {out}",
        ),
        ("compression_cifar10.json", "functa_cifar10_rounded.npz"),
        (
            "experiments/compression.py",
            "experiments/compression_parts.py",
            "functa_jax/tasks/compression",
            *LATENTS,
        ),
        25,
    ),
    dessilbi("bases", 25),
    dessilbi("target", 12),
    dessilbi("target", 75, preset="cifar10"),
    dessilbi("tickets", 25),
    dessilbi("growing", 10),
    landscape("cifar10-light", 10),
    landscape("cifar10-vgg-a", 125),
    parts("cifar10-cpu", 45),
    tasks("digits", 15),
    reconstruction("mnist_sizes", 60),
    Claim(
        "functa",
        ("experiments.inner_steps digits_spatial --out {out}",),
        ("inner_steps_digits_spatial.json",),
        ("experiments/inner_steps.py", *FITTED),
        120,
    ),
    Claim(
        "functa",
        ("experiments.vectors cifar10 --out {out}",),
        ("vectors_cifar10.json",),
        ("experiments/vectors.py", *FITTED),
        60,
    ),
    Claim(
        "functa",
        (
            "functa_jax.meta_train digits --out {out}/run",
            "experiments.latent_classification --run {out}/run --out {out}/classification "
            "--results experiments/results",
        ),
        ("latent_classification_digits.json",),
        ("experiments/latent_classification.py", *LATENTS),
        5,
    ),
    Claim(
        "functa",
        ("experiments.single_images mnist --out {out}",),
        ("single_images_mnist.json",),
        ("experiments/single_images.py", "functa_jax/single", "functa_jax/fit_images.py", *LATENTS),
        8,
    ),
    Claim(
        "functa",
        ("experiments.reconstructions",),
        ("reconstructions.png",),
        ("experiments/reconstructions.py", *LATENTS),
        1,
    ),
    Claim(
        "functa",
        ("experiments.viewers",),
        ("viewer_mnist.html", "viewer_cifar10.html"),
        ("experiments/viewers.py", "functa_jax/view.py", "functa_jax/viewer", *LATENTS),
        2,
    ),
    Claim(
        "optim",
        ("experiments.curves --out {out}",),
        ("curves/digits.json",),
        with_imports("experiments/curves.py", "optim_torch/train.py", "optim_torch/landscape"),
        4,
    ),
    Claim(
        "functa",
        ("experiments.mirrored_grids",),
        ("mirrored_grids.json",),
        ("experiments/mirrored_grids.py", *LATENTS),
        5,
    ),
    Claim(
        "functa",
        ("experiments.start_scale --out {out}",),
        ("start_scale.json",),
        ("experiments/start_scale.py", "functa_jax/single", "functa_jax/model"),
        8,
    ),
    functions("voxels", 30),
    functions("sphere", 30),
    functions("sound", 30),
    functions("video", 30),
    functions("stacks", 30),
    scenes("scenes", 30),
    scenes("scenes_hour", 70),
    tasks("digits-spatial", 30),
    tasks("cifar10-spatial-cpu", 240),
    reconstruction("cifar10_cpu", 10),
    lbfgs("mnist", 30),
    lbfgs("cifar10", 10),
    Claim(
        "optim",
        ("experiments.linear_path",),
        ("linear_path.json",),
        with_imports("experiments/linear_path.py"),
        3,
    ),
    Claim(
        "prune",
        (
            "experiments.prune_sweep cifar10-groups --out {out}",
            "experiments.prune_speed cifar10-small --run {out} --rounds 15",
        ),
        (
            "prune_speed_cifar10-small.json",
            "prune_cifar10-groups.json",
            "prune_cifar10-groups.csv",
        ),
        with_imports("experiments/prune_sweep.py", "experiments/prune_speed.py", "prune_torch"),
        200,
    ),
    Claim(
        "prune",
        ("experiments.prune_recovery cifar10-small --out {out}",),
        ("prune_recovery_cifar10-small.json",),
        with_imports("experiments/prune_recovery.py", "prune_torch"),
        60,
    ),
    Claim(
        "prune",
        ("experiments.prune_memory cpu",),
        ("prune_memory_cpu.json",),
        with_imports("experiments/prune_memory.py", "prune_torch"),
        15,
    ),
    replace(BENCH, commands=("experiments.bench functa --results experiments/results",)),
    Claim(
        "functa",
        ("experiments.bench streams --results experiments/results",),
        ("bench_streams.jsonl",),
        ("experiments/bench.py", "experiments/streams.py", *FITTED),
        10,
    ),
    Claim(
        "functa",
        ("experiments.time_to_quality digits --out {out}",),
        ("time_to_quality_digits.json",),
        (*with_imports("experiments/time_to_quality.py", inside=()), *FITTED),
        22,
    ),
    Claim(
        "functa",
        ("experiments.imagenet",),
        ("imagenet.json",),
        ("experiments/imagenet.py", *LATENTS),
        6,
    ),
    Claim(
        "functa",
        ("experiments.bfloat16 digits --out {out}",),
        ("bfloat16_digits.json",),
        (*with_imports("experiments/bfloat16.py", inside=()), *FITTED),
        10,
    ),
    Claim(
        "functa",
        ("experiments.bfloat16 cifar10-grid --out {out}",),
        ("bfloat16_cifar10-grid.json",),
        (*with_imports("experiments/bfloat16.py", inside=()), *FITTED),
        52,
    ),
    Claim(
        "optim",
        ("experiments.bench dessilbi --results experiments/results",),
        ("bench_dessilbi.jsonl",),
        ("experiments/bench.py", "optim_torch/dessilbi", "optim_torch/models"),
        3,
    ),
    robust("labels", 4),
    robust("knockoffs", 10),
    robust("ranking", 3),
    robust("masking", 3),
    robust("fewshot", 30, runs=True, uses=LATENTS),
    robust("labels_cifar10", 15, runs=True),
    robust("lista", 30, runs=True),
    robust("msplit", 10),
    robust("pca", 1),
)
KEPT = (  # and not made again by experiments.all
    "cifar10_gauss_newton_psnr.json",  # written by hand, from training runs, as the next
    "cifar10_vector_training.json",
    "prune_cifar10-first.json",  # a sweep whose preset is no more
    "prune_cifar10-first.csv",
    "prune_dense_cifar10-small.json",  # the released network: experiments.prune_dense
)


def on_gpu(claim):
    """The same, its results in a folder of their own: they are missing until a GPU was there."""
    (command,) = claim.commands
    return replace(claim, commands=(f"{command} --results {{results}}",))


SEEDS = "experiments.study cifar10 --seeds 0 1 2 --out {out}"
GPU_CLAIMS = tuple(
    on_gpu(claim)
    for claim in (
        BENCH,
        Claim(
            "prune",
            ("experiments.prune_memory gpu",),
            ("prune_memory_gpu.json",),
            with_imports("experiments/prune_memory.py", "prune_torch"),
            5,
        ),
        Claim(
            "prune",
            ("experiments.prune_in21k",),
            ("prune_in21k.json",),
            with_imports("experiments/prune_in21k.py", "prune_torch"),
            3,
        ),
        Claim(
            "functa",
            ("experiments.imagenet --device-batch 4",),  # 6.3 GB each
            ("imagenet.json",),
            ("experiments/imagenet.py", *LATENTS),
            6,
        ),
        reconstruction("cifar10", 240),
        reconstruction("cifar10_spatial", 90),
        pruning("cifar10-tiny", 600),
        landscape("cifar10-course", 60),
        dessilbi("density", 90, preset="cifar10"),
        replace(parts("cifar10", 10), commands=(SEEDS,)),
        landscape("cifar10-paper", 120),
        dessilbi("bases", 180, preset="cifar10"),
        dessilbi("tickets", 120, preset="cifar10"),
        dessilbi("growing", 120, preset="cifar10"),
        reconstruction("celeba64", 3000),
    )
)
