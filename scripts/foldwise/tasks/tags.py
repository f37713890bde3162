"""Tags: what turns a task into a variant. All depends on sample ids and seeds, never on file order or platform."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import zip_longest

from foldwise.config.definition import TaskRecord
from foldwise.config.names import Tag
from foldwise.errors import DataError, Words, nearest, one_of
from foldwise.tasks.own_tags import apply_function
from foldwise.tasks.samples import LABELLED, Sample
from foldwise.tasks.splits import by_class, fold_samples, keep_folds, labels_of, shuffle

# Multiples of the golden ratio are spread evenly, however many there are, and so are the folds that classes start with.
# These must not depend on the share that is drawn, or a smaller subset would not be part of a greater one.
GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class Content:
    """What tags change.

    Parameters
    ----------
    samples : sequence of Sample
        All samples, in the order of the task.
    folds : mapping of str to int
        Fold of each training sample.
    classes : sequence of str
        Classes in the order of logits.
    column : str
        The column of targets in ``samples.csv``.
    """

    samples: Sequence[Sample]
    folds: Mapping[str, int]
    classes: Sequence[str]
    column: str

    @cached_property
    def train(self) -> list[Sample]:
        """The training samples."""
        return [sample for sample in self.samples if sample.split == "train"]

    @cached_property
    def n_folds(self) -> int:
        """The number of folds, none of which is empty."""
        return max(self.folds.values(), default=-1) + 1


Change = Callable[[Tag, Content, TaskRecord, str], Content]


def apply_tag(tag: Tag, content: Content, record: TaskRecord, where: str) -> Content:
    """Change a task by a tag.

    Parameters
    ----------
    tag : Tag
        What to do.
    content : Content
        The parent.
    record : TaskRecord
        Definition of the variant, whose last tag it is.
    where : str
        What messages are about.

    Returns
    -------
    Content
        The variant.

    Raises
    ------
    DataError
        If there are too few training samples for the folds, or a class is not known, or a function of the user fails
        or returns what is no task.

    Notes
    -----
    ``identity`` changes nothing.

    ``nested-FOLD-NFOLDS``: the old test split is dropped, fold FOLD becomes the test split, the other training samples
    are dealt into folds anew. Folds that the source gave are kept where their number fits. The unlabeled split stays
    with the parent.

    ``subset-FRACTION-SEED``: a share of the training samples is kept, of every class in classification; folds stay.
    The subset of a smaller share is part of that of a greater one.

    ``classes-A.B``: classes are kept by name or index, in their order. In classification, training and test samples of
    other classes are dropped.

    ``noise-FRACTION-SEED``: a share of the training samples gets another class.

    ``own-FUNCTION-ARGUMENT``: what a function of the user makes of the samples, see `foldwise.tasks.own_tags`.
    """
    if tag.name not in ("identity", "own") and not content.folds:
        raise DataError(where, Words("no training samples"), f"training samples, which +{tag} changes")
    return CHANGES[tag.name](tag, content, record, where)


def keep(tag: Tag, content: Content, record: TaskRecord, where: str) -> Content:  # noqa: ARG001
    """Change nothing."""
    return content


def nest(tag: Tag, content: Content, record: TaskRecord, where: str) -> Content:
    """Turn a fold into the test split, drop what was not training data, and deal the rest into folds."""
    folds = content.folds
    samples = [
        sample._replace(split="test" if folds[sample.sample_id] == tag.fold else "train") for sample in content.train
    ]
    if record.given_folds and record.n_folds == content.n_folds - 1:
        renumbered = {sample: fold - (fold > tag.fold) for sample, fold in folds.items()}
        return replace(content, samples=samples, folds=keep_folds(samples, renumbered, record.n_folds, where))
    return replace(content, samples=samples, folds=fold_samples(samples, record, f"fold:{tag}", where))


def draw_subset(tag: Tag, content: Content, record: TaskRecord, where: str) -> Content:
    """Keep a share of the training samples, folds in equal parts."""
    train = content.train
    ids, labels = [sample.sample_id for sample in train], labels_of(train, record.type == "classification")
    kept: set[str] = set()
    for place, members in enumerate(by_class(ids, labels).values()):
        number = max(1, round(tag.fraction * len(members)))
        start = int(content.n_folds * (place * GOLDEN % 1))
        kept.update(take_turns(shuffle(members, record.seed, f"subset:{tag.seed}"), content, start)[:number])
    samples = [sample for sample in content.samples if sample.split != "train" or sample.sample_id in kept]
    return replace(content, samples=samples, folds=keep_folds(samples, content.folds, content.n_folds, where))


def take_turns(ids: Sequence[str], content: Content, start: int) -> list[str]:
    """Order ids so that folds take turns, the fold `start` first."""
    hands: list[list[str]] = [[] for _ in range(content.n_folds)]
    for sample in ids:
        hands[(content.folds[sample] - start) % content.n_folds].append(sample)
    return [sample for turn in zip_longest(*hands) for sample in turn if sample is not None]


def keep_classes(tag: Tag, content: Content, record: TaskRecord, where: str) -> Content:
    """Keep some classes: drop samples of the others, or what multi-label samples tell of them."""
    places = find_classes(tag, content.classes, where)
    classes = [content.classes[place] for place in places]
    if record.type == "multilabel":
        return replace(content, samples=narrow(content, places), classes=classes)
    if record.type != "classification":
        return replace(content, classes=classes)
    kept = set(classes)
    samples = [sample for sample in content.samples if sample.split not in LABELLED or sample.target in kept]
    folds = keep_folds(samples, content.folds, content.n_folds, where)
    return replace(content, samples=samples, folds=folds, classes=classes)


def find_classes(tag: Tag, classes: Sequence[str], where: str) -> list[int]:
    """Return the places of the classes that a tag names, in order; names win over indexes.

    Raises
    ------
    DataError
        If there is no such class, or one is named twice.
    """
    known = {str(place): place for place in range(len(classes))} | {name: place for place, name in enumerate(classes)}
    unknown = [word for word in tag.classes if word not in known]
    if unknown:
        expected = f"{one_of(classes)}, or an index from 0 to {len(classes) - 1}"
        raise DataError(where, Words(f"class {unknown[0]!r} in +{tag}"), expected, nearest(unknown[0], classes))
    places = sorted({known[word] for word in tag.classes})
    if len(places) < len(tag.classes):
        raise DataError(where, Words(f"a class by name and by index in +{tag}"), "each class once")
    return places


def narrow(content: Content, places: Sequence[int]) -> list[Sample]:
    """Return multi-label samples with the targets of some classes alone."""
    kept = {content.classes[place] for place in places}
    targets = {sample.target: sample.target.split(";") if sample.target else [] for sample in content.samples}
    if content.column == "soft_classes":
        narrowed = {
            target: [numbers[place] for place in places] if numbers else [] for target, numbers in targets.items()
        }
    else:
        narrowed = {target: [name for name in names if name in kept] for target, names in targets.items()}
    return [sample._replace(target=";".join(narrowed[sample.target])) for sample in content.samples]


def flip_classes(tag: Tag, content: Content, record: TaskRecord, where: str) -> Content:  # noqa: ARG001
    """Give a share of the training samples another class."""
    purpose = f"noise:{tag.seed}"
    ids = shuffle([sample.sample_id for sample in content.train], record.seed, purpose)
    chosen = set(ids[: round(tag.fraction * len(ids))])
    samples = [
        sample._replace(target=other_class(sample, content.classes, f"{record.seed}:{purpose}:class"))
        if sample.sample_id in chosen and sample.split == "train"
        else sample
        for sample in content.samples
    ]
    return replace(content, samples=samples)


def call_function(tag: Tag, content: Content, record: TaskRecord, where: str) -> Content:
    """Let a function of the user change samples and folds."""
    samples, folds = apply_function(tag, content, record, where)
    return replace(content, samples=samples, folds=folds)


def other_class(sample: Sample, classes: Sequence[str], purpose: str) -> str:
    """Choose one of the other classes by a hash."""
    others = [name for name in classes if name != sample.target]
    digest = hashlib.sha256(f"{purpose}:{sample.sample_id}".encode()).digest()
    return others[int.from_bytes(digest, "big") % len(others)]


CHANGES: dict[str, Change] = {
    "identity": keep,
    "nested": nest,
    "subset": draw_subset,
    "classes": keep_classes,
    "noise": flip_classes,
    "own": call_function,
}
