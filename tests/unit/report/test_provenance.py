"""Provenance: the record that made an artifact is found, and the chain of what it was made from."""

import csv

import pytest

from foldwise.artifacts import read_json, write_json, write_text
from foldwise.errors import ConfigError
from foldwise.report.provenance import summarise_software, summarise_times, trace

TASK, IMAGES = "data/tasks/digits/task.json", "data/tensors/digits/default-1/images.npy"
MODEL, WEIGHTS = (f"results/mine/models/quick/digits/fold-0/model.{end}" for end in ("json", "safetensors"))
LOGITS = "results/mine/logits/quick/digits/fold-0/digits.npz"


def record(rule, inputs, outputs, project="mine", name="digits", **keys):
    tree = {
        "rule": rule, "title": f"{rule} of {name}", "command": "snakemake train --cores 2", "revision": 3,
        "started": "2026-01-01T10:00:00Z", "finished": "2026-01-01T10:01:00Z", "seconds": 60.0, "cpu_seconds": 30.0,
        "peak_memory_mb": 100.0, "threads": 1, "device": "cpu", "host": "node1", "platform": "Linux", "python": "3.12",
        "versions": {"foldwise": "0.1.0", "torch": "2.13.0"}, "git": {"commit": "abc123", "clean": True},
        "config": {"pipeline": {"optimizer": {"lr": 0.1}}}, "inputs": inputs, "outputs": outputs,
        "log": f"results/{project}/logs/{rule}/{name}.log", **keys,
    }  # fmt: skip
    write_json(f"results/{project}/provenance/{rule}/{name}.json", tree)
    for output in outputs:
        write_text(output, "content")


@pytest.fixture(autouse=True)
def records(tmp_path, monkeypatch):
    """Record how logits were made, of data that another project has made."""
    monkeypatch.chdir(tmp_path)
    record("create_task", [], [TASK], "other")
    record("preprocess_dataset", ["images/1.png"], [IMAGES], "other")
    record("train_fold", [TASK, IMAGES], [MODEL, WEIGHTS], name="quick/digits/fold-0")
    record("predict_fold", [TASK, WEIGHTS, MODEL, IMAGES], [LOGITS], name="quick/digits/fold-0", git=None)
    return tmp_path


def follow(records, artifact=LOGITS, results="results"):
    table = records / "results/mine/info/provenance.csv"
    text = trace(records / artifact, records / results, table)
    return text, list(csv.DictReader(table.open(encoding="utf-8")))


def test_all_that_is_known_of_the_artifact_is_told(records):
    text, _ = follow(records, MODEL)
    for words in (
        "train_fold, revision 3: train_fold of quick/digits/fold-0", "2026-01-01T10:00:00Z", "60.0 s", "node1",
        "foldwise 0.1.0, torch 2.13.0", "abc123, nothing changed", "snakemake train --cores 2",
        "results/mine/logs/train_fold/quick/digits/fold-0.log", "lr: 0.1", TASK, IMAGES,
    ):  # fmt: skip
        assert words in text.split("What it was made from")[0]


def test_the_chain_names_each_job_once(records):
    text, _ = follow(records)
    lines = text.split("each job once\n")[1].splitlines()
    assert [line.split(",")[0] for line in lines] == [
        f"  {LOGITS} <- predict_fold",
        f"    {TASK} <- create_task",
        f"    {WEIGHTS} <- train_fold",
        f"    {IMAGES} <- preprocess_dataset",
    ]


def test_the_table_has_a_row_for_each_file_that_a_job_made(records):
    _, rows = follow(records)
    assert {row["artifact"]: row["rule"] for row in rows} == {
        LOGITS: "predict_fold", TASK: "create_task", WEIGHTS: "train_fold", MODEL: "train_fold",
        IMAGES: "preprocess_dataset",
    }  # fmt: skip
    assert [(row["version"], row["commit"], row["clean"], row["host"]) for row in rows[:2]] == [
        *(("0.1.0", "", "", "node1"), ("0.1.0", "abc123", "yes", "node1")),
    ]


def test_the_latest_record_of_the_own_project_counts(records):
    record("train_fold", [], [MODEL], "a", host="elsewhere", finished="2026-03-01T10:00:00Z")
    record("train_again", [], [MODEL], host="late", finished="2026-02-01T10:00:00Z")
    _, rows = follow(records, MODEL)
    assert rows[0]["host"] == "late"


def test_a_file_in_a_folder_that_a_job_wrote_is_found(records):
    write_text("data/datasets/digits/files/images/1.png", "")
    tree = read_json("results/other/provenance/create_task/digits.json")
    tree |= {"rule": "create_dataset", "outputs": ["data/datasets/digits/files"]}
    write_json("results/other/provenance/create_dataset/digits.json", tree)
    _, rows = follow(records, "data/datasets/digits/files/images/1.png")
    assert rows[0]["rule"] == "create_dataset"


def test_results_and_data_that_were_moved_are_found(records, monkeypatch):
    absolute = [str(records / path) for path in (TASK, LOGITS)]
    record("predict_fold", absolute[:1], absolute[1:], name="quick/digits/fold-0")
    record("create_task", [], absolute[:1], "other")
    moved = records.with_name(f"{records.name}-moved")
    records.rename(moved)
    monkeypatch.chdir(moved)
    (moved / "results").rename(moved / "kept")
    _, rows = follow(moved, LOGITS.replace("results", "kept"), "kept")
    assert [row["rule"] for row in rows] == ["predict_fold", "create_task"]


def test_a_file_of_the_same_ending_in_another_project_is_not_taken_for_it(records):
    write_text(LOGITS.replace("mine", "third"), "")
    with pytest.raises(ConfigError, match="a file that a job has recorded"):
        follow(records, LOGITS.replace("mine", "third"))


def test_records_that_go_round_end(records):
    record("one", ["results/mine/b"], ["results/mine/a"])
    record("two", ["results/mine/a"], ["results/mine/b"])
    _, rows = follow(records, "results/mine/a")
    assert [row["artifact"] for row in rows] == ["results/mine/a", "results/mine/b"]


@pytest.mark.parametrize(
    "content", ["{", "{}", '{"rule": "x", "inputs": [3], "outputs": []}', '{"rule": "x", "inputs": 1}']
)
def test_records_that_cannot_be_read_are_named(records, content):
    write_text("results/mine/provenance/train_fold/bad.json", content)
    text, rows = follow(records)
    assert len(rows) == 5
    assert "Skipped 1 file that cannot be read: " in text
    assert "train_fold/bad.json" in text.splitlines()[-1]


@pytest.mark.parametrize(
    ("artifact", "expected"),
    [("results/mine/models/quik/digits/fold-0/model.json", "a file that exists"), ("notes.txt", "a job has recorded")],
)
def test_an_artifact_without_a_record_is_an_error(records, artifact, expected):
    write_text("notes.txt", "")
    with pytest.raises(ConfigError, match=expected) as error:
        follow(records, artifact)
    assert error.value.where == "info.artifact"
    assert (MODEL in error.value.message) == (artifact != "notes.txt")


def test_control_characters_are_written_as_escapes(records):
    record("train_fold", [], [MODEL], command="a\x1b[2J", config={"name": "b\x1b"}, title="c\x1b")
    (records / "results/mine/provenance/train_fold/quick/digits/fold-0.json").unlink()
    text, _ = follow(records, MODEL)
    assert "\x1b" not in text
    assert "a\\x1b[2J" in text


def test_software_is_counted_by_version(records):
    record("score_fold", [], [], versions={"foldwise": "0.2.0"}, device="GPU")
    summarise_software(records / "results/mine", records / "software.csv")
    rows = list(csv.reader((records / "software.csv").open()))
    assert rows[0] == ["package", "version", "jobs"]
    assert [row for row in rows if row[0] == "foldwise"] == [["foldwise", "0.1.0", "2"], ["foldwise", "0.2.0", "1"]]
    assert [row for row in rows if row[0] in ("device", "python")] == [
        *(["device", "GPU", "1"], ["device", "cpu", "2"], ["python", "3.12", "3"]),
    ]


def test_times_are_added_up_by_rule(records):
    record("train_fold", [], [], name="b", seconds=30.0, peak_memory_mb=300.0)
    record("train_fold", [], [], name="c", seconds=None)
    summarise_times(records / "results/mine", records / "times.csv")
    rows = list(csv.reader((records / "times.csv").open()))
    assert rows[1:] == [
        ["train_fold", "3", "90.0", "30.0", "90.0", "300.0"],
        ["predict_fold", "1", "60.0", "60.0", "30.0", "100.0"],
    ]


def test_a_project_without_records_has_empty_tables(records):
    (records / "results/new").mkdir()
    summarise_times(records / "results/new", records / "times.csv")
    summarise_software(records / "results/new", records / "software.csv")
    assert len((records / "times.csv").read_text().splitlines()) == 1
    assert len((records / "software.csv").read_text().splitlines()) == 1
