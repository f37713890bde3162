"""Copies of finished trials in a storage of Optuna's, for dashboards: nothing is ever read back from there.

A storage is an address of SQLAlchemy, or the file of a journal. Jobs of several machines may copy at once. SQLite is
not made for that on file systems that machines share: take a journal there, or a database server. A storage that is
damaged or lost is removed and made anew from the files of the trials.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from foldwise.artifacts import FORMAT_VERSION, lock, read_json, write_json
from foldwise.config.section import hide_secrets
from foldwise.config.sources import VARIABLE
from foldwise.config.study import ExportConfig, StudyConfig, existing_trials
from foldwise.errors import ConfigError, FoldwiseError, Words, shorten
from foldwise.hpo.sampling import frozen, silenced
from foldwise.hpo.trials import TrialRecord, read_trial, read_trials

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

WHERE = "hpo.storage"
SECONDS = 10  # until a server must have answered
POSTGRES = ("postgres", "postgresql")
PATIENCE = {"postgresql": {"connect_timeout": SECONDS}, "sqlite": {"timeout": 60}}


class Files(Protocol):
    """What tells where the trials of a study are."""

    @property
    def trials(self) -> Path:
        """The folder of the trials."""


def export_study(
    config: ExportConfig, trials: Sequence[Path], record: Path, report: Callable[[str], None] = lambda text: None
) -> None:
    """Copy all trials of a study, and write down where they are.

    Parameters
    ----------
    config : ExportConfig
        The storage.
    trials : sequence of Path
        The files of the trials.
    record : Path
        What to write: the storage and the number of trials there.
    report : callable
        Receives a line that says what was done.

    Raises
    ------
    MissingData, DataError
        If a trial is missing or damaged.
    ConfigError
        If the storage cannot be used, or has another study of that name.
    """
    read_trials(trials)
    count = export_trials(trials[0].parent, config.storage)
    place = str(hide_secrets(config.storage))
    write_json(record, {"format_version": FORMAT_VERSION, "storage": place, "trials": count})
    report(f"{count} trials are in {place}")


def export_live(files: Files, storage: str | None, warn: Callable[[str], None]) -> None:
    """Copy the trials that are finished while a study runs; tell why that cannot be done, and let the study go on."""
    if storage is None:
        return
    try:
        export_trials(files.trials, storage)
    except FoldwiseError as error:
        warn(error.message)


def export_trials(trials: Path, storage: str) -> int:
    """Copy finished trials to a storage, those that it does not have; return how many it has then.

    Trials are copied in order from the first one on, up to the first that is not finished, so that they have the same
    numbers there.

    Parameters
    ----------
    trials : Path
        The folder of the files of trials; how they ran is told in ``runs`` beside it.
    storage : str
        An address of SQLAlchemy, or the file of a journal; ``${NAME}`` is taken from the environment.

    Raises
    ------
    DataError
        If a trial is damaged.
    ConfigError
        If the storage cannot be used, or has another study of that name.
    """
    address = fill_in(storage)
    with lock(trials.parent / "export"):
        records = first_trials(trials)
        if not records:
            return 0
        config = StudyConfig.model_validate(records[0].definition)
        with silenced(), opened(address, storage) as there:
            study = open_study(config, there, storage)
            stored = study.get_trials(deepcopy=False)
            copies = [copy_of(config, record, trials) for record in records]
            check_stored(config.study, stored, copies, storage)
            for copy in copies[len(stored) :]:
                study.add_trial(copy)
    return len(records)


def first_trials(trials: Path) -> list[TrialRecord]:
    """Read the trials of a study from the first one on, up to the first that is not there."""
    found = []
    for number, path in enumerate(existing_trials(trials.parent)):
        if path.stem != str(number):
            break
        found.append(read_trial(path))
    return found


def copy_of(config: StudyConfig, record: TrialRecord, trials: Path) -> FrozenTrial:
    """Return a trial as it is stored: with the times it took, the scores of its folds, and why it failed."""
    told: dict[str, Any] = {"epochs": record.epochs, "scores": [fold.score for fold in record.folds]}
    if record.error is not None:
        told["error"] = record.error
    return frozen(config.space, record, *times_of(trials, record.trial), **told)


def times_of(trials: Path, number: int) -> tuple[datetime, datetime]:
    """Return when a trial was started and finished, as Optuna tells times: local, without a zone."""
    path = trials.parent / "runs" / f"{number}.json"
    if path.is_file():
        run = read_json(path)
        found = [datetime.fromisoformat(str(run[key])) for key in ("started", "finished")]
    else:
        found = 2 * [datetime.fromtimestamp((trials / f"{number}.json").stat().st_mtime).astimezone()]
    started, finished = (time.astimezone().replace(tzinfo=None) for time in found)
    return started, finished


def fill_in(storage: str) -> str:
    """Return an address with variables of the environment filled in.

    Raises
    ------
    ConfigError
        If there is no such variable.
    """
    parts, end = [], 0
    for found in VARIABLE.finditer(storage):
        name = found[0][2:-1]
        if name not in os.environ:
            raise ConfigError(WHERE, Words(f"{found[0]}, which is not set"), "a variable of the job's environment")
        before, after = storage[: found.start()], storage[found.end() :]
        is_secret = "://" in before and "@" in after  # letters that divide an address are part of it
        parts += [storage[end : found.start()], quote(os.environ[name], "") if is_secret else os.environ[name]]
        end = found.end()
    return "".join([*parts, storage[end:]])


@contextmanager
def opened(address: str, storage: str) -> Iterator[optuna.storages.BaseStorage]:
    """Open a storage; turn what goes wrong in it into a message without secrets.

    Raises
    ------
    ConfigError
        If it is not known, cannot be reached, or its driver is not installed.
    """
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    there = None
    try:
        if "://" not in address:
            yield open_journal(Path(address))
            return
        there = open_database(address, storage)
        yield there
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        if "://" in address:
            raise
        remedy = "Give the file of a journal, or of one that is not there yet."
        raise ConfigError(WHERE, storage, "a journal of Optuna's: the file holds something else", remedy) from error
    except (SQLAlchemyError, StorageInternalError, RuntimeError, OSError) as error:
        expected = f"a storage that can be reached and written ({reason_of(error, address)})"
        raise ConfigError(WHERE, hide_secrets(storage), expected) from error
    finally:
        if there is not None:
            there.engine.dispose()


def open_journal(path: Path) -> optuna.storages.BaseStorage:
    """Open the file of a journal, which is made if it is not there."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    path.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(str(path)))


def open_database(address: str, storage: str) -> optuna.storages.RDBStorage:
    """Open a database, whose tables are made if they are not there."""
    from optuna.storages import RDBStorage
    from sqlalchemy.engine import make_url

    url = make_url(address)
    if url.drivername in POSTGRES:
        url = url.set(drivername="postgresql+psycopg")
    kind = url.get_backend_name()
    if kind == "sqlite" and url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return RDBStorage(
                url.render_as_string(hide_password=False),
                engine_kwargs={"connect_args": PATIENCE.get(kind, {})},
            )
    except ImportError as error:
        extra = "Install the extra: pip install 'foldwise[postgres]'." if kind == "postgresql" else "Install it."
        raise ConfigError(WHERE, hide_secrets(storage), "a database whose driver is installed", extra) from error


def reason_of(error: BaseException, address: str) -> str:
    """Return the first line of what a database says, without the password that it may repeat."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    origin = error
    while origin.__cause__ is not None:
        origin = origin.__cause__
    try:
        secret = make_url(address).password
    except ArgumentError:
        return "it is no address"
    text = " ".join(str(origin).split())
    for known in (secret, quote(secret, "")) if secret else ():
        text = text.replace(known, "***")
    return str(shorten(Words(str(hide_secrets(text))), 300))


def open_study(config: StudyConfig, there: optuna.storages.BaseStorage, storage: str) -> optuna.Study:
    """Return the study of a storage, which is made if it is not there."""
    import optuna

    study = optuna.create_study(storage=there, study_name=config.study, direction=config.direction, load_if_exists=True)
    if (found := study.direction.name.lower()) != config.direction:
        raise another_study(config.study, storage, f"it is to {found} values, and this one to {config.direction} them")
    return study


def check_stored(name: str, stored: Sequence[FrozenTrial], copies: Sequence[FrozenTrial], storage: str) -> None:
    """Raise `ConfigError` unless the trials of a storage are the first ones of the study."""
    if len(stored) > len(copies):
        raise another_study(name, storage, f"it has {len(stored)} trials, and this one {len(copies)}")
    for number, (there, here) in enumerate(zip(stored, copies, strict=False)):
        if (difference := differs(there, here)) is not None:
            raise another_study(name, storage, f"trial {number} {difference}")


def differs(there: FrozenTrial, here: FrozenTrial) -> str | None:
    """Say in what a trial of a storage differs from that of the study; None if it does not."""
    if there.state != here.state:
        return f"is {there.state.name.lower()} there and {here.state.name.lower()} here"
    for key in dict.fromkeys([*there.params, *here.params]):
        stored, known = (shorten(trial.params.get(key), 40) for trial in (there, here))
        if there.params.get(key) != here.params.get(key):
            return f"has {key} {stored} there and {known} here"
    return None


def another_study(name: str, storage: str, difference: str) -> ConfigError:
    """Return the error of a storage that has another study of the same name."""
    expected = f"a storage without another study {name} ({difference})"
    return ConfigError(
        WHERE, hide_secrets(storage), expected, "Give hpo.study another name, or delete the study there."
    )
