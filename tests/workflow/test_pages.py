"""The pages in docs: their files are written, their commands run, and what they promise is said, on tiny settings."""

import os
import re
import shlex
import signal
import time

import pytest
import yaml

from foldwise.config.load import Library, load_config
from foldwise.config.selection import train_plan
from foldwise.config.study import study_config
from workflow.conftest import REPOSITORY, Project, Result

BLOCK = re.compile(r"<!-- (file|add|run|ask|fails|says): (.+?) -->\n```\w+\n(.*?)```", re.DOTALL)
STEPS = 2  # of an epoch
TRIALS = 2


class Reader:
    """Somebody who does what a page says, in its order.

    Parameters
    ----------
    folder : Path
        The working directory.
    page : str
        Name of the page.
    data : Path
        Root of data, which all readers share.
    epochs : int
        Epochs of each training, whatever the page has.
    before : dict of str to callable
        What is done before commands of a name, as the page tells in words.
    """

    def __init__(self, folder, page, data, epochs=1, before=None):
        self.project = Project(folder)
        self.blocks = BLOCK.findall((REPOSITORY / "docs" / page).read_text())
        self.data = data
        self.epochs = epochs
        self.before = before or {}
        self.texts = {}
        self.said = {}

    def follow(self):
        """Write files, run commands, look for what must be said."""
        for kind, name, text in self.blocks:
            if kind in ("file", "add"):
                self.write(name, (self.texts[name] if kind == "add" else "") + text)
            elif kind == "says":
                missing = [line for line in text.splitlines() if line not in self.said[name].output.splitlines()]
                assert not missing, f"{missing} is not in\n{self.said[name].output}"
            else:
                self.run(kind, name, text)

    def write(self, name, text):
        """Write a file; a configuration is made tiny."""
        self.texts[name] = text
        path = self.project.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.shrink(text) if name.startswith("config/") else text)

    def shrink(self, text):
        """Return a configuration of few folds and short trainings."""
        tree = yaml.safe_load(text)
        for pipeline in tree["pipelines"].values():
            length = {"max_epochs": self.epochs, "limit_train_batches": STEPS}
            pipeline["trainer"] = {**pipeline.get("trainer", {}), **length}
        if "tasks" in tree:
            tree |= {"data_dir": str(self.data), "create": {"n_folds": 3}}
        if "hpo" in tree:
            tree["hpo"]["trials"] = TRIALS
        return yaml.safe_dump(tree)

    def run(self, kind, name, text):
        """Run commands, which must succeed or fail, on one fold; or ask only what they would do."""
        if name in self.before:
            self.before[name](self)
        for line in text.splitlines():
            program, *arguments = shlex.split(line)
            assert program == "snakemake"
            if kind == "ask":
                arguments.insert(0, "-n")
            if "-n" not in arguments:
                arguments += [*(() if "--config" in arguments else ("--config",)), "train__cv=false"]
            result = self.said[name] = self.project.run(*arguments)
            assert (result.status != 0) == (kind == "fails"), f"{line}\n{result.output}"
            assert "Traceback" not in result.output


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Data that is made once."""
    return tmp_path_factory.mktemp("pages") / "data"


def messages(result: Result) -> str:
    """Return what jobs are announced as, and what is told besides."""
    return "\n".join(line for line in result.output.splitlines() if not line.startswith("Reason: "))


def test_many_tasks(tmp_path, data):
    def edit(reader):
        name = "config/config.yaml"
        reader.write(name, reader.texts[name].replace("lr: 1.0e-3", "lr: 3.0e-4"))

    reader = Reader(tmp_path, "many-tasks.md", data, before={"ask": edit})
    reader.follow()
    project, joint = reader.project, "results/shapes/models/joint/digits+nested-0/fold-0"
    assert reader.said["create"].jobs["create_dataset"] > 1
    job = r"Train resnet10 on digits\+nested-0, .*, pipeline (\w+)"
    assert set(re.findall(job, messages(reader.said["ask"]))) == {"gentle"}
    assert [task["task"] for task in project.json(f"{joint}/model.json")["co_tasks"]] == [
        "digits_regression",
        "digits_multilabel",
    ]
    header = project.path(f"{joint}/metrics.csv").read_text().splitlines()[0].split(",")
    assert {"digits+nested-0/train_loss", "digits_regression/train_loss", "digits_regression/r2"} <= set(header)
    assert "Validation metrics of digits_regression, learned beside digits" in reader.said["joint"].output
    jobs = [line for line in messages(reader.said["mixed"]).splitlines() if "pipeline all_four, with" in line]
    assert all(name in jobs[0] for name in ("digits,", "digits_regression", "digits_multilabel"))
    assert reader.said["slim"].jobs["predict_fold"] == 3


def test_nested_validation(tmp_path, data):
    reader = Reader(tmp_path, "nested-validation.md", data)
    reader.follow()
    project, scores = reader.project, "results/honest/scores/small/digits+nested-0/fold-0"
    assert reader.said["count"].jobs["train_fold"] == 8  # of nine, as one is there
    own = project.json(f"{scores}/digits+nested-0.json")
    assert (own["resamples"], len(own["replicates"]["accuracy"])) == (1000, 1000)
    low, high = own["intervals"]["accuracy"]
    assert low <= own["metrics"]["accuracy"] <= high
    assert own["samples"] == 466
    assert "on digits: pipeline small, 1000 resamples" in reader.said["true test"].output


def test_transfer(tmp_path, data):
    reader = Reader(tmp_path, "transfer.md", data)
    reader.follow()
    project, source = reader.project, "digits+classes-0.1.2.3.4"
    task = "digits+classes-5.6.7.8.9+subset-0.1+nested-0"
    assert "has the images of the pivot" not in reader.said["tl"].output
    record = project.json(f"results/few/models/quick@{source}/{task}/fold-0/model.json")
    assert record["source"]["model"] == f"quick/{source}+nested-0/fold-0"
    assert project.path("results/few/tables/transfer.csv").is_file()
    trained = set(re.findall(r"pipeline (\w+)$", messages(reader.said["weights"]), re.MULTILINE))
    assert trained == {"probe", "tune", "lora"}
    assert f"few~quick@{source}" in reader.said["reuse"].output
    assert reader.said["reuse"].jobs["predict_fold"] == 1
    assert "train_fold" not in reader.said["reuse"].jobs
    assert reader.said["freeze"].jobs["transfer_fold"] == 3
    assert "Did you mean 'few'?" in reader.said["typing error"].output
    assert "lr 0.05, batches of 32" in messages(reader.said["blueprint"])


def test_ensembles(tmp_path, data):
    reader = Reader(tmp_path, "ensembles.md", data)
    reader.follow()
    folder = "results/combined/ensembles/digits"
    assert sum(reader.project.json(f"{folder}/ensemble.json")["weights"]) == pytest.approx(1)
    assert "Ensemble on digits, metrics of 149 test samples that did not select" in reader.said["post"].output
    pictures = [path.name for path in reader.project.path("results/combined").rglob("*.png")]
    assert len(pictures) == 2 * 2 + 3


def test_hyperparameters(tmp_path, data):
    reader = Reader(tmp_path, "hyperparameters.md", data)
    reader.follow()
    study = "results/tuned/studies/first"
    trials = [reader.project.json(f"{study}/trials/{number}.json") for number in range(TRIALS)]
    best = min(trials, key=lambda trial: trial["value"])
    record = reader.project.json("results/tuned/models/small/digits+nested-0/fold-0/model.json")
    assert record["score"] == best["value"]
    assert "best value" in reader.said["hpo"].output


def test_search_spaces_of_the_page_are_such():
    text = (REPOSITORY / "docs/hyperparameters.md").read_text()
    spaces = [
        yaml.safe_load(block)["search_space"]
        for block in re.findall(r"```yaml\n(search_space:.*?)```", text, re.DOTALL)
    ]
    library = Library.read(REPOSITORY / "config")
    tree = {"tasks": ["digits", "digits_regression"], "hpo": {"study": "s", "search_space": spaces[0]}}
    config = load_config(tree, library)
    assert len(study_config(config, train_plan(config, "hpo"), library).space) == len(spaces[0]) == 8


def test_look_at_results(tmp_path, data):
    reader = Reader(tmp_path, "look-at-results.md", data)
    reader.follow()
    project, folder = reader.project, "results/seen/info"
    assert "No model has been trained yet." not in reader.said["info"].output
    for name in ("tasks.csv", "models.png", "learning_curves.png", "sample_grid.png", "sample-digits_segmentation.png"):
        assert project.path(f"{folder}/{name}").is_file(), name
    assert "sample-digits.png" in project.path("seen.html").read_text()
    assert "<- train_fold" in reader.said["artifact"].output  # data may have been made for another page


def test_your_own_code(tmp_path, data):
    def edit(reader):
        reader.write("my_code.py", reader.texts["my_code.py"].replace("[:, -2:]", "[:, -3:]"))

    def restore(reader):
        reader.write("my_code.py", reader.texts["my_code.py"].replace("[:, -3:]", "[:, -2:]"))

    reader = Reader(tmp_path, "your-own-code.md", data, before={"ask": edit, "module": restore})
    reader.follow()
    folder = "digits+own-rare-7-0.2+nested-0"
    score = reader.project.json(f"results/mine/scores/mine/{folder}/fold-0/{folder}.json")
    assert 0 <= score["metrics"]["my_code:top_two"] <= 1
    assert "Updated input files: my_code.py" in reader.said["ask"].output
    assert {"derive_task", "train_fold", "predict_fold", "score_fold"} <= set(reader.said["ask"].jobs)
    assert "(no function bier in " in reader.said["function"].output


def test_stopped_and_resumed(tmp_path, data):
    state = "results/long/checkpoints/slow/digits+nested-0/fold-0/state.json"

    def stop(reader):
        process = reader.project.start("train", start_new_session=True)
        while process.poll() is None and not reader.project.path(state).exists():
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=60)

    reader = Reader(tmp_path, "stopped-and-resumed.md", data, epochs=15, before={"train": stop})
    reader.follow()
    assert "goes on from epoch" in reader.said["train"].output
    assert not list(reader.project.path("results/long/checkpoints").rglob("*"))
    assert "expected a finite loss" in reader.said["diverging"].output


PAGES = sorted(path.name for path in (REPOSITORY / "docs").glob("*.md"))


def test_all_pages_are_in_the_navigation():
    listed = [next(iter(item.values())) for item in yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text())["nav"]]
    linked = re.findall(r"\]\(([\w-]+\.md)\)", (REPOSITORY / "docs/index.md").read_text())
    assert sorted(listed) == PAGES
    assert sorted(["index.md", *linked]) == PAGES


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page):
    folder = REPOSITORY / "docs"
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (folder / page).read_text()):
        assert (folder / target).exists(), target
