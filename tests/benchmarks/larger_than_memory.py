"""Training from tensors that do not fit the memory of the process: resident memory and address space stay bounded.

python tests/benchmarks/larger_than_memory.py [--images 60000] [--limit 6]

A file of tensors of 256 x 256 pixels is made without writing it (a file with holes: 12 GB for 60,000 images). One epoch
of a small network then reads every image of it in random order, in a process whose address space is limited.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
SIDE = 256


def make_file(path: Path, images: int) -> tuple[int, ...]:
    """Make a file of black images that takes no room on the disk."""
    shape = (images, SIDE, SIDE, 3)
    with path.open("wb") as handle:
        np.lib.format.write_array_header_2_0(handle, {"descr": "|u1", "fortran_order": False, "shape": shape})
        handle.truncate(handle.tell() + int(np.prod(shape)))
    return shape


def train(path: Path, images: int) -> None:
    """Train for an epoch on all images and print the peak of resident memory."""
    from foldwise.config.definition import TaskRecord
    from foldwise.config.jobs import TrainConfig
    from foldwise.config.pipeline import Pipeline
    from foldwise.config.preprocessing import Preprocessing, TensorRecord
    from foldwise.data.files import Data
    from foldwise.data.rows import open_rows
    from foldwise.data.tensors import TensorStore
    from foldwise.tasks.task import Task
    from foldwise.training.fit import Run
    from foldwise.training.fold import ModelFiles, train_model

    shape, rows = (images, SIDE, SIDE, 3), 20
    chunk = zlib.crc32(bytes(rows * SIDE * SIDE * 3))
    stored = open_rows(path, shape, {"algorithm": "crc32", "rows": rows, "chunks": [chunk] * (images // rows)})
    names = np.array([f"{number:08d}" for number in range(images)])
    folds = np.arange(images) % 20
    task = Task(
        "black", "classification", "black", ("a", "b"), names, names, np.full(images, "train"),
        np.arange(images) % 2, folds,
    )  # fmt: skip
    store = TensorStore(stored, np.zeros((images, 2, 3)), {name: row for row, name in enumerate(names)})
    recipe = {
        "arch": {"name": "resnet10", "block_inplanes": [4, 4, 8, 8], "conv1_t_size": 3, "conv1_t_stride": 4},
        "augmentations": {"operations": []},
        "trainer": {"max_epochs": 1},
    }
    record = TensorRecord(dataset="black", preprocessing=Preprocessing(size=SIDE))
    config = TrainConfig(pipeline=Pipeline.model_validate(recipe), task=TaskRecord(dataset="black"), tensors=record)
    files = ModelFiles(path.with_name("model.json"), path.with_name("metrics.csv"), None)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    train_model(config, "default", 0, [Data(task, store)], files, 1, Run(report=print))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"resident memory: {before / 1024:.0f} MB before training, peak {after / 1024:.0f} MB")


def main() -> None:
    """Make the file, and train in a process with a limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--limit", type=float, default=6, help="address space in GiB")
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.file:
        train(arguments.file, arguments.images)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.npy"
        make_file(path, arguments.images)
        limit = int(arguments.limit * 2**30)
        print(f"{path.stat().st_size / 2**30:.1f} GiB of tensors, {arguments.limit:g} GiB of address space", flush=True)
        command = [sys.executable, __file__, "--file", str(path), "--images", str(arguments.images)]
        subprocess.run(
            command, check=True, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        )  # fmt: skip


if __name__ == "__main__":
    main()
