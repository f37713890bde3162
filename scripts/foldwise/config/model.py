"""The whole configuration, and the checks that look at more than one key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from foldwise.config.definition import Labels, Name, TaskDefinition, TaskRecord
from foldwise.config.hpo import Hpo
from foldwise.config.info import Info
from foldwise.config.maintenance import Clean
from foldwise.config.modes import (
    Create,
    Pivot,
    Post,
    Predict,
    Preprocess,
    Remove,
    Reuse,
    Seed,
    Tagging,
    Test,
    Train,
    Transfer,
)
from foldwise.config.names import TAGGED_TYPES, TaskName, parse_tag, parse_task
from foldwise.config.pipeline import ModeSection, Pipeline
from foldwise.config.section import Section, hide_secrets
from foldwise.config.sources import DatasetAddress, DatasetSource, check_set
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
    tagging: Tagging = Field(Tagging(), description="Tags for all tasks.")
    pipelines: dict[Name, Pipeline] = Field(
        {"default": Pipeline()}, min_length=1, description="Training recipes, by name."
    )
    create: Create = Field(Create(), description="Mode create.")
    pp: Preprocess = Field(Preprocess(), description="Mode pp.")
    train: Train = Field(Train(), description="Mode train.")
    predict: Predict = Field(Predict(), description="Mode predict.")
    test: Test = Field(Test(), description="Mode test.")
    tl: Transfer = Field(Transfer(), description="Mode tl.")
    post: Post = Field(Post(), description="Mode post.")
    info: Info = Field(Info(), description="Mode info.")
    hpo: Hpo = Field(Hpo(), description="Mode hpo.")
    clean: Clean = Field(Clean(), description="Mode clean.")
    reuse: Reuse = Field(Reuse(), description="Models and blueprints of other projects.")
    remove: Remove = Field(Remove(), description="What is deleted after use.")

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
            check_choice(f"tasks[{index}]", base, self.definitions, "Write a definition of it under `definitions`.")
        names = [canonical_name(self, task, f"tasks[{index}]") for index, task in enumerate(self.tasks)]
        if len(set(names)) != len(names):
            raise ConfigError("tasks", self.tasks, "a list without repetitions")
        for task in self.tasks:
            canonical_name(self, task + self.tagging.all, "tagging.all")
            for index, tags in enumerate(self.tagging.variants):
                canonical_name(self, task + self.tagging.all + tags, f"tagging.variants[{index}]")
        names = tagged_tasks(self)
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ConfigError("tagging.variants", self.tagging.variants, f"no variant twice, as {twice} would be")
        return self

    @model_validator(mode="after")
    def _check_pivot(self) -> Config:
        if self.pivot:
            bases = {parse_task(task, "tasks").base for task in self.tasks}
            check_choice("pivot", self.pivot.name, bases)
            task_record(self, pivot_task(self), "pivot")
        return self

    @model_validator(mode="after")
    def _check_datasets(self) -> Config:
        owners: dict[str, tuple[str, dict[str, Any]]] = {}
        for name, definition in self.definitions.items():
            keys = dataset_keys(definition)
            dataset = definition.dataset or name
            check_set(definition, dataset, f"definitions.{name}")
            other, first = owners.setdefault(dataset, (name, keys))
            for key, value in keys.items():
                if value != first[key]:
                    expected = f"{shorten(hide_secrets(first[key]))} as in definition {other!r} of dataset {dataset!r}"
                    raise ConfigError(f"definitions.{name}.{key}", hide_secrets(value), expected)
        return self

    @model_validator(mode="after")
    def _check_pipelines(self) -> Config:
        for mode in ("train", "predict", "test", "tl", "post", "hpo"):
            for index, name in enumerate(getattr(self, mode).pipelines or []):
                check_choice(f"{mode}.pipelines[{index}]", name, self.pipelines)
        for mode, parts in (("train", self.train.subroutines), ("tl", self.tl.subroutines)):
            if not getattr(self, mode).store_parameters and {"predict", "test"} & set(parts):
                stored = getattr(self, mode).store_parameters
                if stored is False or not self.train.store_parameters:
                    expected = "true with subroutines predict or test"
                    raise ConfigError(f"{mode}.store_parameters", False, expected, "They need the weights.")
        return self

    @model_validator(mode="after")
    def _check_shared(self) -> Config:
        for mode in ("predict", "test", "post"):
            for key in SHARED_KEYS:
                own = getattr(getattr(self, mode), key)
                for where, value in self._values_of(key).items():
                    if own not in (None, value):
                        remedy = f"All modes use the same models: set train.{key}."
                        raise ConfigError(f"{mode}.{key}", own, f"{shorten(value)} as in {where}", remedy)
        return self

    def _values_of(self, key: str) -> dict[str, Any]:
        """Return what a key of `train` is, or where that is not set, what it is in each pipeline."""
        value = getattr(self.train, key)
        if value is not None:
            return {f"train.{key}": value}
        return {f"pipelines.{name}.mode.{key}": getattr(p.mode, key) for name, p in self.pipelines.items()}

    @model_validator(mode="after")
    def _check_other_tasks(self) -> Config:
        known = tagged_tasks(self)
        if self.tl.pretrain_task is not None:
            name = canonical_name(self, self.tl.pretrain_task, "tl.pretrain_task")
            check_choice("tl.pretrain_task", name, known, "Add it to tasks.")
        for mode in ("train", "predict", "test", "tl", "post"):
            for where, task in eval_tasks(self, mode):
                canonical_name(self, task, where)
            check_known(getattr(self, mode).co_tasks, known, mode, self)
        for name, pipeline in self.pipelines.items():
            if pipeline.mode.multitask:
                check_known(pipeline.mode.co_tasks, known, f"pipelines.{name}.mode", self)
        return self


SHARED_KEYS = (*ModeSection.model_fields, "store_parameters", "use_blueprint", "pipeline_keys", "checkpoint_minutes")


def eval_tasks(config: Config, mode: str) -> list[tuple[str, str]]:
    """Return the tasks of `eval_on` that a mode sees, each with its key path."""
    section = getattr(config, mode)
    if "eval_on" not in type(section).model_fields:
        return []
    own = section.eval_on
    where, found = (mode, own) if own is not None else ("train", config.train.eval_on)
    if found is None:
        return []
    if isinstance(found, str):
        return [(f"{where}.eval_on", found)]
    return [(f"{where}.eval_on[{index}]", task) for index, task in enumerate(found)]


def check_known(co_tasks: Any, known: list[str], where: str, config: Config) -> None:
    """Raise `ConfigError` unless all listed co-tasks are tasks of the project."""
    for index, task in enumerate(co_tasks if isinstance(co_tasks, list) else []):
        place = f"{where}.co_tasks[{index}]"
        check_choice(place, canonical_name(config, task, place), known, "Add it to tasks.")


def pivot_task(config: Config) -> str:
    """Return the task or variant that is the pivot: its name, the tags of all tasks, its own tags."""
    assert config.pivot is not None  # noqa: S101  (callers have looked)
    return config.pivot.name + config.tagging.all + config.pivot.tags


def tagged_tasks(config: Config) -> list[str]:
    """Return the tasks with the tags of `tagging`, in canonical form: those of all, then each of the variants."""
    tags = [config.tagging.all + variant for variant in config.tagging.variants or [""]]
    return [canonical_name(config, task + more, "tagging") for task in config.tasks for more in tags]


def canonical_name(config: Config, task: str, where: str) -> str:
    """Return the one name of a task or variant; raise `ConfigError` if there is no such variant."""
    return "+".join([parse_task(task, where).base, *task_record(config, task, where).tags])


def unnested(task: str, where: str) -> str:
    """Return the name of a task without its nested tags."""
    name = parse_task(task, where)
    return "+".join([name.base, *(tag for tag in name.tags if not tag.startswith("nested-"))])


def dataset_keys(definition: TaskDefinition) -> dict[str, Any]:
    """Return the keys of a definition that belong to its dataset."""
    keys = (*DatasetSource.model_fields, *DatasetAddress.model_fields)
    return {key: getattr(definition, key) for key in keys} | {"columns.image": definition.columns.get("image", "image")}


def read_pivot(text: str) -> dict[str, str]:
    """Split a pivot that is written as one word, such as ``digits+nested-0``, into name and tags."""
    name, plus, tags = text.partition("+")
    return {"name": name, "tags": plus + tags}


def check_choice(where: str, value: str, accepted: Mapping[str, Any] | Any, remedy: str = "") -> None:
    """Raise `ConfigError` unless `value` is one of the accepted words; the nearest is a remedy that comes first."""
    if value not in accepted:
        raise ConfigError(where, value, one_of(sorted(accepted)), nearest(value, accepted) or remedy)


def definition_of(config: Config, base: str, where: str = "task") -> TaskDefinition:
    """Return the definition of a task; raise `ConfigError` if there is none."""
    check_choice(where, base, config.definitions)
    return config.definitions[base]


def check_tags(name: TaskName, kind: str, where: str) -> None:
    """Raise `ConfigError` if a tag cannot be applied to a task type."""
    for text in name.tags:
        accepted = TAGGED_TYPES.get(parse_tag(text, where).name, (kind,))
        if kind not in accepted:
            raise ConfigError(where, f"+{text}", f"a task of type {' or '.join(accepted)}, {name.base} is {kind}")


def task_record(config: Config, task: str, where: str = "task") -> TaskRecord:
    """Return the full definition of a task or variant, as its files record it."""
    name = parse_task(task, where)
    definition = definition_of(config, name.base, where)
    check_tags(name, definition.type, where)
    name, n_folds = name.on_folds(definition.folds or definition.n_folds or config.create.n_folds, where)
    balanced = config.create.ensure_balancing if definition.ensure_balancing is None else definition.ensure_balancing
    return TaskRecord(
        **{key: getattr(definition, key) for key in Labels.model_fields if key != "columns"},
        columns={role: column for role, column in definition.columns.items() if role != "image"},
        dataset=definition.dataset or name.base,
        n_folds=n_folds,
        ensure_balancing=balanced and definition.type == "classification",
        given_folds=definition.folds is not None,
        seed=config.create.seed,
        tags=list(name.tags),
        functions=own_functions(config, name, where),
    )


def own_functions(config: Config, name: TaskName, where: str) -> list[str]:
    """Return the functions that the `own` tags of a variant call; raise `ConfigError` if one is not named."""
    known = config.tagging.functions
    for own in name.functions:
        if not known:
            remedy = f"Write tagging.functions: {{{own}: my_module:my_function}}."
            raise ConfigError(where, f"+own-{own}", "a name out of tagging.functions, which is empty", remedy)
        check_choice(where, own, known, "Name it under tagging.functions.")
    return [known[own] for own in name.functions]
