"""CPU seconds and peak memory of parsing and a dry run, against Snakefiles that compute nothing.

Run by hand: ``python tests/benchmarks/dry_run.py``. A small project is compared with a Snakefile of one rule, one of
about 10,000 jobs with generated Snakefiles of as many jobs of the same shape: the same rules with every directive, but
constants instead of functions; and inputs, outputs and shell alone. Runs take turns; medians are shown, the ratio is
the median over rounds. Nothing passes or fails here.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import yaml
from side_by_side import print_table, spread

ROOT = Path(__file__).resolve().parents[2]
PIPELINES = ("first", "second", "third", "fourth")
OUTER_FOLDS = 50
TENSORS = "data/tensors/digits/default-0123abcd"
RESULTS = "results/default"
MODEL = "{pipeline}/{task}/fold-{fold}"
MEBIBYTE = 2**20 if sys.platform == "darwin" else 2**10  # in units of ru_maxrss

CONSTRAINTS = r"""
wildcard_constraints:
    dataset=r"[A-Za-z0-9][A-Za-z0-9_.-]*",
    base=r"[A-Za-z0-9][A-Za-z0-9_.-]*",
    parent=r"[A-Za-z0-9][A-Za-z0-9_.+-]*",
    tag=r"[A-Za-z0-9._-]+",
    task=r"[A-Za-z0-9][A-Za-z0-9_.+-]*",
    target=r"[A-Za-z0-9][A-Za-z0-9_.+-]*",
    preprocessing=r"[A-Za-z0-9][A-Za-z0-9_.-]*-[0-9a-f]{8}",
    pipeline="first|second|third|fourth",
    fold=r"0|[1-9][0-9]*",
"""
TRIVIAL = """
rule all:
    input:
        "sample.txt",
    output:
        "copy.txt",
    shell:
        "cp {input} {output}"
"""


@dataclass(frozen=True)
class Rule:
    """A worker rule: names and patterns of its files.

    Parameters
    ----------
    name : str
        Its name.
    outputs, inputs : mapping of str to str
        Python expressions by name.
    path : str
        What tells its jobs apart, for log and benchmark.
    """

    name: str
    outputs: Mapping[str, str]
    inputs: Mapping[str, str]
    path: str


@dataclass
class Side:
    """One side of a comparison: where it runs, and what each run took."""

    name: str
    snakefile: Path
    folder: Path
    target: str | None = None
    seconds: list[float] = field(default_factory=list)
    mebibytes: list[float] = field(default_factory=list)
    jobs: str = "?"

    def run(self) -> None:
        """Dry-run in a child process and record CPU seconds, peak memory and number of jobs."""
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(self.snakefile)]
        command += ["--workflow-profile", "none", "--cores", "1", "--dry-run", *([self.target] if self.target else [])]
        environment = {key: value for key, value in os.environ.items() if key != "SNAKEMAKE_PROFILE"}
        log = self.folder / "dry-run.log"
        with open(log, "wb") as handle:
            child = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=handle, stderr=handle)
            _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise SystemExit(f"{self.name}: the dry run failed.\n{log.read_text(encoding='utf-8')[-4000:]}")
        self.seconds.append(usage.ru_utime + usage.ru_stime)
        self.mebibytes.append(usage.ru_maxrss / MEBIBYTE)
        self.jobs = re.findall(r"^total\s+(\d+)$", log.read_text(encoding="utf-8"), re.MULTILINE)[-1]


def main() -> None:
    """Run both comparisons and print a table of each."""
    options = parse_options()
    with tempfile.TemporaryDirectory() as folder:
        small = small_sides(Path(folder))
        take_turns(small, 1 + options.small_rounds)
        report("Default project; target: at most 1.5 times one trivial rule", small, warm_up=1)
        large = large_sides(Path(folder), options.scale)
        take_turns(large, options.rounds)
        report("Large project; targets: at most 1.2 times constants, at most 1.6 times bare rules", large)


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the large project (default: 3)")
    parser.add_argument("--small-rounds", type=int, default=9, help="rounds of the small project (default: 9)")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the 10,000 jobs (default: 1)")
    return parser.parse_args()


def small_sides(folder: Path) -> list[Side]:
    """Return the default project and a Snakefile of one rule."""
    trivial = make_folder(folder / "trivial") / "Snakefile"
    trivial.write_text(TRIVIAL)
    (trivial.parent / "sample.txt").touch()
    project = Side("Foldwise, default project", ROOT / "Snakefile", make_folder(folder / "default"))
    return [project, Side("one trivial rule", trivial, trivial.parent)]


def large_sides(folder: Path, scale: float) -> list[Side]:
    """Return a large project and two Snakefiles of the same shape."""
    folds = max(2, round(OUTER_FOLDS * scale**0.5))
    project = make_folder(folder / "large" / "config").parent
    (project / "config/config.yaml").write_text(yaml.safe_dump(large_config(folds)))
    constant, bare = make_folder(folder / "constant"), make_folder(folder / "bare")
    (constant / "Snakefile").write_text(constant_snakefile(folds))
    (constant / "job.py").touch()
    (bare / "Snakefile").write_text(bare_snakefile(folds))
    return [
        Side("Foldwise, large project", ROOT / "Snakefile", project, "train"),
        Side("same rules, constants", constant / "Snakefile", constant, "train"),
        Side("inputs, outputs, shell", bare / "Snakefile", bare, "train"),
    ]


def make_folder(path: Path) -> Path:
    """Make a folder."""
    path.mkdir(parents=True, exist_ok=True)
    return path


def large_config(folds: int) -> dict[str, object]:
    """Return the configuration: several tasks on one dataset, four pipelines, all inner folds of all outer folds."""
    rates = zip(PIPELINES, (1e-3, 5e-4, 2e-4, 1e-4), strict=True)
    return {
        "tasks": ["digits", "figures", "numerals"],
        "definitions": {"figures": {"dataset": "digits"}, "numerals": {"dataset": "digits"}},
        "pivot": "digits",
        "arch": "small",
        "trainer": "short",
        "create": {"n_folds": folds},
        "train": {"nested": True, "inner_folds": "all"},
        "pipelines": {name: {"optimizer": {"lr": rate}} for name, rate in rates},
    }


def worker_rules() -> list[Rule]:
    """Return the worker rules, with paths as plain patterns."""
    dataset, tensors = "data/datasets/{dataset}", "data/tensors/{dataset}/{preprocessing}"
    models, logits = f"{RESULTS}/models/{MODEL}", f"{RESULTS}/logits/{MODEL}/{{target}}.npz"
    scores = f"{RESULTS}/scores/{MODEL}/{{target}}.json"
    described = {"dataset": quote(f"{dataset}/dataset.json"), "images": quote(f"{dataset}/images.csv")}
    base = {key: value.replace("{dataset}", "digits") for key, value in described.items()}
    pixels = {
        key: quote(f"{tensors}/{file}")
        for key, file in (("images", "images.npy"), ("channel_sums", "channel_sums.npy"), ("manifest", "manifest.json"))
    }
    return [
        Rule("create_dataset", update(described), {}, "{dataset}"),
        Rule("create_task", update(task_files("{base}")), base, "{base}"),
        Rule("derive_task", update(task_files("{parent}+{tag}")), read_task("{parent}"), "{parent}+{tag}"),
        Rule("preprocess_dataset", update(pixels), described, "{dataset}/{preprocessing}"),
        Rule("resolve_pipeline", {"pipeline": quote(f"{RESULTS}/pipelines/{{pipeline}}.yaml")}, {}, "{pipeline}"),
        Rule("train_fold", model_files(models), {**read_task("{task}"), **read_tensors()}, MODEL),
        Rule("tabulate_validation", {"table": quote(f"{RESULTS}/tables/validation.csv")}, {"models": "MODELS"}, "all"),
        Rule(
            "predict_fold",
            {"logits": quote(logits)},
            {
                **read_task("{target}"),
                **read_tensors(),
                "model": quote(f"{models}/model.json"),
                "weights": quote(f"{models}/model.safetensors"),
            },
            f"{MODEL}/{{target}}",
        ),
        Rule("score_fold", {"score": quote(scores)}, {"logits": quote(logits)}, f"{MODEL}/{{target}}"),
        Rule("tabulate_test", {"table": quote(f"{RESULTS}/tables/test.csv")}, {"scores": "MODELS"}, "all"),
    ]


def task_files(task: str) -> dict[str, str]:
    """Return the files of a task."""
    names = ("task", "task.json"), ("samples", "samples.csv"), ("folds", "folds.csv")
    return {key: quote(f"data/tasks/{task}/{file}") for key, file in names}


def read_task(task: str) -> dict[str, str]:
    """Return the files of a task as inputs."""
    files = task_files(task)
    return {**files, "task": f"ancient({files['task']})"}


def read_tensors() -> dict[str, str]:
    """Return the tensors as inputs."""
    return {
        "images": f"ancient({quote(f'{TENSORS}/images.npy')})",
        "channel_sums": f"ancient({quote(f'{TENSORS}/channel_sums.npy')})",
        "manifest": quote(f"{TENSORS}/manifest.json"),
    }


def model_files(folder: str) -> dict[str, str]:
    """Return what training writes."""
    names = ("model", "model.json"), ("weights", "model.safetensors"), ("curves", "metrics.csv"), ("run", "run.json")
    return {key: quote(f"{folder}/{file}") for key, file in names}


def update(files: Mapping[str, str]) -> dict[str, str]:
    """Mark outputs that are updated in place."""
    return {key: f"update({value})" for key, value in files.items()}


def quote(text: str) -> str:
    """Return text as a Python literal."""
    return f'"{text}"'


def targets(folds: int) -> str:
    """Return the lists of what is asked for, as Python."""
    pattern = "{pipeline}/digits+nested-{outer}/fold-{inner}"
    choices = f"pipeline={list(PIPELINES)}, outer=range({folds}), inner=range({folds})"
    return (
        f'MODELS = expand("{RESULTS}/models/{pattern}/model.json", {choices})\n'
        f'WANTED = [*expand("{RESULTS}/pipelines/{{pipeline}}.yaml", pipeline={list(PIPELINES)}), *MODELS, '
        f'"{RESULTS}/tables/validation.csv"]\n'
    )


def constant_snakefile(folds: int) -> str:
    """Return the same rules and directives with constants for whatever the project computes."""
    collectors = "".join(
        f'\nrule {name}:\n    input:\n        {wanted},\n    localrule: True\n    message:\n        "Mode {name}."\n'
        for name, wanted in {
            "all": "WANTED",
            "train": "WANTED",
            "create": '"data/tasks/digits/task.json"',
            "pp": quote(f"{TENSORS}/manifest.json"),
            "predict": quote(f"{RESULTS}/logits/first/digits/fold-0/digits.npz"),
            "test": quote(f"{RESULTS}/scores/first/digits/fold-0/digits.json"),
        }.items()
    )
    return targets(folds) + CONSTRAINTS + collectors + "".join(map(constant_rule, worker_rules()))


def constant_rule(rule: Rule) -> str:
    """Write a rule with every directive."""
    definition = '{"pipeline":{"arch":{"block_inplanes":[16,32,64,128],"conv1_t_size":3,"name":"resnet10"}},"seed":1}'
    constants = f"""    log:
        "{RESULTS}/logs/{rule.name}/{rule.path}.log",
    benchmark:
        "{RESULTS}/benchmarks/{rule.name}/{rule.path}.tsv"
    conda:
        "{ROOT}/envs/runtime.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        cfg={definition!r},
        revision=1,
    message:
        "{rule.name} {re.sub(r"{(?=[a-z])", "{wildcards.", rule.path)}: 12 epochs, lr 0.001, batches of 64, seed 42"
    script:
        "job.py"
"""
    return f"\nrule {rule.name}:\n" + files("input", rule.inputs) + files("output", rule.outputs) + constants


def bare_snakefile(folds: int) -> str:
    """Return the worker rules that are needed and the target, with inputs, outputs and shell alone."""
    needed = [rule for rule in worker_rules() if rule.name not in ("predict_fold", "score_fold", "tabulate_test")]
    train = "\nrule train:\n    input:\n        WANTED,\n"
    return targets(folds) + CONSTRAINTS + train + "".join(map(bare_rule, needed))


def bare_rule(rule: Rule) -> str:
    """Write a rule with inputs, outputs and shell alone."""
    inputs, outputs = (
        {key: re.sub(r"^(?:ancient|update)\((.*)\)$", r"\1", value) for key, value in paths.items()}
        for paths in (rule.inputs, rule.outputs)
    )
    shell = '    shell:\n        "touch {output}"\n'
    return f"\nrule {rule.name}:\n" + files("input", inputs) + files("output", outputs) + shell


def files(directive: str, paths: Mapping[str, str]) -> str:
    """Write the inputs or outputs of a rule."""
    lines = "".join(f"        {key}={value},\n" for key, value in paths.items())
    return f"    {directive}:\n{lines}" if lines else ""


def take_turns(sides: list[Side], rounds: int) -> None:
    """Run all sides, one after the other, again and again."""
    for number in range(rounds):
        for side in sides:
            side.run()
            print(f"{number + 1}/{rounds} {side.name}: {side.seconds[-1]:.2f} CPU s", file=sys.stderr, flush=True)


def report(title: str, sides: list[Side], warm_up: int = 0) -> None:
    """Print the medians of all sides and the ratios of the first to each of the others."""
    first, rows = sides[0], []
    for side in sides:
        seconds, memory = side.seconds[warm_up:], side.mebibytes[warm_up:]
        ratios = [ours / theirs for ours, theirs in zip(first.seconds[warm_up:], seconds, strict=True)]
        more = median(first.mebibytes[warm_up:]) / median(memory)
        figures = [side.jobs, str(len(seconds)), f"{median(seconds):.2f}", f"{median(memory):.0f}"]
        rows.append([side.name, *figures, *(["", ""] if side is first else [spread(ratios), f"{more:.2f}"])])
    columns = ["", "jobs", "runs", "CPU s", "peak MiB", "Foldwise CPU s to it", "Foldwise MiB to it"]
    print_table(title, columns, rows)


if __name__ == "__main__":
    main()
