"""Files that cannot be read are named once, the first ten by name."""

import pytest

from foldwise.artifacts import read_json, write_text
from foldwise.report.skipped import Skipped


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "Expecting property name"),
        ("[]", "no mapping"),
        ('{"format_version": "9.0"}', "format version 9.0"),
        ("{}", "it lacks 'score'"),
        ('{"score": null}', "float"),
        (None, "missing"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(tmp_path, content, reason):
    skipped, path = Skipped(), tmp_path / "model.json"
    if content is not None:
        write_text(path, content)
    with skipped.noting(path):
        float(read_json(path)["score"])
    ((where, why),) = skipped.problems
    assert where == str(path)
    assert reason in why
    assert skipped.told()[0].startswith(f"Skipped 1 file that cannot be read: {path}: ")


def test_what_is_no_damage_is_an_error():
    with pytest.raises(AssertionError), Skipped().noting("file"):
        raise AssertionError


def test_ten_are_named_and_the_others_counted():
    skipped = Skipped()
    assert skipped.told() == []
    for number in range(13):
        skipped.note(f"file-{number}", "0 bytes")
        skipped.note(f"file-{number}", "again")
    (line,) = skipped.told()
    assert line.startswith("Skipped 13 files that cannot be read: file-0: 0 bytes; file-1: 0 bytes; ")
    assert line.endswith("; file-9: 0 bytes; and 3 more")
