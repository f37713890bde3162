"""From stored bytes to the network's input: normalisation and random changes."""

import inspect
import re

import kornia.augmentation
import numpy as np
import pytest
import torch

from foldwise.config.pipeline import Augmentations, Operation, kornia_operations
from foldwise.data.augment import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Augment,
    Normalize,
    build_operation,
    normalization_statistics,
)
from foldwise.errors import ConfigError

SIZE = (32, 32)
NEEDED = {  # arguments that have no default in kornia
    "RandomAffine": {"degrees": 30.0},
    "RandomGaussianBlur": {"kernel_size": [3, 3], "sigma": [0.1, 2.0]},
    "RandomMotionBlur": {"kernel_size": 3, "angle": 35.0, "direction": 0.5},
    "RandomRotation": {"degrees": 30.0},
    "RandomRotation90": {"times": [0, 3]},
    "RandomShear": {"shear": 20.0},
}
PLAIN = Normalize([0.0] * 3, [1.0] * 3)


@pytest.fixture
def pixels():
    """Four times the same noise, as bytes."""
    one = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, *SIZE), dtype=np.uint8))
    return one.repeat(4, 1, 1, 1).contiguous(memory_format=torch.channels_last)


def operation(name, **arguments):
    return Operation.model_validate({"name": name, **arguments})


def augment(pixels, *operations, seed=0, normalize=PLAIN):
    torch.manual_seed(seed)
    return Augment(list(operations), SIZE, normalize)(pixels)


class TestNormalize:
    def test_pixels_are_scaled_shifted_and_divided_by_channel(self, pixels):
        found = Normalize([0.1, 0.2, 0.3], [0.5, 1.0, 2.0])(pixels)
        mean, std = np.array([0.1, 0.2, 0.3])[:, None, None], np.array([0.5, 1.0, 2.0])[:, None, None]
        assert found.dtype == torch.float32
        np.testing.assert_allclose(found.numpy(), (pixels.numpy() / 255 - mean) / std, atol=1e-6)

    def test_scaled_images_are_normalised_alike(self, pixels):
        normalize = Normalize(IMAGENET_MEAN, IMAGENET_STD)
        torch.testing.assert_close(normalize.unit(pixels.float() / 255), normalize(pixels), atol=1e-5, rtol=0)

    def test_the_memory_order_stays(self, pixels):
        assert PLAIN(pixels).is_contiguous(memory_format=torch.channels_last)

    def test_it_is_no_part_of_the_weights(self):
        assert list(PLAIN.state_dict()) == []

    @pytest.mark.parametrize(
        ("kind", "expected"),
        [
            ("imagenet", ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])),
            ("task", ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])),
            (None, ([0.0, 0.0, 0.0], [1.0, 1.0, 1.0])),
        ],
    )
    def test_statistics_are_those_that_the_pipeline_asks_for(self, kind, expected):
        section = Augmentations(normalization=kind)
        assert normalization_statistics(section, ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])) == expected


class TestAugment:
    def test_no_operations_are_pure_normalisation(self, pixels):
        normalize = Normalize(IMAGENET_MEAN, IMAGENET_STD)
        state = torch.get_rng_state()
        found = Augment([], SIZE, normalize)(pixels)
        assert torch.equal(found, normalize(pixels))
        assert torch.equal(torch.get_rng_state(), state)

    def test_every_sample_of_a_batch_is_changed_in_its_own_way(self, pixels):
        found = augment(pixels, operation("RandomAffine", degrees=45.0, p=1.0))
        for first in range(4):
            for second in range(first):
                assert not torch.allclose(found[first], found[second], atol=1e-3)

    def test_equal_seeds_make_equal_changes(self, pixels):
        operations = [operation("RandomAffine", degrees=45.0, p=1.0), operation("RandomBrightness", p=0.5)]
        assert torch.equal(augment(pixels, *operations, seed=1), augment(pixels, *operations, seed=1))
        assert not torch.equal(augment(pixels, *operations, seed=1), augment(pixels, *operations, seed=2))

    def test_operations_work_on_pixels_between_0_and_1_and_are_normalised_after(self, pixels):
        normalize = Normalize([0.5] * 3, [0.25] * 3)
        found = augment(pixels, operation("RandomInvert", p=1.0), normalize=normalize)
        torch.testing.assert_close(found, ((1 - pixels.float() / 255) - 0.5) / 0.25)

    def test_operations_are_applied_in_order(self, pixels):
        flip, rotate = operation("RandomHorizontalFlip", p=1.0), operation("RandomRotation90", times=[1, 1], p=1.0)
        one, other = augment(pixels, flip, rotate), augment(pixels, rotate, flip)
        expected = torch.rot90(pixels.flip(3), 1, (2, 3)).float() / 255
        torch.testing.assert_close(one, expected, atol=1e-4, rtol=0)
        assert not torch.allclose(one, other, atol=1e-2)

    def test_a_probability_of_0_changes_nothing(self, pixels):
        found = augment(pixels, operation("RandomHorizontalFlip", p=0.0))
        torch.testing.assert_close(found, pixels.float() / 255)

    def test_batches_keep_memory_order_and_the_stored_bytes_stay(self, pixels):
        before = pixels.clone()
        found = augment(pixels, operation("RandomAffine", degrees=45.0, p=1.0), operation("RandomInvert", p=1.0))
        assert found.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(pixels, before)

    def test_building_draws_no_random_numbers_of_training(self):
        torch.manual_seed(5)
        state = torch.get_rng_state()
        build_operation(operation("RandomAffine", degrees=45.0, p=1.0), SIZE)
        assert torch.equal(torch.get_rng_state(), state)


def parameters_of(name):
    return inspect.signature(getattr(kornia.augmentation, name)).parameters


class TestOperations:
    @pytest.mark.parametrize("name", kornia_operations())
    def test_every_operation_works_with_kornias_defaults(self, name, pixels):
        torch.manual_seed(0)
        images = build_operation(operation(name, **NEEDED.get(name, {})), SIZE)(pixels.float() / 255)
        assert images.shape == pixels.shape
        assert torch.isfinite(images).all()

    @pytest.mark.parametrize("name", NEEDED)
    def test_an_argument_that_kornia_has_no_default_for_is_named(self, name):
        needed = [key for key in NEEDED[name] if parameters_of(name)[key].default is inspect.Parameter.empty]
        with pytest.raises(ConfigError) as caught:
            build_operation(operation(name), SIZE)
        assert caught.value.message.startswith(f"augmentations.operations: {name}: got")
        assert re.search("missing.*" + ".*".join(f"'{key}'" for key in needed), caught.value.message)

    @pytest.mark.parametrize("name", kornia_operations())
    def test_the_list_of_arguments_agrees_with_kornias_signature(self, name):
        assert set(kornia_operations()[name]) <= set(parameters_of(name))

    @pytest.mark.parametrize("name", ["RandomCrop", "RandomResizedCrop"])
    def test_crops_have_the_size_of_the_tensors(self, name, pixels):
        for size in ((32, 32), (16, 24)):
            images = build_operation(operation(name, p=1.0), size)(pixels.float() / 255)
            assert images.shape[2:] == size

    @pytest.mark.parametrize(
        ("name", "arguments"),
        [
            ("RandomAffine", {"degrees": "much"}),
            ("RandomAffine", {"degrees": 10.0, "translate": [3.0, 3.0]}),
            ("RandomGaussianBlur", {"kernel_size": 4, "sigma": [0.1, 2.0], "p": 1.0}),
            ("RandomRain", {"drop_height": [100, 200], "p": 1.0}),
        ],
    )
    def test_a_value_that_kornia_does_not_take_is_named_with_the_operation(self, name, arguments):
        with pytest.raises(ConfigError) as caught:
            build_operation(operation(name, **arguments), SIZE)
        assert caught.value.message.startswith(f"augmentations.operations: {name}: got")
        assert f"expected arguments that kornia takes ({kornia_operations()[name][0]}" in caught.value.message

    def test_lists_become_the_tuples_that_kornia_expects(self, pixels):
        built = build_operation(operation("RandomAffine", degrees=[90.0, 90.0], translate=[0.0, 0.0], p=1.0), SIZE)
        images = built(pixels.float() / 255)
        torch.testing.assert_close(images, torch.rot90(pixels, -1, (2, 3)).float() / 255, atol=1e-3, rtol=0)
