"""Foldwise: deep learning on many image tasks as a reproducible pipeline."""

TYPE_CHECKING = False  # a type checker knows better; the import of `typing` costs more than all else here
if TYPE_CHECKING:
    from foldwise.project import open_project as open_project

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Import `open_project` when it is first asked for: jobs import the package too, and must start fast."""
    if name == "open_project":
        from foldwise.project import open_project

        return open_project
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
