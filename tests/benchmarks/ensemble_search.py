"""CPU seconds and memory of the searches for ensembles; random search against its arithmetic bound in the same process.

Run by hand, with nothing else running: ``python tests/benchmarks/ensemble_search.py``. One thread. Members are made up
of what all share, noise of their own and a signal that differs. The bound computes nothing but one matrix product and
one exponential a logit, in the batches of the engine. Its product is that of all members, which is what there is to
compute, or that of the members of a weight in the batch, as the engine leaves out the others. Sides alternate after one
of each; the ratio is the median over pairs of neighbouring runs. The engine's side is the whole `fit`, with checks,
losses of members, draws and the choice in double precision. The large case runs in a process a search. Nothing passes
or fails here.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from side_by_side import print_table, spread

from foldwise.post.convex import ConvexWeights
from foldwise.post.ensembles import Ensemble
from foldwise.post.greedy import GreedySelection
from foldwise.post.losses import BATCH, BLOCK
from foldwise.post.search import RandomSearch, dense

CLASSES = 10
SEARCHES: dict[str, Ensemble] = {
    "random": RandomSearch(),
    "random, equal weights": RandomSearch(weights_budget=0),
    "greedy": GreedySelection(),
    "convex": ConvexWeights(),
}
COLUMNS = ["", "CPU s", "log-loss", "best single", "members", "candidates", "duality gap"]


def main() -> None:
    """Measure all and print the tables."""
    options = parse_options()
    if options.one:
        row = measure(SEARCHES[options.one], *draw(options.members, options.samples))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print("\t".join([*row, f"{peak:.2f}"]))
        return
    members, targets = draw(50, 15_000)
    print_table(
        "Random search, 50 members x 15,000 samples x 10 classes, budget 1000; target: at most 1.5",
        ["bound, product of", "pairs", "engine CPU s", "bound CPU s", "ratio"],
        [compare(members, targets, used, options.pairs) for used in (False, True)],
    )
    print_table("The same members", COLUMNS, [[name, *measure(SEARCHES[name], members, targets)] for name in SEARCHES])
    rivals = np.random.default_rng(1).normal(size=members.shape).astype(np.float32)
    rivals[:, np.arange(len(targets)), targets] += 1
    row = measure(SEARCHES["convex"], rivals, targets)
    print_table("50 members that all get a weight; target: at most 1 s", COLUMNS, [["convex", *row]])
    if options.members:
        size = f"{options.members} members x {options.samples} samples x {CLASSES} classes"
        data = options.members * options.samples * CLASSES * 4 / 2**30
        title = f"{size}, {data:.2f} GiB of logits; target: 4 GiB"
        print_table(title, [*COLUMNS, "peak GiB"], [[name, *run_alone(name, options)] for name in SEARCHES])


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=7, help="pairs of runs (default: 7)")
    parser.add_argument("--members", type=int, default=200, help="of the large case; 0: leave it out (default: 200)")
    parser.add_argument("--samples", type=int, default=100_000, help="of the large case (default: 100000)")
    parser.add_argument("--one", choices=SEARCHES, help=argparse.SUPPRESS)
    return parser.parse_args()


def draw(members: int, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw normalised logits of members that err together, and on their own."""
    generator = np.random.default_rng(0)
    targets = generator.integers(0, CLASSES, samples)
    shared = generator.standard_normal((samples, CLASSES), dtype=np.float32)
    logits = np.empty((members, samples, CLASSES), np.float32)
    for place in range(members):
        member = logits[place]
        share = generator.random()
        member[:] = share * shared + (1.5 - share / 2) * generator.standard_normal(shared.shape, dtype=np.float32)
        member[np.arange(samples), targets] += 1 + 2 * generator.random()
        member -= np.log(np.exp(member).sum(axis=1, keepdims=True))
    return logits, targets


def compare(members: np.ndarray, targets: np.ndarray, is_used: bool, pairs: int) -> list[str]:
    """Run the search and its bound in turns; return a row of the table."""
    bound = partial(compute_bound, members, candidates(members, targets), is_used)
    engine = partial(RandomSearch().fit, members, targets)
    times = [(seconds(engine), seconds(bound)) for _ in range(pairs + 1)][1:]
    ours, theirs = ([pair[side] for pair in times] for side in (0, 1))
    ratio = spread([our / their for our, their in zip(ours, theirs, strict=True)])
    name = "members of a weight in the batch" if is_used else "all members"
    return [name, str(pairs), f"{median(ours):.3f}", f"{median(theirs):.3f}", ratio]


def candidates(members: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the weight vectors that the search evaluates."""
    found: list[np.ndarray] = []

    class Noting(RandomSearch):
        def explore(self, draws):  # type: ignore[no-untyped-def]
            explored = super().explore(draws)
            found.append(dense(explored, len(members)).astype(np.float32))
            return explored

    Noting().fit(members, targets)
    return found[0]


def compute_bound(members: np.ndarray, weights: np.ndarray, is_used: bool) -> None:
    """Compute a product and an exponential a logit, of blocks that lie in the cache, into memory that does."""
    step = BLOCK // CLASSES
    everything = np.arange(len(members))
    parts = [weights[start : start + BATCH] for start in range(0, len(weights), BATCH)]
    used = [np.flatnonzero(part.any(axis=0)) if is_used else everything for part in parts]
    vectors = [np.ascontiguousarray(part[:, own]) for part, own in zip(parts, used, strict=True)]
    block = np.ascontiguousarray(members[:, :step]).reshape(len(members), -1)
    blocks = [np.ascontiguousarray(block[own]) for own in used]
    memory = np.empty((BATCH, block.shape[1]), np.float32)
    for start in range(0, members.shape[1], step):
        logits = min(step, members.shape[1] - start) * CLASSES
        for part, own in zip(vectors, blocks, strict=True):
            out = memory[: len(part), :logits]
            np.matmul(part, own[:, :logits], out=out)
            np.exp(out, out=out)


def seconds(run: Callable[[], object]) -> float:
    """Return CPU seconds of a call."""
    start = time.process_time()
    run()
    return time.process_time() - start


def measure(search: Ensemble, members: np.ndarray, targets: np.ndarray) -> list[str]:
    """Run a search once; return what it took and found."""
    spent = seconds(partial(search.fit, members, targets))
    gap = f"{search.gap_:.1e}" if isinstance(search, ConvexWeights) else "-"
    losses = [f"{search.score_:.5f}", f"{search.singles_.min():.5f}"]
    return [f"{spent:.2f}", *losses, str(len(search.members_)), str(search.evaluated_), gap]


def run_alone(name: str, options: argparse.Namespace) -> list[str]:
    """Measure a search on the large case in a process of its own."""
    sizes = ["--members", str(options.members), "--samples", str(options.samples)]
    command = [sys.executable, __file__, "--one", name, *sizes]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().split("\t")


if __name__ == "__main__":
    main()
