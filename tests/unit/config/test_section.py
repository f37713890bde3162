"""Strict types, strings read as YAML, and messages that say what is accepted."""

import math
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from foldwise.config.definition import Name
from foldwise.config.names import NAME_WORDS
from foldwise.config.section import Section, convert_errors, describe_type, hide_secrets, read_yaml_scalar
from foldwise.errors import ConfigError, Words


class Wheel(Section):
    """A part of its own."""

    spokes: Annotated[int, Field(ge=3)] = Field(32, description="Spokes.")


class Round(Section):
    """One shape."""

    name: Literal["round", "oval"] = "round"
    radius: float = 1.0


class Square(Section):
    """Another shape."""

    name: Literal["square"] = "square"
    side: float = 1.0


class Machine(Section):
    """Every kind of field."""

    flag: bool = False
    count: int = 1
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    word: str = "word"
    maybe: str | None = None
    kind: Literal["auto", "none", "null"] = "auto"
    size: Literal["auto"] | Annotated[int, Field(ge=8)] = "auto"
    weights: Literal["auto"] | list[Annotated[float, Field(ge=0)]] | None = None
    words: list[str] = Field([])
    flags: list[bool] = Field([], max_length=2)
    wheels: list[Wheel] = Field([])
    named: dict[Name, Wheel] = Field({})
    shape: Annotated[Round | Square, Field(discriminator="name")] = Round()


class Choices(Section):
    """Fields with several alternatives, among them lists and mappings."""

    word: str | list[str] | None = None
    either: list[str | int] | dict[str, list[str | int]] | None = None
    files: str | dict[Literal["train", "test"], str] | None = None
    columns: dict[Literal["a", "b"], str | list[str]] = Field({})


class Fussy(Section):
    """A section that checks for itself."""

    value: int = 0

    def model_post_init(self, _context: object) -> None:
        if self.value == 13:
            raise ConfigError("value", self.value, "a lucky number")


class Owner(Section):
    """A section with one that checks for itself."""

    fussy: list[Fussy] = Field([])
    machine: Machine


def message(tree, model=Machine, prefix=""):
    with pytest.raises(ValidationError) as caught:
        model.model_validate(tree)
    return convert_errors(caught.value, model, prefix).message


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("flag", "false", False),
        ("flag", "true", True),
        ("count", "3", 3),
        ("count", "-3", -3),
        ("share", "1e-3", 0.001),
        ("share", "5E-1", 0.5),
        ("share", ".5", 0.5),
        ("word", "false", "false"),
        ("word", "3", "3"),
        ("word", "null", "null"),
        ("word", "[a, b]", "[a, b]"),
        ("maybe", "null", None),
        ("maybe", "~", None),
        ("maybe", "", None),
        ("maybe", "none", "none"),
        ("kind", "none", "none"),
        ("kind", "null", "null"),
        ("size", "64", 64),
        ("size", "auto", "auto"),
        ("weights", "null", None),
        ("weights", "auto", "auto"),
        ("weights", "[1, 2e0, .5]", [1.0, 2.0, 0.5]),
        ("weights", ["1", "1e-3"], [1.0, 0.001]),
        ("words", "[a, b]", ["a", "b"]),
        ("words", ["1", "true"], ["1", "true"]),
        ("flags", ["true", False], [True, False]),
        ("wheels", "[{spokes: 8}]", [Wheel(spokes=8)]),
        ("wheels", [{"spokes": "8"}], [Wheel(spokes=8)]),
        ("named", {"front": {"spokes": "8"}}, {"front": Wheel(spokes=8)}),
        ("shape", {"name": "square", "side": "2"}, Square(side=2.0)),
    ],
)
def test_strings_mean_what_they_say_where_no_string_is_meant(key, text, value):
    found = getattr(Machine.model_validate({key: text}), key)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("key", "value", "accepted"),
    [
        ("flag", 1, "true or false"),
        ("flag", "maybe", "true or false"),
        ("flag", None, "true or false"),
        ("count", 1.0, "an integer"),
        ("count", True, "an integer"),
        ("count", "2020-13-45", "an integer"),
        ("share", True, "a number > 0 and < 1"),
        ("share", 1.0, "a number > 0 and < 1"),
        ("share", math.nan, "a number > 0 and < 1"),
        ("share", "1e999", "a number > 0 and < 1"),
        ("share", [0.5], "a number > 0 and < 1"),
        ("word", ["a"], "a string"),
        ("maybe", {}, "a string or null"),
        ("kind", "other", "one of auto, none, null"),
        ("size", 4, "auto or an integer >= 8"),
        ("words", "a", "a list of strings"),
        ("words", {"a": 1}, "a list of strings"),
        ("flags", [True, False, True], "a list of true or false with at most 2 items"),
        ("wheels", 3, "a list of mappings"),
        ("named", [], "a mapping"),
    ],
)
def test_types_are_strict_and_the_message_says_what_is_accepted(key, value, accepted):
    text = message({key: value})
    assert text.startswith(f"{key}: got ")
    assert f", expected {accepted}." in text
    assert len(text.splitlines()) == 1


def test_an_item_of_a_list_is_named_once():
    assert message({"weights": [1.0, -1.0]}) == "weights[1]: got -1.0, expected a number >= 0."
    assert message({"wheels": [{}, {"spokes": 2}]}) == "wheels[1].spokes: got 2, expected an integer >= 3."
    assert message({"words": ["a", 5]}) == 'words[1]: got 5, expected a string. Write it in quotes: "5".'


def test_the_nearest_word_is_named_and_a_number_for_a_name_wants_quotes():
    assert message({"kind": "autoo"}).endswith("Did you mean 'auto'?")
    assert message({"word": 2024}) == 'word: got 2024, expected a string. Write it in quotes: "2024".'
    assert message({"word": True}).endswith('Write it in quotes: "true".')


def test_an_unknown_key_names_the_accepted_ones_and_the_nearest():
    text = message({"machine": {"wheels": [{"spoke": 5}]}}, Owner)
    assert text == "machine.wheels[0].spoke: got an unknown key, expected spokes. Did you mean 'spokes'?"
    assert message({"count": 1, 7: 2, True: 3}).splitlines()[1].startswith("True: got an unknown key, expected one of")


def test_a_missing_key_is_named():
    assert message({}, Owner) == "machine: got nothing, expected a mapping. This key is required."


def test_keys_of_a_mapping_are_checked_and_named():
    assert message({"named": {"a b": {}}}) == f"named.a b: got 'a b', expected {NAME_WORDS}."
    assert message({"named": {"front": {"spokes": 1}}}) == "named.front.spokes: got 1, expected an integer >= 3."


def test_the_name_of_a_component_is_looked_up_in_all_and_its_keys_in_its_own():
    text = message({"shape": {"name": "squar"}})
    assert text == "shape.name: got 'squar', expected one of round, oval, square. Did you mean 'square'?"
    assert message({"shape": {"side": 1}}).startswith("shape.name: got null, expected one of round, oval, square.")
    text = message({"shape": {"name": "oval", "side": 1.0}})
    assert text == "shape.side: got an unknown key, expected one of name, radius."
    assert message({"shape": {"name": "oval", "radius": "x"}}) == "shape.radius: got 'x', expected a number."
    assert message({"shape": {"name": "oval", "radius": ".inf"}}) == "shape.radius: got inf, expected a number."


def test_an_error_of_ours_from_within_gets_the_whole_path():
    text = message({"fussy": [{"value": 1}, {"value": 13}], "machine": {}}, Owner, prefix="top")
    assert text == "top.fussy[1].value: got 13, expected a lucky number."


def test_several_mistakes_are_told_together():
    lines = message({"flag": 3, "wheels": [{"spokes": 1}], "sise": 1}, prefix="machine").splitlines()
    assert [line.partition(":")[0] for line in lines] == ["machine.flag", "machine.wheels[0].spokes", "machine.sise"]


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        ({"word": 5}, 'word: got 5, expected a string or a list of strings or null. Write it in quotes: "5".'),
        ({"word": {"a": 1}}, "word: got {'a': 1}, expected a string or a list of strings or null."),
        ({"word": ["a", 5]}, 'word[1]: got 5, expected a string. Write it in quotes: "5".'),
        ({"either": 5}, "either: got 5, expected a list of strings or integers or a mapping or null."),
        ({"either": ["a", 1.5]}, 'either[1]: got 1.5, expected a string or an integer. Write it in quotes: "1.5".'),
        ({"either": {"a": 1}}, "either.a: got 1, expected a list of strings or integers."),
        ({"either": {"a": ["b", None]}}, "either.a[1]: got null, expected a string or an integer."),
        ({"either": {1: ["b"]}}, 'either.1: got 1, expected a string. Write it in quotes: "1".'),
        ({"files": ["a"]}, "files: got ['a'], expected a string or a mapping or null."),
        ({"files": {"tran": "a"}}, "files.tran: got 'tran', expected one of train, test. Did you mean 'train'?"),
        ({"files": {"train": ["a"]}}, "files.train: got ['a'], expected a string."),
        ({"columns": {"a": {}}}, "columns.a: got {}, expected a string or a list of strings."),
        ({"columns": {"c": "d"}}, "columns.c: got 'c', expected one of a, b."),
        ({"columns": {0: "d"}}, "columns.0: got 0, expected one of a, b."),
    ],
)
def test_of_several_alternatives_the_one_that_is_meant_is_told_about_once(tree, text):
    assert message(tree, Choices) == text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("https://me:word@a.org/b", "https://***@a.org/b"),
        ("x ftp://:word@a.org y http://me:word@b.org/c?key=word", "x ftp://***@a.org y http://***@b.org/c?***"),
        ("https://me:wo/rd@a.org", "https://***@a.org"),
        ("https://a.org/b?key=word", "https://a.org/b?***"),
        ("me@a.org: what?", "me@a.org: what?"),
        ("https://a.org/b", "https://a.org/b"),
        (5, 5),
        (["a"], ["a"]),
        (None, None),
    ],
)
def test_secrets_in_addresses_are_not_shown(value, shown):
    assert hide_secrets(value) == shown


def test_secrets_in_addresses_are_not_shown_wherever_they_are():
    value = {"a": ["https://me:word@a.org/b", "https://a.org/c?word"], "d": 5}
    assert str(hide_secrets(value)) == "{'a': ['https://***@a.org/b', 'https://a.org/c?***'], 'd': 5}"
    assert message({"columns": {"a": {"b": "https://me:word@a.org"}}}, Choices).startswith(
        "columns.a: got {'b': 'https://***@a.org'}, expected"
    )


def test_a_section_does_not_change():
    with pytest.raises(ValidationError):
        Wheel().spokes = 5


@pytest.mark.parametrize(
    ("annotation", "metadata", "words"),
    [
        (bool, [], "true or false"),
        (int | None, [], "an integer or null"),
        (Annotated[int, Field(ge=2, le=9)], [], "an integer >= 2 and <= 9"),
        (list[Name], [], f"a list of names{NAME_WORDS.removeprefix('a name')}"),
        (list[int], [Field(min_length=2, max_length=2)], "a list of integers with 2 items"),
        (list[int], [Field(min_length=1, max_length=3)], "a list of integers with at least 1 and at most 3 items"),
        (list[Literal["a", "b"]], [], "a list out of a, b"),
        (list[str | int], [], "a list of strings or integers"),
        (Literal["a"], [], "a"),
        (Literal[False, "a"], [], "one of false, a"),
        (dict[str, int], [Field(min_length=1)], "a mapping with at least 1 key"),
        (str, [Field(min_length=1)], "a string with at least 1 character"),
        (Wheel | None, [], "a mapping or null"),
        (Wheel | None, [Words("a wheel")], "a wheel"),
    ],
)
def test_types_in_words(annotation, metadata, words):
    assert describe_type(annotation, metadata) == words


@pytest.mark.parametrize("text", ["[" * 1200, "{a", "a: b: c", "2020-02-31", "1" * 5000, "!!python/object:os.system x"])
def test_what_yaml_cannot_read_stays_a_string(text):
    assert read_yaml_scalar(text) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_survives_as_a_string(number):
    assert read_yaml_scalar(str(number)) == number
