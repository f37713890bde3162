"""Run the real Snakemake on small projects."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
TINY = {
    "project": "default",
    "tasks": ["digits"],
    "pivot": "digits",
    "arch": {"name": "resnet10", "block_inplanes": [4, 4, 8, 8], "conv1_t_size": 3},
    "augmentations": "none",
    "trainer": {"max_epochs": 1, "limit_train_batches": 2},
    "create": {"n_folds": 2},
    "pipelines": {"a": {}, "b": {"optimizer": {"lr": 0.001}}},
}
JOB_LINE = re.compile(r"^([a-z_]+) +(\d+)$")


@dataclass
class Result:
    """What a run of Snakemake said."""

    status: int
    output: str

    @property
    def jobs(self) -> dict[str, int]:
        """The table of jobs: how many of each rule."""
        return {m[1]: int(m[2]) for line in self.output.splitlines() if (m := JOB_LINE.match(line)) and m[1] != "total"}

    @property
    def errors(self) -> list[str]:
        """Our own messages, and those of a failed job's log."""
        return [line for line in self.output.splitlines() if line.startswith("Error: ")]


class Project:
    """A working directory with a configuration of its own."""

    def __init__(self, folder: Path, snakefile: Path = REPOSITORY / "Snakefile") -> None:
        self.folder = folder
        self.snakefile = snakefile

    def configure(self, changes: dict[str, Any] | None = None, **more: Any) -> None:
        """Write the configuration: the tiny one, overlaid with changes a top-level key each."""
        path = self.folder / "config/config.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump({**TINY, **(changes or {}), **more}, sort_keys=False))

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of a run."""
        return [str(Path(sys.executable).parent / "snakemake"), "-s", str(self.snakefile), *arguments]

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start a run that goes on in the background."""
        return subprocess.Popen(
            self.command("--cores", "2", *arguments),
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(),
            **options,
        )

    def run(self, *arguments: str) -> Result:
        """Run to the end."""
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=600)
        return Result(process.returncode, output)

    def dry_run(self, *arguments: str) -> Result:
        """Ask what would be done."""
        result = self.run("-n", *arguments)
        assert result.status == 0, result.output
        return result

    def path(self, name: str) -> Path:
        """Return a path in the working directory."""
        return self.folder / name

    def json(self, name: str) -> dict[str, Any]:
        """Read a JSON file of the working directory."""
        return json.loads(self.path(name).read_text())

    def contents(self, *patterns: str) -> dict[str, bytes]:
        """Return the bytes of all files that match."""
        files = (path for pattern in patterns for path in self.folder.glob(pattern) if path.is_file())
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in files}


def environment() -> dict[str, str]:
    """Return an environment without settings that change what Snakemake does."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("SNAKEMAKE_", "OMP_"))}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Return an empty project with the tiny configuration."""
    project = Project(tmp_path / "work")
    project.configure()
    return project


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a project on which all modes have run; not to be changed."""
    project = Project(tmp_path_factory.mktemp("finished") / "work")
    project.configure()
    result = project.run("create", "pp", "train", "predict", "test")
    assert result.status == 0, result.output
    return project


@pytest.fixture
def trained(finished: Project, tmp_path: Path) -> Project:
    """Return a copy of the finished project, dates included."""
    shutil.copytree(finished.folder, tmp_path / "work")
    return Project(tmp_path / "work")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a copy of the workflow that a test may edit."""
    folder = tmp_path / "checkout"
    for name in ("rules", "scripts", "config", "envs", "profiles"):
        shutil.copytree(REPOSITORY / name, folder / name)
    shutil.copy(REPOSITORY / "Snakefile", folder)
    return folder
