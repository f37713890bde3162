"""From stored bytes to the network's input: normalisation and random changes."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image, ImageEnhance, ImageOps
from pydantic import ValidationError

from foldwise.config.pipeline import Augmentations
from foldwise.data import policies
from foldwise.data.augment import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Augment,
    AugmentWithMasks,
    Normalize,
    build_augmentation,
    normalization_statistics,
)
from foldwise.data.policies import POLICIES, STRONGEST
from foldwise.errors import ConfigError
from unit.data.augmenting import (
    PLAIN,
    POSITIONS,
    SIZE,
    TARGETS,
    augment,
    augment_with_masks,
    noise,
    operation,
)


@pytest.fixture
def pixels():
    return noise()


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

    def test_pretrained_weights_bring_their_own(self):
        section, given = Augmentations(normalization="pretraining"), ([0.5] * 3, [0.25] * 3)
        assert normalization_statistics(section, ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6]), given) == given

    def test_without_weights_that_tell_them_there_are_none(self):
        with pytest.raises(ConfigError, match=r"augmentations\.normalization: got 'pretraining', .*arch\.weights"):
            normalization_statistics(Augmentations(normalization="pretraining"), ([0.1], [0.2]))

    @pytest.mark.parametrize("kind", ["imagenet", "pretraining"])
    def test_grey_images_have_the_mean_over_colours(self, kind):
        section, given = Augmentations(normalization=kind), (IMAGENET_MEAN, IMAGENET_STD)
        mean, std = normalization_statistics(section, ([0.1], [0.2]), given)
        assert (mean, std) == ([pytest.approx(0.449)], [pytest.approx(0.226)])
        grey = torch.full((2, 1, *SIZE), 255, dtype=torch.uint8)
        torch.testing.assert_close(Normalize(mean, std)(grey), torch.full((2, 1, *SIZE), (1 - 0.449) / 0.226))

    @pytest.mark.parametrize("kind", ["imagenet", "pretraining"])
    @pytest.mark.parametrize("channels", [2, 4])
    def test_other_channels_are_told(self, kind, channels):
        given = (IMAGENET_MEAN, IMAGENET_STD)
        with pytest.raises(ConfigError) as caught:
            normalization_statistics(Augmentations(normalization=kind), ([0.1] * channels, [0.2] * channels), given)
        assert f"{kind}, which is for 3 channels" in caught.value.message
        assert f"expected task or null for images of {channels} channels" in caught.value.message


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

    def test_sixteen_bits_of_the_network_are_none_of_the_augmentation(self, pixels):
        affine = operation("RandomAffine", degrees=45.0, p=1.0)
        expected = augment(pixels, affine)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(augment(pixels, affine), expected)

    def test_targets_stay_as_they_are(self, pixels):
        _, targets = Augment([operation("RandomAffine", degrees=45.0, p=1.0)], SIZE, PLAIN)(pixels, TARGETS)
        assert targets is TARGETS

    def test_building_draws_no_random_numbers_of_training(self):
        torch.manual_seed(5)
        state = torch.get_rng_state()
        operations = [operation("RandomAffine", degrees=45.0, p=1.0), *map(operation, POLICIES)]
        AugmentWithMasks(operations, SIZE, PLAIN)
        assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("kind", "expected"), [("segmentation", AugmentWithMasks), ("regression", Augment)])
def test_only_segmentation_moves_masks(kind, expected):
    assert type(build_augmentation(kind, [], SIZE, PLAIN)) is expected


def drawn(name, samples=20_000, **arguments):
    """Return operation and strength of many samples, of all rounds."""
    torch.manual_seed(0)
    operations, strengths = zip(*POLICIES[name](**arguments)(samples), strict=True)
    return [policies.NAMES[number] for number in torch.cat(operations)], torch.cat(strengths)


def shares(names):
    return {name: names.count(name) / len(names) for name in set(names)}


def changed(pixels, name, amount):
    """Return bytes (height, width, channels) changed by an operation, and the same as an image of Pillow."""
    image = Image.fromarray(pixels)
    floats = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    found = policies.CHANGES[name](floats, torch.full((1, 1, 1, 1), amount)).clamp(0, 1)
    return (found * 255).round()[0].permute(1, 2, 0).numpy(), image


NOISE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
DULL = (NOISE // 3 + np.arange(30, dtype=np.uint8)[:, None]).astype(np.uint8)


@pytest.mark.parametrize("pixels", [NOISE, DULL, np.full_like(NOISE, 9)], ids=["noise", "dull", "flat"])
class TestChanges:
    @pytest.mark.parametrize(
        ("name", "amount", "pillow"),
        [
            ("equalize", 0.0, ImageOps.equalize),
            ("invert", 0.0, ImageOps.invert),
            ("solarize", 1 - 128.5 / 255, lambda image: ImageOps.solarize(image, 129)),
            ("posterize", 3.0, lambda image: ImageOps.posterize(image, 5)),
        ],
    )
    def test_values_are_those_of_pillow(self, pixels, name, amount, pillow):
        found, image = changed(pixels, name, amount)
        assert np.array_equal(found, np.asarray(pillow(image)))

    @pytest.mark.parametrize("amount", [-0.5, 0.7])
    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("color", ImageEnhance.Color),
            ("contrast", ImageEnhance.Contrast),
            ("brightness", ImageEnhance.Brightness),
            ("sharpness", ImageEnhance.Sharpness),
        ],
    )
    def test_enhancements_are_those_of_pillow_but_for_rounding(self, pixels, amount, name, kind):
        found, image = changed(pixels, name, amount)
        assert np.abs(found - np.asarray(kind(image).enhance(1 + amount)).astype(float)).max() <= 1

    def test_contrast_is_stretched_as_by_pillow_but_for_rounding(self, pixels):
        found, image = changed(pixels, "auto_contrast", 0.0)
        assert np.abs(found - np.asarray(ImageOps.autocontrast(image)).astype(float)).max() <= 1


def move(name, strength, images, masks=None):
    numbers = torch.full((len(images),), policies.NAMES.index(name))
    policies.move(images, masks, numbers, torch.full((len(images),), float(strength)))
    return images


class TestMoves:
    IMAGES = torch.rand(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))

    @pytest.mark.parametrize(("strength", "turns"), [(90, 1), (-90, 3), (180, 2)])
    def test_a_right_angle_turns_square_images(self, strength, turns):
        square = self.IMAGES[..., :8].clone()
        found = move("rotate", strength, square.clone())
        torch.testing.assert_close(found, torch.rot90(square, turns, (2, 3)), atol=1e-5, rtol=0)

    def test_a_translation_is_a_share_of_the_side_and_what_comes_in_is_black(self):
        found = move("translate_x", 0.25, self.IMAGES.clone())
        torch.testing.assert_close(found[..., :9], self.IMAGES[..., 3:])
        assert (found[..., 9:] == 0).all()
        found = move("translate_y", -0.25, self.IMAGES.clone())
        torch.testing.assert_close(found[:, :, 2:], self.IMAGES[:, :, :6])
        assert (found[:, :, :2] == 0).all()

    @pytest.mark.parametrize(("name", "axis"), [("shear_x", 3), ("shear_y", 2)])
    def test_a_shear_moves_by_whole_pixels_in_proportion_to_the_other_side(self, name, axis):
        ramp = torch.arange(12.0).expand(1, 1, 12, 12).clone()
        image = (ramp if axis == 3 else ramp.transpose(2, 3)) / 12
        found = move(name, 0.5, image.clone()) * 12
        found = found if axis == 3 else found.transpose(2, 3)
        offsets = 0.5 * (torch.arange(12.0) - 5.5)
        torch.testing.assert_close(found[0, 0, :, 5], 5 + offsets, atol=1e-4, rtol=0)

    def test_a_rotation_keeps_forms_in_oblong_images(self):
        disc = ((torch.arange(41.0) - 20)[:, None] ** 2 + (torch.arange(81.0) - 40) ** 2 < 15**2).float()
        found = move("rotate", 33, disc.expand(1, 1, 41, 81).clone())
        assert (found[0, 0] - disc).abs().sum() < 0.05 * disc.sum()

    @pytest.mark.parametrize("name", policies.MOVING)
    @pytest.mark.parametrize("channel", [0, 1], ids=["columns", "rows"])
    def test_masks_move_exactly_as_their_images(self, name, channel):
        images, masks = POSITIONS.float() / 255, 255 - POSITIONS[:, channel, None].float()
        move(name, STRONGEST[name][0], images, masks)
        places = 255 - masks[:, 0]
        inside = (images[:, 2] > 1 - 1e-6) & (places != 255)
        assert inside.float().mean() > 0.3
        assert (images[:, channel] * 255 - places).abs()[inside].max() <= 0.501
        assert (places[images[:, 2] == 0] == 255).all()


class TestPolicies:
    def test_randaugment_draws_its_fourteen_operations_equally_and_anew_in_each_round(self):
        names, _ = drawn("RandAugment", n=2)
        assert len(names) == 40_000
        assert set(names) == set(STRONGEST) - {"invert"}
        assert all(share == pytest.approx(1 / 14, rel=0.1) for share in shares(names).values())
        first, second = names[:20_000], names[20_000:]
        assert np.mean([one == other for one, other in zip(first, second, strict=True)]) == pytest.approx(1 / 14, 0.1)

    @pytest.mark.parametrize("m", [0, 9, 30])
    def test_the_magnitude_of_randaugment_is_a_share_of_the_strongest_with_either_sign(self, m):
        names, strengths = drawn("RandAugment", n=1, m=m)
        expected = torch.tensor([STRONGEST[name][0] for name in names]) * m / 30
        torch.testing.assert_close(strengths.abs(), expected)
        for name in STRONGEST:
            signs = [strength < 0 for one, strength in zip(names, strengths.tolist(), strict=True) if one == name]
            if name in ("solarize", "posterize"):
                assert not any(signs)
            elif m and STRONGEST[name][0]:
                assert np.mean(signs) == pytest.approx(0.5, abs=0.05)

    def test_a_greater_magnitude_changes_more(self, pixels):
        many = pixels.repeat(64, 1, 1, 1)
        found = [augment(many, operation("RandAugment", n=1, m=m)) for m in (3, 12, 30)]
        distances = [(images - many.float() / 255).abs().mean().item() for images in found]
        assert distances[0] < distances[1] < distances[2]

    def test_trivialaugment_draws_one_operation_of_any_of_31_magnitudes(self):
        names, strengths = drawn("TrivialAugment")
        assert all(share == pytest.approx(1 / 14, rel=0.1) for share in shares(names).values())
        rotations = torch.tensor([s for name, s in zip(names, strengths.tolist(), strict=True) if name == "rotate"])
        levels = (rotations / 135 * 30).round(decimals=3)
        assert set(levels.abs().tolist()) == set(map(float, range(31)))
        assert levels.min() == -30

    @pytest.mark.parametrize("policy", ["imagenet", "cifar10", "svhn"])
    def test_autoaugment_draws_each_pair_equally_and_each_operation_by_its_probability(self, policy):
        from kornia.augmentation.auto.autoaugment import autoaugment

        pairs = getattr(autoaugment, f"{policy}_policy")
        expected = dict.fromkeys(STRONGEST, 0.0)
        for name, chance, _ in (entry for pair in pairs for entry in pair):
            expected[name] += chance / 50
            expected["identity"] += (1 - chance) / 50
        names, strengths = drawn("AutoAugment", policy=policy)
        assert shares(names) == pytest.approx({name: share for name, share in expected.items() if share}, abs=0.01)
        strongest = torch.tensor([STRONGEST[name][0] for name in names])
        assert (strengths.abs() <= strongest + 1e-6).all()

    @pytest.mark.parametrize("name", POLICIES)
    def test_samples_get_operations_of_their_own_the_same_for_equal_seeds(self, name, pixels):
        many = pixels.repeat(8, 1, 1, 1)
        found = augment(many, operation(name))
        assert torch.equal(found, augment(many, operation(name)))
        assert not torch.equal(found, augment(many, operation(name), seed=1))
        assert len({image.numpy().tobytes() for image in found}) > 8
        assert 0 <= found.min() <= found.max() <= 1

    @pytest.mark.parametrize("name", POLICIES)
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("samples", [1, 2, 7, 9])
    def test_small_batches_stay_finite_and_keep_their_shape(self, name, channels, samples):
        built = AugmentWithMasks([operation(name)], SIZE, Normalize([0.0] * channels, [1.0] * channels))
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (samples, channels, *SIZE), dtype=torch.uint8, generator=generator)
        for seed in range(8):
            torch.manual_seed(seed)
            found, masks = built(images, POSITIONS[:samples, 0])
            assert found.shape == images.shape
            assert masks.shape == (samples, *SIZE)
            assert 0 <= found.min() <= found.max() <= 1

    @pytest.mark.parametrize("name", POLICIES)
    def test_values_beyond_black_and_white_are_changed_too(self, name, pixels):
        noisy = operation("RandomGaussianNoise", std=1.0, p=1.0)
        found = augment(pixels.repeat(16, 1, 1, 1), noisy, operation(name))
        assert torch.isfinite(found).all()

    @pytest.mark.parametrize("name", POLICIES)
    def test_arguments_that_a_policy_does_not_know_are_told(self, name):
        with pytest.raises(ValidationError, match="got an unknown argument, expected"):
            operation(name, strength=3)

    @pytest.mark.parametrize("name", POLICIES)
    def test_grey_images_are_changed_too(self, name):
        grey = torch.randint(0, 256, (64, 1, *SIZE), dtype=torch.uint8)
        torch.manual_seed(0)
        found, _ = Augment([operation(name)], SIZE, Normalize([0.0], [1.0]))(grey, torch.zeros(64))
        assert found.shape == grey.shape
        assert not torch.equal(found, grey / 255)

    def test_images_of_other_channels_are_refused(self):
        with pytest.raises(ConfigError, match=r"RandAugment: got images of 4 channels, expected images of 1 or 3 chan"):
            Augment([operation("RandAugment")], SIZE, Normalize([0.0] * 4, [1.0] * 4))

    def test_masks_of_moved_samples_alone_move(self):
        many = POSITIONS.repeat(8, 1, 1, 1)
        masks = torch.full_like(many[:, 0], 3)
        _, found = augment_with_masks(many, masks, operation("RandAugment", n=1, m=20))
        torch.manual_seed(0)
        ((numbers, _),) = POLICIES["RandAugment"](1, 20)(len(many))
        moved = torch.tensor([policies.NAMES[number] in policies.MOVING for number in numbers])
        assert (found[~moved] == 3).all()
        assert torch.isin(found, torch.tensor([3, 255], dtype=torch.uint8)).all()
        assert (found[moved] == 255).flatten(1).any(dim=1).all()

    def test_images_are_changed_as_without_masks(self, pixels):
        images, _ = augment_with_masks(pixels, POSITIONS[:4, 0], operation("TrivialAugment"))
        assert torch.equal(images, augment(pixels, operation("TrivialAugment")))

    @pytest.mark.parametrize(
        ("name", "arguments", "words"),
        [
            ("RandAugment", {"n": 0}, "RandAugment.n: got 0, expected a whole number from 1"),
            ("RandAugment", {"n": 1.5}, "RandAugment.n: got 1.5, expected a whole number from 1"),
            ("RandAugment", {"n": True}, "RandAugment.n: got true, expected a whole number from 1"),
            ("RandAugment", {"m": 31}, "RandAugment.m: got 31, expected a number from 0 to 30"),
            ("RandAugment", {"m": -1}, "RandAugment.m: got -1, expected a number from 0 to 30"),
            ("RandAugment", {"m": "strong"}, "RandAugment.m: got 'strong', expected a number from 0 to 30"),
            ("RandAugment", {"m": True}, "RandAugment.m: got true, expected a number from 0 to 30"),
            ("AutoAugment", {"policy": "imagenets"}, "AutoAugment.policy: got 'imagenets', expected one of cifar10"),
            ("AutoAugment", {"policy": "imagenets"}, "Did you mean 'imagenet'?"),
        ],
    )
    def test_wrong_arguments_are_told(self, name, arguments, words):
        with pytest.raises(ConfigError, match=re.escape(words)):
            Augment([operation(name, **arguments)], SIZE, PLAIN)


@pytest.fixture
def deterministic():
    """Let torch refuse what differs from run to run, as training does."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use")
PRESETS = yaml.safe_load((Path(__file__).parents[3] / "config/presets/augmentations.yaml").read_text())


class TestPresets:
    @pytest.mark.parametrize("kind", ["classification", "segmentation"])
    @pytest.mark.parametrize("name", PRESETS)
    def test_every_preset_works_on_colours_and_on_grey_images(self, name, kind):
        operations = Augmentations.model_validate(PRESETS[name]).operations
        for channels in (1, 3):
            built = build_augmentation(kind, operations, SIZE, Normalize([0.0] * channels, [1.0] * channels))
            images = POSITIONS[:, :channels].contiguous()
            found, masks = built(images, POSITIONS[:, 0])
            assert found.shape == images.shape
            assert torch.isfinite(found).all()
            assert (masks.shape, masks.dtype) == (POSITIONS[:, 0].shape, torch.uint8)

    @pytest.mark.parametrize("name", PRESETS)
    def test_every_preset_repeats_itself_with_deterministic_algorithms(self, name, pixels, deterministic):
        operations = Augmentations.model_validate(PRESETS[name]).operations
        assert torch.equal(augment(pixels, *operations), augment(pixels, *operations))

    @pytest.mark.parametrize("name", PRESETS)
    def test_no_preset_has_anything_to_learn(self, name):
        built = Augment(Augmentations.model_validate(PRESETS[name]).operations, SIZE, PLAIN)
        assert list(built.parameters()) == []

    @CUDA
    @pytest.mark.parametrize("kind", ["classification", "segmentation"])
    @pytest.mark.parametrize("name", PRESETS)
    def test_every_preset_works_on_a_gpu_and_repeats_itself(self, name, kind, deterministic):
        operations = Augmentations.model_validate(PRESETS[name]).operations
        built = build_augmentation(kind, operations, SIZE, Normalize([0.0] * 3, [1.0] * 3)).cuda()
        found = []
        for _ in range(2):
            torch.manual_seed(0)
            found.append(built(POSITIONS.cuda(), POSITIONS[:, 0].cuda()))
        assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
        assert all(part.device.type == "cuda" for part in found[0])
