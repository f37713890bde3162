"""The section of mode `hpo`: a study of hyperparameters, its search space, sampler and pruner."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from foldwise.config.definition import Name
from foldwise.config.section import Section, read_scalar
from foldwise.config.sources import VARIABLE, is_json
from foldwise.config.values import Count
from foldwise.errors import NOTHING, ConfigError, Words

PASSWORD = re.compile(r"^[^:]+://[^/@:]*:(?P<password>[^@]*)@")
JOURNALS = (".log", ".journal", ".jsonl")
Number = int | float


class TreeParzen(Section):
    """Tree-structured Parzen estimator (Bergstra et al. 2011)."""

    name: Literal["tpe"] = Field("tpe", description="Sampler.")
    n_startup_trials: Annotated[int, Field(ge=0)] = Field(10, description="Finished trials before which it is random.")
    multivariate: bool = Field(True, description="Model parameters jointly (Falkner et al. 2018).")


class RandomSampler(Section):
    """Each parameter by itself, at random."""

    name: Literal["random"] = Field("random", description="Sampler.")


class GridSampler(Section):
    """All points of the search space, in a random order."""

    name: Literal["grid"] = Field("grid", description="Sampler.")


class NoPruner(Section):
    """Every trial is trained to its end."""

    name: Literal["none"] = Field("none", description="Pruner.")


class MedianPruner(Section):
    """Stop a trial that is worse than the median of finished ones at the same step."""

    name: Literal["median"] = Field("median", description="Pruner.")
    n_startup_trials: Annotated[int, Field(ge=0)] = Field(
        5, description="Finished trials before which none is stopped."
    )
    n_warmup_steps: Annotated[int, Field(ge=0)] = Field(
        0, description="Epochs of a trial before which it is not stopped."
    )


class HyperbandPruner(Section):
    """Successive halving in several brackets (Li et al. 2018)."""

    name: Literal["hyperband"] = Field("hyperband", description="Pruner.")
    min_resource: Count = Field(1, description="Least epochs of a trial.")
    reduction_factor: Annotated[int, Field(ge=2)] = Field(3, description="One of so many trials goes on at each rung.")


def read_name(value: Any) -> Any:
    """Let a component be asked for by its name alone."""
    return {"name": value} if isinstance(value, str) and not value.lstrip().startswith("{") else value


Sampler = Annotated[
    Annotated[TreeParzen | RandomSampler | GridSampler, Field(discriminator="name")], BeforeValidator(read_name)
]
Pruner = Annotated[
    Annotated[NoPruner | MedianPruner | HyperbandPruner, Field(discriminator="name")], BeforeValidator(read_name)
]


class Dimension(Section):
    """What one key may be: one of a list of choices, or a number between two bounds."""

    choices: Annotated[list[Any] | None, Words("a list of values, or null")] = Field(
        None, min_length=1, description="What is chosen from; a list alone means this."
    )
    low: Annotated[Number | None, Words("a number, or null")] = Field(
        None, description="Lower bound; of whole numbers if both bounds are."
    )
    high: Annotated[Number | None, Words("a number, or null")] = Field(None, description="Upper bound, included.")
    step: Annotated[Number | None, Words("a number > 0, or null")] = Field(
        None, gt=0, description="Distance of two values; null: any value."
    )
    log: bool = Field(False, description="Draw the logarithm.")
    when: dict[str, Any] = Field(
        {}, description="Keys of the search space and the value, or the list of values, with which this one counts."
    )

    @model_validator(mode="before")
    @classmethod
    def _read_list(cls, data: Any) -> Any:
        return {"choices": data} if isinstance(data, list) else data

    @model_validator(mode="after")
    def _check(self) -> Dimension:
        if self.choices is not None:
            check_choices(self)
        else:
            check_range(self)
        return self

    @property
    def is_integer(self) -> bool:
        """Whether only whole numbers are drawn."""
        return isinstance(self.low, int) and isinstance(self.high, int) and isinstance(self.step, int | None)


def check_choices(dimension: Dimension) -> None:
    """Raise `ConfigError` unless a list of choices stands alone and has each of them once."""
    choices = dimension.choices or []
    for key in ("low", "high", "step"):
        if getattr(dimension, key) is not None:
            raise ConfigError(key, getattr(dimension, key), "choices, or low and high, but not both")
    for place, choice in enumerate(choices):
        if not is_json(choice):
            raise ConfigError(f"choices[{place}]", choice, "a value that YAML can hold")
        if any(choice == other and type(choice) is type(other) for other in choices[:place]):
            raise ConfigError(f"choices[{place}]", choice, "each choice once")


def check_range(dimension: Dimension) -> None:
    """Raise `ConfigError` unless two bounds make a range that can be drawn from."""
    for key in ("low", "high"):
        if getattr(dimension, key) is None:
            raise ConfigError(key, NOTHING, "a list of choices, or low and high")
    assert dimension.low is not None and dimension.high is not None  # noqa: S101, PT018  (looked at above)
    if dimension.low > dimension.high:
        raise ConfigError("high", dimension.high, f"at least low, {dimension.low}")
    if dimension.log and dimension.low <= 0:
        raise ConfigError("low", dimension.low, "a number > 0 with log")
    if dimension.log and dimension.step is not None:
        raise ConfigError("step", dimension.step, "null with log")


def check_storage(address: str) -> str:
    """Raise `ConfigError` if an address has a password, or is no database and no journal."""
    found = PASSWORD.match(address)
    if found and not VARIABLE.fullmatch(found["password"]):
        remedy = "Put it into a variable of the environment: postgresql://user:${NAME}@host/database."
        raise ConfigError("", Words("a password"), "an address without one", remedy)
    if "://" not in address and not address.endswith(JOURNALS):
        expected = f"an address of SQLAlchemy, sqlite:///study.db say, or a file that ends in {', '.join(JOURNALS)}"
        raise ConfigError("", address, expected)
    return address


def read_one(value: Any) -> Any:
    """Let one pipeline be asked for by its name alone."""
    return [value] if isinstance(value, str) and value != "null" and not value.lstrip().startswith("[") else value


class Hpo(Section):
    """A study: trials of other settings of a pipeline, the best of which becomes a blueprint."""

    study: Name | None = Field(None, description="Name of the study; required by the mode.")
    trials: Count = Field(100, description="Trials, those that are there included.")
    parallel: Count = Field(
        4, description="Trials that may run beside each other: trial k knows all up to k - `parallel`."
    )
    direction: Literal["minimize", "maximize"] = Field("minimize", description="Which values are better.")
    metric: str | None = Field(
        None,
        description="Validation metric that is the objective, at the epoch that is kept; null: the score of models, "
        "their validation loss. Of several folds it is the mean.",
    )
    sampler: Annotated[Sampler, Words("tpe, random or grid, or a mapping with that `name`")] = Field(
        TreeParzen(), description="How settings are chosen: `tpe`, `random` or `grid`."
    )
    pruner: Annotated[Pruner, Words("none, median or hyperband, or a mapping with that `name`")] = Field(
        NoPruner(),
        description="How hopeless trials are stopped: `none`, `median` or `hyperband`; it sees finished trials.",
    )
    storage: Annotated[str, AfterValidator(check_storage)] | None = Field(
        None,
        description="Where finished trials are copied to, for dashboards: an address of SQLAlchemy (${NAME} is taken "
        "from the environment of the job), or a file of Optuna's journal, `.log`.",
    )
    search_space: dict[str, Annotated[Dimension, Words("a list, or a mapping with low and high")]] = Field(
        {},
        description="What each key of the pipeline may be: a list, or `low` and `high` with `log` or `step`; `when` "
        "makes it depend on another. For example "
        "{optimizer.lr: {low: 1.0e-5, high: 0.1, log: true}, sampling.batch_size: [32, 64]}.",
    )
    pipelines: Annotated[list[Name] | None, BeforeValidator(read_one)] = Field(
        None, description="The one pipeline that is varied; null: that of `train.pipelines`."
    )
    cv: bool | None = Field(None, description="As `train.cv`: which folds a trial trains.")
    nested: bool | None = Field(None, description="As `train.nested`.")
    inner_folds: Literal["first", "all"] | None = Field(None, description="As `train.inner_folds`.")


def conditions(dimension: Dimension) -> Iterator[tuple[str, list[Any]]]:
    """Yield the keys that a dimension depends on, each with the values with which it counts."""
    for key, value in dimension.when.items():
        yield key, [read_scalar(one, Any) for one in (value if isinstance(value, list) else [value])]
