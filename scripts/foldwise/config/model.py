"""The whole configuration, and the checks that look at more than one key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from foldwise.config.definition import EMBEDDED_DATASETS, Name, TaskDefinition, TaskRecord
from foldwise.config.modes import Create, Pivot, Predict, Preprocess, Seed, Test, Train
from foldwise.config.names import parse_task
from foldwise.config.pipeline import Pipeline
from foldwise.config.section import Section
from foldwise.errors import ConfigError, Words, nearest, one_of, shorten


class Config(Section):
    """Everything a user can set, with pipelines resolved."""

    project: Name = Field("default", description="Namespace of results; data is shared by all projects.")
    seed: Seed = Field(42, description="Seed of training.")
    data_dir: str = Field("data", min_length=1, description="Root of datasets, tasks and tensors.")
    results_dir: str = Field("results", min_length=1, description="Root of results.")
    tasks: list[str] = Field(["digits"], min_length=1, description="Tasks of the project.")
    definitions: dict[Name, TaskDefinition] = Field({}, description="Task definitions of your own, by name.")
    pivot: Annotated[Pivot | None, Words("a task's name, a mapping of name and tags, or null")] = Field(
        Pivot(name="digits"), description="The task that modes work on; null: none."
    )
    pipelines: dict[Name, Pipeline] = Field(
        {"default": Pipeline()}, min_length=1, description="Training recipes, by name."
    )
    create: Create = Field(Create(), description="Mode create.")
    pp: Preprocess = Field(Preprocess(), description="Mode pp.")
    train: Train = Field(Train(), description="Mode train.")
    predict: Predict = Field(Predict(), description="Mode predict.")
    test: Test = Field(Test(), description="Mode test.")

    @field_validator("pivot", mode="before")
    @classmethod
    def _read_pivot(cls, value: Any) -> Any:
        return read_pivot(value) if isinstance(value, str) else value

    @field_validator("data_dir", "results_dir")
    @classmethod
    def _check_directory(cls, value: str) -> str:
        if not value.isprintable() or any(character in value for character in "{}*?\"'"):
            raise ConfigError("", value, "a path without braces, quotes, `*`, `?` and line breaks")
        return value.rstrip("/") or "/"

    @model_validator(mode="after")
    def _check_tasks(self) -> Config:
        for index, task in enumerate(self.tasks):
            base = parse_task(task, f"tasks[{index}]").base
            check_choice(f"tasks[{index}]", base, self.definitions)
            task_record(self, task, f"tasks[{index}]")
        if len(set(self.tasks)) != len(self.tasks):
            raise ConfigError("tasks", self.tasks, "a list without repetitions")
        return self

    @model_validator(mode="after")
    def _check_pivot(self) -> Config:
        if self.pivot:
            bases = {parse_task(task, "tasks").base for task in self.tasks}
            check_choice("pivot", self.pivot.name, bases)
            task_record(self, self.pivot.task, "pivot")
        return self

    @model_validator(mode="after")
    def _check_datasets(self) -> Config:
        owners: dict[str, tuple[str, TaskDefinition]] = {}
        for name, definition in self.definitions.items():
            dataset = definition.dataset or name
            check_choice(f"definitions.{name}.dataset", dataset, EMBEDDED_DATASETS)
            other, first = owners.setdefault(dataset, (name, definition))
            if definition.source != first.source:
                expected = f"{first.source!r} as in definition {other!r} of dataset {dataset!r}"
                raise ConfigError(f"definitions.{name}.source", definition.source, expected)
        return self

    @model_validator(mode="after")
    def _check_pipelines(self) -> Config:
        for mode in ("train", "predict", "test"):
            for index, name in enumerate(getattr(self, mode).pipelines or []):
                check_choice(f"{mode}.pipelines[{index}]", name, self.pipelines)
        if not self.train.store_parameters and {"predict", "test"} & set(self.train.subroutines):
            raise ConfigError(
                "train.store_parameters", False, "true with subroutines predict or test", "They need the weights."
            )
        return self

    @model_validator(mode="after")
    def _check_stored(self) -> Config:
        stored = {"train.store_parameters": self.train.store_parameters}
        for name, pipeline in self.pipelines.items():
            best = self.train.store_best
            where = f"pipelines.{name}.mode.store_best" if best is None else "train.store_best"
            stored[where] = pipeline.mode.store_best if best is None else best
        for mode in ("predict", "test"):
            for where, value in stored.items():
                key = where.rpartition(".")[2]
                own = getattr(getattr(self, mode), key)
                if own not in (None, value):
                    remedy = f"All modes use the same models: set train.{key}."
                    raise ConfigError(f"{mode}.{key}", own, f"{shorten(value)} as in {where}", remedy)
        return self


def read_pivot(text: str) -> dict[str, str]:
    """Split a pivot that is written as one word, such as ``digits+nested-0``, into name and tags."""
    name, plus, tags = text.partition("+")
    return {"name": name, "tags": plus + tags}


def check_choice(where: str, value: str, accepted: Mapping[str, Any] | Any) -> None:
    """Raise `ConfigError` unless `value` is one of the accepted words."""
    if value not in accepted:
        raise ConfigError(where, value, one_of(sorted(accepted)), nearest(value, accepted))


def definition_of(config: Config, base: str) -> TaskDefinition:
    """Return the definition of a task; raise `ConfigError` if there is none."""
    check_choice("task", base, config.definitions)
    return config.definitions[base]


def task_record(config: Config, task: str, where: str = "task") -> TaskRecord:
    """Return the full definition of a task or variant, as its files record it."""
    name = parse_task(task, where)
    definition = definition_of(config, name.base)
    name, n_folds = name.on_folds(definition.n_folds or config.create.n_folds, where)
    balanced = config.create.ensure_balancing if definition.ensure_balancing is None else definition.ensure_balancing
    return TaskRecord(
        dataset=definition.dataset or name.base,
        type=definition.type,
        n_folds=n_folds,
        ensure_balancing=balanced,
        seed=config.create.seed,
        tags=list(name.tags),
    )
