"""Variations of images for test-time augmentation, and how their logits become one."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch.nn.functional import interpolate

from foldwise.config import callbacks
from foldwise.config.callbacks import VARIATIONS
from foldwise.errors import ConfigError
from foldwise.inference.variations import CROPS, FLIPS, IDENTITY, TURNS, check_images, predict_varied, turn_back, vary

PIXELS = torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
IMAGES = PIXELS.permute(0, 3, 1, 2)  # channels last, as batches are
WHOLE = [name for name in VARIATIONS if name not in CROPS]
MOVED = {
    "identity": lambda image: image,
    "hflip": np.fliplr,
    "vflip": np.flipud,
    "hvflip": lambda image: np.flipud(np.fliplr(image)),
    "rot90": lambda image: np.rot90(image, 1),
    "rot180": lambda image: np.rot90(image, 2),
    "rot270": lambda image: np.rot90(image, 3),
}


PRESETS = Path(__file__).parents[3] / "config/presets/tta.yaml"


def tta(*variations, mode="mean"):
    return callbacks.TestTimeAugmentation(variations=list(variations), mode=mode)


def test_every_variation_of_the_configuration_is_known():
    assert {IDENTITY, *FLIPS, *TURNS, *CROPS} == set(VARIATIONS)


def test_presets_begin_with_the_original():
    presets = yaml.safe_load(PRESETS.read_text())
    assert list(presets) == ["none", "flip", "rotate", "crop"]
    found = {name: callbacks.TestTimeAugmentation.model_validate(preset) for name, preset in presets.items()}
    assert found.pop("none") == callbacks.TestTimeAugmentation()
    assert {preset.variations[0] for preset in found.values()} == {IDENTITY}
    assert [bool(preset.crops) for preset in found.values()] == [False, False, True]


@pytest.mark.parametrize("name", VARIATIONS)
def test_a_variation_keeps_shape_and_memory_order_and_leaves_the_original_alone(name):
    before = IMAGES.clone()
    varied = vary(name, IMAGES)
    assert varied.shape == IMAGES.shape
    assert varied.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(IMAGES, before)


@pytest.mark.parametrize("name", WHOLE)
def test_flips_and_turns_move_whole_pixels_and_can_be_turned_back(name):
    varied = vary(name, IMAGES)
    assert varied.dtype == torch.uint8
    for image, moved in zip(PIXELS.numpy(), varied.permute(0, 2, 3, 1).numpy(), strict=True):
        np.testing.assert_array_equal(moved, MOVED[name](image))
    assert torch.equal(turn_back(name, varied), IMAGES)


PARTS = {
    "crop_center": (slice(1, 15), slice(1, 15)),
    "crop_top_left": (slice(0, 14), slice(0, 14)),
    "crop_top_right": (slice(0, 14), slice(2, 16)),
    "crop_bottom_left": (slice(2, 16), slice(0, 14)),
    "crop_bottom_right": (slice(2, 16), slice(2, 16)),
}


@pytest.mark.parametrize("name", CROPS)
def test_a_crop_keeps_seven_eighths_of_each_side_and_is_enlarged(name):
    part = IMAGES.double()[:, :, *PARTS[name]]
    expected = interpolate(part, size=(16, 16), mode="bilinear")
    torch.testing.assert_close(vary(name, IMAGES).double(), expected, rtol=0, atol=1e-4)


def test_a_crop_of_a_ramp_is_a_less_steep_ramp():
    ramp = torch.arange(0, 160, 10, dtype=torch.uint8).expand(1, 3, 16, 16)
    row = vary("crop_top_left", ramp)[0, 0, 8]
    np.testing.assert_allclose(np.diff(row[1:-1]), 10 * 14 / 16, rtol=1e-5)
    assert row[0] == 0
    assert row[-1] == 130


def mean_pixel(images):
    """Return logits that depend on where pixels are: the means of the left half and of the upper half."""
    return torch.stack([images[..., :8].float().mean((1, 2, 3)), images[:, :, :8].float().mean((1, 2, 3))], dim=1)


@pytest.mark.parametrize("mode", ["mean", "max"])
def test_logits_of_all_variations_become_one(mode):
    names = ("identity", "rot90", "crop_center", "vflip")
    each = torch.stack([mean_pixel(vary(name, IMAGES)) for name in names])
    expected = each.mean(dim=0) if mode == "mean" else each.amax(dim=0)
    assert len(torch.unique(each, dim=0)) == 4
    torch.testing.assert_close(predict_varied(mean_pixel, IMAGES, tta(*names, mode=mode)), expected)


def test_mean_logits_of_opposites_do_not_tell_sides():
    found = predict_varied(mean_pixel, IMAGES, tta("identity", "hflip", "vflip", "hvflip"))
    whole = IMAGES.float().mean((1, 2, 3))
    torch.testing.assert_close(found, torch.stack([whole, whole], dim=1))


@pytest.mark.parametrize("mode", ["mean", "max"])
@pytest.mark.parametrize("names", [("hflip",), ("rot90", "rot270"), WHOLE], ids=str)
def test_maps_are_turned_back_before_they_are_combined(names, mode):
    maps = predict_varied(lambda images: images.float(), IMAGES, tta(*names, mode=mode))
    torch.testing.assert_close(maps, IMAGES.float())


def test_the_original_alone_is_answered_once_as_it_is():
    asked = []

    def answer(images):
        asked.append(images)
        return mean_pixel(images)

    found = predict_varied(answer, IMAGES, tta("identity"))
    assert len(asked) == 1
    assert asked[0] is IMAGES
    assert torch.equal(found, mean_pixel(IMAGES))


def test_half_precision_is_combined_in_single_precision():
    found = predict_varied(lambda images: mean_pixel(images).bfloat16(), IMAGES, tta("identity", "vflip"))
    assert found.dtype == torch.float32
    assert not torch.equal(found, found.bfloat16().float())


def test_crops_are_refused_for_maps():
    with pytest.raises(ConfigError, match=r"tta\.variations: got 'crop_center', expected variations that keep"):
        check_images(tta("identity", "crop_center"), "segmentation", 16, 16)
    check_images(tta("identity", "crop_center"), "classification", 16, 24)
    check_images(tta(*WHOLE), "segmentation", 16, 16)


def test_quarter_turns_of_images_that_are_not_square_are_refused_naming_the_shape():
    with pytest.raises(ConfigError, match="got rot90, rot270 of images of 48 x 64 pixels, expected square images"):
        check_images(tta("rot90", "rot180", "rot270"), "classification", 48, 64)
    check_images(tta("hflip", "rot180"), "classification", 48, 64)
