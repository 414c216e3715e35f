"""Tables of optim_torch.robust."""

from experiments.tables.markdown import Column, Table, accuracy

CLEAN_LABELS = (
    accuracy("precision, %", "precision"),
    accuracy("recall, %", "recall"),
    accuracy("AUC, %", "auc"),
    accuracy("kept, %", "kept"),
    accuracy("wrong among kept, %", "wrong_kept"),
    accuracy("test, logistic, %", "logistic"),
    accuracy("test, neighbours, %", "neighbours"),
)

ROBUST = (
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
            Column("seeds with a setting at an end", "at_end"),
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
            Column("FISTA", "fista"),
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
            Column("Bradley-Terry", "tau_bradley_terry"),
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
)
