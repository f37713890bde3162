"""Names of tasks and variants."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldwise.config.names import (
    ARGUMENT,
    CLASS,
    FUNCTION_NAME,
    NAME,
    TAGGED_TYPES,
    Tag,
    TaskName,
    nest,
    parse_tag,
    parse_task,
)
from foldwise.config.names import TAGS as TAG_READERS
from foldwise.errors import ConfigError

NAMES = st.from_regex(NAME, fullmatch=True).filter(lambda name: len(name) <= 100)
FOLDS = st.integers(0, 999)
SEEDS = st.just("") | st.builds("-{}".format, st.integers(1, 999999))
SHARES = st.integers(1, 999).map(lambda thousandths: f"{thousandths / 1000:.3f}".rstrip("0")) | st.just("1")
CLASS_NAMES = st.lists(st.from_regex(CLASS, fullmatch=True).filter(lambda name: len(name) < 9), min_size=2, max_size=4)
OWN = st.lists(st.from_regex(ARGUMENT, fullmatch=True).filter(lambda text: len(text) < 9), max_size=2)
TAG = st.one_of(
    st.just("identity"),
    st.builds("nested-{}{}".format, FOLDS, st.sampled_from(["", "-2", "-17", "-1000"])),
    st.builds("{}-{}{}".format, st.sampled_from(["subset", "noise"]), SHARES, SEEDS),
    CLASS_NAMES.filter(lambda names: len(set(names)) == len(names)).map(lambda names: f"classes-{'.'.join(names)}"),
    st.builds(
        lambda name, values: "-".join(["own", name, *values]),
        st.from_regex(FUNCTION_NAME, fullmatch=True).filter(lambda name: len(name) < 20),
        OWN,
    ),
)
TAGS = st.lists(TAG, max_size=3).filter(lambda tags: len("+".join(tags)) < 99)


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


PIECES = st.sampled_from([*TAG_READERS, "+", "+", "-", "-", ".", "0", "5", "1", "a", "digits", "_", " ", "é"])


@given(st.lists(PIECES, max_size=9).map("".join) | st.builds("digits+{}".format, TAG) | st.text(max_size=30))
def test_any_text_is_a_name_with_one_form_or_a_message(text):
    try:
        name = parse_task(text, "task")
        assert parse_task(str(name), "task") == name
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


NESTED_USAGE = "expected `+nested-FOLD` or `+nested-FOLD-NFOLDS` with whole numbers, NFOLDS from 2 to 1000."
SHARE_USAGE = "a fraction above 0 and at most 1, a whole number."
BAD_SHARES = [
    "", "-", "-0", "-0.0", "-1.1", "-x", "-0.5-x", "-0.5-01", "-0.5-1-2", "-1e-3", "-.", "-1e0", "--0.5", "-0.5-",
    "-0.1234567890123", "-nan", "-0,5", "-50%",
]  # fmt: skip
BAD_CLASSES = ["", "-", "-a", "-a.a", "-a.", "-.a", "-a-b", "-a.b.a", "-a.é"]
CLASSES_USAGE = "expected `+classes-A.B.C`: two or more distinct classes by name or index"
BAD_OWN = ["", "-", "-a b", "-a.b", "-_a", "-a_", "-a__b", "-ä", "-a-", "-a--b", "-a-ä", "-a-b c", "-a-50%", "-my:f"]
OWN_USAGE = (
    "expected `+own-FUNCTION` or `+own-FUNCTION-ARGUMENT-...`: a name out of `tagging.functions`, of letters, digits "
    "and single `_`, then any texts of letters, digits, `.` and `_`."
)


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("nestd-0", "expected one of +identity, +nested, +subset, +classes, +noise, +own. Did you mean 'nested'?"),
        ("subst-0.5", "Did you mean 'subset'?"),
        ("class-a.b", "Did you mean 'classes'?"),
        ("nois-0.5", "Did you mean 'noise'?"),
        ("Nested-0", "Did you mean 'nested'?"),
        ("zzz", "+own."),
        ("short-0.5", "+noise, +own."),
        ("", "expected one of"),
        ("identity-1", "expected `+identity` without arguments"),
        ("identity-", "expected `+identity` without arguments"),
        *[
            (f"nested{rest}", NESTED_USAGE)
            for rest in ["", "-", "-x", "-00", "-1.0", "-1-2-3", "-0-1", "-0-1001", "-0-", "--1", "-" + "1" * 5000]
        ],
        *[
            (f"{name}{rest}", f"expected `+{name}-FRACTION` or `+{name}-FRACTION-SEED`, {SHARE_USAGE}")
            for name in ("subset", "noise")
            for rest in BAD_SHARES
        ],
        *[
            (f"classes{rest}", CLASSES_USAGE)
            for rest in ["", "-", "-a", "-a.a", "-a.", "-.a", "-a-b", "-a.b.a", "-a.é"]
        ],
        *[(f"own{rest}", OWN_USAGE) for rest in BAD_OWN],
    ],
    ids=lambda text: text[:20],
)
def test_bad_tags(tag, expected):
    with pytest.raises(ConfigError) as caught:
        parse_tag(tag, "pivot")
    assert caught.value.message.startswith(f"pivot: got '+{tag}'"[:60])
    assert expected in caught.value.message


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("identity", "identity"),
        ("nested-3", "nested-3"),
        ("nested-3-7", "nested-3-7"),
        *[
            (f"{name}-{share}", f"{name}-{form}")
            for name in ("subset", "noise")
            for share, form in [
                (".5", "0.5"), ("0.50", "0.5"), ("0.5-0", "0.5"), (".50-0", "0.5"), ("00.5", "0.5"), ("0.5-7", "0.5-7"),
                ("1", "1"), ("1.", "1"), ("1.0-3", "1-3"), ("0.125", "0.125"), ("0.0000000001", "0.0000000001"),
            ]
        ],
        ("classes-0.1.2", "classes-0.1.2"),
        ("classes-b.a", "classes-b.a"),
        ("own-short", "own-short"),
        ("own-short-.50-0-x_Y", "own-short-.50-0-x_Y"),
    ],
)  # fmt: skip
def test_a_tag_has_one_form(text, canonical):
    assert str(parse_tag(text, "x")) == canonical
    assert parse_tag(canonical, "x") == parse_tag(text, "x")


def test_tags_are_read_and_written():
    assert parse_tag("nested-3-7", "x") == Tag("nested", ("3", "7"))
    assert str(Tag("nested", ("3", "7"))) == "nested-3-7"
    assert str(Tag("identity")) == "identity"


def test_the_arguments_of_tags_have_names():
    assert parse_tag("nested-3-7", "x").fold == 3
    subset, noise = parse_tag("subset-.25-9", "x"), parse_tag("noise-0.1", "x")
    assert (subset.fraction, subset.seed, noise.fraction, noise.seed) == (0.25, 9, 0.1, 0)
    assert parse_tag("classes-a.b_c.7", "x").classes == ("a", "b_c", "7")
    own = parse_tag("own-my_short-0.50-a", "x")
    assert (own.function, own.values) == ("my_short", ("0.50", "a"))
    assert parse_tag("own-short", "x").values == ()


def test_a_name_tells_the_functions_that_it_calls():
    name = parse_task("digits+own-short-0.5+nested-0+own-long+own-short", "task")
    assert name.functions == ["short", "long", "short"]
    assert parse_task("digits+nested-0", "task").functions == []


def test_every_tag_that_depends_on_the_task_type_is_a_tag():
    assert set(TAGGED_TYPES) < set(TAG_READERS)


def test_a_variant_with_too_many_tags_is_too_long_for_a_folder():
    text = "digits" + "+identity" * 22
    with pytest.raises(ConfigError, match="at most 200 characters"):
        parse_task(text, "task")
    assert parse_task(text[:195], "task").base == "digits"


def test_the_length_is_that_of_the_canonical_name():
    text = "digits" + "+identity" * 20 + "+subset-.12345"  # one character more with its zero
    assert len(text) == 200
    with pytest.raises(ConfigError, match="at most 200 characters"):
        parse_task(text, "task")
    assert len(str(parse_task(text[:-1], "task"))) == 200


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
        ("digits+subset-.50-0+nested-0-5+noise-1.", "digits+subset-0.5+nested-0+noise-1", 5),
        ("digits+own-nested-.5+nested-0-3", "digits+own-nested-.5+nested-0-3", 3),
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
