"""The frame of the project: rule = script = log, directives, layers, sizes, imports."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from workflow.conftest import REPOSITORY, TINY, environment

MODES = ("create", "pp", "train", "tl", "predict", "test", "post", "info", "hpo", "clean")
ACTING = ("info", "clean")  # modes that do more than collect: they show what their parts have found, or have no outputs
ENGINE = REPOSITORY / "scripts/foldwise"
LAYERS = (
    "errors", "progress", "artifacts", "functions", "aside", "npz", "config", "origin", "job", "tasks", "migrations",
    "data", "models", "inference", "training", "post", "hpo", "report", "maintain", "project",
)  # fmt: skip
RULES = {
    match[1]: match[2]
    for path in sorted((REPOSITORY / "rules").glob("*.smk"))
    for match in re.finditer(r"^rule (\w+):\n((?:    .*\n|\n)+)", path.read_text() + "\n", re.MULTILINE)
}
WORKERS = {name: body for name, body in RULES.items() if name not in MODES}
MODULES = sorted(ENGINE.rglob("*.py"))
ENTRIES = sorted((REPOSITORY / "scripts").glob("*.py"))


def directives(body):
    """Return the directives of a rule."""
    return set(re.findall(r"^    (\w+):", body, re.MULTILINE))


def test_modes_have_a_file_and_a_rule_each():
    files = {path.stem for path in (REPOSITORY / "rules").glob("*.smk")}
    assert files == {"common", "maintain", *set(MODES) - {"clean"}}
    assert set(MODES) <= set(RULES)
    assert "rule " not in (REPOSITORY / "rules/common.smk").read_text().replace("rules ", "")


@pytest.mark.parametrize("name", sorted({*MODES} - {*ACTING}))
def test_a_mode_only_collects(name):
    assert directives(RULES[name]) == {"localrule", "input", "message"}


@pytest.mark.parametrize("name", ACTING)
def test_a_mode_that_acts_has_no_output(name):
    assert {"localrule", "message", "log", "conda", "script"} <= directives(RULES[name])
    assert "output" not in directives(RULES[name])


@pytest.mark.parametrize("name", WORKERS)
def test_worker_rule(name):
    body = WORKERS[name]
    assert re.fullmatch(r"[a-z]+_[a-z]+", name)
    required = {"output", "params", "log", "benchmark", "message", "threads", "resources", "conda", "script"}
    assert required <= directives(body)
    assert f'"../scripts/{name}.py"' in body
    assert f"/logs/{name}/" in body
    assert f"/benchmarks/{name}/" in body
    assert re.search(r"cfg=.+\n +revision=\d+,", body)
    assert (REPOSITORY / f"scripts/{name}.py").is_file()


def test_every_entry_belongs_to_a_rule():
    assert {path.stem for path in ENTRIES} == {*WORKERS, *ACTING}


def test_what_rules_must_not_use():
    text = "".join(path.read_text() for path in (REPOSITORY / "rules").glob("*.smk"))
    for word in (r"^\s+run:", r"\bruleorder\b", r"^checkpoint\b", r"\bpathvars\b", r"^\s+shell:"):
        assert not re.search(word, text, re.MULTILINE)


@pytest.mark.parametrize("path", ENTRIES, ids=lambda path: path.stem)
def test_an_entry_is_one_call(path):
    text = path.read_text()
    assert text.count("\n") <= 45
    assert ("with Job(snakemake.rule, " if path.stem in ACTING else "with Job.of(snakemake, ") in text
    assert not re.search(r"^\s*(def|class|for|while|if) ", text, re.MULTILINE)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ENGINE)))
def test_a_module_of_the_engine(path):
    text = path.read_text()
    assert not re.search(r"\bsnakemake\b", text, re.IGNORECASE)
    assert "config[" not in text
    assert text.count("\n") <= 400
    assert not re.search(r"^\s*(import|from) (pickle|cloudpickle|dill|joblib)|allow_pickle=True", text, re.MULTILINE)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 80, node.name
            assert node.returns is not None or node.name == "__init__", node.name


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ENGINE)))
def test_layers_import_only_what_lies_below(path):
    place = path.relative_to(ENGINE).parts[0].removesuffix(".py")
    if place == "__init__":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("foldwise."):
            layer = node.module.split(".")[1]
            assert LAYERS.index(layer) <= LAYERS.index(place), f"{place} imports {layer}"


def test_parsing_imports_nothing_heavy(project):
    command = [sys.executable, "-X", "importtime", *project.command("test", "-n")]
    process = subprocess.run(
        command, cwd=project.folder, capture_output=True, text=True, env=environment(), check=False
    )
    assert process.returncode == 0
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in process.stderr.splitlines()}
    assert "pydantic" in imported
    assert not imported & {"torch", "lightning", "monai", "sklearn", "pandas", "kornia", "scipy", "torchmetrics"}


@pytest.mark.parametrize(
    ("module", "banned"),
    [
        ("foldwise.inference.score", {"torch", "lightning", "monai", "kornia", "pandas"}),
        ("foldwise.inference.predict", {"lightning", "kornia", "sklearn", "pandas", "torchmetrics"}),
        (
            "foldwise.tasks.dataset",
            {"requests", "pooch", "pandas", "sklearn", "scipy", "torch", "pydicom", "nibabel", "h5py", "pyarrow"},
        ),
        ("foldwise.tasks.task", {"torch", "scipy", "sklearn", "pandas", "requests", "PIL", "numpy"}),
        ("foldwise.report.tables", {"numpy", "torch", "scipy", "pandas"}),
        ("foldwise.job", {"numpy", "torch"}),
    ],
)
def test_jobs_import_only_what_they_need(module, banned):
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY / "scripts", capture_output=True, text=True, check=True
    )
    assert not set(result.stdout.split()) & banned


def test_every_dependency_can_be_imported():
    names = "torch torchmetrics lightning.pytorch monai.networks.nets kornia.augmentation optuna sklearn.metrics scipy "
    names += "numpy pandas yaml PIL.Image simplejpeg matplotlib safetensors.torch pydantic pooch snakemake"
    code = "import " + ", ".join(names.split())
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_the_tiny_configuration_has_known_keys_only():
    from foldwise.config.load import Library, load_config

    config = load_config(TINY, Library.read(REPOSITORY / "config"))
    assert list(config.pipelines) == ["a", "b"]


def test_no_file_names_a_path_of_a_machine():
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=False).stdout
    for name in listed.split():
        path = REPOSITORY / name
        if path.suffix in {".py", ".smk", ".md", ".yaml", ".toml", ".txt"} and path != Path(__file__):
            assert not re.search(r"(?<![\w.])/(home|root|work|Users)/", path.read_text()), name
