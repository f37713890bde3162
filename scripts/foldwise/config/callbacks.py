"""What watches and changes training and prediction: callbacks, tuning, test-time augmentation, adapters."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from foldwise.config.metrics import (
    CLASSIFICATION_METRICS,
    MULTILABEL_METRICS,
    REGRESSION_METRICS,
    SEGMENTATION_METRICS,
)
from foldwise.config.section import Section
from foldwise.config.values import Count, NonNegative, Positive, Probability, Share
from foldwise.errors import ConfigError, one_of

LOSSES_WATCHED = ("val_loss", "train_loss")
FALLING = (*LOSSES_WATCHED, "log_loss", "brier", "calibration_error", "mse", "mae")  # the better the lower
WATCHED = tuple(
    dict.fromkeys(
        (*LOSSES_WATCHED, *CLASSIFICATION_METRICS, *MULTILABEL_METRICS, *REGRESSION_METRICS, *SEGMENTATION_METRICS)
    )
)


class EarlyStopping(Section):
    """Stop when what is watched has stopped to improve (Prechelt 1998, doi:10.1007/3-540-49430-8_3)."""

    monitor: Literal[WATCHED] = Field(  # type: ignore[valid-type]
        "val_loss", description="The pivot's validation loss, the training loss, or a validation metric of the pivot."
    )
    patience: Count = Field(10, description="Epochs without improvement before training ends.")
    min_delta: NonNegative = Field(0.0, description="What counts as an improvement.")

    @property
    def uses_validation(self) -> bool:
        """Whether the held-out fold decides when training ends."""
        return self.monitor != "train_loss"

    @property
    def direction(self) -> Literal["min", "max"]:
        """Whether lower or higher is better."""
        return "min" if self.monitor in FALLING else "max"


class WeightAverage(Section):
    """Stochastic weight averaging (Izmailov et al. 2018, arXiv:1803.05407)."""

    start: Share = Field(0.75, description="Share of the epochs after which weights are averaged.")


class MovingAverage(Section):
    """Exponential moving average of weights (Tarvainen and Valpola 2017, arXiv:1703.01780)."""

    decay: Share = Field(0.999, description="Share of the average that an optimiser step keeps.")


class Mixup(Section):
    """Convex mixtures of images and their losses (Zhang et al. 2018, arXiv:1710.09412)."""

    alpha: Positive = Field(0.2, description="Parameter of the Beta distribution of shares.")


class CutMix(Section):
    """Boxes of other images pasted in, losses shared by area (Yun et al. 2019, arXiv:1905.04899)."""

    alpha: Positive = Field(1.0, description="Parameter of the Beta distribution of shares.")


class Callbacks(Section):
    """What watches and changes training; null: not used. `{}` uses one with its defaults."""

    early_stopping: EarlyStopping | None = Field(None, description="Stop when nothing improves any more.")
    swa: WeightAverage | None = Field(None, description="Average the weights of the last epochs.")
    ema: MovingAverage | None = Field(None, description="Moving average of the weights; it is validated and kept.")
    mixup: Mixup | None = Field(None, description="Mix images; not for segmentation.")
    cutmix: CutMix | None = Field(None, description="Paste boxes of other images; for classification and multi-label.")
    lr_monitor: bool = Field(False, description="Columns of the learning rates of backbone and heads in metrics.csv.")
    device_stats: bool = Field(False, description="Memory and seconds of each epoch in run.json.")
    tensorboard: bool = Field(False, description="Curves for TensorBoard too (extra `tensorboard`).")

    @model_validator(mode="after")
    def _one_average(self) -> Callbacks:
        if self.ema and self.swa:
            raise ConfigError("swa", "{start: ...}", "null, as ema is set", "A model is kept with one average.")
        return self


VARIATIONS = (
    "identity", "hflip", "vflip", "hvflip", "rot90", "rot180", "rot270",
    "crop_center", "crop_top_left", "crop_top_right", "crop_bottom_left", "crop_bottom_right",
)  # fmt: skip


class TestTimeAugmentation(Section):
    """Variations of each image that are predicted too."""

    variations: list[Literal[VARIATIONS]] = Field(  # type: ignore[valid-type]
        ["identity"],
        min_length=1,
        description="Each is applied to the original image. Crops keep seven eighths of each side, enlarged again; "
        "maps of segmentation are turned back, which crops do not allow.",
    )
    mode: Literal["mean", "max"] = Field("mean", description="How the logits of all variations become one.")

    @field_validator("variations")
    @classmethod
    def _unique(cls, names: list[str]) -> list[str]:
        if len(set(names)) != len(names):
            raise ConfigError("", names, "a list without repetitions")
        return names

    @property
    def crops(self) -> list[str]:
        """The variations that lose pixels."""
        return [name for name in self.variations if name.startswith("crop_")]


class Tuning(Section):
    """What Lightning's tuner finds before training; `model.json` records it."""

    lr: bool = Field(False, description="Learning rate by a range test (Smith 2017, arXiv:1506.01186).")
    bs: bool = Field(
        False, description="Batch size: doubled until the memory of the device or the training samples are used up."
    )


class Lora(Section):
    """Low-rank adaptation (Hu et al. 2022, arXiv:2106.09685); the result is merged into the weights."""

    r: Count = Field(8, description="Rank.")
    alpha: Positive = Field(16.0, description="Scale of the update: alpha over r.")
    dropout: Probability = Field(0.0, description="Dropout before the adapters.")
    layers: list[str] | None = Field(None, description="Words in the names of the layers to adapt; null: all.")


class Adaptation(Section):
    """Parameter-efficient fine-tuning: the backbone is frozen and adapters learn."""

    lora: Lora | None = Field(None, description="Low-rank adapters of linear layers and convolutions.")


def check_watched(callbacks: Callbacks, metrics: list[str], where: str, kind: str) -> None:
    """Raise `ConfigError` if early stopping watches what a task type does not have."""
    stopping = callbacks.early_stopping
    accepted = [*LOSSES_WATCHED, *metrics]
    if stopping and stopping.monitor not in accepted:
        raise ConfigError(
            f"{where}.early_stopping.monitor", stopping.monitor, f"{one_of(accepted)} for task type {kind}"
        )


def check_variations(tta: TestTimeAugmentation, kind: str, where: str) -> None:
    """Raise `ConfigError` if variations of a segmentation lose pixels."""
    if kind == "segmentation" and tta.crops:
        expected = "variations that keep all pixels, as maps must be turned back"
        raise ConfigError(f"{where}.variations", tta.crops[0], expected)
