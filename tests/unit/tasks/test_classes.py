"""Labels find their classes, however a source writes them."""

import pytest

from foldwise.errors import DataError, DataProblems
from foldwise.tasks.classes import UnknownLabel, name_classes


def name(labels, given=None, class_names=()):
    return name_classes(set(labels), given, class_names, "task birds")


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        (["b", "a"], [], ["a", "b"]),
        (["10", "9", "-1"], [], ["-1", "9", "10"]),
        (["10", "9", "x"], [], ["10", "9", "x"]),
        (["a", "b"], ["c", "b", "a"], ["b", "a"]),
        (["a", "z"], ["c", "b", "a"], ["a", "z"]),
        (["2", "0"], ["c", "b", "a"], ["c", "a"]),
        (["2.0", "0.0"], ["c", "b", "a"], ["c", "a"]),
        (["3", "0"], ["c", "b", "a"], ["0", "3"]),
        (["1", "0"], ["1", "0"], ["1", "0"]),
    ],
)
def test_the_order_is_that_of_the_source_of_numbers_or_of_the_alphabet(labels, names, expected):
    assert name(labels, None, names).classes == expected


def test_decimals_of_whole_numbers_are_dropped():
    found = name(["1.0", "2.", "1", "3.00"])
    assert found.classes == ["1", "2", "3"]
    assert found.find("1.0") == found.find("1") == "1"
    assert name(["1.5", "1.0"]).classes == ["1.0", "1.5"]


def test_one_number_in_two_spellings_among_words_is_refused():
    with pytest.raises(DataError, match=r"classes '1' and '1.0' beside some that are no whole numbers"):
        name(["1", "1.0", "cat"])
    assert name(["1", "1.0", "cat"], {"one": ["1", "1.0"], "cat": ["cat"]}).classes == ["one", "cat"]


@pytest.mark.parametrize(
    ("given", "labels"),
    [([1, 2], ["1.0", "2.0"]), (["1.0", "2.0"], ["1.0", "2.0"]), (["x", "y"], ["0", "1"]), ([0, 1], ["0", "1"])],
)
def test_a_definition_may_list_labels_as_written_as_numbers_or_by_name(given, labels):
    found = name(labels, given, ["x", "y"] if given[0] in ("x", 0) else [])
    assert [found.find(label) for label in labels] == [str(one) for one in given]


@pytest.mark.parametrize("given", [{"a": [1], "b": ["1"]}, {"a": [1, 1]}, ["x", "x"], [1, "1"]])
def test_a_label_or_class_twice_is_refused(given):
    with pytest.raises(DataError, match=r"twice|each label in one class"):
        name(["1"], given)


@pytest.mark.parametrize("bad", ["", "a;b", "a\nb", "a\x7f"])
def test_a_name_that_cannot_stand_in_a_table_is_refused(bad):
    with pytest.raises(DataProblems, match="empty or contain"):
        name(["x", "y"], {"ok": ["x"], bad: ["y"]})


def test_the_nearest_label_is_told_if_asked_for():
    with pytest.raises(UnknownLabel) as caught:
        name(["a"], ["cat", "dog"]).find("dgo")
    assert caught.value.told(True) == "label 'dgo' is in none of the classes. Did you mean 'dog'?"
    assert caught.value.told(False) == "label 'dgo' is in none of the classes"
