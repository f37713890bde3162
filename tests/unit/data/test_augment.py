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
    AugmentWithMasks,
    Normalize,
    build_augmentation,
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
TARGETS = torch.arange(4)
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
    return Augment(list(operations), SIZE, normalize)(pixels, TARGETS)[0]


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
        found, targets = Augment([], SIZE, normalize)(pixels, TARGETS)
        assert torch.equal(found, normalize(pixels))
        assert targets is TARGETS
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

    def test_targets_stay_as_they_are(self, pixels):
        _, targets = Augment([operation("RandomAffine", degrees=45.0, p=1.0)], SIZE, PLAIN)(pixels, TARGETS)
        assert targets is TARGETS

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


MOVING = {  # operations that move pixels, strongly, and in every way they know
    "RandomAffine": [
        {"degrees": 30.0, "translate": [0.2, 0.2], "scale": [0.7, 1.4], "shear": [-10.0, 10.0]},
        {"degrees": 30.0, "align_corners": True},
        {"degrees": 30.0, "resample": "nearest"},
        {"degrees": 30.0, "padding_mode": "fill", "fill_value": [0.5, 0.6, 0.7]},
    ],
    "RandomCrop": [
        {"padding": 8},
        {"padding": 8, "fill": [0.1, 0.2, 0.3]},
        {"padding": 8, "cropping_mode": "resample"},
    ],
    "RandomHorizontalFlip": [{}],
    "RandomPerspective": [{}, {"align_corners": True}],
    "RandomResizedCrop": [
        {},
        {"align_corners": False},
        {"resample": "nearest"},
        {"cropping_mode": "resample"},
    ],
    "RandomRotation": [{"degrees": 30.0}, {"degrees": 30.0, "align_corners": False}],
    "RandomRotation90": [{"times": [1, 3]}],
    "RandomShear": [{"shear": 20.0}],
    "RandomTranslate": [{"translate_x": [-0.3, 0.3], "translate_y": [-0.3, 0.3]}],
    "RandomVerticalFlip": [{}],
}
CASES = [(name, arguments) for name, variants in MOVING.items() for arguments in variants]
ROWS, COLUMNS = (places.to(torch.uint8) for places in torch.meshgrid(*map(torch.arange, SIZE), indexing="ij"))
POSITIONS = torch.stack([COLUMNS, ROWS, torch.full_like(ROWS, 255)])[None].repeat(16, 1, 1, 1)


def moves(name):
    return issubclass(getattr(kornia.augmentation, name), kornia.augmentation.GeometricAugmentationBase2D)


def augment_with_masks(pixels, masks, *operations):
    torch.manual_seed(0)
    return AugmentWithMasks(list(operations), SIZE, PLAIN)(pixels, masks)


class TestMasks:
    def test_every_operation_moves_pixels_or_changes_their_values(self):
        assert [name for name in kornia_operations() if moves(name)] == list(MOVING)
        values = kornia.augmentation.IntensityAugmentationBase2D
        rest = [getattr(kornia.augmentation, name) for name in kornia_operations() if name not in MOVING]
        assert all(issubclass(kind, values) for kind in rest)

    @pytest.mark.parametrize(("name", "arguments"), CASES, ids=[f"{name}-{len(keys)}" for name, keys in CASES])
    @pytest.mark.parametrize("channel", [0, 1], ids=["columns", "rows"])
    def test_masks_move_exactly_as_their_images(self, name, arguments, channel):
        images, masks = augment_with_masks(POSITIONS, POSITIONS[:, channel], operation(name, **{"p": 1.0, **arguments}))
        inside = (images[:, 2] > 1 - 1e-6) & (masks != 255)
        assert inside.float().mean() > 0.3
        # Interpolated positions are exact within the image, and the nearest pixel is half a pixel away at most.
        distance = (images[:, channel] * 255 - masks.float()).abs()[inside]
        assert distance.max() <= 0.501

    @pytest.mark.parametrize(("name", "arguments"), CASES, ids=[f"{name}-{len(keys)}" for name, keys in CASES])
    def test_what_comes_in_from_outside_is_ignored_and_nothing_else_is(self, name, arguments):
        images, masks = augment_with_masks(POSITIONS, POSITIONS[:, 0], operation(name, **{"p": 1.0, **arguments}))
        if "fill" in arguments or "fill_value" in arguments:  # filled pixels look like others
            assert (masks == 255).any()
            return
        assert (masks[images[:, 2] == 0] == 255).all()
        assert (images[:, 2][masks == 255] <= 0.51).all()

    def test_a_repeated_border_keeps_its_class(self):
        affine = operation("RandomAffine", degrees=45.0, padding_mode="border", p=1.0)
        _, masks = augment_with_masks(POSITIONS, torch.full_like(POSITIONS[:, 0], 3), affine)
        assert (masks == 3).all()

    def test_ignored_pixels_move_too(self):
        masks = torch.where(COLUMNS < 16, 255, 1).to(torch.uint8)[None].repeat(16, 1, 1)
        _, moved = augment_with_masks(POSITIONS, masks, operation("RandomHorizontalFlip", p=1.0))
        assert torch.equal(moved, masks.flip(2))

    def test_samples_that_an_operation_leaves_out_keep_their_masks(self):
        images, masks = augment_with_masks(POSITIONS, POSITIONS[:, 0], operation("RandomHorizontalFlip", p=0.5))
        flipped = (masks[:, 0, 0] == 31).tolist()
        assert 0 < sum(flipped) < 16
        for image, mask in zip(images, masks, strict=True):
            torch.testing.assert_close(image[0] * 255, mask.float())

    def test_several_operations_follow_each_other(self):
        operations = [operation("RandomRotation90", times=[1, 1], p=1.0), operation("RandomHorizontalFlip", p=1.0)]
        _, masks = augment_with_masks(POSITIONS, POSITIONS[:, 0], *operations)
        assert torch.equal(masks, torch.rot90(POSITIONS[:, 0], 1, (1, 2)).flip(2))

    @pytest.mark.parametrize("name", [name for name in kornia_operations() if name not in MOVING])
    def test_operations_on_values_leave_masks_alone(self, name, pixels):
        masks = POSITIONS[:4, 0]
        _, found = augment_with_masks(pixels, masks, operation(name, **NEEDED.get(name, {})))
        assert torch.equal(found, masks)

    def test_images_are_changed_as_without_masks(self, pixels):
        operations = [operation("RandomAffine", degrees=45.0, p=0.5), operation("RandomBrightness", p=0.5)]
        images, _ = augment_with_masks(pixels, POSITIONS[:4, 0], *operations)
        assert torch.equal(images, augment(pixels, *operations))

    def test_arguments_that_mix_classes_are_refused(self):
        with pytest.raises(ConfigError, match=r"RandomCrop: got arguments that mix the classes of masks, expected"):
            AugmentWithMasks([operation("RandomCrop", padding=-3, p=1.0)], SIZE, PLAIN)

    @pytest.mark.parametrize(("kind", "expected"), [("segmentation", AugmentWithMasks), ("regression", Augment)])
    def test_only_segmentation_moves_masks(self, kind, expected):
        assert type(build_augmentation(kind, [], SIZE, PLAIN)) is expected
