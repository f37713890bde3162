"""Averages of the weights along the way of training, which are validated and kept in their place."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import lightning.pytorch as lightning
import torch
from torch import nn

ROUNDING = 1e-9  # 0.28 * 25 is a little more than 7


class Averaging(lightning.Callback, ABC):
    """Average what training changes: trainable weights and floating-point buffers (statistics of batch normalisation).

    The average takes the place of the trained weights during validation. To be put last among the callbacks, so that
    one which keeps weights at the end of validation finds the average; only what saves the state of training comes
    later. Integer buffers stay those of the trained network.

    Attributes
    ----------
    count : int
        How many times weights were taken into the average.
    step : int
        The optimiser step of the last time.
    average : dict of str to Tensor
        The average by name in the network; empty as long as there is none, and the network is validated as it is.
    """

    def __init__(self) -> None:
        self.count = 0
        self.step = 0
        self.average: dict[str, torch.Tensor] = {}
        self.tensors: dict[str, torch.Tensor] = {}
        self.trained: list[torch.Tensor] = []

    @abstractmethod
    def is_due(self, trainer: lightning.Trainer) -> bool:
        """Return whether the weights after this optimiser step count."""

    @abstractmethod
    def share(self) -> float:
        """Return the share of the weights of now in the average to come, which is not the first."""

    def on_train_start(self, trainer: lightning.Trainer, module: Any) -> None:
        """Find what is averaged; bring an average that was loaded to its device and memory format."""
        self.tensors = changing_tensors(module.network)
        if self.average:
            loaded = self.average
            self.average = {
                name: torch.empty_like(tensor, requires_grad=False).copy_(loaded[name])
                for name, tensor in self.tensors.items()
            }

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take the weights into the average, unless the optimiser still gathers gradients."""
        if trainer.global_step == self.step or not self.is_due(trainer):
            return
        if self.average:
            torch._foreach_lerp_(list(self.average.values()), list(self.tensors.values()), self.share())
        else:
            self.average = {name: tensor.detach().clone() for name, tensor in self.tensors.items()}
        self.count += 1
        self.step = trainer.global_step

    @torch.no_grad()
    def on_validation_start(self, trainer: lightning.Trainer, module: Any) -> None:
        """Put the average in, if there is one."""
        if self.average:
            self.trained = [tensor.detach().clone() for tensor in self.tensors.values()]
            torch._foreach_copy_(list(self.tensors.values()), list(self.average.values()))

    @torch.no_grad()
    def on_validation_end(self, trainer: lightning.Trainer, module: Any) -> None:
        """Put the trained weights back."""
        if self.trained:
            torch._foreach_copy_(list(self.tensors.values()), self.trained)
            self.trained = []

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training needs."""
        return {"count": self.count, "step": self.step, "average": self.average}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what a stopped training had."""
        self.count, self.step, self.average = (state_dict[key] for key in ("count", "step", "average"))


class MovingAverage(Averaging):
    """Exponential moving average of the weights (Tarvainen and Valpola 2017, arXiv:1703.01780).

    Updated after every optimiser step; it begins with the weights after the first one. The decay warms up so that
    the average does not stick to the first weights: after n steps it is min(decay, (1 + n) / (10 + n)).
    Averages of iterates go back to Polyak and Juditsky 1992 (doi:10.1137/0330046).

    Parameters
    ----------
    decay : float
        Share of the average that a step keeps, between 0 and 1.
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay

    def is_due(self, trainer: lightning.Trainer) -> bool:
        """Every step counts."""
        return True

    def share(self) -> float:
        """Return what the decay leaves to the weights of now."""
        return 1 - min(self.decay, (1 + self.count) / (10 + self.count))


class StochasticAverage(Averaging):
    """Stochastic weight averaging (Izmailov et al. 2018, arXiv:1803.05407): all epochs count equally.

    The weights at the end of each epoch count, from epoch ceil(start * max_epochs) on, counted from 1; thus the last
    epoch always does. Until then the network is validated as it is. The schedule of the learning rate stays that of
    the recipe.

    Statistics of batch normalisation are averaged like the weights, where the authors recompute them in another pass
    over the training images. They are thus the mean statistics of the networks on the way, not those of the averaged
    network. Both agree as far as the weights of the epochs are near each other, and every validation spares the pass.

    Parameters
    ----------
    start : float
        Share of training that is over when averaging begins, between 0 and 1.
    """

    def __init__(self, start: float) -> None:
        super().__init__()
        self.start = start

    def is_due(self, trainer: lightning.Trainer) -> bool:
        """Return whether an epoch ends that counts."""
        first = math.ceil(self.start * (trainer.max_epochs or 0) - ROUNDING)
        return trainer.is_last_batch and trainer.current_epoch + 1 >= first

    def share(self) -> float:
        """Return an equal share."""
        return 1 / (self.count + 1)


def changing_tensors(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return what training changes of a network by name: trainable weights and floating-point buffers."""
    return {
        name: tensor
        for name, tensor in network.state_dict(keep_vars=True).items()
        if tensor.is_floating_point() and (tensor.requires_grad or not isinstance(tensor, nn.Parameter))
    }
