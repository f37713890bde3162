"""The search space of a study: its keys resolved, all points of it, and the recipes that they stand for."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from pydantic import Field

from foldwise.config.canonical import canonical_json, component
from foldwise.config.hpo import Dimension, Number, conditions
from foldwise.config.load import Library, overlay, resolve_sections, validate
from foldwise.config.pipeline import DEFAULT_NAMES, PIPELINE_SECTIONS, Pipeline
from foldwise.config.section import Section
from foldwise.errors import ConfigError, ConfigErrors, Words, nearest, one_of

WHERE = "hpo.search_space"
IDLE = {"tta": "predictions", "metrics": "reports"}  # sections that decide no score, and what they decide
CHOOSING = ("source", "name")
MOST_POINTS = 100_000
SEARCHED = tuple(section for section in PIPELINE_SECTIONS if section not in IDLE)

Point = dict[str, Any]


class Parameter(Section):
    """A key of the search space, as a job needs it.

    Parameters
    ----------
    key : str
        Section and key of the pipeline, or a section alone.
    choices : list, optional
        What is chosen from, as it was written.
    sections : list of dict, optional
        If a whole section is chosen: what each choice makes of it, resolved.
    low, high, step, log, integer
        Otherwise the range that is drawn from.
    when : dict of str to list
        The values of other parameters with which this one counts.
    """

    key: str
    choices: list[Any] | None = None
    sections: list[dict[str, Any]] | None = None
    low: Number | None = None
    high: Number | None = None
    step: Number | None = None
    log: bool = False
    integer: bool = False
    when: dict[str, list[Any]] = Field({})

    @property
    def section(self) -> str:
        """The section of the pipeline that is changed."""
        return self.key.partition(".")[0]

    @property
    def path(self) -> list[str]:
        """The keys below the section; none if it is chosen as a whole."""
        return self.key.split(".")[1:]

    @property
    def is_finite(self) -> bool:
        """Whether it has so few values that all can be listed."""
        return self.choices is not None or self.integer or self.step is not None or self.low == self.high

    def counts(self, point: Mapping[str, Any]) -> bool:
        """Tell whether it counts at a point; parameters that it depends on, and do not count there, are missing."""
        return all(key in point and any(same(point[key], one) for one in values) for key, values in self.when.items())


class Case(NamedTuple):
    """A point of the search space that is tried while the study is planned, and the key that it is about."""

    key: str
    point: Point


def same(value: Any, other: Any) -> bool:
    """Tell whether two values are the same; true is not 1."""
    return value == other and isinstance(value, bool) == isinstance(other, bool)


def resolve_space(space: Mapping[str, Dimension], recipe: Pipeline, library: Library) -> list[Parameter]:
    """Return the parameters of a search space, each after those that it depends on, else in the order of their names.

    Raises
    ------
    ConfigError
        If the space is empty, a key is none of a pipeline, decides no score, or depends on what is not there.
    """
    if not space:
        example = "{optimizer.lr: {low: 1e-5, high: 0.1, log: true}}"
        raise ConfigError(WHERE, {}, f"keys of a pipeline and what they may be, {example} say")
    found = {key: resolve_parameter(key, dimension, recipe, library) for key, dimension in sorted(space.items())}
    for key, parameter in found.items():
        check_conditions(key, parameter, found)
    return in_order(found)


def resolve_parameter(key: str, dimension: Dimension, recipe: Pipeline, library: Library) -> Parameter:
    """Return a parameter; whole sections are resolved by their presets."""
    section, dot, _ = key.partition(".")
    where = f"{WHERE}.{key}"
    if not all(key.split(".")):
        raise ConfigError(where, Words("a path with an empty part"), "a section and its keys, optimizer.lr say")
    if section in IDLE:
        remedy = f"It decides {IDLE[section]}, and no score."
        raise ConfigError(where, Words("a key that decides no score"), f"a key of {one_of(SEARCHED)}", remedy)
    if section not in SEARCHED:
        raise ConfigError(where, Words("an unknown section"), one_of(SEARCHED), nearest(section, SEARCHED))
    if not dot and dimension.choices is None:
        raise ConfigError(where, Words("a range"), "a list of presets or mappings, as this is a whole section")
    sections = None if dot else [whole_section(section, one, recipe, library, where) for one in dimension.choices or []]
    return Parameter(
        key=key,
        choices=dimension.choices,
        sections=sections,
        low=dimension.low,
        high=dimension.high,
        step=dimension.step,
        log=dimension.log,
        integer=dimension.choices is None and dimension.is_integer,
        when=dict(conditions(dimension)),
    )


def whole_section(section: str, choice: Any, recipe: Pipeline, library: Library, where: str) -> dict[str, Any]:
    """Return what a section becomes with a choice: what differs from the defaults."""
    changed = resolve_sections({section: choice}, recipe.model_dump(), library, f"{where}: ")
    return component(getattr(validate(Pipeline, changed, f"{where}: "), section))


def check_conditions(key: str, parameter: Parameter, known: Mapping[str, Parameter]) -> None:
    """Raise `ConfigError` unless a parameter depends on other parameters and on values that they may have."""
    for other, values in parameter.when.items():
        where, others = f"{WHERE}.{key}.when", [name for name in known if name != key]
        if other not in others:
            expected = f"another key of the search space: {one_of(others)}" if others else "no condition"
            raise ConfigError(where, other, expected, nearest(other, others))
        for value in values:
            choices = known[other].choices
            if choices is not None and not any(same(value, choice) for choice in choices):
                raise ConfigError(f"{where}.{other}", value, one_of(map(str, choices)))


def in_order(found: Mapping[str, Parameter]) -> list[Parameter]:
    """Return parameters, each after those that it depends on."""
    ordered: dict[str, Parameter] = {}
    while len(ordered) < len(found):
        free = [key for key, one in found.items() if key not in ordered and set(one.when) <= set(ordered)]
        if not free:
            circle = [key for key in found if key not in ordered]
            raise ConfigError(f"{WHERE}.{circle[0]}.when", Words(f"a circle of {', '.join(circle)}"), "no circle")
        ordered |= {key: found[key] for key in free}
    return list(ordered.values())


def apply_point(recipe: Pipeline, space: Sequence[Parameter], point: Mapping[str, Any]) -> Pipeline:
    """Return a recipe with the values of a point: whole sections first, then names of components, then their keys.

    Raises
    ------
    ConfigErrors
        If the values do not go together.
    """
    tree = recipe.model_dump()
    for parameter in sorted((one for one in space if one.key in point), key=rank):
        value, section = point[parameter.key], parameter.section
        if parameter.sections is not None:
            tree[section] = parameter.sections[place_of(parameter, value)]
        elif len(parameter.path) == 1:
            tree[section] = overlay(tree[section], {parameter.path[0]: value}, DEFAULT_NAMES.get(section, {}))
        else:
            tree[section] = with_value(tree[section], parameter.path, value)
    return validate(Pipeline, tree, WHERE)


def rank(parameter: Parameter) -> tuple[int, str]:
    """Return what orders changes of a recipe."""
    path = parameter.path
    return (0 if not path else 1 if path[-1] in CHOOSING else 1 + len(path), parameter.key)


def place_of(parameter: Parameter, value: Any) -> int:
    """Return the place of a value among the choices of a parameter."""
    return next(place for place, choice in enumerate(parameter.choices or []) if same(choice, value))


def with_value(tree: Any, path: Sequence[str], value: Any) -> Any:
    """Return a tree with another value at a path."""
    if not path:
        return value
    inner = dict(tree) if isinstance(tree, Mapping) else {}
    return {**inner, path[0]: with_value(inner.get(path[0]), path[1:], value)}


def check_space(recipe: Pipeline, space: Sequence[Parameter]) -> list[tuple[Case, Pipeline]]:
    """Return recipes that the space holds, by each value of each choice and both ends of each range.

    Raises
    ------
    ConfigErrors
        If one of them is none.
    """
    found, errors = [], dict[str, ConfigError]()
    for case in cases(space):
        try:
            found.append((case, apply_point(recipe, space, case.point)))
        except ConfigErrors as error:
            errors |= {one.message: one for one in error.errors}
    if errors:
        raise ConfigErrors(list(errors.values()))
    return found


def cases(space: Sequence[Parameter]) -> Iterator[Case]:
    """Yield a point for each value of interest of each parameter: it and what it depends on."""
    known = {parameter.key: parameter for parameter in space}
    for parameter in space:
        values = parameter.choices if parameter.choices is not None else [parameter.low, parameter.high]
        for value in values:
            yield Case(parameter.key, {**needed(parameter, known), parameter.key: value})


def needed(parameter: Parameter, known: Mapping[str, Parameter]) -> Point:
    """Return the first values of other parameters with which a parameter counts."""
    point: Point = {}
    for key, values in parameter.when.items():
        point |= {**needed(known[key], known), key: values[0]}
    return point


def points(space: Sequence[Parameter]) -> list[Point]:
    """Return all points of a space, each without the parameters that do not count there.

    Raises
    ------
    ConfigError
        If a parameter may be any number of a range, or there are too many points.
    """
    found: list[Point] = [{}]
    for parameter in space:
        values = all_values(parameter)
        found = [
            {**point, parameter.key: value} if parameter.counts(point) else point
            for point in found
            for value in (values if parameter.counts(point) else [None])
        ]
        if len(found) > MOST_POINTS:
            raise ConfigError(WHERE, Words(f"more than {MOST_POINTS} points"), "fewer, as all are looked at")
    return found


def all_values(parameter: Parameter) -> list[Any]:
    """Return all values of a parameter; raise `ConfigError` if there is no end of them."""
    if parameter.choices is not None:
        return parameter.choices
    if not parameter.is_finite:
        where = f"{WHERE}.{parameter.key}"
        raise ConfigError(where, Words("a range without step"), "a list, or a step, as all values are looked at")
    low, high, step = (Decimal(str(one)) for one in (parameter.low, parameter.high, parameter.step or 1))
    count = int((high - low) / step) + 1
    if count > MOST_POINTS:
        raise ConfigError(f"{WHERE}.{parameter.key}", Words(f"{count} values"), f"at most {MOST_POINTS}")
    number = int if parameter.integer else float
    return [number(low + place * step) for place in range(count)]


def deciding_data(space: Iterable[Parameter]) -> list[Parameter]:
    """Return the parameters that decide which data is read: preprocessing, and what is learned together."""
    return [
        parameter.model_copy(update={"when": {}})
        for parameter in space
        if parameter.section == "preprocessing"
        or parameter.key == "mode"
        or parameter.path[:1] in (["multitask"], ["co_tasks"])
    ]


def recipes_of_data(recipe: Pipeline, space: Sequence[Parameter]) -> list[Pipeline]:
    """Return recipes that read all data which trials may read; what does not go together is left out."""
    found = []
    for point in points(deciding_data(space)):
        try:
            found.append(apply_point(recipe, space, point))
        except ConfigErrors:
            continue
    return found


def mode_key(recipe: Pipeline) -> str:
    """Return what tells which tasks are learned together."""
    return canonical_json(component(recipe.mode))


def longest(recipe: Pipeline, space: Sequence[Parameter]) -> int:
    """Return the most epochs that a trial may train a fold for."""
    found = [recipe.trainer.max_epochs]
    for parameter in space:
        if parameter.key == "trainer.max_epochs":
            found += parameter.choices if parameter.choices is not None else [int(parameter.high or 0)]
        if parameter.key == "trainer" and parameter.sections is not None:
            found += [section["max_epochs"] for section in parameter.sections if "max_epochs" in section]
    return max(map(int, found))


def all_points_once(space: Sequence[Parameter]) -> list[Point]:
    """Return all points of a space for a grid, in a fixed order."""
    return [dict(point) for point, _ in itertools.groupby(sorted(points(space), key=canonical_json))]
