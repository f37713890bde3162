"""The sections of the modes: what the user asks for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from foldwise.config.definition import FoldCount, Name
from foldwise.config.names import FUNCTION_NAME_PATTERN, FUNCTION_NAME_WORDS
from foldwise.config.pipeline import PIPELINE_SECTIONS, TaskCount, TaskNames
from foldwise.config.section import Section
from foldwise.config.values import Count, Function, NonNegative, Positive, Probability, Share
from foldwise.errors import Words

CreatePart = Literal["dataset", "task"]
TrainPart = Literal["train", "predict", "test"]
PIPELINE_KEYS = (*PIPELINE_SECTIONS, "seed")
STORED_KEYS = tuple(key for key in PIPELINE_SECTIONS if key not in ("peft", "metrics"))


class Create(Section):
    """Datasets and tasks, with their splits and folds."""

    subroutines: list[CreatePart] = Field(
        ["dataset", "task"], min_length=1, description="`dataset` fetches images, `task` makes samples and folds."
    )
    n_folds: FoldCount = Field(5, description="Number of folds, unless the task definition says otherwise.")
    ensure_balancing: bool = Field(True, description="Each fold mirrors the class distribution (classification).")
    seed: int = Field(42, description="Seed of splits and folds.")
    check: Literal["full", "none"] = Field(
        "full", description="`full`: every image and mask is opened; `none`: the source is trusted."
    )
    on_error: Literal["stop", "skip"] = Field(
        "stop", description="What happens with images that cannot be read, unless the definition says otherwise."
    )


class Preprocess(Section):
    """Tensors; the mode has no options of its own, see `preprocessing`."""


class Train(Section):
    """Models: one for each pipeline and fold."""

    subroutines: list[TrainPart] = Field(
        ["train"], min_length=1, description="Which of the modes `train`, `predict`, `test` to run."
    )
    cv: bool = Field(True, description="One model a fold; false: fold 0 only.")
    nested: bool = Field(
        True, description="For each outer fold k, train on the variant `PIVOT+nested-k`; the test split stays unseen."
    )
    inner_folds: Literal["first", "all"] = Field("first", description="Inner folds that are trained when nested.")
    store_parameters: bool = Field(True, description="Keep the weights of trained models.")
    store_best: bool | None = Field(None, description="Replaces `mode.store_best` of every pipeline if set.")
    multitask: Literal[False] | TaskCount | None = Field(
        None, description="Replaces `mode.multitask` of every pipeline if set."
    )
    co_tasks: Literal["random"] | TaskNames | None = Field(
        None, description="Replaces `mode.co_tasks` of every pipeline if set."
    )
    task_weights: list[NonNegative] | None = Field(
        None, description="Replaces `mode.task_weights` of every pipeline if set."
    )
    eval_on: str | TaskNames | None = Field(
        None, description="Predict and test on this task, or these, instead; they have the classes of the pivot."
    )
    use_blueprint: bool = Field(False, description="Let `reuse.blueprint` override the sections in `pipeline_keys`.")
    pipeline_keys: list[Literal[PIPELINE_KEYS]] = Field(  # type: ignore[valid-type]
        sorted(STORED_KEYS),
        min_length=1,
        description="Sections that are stored in `pipelines/` of the project, and that a blueprint overrides; "
        "`peft`, `metrics` and `seed` are stored when they are set.",
    )
    pipelines: list[Name] | None = Field(None, description="Pipelines to use; null: all; []: none, reused models only.")
    checkpoint_minutes: Positive = Field(
        10.0, description="Minutes between two saved states within an epoch; one is saved after every epoch."
    )


class TrainOverrides(Section):
    """The keys of `train`, for this mode; what is not set is taken from `train`."""

    cv: bool | None = Field(None, description="As `train.cv`.")
    nested: bool | None = Field(None, description="As `train.nested`.")
    inner_folds: Literal["first", "all"] | None = Field(None, description="As `train.inner_folds`.")
    store_parameters: bool | None = Field(None, description="As `train.store_parameters`.")
    store_best: bool | None = Field(None, description="As `train.store_best`.")
    multitask: Literal[False] | TaskCount | None = Field(None, description="As `train.multitask`.")
    co_tasks: Literal["random"] | TaskNames | None = Field(None, description="As `train.co_tasks`.")
    task_weights: list[NonNegative] | None = Field(None, description="As `train.task_weights`.")
    eval_on: str | TaskNames | None = Field(None, description="As `train.eval_on`.")
    use_blueprint: bool | None = Field(None, description="As `train.use_blueprint`.")
    pipeline_keys: list[Literal[PIPELINE_KEYS]] | None = Field(  # type: ignore[valid-type]
        None, description="As `train.pipeline_keys`."
    )
    pipelines: list[Name] | None = Field(None, description="As `train.pipelines`.")
    checkpoint_minutes: Positive | None = Field(None, description="As `train.checkpoint_minutes`.")


class Predict(TrainOverrides):
    """Logits of val, test and unlabeled for every trained fold."""

    subroutines: list[Literal["predict", "test"]] = Field(
        ["predict"], min_length=1, description="Which of the modes `predict`, `test` to run."
    )


class Test(TrainOverrides):
    """Test metrics of every trained fold."""

    subroutines: list[Literal["predict", "test"]] = Field(
        ["test"], min_length=1, description="Which of the modes `predict`, `test` to run."
    )


class Transfer(TrainOverrides):
    """Models that start from the weights of models of another task."""

    subroutines: list[TrainPart] = Field(
        ["train"], min_length=1, description="Which of the modes `tl` (as `train`), `predict`, `test` to run."
    )
    pretrain_task: str | None = Field(
        None,
        description="Task of `tasks` whose models are started from; if set, `{pipeline}@{pretrain_task}` joins the "
        "pipelines of predict and test.",
    )
    model_selection: Literal["performance", "created", "random"] = Field(
        "performance",
        description="Which of its models: that of the lowest score, the latest, or one drawn with `seed`.",
    )
    freeze: bool = Field(
        False, description="Backbone frozen, the statistics of its batch normalisation too: only heads learn."
    )


class Calibration(Section):
    """How logits are calibrated."""

    prior: Literal["val", "test", "quantify"] | list[NonNegative] = Field(
        "val",
        description="Prior of the classes: frequencies of the validation or the test split, prevalences of the "
        "unlabeled split by adjusted classify and count (`quantify`), or a list, a number a class.",
    )


class EnsembleSearch(Section):
    """How an ensemble is found."""

    search: Literal["random", "greedy", "convex"] = Field(
        "random", description="Random sets and weights, greedy selection with replacement, or the best weights of all."
    )
    selection: Literal["test", "val"] = Field(
        "test",
        description="What selects: a part of the test split; or out-of-fold validation, members are pipelines then.",
    )
    eval_frac: Share = Field(0.5, description="Share of the test samples that selects; the others report.")
    budget: Count = Field(1000, description="Candidates that `random` and `greedy` evaluate.")
    weights_budget: int = Field(10, ge=0, description="Weight vectors a set; 0: one, of equal weights (`random`).")
    max_ensemble_size: int = Field(5, ge=2, description="Most members of a set (`random`).")
    temperature: float = Field(
        0.3, ge=0, le=1, description="Probability that a set is drawn from all instead of taken by rank (`random`)."
    )
    weights_temperature: Probability = Field(
        0.5, description="How little weights depend on the losses of members (`random`)."
    )


class Post(TrainOverrides, EnsembleSearch, Calibration):
    """Calibrated logits, and an ensemble of all models of the pivot."""

    subroutines: list[Literal["calibrate", "ensemble"]] = Field(
        ["calibrate", "ensemble"], min_length=1, description="Which of both to do; `ensemble` alone takes raw logits."
    )


class Reuse(Section):
    """What other projects made; nothing is ever written there."""

    models: list[Name] = Field([], description="Projects below `results_dir` whose models of the pivot join.")
    blueprint: str | None = Field(
        None, description="Blueprint to load: a file, or `PROJECT/STUDY` for the best of a study."
    )


class Remove(Section):
    """What is deleted when it has served."""

    parameters: bool = Field(False, description="Delete the weights of models once everything asked for has used them.")


class Pivot(Section):
    """The task a mode works on."""

    name: Name = Field(description="A task of `tasks`.")
    tags: Annotated[str, Words("tags, each after a `+`")] = Field(
        "", pattern=r"^(\+[A-Za-z0-9._-]+)*$", description="Tags that change the pivot: `+nested-0`."
    )

    @property
    def task(self) -> str:
        """The task or variant that the pivot is."""
        return self.name + self.tags


Tags = Annotated[str, Field(pattern=r"^(\+[A-Za-z0-9._-]+)*$"), Words("tags, each after a `+`")]


FunctionName = Annotated[str, Field(pattern=FUNCTION_NAME_PATTERN, max_length=100), Words(FUNCTION_NAME_WORDS)]


class Tagging(Section):
    """Which variants of the tasks are meant, in all modes at once."""

    all: Tags = Field("", description="Tags that are appended to every task and to the pivot: `+subset-0.5`.")
    functions: dict[FunctionName, Function] = Field(
        {},
        description="Tags of your own by name: `{short: my_tags:shorten}` makes `+own-short-ARGUMENT`.",
    )
    variants: list[Tags] = Field(
        [],
        description="Tags that multiply the list of tasks: each task with each of them; `+identity` keeps it as it is.",
    )


Seed = Annotated[int, Field(ge=0, lt=2**32)]
