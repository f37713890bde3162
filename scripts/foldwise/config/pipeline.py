"""The sections of a pipeline: a named, complete training recipe."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from foldwise.config.architectures import Arch, ResNet
from foldwise.config.callbacks import Adaptation, Callbacks, TestTimeAugmentation, Tuning
from foldwise.config.losses import CrossEntropy, LossChoice
from foldwise.config.metrics import Metrics
from foldwise.config.optimization import AdamW, Constant, OptimizerChoice, SchedulerChoice
from foldwise.config.preprocessing import Preprocessing
from foldwise.config.section import Section, is_plain
from foldwise.config.values import Count, NonNegative, Positive, check_function
from foldwise.errors import ConfigError, Words, nearest, one_of


@functools.cache
def kornia_operations() -> dict[str, list[str]]:
    """Return kornia's augmentation operations and their arguments, as generated from its signatures."""
    return json.loads((Path(__file__).parent / "operations.json").read_text())


class Operation(Section):
    """One kornia operation by name, or a function of your own, with its arguments."""

    model_config = ConfigDict(extra="allow")

    name: Annotated[str, Words("the name of a kornia operation, or `module:function`")] = Field(
        description="Class of `kornia.augmentation`, or a function of your own."
    )

    @model_validator(mode="before")
    @classmethod
    def _read_name(cls, data: Any) -> Any:
        return {"name": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _check_arguments(self) -> Operation:
        known = kornia_operations()
        if self.is_own:
            check_function(self.name)
        elif self.name not in known:
            raise ConfigError("name", self.name, one_of(known), nearest(self.name, known))
        for argument, value in self.arguments.items():
            if not self.is_own and argument not in known[self.name]:
                hint = nearest(argument, known[self.name])
                accepted = one_of(known[self.name]) if known[self.name] else "none"
                raise ConfigError(argument, Words("an unknown argument"), accepted, hint)
            if not is_plain(value):
                raise ConfigError(argument, value, "a finite number, a string, true, false, null or a list of them")
        return self

    @property
    def is_own(self) -> bool:
        """Whether it is a function of the user's own."""
        return ":" in self.name

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
    normalization: Literal["imagenet", "task", "pretraining"] | None = Field(
        "imagenet",
        description="Mean and standard deviation of the channels: of ImageNet, of the job's own training rows, those "
        "that the pretrained weights expect, or null for plain values between 0 and 1.",
    )


class Sampling(Section):
    """Which samples make a batch and an epoch."""

    batch_size: Count = Field(64, description="Samples in a batch.")
    sample_num: Annotated[int, Field(ge=0, le=100_000_000)] = Field(0, description="Samples an epoch; 0: all.")
    balanced: bool = Field(False, description="Draw classes equally often, with replacement.")
    drop_last: bool = Field(
        False, description="Leave out an incomplete last batch; otherwise a last batch of one is merged."
    )
    cache: Literal["auto", "none", "memory", "device"] = Field(
        "auto",
        description="Where tensors are while a job runs: in their file, in memory, or on the device; `auto`: on a GPU "
        "if they fit. No cause for a rerun.",
    )


TaskCount = Annotated[int, Field(ge=2)]
TaskNames = list[str]


class ModeSection(Section):
    """Training-mode settings that belong to a pipeline."""

    multitask: Literal[False] | TaskCount = Field(
        False, description="Number of tasks that are learned together, the pivot included; false: the pivot alone."
    )
    co_tasks: Literal["random"] | TaskNames = Field(
        "random",
        description="Tasks learned beside the pivot: drawn from `tasks` by a hash of seed and name, or listed.",
    )
    task_weights: list[NonNegative] | None = Field(
        None, description="Weights of the losses, the pivot's first; null: equal."
    )
    store_best: bool = Field(True, description="Keep the epoch with the best validation loss; false: the last epoch.")

    @model_validator(mode="after")
    def _check_counts(self) -> ModeSection:
        if isinstance(self.co_tasks, list) and self.multitask:
            check_names(self.co_tasks, self.multitask - 1)
        if self.task_weights is not None and self.multitask:
            check_weights(self.task_weights, self.multitask)
        return self


def check_names(names: list[str], count: int) -> None:
    """Raise `ConfigError` unless there are as many distinct co-tasks as `multitask` asks for."""
    if len(set(names)) != len(names) or len(names) != count:
        raise ConfigError("co_tasks", names, f"{count} distinct tasks, as multitask is {count + 1}")


def check_weights(weights: list[float], count: int) -> None:
    """Raise `ConfigError` unless there is a weight for each task, one above 0 for the pivot."""
    if len(weights) != count:
        raise ConfigError("task_weights", weights, f"{count} numbers, as multitask is {count}, the pivot's first")
    if not weights[0]:
        raise ConfigError("task_weights", weights, "a weight above 0 for the pivot, the first")


RESOURCES = ("accelerator", "strategy", "devices", "num_nodes", "plugins", "sync_batchnorm", "use_distributed_sampler")
DECIDED = {
    "logger": "Curves are in metrics.csv; set cbs.tensorboard for TensorBoard.",
    "callbacks": "Set cbs.",
    "enable_checkpointing": "Training always resumes; see train.checkpoint_minutes.",
    "default_root_dir": "Set results_dir.",
    "deterministic": "Training is always deterministic.",
    "benchmark": "Training is always deterministic.",
    "max_steps": "The length of training is in epochs: set max_epochs.",
    "min_steps": "The length of training is in epochs: set min_epochs.",
    "val_check_interval": "Validation comes after epochs: set check_val_every_n_epoch.",
    "num_sanity_val_steps": "Data is checked by mode create.",
    "reload_dataloaders_every_n_epochs": "Every epoch has an order of its own.",
    "overfit_batches": "Set limit_train_batches.",
    "fast_dev_run": "Set max_epochs: 1 and limit_train_batches: 1.",
}


class TrainerSection(Section):
    """Arguments of `lightning.Trainer` that are no resources."""

    max_epochs: Count = Field(50, description="Epochs.")
    min_epochs: Count | None = Field(None, description="Epochs before early stopping or max_time may end training.")
    max_time: str | None = Field(
        None,
        pattern=r"^\d{2,}:\d{2}:\d{2}:\d{2}$",
        description='Longest training, "DD:HH:MM:SS"; how many epochs that is differs from run to run.',
    )
    check_val_every_n_epoch: Count = Field(1, description="Epochs between two validations; a divisor of max_epochs.")
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
    detect_anomaly: bool = Field(False, description="Stop where a gradient becomes NaN; slow.")
    compile: bool = Field(False, description="Compile the network with `torch.compile`; pays off for long training.")

    @model_validator(mode="before")
    @classmethod
    def _explain(cls, data: Any) -> Any:
        for key in data if isinstance(data, Mapping) else ():
            if key in RESOURCES:
                raise ConfigError(str(key), data[key], "no such key", "It is a resource: set it in a profile.")
            if key in DECIDED:
                raise ConfigError(str(key), data[key], "no such key", DECIDED[key])
        return data

    @model_validator(mode="after")
    def _check_epochs(self) -> TrainerSection:
        if self.max_epochs % self.check_val_every_n_epoch:
            expected = f"a divisor of max_epochs, {self.max_epochs}"
            raise ConfigError("check_val_every_n_epoch", self.check_val_every_n_epoch, expected)
        if self.min_epochs and self.min_epochs > self.max_epochs:
            raise ConfigError("min_epochs", self.min_epochs, f"at most max_epochs, {self.max_epochs}")
        return self


class Pipeline(Section):
    """A complete training recipe."""

    arch: Arch = Field(ResNet(), description="The network.")
    preprocessing: Preprocessing = Field(Preprocessing(), description="From images to tensors.")
    augmentations: Augmentations = Field(Augmentations(), description="From tensors to training batches.")
    sampling: Sampling = Field(Sampling(), description="From samples to batches.")
    loss: LossChoice = Field(CrossEntropy(), description="What is minimised.")
    optimizer: OptimizerChoice = Field(AdamW(), description="How it is minimised.")
    lr_scheduler: SchedulerChoice = Field(Constant(), description="How the learning rate changes.")
    mode: ModeSection = Field(ModeSection(), description="What is learned together, and which epoch is kept.")
    trainer: TrainerSection = Field(TrainerSection(), description="How long, and in which precision.")
    cbs: Callbacks = Field(Callbacks(), description="Callbacks.")
    tta: TestTimeAugmentation = Field(TestTimeAugmentation(), description="Test-time augmentation.")
    tune: Tuning = Field(Tuning(), description="Tuning before training.")
    metrics: Metrics = Field(Metrics(), description="What is reported.")
    peft: Adaptation = Field(Adaptation(), description="Adapters.")

    @model_validator(mode="after")
    def _check_rates(self) -> Pipeline:
        if self.peft.lora and not self.optimizer.backbone_lr_factor:
            expected = "a number > 0 with peft.lora"
            raise ConfigError("optimizer.backbone_lr_factor", 0, expected, "Adapters would learn nothing.")
        return self


PIPELINE_SECTIONS = tuple(Pipeline.model_fields)
DEFAULT_NAMES = {
    section: {key: getattr(field.default, key) for key in ("source", "name") if hasattr(field.default, key)}
    for section, field in Pipeline.model_fields.items()
}
LISTS = {"augmentations": "operations", "tta": "variations"}  # sections that may be written as one of their lists
