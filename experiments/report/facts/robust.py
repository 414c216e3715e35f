"""Sparse robust statistics, for the appendix."""

from experiments.report.results import holds, mean, number, percent


def facts(results):
    """Texts of the appendix."""
    labels = results("robust_labels.json")["table"]

    def found(kind, method, column="auc", features="kernel"):
        return labels.row(labels=kind, features=features, method=method)[column]

    path, residual = "path of shifts", "least-squares residual"
    holds(
        abs(mean(found("symmetric 40%", path)) - mean(found("symmetric 40%", residual))) < 0.01,
        "with symmetric noise the path is no better than one residual",
    )
    holds(
        mean(found("pair 40%", path)) > mean(found("pair 40%", residual)),
        "with pair flips the path leads on kernel features",
    )
    knockoffs = results("robust_knockoffs.json")
    shares = [row["fdr"] for row in knockoffs["table"] if "knockoffs" in row["method"]]
    holds(max(shares) <= knockoffs["q"], "knockoffs hold the rate of wrong discoveries")
    ranking = results("robust_ranking.json")["table"].row(
        answers="graded", comparisons=240, wrong=0.3
    )
    holds(
        mean(ranking["tau_robust"]) > mean(ranking["tau_huber"]),
        "the path is ahead of Huber's loss at 30 % of wrong graded comparisons",
    )
    masking = results("robust_masking.json")["table"]
    return {
        "labels_path": percent(found("pair 40%", path), 1),
        "labels_residual": percent(found("pair 40%", residual), 1),
        "labels_symmetric_path": percent(found("symmetric 40%", path), 1),
        "labels_symmetric_residual": percent(found("symmetric 40%", residual), 1),
        "labels_neighbours": percent(found("pair 40%", path, "neighbours"), 1),
        "labels_all": percent(found("pair 40%", "all labels", "neighbours"), 1),
        "knockoffs_asked": percent(knockoffs["q"], 0),
        "knockoffs_most": percent(max(shares), 1),
        "ranking_least_squares": number(ranking["tau_least_squares"]),
        "ranking_huber": number(ranking["tau_huber"]),
        "ranking_robust": number(ranking["tau_robust"]),
        **few_shots(results),
        **masked(masking),
    }


def few_shots(results):
    """Instance credibility beside the most confident first."""
    table = results("robust_fewshot.json")["table"]
    row = table.row(data="mnist", features="functa", shots=1, method="ICI")
    alone = table.row(data="mnist", features="functa", shots=1, method="logistic regression alone")
    confident = table.row(data="mnist", features="functa", shots=1, method="most confident first")
    holds(mean(row["accuracy"]) < mean(confident["accuracy"]) + 0.01, "ICI is no better")
    return {
        "few_ici": percent(mean(row["accuracy"]), 1),
        "few_alone": percent(mean(alone["accuracy"]), 1),
        "few_confident": percent(mean(confident["accuracy"]), 1),
    }


def masked(table):
    """Outliers that hide each other: shares that are missed, without leverage."""
    student, hard = (
        mean(table.row(outliers=100, leverage="none", method=method)["masked"])
        for method in ("studentised", "γ, hard")
    )
    holds(hard < student, "shifts find what studentised residuals miss")
    far = [mean(row["masked"]) for row in table.rows(outliers=100, leverage=15)]
    holds(min(far) > 0.9, "a hundred equal outliers at one far point are missed by every method")
    return {"masked_student": percent(student, 0), "masked_hard": percent(hard, 1)}
