"""Settings of a trial: a study is rebuilt from the trials before it, then Optuna is asked."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from foldwise.config.canonical import canonical_json
from foldwise.config.hpo import GridSampler, HyperbandPruner, MedianPruner, TreeParzen
from foldwise.config.space import Parameter, Point, all_points_once, longest, place_of
from foldwise.config.study import StudyConfig
from foldwise.errors import ConfigError, DataError, Words
from foldwise.hpo.trials import TrialRecord

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

SOME_TIME = datetime(2000, 1, 1, tzinfo=UTC).replace(tzinfo=None)  # Optuna wants one, and nothing depends on it


def ask(config: StudyConfig, number: int, history: Sequence[TrialRecord]) -> tuple[optuna.Trial, Point]:
    """Return the settings of a trial, and the trial of Optuna's that its intermediate values are told to.

    Parameters
    ----------
    config : StudyConfig
        What decides the study.
    number : int
        Number of the trial.
    history : sequence of TrialRecord
        The first trials, in order; those between them and this one are still running.

    Raises
    ------
    ConfigError
        If it is beyond the last point of a grid.
    DataError
        If parameters of an earlier trial are not in the search space.
    """
    with silenced():
        return ask_next(config, number, history, running_points(config, number, history))


def running_points(config: StudyConfig, number: int, history: Sequence[TrialRecord]) -> dict[int, Point]:
    """Return the settings of trials that still run, by their numbers, where the sampler makes use of them.

    They follow from the trials before, just as those of the trial itself.
    """
    if not isinstance(config.sampler, TreeParzen):
        return {}
    points = {record.trial: record.parameters for record in history}
    parallel = number - len(history) + 1
    for other in range(len(history), number):
        known = max(0, other - parallel + 1)
        beside = {place: points[place] for place in range(known, other)}
        points[other] = ask_next(config, other, history[:known], beside)[1]
    return {place: points[place] for place in range(len(history), number)}


def ask_next(
    config: StudyConfig, number: int, history: Sequence[TrialRecord], running: Mapping[int, Point]
) -> tuple[optuna.Trial, Point]:
    """Return a trial of Optuna's and its settings, by the trials before it and the settings of those that run."""
    study = rebuild(config, number, history, running)
    if isinstance(config.sampler, GridSampler):
        point = grid_point(config, number)
        study.enqueue_trial({one.key: encode(one, point[one.key]) for one in config.space if one.key in point})
    trial, point = study.ask(), {}
    for parameter in config.space:
        if parameter.counts(point):
            point[parameter.key] = suggest(trial, parameter)
    return trial, point


@contextmanager
def silenced() -> Iterator[None]:
    """Let Optuna say nothing: what it warns of, such as bounds that are no multiple of the step, is meant."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="optuna")
            warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)


def rebuild(
    config: StudyConfig, number: int, history: Sequence[TrialRecord], running: Mapping[int, Point]
) -> optuna.Study:
    """Return a study in memory whose next trial has a number.

    Trials that still run have their settings there, or have failed if these are of no use. It has the study's own name,
    as Hyperband chooses brackets by names and numbers.
    """
    import optuna

    study = optuna.create_study(
        storage=optuna.storages.InMemoryStorage(),
        study_name=config.study,
        direction=config.direction,
        sampler=build_sampler(config, number),
        pruner=build_pruner(config),
    )
    known = {record.trial: record for record in history}
    for place in range(number):
        study.add_trial(
            frozen(config.space, known[place]) if place in known else unfinished(config, running.get(place))
        )
    return study


def unfinished(config: StudyConfig, point: Point | None) -> FrozenTrial:
    """Return a trial that has no value yet, with its settings if they are known."""
    from optuna.trial import TrialState, create_trial

    if point is None:
        return create_trial(state=TrialState.FAIL)
    return create_trial(state=TrialState.RUNNING, **settings_of(config.space, point))


def settings_of(space: Sequence[Parameter], point: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings and what they were drawn from, as Optuna stores them."""
    counting = [parameter for parameter in space if parameter.key in point]
    return {
        "params": {one.key: encode(one, point[one.key]) for one in counting},
        "distributions": {one.key: distribution(one) for one in counting},
    }


def frozen(
    space: Sequence[Parameter],
    record: TrialRecord,
    started: datetime = SOME_TIME,
    finished: datetime = SOME_TIME,
    **told: Any,
) -> FrozenTrial:
    """Return a trial as Optuna stores it; `told` is what else is told of it.

    Raises
    ------
    DataError
        If its parameters are not in the search space.
    """
    from optuna.trial import TrialState, create_trial

    states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
    try:
        trial = create_trial(
            state=states[record.state],
            value=record.value,
            **settings_of(space, record.parameters),
            user_attrs=told,
            system_attrs=dict(record.pruner),
            intermediate_values=dict(record.intermediate_values),
        )
    except (ValueError, StopIteration) as error:
        where = f"trial {record.trial} of study {record.study}"
        got = Words(f"parameters {canonical_json(record.parameters)}")
        raise DataError(where, got, "values of the search space", "Delete its file and run again.") from error
    trial.datetime_start, trial.datetime_complete = started, finished
    return trial


def build_sampler(config: StudyConfig, number: int) -> optuna.samplers.BaseSampler:
    """Return the sampler of a trial, with a seed of its own; that of a grid chooses nothing."""
    from optuna.samplers import RandomSampler, TPESampler

    seed = int(digest(f"{config.seed}/{number}")[:8], 16)
    settings = config.sampler
    if not isinstance(settings, TreeParzen):
        return RandomSampler(seed=seed)
    is_conditional = any(parameter.when for parameter in config.space)
    return TPESampler(
        n_startup_trials=settings.n_startup_trials,
        multivariate=settings.multivariate,
        group=settings.multivariate and is_conditional,
        constant_liar=True,  # trials that still run count as bad, so that others are tried
        warn_independent_sampling=False if settings.multivariate else None,
        seed=seed,
    )


def build_pruner(config: StudyConfig) -> optuna.pruners.BasePruner:
    """Return the pruner; a step of it is an epoch of a fold."""
    from optuna import pruners

    match config.pruner:
        case MedianPruner() as median:
            return pruners.MedianPruner(median.n_startup_trials, median.n_warmup_steps)
        case HyperbandPruner() as hyperband:
            most = len(config.models) * longest(config.pipeline, config.space)
            return pruners.HyperbandPruner(hyperband.min_resource, most, hyperband.reduction_factor)
        case _:
            return pruners.NopPruner()


def grid_point(config: StudyConfig, number: int) -> Point:
    """Return a point of a grid whose order the seed decides.

    Raises
    ------
    ConfigError
        If there is no such point.
    """
    points = all_points_once(config.space)
    if number >= len(points):
        raise ConfigError(
            "hpo.trials", Words(f"trial {number}"), f"at most {len(points)} trials, the points of the grid"
        )
    return sorted(points, key=lambda point: digest(f"{config.seed}/{canonical_json(point)}"))[number]


def digest(text: str) -> str:
    """Return a hash of a text in hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def suggest(trial: optuna.Trial, parameter: Parameter) -> Any:
    """Ask for the value of a parameter."""
    if parameter.choices is not None:
        names = labels(parameter.choices)
        return parameter.choices[names.index(trial.suggest_categorical(parameter.key, names))]
    low, high = bounds(parameter)
    if parameter.integer:
        return trial.suggest_int(parameter.key, int(low), int(high), step=int(parameter.step or 1), log=parameter.log)
    return trial.suggest_float(parameter.key, low, high, step=parameter.step, log=parameter.log)


def distribution(parameter: Parameter) -> BaseDistribution:
    """Return what `suggest` draws from."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if parameter.choices is not None:
        return CategoricalDistribution(labels(parameter.choices))
    low, high = bounds(parameter)
    if parameter.integer:
        return IntDistribution(int(low), int(high), parameter.log, int(parameter.step or 1))
    return FloatDistribution(low, high, parameter.log, parameter.step)


def bounds(parameter: Parameter) -> tuple[float, float]:
    """Return the bounds of a range."""
    assert parameter.low is not None and parameter.high is not None  # noqa: S101, PT018  (it is no choice)
    return parameter.low, parameter.high


def labels(choices: Sequence[Any]) -> list[Any]:
    """Return choices as Optuna can store and tell them apart: as they are, or all as JSON.

    It knows plain values alone, and takes true for 1.
    """
    names = [json.dumps(choice) if isinstance(choice, dict | list) else choice for choice in choices]
    is_clear = all(name != other for place, name in enumerate(names) for other in names[:place])
    return names if is_clear else [canonical_json(choice) for choice in choices]


def encode(parameter: Parameter, value: Any) -> Any:
    """Return a value of a parameter as Optuna stores it."""
    return value if parameter.choices is None else labels(parameter.choices)[place_of(parameter, value)]


def noted(trial: optuna.Trial) -> dict[str, float]:
    """Return what the pruner has noted of a trial: Hyperband compares by it."""
    attributes = trial.storage.get_trial_system_attrs(trial._trial_id)
    return {key: value for key, value in attributes.items() if isinstance(value, float)}
