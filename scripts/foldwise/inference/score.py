"""Test metrics of logits on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from foldwise.artifacts import FORMAT_VERSION, write_json
from foldwise.config.jobs import ScoreConfig
from foldwise.errors import DataError, Words
from foldwise.inference.bootstrap import bootstrap_metrics
from foldwise.inference.metrics import compute_metrics, finite_or_none
from foldwise.npz import open_npz, row_chunks

REMEDY = "Delete it and run again: it is predicted anew."


def score_fold(
    config: ScoreConfig, logits: Path, score: Path, pipeline: str, task: str, fold: int, target: str
) -> None:
    """Compute the metrics of a model on the test split of a task.

    Parameters
    ----------
    config : ScoreConfig
        The metrics, number of resamples and their seed.
    logits : Path
        Logits of the model on the target.
    score : Path
        The ``.json`` file to write: ``metrics``; with resamples also ``intervals`` of 95 %, the number of resamples in
        which a metric is ``undefined``, and last the ``replicates``, the values in all resamples, which are the same
        for all models that are tested on the same samples.
    pipeline, task, fold, target
        Names that are repeated in the file.

    Raises
    ------
    DataError
        If the file is damaged, the target has no labelled test split, or a logit is not finite.
    ConfigError, DataError
        If a metric of the user's own is not there, fails, or returns no number.

    Notes
    -----
    All samples of a test split have labels, so that no sample is left out. Resamples are of samples, not of the groups
    they may belong to; see `bootstrap_metrics`.
    """
    arrays = open_npz(logits, REMEDY)
    if "test_logits" not in arrays:
        remedy = f"Set train.eval_on to tasks that have one, give the definition of {target} a test_fraction, or leave "
        raise DataError(
            logits,
            Words(f"no labelled test samples of task {target}"),
            "logits of a task with a test split",
            f"{remedy}mode test out.",
        )
    found, targets = arrays["test_logits"], arrays["test_targets"]
    if not is_finite(found):
        remedy = "Lower optimizer.lr or set trainer.gradient_clip_val, and train anew."
        raise DataError(logits, Words("logits that are not finite"), "finite logits", remedy)
    metrics = compute_metrics(config.type, config.metrics.of(config.type), found, targets)
    write_json(
        score,
        {
            "format_version": FORMAT_VERSION,
            "pipeline": pipeline,
            "task": task,
            "fold": fold,
            "target": target,
            "type": config.type,
            "split": "test",
            "samples": len(targets),
            "metrics": finite_or_none(metrics),
            **resample(config, arrays),
        },
    )


def resample(config: ScoreConfig, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return what resampling adds to a score; nothing without resamples."""
    if not config.metrics.bootstrap:
        return {}
    names, resamples = config.metrics.of(config.type), config.metrics.bootstrap
    logits, targets, ids = (arrays[f"test_{name}"] for name in ("logits", "targets", "ids"))
    found = bootstrap_metrics(config.type, names, logits, targets, ids, resamples, config.seed)
    return {
        "resamples": resamples,
        "seed": config.seed,
        "intervals": {name: bootstrap.interval for name, bootstrap in found.items()},
        "undefined": {name: bootstrap.undefined for name, bootstrap in found.items()},
        "replicates": {name: bootstrap.rounded for name, bootstrap in found.items()},
    }


def is_finite(array: np.ndarray) -> bool:
    """Tell whether all values are finite, looking at a few rows at a time."""
    return all(np.isfinite(array[chunk]).all() for chunk in row_chunks(array))
