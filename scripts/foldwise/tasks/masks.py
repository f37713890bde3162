"""What the values of masks mean: which of them make which class."""

from __future__ import annotations

from collections.abc import Sequence

from foldwise.config.definition import Classes
from foldwise.errors import DataError, Words

IGNORED = 255  # pixels of this class index are left out of losses and metrics


def mask_classes(
    classes: Classes | None, mask_values: Sequence[int], class_names: Sequence[str], where: str
) -> dict[str, list[int]]:
    """Return the values in masks that make each class, classes in the order of logits.

    Parameters
    ----------
    classes : list, dict or None
        From the definition. A list names the values 0, 1, ...; a mapping gives the values that are merged into a class.
    mask_values : sequence of int
        Values that occur in the masks of the dataset; empty if they were not opened.
    class_names : sequence of str
        Names that the source has for the values 0, 1, ...
    where : str
        What messages are about.

    Notes
    -----
    Without any names, each value is a class of its own and 255 is ignored, with one exception: where 255 is the only
    value beside 0 it is the foreground.

    Raises
    ------
    DataError
        If nothing tells the classes, there are fewer than two or more than 255, or a value is in two of them.
    """
    if isinstance(classes, dict):
        merged = {name: [whole_number(value, where) for value in values] for name, values in classes.items()}
    elif classes or class_names:
        merged = {str(name): [value] for value, name in enumerate(classes or class_names)}
    elif set(mask_values) == {0, IGNORED}:
        merged = {"background": [0], "foreground": [IGNORED]}
    else:
        merged = {str(value): [value] for value in mask_values if value != IGNORED}
    values = [value for members in merged.values() for value in members]
    if len(set(values)) != len(values):
        raise DataError(where, Words("a value of masks in two classes"), "each value in one class", "Mend `classes`.")
    if not 2 <= len(merged) <= IGNORED:
        raise DataError(where, Words(f"{len(merged)} classes of masks"), "2 to 255 classes", "Set `classes`.")
    return merged


def whole_number(value: str | int, where: str) -> int:
    """Return a value of masks that a definition names."""
    if str(value).isdecimal():
        return int(value)
    raise DataError(where, value, "whole numbers, the values in masks, in the mapping `classes`")
