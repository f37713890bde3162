"""Operations of kornia and functions of the user's own, on images and on masks."""

import inspect
import itertools
import re

import kornia.augmentation
import pytest
import torch

from foldwise.config.pipeline import kornia_operations
from foldwise.data.augment import Augment, AugmentWithMasks, Normalize
from foldwise.data.operations import build_operation
from foldwise.errors import ConfigError, DataError, shorten
from unit.data.augmenting import (
    COLUMNS,
    NEEDED,
    OPERATIONS,
    PLAIN,
    POSITIONS,
    SIZE,
    augment,
    augment_with_masks,
    noise,
    operation,
)


@pytest.fixture
def pixels():
    return noise()


COLOURED = ["RandomHue", "RandomJPEG", "RandomPlanckianJitter", "RandomRGBShift", "RandomSaturation", "RandomSnow"]


def parameters_of(name):
    return inspect.signature(getattr(kornia.augmentation, name)).parameters


class TestOperations:
    @pytest.mark.parametrize("name", OPERATIONS)
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

    @pytest.mark.parametrize("name", OPERATIONS)
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

    @pytest.mark.parametrize("p", [-0.1, 1.5, "often", True, None])
    def test_a_probability_is_a_number_from_0_to_1(self, p):
        found = re.escape(shorten(p))
        with pytest.raises(ConfigError, match=rf"RandomHorizontalFlip\.p: got {found}, expected a number from 0 to 1"):
            build_operation(operation("RandomHorizontalFlip", p=p), SIZE)

    @pytest.mark.parametrize("name", OPERATIONS)
    def test_grey_images_are_changed_unless_an_operation_needs_colours(self, name):
        one = operation(name, **NEEDED.get(name, {}))
        if name in COLOURED:
            expected = f"{name}: got images of 1 channel, expected images of 3 channels"
            with pytest.raises(ConfigError, match=expected):
                build_operation(one, SIZE, channels=1)
            return
        torch.manual_seed(0)
        images = build_operation(one, SIZE, channels=1)(torch.rand(4, 1, *SIZE))
        assert images.shape == (4, 1, *SIZE)
        assert torch.isfinite(images).all()

    @pytest.mark.parametrize("p", [0.0, 0.01])
    def test_grey_images_are_refused_however_seldom_an_operation_is(self, p):
        with pytest.raises(ConfigError, match="RandomHue: got images of 1 channel, expected images of 3 channels"):
            Augment([operation("RandomHue", p=p)], SIZE, Normalize([0.5], [0.5]))

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


def moves(name):
    return issubclass(getattr(kornia.augmentation, name), kornia.augmentation.GeometricAugmentationBase2D)


class TestMasks:
    def test_every_operation_moves_pixels_or_changes_their_values(self):
        assert [name for name in OPERATIONS if moves(name)] == list(MOVING)
        values = kornia.augmentation.IntensityAugmentationBase2D
        rest = [getattr(kornia.augmentation, name) for name in OPERATIONS if name not in MOVING]
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

    @pytest.mark.parametrize("name", [name for name in OPERATIONS if name not in MOVING])
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


NUMBERS = itertools.count()  # a module is imported once in the life of a process


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Write a function and return the operation that calls it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(code, function="change", **arguments):
        name = f"own_changes_{next(NUMBERS)}"
        (tmp_path / f"{name}.py").write_text(f"import torch\n{code}")
        return operation(f"{name}:{function}", **arguments)

    return write


class TestOwnFunctions:
    def test_it_changes_images_between_0_and_1_with_its_arguments(self, own, pixels):
        darker = own("def change(images, factor):\n    return images * factor\n", factor=0.5)
        torch.testing.assert_close(augment(pixels, darker), pixels.float() / 510)

    def test_its_random_numbers_are_those_of_torch(self, own, pixels):
        noisy = own("def change(images):\n    return images + torch.rand_like(images)\n")
        assert torch.equal(augment(pixels, noisy, seed=1), augment(pixels, noisy, seed=1))
        assert not torch.equal(augment(pixels, noisy, seed=1), augment(pixels, noisy, seed=2))

    def test_it_moves_masks_if_it_takes_them(self, own):
        flip = own("def change(images, masks):\n    return images.flip(3), masks.flip(2)\n")
        masks = POSITIONS[:, 0].clone()
        masks[:, :, :4] = 255
        images, found = augment_with_masks(POSITIONS, masks, flip)
        torch.testing.assert_close(images, POSITIONS.flip(3).float() / 255)
        assert torch.equal(found, masks.flip(2))

    def test_it_leaves_masks_alone_if_it_does_not(self, own):
        masks = POSITIONS[:, 0]
        _, found = augment_with_masks(POSITIONS, masks, own("def change(images):\n    return 1 - images\n"))
        assert torch.equal(found, masks)

    def test_without_masks_it_is_called_without(self, own, pixels):
        code = "def change(images, masks=None):\n    assert masks is None\n    return 1 - images\n"
        torch.testing.assert_close(augment(pixels, own(code)), 1 - pixels.float() / 255)

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            ("return images[:, :1]", r"images.*\(4, 1, 32, 32\).*expected .*\(4, 3, 32, 32\)"),
            ("return images.double()", r"images.*float64.*expected .*float32"),
            ("return images.numpy()", "ndarray"),
            ("pass", "NoneType|nothing"),
            ("return images @ images[:, :, :3]", r"RuntimeError.*own_changes_.*line 3, `return images @"),
        ],
    )
    def test_what_it_does_wrong_is_told(self, own, pixels, body, words):
        with pytest.raises(DataError, match=words) as caught:
            augment(pixels, own(f"def change(images):\n    {body}\n"))
        assert caught.value.message.startswith("own_changes_")

    def test_it_needs_no_gradients(self, own, pixels):
        code = "weight = torch.ones(1, requires_grad=True)\ndef change(images):\n    return images * weight\n"
        assert not augment(pixels, own(code)).requires_grad

    def test_it_may_be_an_object_that_is_called(self, own, pixels):
        code = "class Darker:\n    def __call__(self, images, by):\n        return images * by\nchange = Darker()\n"
        torch.testing.assert_close(augment(pixels, own(code, by=0.5)), pixels.float() / 510)

    def test_it_sees_masks_as_other_operations_left_them(self, own):
        code = "def change(images, masks):\n    assert masks.dtype == torch.uint8\n    return images, masks + 1\n"
        flip = operation("RandomHorizontalFlip", p=1.0)
        _, found = augment_with_masks(POSITIONS, POSITIONS[:, 0], flip, own(code), flip)
        assert torch.equal(found, POSITIONS[:, 0] + 1)

    @pytest.mark.parametrize(
        ("signature", "arguments", "called"),
        [
            ("images", {"by": 2}, "def change(images, by)"),
            ("images, by", {}, "def change(images)"),
            ("images, masks", {}, "def change(images)"),
            ("", {}, "def change(images)"),
        ],
    )
    def test_a_function_that_does_not_take_its_arguments_is_told_before_training(
        self, own, signature, arguments, called
    ):
        with pytest.raises(DataError) as caught:
            Augment([own(f"def change({signature}):\n    return images\n", **arguments)], SIZE, PLAIN)
        assert f": got def change({signature}), expected {called}. Mend it" in caught.value.message

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            ("return images, masks.float()", "masks: .*float32.*expected .*uint8"),
            ("return images, masks[:, :4]", r"masks: .*\(16, 4, 32\)"),
            ("return images[:, :1], masks", r"images: .*\(16, 1, 32, 32\)"),
            ("return images", "tensor .*expected images and masks"),
            ("return images, masks, images", "tuple, expected images and masks"),
            ("pass", "nothing, expected images and masks"),
        ],
    )
    def test_what_it_does_wrong_with_masks_is_told(self, own, body, words):
        with pytest.raises(DataError, match=words):
            augment_with_masks(POSITIONS, POSITIONS[:, 0], own(f"def change(images, masks):\n    {body}\n"))

    def test_a_function_that_is_not_there_is_told(self, own):
        with pytest.raises(
            ConfigError, match=r"augmentations\.operations: got .*expected change\. Did you mean 'change'"
        ):
            Augment([own("def change(images): return images\n", function="chance")], SIZE, PLAIN)
