"""Messages that a user can act on."""

from pathlib import Path

import pytest

from foldwise.errors import (
    ConfigError,
    ConfigErrors,
    DataError,
    DataProblems,
    FoldwiseError,
    Problem,
    Words,
    nearest,
    one_of,
    shorten,
)


def test_a_message_names_place_value_expectation_and_remedy():
    error = FoldwiseError("optimizer.lr", -1.5, "a number > 0", "Try 5e-4.")
    assert str(error) == error.message == "optimizer.lr: got -1.5, expected a number > 0. Try 5e-4."


def test_without_a_remedy_the_message_ends_with_the_expectation():
    assert FoldwiseError(Path("a/b.json"), 3, "4").message == "a/b.json: got 3, expected 4."


@pytest.mark.parametrize(
    ("got", "shown"),
    [
        ("digit", "'digit'"),
        (Words("a full disk"), "a full disk"),
        (None, "null"),
        (True, "true"),
        (1, "1"),
        (0.5, "0.5"),
    ],
)
def test_values_are_shown_as_in_yaml_strings_quoted_and_words_not(got, shown):
    assert f"got {shown}," in FoldwiseError("key", got, "x").message


def test_a_long_value_is_cut_in_its_middle_to_a_readable_length():
    text = shorten("/start" + "x" * 1000 + "/end.png")
    assert len(text) == 120
    assert text.startswith("'/startx")
    assert "x...x" in text
    assert text.endswith("x/end.png'")
    assert shorten([1, 2], limit=6) == "[1, 2]"


def test_several_mistakes_have_a_line_each():
    mistakes = [ConfigError("a", 1, "2"), ConfigError("b", 3, "4", "Do that.")]
    assert ConfigErrors(mistakes).message.splitlines() == ["a: got 1, expected 2.", "b: got 3, expected 4. Do that."]
    assert str(ConfigErrors(mistakes)) == ConfigErrors(mistakes).message


def test_problems_in_data_have_a_line_each_below_one_that_counts_them():
    problems = [Problem("a.png", "cut off"), Problem("b.png", "empty")]
    error = DataProblems(Path("data/birds"), problems, "images that open", "Get them anew.")
    assert error.message == str(error)
    assert error.message.splitlines() == [
        "data/birds: got 2 problems, expected images that open. Get them anew.",
        "  a.png: cut off",
        "  b.png: empty",
    ]
    assert error.problems == problems
    assert isinstance(error, DataError)
    first, second = DataProblems("x", problems[:1], "y").message.splitlines()
    assert (first, second) == ("x: got 1 problem, expected y.", "  a.png: cut off")


@pytest.mark.parametrize(
    ("count", "limit", "lines", "last"),
    [(100, 100, 101, "  99: bad"), (101, 100, 102, "  and 1 more"), (7, 3, 5, "  and 4 more")],
)
def test_of_many_problems_the_first_are_shown_and_the_others_counted(count, limit, lines, last):
    problems = [Problem(str(number), "bad") for number in range(count)]
    shown = DataProblems("x", problems, "y", limit=limit).message.splitlines()
    assert shown[0] == f"x: got {count} problems, expected y."
    assert len(shown) == lines
    assert shown[-1] == last


def test_all_errors_are_foldwise_errors_and_config_errors_pass_through_pydantic():
    assert issubclass(DataError, FoldwiseError)
    assert issubclass(ConfigError, FoldwiseError)
    assert issubclass(ConfigError, ValueError)


def test_the_nearest_word_is_suggested_and_a_far_one_is_not():
    assert nearest("resnet81", ["resnet18", "densenet121"]) == "Did you mean 'resnet18'?"
    assert nearest("zebra", ["resnet18", "densenet121"]) == ""


def test_a_long_set_is_cut_and_counted():
    assert one_of("a") == "a"
    assert one_of("abc") == "one of a, b, c"
    assert one_of("abcde", limit=3) == "one of a, b, c and 2 more"
