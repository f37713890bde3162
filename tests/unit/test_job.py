"""What every job does around its call into the engine, seen from outside, in processes of their own."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from foldwise import __version__, job, origin
from foldwise.artifacts import FORMAT_VERSION

SCRIPTS = Path(job.__file__).parents[1]
HEAD = """
import logging, os, subprocess, sys, time, warnings
from pathlib import Path
from foldwise.errors import DataError
from foldwise.job import Job
FOLDER = Path(sys.argv[1])
with Job("train_fold", "small on digits, fold 0", FOLDER / "logs/a/b.log", threads=3) as job:
"""


@pytest.fixture
def start(tmp_path):
    """Start a process whose job does the given lines."""

    def run(body, stderr=subprocess.PIPE):
        script = tmp_path / "script.py"
        script.write_text(HEAD + "".join(f"    {line}\n" for line in body.strip().splitlines()))
        environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
        environment.pop("PYTHONUNBUFFERED", None)
        command = [sys.executable, str(script), str(tmp_path)]
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True, cwd=tmp_path
        )

    return run


@pytest.fixture
def run(start, tmp_path):
    """Run such a process to its end."""

    def wait(body):
        process = start(body)
        out, terminal = process.communicate(timeout=60)
        log = (tmp_path / "logs/a/b.log").read_text()
        return SimpleNamespace(status=process.returncode, out=out, terminal=terminal, log=log)

    return wait


def test_all_output_lands_in_the_log_and_nowhere_else(run):
    ended = run("""
print("printed")
print("complained", file=sys.stderr)
os.write(1, b"written\\n")
subprocess.run(["echo", "echoed"])
logging.getLogger("engine").info("logged")
warnings.warn("odd data")
""")
    assert ended.status == 0
    assert (ended.out, ended.terminal) == ("", "")
    for text in ("printed", "complained", "written", "echoed", "INFO engine: logged", "UserWarning: odd data"):
        assert text in ended.log


def test_a_mistake_of_the_user_is_one_line_and_status_1(run):
    ended = run('raise DataError("a/b.png", "nothing", "an image", "Put it there.")')
    assert ended.status == 1
    assert ended.log == "Error: a/b.png: got 'nothing', expected an image. Put it there.\n"
    assert (ended.out, ended.terminal) == ("", "")


def test_an_unexpected_error_has_its_traceback_in_the_log(run):
    ended = run('print("before")\n1 / 0')
    assert ended.status == 1
    assert ended.log.startswith("before\nTraceback (most recent call last):\n")
    assert "script.py" in ended.log
    assert ended.log.endswith("ZeroDivisionError: division by zero\n")
    assert ended.terminal == ""


def test_the_cause_of_an_unexpected_error_is_told_too(run):
    ended = run('try:\n    {}["missing"]\nexcept KeyError as error:\n    raise RuntimeError("wrong") from error')
    assert "KeyError: 'missing'" in ended.log
    assert ended.log.endswith("RuntimeError: wrong\n")


def test_want_of_memory_is_one_line(run):
    ended = run("raise MemoryError")
    assert ended.status == 1
    assert ended.log.startswith("Error: small on digits, fold 0: out of memory.")
    assert "Traceback" not in ended.log


def test_a_full_disk_met_anywhere_is_one_line(run, small_disk):
    ended = run(f'Path("{small_disk}/plain").write_bytes(bytes(2**21))')
    assert ended.status == 1
    assert ended.log.startswith("Error: ")
    assert "got a full disk, expected room for it." in ended.log
    assert len(ended.log.splitlines()) == 1


def test_a_message_reaches_the_terminal_if_the_log_has_no_room(start, small_disk, tmp_path):
    (tmp_path / "logs").symlink_to(small_disk)
    process = start("""
print("x" * 2**21)
""")
    _, terminal = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "got a full disk, expected room for it." in terminal


def test_a_log_that_cannot_be_made_is_told_on_the_terminal(start, tmp_path):
    (tmp_path / "logs").write_text("a file")
    process = start('print("never")')
    _, terminal = process.communicate(timeout=60)
    assert process.returncode == 1
    assert terminal.startswith(f"Error: {tmp_path / 'logs/a/b.log'}: got a file where a folder should be")
    assert "Traceback" not in terminal


def test_a_job_that_is_asked_to_end_tidies_up(start, tmp_path):
    process = start("""
from foldwise.artifacts import atomic
with atomic(FOLDER / "made/file") as temporary:
    temporary.write_text("half")
    time.sleep(60)
""")
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob("made/.tmp-*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 1
    assert (tmp_path / "logs/a/b.log").read_text() == "Stopped: small on digits, fold 0.\n"
    assert list((tmp_path / "made").iterdir()) == []


def send(process, folder, *signals, pause=0.0):
    """Send signals to a process when it has made the file `ready`; return its log when it has ended."""
    deadline = time.monotonic() + 30
    while not (folder / "ready").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    for number in signals:
        process.send_signal(number)
        time.sleep(pause)
    process.communicate(timeout=30)
    return (folder / "logs/a/b.log").read_text()


HOLDING = """
from foldwise.job import hold_stops
with hold_stops() as stop:
    (FOLDER / "ready").touch()
    while not stop.requested:
        time.sleep(0.01)
    print("asked to end", flush=True)
    time.sleep({seconds})
    print("saved")
{after}
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_held_signal_lets_work_be_saved_and_ends_the_job_then(start, tmp_path, number):
    process = start(HOLDING.format(seconds=0.1, after='print("never")'))
    assert send(process, tmp_path, number) == "asked to end\nsaved\nStopped: small on digits, fold 0.\n"
    assert process.returncode == 1


def test_a_signal_that_is_told_twice_is_one_request(start, tmp_path):
    process = start(HOLDING.format(seconds=0.1, after=""))
    log = send(process, tmp_path, signal.SIGINT, signal.SIGTERM, signal.SIGTERM, pause=0.01)
    assert log == "asked to end\nsaved\nStopped: small on digits, fold 0.\n"


def test_a_second_signal_ends_a_job_at_once(start, tmp_path):
    process = start(HOLDING.format(seconds=60, after=""))
    log = send(process, tmp_path, signal.SIGINT, signal.SIGTERM, pause=0.7)
    assert log == "asked to end\nStopped: small on digits, fold 0.\n"


def test_after_the_block_signals_end_the_job_as_before():
    before = [signal.getsignal(number) for number in job.STOPS]
    with job.hold_stops() as stop:
        assert [signal.getsignal(number) for number in job.STOPS] == [stop.receive] * 2
    assert [signal.getsignal(number) for number in job.STOPS] == before
    assert not stop.requested


def test_an_error_is_told_though_the_job_was_asked_to_end():
    before = [signal.getsignal(number) for number in job.STOPS]

    def work():
        with job.hold_stops():
            signal.raise_signal(signal.SIGINT)
            raise KeyError

    with pytest.raises(KeyError):
        work()
    assert [signal.getsignal(number) for number in job.STOPS] == before


def test_outside_of_the_main_thread_nothing_is_held():
    found = []

    def work():
        before = signal.getsignal(signal.SIGINT)
        with job.hold_stops() as stop:
            found.extend([stop.requested, signal.getsignal(signal.SIGINT) is before])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False, True]


def test_numerical_libraries_get_the_jobs_threads(run):
    ended = run(
        'print({name: os.environ[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")})'
    )
    assert ended.log == "{'OMP_NUM_THREADS': '3', 'MKL_NUM_THREADS': '3', 'OPENBLAS_NUM_THREADS': '3'}\n"


PROGRESS = """
job.report("epoch 1")
job.last_report -= 60
job.report("epoch 2")
job.report("epoch 3")
"""


def test_progress_reaches_a_terminal_only_now_and_then(start, tmp_path):
    ours, theirs = pty.openpty()
    process = start(PROGRESS, stderr=theirs)
    assert process.wait(timeout=60) == 0
    os.close(theirs)
    assert os.read(ours, 1000) == b"  small on digits, fold 0: epoch 2\r\n"
    os.close(ours)
    log = (tmp_path / "logs/a/b.log").read_text()
    assert re.findall(r"INFO train_fold: (epoch \d)", log) == ["epoch 1", "epoch 2", "epoch 3"]


def test_progress_is_quiet_in_a_file(run):
    ended = run(PROGRESS)
    assert ended.terminal == ""
    assert re.findall(r"INFO train_fold: (epoch \d)", ended.log) == ["epoch 1", "epoch 2", "epoch 3"]


@pytest.fixture
def described(tmp_path):
    """Run a job that is described as a workflow does it; return the process and the folder of its records."""

    def run(body):
        script = tmp_path / "script.py"
        script.write_text(
            "import sys\nfrom types import SimpleNamespace as Of\nfrom foldwise.job import Job\n"
            "job = Of(rule='score_fold', log=['results/p/logs/score_fold/a/f.log'], threads=2,"
            " input=['in.npz', 'in.npz'], output=['out.json'], params=Of(cfg='{\"b\":1}', revision=3), scriptdir='.')\n"
            f"with Job.of(job, 'a, fold 0') as running:\n    {body}\n"
        )
        secret = "snakemake test --config 'x=https://me:hunter2@host.org'"
        environment = {**os.environ, "PYTHONPATH": str(SCRIPTS), "FOLDWISE_COMMAND": secret}
        command = [sys.executable, str(script)]
        result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        return result, tmp_path / "results/p/provenance"

    return run


def test_a_job_keeps_a_record_of_what_it_made(described):
    result, records = described("pass")
    assert result.returncode == 0, result.stderr
    record = json.loads((records / "score_fold/a/f.json").read_text())
    assert (record["rule"], record["title"], record["revision"], record["threads"]) == ("score_fold", "a, fold 0", 3, 2)
    assert (record["inputs"], record["outputs"]) == (["in.npz"], ["out.json"])
    assert record["config"] == {"b": 1}
    assert record["log"] == "results/p/logs/score_fold/a/f.log"
    assert record["command"] == "snakemake test --config 'x=https://***@host.org'"
    assert record["seconds"] >= 0
    assert record["versions"]["foldwise"] == __version__


def test_a_job_that_fails_keeps_none(described):
    result, records = described("raise ValueError('no')")
    assert result.returncode == 1
    assert not records.exists()


def test_a_record_that_cannot_be_written_ends_the_job(described):
    result, records = described("import pathlib; pathlib.Path('results/p/provenance').write_text('')")
    assert result.returncode == 1
    log = (records.parent / "logs/score_fold/a/f.log").read_text()
    assert "got a file where a folder should be, expected a folder" in log


def test_what_happens_once_reaches_terminal_and_log(run):
    ended = run('job.announce("goes on")')
    assert ended.terminal == "  small on digits, fold 0: goes on\n"
    assert "INFO train_fold: goes on" in ended.log


def test_a_table_reaches_terminal_and_log(run):
    ended = run('job.show("mean ± std")')
    assert ended.terminal == ended.log == "mean ± std\n"


def test_a_log_tells_of_the_last_run_alone(run):
    run('print("first")')
    assert run('print("second")').log == "second\n"


def test_the_record_of_a_run(run, tmp_path):
    text = json.dumps({"seed": 1, "pipeline": {"optimizer": {"lr": 0.1}}})
    ended = run(f"""
import numpy
time.sleep(0.2)
job.stamp(FOLDER / "results")
job.write_run(FOLDER / "results/run.json", {text!r}, FOLDER)
""")
    assert ended.status == 0
    assert (tmp_path / "results/VERSION").read_text().strip() == FORMAT_VERSION
    record = json.loads((tmp_path / "results/run.json").read_text())
    assert list(record) == [
        "format_version", "rule", "started", "finished", "seconds", "cpu_seconds", "peak_memory_mb", "threads",
        "device", "host", "platform", "python", "versions", "git", "config",
    ]  # fmt: skip
    assert record["rule"] == "train_fold"
    assert record["threads"] == 3
    assert record["device"] == "cpu"
    assert record["config"] == json.loads(text)
    assert record["git"] is None
    assert record["versions"]["foldwise"] == __version__
    assert {"torch", "numpy", "lightning", "safetensors"} <= set(record["versions"])
    assert 0.2 <= record["seconds"] < 60
    assert 0 < record["cpu_seconds"] < 60
    assert 10 < record["peak_memory_mb"] < 2000
    for key in ("started", "finished"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", record[key])


def git(folder, *arguments):
    identity = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org"]
    subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True)


def test_the_state_of_the_code_is_its_commit_and_whether_it_was_changed(tmp_path):
    assert origin.git_state(tmp_path) is None
    (tmp_path / "code.py").write_text("a = 1\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-q", "-m", "First")
    state = origin.git_state(tmp_path)
    assert re.fullmatch(r"[0-9a-f]{40}", state["commit"])
    assert state["clean"] is True
    (tmp_path / "code.py").write_text("a = 2\n")
    assert origin.git_state(tmp_path) == {"commit": state["commit"], "clean": False}


def test_times_are_utc():
    assert origin.timestamp(0) == "1970-01-01T00:00:00Z"
    assert origin.timestamp(1e9) == "2001-09-09T01:46:40Z"


def test_starting_a_job_imports_nothing_heavy(run):
    ended = run('print([name for name in ("torch", "numpy", "pandas", "lightning") if name in sys.modules])')
    assert ended.log == "[]\n"


@pytest.mark.parametrize(
    ("log", "rule", "record"),
    [
        ("results/p/logs/train_fold/a/fold-0.log", "train_fold", "results/p/provenance/train_fold/a/fold-0.json"),
        ("logs/p/logs/train_fold/a.b.log", "mine_train_fold", "logs/p/provenance/train_fold/a.b.json"),
        ("r/p/logs/train_fold/logs/train/fold-0.log", "train_fold", "r/p/provenance/train_fold/logs/train/fold-0.json"),
    ],
)
def test_the_place_of_a_record(log, rule, record):
    assert str(origin.record_path(Path(log), rule)) == record
