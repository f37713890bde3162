"""Pictures of what is on disk: a calibrated member, an ensemble."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from foldwise.artifacts import read_json
from foldwise.config.jobs import CalibrateConfig, EnsembleConfig
from foldwise.errors import DataError, Words
from foldwise.npz import open_npz, row_chunks
from foldwise.post.calibrate import Method, Split, method_of, read_split, read_validation
from foldwise.post.combine import blend_of, divide
from foldwise.post.members import REMEDY, Aligned, Member, align_files, find_labelled
from foldwise.report.pictures import draw_confusion, draw_reliability, draw_weights
from foldwise.report.reliability import Parts, count_confusion, measure_reliability

BEFORE, AFTER = "Before calibration", "After calibration"
ROWS = 4096  # samples of an ensemble that are looked at together


def plot_member(
    config: CalibrateConfig,
    validation: Path,
    logits: Path,
    calibrated: Path,
    record: Path,
    task: Path,
    pictures: Mapping[str, Path],
    names: Mapping[str, Any],
) -> None:
    """Draw how calibration changed a member, on labelled test samples or else on those that it was fitted to.

    Parameters
    ----------
    config : CalibrateConfig
        Task type.
    validation, logits, calibrated, record : Path
        What the calibration read and wrote.
    task : Path
        Description of the target, which names its classes.
    pictures : mapping of str to Path
        The ``.png`` files to write: ``reliability`` before and after, and ``confusion`` after.
    names : mapping
        Pipeline, task, fold and target.

    Raises
    ------
    MissingData, DataError
        If a file is missing or damaged, or the task has another number of classes.
    """
    method = method_of(config.type)
    arrays = open_npz(logits, REMEDY)
    test = read_split(method, logits, arrays, "test") if "test_logits" in arrays else None
    if test is not None and test.labelled.any():
        after = read_split(method, calibrated, open_npz(calibrated, REMEDY), "test")
        panels = {BEFORE: lambda: labelled_parts(test), AFTER: lambda: labelled_parts(after)}
        samples = count(test.labelled.sum(), "test sample")
    else:
        val, apply = read_validation(method, validation), stored_calibration(method, record)
        panels = {
            BEFORE: lambda: labelled_parts(val),
            AFTER: lambda: ((apply(found), targets) for found, targets in labelled_parts(val)),
        }
        samples = f"{count(val.labelled.sum(), 'validation sample')}, those it was calibrated on"
    whose = f"{names['pipeline']}, model of {names['task']}, fold {names['fold']}"
    plot_logits(config.type, panels, task, pictures, (str(names["target"]), whose, samples))


def labelled_parts(split: Split) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield logits and targets of the samples that have a label, some at a time."""
    for chunk in row_chunks(split.logits):
        rows = split.labelled[chunk]
        if rows.any():
            yield split.logits[chunk][rows], split.targets[chunk][rows]


def stored_calibration(method: Method, record: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Return the calibration that a record holds."""
    found, fitted = read_json(record), method.calibration()
    fitted.scale_, fitted.bias_, fitted.prior_ = (np.asarray(found[key]) for key in ("scale", "bias", "prior"))
    return lambda logits: method.apply(fitted, logits)


def plot_logits(
    kind: str,
    panels: Mapping[str, Callable[[], Parts]],
    task: Path,
    pictures: Mapping[str, Path],
    words: tuple[str, str, str],
) -> None:
    """Draw what is asked for of logits; the confusion matrix is that of the last of them."""
    target, whose, samples = words
    if "reliability" in pictures:
        measured = {name: measure_reliability(kind, parts()) for name, parts in panels.items()}
        draw_reliability(pictures["reliability"], measured, (f"Reliability on {target}", whose, samples))
    if "confusion" in pictures:
        name, parts = list(panels.items())[-1]
        classes = read_json(task)["classes"]
        check_classes(task, classes, parts())
        counts = count_confusion(parts(), len(classes))
        right = f"{samples}, {np.trace(counts) / counts.sum():.1%} right".replace("%", " %")
        about = f"Confusion matrix on {target}" + (", calibrated" if name == AFTER else "")
        draw_confusion(pictures["confusion"], counts, classes, (about, whose, right))


def check_classes(task: Path, classes: Sequence[str], parts: Parts) -> None:
    """Raise `DataError` if a task has not as many classes as there are logits."""
    columns = next(iter(parts))[0].shape[1]
    if columns != len(classes):
        remedy = "Delete the logits and run again: they are predicted anew."
        raise DataError(task, Words(f"{len(classes)} classes"), f"{columns}, as there are logits", remedy)


def plot_ensemble(
    config: EnsembleConfig,
    ensemble: Path,
    logits: Path,
    task: Path,
    members: Sequence[Member],
    pictures: Mapping[str, Path],
    target: str,
) -> None:
    """Draw the weights of an ensemble, and how good its logits are on the samples that did not select.

    Parameters
    ----------
    config : EnsembleConfig
        Task type, and which samples selected.
    ensemble, logits : Path
        The ensemble as it was written.
    task : Path
        Description of the target, which names its classes.
    members : sequence of Member
        All members by the names that they have in `ensemble`. Their `targets` are their logits before calibration, a
        sum of which with the same weights is drawn beside the ensemble; none if the ensemble takes raw logits.
    pictures : mapping of str to Path
        The ``.png`` files to write: ``weights``, ``reliability`` and ``confusion``.
    target : str
        The task.

    Raises
    ------
    MissingData, DataError
        If a file is missing or damaged, or files do not go together.
    """
    found = read_json(ensemble)
    weights = dict(zip(found["members"], found["weights"], strict=True))
    whose = f"Ensemble of {len(weights)} of {count(len(members), 'member')}"
    if "weights" in pictures:
        kind = "validation sample" if config.search.selection == "val" else "test sample"
        how = f"{config.search.search} search on {count(found['selection']['samples'], kind)}"
        short = {short_name(name): weight for name, weight in weights.items()}
        draw_weights(pictures["weights"], short, (f"Weights on {target}", whose, how))
    if {"reliability", "confusion"} & set(pictures):
        used = [member for member in members if member.targets and member.name in weights]
        panels, samples = blended_parts(config, logits, used, [weights[member.name] for member in used])
        plot_logits(config.type, panels, task, pictures, (target, whose, samples))


def blended_parts(
    config: EnsembleConfig, logits: Path, raw: Sequence[Member], weights: Sequence[float]
) -> tuple[dict[str, Callable[[], Parts]], str]:
    """Return the logits of an ensemble on samples that did not select, after a sum of raw ones if there are any."""
    paths = [logits, *(path for member in raw for path in member.targets)]
    samples, stacks = align_files([(path,) for path in paths], "test", config.type)
    places, about = find_labelled(samples, config.type), ""
    if config.search.selection == "test":
        places = divide(config, [Member(str(logits), (), (logits,))], Aligned(samples, stacks)).reporting
        about = " that did not select"

    def parts(take: Callable[[np.ndarray], np.ndarray]) -> Parts:
        for start in range(0, len(places), ROWS):
            some = places[start : start + ROWS]
            yield take(some), samples.targets.take(some)

    found = {AFTER if raw else "Raw logits": partial(parts, stacks[0].take)}
    if raw:
        found = {f"{BEFORE}, same weights": partial(parts, blend_of(raw, np.array(weights), stacks[1:]).take), **found}
    return dict(found), f"{count(len(places), 'test sample')}{about}"


def short_name(member: str) -> str:
    """Return the name of a member without project, kind of logits, and file."""
    parts = member.split("/")[2:]
    return "/".join(parts[:-1] if parts[-1].endswith(".npz") else parts)


def count(number: int, thing: str) -> str:
    """Write a number of things."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
