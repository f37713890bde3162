"""Logits of members on disk: checked against each other, aligned by the ids of samples, read a part at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, cast

import numpy as np

from foldwise.errors import DataProblems, Problem
from foldwise.npz import CHUNK_VALUES, MappedNpz, open_npz
from foldwise.post.inputs import check_finite
from foldwise.tasks.masks import IGNORED

REMEDY = "Delete it and run again: it is predicted anew."
STALE = "Delete these files and run again: they are predicted anew. If that does not help, leave their models out."
NO_SPLIT = {
    "val": "Set train.cv and train all folds of all members, or set post.selection: test.",
    "test": "Give the definition of the task a test_fraction.",
    "unlabeled": STALE,
}
NOT_FINITE = "Lower optimizer.lr or set trainer.gradient_clip_val and train these models anew, or leave them out."


class Member(NamedTuple):
    """What an ensemble is made of: a model or, where validation selects, a pipeline; and its files of logits."""

    name: str
    validations: tuple[Path, ...]
    targets: tuple[Path, ...]


def group_members(sizes: Mapping[str, int], targets: Sequence[Path], validations: Sequence[Path] = ()) -> list[Member]:
    """Return members by their names and numbers of models, whose files come one member after another."""
    found, start = [], 0
    for name, size in sizes.items():
        place = slice(start, start + size)
        found.append(Member(name, tuple(validations[place]), tuple(targets[place])))
        start += size
    return found


class UnfitError(Exception):
    """Why files do not go together with those of the other members, and what can be done."""

    def __init__(self, reason: str, remedy: str = STALE) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


class Stored(NamedTuple):
    """An array in a file that has been checked; it is mapped only while it is read, as each map holds a file open."""

    path: Path
    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]
    order: Literal["C", "F"]

    def map(self) -> np.ndarray:
        """Open it."""
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape, self.order)


class Stack(NamedTuple):
    """Arrays on disk, one on top of the other, and those rows of them that are meant, in their order."""

    arrays: tuple[Stored, ...]
    rows: np.ndarray

    @property
    def dtype(self) -> np.dtype:
        """Type that holds the values of all arrays."""
        return np.result_type(*(array.dtype for array in self.arrays))

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows, and the shape of each."""
        return len(self.rows), *self.arrays[0].shape[1:]

    def take(self, places: np.ndarray) -> np.ndarray:
        """Read some rows by their places."""
        rows, first = self.rows[places], 0
        found = np.empty((len(rows), *self.shape[1:]), self.dtype)
        for array in self.arrays:
            inside = (rows >= first) & (rows < first + array.shape[0])
            if inside.any():
                found[inside] = array.map()[rows[inside] - first]
            first += array.shape[0]
        return found

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield the places of all rows, as many at a time as are worked on together."""
        count, *shape = self.shape
        step = max(1, CHUNK_VALUES // max(1, math.prod(shape)))
        for start in range(0, count, step):
            yield np.arange(start, min(start + step, count))


class Samples(NamedTuple):
    """Samples of a split in one file or several."""

    ids: np.ndarray
    logits: Stack
    targets: Stack


class Aligned(NamedTuple):
    """Samples of all members: as the first member has them, and the logits of each list of files in that order."""

    samples: Samples
    logits: list[Stack]


def has_split(paths: Sequence[Path], split: str) -> bool:
    """Tell whether any of some files has samples of a split."""
    return any(f"{split}_logits" in open_npz(path, REMEDY) for path in paths)


def align_files(groups: Sequence[tuple[Path, ...]], split: str, kind: str) -> Aligned:
    """Open the samples of a split, and bring all into the order of the first.

    Parameters
    ----------
    groups : sequence of tuple of Path
        Files whose samples together are the split: all folds of a member for val, else one file.
    split : str
        Which samples: val, test or unlabeled.
    kind : str
        Task type.

    Raises
    ------
    MissingData, DataError
        If a file is missing or damaged, has no such samples, shapes that do not suit the task type, values that are not
        finite, or a sample twice; or if ids, labels or shapes differ.
    """
    stacks: list[Stack] = []
    problems: list[Problem] = []
    remedies: list[str] = []
    for group in groups:
        try:
            found = read_samples(group, split, kind)
            if not stacks:
                check_unique(found.ids)
                check_classes(found, kind)
                samples = found
            stacks.append(match_samples(found, samples))
        except UnfitError as error:
            problems.append(Problem(", ".join(map(str, group)), error.reason))
            remedies.append(error.remedy)
            if not stacks:
                break
    if problems:
        first = ", ".join(map(str, groups[0])) if stacks else f"a task of {kind}"
        expected = f"{split} samples, labels and shapes of {first}, and finite logits"
        raise DataProblems("members of the ensemble", problems, expected, " ".join(dict.fromkeys(remedies)))
    return Aligned(samples, stacks)


def read_samples(paths: Sequence[Path], split: str, kind: str) -> Samples:
    """Open the samples of a split in some files; raise `UnfitError` if they are not as a task type has them."""
    ids: list[np.ndarray] = []
    logits: list[Stored] = []
    targets: list[Stored] = []
    for path in paths:
        found = open_npz(path, REMEDY)
        lacking = [name for name in ("logits", "targets", "ids") if f"{split}_{name}" not in found]
        if lacking or not found[f"{split}_logits"].size:
            raise UnfitError(f"{path.name} has no {split} samples", NO_SPLIT[split])
        check_shapes(found, path, split, kind)
        check_values(found[f"{split}_logits"], path, split)
        ids.append(np.array(found[f"{split}_ids"]))
        logits.append(stored(found, f"{split}_logits"))
        targets.append(stored(found, f"{split}_targets"))
    shapes = {array.shape[1:] for array in logits}
    if len(shapes) > 1:
        raise UnfitError(f"logits of shapes {', '.join(map(str, sorted(shapes)))} a sample")
    together = np.concatenate(ids)
    rows = np.arange(len(together))
    return Samples(together, Stack(tuple(logits), rows), Stack(tuple(targets), rows))


def stored(arrays: MappedNpz, name: str) -> Stored:
    """Return where an array is that has been checked."""
    array = cast("np.memmap", arrays[name])
    order: Literal["C", "F"] = "C" if array.flags.c_contiguous else "F"
    return Stored(arrays.path, array.offset, array.dtype, array.shape, order)


def check_shapes(arrays: MappedNpz, path: Path, split: str, kind: str) -> None:
    """Raise `UnfitError` if arrays have not the shapes and types of a task type."""
    logits, targets, ids = (arrays[f"{split}_{name}"] for name in ("logits", "targets", "ids"))
    samples, *outputs = logits.shape
    right = len(outputs) == (3 if kind == "segmentation" else 1) and not (kind == "regression" and outputs != [1])
    shapes = {"multilabel": (samples, *outputs), "segmentation": (samples, *outputs[1:])}
    suitable = right and targets.shape == shapes.get(kind, (samples,)) and ids.shape == (samples,)
    if not suitable or logits.dtype.kind != "f" or targets.dtype.kind not in "fiu" or ids.dtype.kind != "U":
        found = ", ".join(
            f"{name} {array.dtype} {array.shape}"
            for name, array in (("logits", logits), ("targets", targets), ("ids", ids))
        )
        raise UnfitError(f"{path.name} has {split} arrays that are not those of {kind}: {found}")


def check_values(logits: np.ndarray, path: Path, split: str) -> None:
    """Raise `UnfitError` if logits are not finite."""
    try:
        check_finite([logits], [str(path)])
    except DataProblems as error:
        raise UnfitError(f"{path.name}, {split}: {error.problems[0].reason}", NOT_FINITE) from error


def check_unique(ids: np.ndarray) -> None:
    """Raise `UnfitError` if a sample is there twice."""
    found, counts = np.unique(ids, return_counts=True)
    if len(found) < len(ids):
        raise UnfitError(f"sample {str(found[counts > 1][0])!r} is there {counts.max()} times")


def check_classes(samples: Samples, kind: str) -> None:
    """Raise `UnfitError` if a label is none of the classes that there are logits for."""
    if kind not in ("classification", "segmentation"):
        return
    classes = samples.logits.shape[1]
    for places in samples.targets.chunks():
        targets = samples.targets.take(places)
        if (targets[are_known(targets, kind)] >= classes).any():
            raise UnfitError(f"labels that are none of the {classes} classes of the logits")


def match_samples(found: Samples, first: Samples) -> Stack:
    """Return logits in the order of the samples of another member; raise `UnfitError` if they are not the same."""
    if found.logits.shape[1:] != first.logits.shape[1:]:
        raise UnfitError(f"logits of shape {found.logits.shape[1:]} a sample, not {first.logits.shape[1:]}")
    rows = first.logits.rows
    if not np.array_equal(found.ids, first.ids):
        check_unique(found.ids)
        missing, other = np.setdiff1d(first.ids, found.ids), np.setdiff1d(found.ids, first.ids)
        if missing.size or other.size:
            told = [f"{what} {tell_ids(ids)}" for what, ids in (("lacks", missing), ("has also", other)) if ids.size]
            raise UnfitError(f"other samples: {' and '.join(told)}")
        rows = np.argsort(found.ids)[np.argsort(np.argsort(first.ids))]
    check_labels_agree(Stack(found.targets.arrays, rows), first)
    return Stack(found.logits.arrays, rows)


def tell_ids(ids: np.ndarray) -> str:
    """Name one of some samples, and say how many they are."""
    return f"{str(ids[0])!r}" + (f" and {len(ids) - 1} more" if len(ids) > 1 else "")


def check_labels_agree(targets: Stack, first: Samples) -> None:
    """Raise `UnfitError` if samples have other labels than in the files of another member."""
    if targets.shape != first.targets.shape:
        raise UnfitError(f"targets of shape {targets.shape}, not {first.targets.shape}")
    count, example = 0, ""
    for places in first.targets.chunks():
        ours, theirs = targets.take(places), first.targets.take(places)
        different = (ours != theirs) & ~(np.isnan(ours) & np.isnan(theirs))
        wrong = places[different.reshape(len(places), -1).any(axis=1)]
        if wrong.size:
            count, example = count + len(wrong), example or str(first.ids[wrong[0]])
    if count:
        raise UnfitError(f"other labels of {count} sample{'s' * (count > 1)}, such as {example!r}")


def are_known(targets: np.ndarray, kind: str) -> np.ndarray:
    """Tell which targets are labels."""
    if kind == "regression" or targets.dtype.kind == "f":
        return np.isfinite(targets)
    return targets >= 0 if kind == "classification" else targets != IGNORED


def find_labelled(samples: Samples, kind: str) -> np.ndarray:
    """Return the places of the samples that have a label, in the order of their ids.

    A label of a multi-label sample answers for all classes; a mask counts if a pixel of it has a label.
    """
    labelled = np.empty(len(samples.ids), dtype=bool)
    for places in samples.targets.chunks():
        known = are_known(samples.targets.take(places), kind).reshape(len(places), -1)
        labelled[places] = known.any(axis=1) if kind == "segmentation" else known.all(axis=1)
    found = np.flatnonzero(labelled)
    return found[np.argsort(samples.ids[found])]


class Pixels(NamedTuple):
    """Some pixels of masks: where those of each sample begin, their places in its mask, and their classes."""

    bounds: np.ndarray
    flat: np.ndarray
    targets: np.ndarray

    def take(self, maps: Stack, places: np.ndarray) -> np.ndarray:
        """Return the logits of the pixels, shape (pixels, classes)."""
        found = np.empty((len(self.flat), maps.shape[1]), maps.dtype)
        for place, start, stop in zip(places, self.bounds[:-1], self.bounds[1:], strict=True):
            if stop > start:
                sample = maps.take(np.array([place]))[0]
                found[start:stop] = sample.reshape(len(sample), -1)[:, self.flat[start:stop]].T
        return found


def draw_pixels(masks: Stack, places: np.ndarray, most: int, seed: int) -> Pixels:
    """Draw labelled pixels of some samples: one from each of equal stretches, so that all images are seen alike."""
    known = (np.flatnonzero(masks.take(np.array([place]))[0].ravel() != IGNORED) for place in places)
    ends = np.cumsum([0, *(len(found) for found in known)])
    count = min(int(ends[-1]), most)
    stretches = np.arange(count + 1) * int(ends[-1]) // count
    drawn = np.random.default_rng(seed).integers(stretches[:-1], stretches[1:])
    bounds = np.searchsorted(drawn, ends)
    flat, targets = np.empty(count, np.int64), np.empty(count, np.uint8)
    for place, first, start, stop in zip(places, ends[:-1], bounds[:-1], bounds[1:], strict=True):
        mask = masks.take(np.array([place]))[0].ravel()
        flat[start:stop] = np.flatnonzero(mask != IGNORED)[drawn[start:stop] - first]
        targets[start:stop] = mask[flat[start:stop]]
    return Pixels(bounds, flat, targets)
