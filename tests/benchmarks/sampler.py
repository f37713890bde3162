"""Settings that mode hpo chooses, beside those of Optuna by hand, on a smooth function without noise.

    python tests/benchmarks/sampler.py [--seeds 40]

Forty trials each; the lowest value found, over all seeds. By hand every trial knows all before; mode hpo runs four at a
time. Nothing is trained, nothing passes or fails.
"""

from __future__ import annotations

import argparse
import math
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean, median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import optuna

from foldwise.hpo.sampling import ask
from foldwise.hpo.trials import TrialRecord
from unit.hpo.studies import make_record, make_study

TRIALS = 40
SPACE = {
    "optimizer.lr": {"low": 1e-5, "high": 1e-1, "log": True},
    "optimizer.weight_decay": {"low": 1e-4, "high": 1.0, "log": True},
    "sampling.batch_size": [16, 32, 64, 128],
    "arch.dropout": {"low": 0.0, "high": 0.5},
}


def loss(point: Mapping[str, float]) -> float:
    """Return something like a validation loss: lowest at a rate of 0.005, decay of 0.03, batches of 16, dropout 0.1."""
    rate, decay = math.log10(point["optimizer.lr"]) + 2.3, math.log10(point["optimizer.weight_decay"]) + 1.5
    size, dropout = abs(math.log2(point["sampling.batch_size"] / 16)), point["arch.dropout"] - 0.1
    return 0.05 + 0.02 * rate**2 + 0.005 * decay**2 + 0.004 * size + 0.05 * dropout**2


def ours(seed: int, parallel: int) -> float:
    """Return the lowest value of a study of mode hpo."""
    config = make_study(SPACE, sampler="tpe").model_copy(update={"seed": seed})
    records: list[TrialRecord] = []
    for number in range(TRIALS):
        _, point = ask(config, number, records[: max(0, number - parallel + 1)])
        records.append(make_record(config, number, point, loss(point)))
    return min(record.value for record in records if record.value is not None)


def by_hand(seed: int) -> float:
    """Return the lowest value of a study of Optuna's own."""

    def objective(trial: optuna.Trial) -> float:
        return loss(
            {
                "arch.dropout": trial.suggest_float("dropout", 0.0, 0.5),
                "optimizer.lr": trial.suggest_float("lr", 1e-5, 1e-1, log=True),
                "optimizer.weight_decay": trial.suggest_float("decay", 1e-4, 1.0, log=True),
                "sampling.batch_size": trial.suggest_categorical("size", [16, 32, 64, 128]),
            }
        )

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    study.optimize(objective, n_trials=TRIALS)
    return float(study.best_value)


def main() -> None:
    """Print a line a way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=40)
    seeds = range(parser.parse_args().seeds)
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    ways = {
        "mode hpo, four at a time": lambda seed: ours(seed, 4),
        "mode hpo, one at a time": lambda seed: ours(seed, 1),
        "by hand": by_hand,
    }
    for name, way in ways.items():
        values = [way(seed) for seed in seeds]
        print(f"{name:<25} mean {fmean(values):.5f}, median {median(values):.5f}, worst {max(values):.5f}", flush=True)


if __name__ == "__main__":
    main()
