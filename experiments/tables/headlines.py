"""The readme's table: one line a question, our number beside that of the strongest simple rival."""

from experiments import runner
from experiments.tables import markdown
from groundfloor.runs import spread


def short_table(results):
    """Lines of the readme's table: a question, our number, the strongest simple rival's."""
    lines = [f"{'':44}{'ours':>18}   rival"]
    for question, file, answer in SHORT:
        if (results / file).exists():
            with markdown.shown(results / file):
                ours, rival = answer(markdown.read(results / file))
            lines.append(f"{question:44}{ours:>18}   {rival}")
    return lines


def stored(contents):
    """PSNR of images from their latents, and from PCA with as many numbers."""
    row = contents["table"][-1]
    psnr = {"mean": row["test_psnr"], "std": row["test_psnr_std"]}
    return runner.text(psnr, "dB"), f"{row['pca_test_psnr']:.2f} dB, PCA"


def fitted_on(contents):
    """PSNR after the inner loop and after the most L-BFGS, and from PCA with as many numbers."""
    rows = sorted(contents["table"], key=lambda row: row["lbfgs_steps"])
    plain, most = rows[0]["test_psnr"], rows[-1]["test_psnr"]
    return f"{most:.2f} ({plain:.2f}) dB", f"{contents['pca_test_psnr']:.2f} dB, PCA"


def restored(task, column):
    """PSNR of restored images: latents with the diffusion prior, and the best rival of all."""

    def answer(contents):
        psnr = {row["method"]: row[column] for row in contents["tasks"][task]["rows"]}
        rivals = [name for name in psnr if not name.startswith("latents")]
        best = max(rivals, key=psnr.get)
        return f"{psnr['latents, diffusion prior']:.2f} dB", f"{psnr[best]:.2f} dB, {best}"

    return answer


def classified(contents):
    """Test accuracy of the chosen classifiers of latents and of the better rival."""
    chosen = [row for row in contents["tasks"]["classify"]["rows"] if row["chosen"]]
    ours = next(row for row in chosen if row["features"] == "latents")
    rival = max((row for row in chosen if row is not ours), key=lambda row: row["test %"])
    theirs = f"{rival['test %']:.2f} %, {rival['features']}{told_apart(rival.get('p'))}"
    return f"{ours['test %']:.2f} %", theirs


def read(contents):
    """Test accuracy of the reader of latents, and of the same reader of the best of the others."""
    latents, *others = contents["rows"]
    rival = max(others, key=lambda row: row["test"]["mean"])
    theirs = f"{runner.text(rival['test'], '%')}, {rival['kind']}{told_apart(rival.get('p'))}"
    return runner.text(latents["test"], "%"), theirs


def told_apart(p):
    """That McNemar's test does not tell two readers apart, in words."""
    return f" (p {p:.2f}: level)" if p is not None and p > 0.05 else ""


def compressed(contents):
    """PSNR at the rate of a published point of RECOMBINER; that of PCA through the same codec, and
    the published one."""
    row = next(r for r in contents["against"] if r["bits/pixel"] == 1.531)
    pca, published = row["PCA of 8x8 blocks (dB)"], row["PSNR (dB)"]
    rivals = f"{pca:.2f} dB, PCA of blocks ({row['published']}: {published:.2f})"
    return f"{row['latents (dB)']:.2f} dB", rivals


def foreseen(contents):
    """PSNR of views that nobody gave, from eight that somebody did, and from a single one; that of
    the rival that is best from eight."""
    of_views = {row["views"]: row for row in contents["rows"]}
    rivals = [name for name in of_views[8] if name not in ("views", "functa")]
    best = max(rivals, key=lambda name: of_views[8][name]["mean"])
    ours, theirs = (
        f"{of_views[8][name]['mean']:.2f} ({of_views[1][name]['mean']:.2f}) dB"
        for name in ("functa", best)
    )
    return ours, f"{theirs}, {RIVALS.get(best, best)}"


def pruned(rows):
    """Top-1 of a ViT with three tenths of its parameters, by DessiLBI and by magnitude."""
    shares = {
        method: [
            row["top1"]
            for row in rows
            if row["method"] == method and row["density"] == 0.3 and not row["distil"]
        ]
        for method in ("dessilbi", "magnitude")
    }
    ours, rival = (runner.text(spread(found), "%") for found in shares.values())
    return ours, f"{rival}, magnitude"


def smoothed(contents):
    """Width of the loss band along the gradient, with BatchNorm and without."""
    widths = {(row["norm"], row["rate"]): row["loss_width"] for row in contents["table"]}
    return f"{widths['batch', 0.1]:.3f}", f"{widths['none', 0.1]:.3f}, without BatchNorm"


def selected(contents):
    """Test accuracy on DessiLBI's support, and of the dense network by SGD."""
    table = contents["table"]
    ours = runner.text(table["test_accuracy_w_on_support"], "%")
    return ours, f"{100 * table['sgd_test_accuracy']:.2f} %, SGD, dense"


def faster(rows):
    """How many times as fast an outer step is as the plain version."""
    ratios = [row["ratio"] for row in rows]
    return f"{min(ratios):.1f} to {max(ratios):.1f} x", "1 x, plain haiku"


RIVALS = {"Wiener": "Gaussian prior of all views"}
SHORT = (
    ("digits, 32 numbers: test PSNR", "reconstruction_digits.json", stored),
    ("MNIST, 64 numbers: test PSNR (after 3 steps)", "lbfgs_mnist.json", fitted_on),
    (
        "CIFAR-10, 8x8x16 numbers: test PSNR",
        "reconstruction_cifar10_spatial_cpu.json",
        stored,
    ),
    ("CIFAR-10 at 1.53 bits a pixel", "compression_cifar10.json", compressed),
    ("MNIST: enlarged x2", "tasks_mnist.json", restored("superresolve", "x 2")),
    ("MNIST: half of it hidden", "tasks_mnist.json", restored("inpaint", "half")),
    ("MNIST: class, test accuracy", "tasks_mnist.json", classified),
    ("CIFAR-10: class, from the grid", "latent_readers_grid.json", read),
    ("CIFAR-10: class, through the decoder", "latent_readers_decoded.json", read),
    ("scenes: novel views from 8 given (from 1)", "functions_scenes_hour.json", foreseen),
    ("functa: speed of an outer step", "bench_functa.jsonl", faster),
    ("ViT on digits, density 0.3: by DessiLBI", "prune_digits.csv", pruned),
    ("DessiLBI, LeNet on MNIST: W on its support", "dessilbi_filters.json", selected),
    ("digits: width of the loss band at rate 0.1", "landscape_digits.json", smoothed),
)
