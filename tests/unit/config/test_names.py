"""Names of tasks and variants."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldwise.config.names import NAME, Tag, TaskName, nest, parse_tag, parse_task
from foldwise.errors import ConfigError

NAMES = st.from_regex(NAME, fullmatch=True).filter(lambda name: len(name) <= 100)
FOLDS = st.integers(0, 999)
NESTED = st.builds(lambda outer, inner: f"nested-{outer}{inner}", FOLDS, st.sampled_from(["", "-2", "-17", "-1000"]))
TAGS = st.lists(st.just("identity") | NESTED, max_size=4)


@given(NAMES, TAGS)
def test_names_round_trip(base, tags):
    text = "+".join([base, *tags])
    task = parse_task(text, "task")
    assert (str(task), task.base, task.tags) == (text, base, tuple(tags))
    assert "__" not in task.base


@given(NAMES, TAGS.filter(bool))
def test_the_parent_lacks_the_last_tag(base, tags):
    task = parse_task("+".join([base, *tags]), "task")
    assert str(task) == f"{task.parent}+{tags[-1]}"


@given(st.text("abd059._-+ nesti", max_size=30) | st.text(max_size=30))
def test_any_text_is_a_name_or_a_message(text):
    try:
        assert str(parse_task(text, "task")) == text
    except ConfigError as error:
        message = error.message
    else:
        message = "task: got "
    assert message.startswith("task: got ")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-a",
        "_a",
        ".a",
        "a b",
        "a__b",
        "a/b",
        "a~b",
        "a@b",
        "ä",
        "digits\n",
        "a" * 101,
        "+nested-0",
        "a" * 99 + "__",
    ],
)
def test_what_is_no_name(text):
    with pytest.raises(ConfigError, match=r"expected a name of letters.*then tags"):
        parse_task(text, "tasks[0]")


@pytest.mark.parametrize("text", ["digits", "a", "7", "A.b-c_d", "a_", "a" * 100])
def test_what_is_a_name(text):
    assert parse_task(text, "task") == TaskName(text)


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("nestd-0", "expected one of +identity, +nested. Did you mean 'nested'?"),
        ("", "expected one of"),
        ("nested", "expected `+nested-FOLD`"),
        ("nested-", "expected whole numbers"),
        ("nested-x", "expected whole numbers"),
        ("nested-00", "expected whole numbers"),
        ("nested-1.0", "expected whole numbers"),
        ("nested-1-2-3", "expected `+nested-FOLD` or `+nested-FOLD-NFOLDS`"),
        ("nested-0-1", "expected from 2 to 1000 inner folds"),
        ("nested-0-1001", "expected from 2 to 1000 inner folds"),
        ("nested-" + "1" * 5000, "expected whole numbers"),
        ("identity-1", "expected `+identity` without arguments"),
    ],
)
def test_bad_tags(tag, expected):
    with pytest.raises(ConfigError) as caught:
        parse_tag(tag, "pivot")
    assert caught.value.message.startswith(f"pivot: got '+{tag}'"[:120])
    assert expected in caught.value.message


def test_tags_are_read_and_written():
    assert parse_tag("nested-3-7", "x") == Tag("nested", (3, 7))
    assert str(Tag("nested", (3, 7))) == "nested-3-7"
    assert str(Tag("identity")) == "identity"


def test_a_variant_with_too_many_tags_is_too_long_for_a_folder():
    text = "digits" + "+identity" * 22
    with pytest.raises(ConfigError, match="at most 200 characters"):
        parse_task(text, "task")
    assert parse_task(text[:195], "task").base == "digits"


@pytest.mark.parametrize(
    ("text", "canonical", "folds"),
    [
        ("digits", "digits", 5),
        ("digits+identity", "digits+identity", 5),
        ("digits+nested-4", "digits+nested-4", 5),
        ("digits+nested-0-3", "digits+nested-0-3", 3),
        ("digits+nested-0-5", "digits+nested-0", 5),
        ("digits+nested-0-3+nested-2", "digits+nested-0-3+nested-2", 3),
        ("digits+nested-0-3+nested-2-3", "digits+nested-0-3+nested-2", 3),
        ("digits+nested-0-3+nested-2-5", "digits+nested-0-3+nested-2-5", 5),
    ],
)
def test_a_variant_has_one_name_and_its_number_of_folds(text, canonical, folds):
    name, n_folds = parse_task(text, "task").on_folds(5, "task")
    assert (str(name), n_folds) == (canonical, folds)
    assert name.on_folds(5, "task") == (name, n_folds)


@pytest.mark.parametrize(
    ("text", "bound"), [("digits+nested-5", 4), ("digits+nested-0-3+nested-3", 2), ("digits+identity+nested-9", 4)]
)
def test_an_outer_fold_must_exist(text, bound):
    with pytest.raises(ConfigError, match=rf"pivot: got '\+nested-\d', expected an outer fold from 0 to {bound}\."):
        parse_task(text, "pivot").on_folds(5, "pivot")


def test_nesting_appends_a_tag():
    variant = nest(TaskName("digits", ("identity",)), 2)
    assert str(variant) == "digits+identity+nested-2"
    assert variant.nested
    assert not variant.parent.nested
