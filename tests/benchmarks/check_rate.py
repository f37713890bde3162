"""Images a second of the check and of decoding, against bare Pillow in a loop.

Run by hand, with nothing else running: ``python tests/benchmarks/check_rate.py``. Small PNG files and medium JPEG files
are made in a temporary folder. Runs alternate; medians are shown, ratios are the median over pairs of neighbouring
runs. The check starts anew each time, start of its processes included. Nothing passes or fails here.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import numpy as np
from PIL import Image
from side_by_side import print_table, spread

from foldwise.tasks.check import check_images
from foldwise.tasks.decode import load_rgb
from foldwise.tasks.sources.listing import Listing

SMALL, MEDIUM, REDUCED = 28, 512, 256


def main() -> None:
    """Print both tables."""
    options = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        small = make_images(Path(folder, "small"), options.small, SMALL, "png")
        medium = make_images(Path(folder, "medium"), options.medium, MEDIUM, "jpg")
        kinds = ((f"PNG, {SMALL} px", small), (f"JPEG, {MEDIUM} px", medium))
        check_rows = [
            row(f"{name}, workers: {workers}", len(paths), options.pairs, checking(paths, workers), bare(paths))
            for name, paths in kinds
            for workers in (1, 2)
        ]
        decode_rows = [
            row(f"{name} to RGB", len(paths), options.pairs, decoding(paths, None), bare_rgb(paths, None))
            for name, paths in kinds
        ]
        name = f"JPEG, {MEDIUM} px at {REDUCED}"
        decode_rows.append(row(name, len(medium), options.pairs, decoding(medium, REDUCED), bare_rgb(medium, REDUCED)))
    columns = ("files", "images", "ours/s", "Pillow/s", "ours/CPU s", "Pillow/CPU s", "ratio", "ratio a CPU s")
    print_table("The check, against Image.open and load in a loop", columns, check_rows)
    print_table("load_rgb, against Image.open, draft and convert in a loop", columns, decode_rows)


def parse_arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", type=int, default=20000, help="number of small PNG files")
    parser.add_argument("--medium", type=int, default=2000, help="number of medium JPEG files")
    parser.add_argument("--pairs", type=int, default=5, help="runs of each side")
    return parser.parse_args()


def make_images(folder: Path, count: int, side: int, suffix: str) -> list[Path]:
    """Write smooth images with some noise, of which 100 differ, each under many names."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    contents = []
    for _ in range(min(count, 100)):
        coarse = Image.fromarray(generator.integers(0, 256, (side // 14, side // 14, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC)).astype(float)
        pixels = (smooth + generator.normal(0, 4, smooth.shape)).clip(0, 255).astype(np.uint8)
        path = folder / f"made.{suffix}"
        Image.fromarray(pixels).save(path, quality=90)
        contents.append(path.read_bytes())
        path.unlink()
    paths = [folder / f"{number:06d}.{suffix}" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(contents[number % len(contents)])
    return paths


def checking(paths: list[Path], workers: int) -> Callable[[], object]:
    """Return a check of all images that knows nothing before."""
    folder, journal = paths[0].parent, paths[0].parent / "journal"
    names = [path.name for path in paths]
    listing = Listing(dict(zip(names, names, strict=True)), {"image": names}, [])

    def run() -> None:
        journal.unlink(missing_ok=True)
        checked = check_images(listing, folder, workers, lambda text: None, journal)
        if checked.problems:
            raise SystemExit(f"{len(checked.problems)} images were refused")

    return run


def bare(paths: list[Path]) -> Callable[[], object]:
    """Return a loop that decodes all images at full size."""

    def run() -> None:
        for path in paths:
            with Image.open(path) as image:
                image.load()

    return run


def decoding(paths: list[Path], smallest: int | None) -> Callable[[], object]:
    """Return a loop of `load_rgb`."""

    def run() -> None:
        for path in paths:
            load_rgb(path, smallest)

    return run


def bare_rgb(paths: list[Path], smallest: int | None) -> Callable[[], object]:
    """Return the same with Pillow alone."""

    def run() -> None:
        for path in paths:
            with Image.open(path) as image:
                if smallest:
                    image.draft("RGB", (smallest, smallest))
                image.convert("RGB")

    return run


def row(name: str, count: int, pairs: int, ours: Callable[[], object], theirs: Callable[[], object]) -> list[str]:
    """Run both in turns, after one of each to warm up; return a row of the table."""
    times = [(measure(ours), measure(theirs)) for _ in range(pairs + 1)][1:]
    figures = [f"{count / median(pair[side][clock] for pair in times):.0f}" for clock in (0, 1) for side in (0, 1)]
    ratios = [spread([bare_run[clock] / our_run[clock] for our_run, bare_run in times]) for clock in (0, 1)]
    print(f"{name}: {ratios[0]}", file=sys.stderr, flush=True)
    return [name, f"{pairs} x {count}", *figures, *ratios]


def measure(run: Callable[[], object]) -> tuple[float, float]:
    """Return seconds and CPU seconds of a run, those of processes that it started included."""
    before, started = cpu_seconds(), time.perf_counter()
    run()
    return time.perf_counter() - started, cpu_seconds() - before


def cpu_seconds() -> float:
    """Return the CPU seconds that this process and those that it waited for have used."""
    usages = (getrusage(who) for who in (RUSAGE_SELF, RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


if __name__ == "__main__":
    main()
