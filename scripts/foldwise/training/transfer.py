"""Where transfer starts from: one of the models of another task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from foldwise.artifacts import read_json
from foldwise.config.architectures import Arch
from foldwise.config.checks import network_of
from foldwise.config.jobs import SourceConfig
from foldwise.config.pipeline import Pipeline
from foldwise.errors import ConfigError, DataError, Words
from foldwise.models.network import Network
from foldwise.models.weights import check_shapes, read_weights


@dataclass(frozen=True)
class Source:
    """A trained model that another starts from.

    Parameters
    ----------
    path : Path
        Its ``model.json``.
    record : dict
        The content.
    """

    path: Path
    record: dict[str, Any]

    @property
    def name(self) -> str:
        """Pipeline, task and fold, as the folders are called."""
        return "/".join(self.path.parts[-4:-1])

    @property
    def statistics(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of the channels that its weights expect."""
        return self.record["normalization"]["mean"], self.record["normalization"]["std"]

    def load_into(self, network: Network) -> None:
        """Take over the weights of its backbone.

        Raises
        ------
        MissingData, DataError, ConfigError
            If they are missing, damaged, or made for other images.
        """
        path, prefix = self.path.with_name("model.safetensors"), "backbone."
        weights = read_weights(path, self.record["weights"])
        own = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
        check_shapes(own, network.backbone.state_dict(), network.about, path, "tl.pretrain_task")
        network.backbone.load_state_dict(own)

    def describe(self) -> dict[str, Any]:
        """Return what ``model.json`` tells of it."""
        kept = ("pipeline", "task", "fold", "score")
        return {"model": self.name, **{key: self.record[key] for key in kept}, "weights": self.record["weights"]}


def choose_source(config: SourceConfig, models: Sequence[Path], recipe: Pipeline, seed: int) -> Source:
    """Choose the model to start from.

    Parameters
    ----------
    config : SourceConfig
        How: the lowest score, the latest, or a random one.
    models : sequence of Path
        ``model.json`` files.
    recipe : Pipeline
        The recipe of the model that starts; its network must be the same.
    seed : int
        Of a random choice.

    Raises
    ------
    ConfigError
        If none of them has the same network; names both.
    DataError
        If there is none.
    """
    found = sorted((Source(path, read_json(path)) for path in models), key=lambda source: str(source.path))
    if not found:
        raise DataError(f"models of {config.task}", Words("none"), "a model to start from")
    same = [source for source in found if network_of(recorded_arch(source)) == network_of(recipe.arch)]
    if not same:
        expected = f"the network of the models of {config.task}: {recorded_arch(found[0]).name}"
        remedy = "Transfer keeps the architecture, with all its arguments."
        raise ConfigError("arch", recipe.arch.name, expected, remedy)
    if config.model_selection == "performance":
        return min(same, key=lambda source: source.record["score"])
    if config.model_selection == "created":
        return max(same, key=lambda source: (finished(source.path), str(source.path)))
    return same[int(np.random.default_rng(seed).integers(len(same)))]


def recorded_arch(source: Source) -> Arch:
    """Return the network that a model's record tells of."""
    return Pipeline.model_validate({"arch": source.record["recipe"]["arch"]}).arch


def finished(path: Path) -> str:
    """Return when the job that made a model ended, as its ``run.json`` has it; the earliest time if it is not there."""
    run = path.with_name("run.json")
    return str(read_json(run)["finished"]) if run.is_file() else ""
