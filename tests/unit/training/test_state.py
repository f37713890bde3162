"""What is written comes back as it was, or not at all."""

import json
import logging
import math
import os
import subprocess
import sys
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch import nn

from foldwise.errors import DataError
from foldwise.training import state as module
from foldwise.training.state import (
    DTYPES,
    StateIO,
    digest_of,
    discard_state,
    make_folder,
    position,
    read_state,
    write_state,
)

SCRIPTS = Path(module.__file__).parents[2]
NAN = float("nan")


def same(one, other):
    """Compare to the last bit, types and order of values in memory too."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return (one.dtype, one.shape, one.stride()) == (other.dtype, other.shape, other.stride()) and bits(one) == bits(
            other
        )
    if isinstance(one, np.generic):
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    if isinstance(one, dict):
        return list(map(repr, one)) == list(map(repr, other)) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return repr(one) == repr(other)


def bits(tensor):
    return tensor.contiguous().view(-1).view(torch.uint8).tolist()


def back(folder, state):
    write_state(folder, "key", state)
    return read_state(folder, "key")


def random_tensor(dtype, shape):
    """Return a tensor of random bits, 0 or 1 in each byte as a bool must have."""
    return torch.randint(2, (math.prod(shape) * dtype.itemsize,), dtype=torch.uint8).view(dtype).reshape(shape)


KEYS = st.text(max_size=4) | st.integers() | st.sampled_from(["$tensor", "$", "__metadata__", "a.b", "0"])
SHAPES = st.lists(st.integers(0, 3), max_size=4)
TENSORS = st.builds(random_tensor, st.sampled_from(list(DTYPES)), SHAPES)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | TENSORS
    | st.floats(width=32).map(np.float32)
    | st.integers(0, 255).map(np.uint8)
    | st.booleans().map(np.bool_)
)
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.lists(inner, max_size=4).map(tuple) | st.dictionaries(KEYS, inner, max_size=4)
    ),
    max_leaves=12,
)


@given(state=st.dictionaries(KEYS, TREES, max_size=4))
@settings(max_examples=60, deadline=None)
def test_any_tree_comes_back_to_the_last_bit(tmp_path_factory, state):
    folder = tmp_path_factory.getbasetemp() / "tree"
    assert same(back(folder, state), state)


def test_what_trainers_dump_comes_back(tmp_path):
    network = nn.Conv2d(2, 3, 3)
    state = {
        "state_dict": network.state_dict(),
        "optimizer_states": [{"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"betas": (0.9, 0.99)}]}],
        "scheduler": {"best": math.inf, "worst": -math.inf, "last": NAN, "zero": -0.0, "small": 5e-324},
        "huge": 2**80,
        "empty": {"list": [], "tuple": (), "dict": {}, "tensor": torch.empty(0, 3)},
        "scale": np.float64(0.1),
        1: "a key that is no text",
    }
    read = back(tmp_path / "state", state)
    assert type(state["state_dict"]) is OrderedDict
    assert same(read, {**state, "state_dict": dict(state["state_dict"])})


@pytest.mark.parametrize(
    "make",
    [
        lambda values: values.contiguous(memory_format=torch.channels_last),
        lambda values: values[:, :, :1, :1].contiguous(memory_format=torch.channels_last),
        lambda values: values[:, :1].contiguous(memory_format=torch.channels_last),
        lambda values: values.permute(3, 1, 0, 2),
        lambda values: values[2:],
    ],
)
def test_the_order_in_memory_is_kept(tmp_path, make):
    tensor = make(torch.randn(4, 3, 5, 5))
    assert same(back(tmp_path, {"tensor": tensor})["tensor"], tensor)


@pytest.mark.parametrize("make", [lambda values: values[:, ::2], lambda values: values[:1].expand(4, 6)])
def test_values_with_gaps_or_repetitions_are_written_whole(tmp_path, make):
    tensor = make(torch.randn(4, 6))
    assert torch.equal(back(tmp_path, {"tensor": tensor})["tensor"], tensor)


def test_tensors_that_share_memory_or_learn_are_written_as_they_are(tmp_path):
    weight = nn.Parameter(torch.randn(3))
    read = back(tmp_path, {"a": weight, "b": weight.detach(), "c": torch.view_as_complex(torch.ones(1, 2)).conj()})
    assert torch.equal(read["a"], weight)
    assert torch.equal(read["b"], weight)
    assert read["c"].tolist() == [1 - 1j]
    assert not read["a"].requires_grad


def test_tensors_can_be_opened_by_any_reader_of_safetensors(tmp_path):
    weight = torch.randn(3)
    write_state(tmp_path, "key", {"network": {"weight": weight}})
    with safe_open(tmp_path / "state-1.safetensors", "np") as file:
        assert list(file.keys()) == ["0:state.network.weight"]
        assert file.get_tensor("0:state.network.weight").tobytes() == weight.numpy().tobytes()


@pytest.mark.parametrize(
    ("value", "where", "got"),
    [
        (len, "state.a.1", "a builtins.builtin_function_or_method"),
        ({1.5: 1}, "state.a.1, a key", "a float"),
        ({True: 1}, "state.a.1, a key", "a bool"),
        (torch.eye(2).to_sparse(), "state.a.1", "a tensor of torch.float32 and torch.sparse_coo"),
        (torch.zeros(1, dtype=torch.complex128), "state.a.1", "a tensor of torch.complex128"),
        (torch.zeros(1, device="meta"), "state.a.1", "a tensor of torch.float32"),
        ("\ud800", "state.a.1", "a builtins.str"),
        (np.zeros(2), "state.a.1", "a numpy.ndarray"),
        (torch.Size([1]), "state.a.1", "a torch.Size"),
        ({1, 2}, "state.a.1", "a builtins.set"),
    ],
)
def test_what_cannot_be_written_is_told_and_the_old_state_stays(tmp_path, value, where, got):
    write_state(tmp_path, "key", {"old": 1})
    with pytest.raises(DataError) as told:
        write_state(tmp_path, "key", {"a": [0, value]})
    assert str(told.value).startswith(f"{where}: got {got}")
    assert read_state(tmp_path, "key") == {"old": 1}


def test_a_state_replaces_the_one_before_and_leaves_nothing_else(tmp_path):
    for value in range(3):
        assert same(back(tmp_path, {"a": torch.tensor(value)}), {"a": torch.tensor(value)})
        assert sorted(path.name for path in tmp_path.iterdir()) == [f"state-{value + 1}.safetensors", "state.json"]


def test_no_state_is_none_without_a_word(tmp_path, caplog):
    assert read_state(tmp_path / "none", "key") is None
    assert not caplog.records


def test_a_state_of_another_key_is_not_used(tmp_path, caplog):
    write_state(tmp_path, "one", {"a": 1})
    assert read_state(tmp_path, "other") is None
    assert "of other settings or data" in caplog.text
    with pytest.raises(DataError, match="no state that can be used"):
        StateIO("other").load_checkpoint(tmp_path)


def cut(path):
    path.write_bytes(path.read_bytes()[:-3])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) * 3 // 4] ^= 1
    path.write_bytes(content)


def change(path):
    """Change a number without making the file unreadable."""
    path.write_text(path.read_text().replace("123.5", "123.25"))


def rename_version(path):
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": "1.0.0"}))


def nest(path):
    path.write_text("[" * 100_000)


@pytest.mark.parametrize(
    ("name", "damage", "reason"),
    [
        ("state.json", cut, "a file that cannot be read"),
        ("state.json", change, "another checksum"),
        ("state.json", rename_version, "format version 1.0.0"),
        ("state.json", lambda path: path.write_text("{}"), "format_version"),
        ("state.json", lambda path: path.write_text("[]"), "no mapping"),
        ("state.json", lambda path: path.write_bytes(b"\xff\xfe"), "decode"),
        ("state.json", nest, "recursion"),
        ("state-1.safetensors", cut, "another checksum"),
        ("state-1.safetensors", flip, "another checksum"),
        ("state-1.safetensors", Path.unlink, "got nothing"),
    ],
)
def test_a_damaged_state_is_told_and_training_begins_anew(tmp_path, caplog, name, damage, reason):
    write_state(tmp_path, "key", {"number": 123.5, "tensor": torch.randn(50)})
    damage(tmp_path / name)
    assert read_state(tmp_path, "key") is None
    assert "training begins anew" in caplog.text
    assert reason in caplog.text
    assert len(caplog.text.splitlines()) == 1
    assert back(tmp_path, {"a": 1}) == {"a": 1}
    assert len(list(tmp_path.iterdir())) == 2


def test_any_bit_that_flips_is_noticed(tmp_path, caplog):
    caplog.set_level(logging.CRITICAL)
    state = {"number": 123.5, "tensor": torch.arange(3), "pair": (1, "a")}
    write_state(tmp_path, "key", state)
    for path in sorted(tmp_path.iterdir()):
        content = path.read_bytes()
        for place in range(0, len(content), 3):
            path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
            read = read_state(tmp_path, "key")
            assert read is None or same(read, state), (path, place)
        path.write_bytes(content)


def test_a_kill_between_the_two_writes_leaves_the_old_state(tmp_path):
    write_state(tmp_path, "key", {"a": torch.tensor(1)})
    old = (tmp_path / "state.json").read_bytes()
    kept = (tmp_path / "state-1.safetensors").read_bytes()
    write_state(tmp_path, "key", {"a": torch.tensor(2)})
    (tmp_path / "state.json").write_bytes(old)
    (tmp_path / "state-1.safetensors").write_bytes(kept)
    (tmp_path / ".tmp-state.json-123-0a0b").write_text("{")
    assert read_state(tmp_path, "key")["a"] == 1
    assert back(tmp_path, {"a": torch.tensor(3)})["a"] == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state-3.safetensors", "state.json"]


WRITER = """
import sys, itertools, torch
from pathlib import Path
from foldwise.training.state import write_state
for count in itertools.count():
    write_state(Path(sys.argv[1]), "key", {"count": count, "tensors": [torch.full((100_000,), count)] * 4})
    print(count, flush=True)
"""


def test_a_kill_at_any_moment_leaves_a_whole_state(tmp_path):
    """Takes as long as the import of torch in a process that can be killed."""
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    command = [sys.executable, "-c", WRITER, str(tmp_path / "state")]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    for _ in range(20):
        told = int(process.stdout.readline())
    process.kill()
    process.wait()
    read = read_state(tmp_path / "state", "key")
    assert read["count"] >= told
    assert all((tensor == read["count"]).all() for tensor in read["tensors"])


def test_a_full_disk_leaves_the_old_state(small_disk):
    write_state(small_disk / "state", "key", {"a": torch.zeros(2**16)})
    with pytest.raises(DataError, match="a full disk"):
        write_state(small_disk / "state", "key", {"a": torch.zeros(2**18)})
    assert read_state(small_disk / "state", "key")["a"].shape == (2**16,)
    assert len(list((small_disk / "state").iterdir())) == 2


def test_discarding_removes_what_was_made_and_no_more(tmp_path):
    folder = tmp_path / "checkpoints/default/digits/fold-0"
    other = tmp_path / "checkpoints/other"
    other.mkdir(parents=True)
    write_state(folder, "key", {"a": torch.ones(1)})
    (folder / ".tmp-state-2.safetensors-1-ab").touch()
    discard_state(folder)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["other"]
    other.rmdir()
    write_state(folder, "key", {"a": 1})
    discard_state(folder)
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_discarding_keeps_the_files_of_others(tmp_path):
    folder = tmp_path / "a/state"
    write_state(folder, "key", {"a": 1})
    (folder / "notes.txt").touch()
    discard_state(folder)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    (folder / "notes.txt").unlink()
    discard_state(folder)
    assert not folder.exists()
    assert (tmp_path / "a").exists()
    discard_state(folder)


def test_jobs_that_make_and_remove_folders_beside_each_other_do_no_harm(tmp_path):
    def make_and_remove(fold):
        folder = tmp_path / f"checkpoints/default/digits/fold-{fold}"
        for _ in range(800):
            make_folder(folder)
            assert folder.is_dir()
            discard_state(folder)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(make_and_remove, range(2)))
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_digest_changes_with_all_that_decides(tmp_path):
    file, other = tmp_path / "a.csv", tmp_path / "b.csv"
    file.write_text("a")
    other.write_text("b")
    digest = digest_of("text", 1, [file])
    assert digest == digest_of("text", 1, [file])
    changed = [digest_of("texts", 1, [file]), digest_of("text", 2, [file]), digest_of("text", 1, [other])]
    changed += [digest_of("text", 1, []), digest_of("text", 1, [file, other])]
    assert len({digest, *changed}) == 6


@pytest.mark.parametrize(("started", "batches", "expected"), [(3, 7, (2, 7)), (2, 9, (2, 0)), (0, 0, (0, 0))])
def test_the_position_is_epoch_and_batches_done(started, batches, expected):
    counts = {"started": started, "processed": expected[0]}
    loops = {"epoch_progress": {"current": counts}, "epoch_loop.batch_progress": {"current": {"ready": batches}}}
    assert position({"loops": {"fit_loop": loops}}) == expected
