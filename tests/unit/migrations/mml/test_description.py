"""Descriptions of mml-core: all task types, both versions, and what is refused."""

import json
from pathlib import Path

import pytest

from foldwise.errors import DataError, DataProblems, MissingData
from foldwise.migrations.mml.description import Sample, read_description
from foldwise.migrations.mml.keys import EMPTY_MASK

FIXTURES = Path(__file__).parents[1] / "fixtures"
TYPES = {
    "cls": "classification",
    "merged": "classification",
    "nested": "classification",
    "multi": "multilabel",
    "soft": "multilabel",
    "seg": "segmentation",
    "reg": "regression",
    "unl": "unlabeled",
}


@pytest.fixture
def change(tmp_path):
    """Write a description of a root that differs from a fixture."""

    def run(fixture, edit):
        tree = json.loads((FIXTURES / f"{fixture}.json").read_text(encoding="utf-8"))
        edit(tree)
        path = tmp_path / "RAW" / "DSET_toy" / "TASK_toy.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(tree), encoding="utf-8")
        return path

    return run


@pytest.mark.parametrize(("fixture", "kind"), TYPES.items())
def test_every_type_is_read(fixture, kind):
    path = FIXTURES / f"{fixture}.json"
    found = read_description(path)
    tree = json.loads(path.read_bytes())
    assert (found.type, found.version, found.name) == (kind, "1.0", tree["name"])
    assert found.raw == path.read_bytes()
    assert found.folds == tree["train_folds"]
    assert {split: list(samples) for split, samples in found.samples.items()} == {
        split: list(tree[f"{split}_samples"]) for split in ("train", "test", "unlabeled")
    }
    assert found.licence == "Creative Commons Attribution 4.0 International"
    assert found.keywords == ("handwritings", "chars_or_digits")


@pytest.mark.parametrize("fixture", sorted(path.name.split(".")[0] for path in FIXTURES.glob("*.0.11.json")))
def test_both_versions_say_the_same(fixture):
    old, new = (read_description(FIXTURES / f"{fixture}{version}.json") for version in (".0.11", ""))
    assert (old.version, new.version) == ("0.11", "1.0")
    assert (old.name, old.samples, old.folds, old.classes) == (new.name, new.samples, new.folds, new.classes)


def test_labels_are_names_of_classes_and_numbers():
    def first(fixture):
        return next(iter(read_description(FIXTURES / f"{fixture}.json").samples["test"].items()))

    assert first("cls")[1].label in ("zero", "one", "two")
    assert set(first("multi")[1].label) <= {"round", "closed", "straight"}
    assert first("soft")[1].label == (0.25, 1.0)
    assert isinstance(first("reg")[1].label, float)
    assert first("seg")[1].mask == f"testing_labels/{first('seg')[0]}.png"
    unlabeled = read_description(FIXTURES / "unl.json").samples["unlabeled"]
    assert unlabeled["000048"] == Sample("unlabeled_data/000048.png")


def test_merged_classes_are_in_order_of_their_values(change):
    found = read_description(FIXTURES / "merged.json")
    assert found.idx_to_class == {0: "zero", 3: "other", 7: "other"}
    assert found.classes == ("zero", "other")
    path = change("merged", lambda tree: tree.update(idx_to_class={"7": "b", "3": "a", "0": "zero"}))
    assert list(read_description(path).idx_to_class) == [7, 3, 0]
    assert read_description(path).classes == ("zero", "a", "b")


def test_an_empty_mask_is_told_apart_from_none():
    masks = [sample.mask for sample in read_description(FIXTURES / "seg.json").samples["train"].values()]
    assert EMPTY_MASK in masks
    assert None not in masks


def test_training_samples_in_no_fold_are_reported(change):
    path = change("cls", lambda tree: tree["train_folds"].pop(1))
    lost = json.loads((FIXTURES / "cls.json").read_bytes())["train_folds"][1]
    assert sorted(read_description(path).in_no_fold) == sorted(lost)
    assert read_description(FIXTURES / "cls.json").in_no_fold == ()


def put(*keys):
    """Return a function that sets a value deep in a tree: keys, then the value."""

    def edit(tree):
        *path, last, value = keys
        for key in path:
            tree = tree[key]
        tree[last] = value

    return edit


STRUCTURE = [
    ("cls", put("colour", 1), "TASK_toy.json: colour: got an unknown key"),
    ("cls", lambda tree: tree.pop("release"), "TASK_toy.json: release: got no such key"),
    ("cls.0.11", lambda tree: tree.pop("task_id"), "TASK_toy.json: task_id: got no such key"),
    ("cls.0.11", put("keywords", []), "keywords: got an unknown key"),
    ("cls", put("description", None), "description: got null, expected a text"),
    ("cls", put("means", ["a"]), "means: .* expected a list of numbers"),
    ("cls", put("keywords", "a"), "keywords: .* expected a list of texts"),
    ("cls", put("class_occ", {"a": "b"}), "class_occ: .* expected a mapping to whole numbers"),
    ("cls", put("train_folds", [1]), "train_folds: .* expected a list of lists"),
    ("cls", put("test_samples", {"a": 1}), "test_samples: .* expected a mapping of samples"),
    ("cls", put("name", ""), "name: .* expected the name of a task"),
    ("cls", put("task_type", "detection"), "task_type: got 'detection', expected one of"),
    ("cls", put("idx_to_class", {"a": "b"}), "idx_to_class: got 'a', expected whole numbers"),
    ("cls", put("idx_to_class", {}), "idx_to_class: got no classes"),
    ("multi", put("idx_to_class", {"0": "a", "2": "b"}), r"idx_to_class: got keys \[0, 2\]"),
    ("multi", put("idx_to_class", {"0": "a;b", "1": "c", "2": "d"}), "a name with `;`"),
    ("seg", put("idx_to_class", {"0": "a", "255": "b"}), "idx_to_class: got 255"),
    ("cls", put("modalities", {"image": "", "bbox": ""}), "modalities: got 'bbox'"),
    ("cls", put("modalities", {"image": ""}), "modalities: got image, expected image and class"),
    ("multi", put("modalities", {"image": "", "classes": "", "soft_classes": ""}), "modalities: got image, classes"),
]


@pytest.mark.parametrize(("fixture", "edit", "message"), STRUCTURE)
def test_a_description_of_another_form_is_refused(change, fixture, edit, message):
    with pytest.raises(DataError, match=message):
        read_description(change(fixture, edit))


IMAGE = ("train_samples", "000001", "image")
PROBLEMS = [
    ("cls", put("train_samples", "000001", "class", 9), "train_samples.000001", "class 9 has no name"),
    ("cls", put("train_samples", "000001", "class", True), "train_samples.000001", "class true has no name"),
    ("cls", put("train_samples", "000001", {"image": "a.png"}), "train_samples.000001", "no class"),
    ("cls", put("train_samples", "000001", {"class": 1}), "train_samples.000001", "no image"),
    ("cls", put("train_samples", "000001", "sound", "a"), "train_samples.000001", "unknown modality sound"),
    ("cls", put(*IMAGE, "../../../a.png"), "train_samples.000001", "outside the data root"),
    ("cls", put(*IMAGE, "/etc/a.png"), "train_samples.000001", "outside the data root"),
    ("cls", put(*IMAGE, "..\\..\\..\\a.png"), "train_samples.000001", "outside the data root"),
    ("cls", put(*IMAGE, "C:\\a.png"), "train_samples.000001", "drive of another system"),
    ("cls", put(*IMAGE, ""), "train_samples.000001", "no path"),
    ("cls", put("train_folds", [["nobody"]]), "train_folds.0", "nobody is no training sample"),
    ("cls", put("train_folds", [["000001"], ["000001"]]), "train_folds.1", "000001 is in fold 0 too"),
    ("cls", put("test_samples", "000001", {"image": "a.png", "class": 1}), "test_samples.000001", "in train_samples"),
    ("multi", put("train_samples", "000001", "classes", 1), "train_samples.000001", "no list"),
    ("soft", put("train_samples", "000001", "soft_classes", [0.5]), "train_samples.000001", "1 numbers for 2"),
    ("soft", put("train_samples", "000001", "soft_classes", [0.5, 2]), "train_samples.000001", "from 0 to 1"),
    ("reg", put("train_samples", "000001", "value", "a"), "train_samples.000001", "no number"),
    ("seg", put("train_samples", "000001", "mask", None), "train_samples.000001", "no mask"),
]


@pytest.mark.parametrize(("fixture", "edit", "where", "reason"), PROBLEMS)
def test_what_does_not_agree_is_listed(change, fixture, edit, where, reason):
    path = change(fixture, edit)
    with pytest.raises(DataProblems, match="a description whose samples") as caught:
        read_description(path)
    assert caught.value.where == str(path)
    assert any(problem.where == where and reason in problem.reason for problem in caught.value.problems)


@pytest.mark.parametrize(
    ("written", "read"),
    [("../DSET_b/a.png", "../DSET_b/a.png"), ("a\\b.png", "a/b.png"), ("../../DOWNLOADS/a.png",) * 2],
)
def test_paths_may_lead_about_the_root(change, written, read):
    path = change("cls", put(*IMAGE, written))
    assert read_description(path).samples["train"]["000001"].image == read


def test_an_absolute_path_may_lie_in_the_root(change, tmp_path):
    image = str(tmp_path / "elsewhere" / "a.png")
    path = change("cls", put(*IMAGE, image))
    assert read_description(path).samples["train"]["000001"].image == image
    with pytest.raises(DataProblems, match="outside the data root"):
        read_description(path, tmp_path / "RAW")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "the end at character 0"),
        (b"\xef\xbb\xbf{}", "a byte order mark"),
        (b"\xff{}", "other bytes than UTF-8 at byte 0"),
        (b"[]", r"'\[' at character 0"),
        (b'{"name": NaN}', "NaN"),
        (b'{"name": "a", "name": "b"}', "the key name twice"),
        (b'{"idx_to_class": {"0": "a", "0": "b"}}', "the key 0 twice"),
        (b'{"n\\u0061me": "a"}', "spelt with escapes"),
        (b'{"name": "a"} {}', "more after the object"),
        (b'{"name": "a"', "the end at character"),
        (b'{"a":' + b"[" * 100000, "cannot be read"),
        (b"{}", "name: got no such key"),
    ],
)
def test_a_file_that_is_no_description_is_refused(tmp_path, raw, message):
    path = tmp_path / "TASK_a.json"
    path.write_bytes(raw)
    with pytest.raises(DataError, match=message) as caught:
        read_description(path)
    assert str(path) in caught.value.message


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(MissingData, match=r"TASK_a\.json"):
        read_description(tmp_path / "TASK_a.json")
