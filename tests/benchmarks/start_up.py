"""CPU seconds of a training job from the start of its process to its first step, against the imports that it needs.

Run by hand, with nothing else running: ``python tests/benchmarks/start_up.py``. The job is `scripts/train_fold.py` on
the digits with the default configuration and the preset `small`; its process ends as the first training step begins.
The other side imports torch, Lightning, the module of MONAI's network and kornia's augmentation, and nothing else.
Runs alternate after one of each; medians are shown, the ratio is the median over pairs. A further run of each with
``-X importtime``, the job's to its end, tells which modules only the job imports. Nothing passes or fails here.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import runpy
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")

ROOT = Path(__file__).resolve().parents[2]
NEEDED = "import torch, lightning.pytorch, monai.networks.nets.resnet, kornia.augmentation"
TELL = "import time; print('seconds', time.process_time(), time.time())"
TIMED = re.compile(r"^import time:\s+(\d+) \|\s+\d+ \|\s*(\S+)$", re.MULTILINE)


def main() -> None:
    """Print the times and the packages, or be the job that is timed."""
    options = parse_options()
    if options.job:
        run_job(json.loads(options.job), options.whole)
        return
    with tempfile.TemporaryDirectory() as folder:
        job = [__file__, "--job", json.dumps(make_job(Path(folder)))]
        imports = ["-c", f"{NEEDED}; {TELL}"]
        print_times(job, imports, options.pairs)
        print_packages([*job, "--whole"], imports)


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5, help="pairs of runs (default: 5)")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    parser.add_argument("--whole", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def make_job(folder: Path) -> dict[str, Any]:
    """Make the digits, and return what the script of the job is given."""
    from digits import configure, make_data

    from foldwise.config.jobs import slice_json, train_config

    config = configure(trainer={"max_epochs": 1, "limit_train_batches": 1})
    files = make_data(folder / "data", config)
    return {
        "folder": str(folder),
        "config": slice_json(train_config(config, config.pipelines["default"], "digits")),
        "task": str(files.task.description),
        "images": str(files.tensors.images),
    }


def run_job(job: dict[str, Any], to_its_end: bool) -> None:
    """Run the script as Snakemake does, to its end or up to the first training step."""
    if not to_its_end:
        from foldwise.training.module import FoldModule

        FoldModule.training_step = end  # type: ignore[method-assign,assignment]
    script = ROOT / "scripts/train_fold.py"
    runpy.run_path(str(script), init_globals={"snakemake": given(job, script)}, run_name="__main__")


def end(*_: Any) -> None:
    """Tell what the process has used, and end it."""
    sys.stdout.write(f"seconds {time.process_time()} {time.time()}\n")
    sys.stdout.flush()
    os._exit(0)


def given(job: dict[str, Any], script: Path) -> SimpleNamespace:
    """Return what the script finds under the name `snakemake`."""
    folder = Path(job["folder"]) / "results/default"
    model = folder / "models/default/digits/fold-0"

    class Config(str):
        cache, checkpoint_minutes = "auto", 10.0

    class Outputs(SimpleNamespace):
        get = SimpleNamespace.__getattribute__

    return SimpleNamespace(
        rule="train_fold",
        wildcards=SimpleNamespace(name="default", task="digits", fold="0"),
        log=[str(Path(job["folder"]) / "job.log")],
        threads=1,
        params=SimpleNamespace(cfg=Config(job["config"]), revision=1),
        input=SimpleNamespace(task=[job["task"]], images=[job["images"]]),
        output=Outputs(model=f"{model}/model.json", weights=f"{model}/model.safetensors", run=f"{model}/run.json"),
        resources={},
        scriptdir=str(script.parent),
    )


def print_times(job: list[str], imports: list[str], pairs: int) -> None:
    """Run both in turns; print a table."""
    from side_by_side import print_table, spread

    times = [(measure(job), measure(imports)) for _ in range(pairs + 1)][1:]
    rows = []
    for place, clock in enumerate(("CPU", "wall")):
        ours, theirs = ([pair[side][place] for pair in times] for side in (0, 1))
        ratio = spread([own / bare for own, bare in zip(ours, theirs, strict=True)])
        rows.append([f"{clock} seconds", str(pairs), f"{median(ours):.2f}", f"{median(theirs):.2f}", ratio])
    print_table("Start to the first training step; target: at most 1.2", ["", "pairs", "job", "imports", "ratio"], rows)


def measure(arguments: list[str]) -> tuple[float, float]:
    """Return CPU seconds and seconds of a process up to where it tells them."""
    started = time.time()
    _, used, ended = read_line(start(arguments)).split()
    return float(used), float(ended) - started


def start(arguments: list[str], *switches: str) -> str:
    """Run Python; return all that it says, and what the log of its job does."""
    environment = {**os.environ, **THREADS, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, *switches, *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    output = result.stdout + result.stderr
    if "--job" in arguments:
        log = Path(json.loads(arguments[arguments.index("--job") + 1])["folder"]) / "job.log"
        output += log.read_text() if log.exists() else ""
    if result.returncode:
        raise SystemExit(output)
    return output


def read_line(output: str) -> str:
    """Return the line that tells the seconds."""
    return next(line for line in output.splitlines() if line.startswith("seconds "))


def print_packages(job: list[str], imports: list[str]) -> None:
    """Print the packages of modules that only the job imports, and what these modules take."""
    from side_by_side import print_table

    ours, theirs = (TIMED.findall(start(side, "-X", "importtime")) for side in (job, imports))
    known = {module for _, module in theirs} | set(sys.stdlib_module_names)
    times: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for spent, module in ours:
        package = module.partition(".")[0]
        if module not in known and package not in sys.stdlib_module_names:
            times[package] += int(spent)
            counts[package] += 1
    rows = [[package, str(counts[package]), f"{spent / 1e6:.3f}"] for package, spent in times.most_common()]
    print_table("What only the job imports, to its end", ["package", "modules", "seconds"], rows)


if __name__ == "__main__":
    main()
