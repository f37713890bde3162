"""What validation and test report, by task type."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from foldwise.config.section import Section
from foldwise.config.values import Function
from foldwise.errors import ConfigError

CLASSIFICATION_METRICS = (
    "accuracy", "balanced_accuracy", "f1", "auroc", "average_precision", "mcc", "log_loss", "brier",
    "calibration_error",
)  # fmt: skip
MULTILABEL_METRICS = (
    "exact_match", "hamming_accuracy", "f1", "f1_micro", "auroc", "average_precision", "log_loss", "brier",
    "calibration_error",
)  # fmt: skip
REGRESSION_METRICS = ("r2", "spearman", "pearson", "mse", "mae")
SEGMENTATION_METRICS = ("dice", "iou", "pixel_accuracy")


ClassificationMetric = Literal[CLASSIFICATION_METRICS]  # type: ignore[valid-type]
MultilabelMetric = Literal[MULTILABEL_METRICS]  # type: ignore[valid-type]
RegressionMetric = Literal[REGRESSION_METRICS]  # type: ignore[valid-type]
SegmentationMetric = Literal[SEGMENTATION_METRICS]  # type: ignore[valid-type]


class Metrics(Section):
    """What validation and test report, by task type.

    A metric of your own is a function: ``function(logits, targets)`` of two arrays returns a number. Validation while
    training knows the built-in ones alone.
    """

    classification: list[ClassificationMetric | Function] = Field(
        list(CLASSIFICATION_METRICS), min_length=1, description="Metrics of classification tasks."
    )
    multilabel: list[MultilabelMetric | Function] = Field(
        list(MULTILABEL_METRICS), min_length=1, description="Metrics of multi-label tasks, averaged over classes."
    )
    regression: list[RegressionMetric | Function] = Field(
        list(REGRESSION_METRICS), min_length=1, description="Metrics of regression tasks."
    )
    segmentation: list[SegmentationMetric | Function] = Field(
        list(SEGMENTATION_METRICS), min_length=1, description="Metrics of segmentation tasks, averaged over classes."
    )
    bootstrap: Annotated[int, Field(ge=0, le=100_000)] = Field(
        0,
        description="Resamples of the test samples for intervals of 95 % (Efron and Tibshirani 1993); 0: no intervals.",
    )

    @field_validator("classification", "multilabel", "regression", "segmentation")
    @classmethod
    def _unique(cls, names: list[str]) -> list[str]:
        if len(set(names)) != len(names):
            raise ConfigError("", names, "a list without repetitions")
        return names

    def of(self, kind: str) -> list[str]:
        """Return the metrics of a task type, those of the user's own among them."""
        return list(getattr(self, kind))
