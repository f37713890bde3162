"""A function of the user makes a variant; its mistakes are told with function, row and what is expected."""

import os
import re
import sys
import textwrap

import pytest

from foldwise.artifacts import read_csv, read_json, sha256, write_csv, write_json
from foldwise.config.canonical import differences
from foldwise.config.definition import DatasetRecord, Description, TaskRecord
from foldwise.config.names import parse_task
from foldwise.errors import DataError, FoldwiseError
from foldwise.tasks.descriptions import DatasetFiles
from foldwise.tasks.task import TaskFiles, create_task, derive_task, read_folds, read_samples, read_task

KINDS = {
    "classification": ("classification", "class", lambda k: "abc"[k % 3]),
    "numbers": ("classification", "class", lambda k: str(k % 3)),
    "multilabel": ("multilabel", "classes", lambda k: ["a", "b;c", "", "c"][k % 4]),
    "soft": ("multilabel", "soft_classes", lambda k: f"{k / 100};0.5"),
    "regression": ("regression", "value", lambda k: str(k / 7)),
    "segmentation": ("segmentation", "mask", lambda k: f"masks/{k}.png"),
    "unlabeled": ("unlabeled", "class", lambda k: ""),
}
LABELLED = [kind for kind in KINDS if kind != "unlabeled"]
SPLITS = ["train"] * 30 + ["test"] * 6 + ["unlabeled"] * 4
NAMES = [f"i{k:02d}" for k in range(40)]


class Project:
    """A task of 30 training samples in 5 folds, 6 for testing, 4 unlabeled; functions are in `my_tags.py`."""

    def __init__(self, folder):
        self.folder = folder

    def create(self, kind="classification", groups=None, **keys):
        type_, column, label_of = KINDS[kind]
        labels = [label_of(k) if split != "unlabeled" else "" for k, split in enumerate(SPLITS)]
        dataset = DatasetFiles.of(self.folder / "datasets/toy")
        write_csv(dataset.images, ("image",), [[name] for name in NAMES])
        rows = zip(NAMES, SPLITS, labels, groups or [""] * 40, strict=True)
        write_csv(dataset.annotations, ("image", "split", column, "group"), rows)
        record, checksums = DatasetRecord(dataset="toy"), {name: sha256(path) for name, path in dataset.tables.items()}
        found = {"class_names": [], "mask_values": [0, 1], "duplicates": [], "skipped": []}
        write_json(dataset.description, {"definition": differences(record), "checksums": checksums, **found})
        self.keys = {"type": type_, "dataset": "toy", **keys}
        if kind == "segmentation":
            self.keys["classes"] = ["back", "front"]
        self.parent = self.files_of("toy")
        create_task("toy", TaskRecord(**self.keys), record, Description(), 1, dataset, self.parent)
        return self

    def files_of(self, task):
        return TaskFiles.of(self.folder / "tasks" / task)

    def record_of(self, task, function="my_tags:change"):
        name, n_folds = parse_task(task, "task").on_folds(5, "task")
        return TaskRecord(
            **self.keys, n_folds=n_folds, tags=list(name.tags), functions=[function for _ in name.functions]
        )

    def derive(self, tags="own-change", function="my_tags:change"):
        """Derive a variant and all that lie between it and the task."""
        task, files = "toy", self.parent
        for tag in tags.split("+"):
            child, parent = f"{task}+{tag}", files
            files, records = self.files_of(child), [self.record_of(name, function) for name in (child, task)]
            derive_task(child, *records, Description(), 1, parent, files)
            task = child
        return files

    def write(self, body, parameters="samples"):
        code = f"import pandas as pd\ndef change({parameters}):\n{textwrap.indent(textwrap.dedent(body), '    ')}\n"
        (self.folder / "my_tags.py").write_text(code)
        sys.modules.pop("my_tags", None)  # as a job of its own would find it

    def change(self, body, tags="own-change"):
        self.write(body)
        return self.derive(tags)

    def message_of(self, body, tags="own-change", function="my_tags:change", parameters="samples"):
        self.write(body, parameters)
        with pytest.raises(FoldwiseError) as caught:
            self.derive(tags, function)
        assert not self.files_of("toy+own-change").description.exists()
        return caught.value.message


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield Project(tmp_path)
    for module in ("my_tags", "other"):
        sys.modules.pop(module, None)


def rows_of(files):
    return {sample.sample_id: sample for sample in read_samples(files)}


class TestWhatTheFunctionGets:
    @pytest.mark.parametrize("kind", KINDS)
    def test_the_samples_of_the_task_and_their_folds(self, project, kind):
        project.create(kind).change("samples.to_csv('seen.csv', index=False)\nreturn samples")
        columns = ["sample_id", "split", "fold", "image", KINDS[kind][1]]
        assert (project.folder / "seen.csv").read_text().partition("\n")[0] == ",".join(columns)
        seen, folds = read_csv("seen.csv", columns), read_folds(project.parent)
        assert list(zip(*seen.values(), strict=True)) == [
            (sample.sample_id, sample.split, str(folds.get(sample.sample_id, "")), sample.image, sample.target)
            for sample in read_samples(project.parent)
        ]

    def test_groups_if_there_are_some(self, project):
        project.create(groups=[f"g{k // 3}" for k in range(40)])
        project.change("assert list(samples.group[:4]) == ['g0', 'g0', 'g0', 'g1'], samples\nreturn samples")

    def test_numbers_where_they_are_numbers(self, project):
        project.create("regression").change("""
            assert str(samples.fold.dtype) == "Int64" and samples.fold[samples.split != "train"].isna().all()
            assert samples.value.dtype == float and samples.value.isna().sum() == 4
            return samples
        """)

    def test_classes_are_text_even_if_they_are_digits(self, project):
        project.create("numbers").change("assert set(samples['class']) == {'0', '1', '2', ''}\nreturn samples")

    def test_arguments_as_text(self, project):
        project.create().write("assert more == ('0.50', 'a_b', '7'), more\nreturn samples", "samples, *more")
        project.derive("own-change-0.50-a_b-7")


class TestWhatItReturns:
    @pytest.mark.parametrize("kind", KINDS)
    def test_an_unchanged_table_is_the_same_content(self, project, kind):
        files = project.create(kind).change("return samples")
        assert [path.read_bytes() for path in files[1:]] == [path.read_bytes() for path in project.parent[1:]]
        described, parent = read_json(files.description), read_json(project.parent.description)
        assert (described["classes"], described["counts"]) == (parent["classes"], parent["counts"])
        added = {"tags": ["own-change"], "functions": ["my_tags:change"]}
        assert described["definition"] == {**parent["definition"], **added}

    @pytest.mark.parametrize("kind", KINDS)
    def test_rows_are_dropped_and_their_order_has_no_meaning(self, project, kind):
        project.create(kind)
        files = project.change("return samples[samples.index % 4 != 0].sample(frac=1, random_state=3)")
        assert read_samples(files) == [sample for k, sample in enumerate(read_samples(project.parent)) if k % 4]
        before = read_folds(project.parent)
        assert read_folds(files) == {name: before[name] for name in before if int(name[1:]) % 4}

    @pytest.mark.parametrize(
        ("kind", "code", "target"),
        [
            ("classification", "samples.loc[1, 'class'] = 'c'", "c"),
            ("numbers", "samples['class'] = samples.index.map(lambda k: (k + 1) % 3)", "2"),
            ("multilabel", "samples['classes'] = 'c;a;c'", "a;c"),
            ("multilabel", "samples['classes'] = None", ""),
            ("soft", "samples['soft_classes'] = '1;.25'", "1.0;0.25"),
            ("regression", "samples['value'] = 3", "3.0"),
            ("regression", "samples['value'] = '1e-3'", "0.001"),
            ("regression", "samples['value'] = (samples['value'] * 0 + 0.5).astype('float32')", "0.5"),
        ],
    )
    def test_labels_change_but_not_those_of_unlabeled_samples(self, project, kind, code, target):
        samples = rows_of(project.create(kind).change(f"{code}\nreturn samples"))
        assert samples["i01"].target == target
        assert {samples[name].target for name in NAMES[36:]} == {""}

    @pytest.mark.parametrize("kind", LABELLED)
    def test_samples_move_between_splits(self, project, kind):
        files = project.create(kind).change("""
            samples = samples.set_index("sample_id")
            samples.loc["i30", ["split", "fold"]] = ["train", 4]
            samples.loc["i00", "split"] = "test"
            samples.loc["i01", "split"] = "unlabeled"
            return samples.reset_index()
        """)
        before, after = rows_of(project.parent), rows_of(files)
        assert [after[name].split for name in ("i00", "i01", "i30")] == ["test", "unlabeled", "train"]
        assert (after["i00"].target, after["i01"].target) == (before["i00"].target, "")
        folds = {**read_folds(project.parent), "i30": 4}
        assert read_folds(files) == {name: fold for name, fold in folds.items() if name not in ("i00", "i01")}

    @pytest.mark.parametrize(
        "form", ["", ".astype(float)", ".astype(object)", ".astype(str).where(samples.fold.notna())"]
    )
    def test_folds_change(self, project, form):
        code = f"samples['fold'] = (samples.fold + 1) % 5\nsamples['fold'] = samples.fold{form}\nreturn samples"
        files = project.create().change(code)
        assert read_folds(files) == {name: (fold + 1) % 5 for name, fold in read_folds(project.parent).items()}

    def test_a_training_sample_without_fold_keeps_its_own(self, project):
        files = project.create().change("samples['fold'] = None\nreturn samples")
        assert read_folds(files) == read_folds(project.parent)


class TestChains:
    @pytest.mark.parametrize("kind", LABELLED)
    def test_other_tags_go_on_from_what_it_made(self, project, kind):
        project.create(kind).write("return samples[samples.index >= int(first)]", "samples, first")
        files = project.derive("own-change-5+nested-0-2")
        before = read_folds(project.files_of("toy+own-change-5"))
        assert set(before) == set(NAMES[5:30])
        assert {name for name, row in rows_of(files).items() if row.split == "test"} == {
            name for name, fold in before.items() if fold == 0
        }
        assert set(read_folds(files).values()) == {0, 1}
        described = read_json(files.description)["definition"]
        assert (described["tags"], described["functions"]) == (["own-change-5", "nested-0-2"], ["my_tags:change"])

    def test_it_goes_on_from_what_other_tags_made(self, project):
        project.create().change(
            "assert set(samples['class']) == {'a', 'c', ''}\nreturn samples", "classes-a.c+own-change"
        )

    def test_a_label_of_a_class_that_another_tag_dropped_is_told(self, project):
        message = project.create().message_of("samples['class'] = 'b'\nreturn samples", "classes-a.c+own-change")
        assert "class 'b', expected one of a, c" in message

    def test_soft_labels_stay_soft_when_classes_are_kept(self, project):
        files = project.create("soft").change("return samples", "own-change+classes-0.1+own-change")
        task = read_task(files, project.record_of("toy+own-change+classes-0.1+own-change"))
        assert task.targets[:2].tolist() == [[0.0, 0.5], pytest.approx([0.01, 0.5])]

    def test_a_class_that_was_gone_before_is_no_mistake(self, project):
        project.create(ensure_balancing=False).write(
            "return samples[(samples['class'] != 'a') | (samples.fold == 0)]",
        )
        files = project.derive("own-change+nested-0-2")
        assert {row.target for row in rows_of(files).values() if row.split == "train"} == {"b", "c"}
        project.derive("own-change+nested-0-2+own-change")


class TestKeeping:
    @pytest.fixture
    def variant(self, project):
        project.create()
        return project.change("return samples[samples.index != 0]")

    def dates(self, files):
        return [path.stat().st_mtime_ns for path in files]

    def test_an_equal_result_is_kept(self, project, variant):
        before = self.dates(variant)
        project.write("# told otherwise\nreturn samples.drop(index=0)")
        os.utime("my_tags.py", ns=(0, 0))
        assert self.dates(project.derive()) == before

    def test_what_is_kept_is_not_older_than_the_code(self, project, variant):
        before = max(self.dates(variant)) + 10**9
        os.utime("my_tags.py", ns=(before, before))
        for path in variant:
            os.utime(path, ns=(0, 0))
        project.derive()
        assert min(self.dates(variant)) > 0

    def test_another_result_is_written(self, project, variant):
        project.change("return samples[samples.index > 1]")
        assert len(read_samples(variant)) == 38

    def test_another_function_under_the_same_name_is_noticed(self, project, variant):
        with pytest.raises(DataError) as caught:
            read_task(variant, project.record_of("toy+own-change", "other:change"))
        assert "got data made with functions ['my_tags:change'], expected functions ['other:change']" in str(
            caught.value
        )
        (project.folder / "other.py").write_text("def change(samples):\n    return samples\n")
        project.derive(function="other:change")
        assert read_json(variant.description)["definition"]["functions"] == ["other:change"]
        assert len(read_samples(variant)) == 40


class TestMistakesOfTheCall:
    def test_no_module(self, project):
        message = project.create().message_of("return samples", function="no_such:change")
        assert message.startswith("tagging.functions.change: got 'no_such:change', expected a module in the working")

    def test_no_such_function(self, project):
        message = project.create().message_of("return samples", function="my_tags:chang")
        assert message.startswith("tagging.functions.change: got 'my_tags:chang' (no function chang in ")
        assert message.endswith("my_tags.py), expected change. Did you mean 'change'?")

    @pytest.mark.parametrize(
        ("tags", "parameters", "called"),
        [
            ("own-change", "samples, share", "samples"),
            ("own-change-0.5", "samples", "samples, argument_1"),
            ("own-change-0.5-a", "samples, share", "samples, argument_1, argument_2"),
        ],
    )
    def test_other_arguments(self, project, tags, parameters, called):
        message = project.create().message_of("return samples", tags, parameters=parameters)
        expected = f"got def change({parameters}), expected def change({called}). Mend it, or the tag +{tags}."
        assert message == f"my_tags:change: {expected}"

    def test_a_failure_is_told_with_its_line(self, project):
        message = project.create().message_of(
            "return samples[samples.nothing > float(share)]", "own-change-x", parameters="samples, share"
        )
        assert message.startswith("my_tags:change for task toy+own-change-x: got AttributeError: ")
        assert "my_tags.py line 3, `return samples[samples.nothing" in message


class TestMistakesOfTheTable:
    @pytest.mark.parametrize(
        ("code", "got"),
        [
            ("pass", "a function that returns nothing"),
            ("return list(samples)", "what is a list"),
            ("return samples['split']", "what is a Series"),
            ("return samples.drop(columns='fold')", "columns sample_id, split, image, class,"),
            ("return samples.set_index('sample_id')", "columns split, fold, image, class,"),
            ("return samples.assign(folds=1)", "columns sample_id, split, fold, image, class, folds,"),
            (
                "return pd.concat([samples, samples.split], axis=1)",
                "columns sample_id, split, fold, image, class, split,",
            ),
        ],
    )
    def test_another_table(self, project, code, got):
        message = project.create().message_of(code)
        assert message.startswith(f"my_tags:change for task toy+own-change: got {got}")
        assert "expected a table of pandas with columns sample_id, split, fold, image, class. Mend" in message

    @pytest.mark.parametrize(
        ("kind", "code", "got"),
        [
            ("classification", "return samples[:0]", "got a table without rows, expected at least one sample"),
            ("unlabeled", "return samples[:0]", "got a table without rows, expected at least one sample"),
            (
                "regression",
                "return samples[samples.fold != 3]",
                "got no training sample in fold 3, expected training samples",
            ),
            ("regression", "return samples[samples.split != 'train']", "got no training sample in fold 0, 1, 2, 3, 4,"),
        ],
    )
    def test_too_little(self, project, kind, code, got):
        assert f"my_tags:change for task toy+own-change: {got}" in project.create(kind).message_of(code)

    def test_a_class_that_is_no_longer_learned(self, project):
        message = project.create().message_of("return samples[samples['class'] != 'b']")
        assert "expected training samples of every class. Leave classes out by a tag +classes." in message
        assert "\n  class 'b': no training sample" in message

    @pytest.mark.parametrize(
        ("code", "problem"),
        [
            ("samples.loc[0, 'fold'] = (samples.fold[0] + 1) % 5", r"'i00' in fold \d, 'i01' in fold \d"),
            ("samples.loc[0, 'split'] = 'test'", "'i00' in split test, 'i01' in split train"),
        ],
    )
    def test_a_group_that_is_torn_apart(self, project, code, problem):
        project.create("regression", groups=[f"g{k // 3}" for k in range(40)])
        message = project.message_of(f"{code}\nreturn samples")
        assert re.search(rf"\n  group 'g0': sample_id {problem}", message)


class TestMistakesOfRows:
    @pytest.mark.parametrize(
        ("kind", "column", "value", "reason"),
        [
            ("classification", "image", "'i03'", "image 'i03', expected 'i02' as it was"),
            ("classification", "split", "'val'", "split 'val', expected one of train, test, unlabeled"),
            ("classification", "split", "None", "split '', expected one of train, test, unlabeled"),
            ("unlabeled", "split", "'train'", "split 'train', expected unlabeled"),
            ("regression", "fold", "5", "fold '5' in split train, expected a whole number from 0 to 4"),
            ("regression", "fold", "-1", "fold '-1' in split train, expected a whole number from 0 to 4"),
            ("classification", "class", "'d'", "class 'd', expected one of a, b, c"),
            ("classification", "class", "''", "split train without class"),
            ("multilabel", "classes", "'a;d'", "class 'd', expected one of a, b, c"),
            ("soft", "soft_classes", "'0.5'", "soft_classes '0.5', expected 2 numbers joined by `;`"),
            ("soft", "soft_classes", "'0.5;2'", "2 is not from 0 to 1"),
            ("soft", "soft_classes", "'0.5;x'", "'x' is no finite number"),
            ("regression", "value", "float('inf')", "'inf' is no finite number"),
            ("regression", "value", "None", "split train without value"),
            ("segmentation", "mask", "'masks/3.png'", "mask 'masks/3.png', expected 'masks/2.png' as it was"),
            ("segmentation", "mask", "''", "split train without mask"),
        ],
    )
    def test_a_cell_that_cannot_be_used(self, project, kind, column, value, reason):
        message = project.create(kind).message_of(f"samples.loc[2, '{column}'] = {value}\nreturn samples")
        assert message == (
            "my_tags:change for task toy+own-change: got 1 problem, expected samples of the parent with splits, folds "
            "and labels that a task can have; rows are counted from 0. Mend the function.\n"
            f"  row 2 (sample_id 'i02'): {reason}"
        )

    @pytest.mark.parametrize(
        ("name", "shown", "reason"),
        [
            ("'i99'", "'i99'", "no sample_id of the parent"),
            ("None", "null", "no sample_id of the parent"),
            ("'i01'", "'i01'", "a second row of this sample, expected one"),
        ],
    )
    def test_a_sample_that_is_none_of_the_parent_or_there_already(self, project, name, shown, reason):
        message = project.create().message_of(f"samples.loc[2, 'sample_id'] = {name}\nreturn samples")
        assert message.endswith(f"\n  row 2 (sample_id {shown}): {reason}")

    def test_ids_that_became_numbers(self, project):
        message = project.create().message_of("return samples.assign(sample_id=samples.index)")
        assert "got 40 problems" in message
        assert "\n  row 0 (sample_id 0): no sample_id of the parent\n" in message

    def test_another_group(self, project):
        project.create(groups=[f"g{k // 3}" for k in range(40)])
        message = project.message_of("samples.loc[2, 'group'] = 'g1'\nreturn samples")
        assert message.endswith("row 2 (sample_id 'i02'): group 'g1', expected 'g0' as it was")

    @pytest.mark.parametrize(
        ("number", "kind", "reason"),
        [
            (30, "regression", "no fold in split train, expected a whole number from 0 to 4"),
            (36, "classification", "split train without class"),
            (36, "segmentation", "split train without mask"),
        ],
    )
    def test_a_new_training_sample_needs_a_fold_and_a_label(self, project, number, kind, reason):
        message = project.create(kind).message_of(f"samples.loc[{number}, 'split'] = 'train'\nreturn samples")
        assert message.endswith(f"\n  row {number} (sample_id 'i{number}'): {reason}")

    def test_all_rows_are_told(self, project):
        code = "samples.loc[[3, 7, 31], 'class'] = 'd'\nsamples.loc[38, 'split'] = 'tset'\nreturn samples[::-1]"
        message = project.create().message_of(code)
        assert "got 4 problems" in message
        assert re.findall(r"row (\d+) \(sample_id '(i\d+)'", message) == [
            ("1", "i38"), ("8", "i31"), ("32", "i07"), ("36", "i03")
        ]  # fmt: skip
