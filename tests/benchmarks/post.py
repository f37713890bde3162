"""CPU seconds and memory of mode post: calibration of many members, the search for an ensemble, and all files.

Run by hand, with nothing else running: ``python tests/benchmarks/post.py``. Members are made up: the logits of classes
with noise of their own and a scale of their own. Engine calls run in one process with one thread, without start-up of
jobs. Nothing passes or fails here; the aim for the default sizes is 15 CPU seconds and 2 GB.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from side_by_side import print_table

from foldwise.config.jobs import CalibrateConfig, EnsembleConfig
from foldwise.config.modes import Calibration, EnsembleSearch
from foldwise.npz import NpzWriter
from foldwise.post.calibrate import calibrate_member
from foldwise.post.combine import EnsembleFiles, combine
from foldwise.post.members import Member


def main() -> None:
    """Make members, calibrate and combine them, and print a table."""
    options = parse_options()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for member in range(options.members):
            write_member(folder / f"{member}.npz", options, member)
        rows = [row("calibration", lambda: calibrate(folder, options))]
        for search in ("random", "greedy", "convex"):
            rows.append(row(f"ensemble, {search}", lambda search=search: find(folder, options, search)))
    sizes = f"{options.members} members, {options.samples} test samples, {options.classes} classes"
    print_table(f"Mode post: {sizes}, budget 1000", ["", "CPU s", "peak MB so far"], rows)


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=50, help="members (default: 50)")
    parser.add_argument("--samples", type=int, default=30_000, help="test samples (default: 30000)")
    parser.add_argument("--classes", type=int, default=10, help="classes (default: 10)")
    parser.add_argument("--prior", default="val", help="prior of calibration (default: val)")
    return parser.parse_args()


def write_member(path: Path, options: argparse.Namespace, member: int) -> None:
    """Write logits of a validation split a fifth as large, of a test split, and of as many unlabeled samples."""
    generator = np.random.default_rng(member)
    sizes = {"val": options.samples // 5, "test": options.samples, "unlabeled": options.samples}
    with NpzWriter(path) as writer:
        for place, (split, samples) in enumerate(sizes.items()):
            targets = np.random.default_rng(1000 + place).integers(0, options.classes, samples)
            noise = generator.normal(size=(samples, options.classes)).astype(np.float32)
            signal = 2 * np.eye(options.classes, dtype=np.float32)[targets]
            writer.add(f"{split}_logits", (1 + member % 7) * (noise + signal))
            writer.add(f"{split}_targets", targets if split != "unlabeled" else np.full(samples, -1))
            writer.add(f"{split}_ids", np.array([f"{split}-{sample:07d}" for sample in range(samples)]))


def calibrate(folder: Path, options: argparse.Namespace) -> None:
    """Calibrate all members."""
    config = CalibrateConfig(calibration=Calibration(prior=options.prior))
    for member in range(options.members):
        logits, out = folder / f"{member}.npz", folder / f"calibrated-{member}"
        calibrate_member(config, logits, logits, out.with_suffix(".npz"), out.with_suffix(".json"), {})


def find(folder: Path, options: argparse.Namespace, search: str) -> None:
    """Find an ensemble of the calibrated members, and write it with its logits and metrics."""
    config = EnsembleConfig(search=EnsembleSearch(search=search))
    members = [Member(str(k), (), (folder / f"calibrated-{k}.npz",)) for k in range(options.members)]
    files = EnsembleFiles(*(folder / name for name in ("ensemble.json", "logits.npz", "metrics.json")))
    combine(config, members, files, {})


def row(name: str, work: Callable[[], None]) -> list[str]:
    """Measure a piece of work; return a row of the table."""
    started = time.process_time()
    work()
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{name}: {seconds:.1f} s", file=sys.stderr, flush=True)
    return [name, f"{seconds:.1f}", f"{peak:.0f}"]


if __name__ == "__main__":
    main()
