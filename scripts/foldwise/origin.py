"""What something was made from and how: files, settings, software, machine."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from foldwise import __version__

PACKAGES = (
    "torch", "lightning", "torchmetrics", "monai", "kornia", "numpy", "scipy", "scikit-learn", "pillow", "safetensors",
)  # fmt: skip
SMALL_BYTES = 2**20
COMMAND = "FOLDWISE_COMMAND"  # of the environment: the command that the job is part of


class Origin(NamedTuple):
    """What a job makes its outputs from, for the record of them."""

    inputs: list[str]
    outputs: list[str]
    config: str
    revision: int
    code: Path


def record_path(log: Path, rule: str) -> Path:
    """Return the record of a job by its log: it lies under ``provenance`` where the log lies under ``logs``."""
    below = list(log.parts)
    # In a workflow that uses this one as a module, names of rules begin with a prefix of its own.
    place = max(n for n, part in enumerate(below[:-1]) if part == "logs" and rule.endswith(below[n + 1]))
    below[place] = "provenance"
    return Path(*below).with_name(f"{log.name.removesuffix('.log')}.json")


def is_small(path: str) -> bool:
    """Tell whether a file is so small that its checksum costs nothing."""
    return Path(path).is_file() and Path(path).stat().st_size <= SMALL_BYTES


def timestamp(seconds: float) -> str:
    """Return a time as ISO 8601 in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def versions() -> Mapping[str, str]:
    """Return the versions of the packages that matter to results."""
    found = {"foldwise": __version__}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def device_name() -> str:
    """Return the accelerator the job ran on, without importing anything for it."""
    torch = sys.modules.get("torch")
    return torch.cuda.get_device_name() if torch and torch.cuda.is_available() else "cpu"


def git_state(folder: Path) -> Mapping[str, Any] | None:
    """Return commit and cleanness of the checkout that a folder is in, if it is in one."""
    commit = run_git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    return {"commit": commit, "clean": run_git(folder, "status", "--porcelain", "--untracked-files=no") == ""}


def run_git(folder: Path, *arguments: str) -> str | None:
    """Run git in a folder; return what it says, or None if it fails or is not there."""
    try:
        command = ["git", "-C", str(folder), *arguments]
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None
