"""What each job needs to know: slices of the configuration that travel as canonical JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, Field

from foldwise.config.callbacks import TestTimeAugmentation
from foldwise.config.canonical import canonical_json, component, deciding, tensor_record
from foldwise.config.definition import DatasetRecord, Description, TaskDefinition, TaskRecord, TaskType
from foldwise.config.metrics import Metrics
from foldwise.config.model import Config, check_choice, definition_of, task_record
from foldwise.config.modes import Calibration, EnsembleSearch, Seed
from foldwise.config.names import parse_task
from foldwise.config.pipeline import PIPELINE_SECTIONS, ModeSection, Pipeline, Sampling
from foldwise.config.preprocessing import Preprocessing, TensorRecord
from foldwise.config.section import Section
from foldwise.config.sources import DatasetSource, listed, must_be_fetched

FETCH_KEYS = ("dataset", "source", "path", "sha256", "name", "size")
Slice = TypeVar("Slice", bound=BaseModel)


class DatasetConfig(Section):
    """What identifies a dataset, and whether its images are opened."""

    dataset: DatasetRecord
    check: Literal["full", "none"] = "full"


class Origin(NamedTuple):
    """Where a dataset is fetched from and how broken images are met; decides nothing."""

    url: list[str]
    mirrors: list[str]
    on_error: str


class MaskConfig(Section):
    """Definitions of masks, and of the tensors and the task they belong to."""

    tensors: TensorRecord
    task: TaskRecord
    dataset: DatasetRecord


class TaskConfig(Section):
    """Definitions of a task and of the dataset or the parent that it is made from."""

    task: TaskRecord
    dataset: DatasetRecord | None = None
    parent: TaskRecord | None = None


class CoTask(Section):
    """A task that is learned beside the pivot."""

    name: str
    task: TaskRecord
    tensors: TensorRecord


class TrainConfig(Section):
    """All that decides the weights of a model, but the fold."""

    seed: Seed = 42
    pipeline: Pipeline = Pipeline()
    task: TaskRecord
    tensors: TensorRecord
    co_tasks: list[CoTask] = Field([])
    store_parameters: bool = True


class SourceConfig(Section):
    """Which model a transfer starts from, and how."""

    task: str
    model_selection: Literal["performance", "created", "random"] = "performance"
    freeze: bool = False


class TransferConfig(TrainConfig):
    """All that decides the weights of a model that starts from one of another task, but the fold."""

    source: SourceConfig


class PredictConfig(Section):
    """All that decides logits, but the model: definitions of the data predicted, and its variations."""

    task: TaskRecord
    tensors: TensorRecord
    tta: TestTimeAugmentation = TestTimeAugmentation()


class ScoreConfig(Section):
    """All that decides test metrics, but the logits."""

    type: TaskType = "classification"
    metrics: Metrics = Metrics()
    seed: Seed = 42


class CalibrateConfig(Section):
    """All that decides calibrated logits, but the logits."""

    type: TaskType = "classification"
    calibration: Calibration = Calibration()


class EnsembleConfig(Section):
    """All that decides an ensemble, but its members."""

    type: TaskType = "classification"
    search: EnsembleSearch = EnsembleSearch()
    metrics: Metrics = Metrics()
    seed: Seed = 42


class TableConfig(Section):
    """What a table of metrics shows: the metrics of each pipeline, and the tasks they were measured on."""

    pivot: str
    metrics: dict[str, list[str]]
    targets: list[str] = Field([])


class PipelineConfig(Section):
    """A pipeline as it is written out."""

    pipeline: Pipeline = Pipeline()
    sections: list[str] = Field([])
    seed: Seed | None = None


class TensorConfig(Section):
    """Definitions of tensors and of the dataset they are made from."""

    tensors: TensorRecord
    dataset: DatasetRecord


def slice_json(section: BaseModel) -> str:
    """Write a slice as canonical JSON of what differs from the defaults."""
    return canonical_json(component(section))


def read_slice(kind: type[Slice], text: str) -> Slice:
    """Read a slice from its canonical JSON."""
    return kind.model_validate(json.loads(text))


def dataset_record(config: Config, dataset: str) -> DatasetRecord:
    """Return what identifies a dataset, from any definition on it."""
    definition = definition_on(config, dataset)
    keys = {key: getattr(definition, key) for key in DatasetSource.model_fields}
    if definition.name == dataset:  # the default, written out
        keys["name"] = None
    return DatasetRecord(
        **keys,
        dataset=dataset,
        image_column=str(definition.columns.get("image", "image")),
        mask_columns=mask_columns(config, dataset),
    )


def mask_columns(config: Config, dataset: str) -> list[str]:
    """Return the columns that name masks in the table of a dataset: those that its tasks of segmentation read."""
    definitions = [d for name, d in config.definitions.items() if (d.dataset or name) == dataset]
    columns = {d.columns.get("mask", "mask") for d in definitions if (d.source, d.type) == ("table", "segmentation")}
    return sorted(map(str, columns))


def fetch_record(config: Config, dataset: str) -> DatasetRecord:
    """Return what decides which files are fetched for a dataset."""
    record = dataset_record(config, dataset)
    return DatasetRecord(**{key: getattr(record, key) for key in FETCH_KEYS})


def local_file(record: DatasetRecord) -> str | None:
    """Return the single local file that tells about the images of a dataset; None if there is none or it is fetched."""
    if record.path is None or must_be_fetched(record) or record.source == "python":
        return None
    inside = record.table or (record.annotations if isinstance(record.annotations, str) else None)
    if inside:
        return str(Path(record.path) / inside)
    return record.path if record.source in ("table", "coco", "arrays") and Path(record.path).suffix else None


def dataset_config(config: Config, dataset: str) -> DatasetConfig:
    """Return what decides the description of a dataset."""
    return DatasetConfig(dataset=dataset_record(config, dataset), check=config.create.check)


def dataset_origin(config: Config, dataset: str) -> Origin:
    """Return where a dataset comes from."""
    definition = definition_on(config, dataset)
    return Origin(listed(definition.url), definition.mirrors, definition.on_error or config.create.on_error)


def definition_on(config: Config, dataset: str) -> TaskDefinition:
    """Return the first definition on a dataset; raise `ConfigError` if there is none."""
    owners = {d.dataset or name: d for name, d in reversed(config.definitions.items())}
    check_choice("dataset", dataset, owners)
    return owners[dataset]


def describe_dataset(config: Config, dataset: str) -> Description:
    """Return licence, reference and keywords of a dataset."""
    return describe(definition_on(config, dataset))


def describe_task(config: Config, task: str) -> Description:
    """Return licence, reference and keywords of a task or variant."""
    return describe(definition_of(config, parse_task(task, "task").base))


def describe(definition: TaskDefinition) -> Description:
    """Return the descriptive part of a definition."""
    return Description.model_validate({key: getattr(definition, key) for key in Description.model_fields})


def dataset_of(config: Config, task: str) -> str:
    """Return the dataset of a task or variant."""
    base = parse_task(task, "task").base
    return definition_of(config, base).dataset or base


def task_config(config: Config, task: str) -> TaskConfig:
    """Return what decides the files of a task or variant."""
    name, record = parse_task(task, "task"), task_record(config, task)
    if name.tags:
        return TaskConfig(task=record, parent=task_record(config, str(name.parent)))
    return TaskConfig(task=record, dataset=dataset_record(config, record.dataset))


def pipeline_config(config: Config, pipeline: str) -> PipelineConfig:
    """Return what is stored of a pipeline: the sections of `pipeline_keys`, and others that are set."""
    recipe, keys = config.pipelines[pipeline], config.train.pipeline_keys
    changed = {key for key in ("peft", "metrics") if getattr(recipe, key) != Pipeline.model_fields[key].default}
    stored = [key for key in PIPELINE_SECTIONS if key in keys or key in changed]
    left_out = {key: Pipeline.model_fields[key].default for key in PIPELINE_SECTIONS if key not in stored}
    default = Config.model_fields["seed"].default
    seed = config.seed if "seed" in keys or config.seed != default else None
    return PipelineConfig(pipeline=recipe.model_copy(update=left_out), sections=stored, seed=seed)


def stored_pipeline(stored: PipelineConfig) -> dict[str, Any]:
    """Return a pipeline as it is written out: its sections, and the seed where it is stored."""
    tree = stored.pipeline.model_dump(mode="json")
    seed = {} if stored.seed is None else {"seed": stored.seed}
    return {**{section: tree[section] for section in stored.sections}, **seed}


def training_recipe(recipe: Pipeline, co_tasks: bool) -> Pipeline:
    """Return a recipe without what does not decide weights.

    Training always records all metrics of the task type: which of them are reported is no cause to train again.
    Co-tasks are named beside the recipe; how they were chosen decides nothing.
    """
    weights = recipe.mode.task_weights if co_tasks else None
    return recipe.model_copy(
        update={
            "metrics": Metrics(),
            "tta": TestTimeAugmentation(),
            "preprocessing": deciding(recipe.preprocessing),
            "sampling": recipe.sampling.model_copy(update={"cache": Sampling.model_fields["cache"].default}),
            "mode": ModeSection(store_best=recipe.mode.store_best, task_weights=weights),
        }
    )


def train_config(
    config: Config, recipe: Pipeline, task: str, co_tasks: Iterable[str] = (), store_parameters: bool = True
) -> TrainConfig:
    """Return what decides the models of a recipe on a task, learned together with some co-tasks."""
    record, others = task_record(config, task), list(co_tasks)
    return TrainConfig(
        seed=config.seed,
        pipeline=training_recipe(recipe, bool(others)),
        task=record,
        tensors=tensor_record(record.dataset, recipe.preprocessing),
        co_tasks=[co_task(config, recipe, name) for name in others],
        store_parameters=store_parameters,
    )


def co_task(config: Config, recipe: Pipeline, name: str) -> CoTask:
    """Return the definitions of a co-task, in the preprocessing of a recipe."""
    record = task_record(config, name)
    return CoTask(name=name, task=record, tensors=tensor_record(record.dataset, recipe.preprocessing))


def transfer_config(config: Config, training: TrainConfig, source: str) -> TransferConfig:
    """Return what decides the models that start from models of another task."""
    chosen = SourceConfig(task=source, model_selection=config.tl.model_selection, freeze=config.tl.freeze)
    return TransferConfig(**{key: getattr(training, key) for key in TrainConfig.model_fields}, source=chosen)


def predict_config(config: Config, recipe: Pipeline, target: str) -> PredictConfig:
    """Return what decides the logits of a recipe's models on a target task."""
    record = task_record(config, target)
    return PredictConfig(task=record, tensors=tensor_record(record.dataset, recipe.preprocessing), tta=recipe.tta)


def table_config(
    config: Config, recipes: Mapping[str, Pipeline], pivot: str, targets: Iterable[str] = ()
) -> TableConfig:
    """Return which metrics a table reports of each pipeline, in its full form."""
    kind = definition_of(config, parse_task(pivot, "pivot").base).type
    metrics = {form: recipe.metrics.of(kind) for form, recipe in recipes.items()}
    return TableConfig(pivot=pivot, metrics=metrics, targets=list(targets))


def score_config(config: Config, recipe: Pipeline, target: str) -> ScoreConfig:
    """Return which metrics a pipeline reports on a target task; those of other task types are left out."""
    kind = definition_of(config, parse_task(target, "task").base).type
    metrics: dict[str, Any] = {kind: recipe.metrics.of(kind)} if kind in Metrics.model_fields else {}
    seed = {"seed": config.seed} if recipe.metrics.bootstrap else {}
    return ScoreConfig(type=kind, metrics=Metrics(**metrics, bootstrap=recipe.metrics.bootstrap), **seed)


def calibrate_config(config: Config, target: str) -> CalibrateConfig:
    """Return how logits on a target task are calibrated."""
    kind = definition_of(config, parse_task(target, "task").base).type
    return CalibrateConfig(type=kind, calibration=Calibration(prior=config.post.prior))


def ensemble_config(config: Config, recipe: Pipeline, target: str) -> EnsembleConfig:
    """Return how an ensemble on a target task is found, and the metrics of a pipeline that it reports."""
    score = score_config(config, recipe, target)
    search = EnsembleSearch(**{key: getattr(config.post, key) for key in EnsembleSearch.model_fields})
    return EnsembleConfig(type=score.type, search=search, metrics=score.metrics, seed=config.seed)


def mask_config(config: Config, task: str, preprocessing: Preprocessing) -> MaskConfig:
    """Return what decides the masks of a task in one preprocessing."""
    record = task_record(config, task)
    return MaskConfig(
        tensors=tensor_record(record.dataset, preprocessing),
        task=record,
        dataset=dataset_record(config, record.dataset),
    )
