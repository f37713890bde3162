"""Optimisers and schedules of the learning rate."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from foldwise.config.section import Section
from foldwise.config.values import Count, NonNegative, Positive, Probability, Share


class Optimizer(Section):
    """Keys common to all optimisers."""

    lr: Positive = Field(5e-4, description="Learning rate.")
    backbone_lr_factor: NonNegative = Field(
        1.0,
        description="Learning rate of the backbone relative to the head's; 0: the backbone is frozen, the statistics "
        "of its batch normalisation too.",
    )


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


class RMSprop(Optimizer):
    """Gradients divided by the root of their mean square (Tieleman and Hinton 2012)."""

    name: Literal["rmsprop"] = Field("rmsprop", description="Optimiser.")
    alpha: Probability = Field(0.99, description="Decay rate of the mean square.")
    momentum: Probability = Field(0.0, description="Momentum.")
    weight_decay: NonNegative = Field(0.0, description="L2 penalty.")
    eps: Positive = Field(1e-8, description="Term added to the denominator.")


OptimizerChoice = Annotated[AdamW | Adam | SGD | RMSprop, Field(discriminator="name")]


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


class Plateau(Scheduler):
    """Multiply the learning rate by `factor` when a loss has stopped falling."""

    name: Literal["plateau"] = Field("plateau", description="Schedule.")
    monitor: Literal["val_loss", "train_loss"] = Field("val_loss", description="What is watched.")
    factor: Share = Field(0.1, description="Factor of a drop.")
    patience: Annotated[int, Field(ge=0)] = Field(5, description="Epochs without improvement before a drop.")
    min_lr: NonNegative = Field(0.0, description="Lowest learning rate.")


SchedulerChoice = Annotated[
    Constant | Cosine | CosineRestart | OneCycle | Step | Exponential | Plateau, Field(discriminator="name")
]
