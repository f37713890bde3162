"""Ensembles of members whose logits are on disk."""

import hashlib
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics
from scipy.special import softmax

from foldwise.artifacts import FORMAT_VERSION, read_json, read_npz, write_npz
from foldwise.config.jobs import EnsembleConfig
from foldwise.config.metrics import Metrics
from foldwise.config.modes import EnsembleSearch
from foldwise.errors import DataError, MissingData
from foldwise.inference.metrics import compute_metrics
from foldwise.post import combine as module
from foldwise.post.combine import EnsembleFiles, combine
from foldwise.post.members import Member
from unit.post.ensembling import TYPES, draw, plant

ENGINE = Path(__file__).resolve().parents[3] / "scripts"
SEARCHES = ("random", "greedy", "convex")
TEST, VAL, SIDE = 300, 210, 4


def maps(logits):
    """Arrange rows of pixels as maps of a few pixels a side."""
    pixels = logits.reshape(-1, SIDE, SIDE, logits.shape[-1])
    return np.moveaxis(pixels, -1, 1).astype(np.float16)


def shape(kind, logits, targets):
    """Bring logits and targets into the form that they have in files."""
    if kind == "segmentation":
        return maps(logits), targets.reshape(-1, SIDE, SIDE).astype(np.uint8)
    return logits.astype(np.float32), targets[:, 0].astype(np.float32) if kind == "regression" else targets


def nothing(kind, targets):
    """Return targets of samples without labels."""
    return np.full_like(targets, {"classification": -1, "regression": np.nan}.get(kind, 255))


class Project:
    """Members in a folder: on 300 test samples, 40 that are unlabeled, and 210 of validation in three folds."""

    def __init__(self, folder, kind="classification", make=plant, **keys):
        self.folder, self.kind = folder, kind
        side = SIDE**2 if kind == "segmentation" else 1
        count = (TEST + 40 + VAL) * side
        logits, targets = make(kind, samples=count, classes=1 if kind == "regression" else 3, **keys)
        generator = np.random.default_rng(5)
        order = generator.permutation(TEST)
        self.members = []
        for number, own in enumerate(logits):
            rows, labels = shape(kind, own, targets)
            places = dict(
                zip(("test", "unlabeled", "val"), np.split(np.arange(len(rows)), [TEST, TEST + 40]), strict=True)
            )
            places["test"] = order
            labels[places["unlabeled"]] = nothing(kind, labels[places["unlabeled"]])
            paths = [folder / f"member-{number}" / f"fold-{fold}.npz" for fold in range(3)]
            for fold, path in enumerate(paths):
                arrays = {}
                for split, found in (*places.items(), ("val", places["val"][fold::3])):
                    arrays |= {f"{split}_logits": rows[found], f"{split}_targets": labels[found]}
                    arrays[f"{split}_ids"] = np.array([f"s{place:03}" for place in found])
                write_npz(path, arrays)
            self.members.append(Member(f"m{number}", tuple(paths), tuple(paths)))

    def change(self, number, fold=0, **arrays):
        """Replace arrays of a file; None takes one out."""
        path = self.members[number].targets[fold]
        changed = {**read_npz(path), **arrays}
        write_npz(path, {name: array for name, array in changed.items() if array is not None})
        return path

    def read(self, number, fold=0):
        return read_npz(self.members[number].targets[fold])

    def run(self, members=None, bootstrap=0, seed=42, to="ensemble", told=None, warned=None, metrics=None, **keys):
        """Combine members; returns the ensemble, its logits, and its metrics."""
        files = EnsembleFiles(*(self.folder / to / name for name in ("ensemble.json", "logits.npz", "metrics.json")))
        found = self.members if members is None else members
        if keys.get("selection") != "val":
            found = [Member(member.name, (), member.targets[:1]) for member in found]
        config = EnsembleConfig(
            type=self.kind,
            search=EnsembleSearch(**keys),
            metrics=Metrics(bootstrap=bootstrap, **(metrics or {})),
            seed=seed,
        )
        told, warned = [] if told is None else told, [] if warned is None else warned
        combine(config, found, files, {"target": "birds"}, told.append, warned.append)
        return read_json(files.ensemble), read_npz(files.logits), read_json(files.metrics)


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path, members=5)


def reporting(ensemble, logits):
    """Find the samples that report: those that no other draw leaves are known by the digest of their ids."""
    ids = np.sort(logits["test_ids"])
    drawn = np.random.default_rng(ensemble["search"]["seed"]).permutation(len(ids))
    left = np.sort(ids[drawn[ensemble["selection"]["samples"] :]])
    assert hashlib.sha256("\n".join(left).encode()).hexdigest() == ensemble["reporting"]["ids_sha256"]
    return np.isin(logits["test_ids"], left)


@pytest.mark.parametrize("selection", ["test", "val"])
@pytest.mark.parametrize("search", SEARCHES)
def test_the_planted_members_are_found(project, search, selection):
    ensemble, _, metrics = project.run(search=search, selection=selection, weights_budget=0)
    weights = dict(zip(ensemble["members"], ensemble["weights"], strict=True))
    assert [weights.get(f"m{number}", 0) for number in range(5)] == pytest.approx([0, 0.5, 0, 0, 0.5], abs=0.15)
    assert ensemble["score"] < ensemble["best_single"]["score"]
    assert metrics["metrics"]["log_loss"] < metrics["best_member"]["metrics"]["log_loss"]


@pytest.mark.parametrize("selection", ["test", "val"])
@pytest.mark.parametrize("kind", TYPES)
def test_every_task_type_has_ensembles(tmp_path, kind, selection):
    project = Project(tmp_path, kind, members=5)
    ensemble, logits, metrics = project.run(search="convex", selection=selection)
    heavy = {name for name, weight in zip(ensemble["members"], ensemble["weights"], strict=True) if weight > 0.2}
    assert heavy == {"m1", "m4"}
    first = project.read(0)
    for name in ("logits", "targets", "ids"):
        for split in ("test", "unlabeled"):
            found, given = logits[f"{split}_{name}"], first[f"{split}_{name}"]
            assert (found.shape, found.dtype) == (given.shape, given.dtype)
            assert name == "logits" or np.array_equal(found, given, equal_nan=name == "targets")
    chosen = reporting(ensemble, logits) if selection == "test" else slice(None)
    arrays = [logits[f"test_{name}"][chosen] for name in ("logits", "targets")]
    assert metrics["samples"] == len(arrays[0]) == ensemble["reporting"]["samples"]
    assert metrics["metrics"] == compute_metrics(kind, list(metrics["metrics"]), *arrays)


def test_what_is_written(project):
    told = []
    ensemble, logits, metrics = project.run(search="convex", bootstrap=20, told=told)
    assert list(ensemble) == [
        "format_version", "target", "type", "members", "weights", "score", "best_single", "evaluated", "gap", "search",
        "selection", "reporting",
    ]  # fmt: skip
    assert ensemble["format_version"] == FORMAT_VERSION
    assert ensemble["search"] == {**EnsembleSearch(search="convex").model_dump(), "seed": 42}
    assert ensemble["gap"] < 1e-8
    assert ensemble["selection"] == {"samples": 150}
    assert ensemble["reporting"]["samples"] == 150
    assert list(metrics) == [
        "format_version", "target", "type", "split", "samples", "metrics", "intervals", "undefined", "resamples",
        "seed", "difference", "best_member", "replicates",
    ]  # fmt: skip
    assert list(logits) == [
        f"{split}_{name}" for split in ("test", "unlabeled") for name in ("logits", "targets", "ids")
    ]
    assert "150 samples select, 150 report" in told


@pytest.mark.parametrize("search", SEARCHES)
def test_weights_are_those_of_the_logits_and_add_up_to_one(tmp_path, search):
    project = Project(tmp_path, make=draw, members=6)
    ensemble, logits, _ = project.run(search=search)
    assert math.fsum(ensemble["weights"]) == 1
    numbers = [int(name[1:]) for name in ensemble["members"]]
    for split in ("test", "unlabeled"):
        given = np.array([project.read(number)[f"{split}_logits"] for number in numbers], dtype=np.float64)
        expected = np.tensordot(ensemble["weights"], given, 1)
        np.testing.assert_allclose(logits[f"{split}_logits"], expected, rtol=1e-6, atol=1e-6)


def test_logits_of_a_pipeline_are_the_mean_over_its_folds(project):
    for fold in (1, 2):
        project.change(0, fold, test_logits=project.read(0, fold)["test_logits"] + fold)
    _, logits, _ = project.run(project.members[:1], selection="val")
    np.testing.assert_allclose(logits["test_logits"], project.read(0)["test_logits"] + 1, rtol=1e-5, atol=1e-6)


def test_scikit_learn_finds_the_metrics_in_the_file_of_logits(project):
    ensemble, logits, metrics = project.run(search="convex")
    chosen = reporting(ensemble, logits)
    found, targets = logits["test_logits"][chosen].astype(np.float64), logits["test_targets"][chosen]
    probabilities = softmax(found, axis=1)
    expected = {
        "accuracy": sklearn.metrics.accuracy_score(targets, found.argmax(axis=1)),
        "mcc": sklearn.metrics.matthews_corrcoef(targets, found.argmax(axis=1)),
        "log_loss": sklearn.metrics.log_loss(targets, probabilities),
        "auroc": sklearn.metrics.roc_auc_score(targets, probabilities, multi_class="ovr"),
    }
    assert {name: metrics["metrics"][name] for name in expected} == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("selection", ["test", "val"])
def test_no_ensemble_is_worse_than_the_best_member_where_it_is_selected(tmp_path, search, selection):
    for seed in range(3):
        project = Project(tmp_path / str(seed), make=draw, members=3, seed=seed, scale=20.0)
        found = project.run(search=search, selection=selection, budget=3)[0]
        assert found["score"] <= found["best_single"]["score"]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("search", SEARCHES)
def test_the_same_members_give_the_same_bytes(project, search):
    for to in ("once", "again"):
        project.run(search=search, bootstrap=5, to=to)
    assert contents(project.folder / "once") == contents(project.folder / "again")


def test_another_seed_selects_by_other_samples(project):
    digests = {project.run(seed=seed)[0]["reporting"]["ids_sha256"] for seed in (1, 2, 3)}
    assert len(digests) == 3


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("selection", ["test", "val"])
def test_another_order_of_members_is_another_order_of_weights(tmp_path, search, selection):
    project = Project(tmp_path, make=draw, members=5)
    one, logits, metrics = project.run(search=search, selection=selection)
    two, same, others = project.run(project.members[::-1], search=search, selection=selection)
    assert dict(zip(one["members"], one["weights"], strict=True)) == pytest.approx(
        dict(zip(two["members"], two["weights"], strict=True))
    )
    np.testing.assert_allclose(same["test_logits"], logits["test_logits"], rtol=1e-5, atol=1e-6)
    assert metrics["metrics"] == pytest.approx(others["metrics"], rel=1e-5)
    assert one["best_single"] == two["best_single"]


def shuffled(arrays, split):
    order = np.random.default_rng(1).permutation(len(arrays[f"{split}_ids"]))
    return {f"{split}_{name}": arrays[f"{split}_{name}"][order] for name in ("logits", "targets", "ids")}


@pytest.mark.parametrize("selection", ["test", "val"])
@pytest.mark.parametrize("kind", ["classification", "segmentation"])
def test_samples_are_aligned_by_their_ids(tmp_path, kind, selection):
    project = Project(tmp_path, kind, make=draw, members=3)
    before = project.run(selection=selection)
    for number, fold in ((1, 0), (2, 1)):
        arrays = project.read(number, fold)
        project.change(
            number, fold, **shuffled(arrays, "test"), **shuffled(arrays, "unlabeled"), **shuffled(arrays, "val")
        )
    after = project.run(selection=selection)
    assert before[0] == after[0]
    assert before[2] == after[2]
    assert all(np.array_equal(before[1][name], after[1][name]) for name in before[1] if "targets" not in name)


def test_the_order_of_the_first_file_decides_that_of_the_logits_but_not_which_samples_select(project):
    before = project.run(search="greedy")
    for number in range(5):
        project.change(number, **shuffled(project.read(number), "test"))
    ensemble, logits, metrics = project.run(search="greedy")
    assert ensemble == before[0]
    assert metrics["metrics"] == pytest.approx(before[2]["metrics"])
    assert np.array_equal(logits["test_ids"], project.read(0)["test_ids"])


def test_folds_may_be_named_in_any_order(project):
    backwards = [Member(name, vals[::-1], targets) for name, vals, targets in project.members]
    assert project.run(backwards, selection="val")[0] == project.run(selection="val")[0]


@pytest.mark.parametrize("kind", TYPES)
def test_intervals_are_those_of_the_same_resamples(tmp_path, kind):
    project = Project(tmp_path, kind, make=draw, members=3)
    _, _, metrics = project.run(search="convex", bootstrap=30)
    best = metrics["best_member"]
    for name, ours in metrics["replicates"].items():
        theirs = best["replicates"][name]
        expected = np.percentile(np.subtract(ours, theirs), [2.5, 97.5])
        size = np.abs([ours, theirs]).max()
        assert metrics["difference"]["intervals"][name] == pytest.approx(expected, abs=1e-5 * size)
        assert metrics["difference"]["metrics"][name] == metrics["metrics"][name] - best["metrics"][name]
        assert metrics["intervals"][name] == pytest.approx(np.percentile(ours, [2.5, 97.5]), rel=1e-5)
        assert best["intervals"][name] == pytest.approx(np.percentile(theirs, [2.5, 97.5]), rel=1e-5)


@pytest.mark.parametrize("selection", ["test", "val"])
def test_a_single_member_is_the_ensemble(project, selection):
    warned = []
    ensemble, logits, metrics = project.run(project.members[2:3], selection=selection, bootstrap=5, warned=warned)
    assert (ensemble["members"], ensemble["weights"], ensemble["evaluated"]) == (["m2"], [1.0], 0)
    assert ensemble["best_single"] == {"name": "m2", "score": ensemble["score"]}
    np.testing.assert_allclose(logits["test_logits"], project.read(2)["test_logits"], rtol=1e-6)
    assert metrics["metrics"] == metrics["best_member"]["metrics"]
    assert set(metrics["difference"]["metrics"].values()) == {0.0}
    assert warned == ["m2 is the only member: the ensemble is that member"]


def test_sets_may_be_allowed_to_be_larger_than_there_are_members(project):
    assert project.run(max_ensemble_size=50)[0]["weights"] == project.run(max_ensemble_size=5)[0]["weights"]


def test_a_split_that_no_member_has_is_left_out(project):
    for number in range(5):
        project.change(number, unlabeled_logits=None, unlabeled_targets=None, unlabeled_ids=None)
    assert not any(name.startswith("unlabeled") for name in project.run()[1])


def test_test_samples_without_a_label_neither_select_nor_report(project):
    targets = project.read(0)["test_targets"]
    targets[:100] = -1
    for number in range(5):
        project.change(number, test_targets=targets)
    ensemble, logits, metrics = project.run()
    assert (ensemble["selection"]["samples"], metrics["samples"], len(logits["test_ids"])) == (100, 100, 300)


def test_a_metric_that_is_not_defined_is_null(project):
    for number in range(5):
        project.change(number, test_targets=np.zeros(300, np.int64))
    warned = []
    metrics = project.run(warned=warned, metrics={"classification": ["auroc", "log_loss"]})[2]
    assert metrics["metrics"]["auroc"] is metrics["difference"]["metrics"]["auroc"] is None
    assert warned == ["no sample that selects is of class 1, 2"]


@pytest.mark.parametrize("most", [1, 700, 10**6])
def test_so_many_pixels_select_and_no_ignored_one(tmp_path, monkeypatch, most):
    monkeypatch.setattr(module, "PIXELS", most)
    project = Project(tmp_path, "segmentation", make=draw, members=3)
    masks = project.read(0)["test_targets"]
    masks[:, :2] = 255
    for number in range(3):
        project.change(number, test_targets=masks)
    ensemble = project.run()[0]
    assert ensemble["selection"] == {"samples": 150, "pixels": min(most, 150 * SIDE * SIDE // 2)}


IDS = np.array([f"s{place:03}" for place in range(300)])
VAL_IDS = np.array([f"s{place:03}" for place in range(340, 550, 3)])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"test_ids": np.array([*IDS[:299], "x"])}, "other samples: lacks 's299' and has also 'x'"),
        ({"test_ids": np.array([*IDS[:299], "s000"])}, "sample 's000' is there 2 times"),
        ({"test_targets": None}, "fold-0.npz has no test samples"),
        ({"unlabeled_logits": None}, "fold-0.npz has no unlabeled samples"),
        ({"test_logits": np.zeros((300, 4), np.float32)}, r"logits of shape \(4,\) a sample, not \(3,\)"),
        ({"test_logits": np.zeros((299, 3), np.float32)}, "arrays that are not those of classification"),
        ({"test_logits": np.zeros((300, 3), int)}, "arrays that are not those of classification"),
        ({"test_targets": np.zeros(300)[:, None]}, "arrays that are not those of classification"),
        ({"test_logits": np.full((300, 3), np.nan, np.float32)}, "test: 900 NaN and 0 infinite or huge of 900 logits"),
        ({"unlabeled_logits": np.full((40, 3), np.inf, np.float32)}, "unlabeled: 0 NaN and 120 infinite"),
    ],
)
def test_files_that_do_not_go_together_are_named(project, arrays, message):
    if "test_ids" in arrays:
        given = project.read(0)["test_ids"]
        arrays = {"test_ids": arrays["test_ids"][[int(name[1:]) for name in given]]}
    paths = [project.change(number, **arrays) for number in (1, 3)]
    with pytest.raises(DataError, match=message) as caught:
        project.run()
    assert all(str(path) in caught.value.message for path in paths)
    assert not (project.folder / "ensemble").exists()


def test_other_labels_are_told(project):
    targets = project.read(2)["test_targets"]
    targets[7] = (targets[7] + 1) % 3
    path = project.change(2, test_targets=targets)
    with pytest.raises(
        DataError, match=f"{path}: other labels of 1 sample, such as '{project.read(0)['test_ids'][7]}'"
    ):
        project.run()


def test_labels_without_logits_are_told(project):
    path = project.change(0, test_targets=np.full(300, 3))
    with pytest.raises(DataError, match=f"{path}: labels that are none of the 3 classes"):
        project.run()


def test_the_first_file_may_be_the_wrong_one(project):
    path = project.change(0, test_logits=None)
    with pytest.raises(DataError, match=f"(?s)expected test samples.*{path}: fold-0.npz has no test samples"):
        project.run()


@pytest.mark.parametrize(
    ("fold", "arrays", "message"),
    [
        (0, {"val_ids": np.char.add(VAL_IDS, "x")}, "other samples: lacks 's340' and 69 more and has also 's340x'"),
        (1, {"val_ids": VAL_IDS}, "is there 2 times"),
        (2, {"val_logits": None}, "fold-2.npz has no val samples"),
        (0, {"val_targets": np.full(70, 2)}, "other labels of [0-9]+ samples"),
        (0, {"val_logits": np.zeros((70, 2), np.float32)}, r"logits of shapes \(2,\), \(3,\) a sample"),
    ],
)
def test_validation_that_does_not_go_together_is_named(project, fold, arrays, message):
    path = project.change(3, fold, **arrays)
    with pytest.raises(DataError, match=message) as caught:
        project.run(selection="val")
    assert str(path) in caught.value.message


def test_a_pipeline_that_lacks_a_fold_is_told(project):
    name, validations, targets = project.members[1]
    members = [project.members[0], Member(name, validations[:2], targets[:2])]
    with pytest.raises(DataError, match="other samples: lacks 's342' and 69 more"):
        project.run(members, selection="val")


def test_members_without_validation_are_told(project):
    members = [project.members[0], project.members[1]._replace(validations=())]
    with pytest.raises(DataError, match="m1: no logits of validation"):
        project.run(members, selection="val")


@pytest.mark.parametrize(("samples", "share"), [(1, 0.5), (3, 0.1), (3, 0.9)])
def test_a_share_that_leaves_none_to_select_or_to_report_is_told(project, samples, share):
    given = project.read(0)
    few = {f"test_{name}": given[f"test_{name}"][:samples] for name in ("logits", "targets", "ids")}
    paths = [project.change(number, **few) for number in range(5)]
    told = f"post.eval_frac: got {share}, by which [013] of {samples} labelled test samples .* of {paths[0]}"
    with pytest.raises(DataError, match=told):
        project.run(eval_frac=share)


@pytest.mark.parametrize("selection", ["test", "val"])
def test_no_labelled_test_sample_is_told(project, selection):
    for number in range(5):
        for fold in range(3):
            path = project.change(number, fold, test_targets=np.full(300, -1))
    with pytest.raises(DataError, match=f"{path.parents[1]}/member-0/fold-0.npz: got no labelled test samples"):
        project.run(selection=selection)


def test_no_member_is_told(project):
    with pytest.raises(DataError, match=r"ensemble.json: got no member, expected the logits of at least one"):
        project.run([])


def test_a_missing_file_is_told(project):
    project.members[1].targets[0].unlink()
    with pytest.raises(MissingData, match=str(project.members[1].targets[0])):
        project.run()


def test_no_torch_is_imported(project):
    code = """
import sys
from pathlib import Path
from foldwise.config.jobs import EnsembleConfig
from foldwise.post.combine import EnsembleFiles, combine
from foldwise.post.members import Member
folder = Path(sys.argv[1])
members = [Member(name, (), (folder / name / "fold-0.npz",)) for name in ("member-0", "member-1")]
combine(EnsembleConfig(), members, EnsembleFiles(folder / "e.json", folder / "l.npz", folder / "m.json"), {})
print(sorted({"torch", "lightning"} & set(sys.modules)))
"""
    command = [sys.executable, "-c", code, project.folder]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ENGINE, check=True)
    assert done.stdout == "[]\n"
