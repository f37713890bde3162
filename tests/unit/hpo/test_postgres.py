"""Copies of trials in a PostgreSQL server of the test's own; the Debian package `postgresql` has what it needs."""

import os
import shutil
import socket
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

if find_spec("psycopg") is None:
    pytest.skip("the extra postgres is not installed", allow_module_level=True)

import optuna

from foldwise.errors import ConfigError
from foldwise.hpo.export import export_trials
from unit.hpo.studies import make_record, make_study, write_records

POINT = {"optimizer.lr": 0.012345678901234567, "sampling.batch_size": 64}
PASSWORD = "hid/den@1"
USER = "nobody"  # the server refuses to run as root


def programs():
    """Return the folder of the server's programs; None if it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def run(*command):
    """Run a command as a user who is not root; return its code."""
    as_user = ["runuser", "-u", USER, "--"] if os.geteuid() == 0 else []
    # A server keeps the streams that it is started with, which would be waited for.
    result = subprocess.run(
        [*as_user, *map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", check=False
    )
    return result.returncode


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of a server without its password."""
    binaries = programs()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed")
    if os.geteuid() == 0 and shutil.which("runuser") is None:
        pytest.skip("PostgreSQL does not run as root, and there is no runuser")
    home = Path("/tmp") / f"foldwise-postgres-{os.getpid()}"  # the folders of pytest are closed to other users
    home.mkdir(mode=0o777)
    home.chmod(0o777)
    secret = home / "secret"
    secret.write_text(PASSWORD)
    data, port = home / "data", free_port()
    try:
        assert run(binaries / "initdb", "-D", data, "-U", "me", "-A", "scram-sha-256", f"--pwfile={secret}") == 0
        options = f"-c listen_addresses=127.0.0.1 -p {port} -k {home} -c fsync=off"
        assert run(binaries / "pg_ctl", "-D", data, "-w", "-l", home / "log", "-o", options, "start") == 0
        yield f"127.0.0.1:{port}/postgres"
    finally:
        run(binaries / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def trials(tmp_path):
    config = make_study()
    steps = [(1, 0.7), (2, 0.1 + 0.2)]
    records = [
        make_record(config, 0, POINT, 0.1 + 0.2, intermediate_values=steps),
        make_record(config, 1, POINT, 0.7, "pruned", intermediate_values=steps[:1], pruner={"completed_rung_0": 0.7}),
        make_record(config, 2, POINT, state="failed", error="no way"),
    ]
    write_records(tmp_path, records)
    return tmp_path / "trials"


def test_trials_are_read_back_as_they_were_copied(server, trials, monkeypatch):
    monkeypatch.setenv("STUDY_PASSWORD", PASSWORD)
    address = f"postgresql://me:${{STUDY_PASSWORD}}@{server}"
    (trials / "2.json").rename(trials / "later")
    assert export_trials(trials, address) == 2
    (trials / "later").rename(trials / "2.json")
    assert [export_trials(trials, address) for _ in range(2)] == [3, 3]
    whole = f"postgresql+psycopg://me:hid%2Fden%401@{server}"
    first, pruned, failed = optuna.load_study(study_name="first", storage=whole).trials
    assert (first.state.name, first.value, first.params) == ("COMPLETE", 0.1 + 0.2, POINT)
    assert first.intermediate_values == {1: 0.7, 2: 0.1 + 0.2}
    assert (pruned.state.name, pruned.value, pruned.system_attrs) == ("PRUNED", 0.7, {"completed_rung_0": 0.7})
    assert (failed.state.name, failed.user_attrs["error"]) == ("FAIL", "no way")


@pytest.mark.parametrize("address", ["postgresql", "postgresql+psycopg"])
def test_a_wrong_password_is_told_without_it(server, trials, monkeypatch, address):
    monkeypatch.setenv("STUDY_PASSWORD", "wrong@one")
    with pytest.raises(ConfigError, match="password authentication failed") as caught:
        export_trials(trials, f"{address}://me:${{STUDY_PASSWORD}}@{server}")
    assert caught.value.message.count("\n") == 0
    assert not any(word in caught.value.message for word in ("wrong@one", "wrong%40one"))


def test_a_database_that_is_not_there_is_told(server, trials, monkeypatch):
    monkeypatch.setenv("STUDY_PASSWORD", PASSWORD)
    with pytest.raises(ConfigError, match='database "postgresql" does not exist'):
        export_trials(trials, f"postgresql://me:${{STUDY_PASSWORD}}@{server}ql")
