"""Mode create on a table of many samples: seconds and memory of the whole command.

python tests/benchmarks/create_rate.py [--samples 1000000] [--images 10000]
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

REPOSITORY = Path(__file__).parents[2]


def write_images(folder: Path, count: int) -> None:
    """Write small images of noise, a thousand a folder."""
    generator = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number // 1000:03d}" / f"{number:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (8, 8), dtype=np.uint8)).save(path, compress_level=1)


def write_table(path: Path, samples: int, images: int) -> None:
    """Write a table of samples that share images, with ten classes and a patient for every eight samples."""
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["id", "image", "class", "patient"])
        for number in range(samples):
            image = number % images
            writer.writerow([f"s{number:07d}", f"{image // 1000:03d}/{image:06d}.png", number % 10, number // 8])


def create(folder: Path, check: str, grouped: bool) -> tuple[float, dict[str, float]]:
    """Run the mode; return seconds and the peak memory of each job in MB."""
    definition = {"source": "table", "path": "table.csv", "images": "images"}
    if grouped:
        definition |= {"columns": {"group": "patient"}}
    config = {"tasks": ["many"], "pivot": "many", "definitions": {"many": definition}, "create": {"check": check}}
    work = folder / f"{check}-{grouped}"
    (work / "config").mkdir(parents=True)
    (work / "config/config.yaml").write_text(yaml.safe_dump(config))
    for name in ("images", "table.csv"):
        (work / name).symlink_to(folder / name)
    command = [
        str(Path(sys.executable).parent / "snakemake"),
        "-s",
        str(REPOSITORY / "Snakefile"),
        "create",
        "--cores",
        "2",
    ]
    started = time.perf_counter()
    subprocess.run(command, cwd=work, check=True, capture_output=True)
    seconds = time.perf_counter() - started
    peaks = {}
    for path in work.glob("results/default/benchmarks/*/*.tsv"):
        header, row = (line.split("\t") for line in path.read_text().splitlines()[:2])
        peaks[path.parent.name] = float(row[header.index("max_rss")])
    return seconds, peaks


def main() -> None:
    """Print a line for each way to create."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--images", type=int, default=10_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder / "images", arguments.images)
        write_table(folder / "table.csv", arguments.samples, arguments.images)
        for check, grouped in (("none", False), ("full", False), ("full", True)):
            seconds, peaks = create(folder, check, grouped)
            memory = ", ".join(f"{rule} {peak:.0f} MB" for rule, peak in peaks.items())
            print(f"{arguments.samples} samples, check {check}, groups {grouped}: {seconds:.1f} s; {memory}")


if __name__ == "__main__":
    main()
