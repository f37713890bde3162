"""What mode clean finds and deletes, and what it never touches."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from foldwise.config.maintenance import CleanConfig
from foldwise.errors import ConfigError, DataProblems
from foldwise.maintain.clean import Leftover, clean, delete, find_leftovers, in_bytes, remove, tell

DEAD = "2147480000"  # no process has such a number


@pytest.fixture
def roots(tmp_path, monkeypatch):
    """Roots of data and of a project with what killed runs leave, beside what must stay."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "data/VERSION",
        "data/datasets/birds/.checked.jsonl",
        "data/datasets/birds/dataset.json",
        f"data/datasets/.tmp-cats-{DEAD}-0123abcd",
        f"data/tasks/birds/.tmp-folds.csv-{DEAD}-0123abcd",
        "data/tasks/birds/folds.csv",
        f"data/tasks/cats/.tmp-folds.csv-{DEAD}-0123abcd",
        "data/tensors/birds/.tmp-default-44136fa3.part/images.npy",
        "data/tensors/birds/.tmp-default-44136fa3.journal",
        "data/tensors/birds/default-44136fa3/images.npy",
        "data/downloads/birds/.part-birds.zip",
        "data/downloads/birds/birds.zip",
        "data/downloads/cats/cats.zip",
        "data/other/.tmp-notes",
        "results/p/VERSION",
        "results/p/models/a/birds/fold-0/model.safetensors",
        f"results/p/models/a/birds/fold-0/.tmp-model.json-{DEAD}-0123abcd",
        "results/p/checkpoints/a/birds/fold-0/state.json",
        "results/p/checkpoints/a/cats/fold-0/state.json",
        "results/p/checkpoints/studies/s/3/birds/fold-0/state.json",
        "results/p/.aside/models/a/x.json",
        "results/q/checkpoints/a/birds/fold-0/state.json",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("12345")
    return tmp_path


def make(**keys):
    return CleanConfig(**{"data": "data", "project": "results/p", "tasks": ["birds"], "datasets": ["birds"], **keys})


def found(**keys):
    return {str(one.path) for one in find_leftovers(make(**keys))}


OF_BIRDS = {
    "data/datasets/birds/.checked.jsonl",
    f"data/tasks/birds/.tmp-folds.csv-{DEAD}-0123abcd",
    "data/tensors/birds/.tmp-default-44136fa3.part",
    "data/tensors/birds/.tmp-default-44136fa3.journal",
    "data/downloads/birds/.part-birds.zip",
    f"results/p/models/a/birds/fold-0/.tmp-model.json-{DEAD}-0123abcd",
    "results/p/checkpoints/a/birds",
    "results/p/checkpoints/studies/s",
    "results/p/.aside",
}
OF_CATS = {
    f"data/datasets/.tmp-cats-{DEAD}-0123abcd",
    f"data/tasks/cats/.tmp-folds.csv-{DEAD}-0123abcd",
    "results/p/checkpoints/a/cats",
}


def test_leftovers_of_the_tasks_or_of_all(roots):
    assert found(subroutines=["temp"]) == OF_BIRDS
    assert found(subroutines=["temp"], all=True) == OF_BIRDS | OF_CATS
    assert found(subroutines=["download"]) == {"data/downloads/birds/birds.zip"}
    assert found(subroutines=["download"], all=True) == {
        "data/downloads/birds/birds.zip",
        "data/downloads/cats/cats.zip",
    }
    assert found() == OF_BIRDS | {"data/downloads/birds/birds.zip"}


def test_weights_are_leftovers_where_they_are_not_to_be_kept(roots):
    weights = "results/p/models/a/birds/fold-0/model.safetensors"
    assert weights not in found()
    assert weights in found(parameters=True)


def everything(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_nothing_else_is_deleted(roots):
    before = everything(roots)
    done = clean(make(force=True), None, lambda text: None, "")
    gone = {name for name in before if any(name == one or name.startswith(f"{one}/") for one in found_before(before))}
    assert everything(roots) == before - gone
    assert done.files == len(OF_BIRDS) + 1
    assert found() == set()


def found_before(names):
    return OF_BIRDS | {"data/downloads/birds/birds.zip"}


def test_a_file_that_is_being_written_stays(roots):
    writer = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = f"results/p/tables/.tmp-test.csv-{writer.pid}-0123abcd"
    path = roots / name
    path.parent.mkdir()
    path.write_text("half")
    try:
        assert name not in found()
    finally:
        writer.communicate()
    assert name in found()


def test_links_are_not_followed_and_what_they_lead_to_stays(roots, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (outside / f".tmp-x-{DEAD}-0123abcd").write_text("mine")
    (outside / "birds.zip").write_text("mine")
    before = everything(outside)
    (roots / "results/p/models/linked").symlink_to(outside)
    (roots / "results/p/checkpoints/linked").symlink_to(outside)
    (roots / "data/downloads/cats").rename(roots / "moved")
    (roots / "data/downloads/cats").symlink_to(outside)
    (roots / "data/downloads/birds/link.zip").symlink_to(outside / "birds.zip")
    clean(make(force=True, all=True, tasks=["birds", "cats"], datasets=["birds", "cats"]), None, lambda text: None, "")
    assert everything(outside) == before
    assert (roots / "results/p/models/linked").is_symlink()
    assert not (roots / "data/downloads/birds/link.zip").is_symlink()  # the link itself is the archive's place


def test_a_folder_that_became_a_link_meanwhile_is_not_entered(roots, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "fold-0").mkdir()
    (outside / "fold-0/precious").write_text("mine")
    one = Leftover(Path("results/p"), "checkpoints/a/birds/fold-0", 5, "state of a training")
    (roots / "results/p/checkpoints/a/birds").rename(roots / "moved")
    (roots / "results/p/checkpoints/a/birds").symlink_to(outside)
    with pytest.raises(OSError, match="irectory"):
        remove(one)
    assert (outside / "fold-0/precious").is_file()


def test_what_is_gone_meanwhile_does_no_harm(roots):
    leftovers = find_leftovers(make())
    (roots / "data/downloads/birds/birds.zip").unlink()
    assert delete(leftovers).problems == []


@pytest.mark.parametrize("root", ["/", str(Path.home()), ".", "..", "data/.."])
def test_roots_that_are_none(roots, root):
    for key, keys in (("data_dir", {"data": root}), ("results_dir", {"project": root})):
        with pytest.raises(ConfigError) as caught:
            find_leftovers(make(**keys))
        assert caught.value.message.startswith(f"{key}: got '{root}', expected a folder of its own. Nothing is deleted")


def test_a_root_without_version_is_none(roots):
    (roots / "data/VERSION").unlink()
    with pytest.raises(ConfigError, match="expected a folder that Foldwise has written"):
        find_leftovers(make())
    (roots / "data/VERSION").symlink_to(roots / "results/p/VERSION")
    with pytest.raises(ConfigError, match="expected a folder that Foldwise has written"):
        find_leftovers(make())


def test_a_root_that_is_not_there_has_no_leftovers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_leftovers(make()) == []
    assert tell([]) == "There is nothing to delete."


@pytest.mark.parametrize(("answer", "is_gone"), [(True, True), (False, False)])
def test_it_is_asked_before(roots, answer, is_gone):
    said, asked = [], []
    clean(make(), lambda question: bool(asked.append(question)) or answer, said.append, "")
    assert asked == ["Delete all of this? [y/N] "]
    assert (roots / "data/downloads/birds/birds.zip").exists() != is_gone
    assert ("Nothing was deleted." in said) != is_gone


def test_without_terminal_nothing_is_deleted(roots):
    before = everything(roots)
    with pytest.raises(ConfigError) as caught:
        clean(make(), None, lambda text: None, "snakemake clean --config clean__force=true")
    assert caught.value.message.endswith("Run: snakemake clean --config clean__force=true")
    assert everything(roots) == before


def test_what_cannot_be_deleted_is_told_and_the_rest_is_gone(roots):
    if os.geteuid() == 0:
        pytest.skip("root may delete anything")
    folder = roots / "results/p/models/a/birds/fold-0"
    folder.chmod(0o500)
    try:
        with pytest.raises(DataProblems, match="permission denied"):
            clean(make(force=True), None, lambda text: None, "")
    finally:
        folder.chmod(0o700)
    assert found() == {f"results/p/models/a/birds/fold-0/.tmp-model.json-{DEAD}-0123abcd"}


def test_sizes_are_told(roots):
    text = tell(find_leftovers(make(subroutines=["download"])))
    assert text == "     5 bytes  data/downloads/birds/birds.zip  (archive)\n1 file or folder, 5 bytes"


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (2_345_678, "2.3 MB"),
        (3e12, "3.0 TB"),
        (4e15, "4000.0 TB"),
    ],
)
def test_bytes_in_words(size, words):
    assert in_bytes(size) == words
