"""What training minimises, by task type."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag, field_validator

from foldwise.config.section import Section
from foldwise.config.values import (
    BUILT_IN,
    OWN,
    Arguments,
    Function,
    NonNegative,
    Positive,
    Probability,
    own_or_built_in,
)
from foldwise.errors import ConfigError, one_of


class Weighted(Section):
    """Keys common to training objectives with classes."""

    class_weights: Literal["auto"] | list[NonNegative] | None = Field(
        None, description="Weights of the classes; `auto`: inverse to their training frequency, mean 1."
    )

    @field_validator("class_weights")
    @classmethod
    def _some_weight(cls, weights: Any) -> Any:
        if isinstance(weights, list) and not any(weights):
            raise ConfigError("", weights, "a weight above 0 for some class")
        return weights


class Loss(Weighted):
    """Keys common to training objectives in which each sample has one class."""

    label_smoothing: Probability = Field(0.0, description="Share of the target spread evenly over the classes.")


class CrossEntropy(Loss):
    """Cross-entropy; `auto`: that of the task type."""

    name: Literal["auto", "cross_entropy"] = Field(
        "auto",
        description="Objective; `auto`: cross-entropy for classification, `bce` for multi-label, `huber` for "
        "regression, `dice_ce` for segmentation.",
    )


class Focal(Loss):
    """Focal loss (Lin et al. 2017, arXiv:1708.02002)."""

    name: Literal["focal"] = Field("focal", description="Objective.")
    gamma: NonNegative = Field(2.0, description="How fast samples that are classified well fade.")


class BinaryCrossEntropy(Weighted):
    """Binary cross-entropy of every class on its own, for multi-label tasks."""

    name: Literal["bce"] = Field(description="Objective.")
    class_weights: Literal["auto"] | list[NonNegative] | None = Field(
        None, description="Weights of positive samples of each class; `auto`: negatives over positives."
    )
    label_smoothing: Probability = Field(0.0, description="Share by which targets move towards one half.")


class Huber(Section):
    """Squared error for small residuals, absolute for large ones (Huber 1964, doi:10.1214/aoms/1177703732)."""

    name: Literal["huber"] = Field(description="Objective.")
    delta: Positive = Field(1.0, description="Residual from which on the error is absolute, in standard deviations.")


class SquaredError(Section):
    """Mean squared error."""

    name: Literal["mse"] = Field(description="Objective.")


class DiceCrossEntropy(Weighted):
    """Soft Dice loss plus cross-entropy, for segmentation (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z)."""

    name: Literal["dice_ce"] = Field(description="Objective.")
    class_weights: Literal["auto"] | list[NonNegative] | None = Field(
        None,
        description="Weights of the classes in the cross-entropy; `auto`: inverse to their share of pixels, mean 1.",
    )
    dice_weight: NonNegative = Field(1.0, description="Weight of the Dice loss beside the cross-entropy.")


class OwnLoss(Section):
    """A function of your own: ``function(logits, targets, **arguments)`` returns the mean loss of a batch.

    Logits and targets of a regression, (b, 1) and (b,), are in the units of the targets; masks are uint8, 255 where
    pixels are ignored; targets of multi-label tasks are uint8, or float32 if they are soft.
    """

    model_config = ConfigDict(title="module:function")

    name: Function = Field(description="The function; targets are as in the file of logits.")
    arguments: Arguments = Field({}, description="Keyword arguments of the function.")


BuiltInLoss = Annotated[
    CrossEntropy | Focal | BinaryCrossEntropy | Huber | SquaredError | DiceCrossEntropy, Field(discriminator="name")
]
LossChoice = Annotated[
    Annotated[BuiltInLoss, Tag(BUILT_IN)] | Annotated[OwnLoss, Tag(OWN)], Discriminator(own_or_built_in)
]
LOSSES = {
    "classification": ("auto", "cross_entropy", "focal"),
    "multilabel": ("auto", "bce"),
    "regression": ("auto", "huber", "mse"),
    "segmentation": ("auto", "dice_ce", "cross_entropy"),
}
AUTOMATIC_LOSSES: dict[str, LossChoice] = {
    "multilabel": BinaryCrossEntropy(name="bce"),
    "regression": Huber(name="huber"),
    "segmentation": DiceCrossEntropy(name="dice_ce"),
}


def resolve_loss(loss: LossChoice, kind: str, where: str) -> LossChoice:
    """Return the loss that `auto` stands for, with the arguments given to it.

    Raises
    ------
    ConfigError
        If a loss or one of its arguments does not fit the task type; `where` is the key path of the section.
    """
    if isinstance(loss, OwnLoss):
        return loss
    if loss.name not in LOSSES[kind]:
        raise ConfigError(f"{where}.name", loss.name, f"{one_of(LOSSES[kind])} for task type {kind}")
    if loss.name != "auto" or kind == "classification":
        return loss
    chosen = AUTOMATIC_LOSSES[kind]
    given = loss.model_dump(exclude_defaults=True, exclude={"name"})
    for key, value in given.items():
        if key not in type(chosen).model_fields:
            expected = f"nothing, as {chosen.name}, the loss of {kind}, has no such key"
            raise ConfigError(f"{where}.{key}", value, expected)
    return chosen.model_copy(update=given)
