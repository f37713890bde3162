"""Groups stay together."""

from collections import Counter

from foldwise.tasks.groups import deal_units, draw_units, spanning


def test_groups_in_two_parts_are_found_with_a_sample_of_each():
    groups = ["p", "q", "", "q", "", "q", "p"]
    assert spanning(groups, [0, 0, 0, 1, 1, 2, None]) == [(1, 3)]


def test_the_largest_groups_are_dealt_first_into_the_emptiest_fold():
    units = {"a": [""] * 2, "b": [""] * 5, "c": [""] * 3, "d": [""]}
    assert deal_units(units, ["d", "c", "b", "a"], 2) == {"b": 0, "c": 1, "a": 1, "d": 0}


def test_the_order_decides_between_groups_of_equal_size():
    units = {"a": [""], "b": [""]}
    assert deal_units(units, ["b", "a"], 2) == {"b": 0, "a": 1}


def test_classes_weigh_as_much_as_sizes():
    units = {f"{label}{k}": [label] * 2 for label in "xyz" for k in range(4)}
    folds = deal_units(units, list(units), 4)
    assert Counter((unit[0], fold) for unit, fold in folds.items()) == {(x, f): 1 for x in "xyz" for f in range(4)}


def test_a_group_that_leads_away_from_the_share_is_passed_over():
    units = {"big": [""] * 8, "small": [""] * 2, "other": [""] * 10}
    assert draw_units(units, ["big", "small", "other"], 0.1) == {"small"}


def test_the_smallest_group_is_drawn_if_all_are_too_large_but_never_the_only_one():
    assert draw_units({"big": [""] * 7, "less": [""] * 5}, ["big", "less"], 0.1) == {"less"}
    assert draw_units({"only": [""] * 7}, ["only"], 0.5) == set()


def test_the_last_group_of_a_class_is_never_drawn():
    units = {"rare": ["r"], "x": ["c"] * 3, "y": ["c"] * 3}
    assert draw_units(units, ["rare", "x", "y"], 0.5) == {"x"}
