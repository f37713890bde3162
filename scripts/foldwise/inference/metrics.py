"""Metrics of logits by task type; what a type does not need is not imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from foldwise.inference.own import is_own, load_metric


def compute_metrics(kind: str, names: Sequence[str], logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Compute metrics of a task type.

    Parameters
    ----------
    kind : str
        Task type: classification, multilabel, regression or segmentation.
    names : sequence of str
        Metrics to compute, functions of the user's own among them.
    logits : ndarray of float, shape (n, outputs) or (n, classes, height, width)
        Raw outputs, of a regression in the units of the targets.
    targets : ndarray
        As a task holds them: (n,), (n, classes), or masks (n, height, width). All samples have a label, though pixels
        of masks may have none.

    Returns
    -------
    dict of str to float
        In the order of `names`; NaN where a metric is not defined on these targets.

    Raises
    ------
    ConfigError, DataError
        If a function of the user's own is not there, fails, or returns no number.
    """
    found = built_in_metrics(kind, [name for name in names if not is_own(name)], logits, targets)
    return {name: load_metric(name)(logits, targets) if is_own(name) else found[name] for name in names}


def built_in_metrics(kind: str, names: Sequence[str], logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Compute the metrics that come with a task type; see `compute_metrics`."""
    match kind:
        case "classification":
            from foldwise.inference.classification import classification_metrics

            return classification_metrics(names, logits, targets)
        case "multilabel":
            from foldwise.inference.multilabel import multilabel_metrics

            return multilabel_metrics(names, logits, targets)
        case "regression":
            from foldwise.inference.regression import regression_metrics

            return regression_metrics(names, logits, targets)
        case "segmentation":
            from foldwise.inference.segmentation import segmentation_metrics

            return segmentation_metrics(names, logits, targets)
    raise AssertionError(f"task type {kind} has no metrics")


def finite_or_none(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Replace what is not defined by None, as JSON has no NaN."""
    return {name: value if np.isfinite(value) else None for name, value in metrics.items()}
