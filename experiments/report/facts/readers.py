"""The class read from latents: by what reader, and after how much fitting."""

from experiments.report.results import db, holds, mean, number, percent, share


def facts(results):
    """Texts and tables of reading the class."""
    return {**readers(results), **fitting(results)}


def readers(results):
    """The class read from latents, PCA and pixels."""
    rows = results("latent_readers_grid.json")["rows"]
    latents, pca = (rows.row(kind=kind) for kind in ("latents", "PCA of patches"))
    holds(pca["p"] > 0.05, "grid and PCA of patches are not told apart by McNemar's test")
    rows = results("latent_classification_digits.json")["rows"]
    told = {
        "pixels_svm": percent(rows.rows(against="steps")[0]["pixels SVM"] / 100, 1),
        "reader": percent(latents["test"]),
        "reader_pca": percent(pca["test"]),
        "reader_p": number(pca["p"]),
        "reader_shared": percent(pca["wrong_like_first"], 0),
        "reader_parameters": number(latents["parameters"] / 1e6, 1),
        "reader_labels": number(latents["labels"], 0),
        "reader_minutes": number(latents["seconds"] / 60, 0),
        "decoded": None,
    }
    told |= few_labels(results)
    if results.has("latent_readers_decoded.json"):
        rows = results("latent_readers_decoded.json")["rows"]
        told["decoded"] = [
            [
                row["kind"],
                number(row["numbers"], 0),
                number(row["psnr"]) if row.get("psnr") else "–",
                share(row["val"]),
                share(row["test"]),
                "–" if row["p"] is None else f"{row['p']:.2g}",
            ]
            for row in rows
        ]
        told["decoded_best"] = percent(max(mean(row["test"]) for row in rows))
        told["decoded_latents"] = percent(rows[0]["test"])
    return told


def few_labels(results):
    """The same where few images have labels."""
    rows = results("latent_readers_few.json")["rows"]
    counts = sorted({row["labels"] for row in rows})
    told = {"few_labels": listed([number(count, 0) for count in counts])}
    for count in counts:
        ours, pca = (rows.row(kind=k, labels=count) for k in ("latents", "PCA of patches"))
        gap = abs(mean(ours["test"]) - mean(pca["test"]))
        holds(gap < ours["test"]["std"] + pca["test"]["std"], "few labels: read alike")
    for name, kind in (("latents", "latents"), ("pca", "PCA of patches")):
        for reader in ("test", "svm"):
            found = [mean(rows.row(kind=kind, labels=count)[reader]) for count in counts]
            told[f"few_{reader}_{name}"] = listed([percent(value, 1) for value in found])
    return told


def listed(texts):
    """ "a, b and c"."""
    return f"{', '.join(texts[:-1])} and {texts[-1]}"


def fitting(results):
    """More fitting, better classes?"""
    rows = results("latent_classification_digits.json")["rows"]
    one, three, ten = (rows.row(against="steps", value=steps) for steps in (1, 3, 10))
    holds(ten["PSNR dB"] > three["PSNR dB"], "ten steps reconstruct better than three")
    holds(ten["latents linear"] < one["latents linear"], "ten steps are harder to read linearly")
    inner = results("inner_steps_digits_spatial.json")["rows"]
    plain, newton = (inner.row(variant=name) for name in ("one rate", "Gauss-Newton, 3 CG"))
    return {
        "steps_psnr_1": db(one["PSNR dB"], 1),
        "steps_psnr_10": db(ten["PSNR dB"], 1),
        "steps_linear_1": percent(one["latents linear"] / 100, 1),
        "steps_linear_10": percent(ten["latents linear"] / 100, 1),
        "steps_svm_1": percent(one["latents SVM"] / 100, 1),
        "steps_svm_10": percent(ten["latents SVM"] / 100, 1),
        "steps_rebuilt_10": percent(ten["rebuilt SVM"] / 100, 1),
        "newton_gain": db(newton["val_psnr"]["mean"] - plain["val_psnr"]["mean"], 1),
        "newton_work": number(newton["fit_flops"] / plain["fit_flops"], 1),
    }
