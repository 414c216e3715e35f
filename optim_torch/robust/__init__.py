"""Sparse statistics, in NumPy, SciPy and scikit-learn: which labels, comparisons, columns matter?

`lista` and `admm` alone need PyTorch.

from optim_torch.robust import NoisyLabelSelector
selector = NoisyLabelSelector().fit(features, labels)
features[selector.clean_], selector.order_[:50]  # what to keep, and what to look at first
"""

from importlib import import_module

MODULES = {  # public name: its module, imported when first used
    "MeanShiftRegressor": "mean_shift",
    "NoisyLabelSelector": "labels",
    "KnockoffLabelSelector": "knockoff_labels",
    "RobustRanker": "ranking",
    "hodge": "ranking",
    "InstanceCredibility": "credibility",
    "LinearizedBregman": "bregman",
    "LinearizedBregmanClassifier": "bregman",
    "SplitLBI": "bregman",
    "SplitLBIClassifier": "bregman",
    "MSplitLBI": "bregman",
    "MSplitLBIClassifier": "bregman",
    "Knockoffs": "knockoffs",
    "SplitKnockoffs": "split_knockoffs",
}
__all__ = list(MODULES)


def __getattr__(name):
    if name in MODULES:
        return getattr(import_module(f"optim_torch.robust.{MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
