"""Functions of the user's own, named as ``module:function`` and looked for in the working directory first."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import all_suffixes
from pathlib import Path
from types import ModuleType
from typing import Any

from foldwise.errors import ConfigError, DataError, FoldwiseError, Words, nearest, one_of, shorten

Function = Callable[..., Any]
ENGINE = f"{Path(__file__).parent}{os.sep}"
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


def module_file(text: str, folder: str | Path = ".") -> Path | None:
    """Return the file below a folder that holds the module of a function; None if it is installed elsewhere.

    Parameters
    ----------
    text : str
        ``module:function``.
    folder : str or Path
        Where modules are looked for first; the path is relative if this is.
    """
    place = Path(folder, *text.partition(":")[0].split("."))
    names = (place / "__init__.py", *(place.with_name(f"{place.name}{suffix}") for suffix in all_suffixes()))
    return next((path for path in names if path.is_file()), None)


def check_module(text: str, where: str, folder: str | Path = ".") -> None:
    """Raise `ConfigError` unless the module of a function lies below a folder or is installed; nothing is imported.

    Parameters
    ----------
    text : str
        ``module:function``.
    where : str
        The key at fault.
    folder : str or Path
        Where modules are looked for first.
    """
    module = text.partition(":")[0]
    top = module.partition(".")[0]
    file = module_file(text, folder)
    if file is not None and top in sys.stdlib_module_names:
        found = Words(f"{shorten(text)}, of {file}")
        raise ConfigError(where, found, f"a name that no module of Python has, as {top} is one", "Rename it.")
    if file is None and (module_file(top, folder) or not is_installed(top, Path(folder).absolute())):
        place = "in the working directory" if Path(folder) == Path() else f"in {folder}"
        hint = nearest_module(module, folder)
        raise ConfigError(where, text, f"a module {place}, or one that is installed", hint)


def is_installed(name: str, folder: Path) -> bool:
    """Tell whether Python finds a module other than a folder of this name in a folder; such a folder holds no code."""
    if name in sys.modules:
        return not lies_below(sys.modules[name], folder)
    spec = importlib.util.find_spec(name)
    return spec is not None and not all_below(spec.submodule_search_locations or [str(spec.origin)], folder)


def nearest_module(module: str, folder: str | Path) -> str:
    """Say which module is not there, and name the one nearest to it that lies below a folder."""
    parts = module.split(".")
    depth = next((depth for depth in range(len(parts)) if not Path(folder, *parts[: depth + 1]).is_dir()), 0)
    files = [
        path
        for path in Path(folder, *parts[:depth]).glob("*")
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    ]
    missing, *known = (".".join([*parts[:depth], name]) for name in (parts[depth], *(path.stem for path in files)))
    return f"There is no module {missing}. {nearest(missing, known)}".rstrip()


def load_function(text: str, where: str, folder: str | Path = ".") -> Function:
    """Import a function for the life of the process; modules beside it can be imported as long.

    Parameters
    ----------
    text : str
        ``module:function``.
    where : str
        The key that names it.
    folder : str or Path
        Where modules are looked for first.

    Raises
    ------
    ConfigError
        If there is no such module or function, or the module cannot be imported, with the line that failed.
    """
    check_module(text, where, folder)
    file, place = module_file(text, folder), Path(folder).absolute()
    loaded = sys.modules.get(text.partition(":")[0].partition(".")[0])
    if file and loaded and not (lies_below(loaded, place) or lies_below(loaded, place.resolve())):
        expected = f"a name of its own, as {loaded.__name__} of {getattr(loaded, '__file__', None)} is in use"
        raise ConfigError(where, Words(f"{shorten(text)}, of {file}"), expected, "Rename the file.")
    sys.path[:] = [str(place), *(path for path in sys.path if path != str(place))]
    importlib.invalidate_caches()
    try:
        return import_function(text)
    except DataError as error:
        raise ConfigError(where, Words(f"{shorten(text)} ({error.got})"), error.expected, error.remedy) from error


def lies_below(module: Any, folder: Path) -> bool:
    """Tell whether a module was imported from a folder."""
    known = getattr(module, "__dict__", {})  # some modules make up attributes when they are asked for
    file = known.get("__file__")
    places = [file] if isinstance(file, str) else list(known.get("__path__") or [])
    return bool(places) and all_below(places, folder)


def all_below(paths: Iterable[str], folder: Path) -> bool:
    """Tell whether all of some paths lie in a folder."""
    return all(Path(path).is_relative_to(folder) for path in paths)


def import_function(text: str, remedy: str = "") -> Function:
    """Import a function from where Python finds its module.

    Parameters
    ----------
    text : str
        ``module:function``.
    remedy : str
        What to do if there is no such module.

    Raises
    ------
    DataError
        If the module is not there or cannot be imported, or has no such function.
    """
    module, _, name = text.partition(":")
    try:
        with failure_told(text):
            found = importlib.import_module(module)
    except DataError as error:
        cause = error.__cause__
        if isinstance(cause, ModuleNotFoundError) and f"{module}.".startswith(f"{cause.name}."):
            raise DataError(text, Words(f"no module {cause.name}"), "a module that can be imported", remedy) from cause
        raise
    function = getattr(found, name, None)
    if not callable(function):
        names = functions_of(found)
        got = Words(f"no function {name} in {getattr(found, '__file__', None) or module}")
        raise DataError(text, got, one_of(names) if names else "a function", nearest(name, names))
    return function


def functions_of(module: ModuleType) -> list[str]:
    """Return the names of what can be called in a module, of what it defines itself if there is any."""
    found = {name: thing for name, thing in vars(module).items() if callable(thing) and not name.startswith("_")}
    own = [name for name, thing in found.items() if getattr(thing, "__module__", None) == module.__name__]
    return own or list(found)


def check_call(
    function: Function,
    text: str,
    given: Sequence[str],
    arguments: Iterable[str] = (),
    remedy: str = "Mend it, or its arguments.",
) -> None:
    """Raise `DataError` if a function cannot be called with some values and arguments.

    Parameters
    ----------
    function : callable
        The function.
    text : str
        ``module:function``.
    given : sequence of str
        What it is called with, in order, as messages name it.
    arguments : iterable of str
        Names of the further arguments.
    remedy : str
        What to do about it.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some functions of C say nothing about their parameters
        return
    names = list(arguments)
    try:
        signature.bind(*given, **dict.fromkeys(names))
    except TypeError as error:
        name = text.rpartition(":")[2]
        called = f"def {name}({', '.join([*given, *names])})"
        raise DataError(text, Words(f"def {name}{signature}"), called, remedy) from error


def takes(function: Function, name: str) -> bool:
    """Tell whether a function has a parameter of a name."""
    try:
        return name in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


@contextmanager
def failure_told(where: str, function: Function | None = None, item: int | None = None) -> Iterator[None]:
    """Turn what the user's code raises into a `DataError` with its last line.

    Our own errors pass, as they are told already. So does that there is no memory left: whoever chose the size of a
    batch has to know.

    Parameters
    ----------
    where : str
        What the message is about: the function.
    function : callable, optional
        The function that runs; by default a module is imported.
    item : int, optional
        Which of its items it makes.
    """
    try:
        yield
    except (FoldwiseError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        text = " ".join(str(error).split())
        if isinstance(error, RuntimeError) and any(words in text for words in OUT_OF_MEMORY):
            raise
        line = last_line(error, function)
        place = where if item is None else f"{where} item {item}"
        got = Words(f"{type(error).__name__}: {text}" if text else type(error).__name__)
        expected = "a function that runs to its end" if function else "a module that can be imported"
        raise DataError(place, got, expected, f"See {line}." if line else "") from error


def last_line(error: BaseException, function: Function | None) -> str:
    """Return where an exception was raised: in the function's own file, else in the last one that is not installed."""
    if isinstance(error, SyntaxError) and error.filename:
        return line_of(error.filename, error.lineno, (error.text or "").strip())
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen")]
    code = getattr(function, "__code__", None)
    own = [frame for frame in frames if code is not None and frame.filename == code.co_filename]
    installed = (ENGINE, *(f"{place}{os.sep}" for place in sysconfig.get_paths().values()))
    others = [frame for frame in frames if not frame.filename.startswith(installed)]
    last = (own or others)[-1:]
    return line_of(last[0].filename, last[0].lineno, last[0].line) if last else ""


def line_of(file: str, number: int | None, text: str | None) -> str:
    """Name a line of code."""
    return f"{file} line {number}" + (f", `{text}`" if text else "")
