"""What a terminal shows of an ensemble."""

from __future__ import annotations

from pathlib import Path

from foldwise.artifacts import read_json
from foldwise.report.tables import lay_out, printable

SHOWN = 10  # members


def describe_ensemble(ensemble: Path, metrics: Path, target: str) -> str:
    """Return the weights of an ensemble, the largest first, and its metrics beside those of the best single member.

    Parameters
    ----------
    ensemble, metrics : Path
        ``ensemble.json`` and ``metrics.json``.
    target : str
        The task.
    """
    found, scores = read_json(ensemble), read_json(metrics)
    weights = sorted(zip(found["weights"], found["members"], strict=True), key=lambda item: -item[0])
    shown = [(f"{weight:.4f}", printable(name)) for weight, name in weights[:SHOWN]]
    if len(weights) > SHOWN:
        shown.append(("", f"and {len(weights) - SHOWN} more"))
    best = scores["best_member"]["metrics"]
    figures = [(printable(name), number(value), number(best[name])) for name, value in scores["metrics"].items()]
    parts = [("weight", "member"), *shown], [("metric", "ensemble", "best member"), *figures]
    about = f"Ensemble on {printable(target)}, metrics of {scores['samples']} test samples that did not select"
    return "\n\n".join([about, *(lay_out(list(zip(*rows, strict=True))) for rows in parts)])


def number(value: float | None) -> str:
    """Write a metric; a dash where it is not defined."""
    return "-" if value is None else f"{value:.4f}"
