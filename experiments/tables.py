"""Every table of experiments/results in one page, and the short one of the readme.

    python -m experiments.tables            seconds

Reads the result files and writes experiments/results/README.md, all tables with the command, seeds,
machine, date and commit of each, and the lines of readme.txt between its two marks. Nothing is
measured here, and a number without a file is not printed. The tests fail where either is stale.
"""

from dataclasses import dataclass
from pathlib import Path

from experiments import headlines, readings, runner
from experiments.markdown import Column, Table, accuracy, section
from groundfloor import cli
from groundfloor.errors import UserError
from groundfloor.runs import atomic

README = Path(__file__).parent.parent / "readme.txt"
MARKS = ("[results: written by python -m experiments.tables]", "[end of results]")


@dataclass(frozen=True)
class Config:
    """Where the results lie."""

    results: Path = runner.RESULTS
    """Folder with the result files; README.md is written there."""
    readme: Path = README
    """File whose lines between the two marks are written."""


RECONSTRUCTION = (
    Column("numbers", "latent_dim"),
    Column("PSNR, dB", "test_psnr"),
    Column("PCA with as many numbers, dB", "pca_test_psnr"),
    Column("seconds", "train_seconds", 0),
)
GRID = (Column("numbers", "numbers"), *RECONSTRUCTION[1:])
LANDSCAPE = (
    Column("normaliser", "norm"),
    Column("rate", "rate"),
    accuracy("test, %", "test"),
    Column("loss at the end", "last_loss", 4),
    Column("width of the loss band", "loss_width", 4),
    Column("change of the gradient", "change_most"),
    Column("β, shortest length", "beta", 1, at=0),
    Column("β, longest length", "beta", 1, at=-1),
    Column("diverged", "diverged"),
)
READERS = (
    Column("what is read", "kind"),
    Column("numbers", "numbers"),
    accuracy("validation, %", "val"),
    accuracy("test, %", "test"),
    Column("p (McNemar, latents)", "p", 4),
    accuracy("of its errors also the latents', %", "wrong_like_first"),
    Column("parameters", "parameters"),
    Column("seconds", "seconds", 0),
)
CLEAN_LABELS = (
    accuracy("precision, %", "precision"),
    accuracy("recall, %", "recall"),
    accuracy("AUC, %", "auc"),
    accuracy("kept, %", "kept"),
    accuracy("wrong among kept, %", "wrong_kept"),
    accuracy("test, logistic, %", "logistic"),
    accuracy("test, neighbours, %", "neighbours"),
)
OLD_CLASSIFIERS = "Accuracies in this file are of an older protocol and are not shown."

READINGS = {
    "functa_jax: images become latents": readings.RECONSTRUCTION,
    "functa_jax: what latents are good for": readings.TASKS,
    "prune_torch: a Vision Transformer at nine densities": readings.PRUNING,
    "optim_torch: DessiLBI": readings.DESSILBI,
    "optim_torch: robust statistics": readings.ROBUST,
    "optim_torch: BatchNorm and the landscape": readings.LANDSCAPE,
    "optim_torch: the parts of a network": readings.STUDY,
}
CHAPTERS = {
    "functa_jax: images become latents": (
        Table("reconstruction_digits.json", "digits, 32 numbers", RECONSTRUCTION),
        Table(
            "reconstruction_mnist.json", "MNIST, 64 numbers", RECONSTRUCTION, note=OLD_CLASSIFIERS
        ),
        Table("reconstruction_mnist_sizes.json", "MNIST, sizes of the latent", RECONSTRUCTION),
        Table("reconstruction_cifar10_cpu.json", "CIFAR-10, one vector", RECONSTRUCTION),
        Table(
            "cifar10_vector_training.json",
            "CIFAR-10, one vector of 256 numbers, a decoder that starts as PCA: validation",
            (
                Column("outer steps", "step"),
                Column("PCA's latents, dB", "val_psnr", at=0),
                Column("1 step", "val_psnr", at=1),
                Column("2 steps", "val_psnr", at=2),
                Column("PCA with as many numbers, dB", "pca_val_psnr"),
                Column("seconds", "seconds", 0),
            ),
            rows="validation",
            note="Seconds beside twenty other jobs; processor time was 384 s in all.",
        ),
        Table(
            "vectors_cifar10.json",
            "What puts a vector above PCA: CIFAR-10, 256 numbers, validation",
            (
                Column("variant", "variant"),
                Column("PSNR, dB", "val_psnr"),
                Column("seconds", "train_seconds", 0),
            ),
        ),
        Table("reconstruction_cifar10_spatial_gradient.json", "CIFAR-10, a grid, rates", GRID),
        Table(
            "cifar10_gauss_newton_psnr.json",
            "CIFAR-10, a grid, Gauss-Newton: PSNR in dB by inner steps",
            rows="test_psnr_after_steps",
        ),
        Table(
            "inner_steps_digits_spatial.json",
            "What changes of the inner loop buy: digits, 2x2x8 numbers, validation",
            (
                Column("variant", "variant"),
                Column("PSNR, dB", "val_psnr"),
                Column("FLOP to fit an image", "fit_flops"),
                Column("FLOP of an outer step, an image", "outer_flops"),
            ),
            rows="rows",
        ),
        Table("latent_classification_digits.json", "More fitting, better classes?", rows="rows"),
        Table(
            "latent_readers_grid.json",
            "CIFAR-10: one ConvNet reads the class from 8x8 cells",
            READERS,
            rows="rows",
        ),
        Table(
            "start_scale.json",
            "Single images: initial weights times a scale",
            (
                Column("images", "images"),
                Column("scale", "scale"),
                Column("rate", "rate", 4),
                Column("PSNR after 500 steps, dB", "psnr"),
                Column("steps to 40 dB", "steps_to_40_dB", 1),
            ),
            rows="rows",
        ),
        Table("bench_functa.jsonl", "Speed of an outer step beside a plain haiku version"),
    ),
    "functa_jax: what latents are good for": (
        Table("tasks_digits.json", "digits, 32 numbers", rows="tasks"),
        Table("tasks_mnist.json", "MNIST, 64 numbers", rows="tasks"),
        Table("tasks_digits-spatial.json", "digits, a grid of 2x2x8 numbers", rows="tasks"),
        Table("tasks_cifar10-spatial-cpu.json", "CIFAR-10, a grid of 8x8x16", rows="tasks"),
        Table("compression_cifar10.json", "Compression of CIFAR-10: all 10,000 test images"),
        Table(
            "compression_cifar10.json",
            "Compression of CIFAR-10: latents beside what others have published",
            rows="against",
        ),
        Table(
            "compression_cifar10.json",
            "Compression of CIFAR-10: processor time of 256 images, beside other jobs",
            rows="times",
        ),
        Table(
            "compression_cifar10.json",
            "Compression of CIFAR-10: what each part of the codec buys, on validation",
            rows="parts",
        ),
    ),
    "prune_torch: a Vision Transformer at nine densities": (
        Table("prune_cifar10-small.csv", "CIFAR-10, 308,042 parameters: top-1 in %"),
        Table(
            "prune_memory_cpu.json",
            "Host memory of a whole cell, ViT-B/16",
            (
                Column("method", "method"),
                Column("bytes", "bytes"),
                Column("seconds", "seconds", 0),
            ),
        ),
    ),
    "optim_torch: DessiLBI": (
        Table(
            "dessilbi_filters.json",
            "Figure 1 of the paper: which of 120 filters of conv3 are selected (paper: about 15)",
            (
                Column("filters selected", "selected_filters", 1),
                Column("left by SGD", "sgd_filters_of_w_left"),
                accuracy("density, %", "density"),
                accuracy("W, %", "test_accuracy_w"),
                accuracy("on supp Γ, %", "test_accuracy_w_on_support"),
                accuracy("Γ itself, %", "test_accuracy_gamma"),
                accuracy("SGD, %", "sgd_test_accuracy"),
            ),
        ),
        Table(
            "dessilbi_density_mnist.json",
            "One path for all densities, nothing retrained: test accuracy",
            (
                accuracy("density, %", "density"),
                accuracy("DessiLBI's order, %", "dessilbi"),
                accuracy("magnitude of DessiLBI's W, %", "dessilbi_magnitude"),
                accuracy("magnitude of SGD's W, %", "sgd_magnitude"),
            ),
        ),
        Table(
            "dessilbi_target_mnist.json",
            "A density that is asked for: λ follows it, nothing is retrained",
            (
                accuracy("asked for, %", "target"),
                accuracy("density, %", "density"),
                accuracy("W, %", "w"),
                accuracy("on supp Γ, %", "w_on_support"),
                accuracy("Γ itself, %", "gamma"),
            ),
            rows="rows",
        ),
        Table(
            "dessilbi_tickets_mnist.json",
            "Winning tickets",
            (
                Column("masks", "masks"),
                accuracy("density, %", "density"),
                accuracy("test, %", "test_accuracy"),
            ),
        ),
        Table(
            "dessilbi_bases_mnist.json",
            "Other optimizers for W",
            (
                Column("base", "variant"),
                accuracy("W, %", "w"),
                accuracy("on supp Γ, %", "w_on_support"),
                accuracy("Γ itself, %", "gamma"),
                accuracy("density, %", "density"),
            ),
        ),
        Table(
            "dessilbi_growing_mnist.json",
            "Growing",
            (
                Column("network", "name"),
                Column("parameters", "parameters", 0),
                accuracy("test, %", "test_accuracy"),
            ),
        ),
        Table("linear_path.json", "Sparse regression: is the truth on the path?", rows="recovery"),
        Table("bench_dessilbi.jsonl", "Speed of a training step beside the base optimizer alone"),
    ),
    "optim_torch: robust statistics": (
        Table(
            "robust_knockoffs.json",
            "Knockoffs: share of wrong discoveries (asked for: 20 %) and of true ones found",
            (
                Column("to find", "problem"),
                Column("method", "method"),
                Column("strength", "strength"),
                accuracy("wrong, %", "fdr"),
                accuracy("found, %", "power"),
            ),
        ),
        Table(
            "robust_msplit.json",
            "Strong and weak signals: logistic models of digits and of computed scans",
            (
                Column("data", "problem"),
                Column("method", "method"),
                accuracy("test, %", "test_accuracy"),
                Column("nonzero", "support", 1),
                Column("Jaccard index of two supports", "jaccard"),
                Column("F1 of the lesions", "lesion_f1"),
            ),
        ),
        Table(
            "robust_lista.json",
            "Sparse codes after 16 layers or steps",
            (
                Column("noise", "setting"),
                Column("method", "method"),
                Column("error, pooled, dB", "pooled"),
                Column("error, mean of dB", "mean_of_db"),
            ),
        ),
        Table(
            "robust_lista.json",
            "Away from the training codes (first row): pooled error in dB",
            (
                Column("density", "density"),
                Column("size", "size"),
                Column("noise", "noise"),
                Column("LISTA", "lista"),
                Column("guarded", "lista safeguarded"),
                Column("LISTA-CPSS", "lista-cpss"),
                Column("guarded", "lista-cpss safeguarded"),
                Column("ALISTA", "alista"),
                Column("guarded", "alista safeguarded"),
                Column("ISTA", "ista"),
                accuracy("learned steps of guarded ALISTA, %", "alista learned steps"),
            ),
            rows="shifts",
        ),
        Table(
            "robust_pca.json",
            "Digits with corrupted pixels",
            (
                accuracy("corrupted, %", "corrupted"),
                Column("method", "method"),
                Column("PSNR, dB", "psnr"),
                Column("average precision of the marks", "average_precision"),
            ),
        ),
        Table(
            "robust_labels.json",
            "Wrong labels of 4,000 MNIST images: found, and what is learned without them",
            (
                Column("labels", "labels"),
                Column("features", "features"),
                Column("method", "method"),
                *CLEAN_LABELS,
            ),
        ),
        Table(
            "robust_labels_cifar10.json",
            "Wrong labels of 45,000 CIFAR-10 images, features of a network that learned them",
            (
                Column("labels", "labels"),
                Column("method", "method"),
                *CLEAN_LABELS,
            ),
        ),
        Table(
            "robust_fewshot.json",
            "Few shots, 5-way",
            (
                Column("data", "data"),
                Column("features", "features"),
                Column("shots", "shots"),
                Column("method", "method"),
                accuracy("test, %", "accuracy"),
                accuracy("more than logistic regression alone, %", "gain"),
                accuracy("more than most confident first, %", "over_confidence"),
                Column("episodes", "episodes"),
            ),
            note="± is a 95 % interval over the episodes; differences are of the same episodes.",
        ),
        Table(
            "robust_ranking.json",
            "Wrong comparisons of 16 items: Kendall's τ, and are they found?",
            (
                Column("answers", "answers"),
                Column("comparisons", "comparisons"),
                accuracy("wrong, %", "wrong"),
                Column("least squares", "tau_least_squares"),
                Column("Huber", "tau_huber"),
                Column("Bradley-Terry, majority", "tau_bradley_terry"),
                Column("RobustRanker", "tau_robust"),
                accuracy("AUC, residuals, %", "auc_residual"),
                accuracy("AUC, path, %", "auc_path"),
                accuracy("precision, %", "outlier_precision"),
                accuracy("recall, %", "outlier_recall"),
            ),
        ),
        Table(
            "robust_masking.json",
            "Outliers that hide each other: 1,000 rows, 15 columns, all shifted by 5",
            (
                Column("distance", "leverage"),
                Column("outliers", "outliers"),
                Column("method", "method"),
                accuracy("missed, %", "masked"),
                accuracy("accused wrongly, %", "swamped"),
                accuracy("none missed, % of data sets", "joint"),
                accuracy("AUC of the order, %", "auc"),
            ),
        ),
    ),
    "optim_torch: BatchNorm and the landscape": (
        Table("landscape_digits.json", "digits, VGG_A_Light", LANDSCAPE),
        Table("landscape_cifar10-light.json", "CIFAR-10, VGG_A_Light", LANDSCAPE),
        Table(
            "landscape_digits-edge.json",
            "Gradient descent on 512 digits: shares of the edge of stability (1 is at it)",
            (
                Column("normaliser", "norm"),
                Column("rate", "rate"),
                accuracy("test, %", "test"),
                Column("λ rate / 2, most", "edges_most", at="largest"),
                Column("λ rate / 2, later", "edges", at="largest"),
                Column("batch sharpness rate / 2, later", "edges", at="sharpness"),
                Column("β rate / 2, later", "edges", at="beta"),
            ),
        ),
    ),
    "optim_torch: the parts of a network": (
        Table(
            "study_cifar10-cpu.json",
            "CIFAR-10: one part of the base changed at a time",
            (
                Column("part", "axis"),
                Column("value", "value"),
                Column("rate", "setting", at="rate"),
                accuracy("validation, %", "val"),
                Column("parameters", "parameters"),
                Column("seconds", "seconds", 0),
            ),
        ),
        Table(
            "study_cifar10-cpu.json",
            "The chosen network on test",
            (Column("network", "name"), accuracy("test, %", "value"), Column("seeds", "seeds")),
            rows="test",
        ),
    ),
}


def main(config):
    """Write both files; returns the paths."""
    page = config.results / "README.md"
    with atomic(page) as temporary:
        temporary.write_text(long_page(config.results), encoding="utf-8")
    lines = config.readme.read_text(encoding="utf-8")
    with atomic(config.readme) as temporary:
        temporary.write_text(with_results(lines, config.results), encoding="utf-8")
    print(page, config.readme, sep="\n")
    return [page, config.readme]


def long_page(results):
    """The page of all tables, in Markdown."""
    text = [
        "Results",
        "=======",
        "",
        "Written by `python -m experiments.tables` from the files beside it, not to be edited.",
        "Mean ± standard deviation over the seeds; without ±, one seed. A dash: not measured.",
    ]
    for chapter, tables in CHAPTERS.items():
        text += ["", f"## {chapter}"]
        if chapter in READINGS:
            text += ["", READINGS[chapter].strip()]
        for table in tables:
            path = results / table.file
            if path.exists():
                text += ["", f"### {table.title}", "", *section(table, path)]
                text += pictures(path)
    return "\n".join(text) + "\n"


def pictures(path):
    """A line with links to the pictures of a result file, if there are any."""
    names = sorted(picture.name for picture in path.parent.glob(f"{path.stem}*.png"))
    links = [f"[{name.removesuffix('.png')}]({name})" for name in names]
    return ["", f"Pictures: {', '.join(links)}"] if links else []


def with_results(lines, results):
    """The readme's text with the lines between its marks written anew."""
    before, mark, rest = lines.partition(MARKS[0] + "\n")
    _, end, after = rest.partition(MARKS[1])
    if not mark or not end:
        raise UserError(f"the readme has no lines {MARKS[0]!r} and {MARKS[1]!r}")
    return (
        before
        + mark
        + "".join(f"{line}\n" for line in headlines.short_table(results))
        + end
        + after
    )


if __name__ == "__main__":
    cli.run(main, Config)
