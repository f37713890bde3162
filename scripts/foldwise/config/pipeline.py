"""The sections of a pipeline: a named, complete training recipe."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from foldwise.config.architectures import Arch, Count, Probability, ResNet
from foldwise.config.preprocessing import Preprocessing
from foldwise.config.section import Section, is_plain
from foldwise.errors import ConfigError, Words, nearest, one_of

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]


@functools.cache
def kornia_operations() -> dict[str, list[str]]:
    """Return kornia's augmentation operations and their arguments, as generated from its signatures."""
    return json.loads((Path(__file__).parent / "operations.json").read_text())


class Operation(Section):
    """One kornia operation by name, with its arguments."""

    model_config = ConfigDict(extra="allow")

    name: Annotated[str, Words("the name of a kornia operation")] = Field(description="Class of `kornia.augmentation`.")

    @model_validator(mode="after")
    def _check_arguments(self) -> Operation:
        known = kornia_operations()
        if self.name not in known:
            raise ConfigError("name", self.name, one_of(known), nearest(self.name, known))
        for argument, value in self.arguments.items():
            if argument not in known[self.name]:
                hint = nearest(argument, known[self.name])
                raise ConfigError(argument, Words("an unknown argument"), one_of(known[self.name]), hint)
            if not is_plain(value):
                raise ConfigError(argument, value, "a finite number, a string, true, false, null or a list of them")
        return self

    @property
    def arguments(self) -> dict[str, Any]:
        """The operation's own arguments."""
        return dict(self.model_extra or {})


DEFAULT_OPERATIONS: list[dict[str, Any]] = [
    {"name": "RandomAffine", "degrees": 10.0, "translate": [0.1, 0.1], "scale": [0.9, 1.1], "p": 1.0},
    {"name": "RandomBrightness", "brightness": [0.8, 1.2], "p": 0.5},
    {"name": "RandomContrast", "contrast": [0.8, 1.2], "p": 0.5},
]


class Augmentations(Section):
    """Random changes of training images, made on the device on whole batches, and the normalisation."""

    operations: list[Operation] = Field(
        [Operation.model_validate(operation) for operation in DEFAULT_OPERATIONS],
        description="kornia operations, applied in order, each with parameters of its own for every sample.",
    )
    normalization: Literal["imagenet", "task"] | None = Field(
        "imagenet",
        description="Mean and standard deviation of the channels: of ImageNet, of the job's own training rows, or "
        "null for plain values between 0 and 1.",
    )


class Sampling(Section):
    """Which samples make a batch and an epoch."""

    batch_size: Count = Field(64, description="Samples in a batch.")
    sample_num: Annotated[int, Field(ge=0)] = Field(0, description="Samples an epoch; 0: all.")
    balanced: bool = Field(False, description="Draw classes equally often, with replacement.")
    drop_last: bool = Field(
        False, description="Leave out an incomplete last batch; otherwise a last batch of one is merged."
    )


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


LossChoice = Annotated[
    CrossEntropy | Focal | BinaryCrossEntropy | Huber | SquaredError | DiceCrossEntropy, Field(discriminator="name")
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


class Optimizer(Section):
    """Keys common to all optimisers."""

    lr: Positive = Field(5e-4, description="Learning rate.")
    backbone_lr_factor: NonNegative = Field(1.0, description="Learning rate of the backbone relative to the head's.")


class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv:1711.05101)."""

    name: Literal["adamw"] = Field("adamw", description="Optimiser.")
    weight_decay: NonNegative = Field(0.01, description="Decoupled weight decay.")
    betas: list[Probability] = Field([0.9, 0.999], min_length=2, max_length=2, description="Moment decay rates.")
    eps: Positive = Field(1e-8, description="Term added to the denominator.")


class Adam(AdamW):
    """Adam (Kingma and Ba 2015, arXiv:1412.6980)."""

    name: Literal["adam"] = Field("adam", description="Optimiser.")  # type: ignore[assignment]
    weight_decay: NonNegative = Field(0.0, description="L2 penalty.")


class SGD(Optimizer):
    """Stochastic gradient descent with momentum."""

    name: Literal["sgd"] = Field("sgd", description="Optimiser.")
    momentum: Probability = Field(0.9, description="Momentum.")
    nesterov: bool = Field(False, description="Nesterov momentum.")
    weight_decay: NonNegative = Field(0.0, description="L2 penalty.")


OptimizerChoice = Annotated[AdamW | Adam | SGD, Field(discriminator="name")]


class Scheduler(Section):
    """Keys common to all learning-rate schedules."""

    warmup_epochs: NonNegative = Field(0.0, description="Epochs of linear rise from a hundredth of the learning rate.")


class Constant(Scheduler):
    """The learning rate stays as it is."""

    name: Literal["none"] = Field("none", description="Schedule.")


class Cosine(Scheduler):
    """Half a cosine from the learning rate to `eta_min` (Loshchilov and Hutter 2017, arXiv:1608.03983)."""

    name: Literal["cosine"] = Field("cosine", description="Schedule.")
    eta_min: NonNegative = Field(0.0, description="Final learning rate.")


class CosineRestart(Scheduler):
    """Cosine annealing with warm restarts (Loshchilov and Hutter 2017, arXiv:1608.03983)."""

    name: Literal["cosine_restart"] = Field("cosine_restart", description="Schedule.")
    period_epochs: Positive = Field(10.0, description="Epochs until the first restart.")
    period_factor: Count = Field(1, description="Growth of the period after each restart.")
    eta_min: NonNegative = Field(0.0, description="Lowest learning rate.")


class OneCycle(Section):
    """Rise to the learning rate and fall far below it (Smith and Topin 2019, arXiv:1708.07120)."""

    name: Literal["one_cycle"] = Field("one_cycle", description="Schedule.")
    pct_start: Annotated[float, Field(gt=0, lt=1)] = Field(0.3, description="Share of training spent rising.")
    div_factor: Positive = Field(25.0, description="Peak over initial learning rate.")
    final_div_factor: Positive = Field(1e4, description="Initial over final learning rate.")


class Step(Scheduler):
    """Multiply the learning rate by `gamma` every `step_epochs` epochs."""

    name: Literal["step"] = Field("step", description="Schedule.")
    step_epochs: Count = Field(10, description="Epochs between two drops.")
    gamma: Annotated[float, Field(gt=0, le=1)] = Field(0.1, description="Factor of a drop.")


class Exponential(Scheduler):
    """Multiply the learning rate by `gamma` every epoch."""

    name: Literal["exponential"] = Field("exponential", description="Schedule.")
    gamma: Annotated[float, Field(gt=0, le=1)] = Field(0.95, description="Factor an epoch.")


SchedulerChoice = Annotated[
    Constant | Cosine | CosineRestart | OneCycle | Step | Exponential, Field(discriminator="name")
]


class ModeSection(Section):
    """Training-mode settings that belong to a pipeline."""

    store_best: bool = Field(True, description="Keep the epoch with the best validation loss; false: the last epoch.")


class TrainerSection(Section):
    """Arguments of `lightning.Trainer` that are no resources."""

    max_epochs: Count = Field(50, description="Epochs.")
    precision: Literal["auto", "32-true", "64-true", "bf16-mixed", "16-mixed"] = Field(
        "auto", description="`auto`: bf16 on a GPU, 32 bit on a CPU; resolved in the job, no cause for a rerun."
    )
    gradient_clip_val: Positive | None = Field(None, description="Largest gradient norm (or value).")
    gradient_clip_algorithm: Literal["norm", "value"] = Field("norm", description="What is clipped.")
    accumulate_grad_batches: Count = Field(1, description="Batches whose gradients make one step.")
    limit_train_batches: Annotated[float, Field(gt=0, le=1)] | Count | None = Field(
        None, description="Training batches an epoch: a number, or a share below 1; null: all."
    )
    limit_val_batches: Annotated[float, Field(gt=0, le=1)] | Count | None = Field(
        None, description="Validation batches an epoch: a number, or a share below 1; null: all."
    )


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


class Metrics(Section):
    """What validation and test report, by task type."""

    classification: list[Literal[CLASSIFICATION_METRICS]] = Field(  # type: ignore[valid-type]
        list(CLASSIFICATION_METRICS), min_length=1, description="Metrics of classification tasks."
    )
    multilabel: list[Literal[MULTILABEL_METRICS]] = Field(  # type: ignore[valid-type]
        list(MULTILABEL_METRICS), min_length=1, description="Metrics of multi-label tasks, averaged over classes."
    )
    regression: list[Literal[REGRESSION_METRICS]] = Field(  # type: ignore[valid-type]
        list(REGRESSION_METRICS), min_length=1, description="Metrics of regression tasks."
    )
    segmentation: list[Literal[SEGMENTATION_METRICS]] = Field(  # type: ignore[valid-type]
        list(SEGMENTATION_METRICS), min_length=1, description="Metrics of segmentation tasks, averaged over classes."
    )

    @field_validator("classification", "multilabel", "regression", "segmentation")
    @classmethod
    def _unique(cls, names: list[str]) -> list[str]:
        if len(set(names)) != len(names):
            raise ConfigError("", names, "a list without repetitions")
        return names

    def of(self, kind: str) -> list[str]:
        """Return the metrics of a task type."""
        return list(getattr(self, kind))


class Pipeline(Section):
    """A complete training recipe."""

    arch: Arch = Field(ResNet(), description="The network.")
    preprocessing: Preprocessing = Field(Preprocessing(), description="From images to tensors.")
    augmentations: Augmentations = Field(Augmentations(), description="From tensors to training batches.")
    sampling: Sampling = Field(Sampling(), description="From samples to batches.")
    loss: LossChoice = Field(CrossEntropy(), description="What is minimised.")
    optimizer: OptimizerChoice = Field(AdamW(), description="How it is minimised.")
    lr_scheduler: SchedulerChoice = Field(Constant(), description="How the learning rate changes.")
    mode: ModeSection = Field(ModeSection(), description="Which epoch is kept.")
    trainer: TrainerSection = Field(TrainerSection(), description="How long, and in which precision.")
    metrics: Metrics = Field(Metrics(), description="What is reported.")


PIPELINE_SECTIONS = tuple(Pipeline.model_fields)
DEFAULT_NAMES = {
    section: field.default.name for section, field in Pipeline.model_fields.items() if hasattr(field.default, "name")
}
