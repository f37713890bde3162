"""Bare PyTorch loops that the engine is compared with: good ones, of nothing but what training and prediction need.

Images are gathered a whole batch at a time into channels-last memory, the optimiser and its settings are those of the
recipe with the implementation that PyTorch takes by itself, and augmentation is kornia's, called as it is.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from foldwise.config.pipeline import Pipeline
from foldwise.data.augment import IMAGENET_MEAN, IMAGENET_STD
from foldwise.models.network import Network, build_network

Change = Callable[[torch.Tensor], torch.Tensor]
Weights = dict[str, torch.Tensor]


class BareTask(NamedTuple):
    """Images (n, height, width, channels) and class indices (n,), and which of them are for training and validation."""

    images: Any
    labels: np.ndarray
    train: np.ndarray
    val: np.ndarray
    classes: int


def new_network(recipe: Pipeline, seed: int, tasks: Sequence[BareTask]) -> Network:
    """Return the network that the engine starts from."""
    torch.manual_seed(seed)
    _, height, width, channels = tasks[0].images.shape
    return build_network(recipe.arch, channels, [task.classes for task in tasks], size=(height, width))


def train(recipe: Pipeline, seed: int, tasks: Sequence[BareTask]) -> tuple[Weights, float]:
    """Train, validate the first task after each epoch; return the best epoch's weights and its accuracy."""
    network, generator = new_network(recipe, seed, tasks), np.random.default_rng(seed)
    augment, normalize = augmentation(recipe), normalization(255)
    settings = recipe.optimizer
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    best, kept, accuracy = float("inf"), Weights(), 0.0
    for _ in range(recipe.trainer.max_epochs):
        network.train()
        for step in steps(tasks, recipe.sampling.batch_size, generator):
            losses = [
                nn.functional.cross_entropy(network(augment(pixels), head), labels)
                for head, (pixels, labels) in enumerate(step)
            ]
            optimizer.zero_grad()
            (sum(losses) / len(losses)).backward()
            optimizer.step()
        loss, right = validate(network.eval(), normalize, tasks, recipe.sampling.batch_size)
        if loss < best:
            best, accuracy = loss, right
            kept = {name: weight.clone() for name, weight in network.state_dict().items()}
    return kept, accuracy


def steps(
    tasks: Sequence[BareTask], batch_size: int, generator: np.random.Generator
) -> Iterator[tuple[tuple[torch.Tensor, torch.Tensor], ...]]:
    """Yield a batch of every task until the longest is through; shorter ones begin anew."""
    longest = max(len(task.train) for task in tasks)
    orders = []
    for task in tasks:
        rounds = -(-longest // len(task.train))
        orders.append(np.concatenate([generator.permutation(task.train) for _ in range(rounds)])[:longest])
    batches = (gather(task, order, batch_size) for task, order in zip(tasks, orders, strict=True))
    yield from zip(*batches, strict=True)


def gather(task: BareTask, places: np.ndarray, batch_size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield batches of images, uint8 in channels-last order, and class indices."""
    for start in range(0, len(places), batch_size):
        chosen = places[start : start + batch_size]
        yield torch.from_numpy(task.images[chosen]).permute(0, 3, 1, 2), torch.from_numpy(task.labels[chosen])


@torch.inference_mode()
def validate(network: Network, normalize: Change, tasks: Sequence[BareTask], batch_size: int) -> tuple[float, float]:
    """Return loss and accuracy of the first task; the others are validated too."""
    found = []
    for head, task in enumerate(tasks):
        parts = [(network(normalize(pixels), head), labels) for pixels, labels in gather(task, task.val, batch_size)]
        logits, labels = (torch.cat(part) for part in zip(*parts, strict=True))
        right = (logits.argmax(dim=1) == labels).float().mean()
        found.append((nn.functional.cross_entropy(logits, labels).item(), right.item()))
    return found[0]


@torch.inference_mode()
def predict(network: Network, task: BareTask, places: np.ndarray, batch_size: int) -> np.ndarray:
    """Return logits of samples."""
    normalize = normalization(255)
    return torch.cat([network(normalize(pixels)) for pixels, _ in gather(task, places, batch_size)]).numpy()


def normalization(white: float) -> Change:
    """Return the change from pixels between 0 and `white` to the network's input."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    shift, scale = -mean / std, 1 / (white * std)
    return lambda pixels: torch.addcmul(shift, pixels.float(), scale)


def augmentation(recipe: Pipeline) -> Change:
    """Return the same for uint8 pixels, with kornia's operations before it if the recipe has any."""
    operations = recipe.augmentations.operations
    if not operations:
        return normalization(255)
    import kornia.augmentation

    normalize = normalization(1)
    chain = nn.Sequential(*(getattr(kornia.augmentation, one.name)(**tuples(one.arguments)) for one in operations))

    def change(pixels: torch.Tensor) -> torch.Tensor:
        images = chain(pixels.float().div_(255))
        return normalize(images.contiguous(memory_format=torch.channels_last))

    return change


def tuples(arguments: dict[str, Any]) -> dict[str, Any]:
    """Turn lists into tuples, as kornia expects them."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()}


def forget_switches() -> None:
    """Let a run owe nothing to the one before: no garbage, no global switches of it."""
    gc.collect()
    torch.use_deterministic_algorithms(False)
