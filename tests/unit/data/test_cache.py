"""Wherever tensors are kept, batches have the same bytes."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from foldwise.config.pipeline import Sampling
from foldwise.data import cache
from foldwise.data.batches import Batches, Together, TrainingPlan
from foldwise.data.cache import OnDevice, cached, fits, gather
from foldwise.data.packed import PackedImages, encode_rows, shard_path
from foldwise.data.rows import StoredRows, npy_header
from foldwise.errors import ConfigError

SHAPE = (20, 8, 6, 3)
CPU = torch.device("cpu")
PIXELS = np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8)
ROWS = np.array([7, 3, 19, 3, 0])
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use")


def as_array(folder):
    return PIXELS


def as_rows(folder):
    path = Path(folder) / "images.npy"
    np.save(path, PIXELS)
    return StoredRows(path, SHAPE, len(npy_header(SHAPE)))


def as_jpegs(folder):
    content = encode_rows(PIXELS, 90)
    ends = np.cumsum([len(image) for image in content])
    lengths = np.diff(ends, prepend=0)
    shard_path(Path(folder), 0).write_bytes(b"".join(content))
    index = np.stack([np.zeros_like(ends), ends - lengths, lengths], axis=1)
    return PackedImages(Path(folder), index, SHAPE, workers=2)


@pytest.fixture(params=[as_array, as_rows, as_jpegs])
def store(request, tmp_path):
    return request.param(tmp_path)


@pytest.mark.parametrize("kind", ["none", "memory", "device", "auto"])
def test_batches_are_the_same_bit_for_bit_in_channels_last_order(store, kind):
    images, rows = cached(store, ROWS, kind, CPU)
    for places in ([0, 1, 2, 3, 4], [2], [3, 1, 1]):
        found = gather(images, rows[places])
        expected = torch.from_numpy(np.stack([store[int(row)] for row in ROWS[places]])).permute(0, 3, 1, 2)
        assert found.dtype == torch.uint8
        assert torch.equal(found, expected)
        assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("kind", ["memory", "device"])
def test_epochs_of_training_are_the_same(store, kind):
    plan = TrainingPlan(np.arange(5), Sampling(batch_size=2), seed=3)
    epochs = []
    for one in ("none", kind):
        batches = Batches(*cached(store, ROWS, one, CPU), np.arange(5), plan)
        epochs.append([batch for epoch in range(2) for batch in batches.run(epoch, 0, len(batches))])
    for (images, targets), (others, other_targets) in zip(*epochs, strict=True):
        assert torch.equal(images, others)
        assert torch.equal(targets, other_targets)


@pytest.mark.parametrize("kind", ["memory", "device"])
def test_steps_of_several_tasks_are_the_same(store, kind):
    several = (ROWS, np.array([5, 5, 7]))
    steps = []
    for one in ("none", kind):
        plans = [TrainingPlan(rows, Sampling(batch_size=2), seed=3) for rows in several]
        tasks = [Batches(*cached(store, rows, one, CPU), rows, plan) for rows, plan in zip(several, plans, strict=True)]
        steps.append([batch for step in Together(tasks) for batch in step])
    assert len(steps[0]) == len(steps[1]) == 4
    for (images, targets), (others, other_targets) in zip(*steps, strict=True):
        assert torch.equal(images, others)
        assert torch.equal(targets, other_targets)


@pytest.mark.parametrize("kind", ["memory", "device"])
def test_a_copy_needs_little_memory_beside_it(kind, monkeypatch):
    monkeypatch.setattr(cache, "CHUNK", 2**16)
    pixels = np.zeros((64, 128, 128, 3), np.uint8)
    tracemalloc.start()
    try:
        cached(pixels, np.arange(64), kind, CPU)
        _, peak = tracemalloc.get_traced_memory()  # of NumPy's arrays, which what is copied at a time is
    finally:
        tracemalloc.stop()
    assert peak < pixels.nbytes / 10


@pytest.mark.parametrize("kind", ["memory", "device"])
def test_what_is_needed_is_read_once_and_nothing_else(kind):
    asked = []

    class Counting:
        shape = SHAPE

        def __getitem__(self, rows):
            asked.extend(rows.tolist())
            return PIXELS[rows]

    images, rows = cached(Counting(), ROWS, kind, CPU)
    assert asked == [0, 3, 7, 19]
    assert images.shape == (4, *SHAPE[1:])
    gather(images, rows)
    assert len(asked) == 4


def test_a_copy_is_gathered_a_few_rows_at_a_time(monkeypatch, store):
    monkeypatch.setattr(cache, "CHUNK", 3 * 8 * 6 * 3)
    images, rows = cached(store, np.arange(20), "memory", CPU)
    assert np.array_equal(images[rows], store[np.arange(20)])


@pytest.mark.parametrize("kind", ["none", "auto"])
def test_without_a_gpu_the_store_stays_as_it_is(store, kind):
    images, rows = cached(store, ROWS, kind, CPU)
    assert images is store
    assert rows is ROWS


@pytest.mark.parametrize("kind", ["none", "memory", "device", "auto"])
def test_no_rows_are_no_copy(store, kind):
    images, _ = cached(store, np.empty(0, np.int64), kind, CPU)
    assert images is store


@pytest.mark.parametrize("kind", ["memory", "device"])
def test_copies_need_no_thread_that_decodes_ahead(store, kind):
    images, _ = cached(store, ROWS, kind, CPU)
    assert not getattr(images, "decodes", False)


@pytest.mark.parametrize(("kind", "where"), [("memory", "machine"), ("device", "device")])
def test_too_little_memory_is_told_with_the_size(kind, where):
    class Large:
        shape = (4, 2**22, 2**22, 3)

    with pytest.raises(ConfigError) as caught:
        cached(Large(), np.arange(4), kind, CPU)
    expected = f"none or auto, as the memory of the {where} is too small"
    assert caught.value.message == f"sampling.cache: got {kind} for 196608.0 GiB of images, expected {expected}."


@pytest.mark.parametrize(
    ("size", "free", "reserved", "used", "expected"),
    [
        (40, 100, 0, 0, True),
        (41, 100, 0, 0, False),
        (24, 60, 40, 16, True),  # the tensors of another task are there already
        (25, 60, 40, 16, False),
        (40, 20, 80, 0, True),  # what the process has got and does not use is free
    ],
)
def test_tensors_of_all_tasks_together_take_two_fifths_of_what_a_process_can_have(size, free, reserved, used, expected):
    assert fits(size, free, reserved, used) is expected


@CUDA
class TestOnGpu:
    DEVICE = torch.device("cuda", 0)

    def test_auto_keeps_images_there_and_batches_are_the_same(self, store):
        images, rows = cached(store, ROWS, "auto", self.DEVICE)
        assert isinstance(images, OnDevice)
        found = gather(images, rows)
        assert found.device == self.DEVICE
        assert torch.equal(found.cpu(), gather(store, ROWS))
        assert found.is_contiguous(memory_format=torch.channels_last)

    def test_what_does_not_fit_stays_where_it_is(self, store, monkeypatch):
        monkeypatch.setattr(cache, "SHARE", 0.0)
        assert cached(store, ROWS, "auto", self.DEVICE)[0] is store

    def test_batches_that_are_not_there_are_pinned(self, store):
        assert gather(store, ROWS).is_pinned()
