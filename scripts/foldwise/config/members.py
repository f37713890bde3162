"""Members of ensembles: models, or pipelines with all their folds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from foldwise.config.checks import declared_classes
from foldwise.config.leakage import evaluation_warnings
from foldwise.config.model import Config
from foldwise.config.selection import Model, TrainPlan
from foldwise.errors import ConfigError, Words

CALIBRATED_TYPES = ("classification", "multilabel")


class Member(NamedTuple):
    """What an ensemble gives a weight: a model, or a pipeline with the models of all folds.

    Parameters
    ----------
    name : str
        Pipeline, task and fold as folders are called, or the pipeline alone.
    models : tuple of Model
        Its models.
    """

    name: str
    models: tuple[Model, ...]


def check_post(config: Config, plan: TrainPlan) -> None:
    """Raise `ConfigError` if what mode `post` is asked for cannot be done with the pivot.

    Raises
    ------
    ConfigError
        If its task type cannot be calibrated, the prior does not suit the classes, or out-of-fold validation is to
        select and there is none.
    """
    post, kind = config.post, plan.record.type
    if "calibrate" in post.subroutines and kind not in CALIBRATED_TYPES:
        expected = f"[ensemble], as logits of task type {kind} cannot be calibrated"
        raise ConfigError("post.subroutines", post.subroutines, expected, "Its ensemble takes raw logits.")
    if isinstance(post.prior, list):
        check_listed_prior(config, plan, post.prior)
    if "ensemble" in post.subroutines and post.selection == "val" and (plan.nested or not plan.cv):
        key = "nested" if plan.nested else "cv"
        place = "train" if getattr(post, key) is None else "post"
        got = Words(f"{place}.{key}: {'true' if plan.nested else 'false'}")
        expected = "cv: true and nested: false with post.selection: val"
        raise ConfigError("post.selection", got, expected, "Every sample must be in the held-out fold of one model.")


def check_listed_prior(config: Config, plan: TrainPlan, prior: list[float]) -> None:
    """Raise `ConfigError` unless a prior suits the classes, as far as they are declared, and the task type."""
    classes = declared_classes(config, str(plan.pivot))
    if classes and len(prior) != len(classes):
        raise ConfigError("post.prior", prior, f"{len(classes)} numbers, one for each of {', '.join(classes)}")
    if plan.record.type == "multilabel" and any(share > 1 for share in prior):
        expected = "shares of at most 1, as each class of task type multilabel has its own"
        raise ConfigError("post.prior", prior, expected)
    if plan.record.type == "classification" and not any(prior):
        raise ConfigError("post.prior", prior, "a number above 0 for some class")


def post_warnings(config: Config, plan: TrainPlan) -> list[str]:
    """Return what may not be meant in what mode `post` measures on."""
    if plan.eval_on:
        return evaluation_warnings(config, plan)
    return [f"mode post touches the test split of {plan.pivot}, nested or not: use it once, at the end."]


def members_of(plan: TrainPlan, selection: str, models: Iterable[Model]) -> list[Member]:
    """Return the members of an ensemble.

    Raises
    ------
    ConfigError
        If out-of-fold validation is to select and a pipeline of another project lacks folds.
    """
    if selection == "test":
        return [Member(f"{model.pipeline}/{model.task}/fold-{model.fold}", (model,)) for model in models]
    grouped: dict[str, list[Model]] = {}
    for model in models:
        grouped.setdefault(model.pipeline, []).append(model)
    for pipeline, found in grouped.items():
        folds = sorted(model.fold for model in found)
        if folds != list(range(plan.record.n_folds)):
            got = Words(f"folds {', '.join(map(str, folds))} of {pipeline}")
            expected = f"all {plan.record.n_folds} folds with post.selection: val"
            raise ConfigError("reuse.models", got, expected, "Train the others there, or leave the project out.")
    return [Member(pipeline, tuple(found)) for pipeline, found in grouped.items()]
