"""An ensemble of members whose logits are on disk: found on some samples, measured on others, written for all."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from foldwise.artifacts import FORMAT_VERSION, write_json
from foldwise.config.jobs import EnsembleConfig
from foldwise.errors import DataError, DataProblems, Problem, Words
from foldwise.inference.bootstrap import Bootstrap, bootstrap_metrics
from foldwise.inference.metrics import compute_metrics, finite_or_none
from foldwise.npz import NpzWriter, open_npz, row_chunks
from foldwise.post.convex import ConvexWeights
from foldwise.post.ensembles import Ensemble
from foldwise.post.greedy import GreedySelection
from foldwise.post.members import (
    Aligned,
    Member,
    Samples,
    Stack,
    align_files,
    draw_pixels,
    find_labelled,
    has_split,
)
from foldwise.post.search import RandomSearch

PIXELS = 2_000_000  # labelled pixels that select, at most
PIXEL_LOGITS = 2**29  # logits of all members at these pixels, at most: 1 GiB
RANDOM = ("budget", "weights_budget", "max_ensemble_size", "temperature", "weights_temperature")


class EnsembleFiles(NamedTuple):
    """What is written: the ensemble, its logits, and how good it is."""

    ensemble: Path
    logits: Path
    metrics: Path


class Division(NamedTuple):
    """Which samples select, of which files, and the places of those that report in the test split, in its order."""

    aligned: Aligned
    selecting: np.ndarray
    reporting: np.ndarray


class Blend(NamedTuple):
    """A weighted sum of members, each of which is the mean over its files."""

    weights: list[float]
    members: list[list[Stack]]

    def take(self, places: np.ndarray) -> np.ndarray:
        """Return some rows of the sum, in single precision; of maps in half precision, as maps are stored."""
        first = self.members[0][0]
        total = np.empty((len(places), *first.shape[1:]), np.float16 if len(first.shape) > 2 else np.float32)
        for part in row_chunks(total):
            total[part] = self.sum_up(places[part])
        return total

    def sum_up(self, places: np.ndarray) -> np.ndarray:
        """Return a few rows in double precision."""
        total = np.zeros((len(places), *self.members[0][0].shape[1:]))
        for weight, files in zip(self.weights, self.members, strict=True):
            mean = np.zeros_like(total)
            for file in files:
                mean += file.take(places)
            total += weight * (mean / len(files))
        return total


class Measured(NamedTuple):
    """Metrics, and their values in resamples if there are any."""

    metrics: dict[str, float]
    bootstraps: dict[str, Bootstrap]

    def tree(self) -> dict[str, Any]:
        """Return what is written of them, all but the values in resamples."""
        tree: dict[str, Any] = {"metrics": finite_or_none(self.metrics)}
        if self.bootstraps:
            tree["intervals"] = {name: bootstrap.interval for name, bootstrap in self.bootstraps.items()}
            tree["undefined"] = {name: bootstrap.undefined for name, bootstrap in self.bootstraps.items()}
        return tree

    def replicates(self) -> dict[str, Any]:
        """Return the values in resamples as they are written."""
        found = {name: bootstrap.rounded for name, bootstrap in self.bootstraps.items()}
        return {"replicates": found} if found else {}

    def minus(self, other: Measured) -> Measured:
        """Return the differences of two, resample by resample."""
        bootstraps = {
            name: Bootstrap(found.replicates - other.bootstraps[name].replicates)
            for name, found in self.bootstraps.items()
        }
        return Measured({name: found - other.metrics[name] for name, found in self.metrics.items()}, bootstraps)


def combine(
    config: EnsembleConfig,
    members: Sequence[Member],
    files: EnsembleFiles,
    names: Mapping[str, Any],
    report: Callable[[str], None] = lambda text: None,
    warn: Callable[[str], None] = lambda text: None,
) -> None:
    """Find an ensemble of members, and write it, its logits and its metrics.

    Parameters
    ----------
    config : EnsembleConfig
        Task type, search, metrics and seed.
    members : sequence of Member
        With selection ``test`` a member is a model: one file of logits on the target. With ``val`` it is a pipeline:
        the files of all folds, of logits on the task it was trained on and on the target; the former hold each sample
        in one fold, and the latter are averaged.
    files : EnsembleFiles
        ``logits`` holds all test and unlabeled samples in the order of the first member's file. ``metrics`` holds
        those of the ensemble and of the best single member on the samples that report, and what the ensemble gains;
        with resamples also intervals, those of the gain from the same resamples. ``ensemble`` is written last: names
        of members that have a weight, weights, selection loss, and how it was found.
    names : mapping
        What else the JSON files begin with: task and target, for instance.
    report, warn : callable
        Receive a line of progress, or what a user should know.

    Raises
    ------
    MissingData, DataError
        If a file is missing or damaged, there is no member or no labelled test sample, members differ in samples,
        labels or shapes, logits are not finite, or no sample is left to select or to report.
    ConfigError, DataError
        If a metric of the user's own is not there, fails, or returns no number.

    Notes
    -----
    With selection ``test`` a share `eval_frac` of the labelled test samples selects and the others report. They are
    drawn with the seed from the sorted ids, so that neither members nor the order in files change them. Best member is
    the one of least selection loss, as it would have been chosen without seeing the samples that report.

    In segmentation pixels select, at most 2,000,000, or fewer where logits of all members would take more than 1 GiB:
    one is drawn from each of as many equal stretches of all labelled pixels.
    """
    if not members:
        remedy = "Train models of the pivot, or name projects that have some in reuse.models."
        raise DataError(files.ensemble, Words("no member"), "the logits of at least one", remedy)
    splits = align_targets(members, config.type)
    division = divide(config, members, splits["test"])
    report(f"{len(division.selecting)} samples select, {len(division.reporting)} report")
    called = [member.name for member in members]
    ensemble, terms = fit(config, called, division, warn)
    best, weights = int(np.argmin(ensemble.singles_)), exact_weights(ensemble.weights_)
    losses = f"loss {ensemble.score_:.6g}, best member {called[best]} {ensemble.singles_[best]:.6g}"
    report(f"{np.count_nonzero(weights)} of {len(members)} members: {losses}")
    blends = {split: blend_of(members, weights, aligned.logits) for split, aligned in splits.items()}
    write_logits(files.logits, {split: aligned.samples for split, aligned in splits.items()}, blends)
    test = splits["test"]
    single = blend_of(members, np.eye(len(members))[best], test.logits)
    write_metrics(config, files, names, test.samples, division.reporting, (called[best], single))
    tree = {
        "format_version": FORMAT_VERSION,
        **names,
        "type": config.type,
        "members": [called[place] for place in np.flatnonzero(weights)],
        "weights": weights[weights > 0].tolist(),
        **describe(ensemble, called[best]),
        "search": {**config.search.model_dump(mode="json"), "seed": config.seed},
        "selection": {"samples": len(division.selecting), **terms},
        "reporting": {"samples": len(division.reporting), "ids_sha256": digest(test.samples.ids[division.reporting])},
    }
    write_json(files.ensemble, tree)


def align_targets(members: Sequence[Member], kind: str) -> dict[str, Aligned]:
    """Open the test split of the target, and the unlabeled one if there is any."""
    paths = [path for member in members for path in member.targets]
    splits = ["test", *["unlabeled"] * has_split(paths, "unlabeled")]
    return {split: align_files([(path,) for path in paths], split, kind) for split in splits}


def fit(
    config: EnsembleConfig, names: Sequence[str], division: Division, warn: Callable[[str], None]
) -> tuple[Ensemble, dict[str, int]]:
    """Search the ensemble; return it, and the number of pixels it was fitted on if these are no samples."""
    logits, labels = selection_of(config, division)
    warn_of(config, names, logits[0], labels, warn)
    pixels = {"pixels": len(labels)} if config.type == "segmentation" else {}
    return searcher(config).fit(logits, labels, names), pixels


def divide(config: EnsembleConfig, members: Sequence[Member], test: Aligned) -> Division:
    """Decide which samples select and which report; raise `DataError` if there are none of either."""
    path, labelled = members[0].targets[0], find_labelled(test.samples, config.type)
    if not labelled.size:
        remedy = "Give the definition of the task a test_fraction, or leave ensemble out of post.subroutines."
        raise DataError(path, Words("no labelled test samples"), "logits of a task with a labelled test split", remedy)
    if config.search.selection == "val":
        lacking = [Problem(member.name, "no logits of validation") for member in members if not member.validations]
        if lacking:
            remedy = "Leave them out, or set post.selection: test."
            raise DataProblems("members of the ensemble", lacking, "those of all folds of every member", remedy)
        aligned = align_files([member.validations for member in members], "val", config.type)
        selecting = find_labelled(aligned.samples, config.type)
        if not selecting.size:
            raise DataError(members[0].validations[0], Words("no labelled validation samples"), "at least one")
        return Division(aligned, selecting, np.sort(labelled))
    samples, share = len(labelled), config.search.eval_frac
    count = round(share * samples)
    if not 0 < count < samples:
        found = Words(f"{share}, by which {count} of {samples} labelled test samples select")
        expected = f"a share that leaves samples of {path} to select and to report"
        remedy = "Set another share, or set post.selection: val." if samples > 1 else "Set post.selection: val."
        raise DataError("post.eval_frac", found, expected, remedy)
    drawn = np.random.default_rng(config.seed).permutation(samples)
    return Division(test, labelled[np.sort(drawn[:count])], np.sort(labelled[drawn[count:]]))


def selection_of(config: EnsembleConfig, division: Division) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the logits of each member and the targets that select, in the order of ids."""
    (samples, logits), places = division.aligned, division.selecting
    if config.type != "segmentation":
        return [member.take(places) for member in logits], samples.targets.take(places)
    most = min(PIXELS, max(1, PIXEL_LOGITS // (len(logits) * samples.logits.shape[1])))
    pixels = draw_pixels(samples.targets, places, most, config.seed)
    return [pixels.take(member, places) for member in logits], pixels.targets


def warn_of(
    config: EnsembleConfig,
    names: Sequence[str],
    logits: np.ndarray,
    labels: np.ndarray,
    warn: Callable[[str], None],
) -> None:
    """Say what makes an ensemble less than it could be."""
    if len(names) == 1:
        warn(f"{names[0]} is the only member: the ensemble is that member")
    if config.type in ("classification", "segmentation"):
        absent = np.setdiff1d(np.arange(logits.shape[1]), labels).tolist()
        if absent:
            warn(f"no sample that selects is of class {', '.join(map(str, absent))}")


def searcher(config: EnsembleConfig) -> Ensemble:
    """Return the search that is configured."""
    search = config.search
    match search.search:
        case "greedy":
            return GreedySelection(config.type, search.budget)
        case "convex":
            return ConvexWeights(config.type)
    settings = {name: getattr(search, name) for name in RANDOM}
    return RandomSearch(config.type, **settings, seed=config.seed)


def exact_weights(weights: np.ndarray) -> np.ndarray:
    """Correct the largest weight by what rounding took, so that weights add up to one to the last digit."""
    exact, largest = weights.copy(), int(np.argmax(weights))
    exact[largest] = 1 - math.fsum(np.delete(weights, largest))
    return exact


def blend_of(members: Sequence[Member], weights: np.ndarray, stacks: Sequence[Stack]) -> Blend:
    """Return a weighted sum of members from the logits in each of their files; those of no weight are left out."""
    ends = np.cumsum([len(member.targets) for member in members]).tolist()
    used = np.flatnonzero(weights).tolist()
    files = [list(stacks[ends[place] - len(members[place].targets) : ends[place]]) for place in used]
    return Blend(weights[used].tolist(), files)


def write_logits(path: Path, splits: Mapping[str, Samples], blends: Mapping[str, Blend]) -> None:
    """Write the logits of an ensemble on all samples, with targets and ids, some samples at a time."""
    with NpzWriter(path) as writer:
        for split, samples in splits.items():
            blend, logits, targets = blends[split], samples.logits, samples.targets
            dtype = blend.take(np.arange(0)).dtype
            with writer.open(f"{split}_logits", dtype, logits.shape) as put:
                for places in logits.chunks():
                    put(blend.take(places))
            with writer.open(f"{split}_targets", targets.dtype, targets.shape) as put:
                for places in targets.chunks():
                    put(targets.take(places))
            writer.add(f"{split}_ids", samples.ids)


def write_metrics(
    config: EnsembleConfig,
    files: EnsembleFiles,
    names: Mapping[str, Any],
    samples: Samples,
    places: np.ndarray,
    best: tuple[str, Blend],
) -> None:
    """Write metrics of the ensemble, as its file of logits has them, and of the best member, and their differences."""
    targets, ids = samples.targets.take(places), samples.ids[places]
    name, single = best
    theirs = measure(config, single.take(places), targets, ids)
    logits = open_npz(files.logits)["test_logits"]
    ours = measure(config, logits if len(places) == len(logits) else logits[places], targets, ids)
    resamples = {"resamples": config.metrics.bootstrap, "seed": config.seed} if config.metrics.bootstrap else {}
    write_json(
        files.metrics,
        {
            "format_version": FORMAT_VERSION,
            **names,
            "type": config.type,
            "split": "test",
            "samples": len(places),
            **ours.tree(),
            **resamples,
            "difference": ours.minus(theirs).tree(),
            "best_member": {"name": name, **theirs.tree(), **theirs.replicates()},
            **ours.replicates(),
        },
    )


def measure(config: EnsembleConfig, logits: np.ndarray, targets: np.ndarray, ids: np.ndarray) -> Measured:
    """Compute metrics, and their values in resamples if there are to be any."""
    kind, names, resamples = config.type, config.metrics.of(config.type), config.metrics.bootstrap
    metrics = compute_metrics(kind, names, logits, targets)
    if not resamples:
        return Measured(metrics, {})
    return Measured(metrics, bootstrap_metrics(kind, names, logits, targets, ids, resamples, config.seed))


def describe(ensemble: Ensemble, best: str) -> dict[str, Any]:
    """Return what a search found out, beside the weights."""
    gap = {"gap": ensemble.gap_} if isinstance(ensemble, ConvexWeights) else {}
    single = {"name": best, "score": float(ensemble.singles_.min())}
    return {"score": ensemble.score_, "best_single": single, "evaluated": ensemble.evaluated_, **gap}


def digest(ids: np.ndarray) -> str:
    """Return the SHA-256 of a set of ids, a line each, in hexadecimal digits."""
    return hashlib.sha256("\n".join(np.sort(ids).tolist()).encode()).hexdigest()
