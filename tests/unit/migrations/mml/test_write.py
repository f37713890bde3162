"""The way back: descriptions between versions, byte for byte, and of our tasks."""

import json
from pathlib import Path

import pytest

from foldwise.artifacts import sha256, write_csv, write_json
from foldwise.errors import DataError, DataProblems
from foldwise.migrations.mml.description import read_description
from foldwise.migrations.mml.keys import KEYS
from foldwise.migrations.mml.write import (
    Kept,
    file_name,
    mml_name,
    mml_names,
    new_extra,
    to_0_11,
    to_1_0,
    write_description,
)
from foldwise.tasks.task import TaskFiles

FIXTURES = Path(__file__).parents[1] / "fixtures"
OLD = sorted(path.name.split(".")[0] for path in FIXTURES.glob("*.0.11.json"))
PLACE = Path("DSET_fw_digits")


@pytest.mark.parametrize("fixture", OLD)
def test_both_ways_are_those_of_mml_core(fixture):
    old, new = ((FIXTURES / f"{fixture}{version}.json").read_bytes() for version in (".0.11", ""))
    extra = new_extra(PLACE / f"TASK_fw_{fixture}.json")
    assert to_1_0(old) == (new, extra)
    assert to_0_11(new, extra) == old


ODD = (
    '\n{ "tags" : [ "a" ],"train_tuples":{"tags": {}} ,"x": 1e-6, "alias":"\\u00e9", "top_performance": 1E+22,'
    '"unlabeled_tuples" :{}, "task_id":"a%b","test_tuples":{ } ,\t"orig_performance": -0.0 }\n'
)


def test_spellings_blanks_and_order_survive():
    new, extra = to_1_0(ODD.encode())
    assert [kept.place for kept in extra] == [4, 6, 8]
    assert b'"top_performance"' not in new
    assert b'{ "keywords" : [ "a" ],"train_samples":{"tags": {}} ,"x": 1e-6, "name":"\\u00e9",' in new
    assert to_0_11(new, extra) == ODD.encode()


def test_what_is_kept_survives_json():
    _, extra = to_1_0(ODD.encode())
    assert tuple(Kept(*kept) for kept in json.loads(json.dumps(extra))) == extra


def test_a_description_of_the_other_version_is_refused():
    old, new = ((FIXTURES / f"cls{version}.json").read_bytes() for version in (".0.11", ""))
    with pytest.raises(DataError, match=r"a\.json: got no key alias"):
        to_1_0(new, "a.json")
    with pytest.raises(DataError, match="got no key name"):
        to_0_11(old, ())
    with pytest.raises(DataError, match="the key name"):
        to_1_0(old.replace(b'{"task_id"', b'{"name":"","task_id"'))


def make_task(folder, kind, column, rows, classes=("a", "b"), **more):
    """Write a task: rows of id, split, target and fold."""
    files = TaskFiles.of(folder)
    write_csv(
        files.samples,
        ("sample_id", "split", "image", column, "group"),
        [(name, split, f"i{name}", target, "") for name, split, target, _ in rows],
    )
    write_csv(files.folds, ("sample_id", "fold"), [(name, fold) for name, _, _, fold in rows if fold is not None])
    sums = {path.name: sha256(path) for path in (files.samples, files.folds)}
    write_json(files.description, {"task": "toy.v2", "type": kind, "classes": list(classes), **more, "checksums": sums})
    return files


def rows_of(*targets):
    """Return three training samples in three folds, a test sample and an unlabeled one."""
    labelled = [(str(place), "train", target, place) for place, target in enumerate(targets[:3])]
    return [*labelled, ("3", "test", targets[3], None), ("4", "unlabeled", "", None)]


IMAGES = {f"i{number}": f"files/{number}.{'jpg' if number else 'png'}" for number in range(5)}
TASKS = {
    "classification": ("class", rows_of("b", "a", "b", "a"), "class", ["b", "a", "b"], {"a": 1, "b": 2}),
    "multilabel": (
        "classes", rows_of("a;b", "", "b", "a"), "soft_classes", [(1.0, 1.0), (0.0, 0.0), (0.0, 1.0)], {"a": 1, "b": 2},
    ),
    "soft": (
        "soft_classes", rows_of("0.5;1.0", "0.25;0.0", "0;0.5", "0;1"), "soft_classes",
        [(0.5, 1.0), (0.25, 0.0), (0.0, 0.5)], {"a": 0, "b": 1},
    ),
    "regression": ("value", rows_of("1", "-0.1", "1e-6", "2"), "value", [1.0, -0.1, 1e-6], {"min": 0, "max": 0}),
    "segmentation": (
        "mask", rows_of("masks/0.png", "masks/1.png", "masks/2.png", "masks/3.png"), "mask", [None] * 3,
        {"a": 3, "b": 3},
    ),
    "unlabeled": ("class", [(str(number), "train", "", None) for number in range(3)], None, None, {}),
}  # fmt: skip


@pytest.mark.parametrize("kind", TASKS)
def test_what_is_written_of_every_type_is_read_as_it_was(tmp_path, kind):
    column, rows, modality, labels, occurrences = TASKS[kind]
    ours = "multilabel" if kind == "soft" else kind
    classes = () if kind in ("regression", "unlabeled") else ("a", "b")
    raw = write_description(make_task(tmp_path / "task", ours, column, rows, classes), IMAGES)
    path = tmp_path / "TASK_toy.json"
    path.write_bytes(raw)
    tree, found = json.loads(raw), read_description(path)
    assert sorted(tree) == sorted(KEYS)
    assert (found.name, found.type, found.classes, found.in_no_fold) == ("toy_v2", ours, classes, ())
    assert tree["class_occ"] == occurrences
    assert tree["license"] == "unknown"
    assert set(tree["modalities"]) == {"image", *([modality] if modality else [])}
    assert tree["modalities"]["image"] == ".jpg; .png; "
    if kind == "unlabeled":
        assert list(found.samples["unlabeled"]) == ["0", "1", "2"]
        assert (found.folds, found.samples["train"]) == ([], {})
        return
    assert found.folds == [["0"], ["1"], ["2"]]
    assert [sample.label for sample in found.samples["train"].values()] == labels
    assert [sample.image for sample in found.samples["train"].values()] == [IMAGES["i0"], IMAGES["i1"], IMAGES["i2"]]
    assert list(found.samples["test"]) == ["3"]
    assert list(found.samples["unlabeled"]) == ["4"]
    if kind == "segmentation":
        assert [sample.mask for sample in found.samples["train"].values()] == [row[2] for row in rows[:3]]


def test_what_lists_of_mml_core_cannot_say_goes_into_the_description(tmp_path):
    column, rows, *_ = TASKS["classification"]
    about = {"licence": "Ours", "keywords": ["eye", "birds"], "reference": "Us, 2026"}
    tree = json.loads(write_description(make_task(tmp_path, "classification", column, rows, **about), IMAGES))
    assert tree["license"] == "License defined in TaskCreator description"
    assert (tree["keywords"], tree["reference"]) == (["eye"], "Us, 2026")
    assert tree["description"] == "Licence: Ours\nKeywords: birds"
    known = make_task(tmp_path, "classification", column, rows, licence="CC BY 4.0")
    tree = json.loads(write_description(known, IMAGES, name="other"))
    assert tree["license"] == "Creative Commons Attribution 4.0 International"
    assert (tree["name"], tree["description"]) == ("other", "")


def test_masks_may_have_values_of_their_own(tmp_path):
    column, rows, *_ = TASKS["segmentation"]
    files = make_task(tmp_path, "segmentation", column, rows)
    masks = {f"masks/{number}.png": f"m/{number}.png" for number in range(4)}
    tree = json.loads(write_description(files, IMAGES, masks=masks, mask_values={"a": [3], "b": [7, 5]}))
    assert tree["idx_to_class"] == {"3": "a", "5": "b", "7": "b"}
    assert tree["train_samples"]["1"]["mask"] == "m/1.png"
    for values in ({"a": [3], "b": [2]}, {"a": [0], "b": [255]}):
        with pytest.raises(DataError, match=r"task\.json: got masks with values"):
            write_description(files, IMAGES, mask_values=values)


@pytest.mark.parametrize(
    ("kind", "rows", "images", "where", "reason"),
    [
        ("classification", rows_of("a", "", "b", "a"), {}, "1", "a train sample without a label"),
        ("classification", rows_of("a", "b", "b", ""), {}, "3", "a test sample without a label"),
        ("classification", rows_of("a", "c", "b", "a"), {}, "1", "c is not known"),
        ("classification", rows_of("a", "b", "b", "a"), {"i0": "../a.png"}, "0", "not inside"),
        ("classification", rows_of("a", "b", "b", "a"), {"i0": "/a.png"}, "0", "not inside"),
        ("classification", rows_of("a", "b", "b", "a"), {"i0": "a.dcm"}, "0", "none of .png"),
        ("classification", [("0", "train", "a", 0), ("1", "train", "b", None)], {}, "1", "in no fold"),
        ("classification", [("0", "train", "a", 0)], {}, "folds", "1 folds"),
        ("segmentation", rows_of("a.png", "b.tif", "c.png", "d.png"), {}, "1", "none of .png"),
    ],
)
def test_samples_that_cannot_be_written_are_listed(tmp_path, kind, rows, images, where, reason):
    files = make_task(tmp_path, kind, TASKS[kind][0], rows)
    with pytest.raises(DataProblems, match="samples that mml-core can read") as caught:
        write_description(files, {**IMAGES, **images})
    assert any(problem.where == where and reason in problem.reason for problem in caught.value.problems)


def test_a_changed_table_is_refused(tmp_path):
    files = make_task(tmp_path, "classification", *TASKS["classification"][:2])
    files.samples.write_text(files.samples.read_text().replace("train", "test"))
    with pytest.raises(DataError, match="other content than"):
        write_description(files, IMAGES)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("digits", "digits"),
        ("h.dot", "h_dot"),
        ("digits+nested-0", "digits+nested?0"),
        ("digits+subset-0.05-3+nested-1-4", "digits+subset?0_05?3+nested?1?4"),
        ("digits+noise-0.1+nested-0", "digits-noise-0_1-nested-0"),
    ],
)
def test_names(ours, theirs):
    assert mml_name(ours) == theirs
    assert file_name(theirs) == f"TASK_{theirs}.json"


def test_no_two_tasks_have_one_name():
    assert mml_names(["a.b", "a_b", "a.b+identity"]) == {"a.b": "a_b_2", "a_b": "a_b", "a.b+identity": "a_b+identity"}
