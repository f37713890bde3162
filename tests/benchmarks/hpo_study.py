"""A study of 40 trials on the digits beside Optuna run by hand, and what a trial costs beside the same training.

    python tests/benchmarks/hpo_study.py FOLDER [--trials 40] [--seeds 0 1 2] [--kills 3]

Mode hpo runs with four trials at a time, and of the first seed is killed (SIGKILL, the whole group of processes) at
random moments; no trial that was finished may be lost, differ, or be trained again. By hand: one process,
`study.optimize` of the same objective with Optuna's TPE sampler, which knows all trials before. The last lines tell the
CPU seconds of a trial beside those of mode train with the same settings, each a job of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).parents[2]
SPACE = {
    "optimizer.lr": {"low": 1e-5, "high": 1e-1, "log": True},
    "optimizer.weight_decay": {"low": 1e-4, "high": 1.0, "log": True},
    "sampling.batch_size": [16, 32, 64, 128],
    "arch.dropout": {"low": 0.0, "high": 0.5},
}
EPOCHS = 6
STUDY = "results/default/studies/lr"


def configuration(seed: int, trials: int) -> dict:
    """Return the configuration of a study."""
    return {
        "seed": seed,
        "tasks": ["digits"],
        "pivot": "digits",
        "arch": "small",
        "trainer": {"max_epochs": EPOCHS},
        "train": {"cv": False},
        "hpo": {"study": "lr", "trials": trials, "parallel": 4, "search_space": SPACE},
    }


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    """Start Snakemake with four cores in a group of processes of its own."""
    command = [str(Path(sys.executable).parent / "snakemake"), "-s", str(REPOSITORY / "Snakefile"), "--cores", "4"]
    return subprocess.Popen(
        [*command, *arguments], cwd=folder, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def finished(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return date and bytes of the trials that are finished."""
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.glob(f"{STUDY}/trials/*.json")}


def run_study(folder: Path, seed: int, trials: int, kills: int) -> float:
    """Run mode hpo, killed now and then; return the best value."""
    (folder / "config").mkdir(parents=True, exist_ok=True)
    (folder / "config/config.yaml").write_text(yaml.safe_dump(configuration(seed, trials), sort_keys=False))
    assert start(folder, "create", "pp").wait() == 0
    moments, known = random.Random(seed), {}
    for _ in range(kills):
        process = start(folder, "hpo")
        time.sleep(moments.uniform(15, 60))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        start(folder, "--unlock").wait()
        done = finished(folder)
        check(folder, known, done)
        known |= done
        print(f"  killed with {len(done)} of {trials} trials finished", flush=True)
    assert start(folder, "hpo").wait() == 0
    done = finished(folder)
    assert len(done) == trials
    check(folder, known, done)
    return best(done)


def check(folder: Path, known: dict[str, tuple[int, bytes]], done: dict[str, tuple[int, bytes]]) -> None:
    """Stop if a trial that was finished differs, or was trained again after its job was killed in the last moment."""
    for name in set(known) & set(done):
        assert done[name][1] == known[name][1], f"{name} differs"
        if done[name][0] != known[name][0]:
            log = folder / f"results/default/logs/run_trial/lr/{Path(name).stem}.log"
            assert "was finished before" in log.read_text(), f"{name} was trained again"
            print(f"  {name} was finished, but its job was not; its record was taken over", flush=True)


def best(done: dict[str, tuple[int, bytes]]) -> float:
    """Return the best value of trials."""
    values = [json.loads(content)["value"] for _, content in done.values()]
    return min(value for value in values if value is not None)


def by_hand(folder: Path, seed: int, trials: int) -> float:
    """Run Optuna in one process on the same objective; return the best value."""
    code = f"""
import sys
sys.path.insert(0, {str(REPOSITORY / "scripts")!r})
import torch
torch.set_num_threads(1)
from foldwise.job import Job
import optuna
from pathlib import Path
from foldwise.config.load import Library, load_config
from foldwise.config.jobs import train_config
from foldwise.data.files import DataFiles
from foldwise.training.fold import ModelFiles, train_fold
library = Library.read(Path({str(REPOSITORY / "config")!r}))
tensors = next(Path("data/tensors/digits").iterdir()) / "images.npy"
data = [DataFiles.of(Path("data/tasks/digits+nested-0/task.json"), tensors)]

def objective(trial):
    tree = {{
        "seed": {seed}, "arch": {{"preset": "small", "dropout": trial.suggest_float("dropout", 0.0, 0.5)}},
        "optimizer": {{
            "lr": trial.suggest_float("lr", 1e-5, 1e-1, log=True),
            "weight_decay": trial.suggest_float("weight_decay", 1e-4, 1.0, log=True),
        }},
        "sampling": {{"batch_size": trial.suggest_categorical("batch_size", [16, 32, 64, 128])}},
        "trainer": {{"max_epochs": {EPOCHS}}},
    }}
    config = load_config(tree, library)
    training = train_config(config, config.pipelines["default"], "digits+nested-0")
    files = ModelFiles(Path("hand/model.json"), Path("hand/metrics.csv"), None)
    return train_fold(training, "default", 0, data, files, 1).record["score"]

optuna.logging.set_verbosity(optuna.logging.ERROR)
study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed={seed}))
study.optimize(objective, n_trials={trials})
print(study.best_value)
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(result.stdout.split()[-1])


def cpu_of(folder: Path, *arguments: str) -> float:
    """Return the CPU seconds of a run of Snakemake."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert start(folder, *arguments).wait() == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def costs(folder: Path) -> None:
    """Print what a trial costs beside a training of mode train with the same settings."""
    settings = {**configuration(0, 1), "hpo": {"study": "one", "trials": 1, "search_space": {"optimizer.lr": [5e-4]}}}
    (folder / "config").mkdir(parents=True, exist_ok=True)
    (folder / "config/config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    assert start(folder, "create", "pp").wait() == 0
    ratios = []
    for number in range(3):
        project = f"project=run{number}"
        model = f"results/run{number}/models/default/digits+nested-0/fold-0/model.json"
        trial = f"results/run{number}/studies/one/trials/0.json"
        spent = [cpu_of(folder, target, "--config", project) for target in (model, trial)]
        same = json.loads((folder / trial).read_text())["value"] == json.loads((folder / model).read_text())["score"]
        ratios.append(spent[1] / spent[0])
        print(
            f"  train_fold {spent[0]:.2f}, run_trial {spent[1]:.2f} CPU s, ratio {ratios[-1]:.2f}; same score: {same}"
        )
    print(f"a trial costs {sorted(ratios)[1]:.2f} times the same training (median of 3, Snakemake included)")


def main() -> None:
    """Compare, seed by seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--kills", type=int, default=3)
    options = parser.parse_args()
    for place, seed in enumerate(options.seeds):
        folder = options.folder / f"seed-{seed}"
        begun = time.monotonic()
        ours = run_study(folder, seed, options.trials, 0 if place else options.kills)
        seconds = time.monotonic() - begun
        theirs = by_hand(folder, seed, options.trials)
        print(f"seed {seed}: mode hpo {ours:.5f} ({seconds:.0f} s, 4 at a time), by hand {theirs:.5f}", flush=True)
    costs(options.folder / "costs")


if __name__ == "__main__":
    main()
