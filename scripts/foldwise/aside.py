"""Keeping files that are about to be replaced, to be put back if what was to replace them does not come."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from foldwise.artifacts import link_or_copy, writing


def status(path: str | Path) -> os.stat_result | None:
    """Return the status of a file, None if it is not there."""
    try:
        return Path(path).stat()
    except FileNotFoundError:
        return None


def restore_date(path: str | Path, found: os.stat_result) -> None:
    """Give a file the modification time it had before."""
    if status(path) is not None:
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def set_aside(paths: Iterable[str], root: str | Path) -> None:
    """Keep what is about to be replaced: link (or copy) the existing files of `paths` below ``root/.aside``."""
    for path, kept in aside(paths, root):
        if path.is_file():
            with writing(kept):
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.unlink(missing_ok=True)
                link_or_copy(path, kept)


def put_back(paths: Iterable[str], root: str | Path) -> list[Path]:
    """Put back those files of `paths` that were set aside and are gone now; return them."""
    restored = []
    for path, kept in aside(paths, root):
        if kept.is_file() and not path.exists():
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                os.replace(kept, path)
            restored.append(path)
    return restored


def release(paths: Iterable[str], root: str | Path) -> None:
    """Forget the files of `paths` that were set aside, and the folders that held them alone."""
    for _, kept in aside(paths, root):
        kept.unlink(missing_ok=True)
        for folder in kept.parents:
            if folder == Path(root) or not folder.is_dir() or any(folder.iterdir()):
                break
            folder.rmdir()


def aside(paths: Iterable[str], root: str | Path) -> Iterator[tuple[Path, Path]]:
    """Yield each file below `root` with the place where it is set aside."""
    for path in map(Path, paths):
        if path.is_relative_to(root):
            yield path, Path(root) / ".aside" / path.relative_to(root)
