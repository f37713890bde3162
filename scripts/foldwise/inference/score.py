"""Test metrics of logits on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from foldwise.artifacts import FORMAT_VERSION, write_json
from foldwise.config.jobs import ScoreConfig
from foldwise.errors import DataError, Words
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
        The metrics.
    logits : Path
        Logits of the model on the target.
    score : Path
        The ``.json`` file to write.
    pipeline, task, fold, target
        Names that are repeated in the file.

    Raises
    ------
    DataError
        If the file is damaged, the target has no labelled test split, or a logit is not finite.
    """
    arrays = open_npz(logits, REMEDY)
    if "test_logits" not in arrays:
        raise DataError(logits, Words("no test split"), "logits of a task with a test split")
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
        },
    )


def is_finite(array: np.ndarray) -> bool:
    """Tell whether all values are finite, looking at a few rows at a time."""
    return all(np.isfinite(array[chunk]).all() for chunk in row_chunks(array))
