"""Calibration of a member of an ensemble: logits on disk become calibrated ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from foldwise.artifacts import FORMAT_VERSION, write_json
from foldwise.config.jobs import CalibrateConfig
from foldwise.errors import DataError, Words, shorten
from foldwise.inference.metrics import built_in_metrics
from foldwise.npz import NpzWriter, open_npz, row_chunks
from foldwise.post.arrays import check_label_shares, check_targets
from foldwise.post.calibration import AffineCalibration, BinaryCalibration
from foldwise.post.inputs import HUGE
from foldwise.post.priors import AdjustedCount, LabelAdjustedCount, check_label_prior, check_prior, prevalences
from foldwise.tasks.masks import IGNORED

REMEDY = "Delete it and run again: it is predicted anew."
LOGITS = "_logits"


class Method(NamedTuple):
    """How logits of a task type are calibrated."""

    fewest: int  # columns of logits
    dimensions: int  # of targets
    calibration: Callable[..., AffineCalibration | BinaryCalibration]
    apply: Callable[[Any, np.ndarray], np.ndarray]
    counter: Callable[[], AdjustedCount | LabelAdjustedCount]
    check_prior: Callable[..., np.ndarray]
    check_labels: Callable[..., np.ndarray]
    has_label: Callable[[np.ndarray], np.ndarray]
    share: Callable[[np.ndarray, int], np.ndarray]


class Split(NamedTuple):
    """A split in a file: logits and targets as maps, and which samples have a label."""

    path: Path
    name: str
    logits: np.ndarray
    targets: np.ndarray
    labelled: np.ndarray

    @property
    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Logits and targets of the samples that have a label."""
        return self.logits[self.labelled], self.targets[self.labelled]


class Prior(NamedTuple):
    """A prior, None for that of validation, and where it is from."""

    values: np.ndarray | None
    origin: str


def calibrate_member(
    config: CalibrateConfig,
    validation: Path,
    logits: Path,
    calibrated: Path,
    record: Path,
    names: Mapping[str, Any],
    warn: Callable[[str], None] = lambda text: None,
) -> None:
    """Calibrate all logits of a member on its own validation samples.

    Parameters
    ----------
    config : CalibrateConfig
        Task type and prior.
    validation : Path
        Logits of the member on the task it was trained on; those of its split val decide.
    logits : Path
        The logits to calibrate: the same file, or those on another task.
    calibrated : Path
        The ``.npz`` file to write, with the arrays of `logits`. Logits become float32 log-probabilities, of a
        multi-label task log-odds; all else stays as it is.
    record : Path
        The ``.json`` file to write, after the other: ``scale`` and ``bias``, of a multi-label task one a class;
        ``prior``, ``prior_origin`` and ``prior_asked``, which differ where there was nothing to quantify; ``absent``
        classes, of which val tells nothing; the number of ``samples`` of val, and their log-loss before and after, in
        which classes count by prior / frequency. Where `logits` have labelled test samples, ``test`` holds their number
        and their plain log-loss before and after.
    names : mapping
        Names that are repeated in the file: pipeline, task, fold, target.
    warn : callable
        Receives what a user should know: that nothing could be estimated about a class, for instance.

    Raises
    ------
    MissingData, DataError
        If a file is missing or damaged, lacks a split that is needed, or has logits that are not finite; or if the
        prior does not suit the classes.
    """
    method = method_of(config.type)
    val = read_validation(method, validation)
    arrays = open_npz(logits, REMEDY)
    found = [name.removesuffix(LOGITS) for name in arrays if name.endswith(LOGITS)]
    splits = {name: read_split(method, logits, arrays, name, val.logits.shape[1]) for name in found}
    prior = find_prior(config, method, val, splits, logits, warn)
    fitted = method.calibration(prior=prior.values).fit(*val.pairs)
    warn_absent(fitted, val, warn)
    write_calibrated(calibrated, arrays, splits, lambda part: method.apply(fitted, part))
    write_json(
        record,
        {
            "format_version": FORMAT_VERSION,
            **names,
            "type": config.type,
            "scale": np.asarray(fitted.scale_).tolist(),
            "bias": fitted.bias_.tolist(),
            "prior": fitted.prior_.tolist(),
            "prior_origin": prior.origin,
            "prior_asked": asked_for(config),
            "absent": np.flatnonzero(fitted.absent_).tolist(),
            "samples": int(val.labelled.sum()),
            "log_loss_before": fitted.log_loss_before_,
            "log_loss_after": fitted.log_loss_after_,
            **losses_of_test(config.type, splits.get("test"), calibrated),
        },
    )


def method_of(kind: str) -> Method:
    """Return how logits of a task type are calibrated."""
    if kind not in METHODS:
        raise AssertionError(f"logits of task type {kind} cannot be calibrated")
    return METHODS[kind]


def asked_for(config: CalibrateConfig) -> str:
    """Return where the prior shall be from."""
    prior = config.calibration.prior
    return prior if isinstance(prior, str) else "list"


def read_validation(method: Method, path: Path) -> Split:
    """Open the validation split of a member; raise `DataError` if nothing can be fitted to it."""
    arrays = open_npz(path, REMEDY)
    val = read_split(method, path, arrays, "val") if "val_logits" in arrays else None
    if val is None or not val.labelled.any():
        raise DataError(
            path,
            Words("no labelled validation samples"),
            "logits of a member on the task it was trained on, with its split val",
            "Delete it and run again if they should be there, or leave calibrate out of post.subroutines.",
        )
    return val


def read_split(
    method: Method, path: Path, arrays: Mapping[str, np.ndarray], name: str, classes: int | None = None
) -> Split:
    """Open a split.

    Parameters
    ----------
    method : Method
        That of the task type.
    path : Path
        The file, for messages.
    arrays : mapping
        Its arrays.
    name : str
        The split.
    classes : int, optional
        Number of columns that there must be.

    Raises
    ------
    DataError
        If an array is missing or of a wrong form, a logit is not finite, or there is no such class.
    """
    missing = [key for key in (f"{name}_targets", f"{name}_ids") if key not in arrays]
    if missing:
        raise DataError(path, Words(f"no {' and no '.join(missing)}"), f"all arrays of split {name}", REMEDY)
    logits, targets = arrays[name + LOGITS], arrays[f"{name}_targets"]
    check_form(path, name, logits, method.fewest, classes)
    check_finite(path, name, logits, arrays[f"{name}_ids"])
    where = f"{path} ({name}_targets)"
    expected = logits.shape[: method.dimensions]
    if targets.shape != expected:
        raise DataError(where, Words(f"shape {targets.shape}"), f"{expected}, as there are logits", REMEDY)
    labelled = method.has_label(targets)
    if labelled.any():
        method.check_labels(targets[labelled], logits.shape[1], where=where)
    return Split(path, name, logits, targets, labelled)


def check_form(path: Path, name: str, logits: np.ndarray, fewest: int, classes: int | None) -> None:
    """Raise `DataError` if logits have not the form that is needed."""
    right = logits.ndim == 2 and logits.dtype.kind == "f" and logits.shape[1] >= fewest
    if not right or classes not in (None, logits.shape[1]):
        columns = f"{fewest} or more" if classes is None else f"{classes}"
        got = Words(f"{logits.dtype} of shape {logits.shape}")
        raise DataError(f"{path} ({name}{LOGITS})", got, f"numbers of shape (samples, {columns} classes)", REMEDY)


def check_finite(path: Path, name: str, logits: np.ndarray, ids: np.ndarray) -> None:
    """Raise `DataError` if logits are not finite, or too large to be squared and added up."""
    right = [(np.abs(logits[chunk]) <= HUGE).all(axis=1) for chunk in row_chunks(logits)]
    wrong = np.flatnonzero(~np.concatenate([np.ones(0, bool), *right]))
    if len(wrong):
        samples = "1 sample" if len(wrong) == 1 else f"{len(wrong)} samples"
        raise DataError(
            path,
            Words(f"{samples} of split {name} with NaN, infinite or huge logits, first {ids[wrong[0]]}"),
            f"finite logits of at most {HUGE:g}",
            "Lower optimizer.lr or set trainer.gradient_clip_val, and train anew.",
        )


def find_prior(
    config: CalibrateConfig,
    method: Method,
    val: Split,
    splits: Mapping[str, Split],
    path: Path,
    warn: Callable[[str], None],
) -> Prior:
    """Return the prior that is asked for.

    Raises
    ------
    DataError
        If that of the test split is, but no test sample has a label, or a list does not suit the classes.
    """
    asked, classes = config.calibration.prior, val.logits.shape[1]
    if isinstance(asked, list):
        return Prior(method.check_prior(asked, classes, "post.prior"), "list")
    if asked == "test":
        test = splits.get("test")
        if test is None or not test.labelled.any():
            remedy = "Set post.prior to val, quantify or a list, or give the task's definition a test_fraction."
            raise DataError(path, Words("no labelled test samples"), "some, as post.prior is test", remedy)
        return Prior(method.share(test.pairs[1], classes), asked)
    if asked == "quantify":
        unlabeled = splits.get("unlabeled")
        if unlabeled is not None and len(unlabeled.logits):
            return Prior(quantify(method, val, unlabeled.logits, warn), asked)
        warn(f"{path}: no unlabeled samples to quantify (post.prior): the prior is that of the split val.")
    return Prior(None, "val")


def quantify(method: Method, val: Split, unlabeled: np.ndarray, warn: Callable[[str], None]) -> np.ndarray:
    """Estimate how frequent classes are among unlabeled samples, and warn if val leaves that open."""
    count = method.counter().fit(*val.pairs)
    if isinstance(count, LabelAdjustedCount):
        open_ones = [place for place, one in enumerate(count.counts_) if one.rank_ < 2]
        unclear = f"{count_classes(open_ones)} from the rest" if open_ones else ""
    else:
        classes = len(count.confusion_)
        unclear = f"all {classes} classes (rank {count.rank_})" if count.rank_ < classes else ""
    if unclear:
        text = "many priors explain the decisions on unlabeled samples, the nearest to that of val is taken."
        warn(f"{val.path}: decisions on the split val do not tell {unclear}: {text}")
    return count.predict(unlabeled)


def warn_absent(fitted: AffineCalibration | BinaryCalibration, val: Split, warn: Callable[[str], None]) -> None:
    """Warn of classes that nothing can be estimated about."""
    absent = np.flatnonzero(fitted.absent_).tolist()
    if not absent:
        return
    if isinstance(fitted, BinaryCalibration):
        text = f"no sample of the split val, or every one, has {count_classes(absent)}: their logits stay as they are."
    else:
        text = f"the split val has no sample of {count_classes(absent)}: their bias is 0, and their prior applies."
    warn(f"{val.path}: {text}")


def count_classes(places: list[int]) -> str:
    """Name classes by their indices."""
    return f"class {places[0]}" if len(places) == 1 else f"classes {shorten(Words(', '.join(map(str, places))))}"


def write_calibrated(
    path: Path,
    arrays: Mapping[str, np.ndarray],
    splits: Mapping[str, Split],
    apply: Callable[[np.ndarray], np.ndarray],
) -> None:
    """Write all arrays of a file, logits calibrated a few rows at a time."""
    with NpzWriter(path) as writer:
        for name in arrays:
            if not name.endswith(LOGITS):
                writer.add(name, arrays[name])
                continue
            logits = splits[name.removesuffix(LOGITS)].logits
            with writer.open(name, np.dtype(np.float32), logits.shape) as put:
                for chunk in row_chunks(logits):
                    put(np.clip(apply(logits[chunk]), -HUGE, HUGE))  # beyond, float32 is infinite


def losses_of_test(kind: str, test: Split | None, calibrated: Path) -> dict[str, Any]:
    """Return the plain log-loss of labelled test samples before, and as it is in the file written."""
    if test is None or not test.labelled.any():
        return {}
    after = open_npz(calibrated, REMEDY)["test_logits"]
    losses = {
        "samples": int(test.labelled.sum()),
        "log_loss_before": log_loss(kind, test, test.logits),
        "log_loss_after": log_loss(kind, test, after),
    }
    return {"test": losses}


def log_loss(kind: str, split: Split, logits: np.ndarray) -> float:
    """Return the mean log-loss of the samples of a split that have a label."""
    total = 0.0
    for chunk in row_chunks(logits):
        rows = split.labelled[chunk]
        if rows.any():
            found = built_in_metrics(kind, ["log_loss"], logits[chunk][rows], split.targets[chunk][rows])
            total += found["log_loss"] * int(rows.sum())
    return total / int(split.labelled.sum())


def has_class(targets: np.ndarray) -> np.ndarray:
    """Tell which samples have a class."""
    return targets != -1


def has_labels(targets: np.ndarray) -> np.ndarray:
    """Tell which samples have labels of all classes."""
    known = ~np.isnan(targets) if targets.dtype.kind == "f" else targets != IGNORED
    return known.all(axis=1)


METHODS = {
    "classification": Method(
        2,
        1,
        AffineCalibration,
        AffineCalibration.predict_log_proba,
        AdjustedCount,
        check_prior,
        check_targets,
        has_class,
        prevalences,
    ),
    "multilabel": Method(
        1,
        2,
        BinaryCalibration,
        BinaryCalibration.decision_function,
        LabelAdjustedCount,
        check_label_prior,
        check_label_shares,
        has_labels,
        lambda shares, classes: check_label_shares(shares, classes).mean(axis=0),
    ),
}
