"""Test metrics of logits on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from foldwise.artifacts import FORMAT_VERSION, read_npz, write_json
from foldwise.config.jobs import ScoreConfig
from foldwise.errors import DataError, Words
from foldwise.inference.metrics import classification_metrics, finite_or_none

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
    arrays = read_npz(logits, REMEDY)
    if "test_logits" not in arrays:
        raise DataError(logits, Words("no test split"), "logits of a task with a test split")
    if not np.isfinite(arrays["test_logits"]).all():
        remedy = "Lower optimizer.lr or set trainer.gradient_clip_val, and train anew."
        raise DataError(logits, Words("logits that are not finite"), "finite logits", remedy)
    targets = arrays["test_targets"]
    metrics = classification_metrics(config.metrics.classification, arrays["test_logits"], targets)
    write_json(
        score,
        {
            "format_version": FORMAT_VERSION,
            "pipeline": pipeline,
            "task": task,
            "fold": fold,
            "target": target,
            "split": "test",
            "samples": len(targets),
            "metrics": finite_or_none(metrics),
        },
    )
