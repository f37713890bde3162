"""Images a CPU-second of preprocessing against a bare loop, scaling with processes, and memory.

Run by hand, with nothing else running: ``python tests/benchmarks/preprocess_rate.py [--images 20000]``. Photograph-like
JPEGs of 512 x 512 pixels become tensors of 256 x 256; small PNG files of 28 x 28 are taken as they are. Every run is a
process of its own and pays for its start and imports; runs alternate, medians are shown. The bare loop decodes and
resizes images and does nothing else: no file is written (`write`: it is), nothing is measured, checked or flushed to
disk. Nothing passes or fails here.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
import simplejpeg
from PIL import Image
from side_by_side import print_table

DISTINCT = 100
LARGE, SIDE, SMALL = 512, 256, 28
READ_IMAGES = 16_000
GATHERED = 20_000
BILINEAR = Image.Resampling.BILINEAR
COLUMNS = ["", "processes", "CPU s", "wall s", "images a CPU-second", "images a second", "MB", "ratio to bare"]


def main() -> None:
    """Measure all cases and print the tables, or one run in a process of its own."""
    options = parse_options()
    if options.run:
        print(json.dumps(measure(RUNS[options.run], options)))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        make_dataset(Path(folder) / "large", options.images, encode_photograph)
        make_dataset(Path(folder) / "small", 5 * options.images, encode_small)
        print_table(
            f"{options.images} JPEGs, {LARGE} to {SIDE} pixels, decoded at half scale; target: a ratio of 0.8",
            COLUMNS,
            compare(["bare", "write", "raw 1", "raw 2", "jpeg 1", "jpeg 2"], Path(folder) / "large", options),
        )
        print_table(
            f"{options.images} JPEGs, {LARGE} to {SIDE} pixels, decoded in full",
            COLUMNS,
            compare(["bare-full", "full 1", "full 2"], Path(folder) / "large", options),
        )
        print_table(
            f"{5 * options.images} PNG files of {SMALL} pixels",
            COLUMNS,
            compare(["bare-small", "small 1", "small 2"], Path(folder) / "small", options),
        )
        print_table(
            f"Random batches of 64 out of {READ_IMAGES * SIDE * SIDE * 3 / 1e9:.1f} GB of raw tensors",
            ["", "images a second", "MB"],
            [reading_row(folder, options)],
        )


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000, help="number of JPEGs (default: 2000)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each kind (default: 3)")
    parser.add_argument("--folder", help="where files are made (default: the usual place of temporary files)")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--processes", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def encode_photograph(seed: int) -> tuple[str, bytes]:
    """Return a JPEG of smooth noise of several scales, with sharp shapes."""
    generator = np.random.default_rng(seed)
    pixels = np.full((LARGE, LARGE, 3), 128.0)
    for cells, strength in ((4, 1.0), (16, 0.55), (64, 0.3), (256, 0.15), (LARGE, 0.05)):
        coarse = Image.fromarray(generator.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        pixels += strength * (np.asarray(coarse.resize((LARGE, LARGE), Image.Resampling.BICUBIC), float) - 128)
    rows, columns = np.mgrid[:LARGE, :LARGE]
    for row, column, radius in generator.uniform(0, LARGE, (6, 3)):
        pixels[(rows - row) ** 2 + (columns - column) ** 2 < (radius / 3) ** 2] += generator.uniform(-60, 60, 3)
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return "jpg", buffer.getvalue()


def encode_small(seed: int) -> tuple[str, bytes]:
    """Return a small PNG file."""
    coarse = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (7, 7, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    coarse.resize((SMALL, SMALL), Image.Resampling.BICUBIC).save(buffer, "PNG")
    return "png", buffer.getvalue()


def make_dataset(folder: Path, images: int, encode: Callable[[int], tuple[str, bytes]]) -> None:
    """Write a dataset; files of equal content are links to one, so that the disk is not what is measured."""
    from foldwise.artifacts import sha256, write_csv, write_json
    from foldwise.config.canonical import differences
    from foldwise.config.definition import DatasetRecord

    (folder / "files").mkdir(parents=True)
    rows = []
    for number in range(images):
        original = folder / f"files/{number % DISTINCT:06d}"
        if number < DISTINCT:
            suffix, content = encode(number)
            original.write_bytes(content)
        os.link(original, folder / f"files/{number:06d}.{suffix}")
        rows.append((f"{number:06d}.{suffix}", f"files/{number:06d}.{suffix}", "", "", ""))
    write_csv(folder / "images.csv", ("image", "path", "width", "height", "channels"), rows)
    definition = differences(DatasetRecord(dataset="measured"))
    write_json(
        folder / "dataset.json",
        {"definition": definition, "checksums": {"images.csv": sha256(folder / "images.csv")}},
    )


def compare(names: list[str], folder: Path, options: argparse.Namespace) -> list[list[str]]:
    """Measure runs in turns; return a row for each, with its ratio of images a CPU-second to the first."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _ in range(options.repeats):
        for name in names:
            found[name].append(run_apart(name, folder))
    rates = {name: [run["images"] / run["cpu"] for run in runs] for name, runs in found.items()}
    rows = []
    for name, runs in found.items():
        cpu, wall, memory = (median(run[key] for run in runs) for key in ("cpu", "wall", "memory"))
        ratio = median(ours / bare for ours, bare in zip(rates[name], rates[names[0]], strict=True))
        figures = [f"{cpu:.2f}", f"{wall:.2f}", f"{median(rates[name]):.0f}", f"{runs[0]['images'] / wall:.0f}"]
        rows.append(
            [name.split()[0], name.split()[-1] if " " in name else "1", *figures, f"{memory:.0f}", f"{ratio:.2f}"]
        )
    return rows


def run_apart(name: str, folder: Path) -> dict[str, Any]:
    """Measure one run in a process of its own."""
    kind, _, processes = name.partition(" ")
    command = [sys.executable, __file__, "--run", kind, "--processes", processes or "1", "--folder", str(folder)]
    print(f"{name} ...", file=sys.stderr, flush=True)
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def measure(run: Callable[[Path, int], int], options: argparse.Namespace) -> dict[str, Any]:
    """Return images, CPU seconds and peak memory of this process and its children, and seconds of the run."""
    started = time.monotonic()
    images = run(Path(options.folder), options.processes)
    wall = time.monotonic() - started
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    cpu = sum(part.ru_utime + part.ru_stime for part in (own, children))
    memory = (own.ru_maxrss + options.processes * children.ru_maxrss) / 1024
    return {"images": images, "cpu": cpu, "wall": wall, "memory": memory}


def preprocess(folder: Path, processes: int, **keys: Any) -> int:
    """Make tensors with the engine."""
    from foldwise.config.definition import DatasetRecord
    from foldwise.config.preprocessing import Preprocessing, TensorRecord
    from foldwise.data.preprocess import TensorFiles, preprocess_dataset

    record = TensorRecord(dataset="measured", preprocessing=Preprocessing(**keys))
    with tempfile.TemporaryDirectory(dir=folder) as target:
        files = TensorFiles.of(Path(target) / "tensors")
        description, table = folder / "dataset.json", folder / "images.csv"
        preprocess_dataset(record, DatasetRecord(dataset="measured"), 1, description, table, files, processes)
        return len(json.loads(files.manifest.read_text())["images"])


def loop(folder: Path, side: int, decode: Callable[[bytes], Image.Image], target: str = os.devnull) -> int:
    """Decode and resize images into an array of a hundred, which is written over and over."""
    paths = [line.split(",")[1] for line in (folder / "images.csv").read_text().splitlines()[1:]]
    pixels = np.empty((DISTINCT, side, side, 3), np.uint8)
    with open(folder / target, "wb") as file:
        for start in range(0, len(paths), DISTINCT):
            for place, path in enumerate(paths[start : start + DISTINCT]):
                with open(folder / path, "rb") as handle:
                    picture = decode(handle.read())
                resized = picture if picture.size == (side, side) else picture.resize((side, side), BILINEAR)
                pixels[place] = resized
            file.write(pixels.data)
    return len(paths)


def decode_half(content: bytes) -> Image.Image:
    """Decode a JPEG at half its size."""
    return Image.fromarray(simplejpeg.decode_jpeg(content, "RGB", min_height=LARGE // 2, min_width=LARGE // 2))


def decode_full(content: bytes) -> Image.Image:
    """Decode a JPEG."""
    return Image.fromarray(simplejpeg.decode_jpeg(content, "RGB"))


def decode_any(content: bytes) -> Image.Image:
    """Decode an image with Pillow."""
    return Image.open(io.BytesIO(content)).convert("RGB")


def gather(folder: Path, processes: int) -> int:
    """Read random batches out of a large file; `processes` has no meaning here."""
    from foldwise.data.rows import StoredRows, npy_header

    path, shape = folder / "large.npy", (READ_IMAGES, SIDE, SIDE, 3)
    stored = StoredRows(path, shape, len(npy_header(shape)))
    generator = np.random.default_rng(0)
    for _ in range(0, GATHERED, 64):
        stored[generator.integers(0, READ_IMAGES, 64)]
    return GATHERED


def reading_row(folder: str, options: argparse.Namespace) -> list[str]:
    """Write a large file and measure how it is read."""
    from foldwise.data.rows import npy_header

    shape = (READ_IMAGES, SIDE, SIDE, 3)
    with open(Path(folder) / "large.npy", "wb") as handle:
        handle.write(npy_header(shape))
        block = np.random.default_rng(0).integers(0, 256, shape[1:], dtype=np.uint8)
        for _ in range(READ_IMAGES):
            handle.write(block.data)
    runs = [run_apart("gather", Path(folder)) for _ in range(options.repeats)]
    rate = median(run["images"] / run["wall"] for run in runs)
    return ["StoredRows", f"{rate:.0f}", f"{median(run['memory'] for run in runs):.0f}"]


RUNS: dict[str, Callable[[Path, int], int]] = {
    "bare": lambda folder, _: loop(folder, SIDE, decode_half),
    "write": lambda folder, _: loop(folder, SIDE, decode_half, "written"),
    "bare-full": lambda folder, _: loop(folder, SIDE, decode_full),
    "bare-small": lambda folder, _: loop(folder, SMALL, decode_any),
    "raw": lambda folder, processes: preprocess(folder, processes, size=SIDE),
    "jpeg": lambda folder, processes: preprocess(folder, processes, size=SIDE, storage="jpeg"),
    "full": lambda folder, processes: preprocess(folder, processes, size=SIDE, reduced_decoding=False),
    "small": lambda folder, processes: preprocess(folder, processes, size=SMALL),
    "gather": gather,
}

if __name__ == "__main__":
    main()
