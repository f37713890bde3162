"""Batches: which samples, in which order, in which memory format."""

import threading
import time

import numpy as np
import pytest
import torch

from foldwise.config.pipeline import Sampling
from foldwise.data.batches import (
    Batches,
    BatchPlan,
    Masks,
    Together,
    TrainingPlan,
    batch_bounds,
    draw_balanced,
    targets_of,
)
from foldwise.errors import DataError

LABELS = np.repeat([0, 1, 2], [80, 15, 5])


def sizes(samples, batch_size, drop_last=False):
    return [stop - start for start, stop in batch_bounds(samples, batch_size, drop_last)]


def plan(seed=42, labels=LABELS, **keys):
    return TrainingPlan(labels, Sampling(**{"batch_size": 16, **keys}), seed)


class TestBounds:
    @pytest.mark.parametrize(
        ("samples", "expected"),
        [(0, []), (1, [1]), (4, [4]), (5, [5]), (6, [4, 2]), (7, [4, 3]), (8, [4, 4]), (9, [4, 5])],
    )
    def test_a_last_batch_of_one_joins_the_one_before(self, samples, expected):
        assert sizes(samples, 4) == expected

    @pytest.mark.parametrize(("samples", "expected"), [(8, [4, 4]), (9, [4, 4]), (11, [4, 4]), (3, [3]), (5, [4])])
    def test_an_incomplete_last_batch_is_left_out_if_asked_unless_it_is_the_only_one(self, samples, expected):
        assert sizes(samples, 4, drop_last=True) == expected

    @pytest.mark.parametrize("samples", range(1, 30))
    def test_batches_cover_all_samples_in_order(self, samples):
        bounds = batch_bounds(samples, 4, drop_last=False)
        assert [place for start, stop in bounds for place in range(start, stop)] == list(range(samples))
        assert samples == 1 or min(sizes(samples, 4)) > 1


class TestEvaluation:
    def test_samples_come_in_place_in_every_epoch(self):
        for epoch in (0, 3):
            batches = list(BatchPlan(10, 4).batches(epoch))
            assert [batch.tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]

    def test_no_samples_are_no_batches(self):
        assert list(BatchPlan(0, 4).batches(0)) == []


class TestTraining:
    def test_an_epoch_sees_every_sample_once_in_another_order(self):
        first, second = (np.concatenate(list(plan().batches(epoch))) for epoch in (0, 1))
        assert sorted(first) == sorted(second) == list(range(100))
        assert first.tolist() != second.tolist()
        assert first.tolist() != list(range(100))

    @pytest.mark.parametrize("keys", [{}, {"balanced": True}, {"sample_num": 250}, {"sample_num": 30}])
    def test_the_order_is_a_function_of_seed_and_epoch_alone(self, keys):
        one, other = plan(**keys), plan(**keys)
        later = one.order(5)
        assert np.array_equal(other.order(0), one.order(0))
        assert np.array_equal(other.order(5), later)
        assert not np.array_equal(plan(seed=43, **keys).order(5), later)
        assert not np.array_equal(one.order(6), later)

    def test_the_order_is_the_same_on_every_platform(self):
        assert plan(labels=LABELS[:8]).order(0).tolist() == np.random.default_rng([42, 0]).permutation(8).tolist()

    @pytest.mark.parametrize(("sample_num", "most", "least"), [(30, 1, 0), (100, 1, 1), (250, 3, 2)])
    def test_samples_an_epoch_are_spread_evenly(self, sample_num, most, least):
        counts = np.bincount(plan(sample_num=sample_num).order(0), minlength=100)
        assert counts.sum() == sample_num
        assert (counts.max(), counts.min()) == (most, least)

    @pytest.mark.parametrize(
        ("keys", "expected"),
        [({}, 7), ({"drop_last": True}, 6), ({"sample_num": 33}, 2), ({"batch_size": 33}, 3), ({"batch_size": 500}, 1)],
    )
    def test_the_number_of_batches_is_known_beforehand(self, keys, expected):
        made = plan(**keys)
        assert made.batches_per_epoch == expected == len(list(made.batches(0)))

    def test_the_last_batch_of_one_is_merged(self):
        assert [len(batch) for batch in plan(batch_size=33).batches(0)] == [33, 33, 34]


class TestBalanced:
    def test_classes_are_drawn_equally_often(self):
        drawn = LABELS[draw_balanced(LABELS, 30_000, np.random.default_rng(0))]
        assert np.bincount(drawn) == pytest.approx([10_000] * 3, abs=400)

    def test_samples_of_a_class_are_drawn_equally_often(self):
        counts = np.bincount(draw_balanced(LABELS, 30_000, np.random.default_rng(0)), minlength=100)
        assert counts[-5:] == pytest.approx([2000] * 5, abs=200)

    def test_a_class_without_samples_is_no_matter(self):
        drawn = draw_balanced(np.array([0, 0, 3]), 1000, np.random.default_rng(0))
        assert set(drawn) == {0, 1, 2}

    def test_without_balancing_frequencies_stay(self):
        assert np.bincount(LABELS[plan().order(0)]).tolist() == [80, 15, 5]
        balanced = np.bincount(LABELS[plan(balanced=True, sample_num=3000).order(0)])
        assert balanced == pytest.approx([1000] * 3, abs=150)


class TestBatches:
    @pytest.fixture
    def images(self):
        return np.random.default_rng(0).integers(0, 256, (20, 6, 5, 3), dtype=np.uint8)

    def test_images_and_labels_of_a_batch_belong_together(self, images):
        rows, labels = np.array([7, 3, 19, 3, 0]), np.array([1, 0, 2, 0, 1])
        batches = list(Batches(images, rows, labels, BatchPlan(5, 3)))
        assert [len(found) for _, found in batches] == [3, 2]
        pixels = torch.cat([batch for batch, _ in batches]).permute(0, 2, 3, 1).numpy()
        assert np.array_equal(pixels, images[rows])
        assert torch.cat([found for _, found in batches]).tolist() == labels.tolist()

    def test_batches_are_bytes_in_channels_last_order(self, images):
        pixels, labels = next(iter(Batches(images, np.arange(4), np.zeros(4, np.int64), BatchPlan(4, 4))))
        assert (pixels.dtype, labels.dtype) == (torch.uint8, torch.int64)
        assert pixels.shape == (4, 3, 6, 5)
        assert pixels.is_contiguous(memory_format=torch.channels_last)

    def test_a_batch_is_a_copy_of_the_stored_pixels(self, images):
        stored = images.copy()
        pixels, _ = next(iter(Batches(images, np.arange(4), np.zeros(4, np.int64), BatchPlan(4, 4))))
        pixels.zero_()
        assert np.array_equal(images, stored)

    def test_the_epoch_chooses_the_order(self, images):
        labels = np.arange(20)
        batches = Batches(images, labels, labels, plan(labels=labels, batch_size=7))
        seen = []
        for epoch in (0, 1, 0):
            seen.append(torch.cat([found for _, found in batches.run(epoch, 0, len(batches))]).tolist())
        assert seen[0] == seen[2] != seen[1]
        assert len(batches) == 3

    def test_memory_mapped_digits_arrive_unchanged(self, digits_store, digits_task):
        places = digits_task.split("val", 1)
        rows = digits_store.rows_of(digits_task, places)
        batches = Batches(
            digits_store.images, rows, targets_of(digits_store, digits_task, places), BatchPlan(len(places), 64)
        )
        pixels = torch.cat([batch for batch, _ in batches]).permute(0, 2, 3, 1).numpy()
        assert np.array_equal(pixels, digits_store.images[rows])


class TestTargets:
    @pytest.mark.parametrize(
        "targets",
        [
            np.random.default_rng(0).integers(0, 2, (8, 3), dtype=np.uint8),
            np.random.default_rng(0).random((8, 3), dtype=np.float32),
            np.random.default_rng(0).random(8, dtype=np.float32),
        ],
        ids=["hard labels", "soft labels", "values"],
    )
    def test_targets_keep_their_type_and_order(self, targets):
        images = np.zeros((8, 2, 2, 3), np.uint8)
        found = torch.cat([batch for _, batch in Batches(images, np.arange(8), targets, BatchPlan(8, 3))])
        assert found.numpy().dtype == targets.dtype
        assert np.array_equal(found.numpy(), targets)

    def test_masks_are_found_by_row_and_stay_with_their_images(self):
        images = np.random.default_rng(0).integers(0, 256, (20, 6, 5, 3), dtype=np.uint8)
        rows = np.array([7, 3, 19, 0])
        batches = list(Batches(images, rows, Masks(images[..., 1], rows), BatchPlan(4, 2)))
        assert [masks.shape for _, masks in batches] == [(2, 6, 5)] * 2
        assert all(torch.equal(pixels[:, 1], masks) for pixels, masks in batches)

    def test_a_training_plan_counts_masks(self):
        masks = Masks(np.zeros((9, 2, 2), np.uint8), np.arange(5))
        assert len(TrainingPlan(masks, Sampling(batch_size=2), 0).order(0)) == 5


class Decoding:
    """Images that say that they decode, and note in which thread they are asked for which rows."""

    decodes = True

    def __init__(self, images, broken=()):
        self.images, self.broken = images, broken
        self.threads, self.asked = set(), []

    def __getitem__(self, rows):
        self.threads.add(threading.current_thread())
        self.asked.append(rows.tolist())
        if set(rows.tolist()) & set(self.broken):
            raise DataError("image 7", "noise", "an image")
        return self.images[rows]


class TestDecoding:
    IMAGES = np.random.default_rng(0).integers(0, 256, (20, 6, 5, 3), dtype=np.uint8)

    def batches(self, images, size=3):
        return Batches(images, np.arange(20)[::-1], np.arange(20), BatchPlan(20, size))

    def wait_for(self, count, images):
        deadline = time.monotonic() + 5
        while len(images.asked) < count and time.monotonic() < deadline:
            time.sleep(0.001)
        return len(images.asked)

    def test_batches_are_those_of_plain_images_in_the_same_order(self):
        plain, found = (list(self.batches(images)) for images in (self.IMAGES, Decoding(self.IMAGES)))
        assert len(found) == 7
        for one, other in zip(plain, found, strict=True):
            assert all(map(torch.equal, one, other))

    def test_the_next_batch_and_no_more_is_decoded_while_one_is_used(self):
        images = Decoding(self.IMAGES)
        iterator = iter(self.batches(images))
        for used in (1, 2, 3):
            next(iterator)
            assert self.wait_for(used + 1, images) == used + 1
        time.sleep(0.02)
        assert len(images.asked) == 4

    def test_decoding_is_done_in_one_thread_that_ends_with_the_batches(self):
        images = Decoding(self.IMAGES)
        list(self.batches(images))
        assert len(images.threads) == 1
        assert threading.main_thread() not in images.threads
        assert not any(thread.is_alive() for thread in images.threads)

    def test_no_thread_is_left_when_iteration_stops_early(self):
        images = Decoding(self.IMAGES)
        iterator = iter(self.batches(images))
        next(iterator)
        iterator.close()
        assert not any(thread.is_alive() for thread in images.threads)

    def test_plain_images_are_read_in_the_thread_that_uses_them(self):
        images = Decoding(self.IMAGES)
        images.decodes = False
        next(iter(self.batches(images)))
        assert images.threads == {threading.current_thread()}
        assert len(images.asked) == 1

    def test_an_error_comes_at_its_batch_and_leaves_no_thread(self):
        images = Decoding(self.IMAGES, broken=[12])
        batches = iter(self.batches(images))
        assert [len(next(batches)[0]) for _ in range(2)] == [3, 3]
        with pytest.raises(DataError, match="image 7"):
            next(batches)
        assert not any(thread.is_alive() for thread in images.threads)


class TestTogether:
    def together(self, *sizes, seed=42):
        images = np.arange(200, dtype=np.uint8).reshape(200, 1, 1, 1)
        tasks = []
        for size in sizes:
            labels = np.zeros(size, dtype=np.int64)
            tasks.append(Batches(images, np.arange(size), labels, plan(seed, labels, batch_size=4)))
        return Together(tasks)

    def pixels(self, steps):
        return [[part[0].flatten().tolist() for part in step] for step in steps]

    def test_each_step_has_a_batch_of_every_task_and_shorter_tasks_begin_anew(self):
        together = self.together(8, 22, 12)
        steps = self.pixels(together)
        assert len(together) == len(steps) == 6
        short = [step[0] for step in steps]
        for round_ in range(3):
            assert sorted(short[2 * round_] + short[2 * round_ + 1]) == list(range(8))
        assert len({*map(tuple, short)}) > 2  # rounds have orders of their own
        assert sorted(place for step in steps for place in step[1]) == list(range(22))

    @pytest.mark.parametrize("first", range(7))
    def test_a_resumed_epoch_goes_on_where_it_was(self, first):
        together = self.together(8, 22, 12)
        together.set_epoch(3)
        whole = self.pixels(together)
        together.start_at(first)
        assert self.pixels(together) == whole[first:]
        assert self.pixels(together) == whole

    def test_an_iteration_that_never_began_does_not_forget_where_to_start(self):
        together = self.together(8)
        together.start_at(1)
        iter(together)
        assert len(self.pixels(together)) == 1

    def test_one_task_alone_has_the_batches_of_its_plan(self):
        together = self.together(22)
        together.set_epoch(2)
        expected = [places.tolist() for places in together.tasks[0].plan.batches(2)]
        assert self.pixels(together) == [[batch] for batch in expected]
