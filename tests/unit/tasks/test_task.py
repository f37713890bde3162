"""Tasks and their variants: splits, folds, descriptions."""

import json
import shutil
from collections import Counter

import numpy as np
import pytest

from foldwise.artifacts import FORMAT_VERSION, read_csv, read_json, sha256
from foldwise.config.definition import Description, TaskRecord
from foldwise.errors import DataError, MissingData
from foldwise.tasks.task import SPLITS, TaskFiles, create_task, derive_task, read_folds, read_samples, read_task

LABELS = {f"i{number:03d}": "cat" if number % 3 else "dog" for number in range(90)}


@pytest.fixture
def toy(make_dataset):
    return make_dataset({}, LABELS)


@pytest.fixture
def create(toy, tmp_path):
    """Create a task on the toy dataset."""

    def run(name="toy", revision=1, about=None, **keys):
        files = TaskFiles.of(tmp_path / "tasks" / name)
        record = TaskRecord(dataset="toy", **keys)
        create_task(name, record, toy.record, about or Description(), revision, toy.files, files)
        return files

    return run


@pytest.fixture
def derive(tmp_path):
    """Apply tags to a task that was created."""

    def run(parent, tags, parent_tags=(), n_folds=5, parent_folds=5, revision=1, **keys):
        record = TaskRecord(dataset="toy", tags=[*parent_tags, *tags], n_folds=n_folds, **keys)
        parent_record = TaskRecord(dataset="toy", tags=list(parent_tags), n_folds=parent_folds, **keys)
        name = "+".join(["toy", *record.tags])
        files = TaskFiles.of(tmp_path / "tasks" / name)
        derive_task(name, record, parent_record, Description(), revision, parent, files)
        return files

    return run


def ids_of(files, split):
    return {sample.sample_id for sample in read_samples(files) if sample.split == split}


def class_sizes(files, label, n_folds):
    """Return how many samples of a class each fold has."""
    folds, labels = read_folds(files), {sample.sample_id: sample.target for sample in read_samples(files)}
    counts = Counter(fold for sample, fold in folds.items() if labels[sample] == label)
    return [counts[fold] for fold in range(n_folds)]


def dates(files):
    return [path.stat().st_mtime_ns for path in files]


class TestSplits:
    def test_every_image_is_in_exactly_one_split(self, digits):
        samples = read_samples(digits.task)
        assert [sample.image for sample in samples] == [f"{number:04d}" for number in range(1797)]
        assert len({sample.sample_id for sample in samples}) == 1797
        assert {sample.split for sample in samples} == set(SPLITS)

    def test_test_and_unlabeled_take_their_share_of_each_class(self, digits):
        truth = dict(zip(*read_csv(digits.dataset.annotations, ["image", "class"]).values(), strict=True))
        samples = read_samples(digits.task)
        for label, count in Counter(truth.values()).items():
            splits = Counter(sample.split for sample in samples if truth[sample.image] == label)
            assert splits["test"] == round(count / 6)
            assert splits["unlabeled"] == round((count - splits["test"]) / 15)

    def test_only_unlabeled_samples_hide_their_class(self, digits):
        truth = dict(zip(*read_csv(digits.dataset.annotations, ["image", "class"]).values(), strict=True))
        for sample in read_samples(digits.task):
            assert sample.target == ("" if sample.split == "unlabeled" else truth[sample.image])

    def test_splits_do_not_depend_on_the_order_of_the_table(self, make_dataset, create, tmp_path):
        first = create()
        turned = make_dataset({}, dict(reversed(LABELS.items())), "turned")
        other = TaskFiles.of(tmp_path / "tasks/turned")
        create_task("turned", TaskRecord(dataset="toy"), turned.record, Description(), 1, turned.files, other)
        assert sorted(read_samples(other)) == sorted(read_samples(first))
        assert read_folds(other) == read_folds(first)

    def test_splits_depend_on_the_seed(self, create):
        first, second = create("first"), create("second", seed=43)
        assert ids_of(first, "test") != ids_of(second, "test")
        assert len(ids_of(first, "test")) == len(ids_of(second, "test"))


class TestFolds:
    @pytest.mark.parametrize("n_folds", [2, 5, 7])
    @pytest.mark.parametrize("balanced", [True, False])
    def test_folds_partition_the_training_samples_in_equal_sizes(self, create, n_folds, balanced):
        files = create(n_folds=n_folds, ensure_balancing=balanced)
        folds = read_folds(files)
        assert set(folds) == ids_of(files, "train")
        sizes = Counter(folds.values())
        assert set(sizes) == set(range(n_folds))
        assert max(sizes.values()) - min(sizes.values()) <= 1
        assert read_json(files.description)["folds"]["sizes"] == [sizes[fold] for fold in range(n_folds)]

    def test_balanced_folds_mirror_the_classes(self, create):
        files = create(n_folds=4)
        for label in ("cat", "dog"):
            sizes = class_sizes(files, label, 4)
            assert min(sizes) > 0
            assert max(sizes) - min(sizes) <= 1

    def test_balancing_and_seed_change_the_folds(self, create):
        folds = [read_folds(create(f"t{k}", **keys)) for k, keys in enumerate([{}, {"ensure_balancing": False}])]
        assert folds[0] != folds[1]

    def test_a_rare_class_is_named_with_task_and_count(self, make_dataset, tmp_path):
        labels = {f"i{number:03d}": "common" if number > 3 else "rare" for number in range(40)}
        rare, files = make_dataset({}, labels, "rare"), TaskFiles.of(tmp_path / "tasks/rare")
        with pytest.raises(DataError, match=r"task rare: got class 'rare' with 3 training samples"):
            create_task("rare", TaskRecord(dataset="rare"), rare.record, Description(), 1, rare.files, files)
        assert not files.description.exists()
        plain = TaskRecord(dataset="rare", ensure_balancing=False)
        create_task("rare", plain, rare.record, Description(), 1, rare.files, files)
        assert read_json(files.description)["classes"] == ["common", "rare"]


class TestDescription:
    def test_it_says_what_is_there(self, digits):
        found = read_json(digits.task.description)
        train = sum(found["counts"]["train"]["classes"].values())
        assert found["format_version"] == FORMAT_VERSION
        assert (found["task"], found["dataset"], found["type"]) == ("digits", "digits", "classification")
        assert found["classes"] == [str(digit) for digit in range(10)]
        assert [found["counts"][split]["samples"] for split in SPLITS] == [train, 299, 100]
        assert "classes" not in found["counts"]["unlabeled"]
        assert found["folds"]["n_folds"] == 5
        assert sum(found["folds"]["sizes"]) == train == 1398
        assert found["definition"] == {"dataset": "digits"}
        assert found["shared_images"] == []
        assert found["inputs"] == read_json(digits.dataset.description)["checksums"]
        assert found["checksums"] == {path.name: sha256(path) for path in digits.task[1:]}

    def test_licence_reference_and_keywords_are_told(self, create):
        about = Description(licence="CC0", reference="Doe 2020", keywords=["pets"])
        found = read_json(create(about=about).description)
        assert (found["licence"], found["reference"], found["keywords"]) == ("CC0", "Doe 2020", ["pets"])

    def test_bytes_are_the_same_each_time(self, create):
        files = create()
        first = [path.read_bytes() for path in files]
        shutil.rmtree(files.description.parent)
        assert [path.read_bytes() for path in create()] == first


class TestKeeping:
    def test_what_an_equal_definition_wrote_is_kept(self, create, derive):
        parent = create()
        child = derive(parent, ["nested-1"])
        before = dates(parent), dates(child)
        assert (dates(create()), dates(derive(parent, ["nested-1"]))) == before

    @pytest.mark.parametrize("change", [{"seed": 1}, {"n_folds": 3}, {"ensure_balancing": False}, {"revision": 2}])
    def test_another_definition_is_written_anew(self, create, change):
        before = dates(create())
        files = create(**change)
        assert all(new > old for new, old in zip(dates(files), before, strict=True))
        found = read_json(files.description)
        assert change.items() <= {**found["definition"], "revision": found["revision"]}.items()

    def test_another_dataset_is_read_anew(self, create, make_dataset):
        before = dates(create())
        make_dataset({}, {**LABELS, "new": "cat"})
        files = create()
        assert dates(files) != before
        assert len(read_samples(files)) == 91

    @pytest.mark.parametrize("place", [0, 1, 2])
    @pytest.mark.parametrize("variant", [False, True])
    def test_a_damaged_file_is_written_anew(self, create, derive, place, variant):
        def make():
            return derive(create(), ["nested-0"]) if variant else create()

        files = make()
        whole = [path.read_bytes() for path in files]
        files[place].write_bytes(whole[place][:-3])
        assert [path.read_bytes() for path in make()] == whole
        files[place].unlink()
        assert [path.read_bytes() for path in make()] == whole


class TestSources:
    def test_a_missing_dataset_is_named(self, toy, create):
        toy.dataset.unlink()
        with pytest.raises(MissingData, match=r"dataset\.json: got nothing"):
            create()

    def test_damaged_annotations_are_named(self, toy, create):
        toy.files.annotations.write_text(toy.files.annotations.read_text().replace("i000,dog", "i000,cat"))
        with pytest.raises(DataError, match=r"annotations\.csv: got other content than dataset\.json vouches for"):
            create()

    def test_a_damaged_parent_is_named(self, create, derive):
        parent = create()
        parent.samples.write_text(parent.samples.read_text().replace("test", "train", 1))
        with pytest.raises(DataError, match=r"samples\.csv: got other content than task\.json vouches for"):
            derive(parent, ["nested-0"])

    def test_a_parent_of_another_definition_is_named_with_both(self, create, derive):
        parent = create(seed=1)
        with pytest.raises(DataError, match="got data made with seed 1, expected seed 42 as configured"):
            derive(parent, ["nested-0"])


class TestNested:
    @pytest.mark.parametrize("outer", [0, 4])
    def test_the_outer_fold_becomes_the_test_split_and_the_old_one_is_dropped(self, create, derive, outer):
        parent = create()
        child = derive(parent, [f"nested-{outer}"])
        folds = read_folds(parent)
        assert ids_of(child, "test") == {sample for sample, fold in folds.items() if fold == outer}
        assert ids_of(child, "train") == {sample for sample, fold in folds.items() if fold != outer}
        assert ids_of(child, "unlabeled") == set()
        assert ids_of(parent, "test").isdisjoint(sample.sample_id for sample in read_samples(child))
        assert read_json(child.description)["classes"] == ["cat", "dog"]

    def test_the_rest_is_dealt_into_folds(self, create, derive):
        child = derive(create(), ["nested-0-3"], n_folds=3)
        assert set(read_folds(child)) == ids_of(child, "train")
        for label in ("cat", "dog"):
            sizes = class_sizes(child, label, 3)
            assert max(sizes) - min(sizes) <= 1

    def test_test_samples_keep_their_class(self, create, derive):
        parent = create()
        labels = {sample.sample_id: sample.target for sample in read_samples(parent)}
        assert all(labels[sample.sample_id] == sample.target for sample in read_samples(derive(parent, ["nested-2"])))

    def test_folds_of_different_outer_folds_are_dealt_independently(self, create, derive):
        parent = create()
        first, second = (read_folds(derive(parent, [tag])) for tag in ("nested-0", "nested-1"))
        common = sorted(first.keys() & second.keys())
        assert [first[sample] for sample in common] != [second[sample] for sample in common]

    def test_a_variant_of_a_variant(self, create, derive):
        outer = derive(create(), ["nested-0"])
        inner = derive(outer, ["nested-1"], parent_tags=["nested-0"])
        folds = read_folds(outer)
        assert ids_of(inner, "test") == {sample for sample, fold in folds.items() if fold == 1}
        assert ids_of(inner, "test").isdisjoint(ids_of(outer, "test"))

    def test_too_few_samples_for_the_inner_folds_are_named(self, create, derive):
        parent = create()
        with pytest.raises(DataError, match=r"task toy\+nested-0-30: got class 'dog' with 19 training samples"):
            derive(parent, ["nested-0-30"], n_folds=30)


def test_identity_is_the_same_content_under_another_name(create, derive):
    parent = create()
    child = derive(parent, ["identity"])
    assert child.samples.read_bytes() == parent.samples.read_bytes()
    assert child.folds.read_bytes() == parent.folds.read_bytes()
    assert read_json(child.description)["task"] == "toy+identity"


class TestReading:
    def test_arrays_agree_with_the_tables(self, digits, digits_task):
        samples, folds = read_samples(digits.task), read_folds(digits.task)
        assert digits_task.name == digits_task.dataset == "digits"
        assert digits_task.sample_ids.tolist() == [sample.sample_id for sample in samples]
        assert digits_task.images.tolist() == [sample.image for sample in samples]
        for place in (0, 1, 500, 1796):
            sample = samples[place]
            expected = int(sample.target) if sample.target else -1
            assert digits_task.targets[place] == expected
            assert digits_task.folds[place] == folds.get(sample.sample_id, -1)
        assert digits_task.targets.dtype == digits_task.folds.dtype == np.int64
        assert not digits_task.sample_ids.dtype.hasobject

    @pytest.mark.parametrize("fold", [0, 4])
    def test_train_and_val_share_nothing_and_leave_test_alone(self, digits_task, fold):
        places = {name: set(digits_task.split(name, fold).tolist()) for name in ("train", "val", "test", "unlabeled")}
        assert sum(map(len, places.values())) == len(set().union(*places.values())) == 1797
        assert set(digits_task.folds[list(places["val"])]) == {fold}
        assert fold not in digits_task.folds[list(places["train"])]
        assert set(digits_task.splits[list(places["train"] | places["val"])]) == {"train"}

    @pytest.mark.parametrize("name", ["samples", "folds"])
    def test_a_changed_table_is_named(self, own_digits, name):
        path = getattr(own_digits.task, name)
        path.write_bytes(path.read_bytes().replace(b"1\n", b"2\n", 1).replace(b",1,", b",2,", 1))
        with pytest.raises(DataError, match=rf"{name}\.csv: got other content than task\.json vouches for"):
            read_task(own_digits.task, own_digits.task_record)

    @pytest.mark.parametrize("place", [0, 1, 2])
    def test_a_missing_file_is_named(self, own_digits, place):
        own_digits.task[place].unlink()
        with pytest.raises(MissingData, match=own_digits.task[place].name):
            read_task(own_digits.task, own_digits.task_record)

    def test_another_definition_is_told_with_both(self, digits):
        with pytest.raises(DataError, match="got data made with n_folds 5, expected n_folds 3 as configured"):
            read_task(digits.task, TaskRecord(dataset="digits", n_folds=3))

    def test_a_task_of_another_format_version_is_named(self, own_digits):
        path = own_digits.task.description
        path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": "9.0.0"}))
        with pytest.raises(DataError, match=r"task\.json: got format version 9\.0\.0"):
            read_task(own_digits.task, own_digits.task_record)
