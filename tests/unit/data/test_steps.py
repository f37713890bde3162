"""Steps from an image to the final square, and their geometry on masks."""

import io
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from foldwise.config.load import Library, load_config
from foldwise.config.preprocessing import Preprocessing
from foldwise.data.steps import apply_steps, apply_to_mask, describe_steps, needs_pixels, smallest_side

ROOT = Path(__file__).parents[3]
STRETCH = [{"name": "resize"}]
LETTERBOX = [{"name": "resize_longer"}, {"name": "pad"}]
CROP = [{"name": "crop_foreground"}, *STRETCH]


def recipe(*steps, **keys):
    return Preprocessing.model_validate({"steps": list(steps), **keys} if steps else keys)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def run(pixels, *steps, side=8):
    picture = apply_steps(Image.fromarray(pixels), recipe(*steps), side)
    assert picture.mode == "RGB"
    return np.asarray(picture)


def framed(inner, border, value=0):
    top, right, bottom, left = border
    return np.pad(inner, ((top, bottom), (left, right), (0, 0)), constant_values=value)


class TestDefault:
    def test_an_image_of_the_right_size_is_taken_as_it_is(self):
        assert np.array_equal(run(noise(8, 8)), noise(8, 8))

    @pytest.mark.parametrize(("height", "width"), [(8, 14), (14, 8), (8, 9), (9, 8)])
    def test_of_a_longer_side_the_middle_is_taken(self, height, width):
        pixels = noise(height, width)
        assert np.array_equal(run(pixels), pixels[(height - 8) // 2 :, (width - 8) // 2 :][:8, :8])

    @pytest.mark.parametrize("shape", [(30, 41), (100, 33), (17, 16), (5, 6)])
    def test_the_shorter_side_is_resized_with_pillows_filter(self, shape):
        height, width = (max(16, round(side * 16 / min(shape))) for side in shape)
        left, top = (width - 16) // 2, (height - 16) // 2
        expected = Image.fromarray(noise(*shape)).resize((width, height), Image.Resampling.BILINEAR)
        assert np.array_equal(run(noise(*shape), side=16), expected.crop((left, top, left + 16, top + 16)))

    @pytest.mark.parametrize("shape", [(3, 5), (1, 1), (7, 300), (200, 9)])
    def test_any_shape_becomes_the_square(self, shape):
        pixels = run(np.full((*shape, 3), (10, 20, 30), np.uint8), side=16)
        assert pixels.shape == (16, 16, 3)
        assert np.array_equal(np.unique(pixels.reshape(-1, 3), axis=0), [[10, 20, 30]])

    def test_halving_averages_neighbours(self):
        columns = np.repeat(np.array([0, 0, 0, 0, 200, 200, 200, 200], np.uint8), 2)
        pixels = run(np.repeat(np.tile(columns, (16, 1))[..., None], 3, axis=2))
        assert np.array_equal(pixels[:, [0, 1, 6, 7], 0], np.tile([0, 0, 200, 200], (8, 1)))
        assert pixels[0, 3, 0] + pixels[0, 4, 0] == 200


class TestSteps:
    def test_stretching_ignores_the_shape(self):
        expected = Image.fromarray(noise(10, 30)).resize((8, 8), Image.Resampling.BILINEAR)
        assert np.array_equal(run(noise(10, 30), *STRETCH), expected)

    @pytest.mark.parametrize("name", ["nearest", "box", "hamming", "bicubic", "lanczos"])
    def test_new_pixels_are_computed_as_asked_for(self, name):
        expected = Image.fromarray(noise(30, 30)).resize((8, 8), Image.Resampling[name.upper()])
        assert np.array_equal(run(noise(30, 30), {"name": "resize", "interpolation": name}), expected)

    @pytest.mark.parametrize(
        ("shape", "border"), [((8, 4), (0, 2, 0, 2)), ((8, 5), (0, 2, 0, 1)), ((3, 8), (2, 0, 3, 0))]
    )
    def test_letterboxing_adds_a_border_of_the_value_asked_for(self, shape, border):
        steps = [{"name": "resize_longer"}, {"name": "pad", "fill": 77}]
        assert np.array_equal(run(noise(*shape), *steps), framed(noise(*shape), border, 77))

    @pytest.mark.parametrize("shape", [(49, 49), (49, 7), (1, 300), (13, 640)])
    def test_letterboxing_ends_in_the_square_for_any_shape(self, shape):
        assert run(noise(*shape), *LETTERBOX, side=16).shape == (16, 16, 3)

    def test_dark_borders_are_cut_off(self):
        inner = np.maximum(noise(8, 8), 60)
        assert np.array_equal(run(framed(inner, (3, 1, 0, 5), 9), *CROP), inner)

    def test_the_threshold_says_what_is_dark(self):
        pixels = framed(np.full((4, 4, 3), 100, np.uint8), (2, 2, 2, 2), 50)
        steps = [{"name": "crop_foreground", "threshold": 50}, *STRETCH]
        assert (run(pixels, *steps) == 100).all()
        assert (run(pixels, *CROP)[0] == 50).all()

    def test_an_image_that_is_dark_altogether_is_kept_whole(self):
        assert (run(np.full((20, 30, 3), 10, np.uint8), *CROP) == 10).all()

    def test_contrast_is_stretched_in_each_channel(self):
        pixels = np.stack([np.linspace(low, high, 64).reshape(8, 8) for low, high in ((50, 90), (0, 100), (7, 8))], 2)
        stretched = run(pixels.astype(np.uint8), {"name": "resize"}, {"name": "autocontrast"})
        assert stretched.min(axis=(0, 1)).tolist() == [0, 0, 0]
        assert stretched.max(axis=(0, 1)).min() >= 254

    def test_a_cutoff_makes_a_share_of_the_values_extreme(self):
        pixels = np.repeat(np.arange(64, dtype=np.uint8).reshape(8, 8, 1), 3, axis=2)
        stretched = run(pixels, {"name": "resize"}, {"name": "autocontrast", "cutoff": 25.0})
        assert ((stretched == 0).sum(), (stretched == 255).sum()) == (17 * 3, 17 * 3)

    def test_grey_makes_all_channels_the_luminance(self):
        grey = run(noise(8, 8), {"name": "resize"}, {"name": "grey"})
        assert (grey == grey[..., :1]).all()
        assert np.abs(grey[..., 0] - noise(8, 8) @ [0.299, 0.587, 0.114]).max() <= 1

    def test_steps_come_in_their_order(self):
        pixels = framed(np.full((4, 8, 3), 100, np.uint8), (4, 0, 0, 0))
        crop = {"name": "crop_foreground"}
        assert (run(pixels, crop, *STRETCH) == 100).all()
        first_pad = run(pixels, {"name": "pad"}, crop, *STRETCH)
        assert np.array_equal(first_pad, run(pixels, crop, *STRETCH))
        assert (run(pixels, *STRETCH)[0] == 0).all()

    def test_the_steps_are_described(self):
        steps = [
            {"name": "crop_foreground", "threshold": 5}, {"name": "resize_longer", "interpolation": "box"},
            {"name": "pad"}, {"name": "grey"},
        ]  # fmt: skip
        expected = [
            "rgb",
            "cut off dark borders, threshold 5",
            "resize longer side to 8, interpolation box",
            "pad to 8 x 8",
        ]
        assert describe_steps(recipe(*steps), 8) == [*expected, "grey"]
        assert describe_steps(recipe(), 8) == ["rgb", "resize shorter side to 8", "centre crop to 8 x 8"]


class TestMasks:
    """A mask drawn on an image must lie where the image shows it, whatever the steps."""

    @pytest.mark.parametrize("shape", [(64, 64), (64, 101), (150, 70), (33, 90)])
    @pytest.mark.parametrize(
        "names",
        [
            ("resize_shorter", "center_crop"), ("resize",), ("resize_longer", "pad"), ("crop_foreground", "resize"),
            ("crop_foreground", "resize_longer", "pad"), ("center_crop", "pad"), ("pad", "crop_foreground", "resize"),
        ],
    )  # fmt: skip
    def test_masks_move_as_their_images_do(self, shape, names):
        drawn = np.random.default_rng(0).random(shape) < 0.5
        pixels = np.where(drawn, 200, 60).astype(np.uint8)
        pixels[: shape[0] // 8] = 0
        picture = Image.fromarray(np.repeat(pixels[..., None], 3, axis=2))
        nearest = {"interpolation": "nearest"}
        made = recipe(*({"name": name, **(nearest if "resize" in name else {})} for name in names))
        image = np.asarray(apply_steps(picture, made, 40))[..., 0]
        mask = Image.fromarray(drawn.astype(np.uint8))
        moved = np.asarray(apply_to_mask(mask, made, 40, picture if needs_pixels(made) else None))
        known = (image > 0) & (moved != 255)
        assert known.sum() > 300
        assert np.array_equal(moved[known] == 1, image[known] == 200)
        assert set(np.unique(image[moved == 255])) <= {0}

    def test_a_border_is_ignored_whatever_its_value_in_the_image(self):
        steps = recipe({"name": "resize_longer"}, {"name": "pad", "fill": 3})
        moved = np.asarray(apply_to_mask(Image.new("L", (16, 8), 1), steps, 8, None))
        assert moved[:, 0].tolist() == [255, 255, 1, 1, 1, 1, 255, 255]

    def test_no_new_values_arise(self):
        mask = Image.fromarray(np.random.default_rng(0).choice([0, 7, 200], (90, 60)).astype(np.uint8))
        assert np.unique(apply_to_mask(mask, recipe(), 16, None)).tolist() == [0, 7, 200]

    def test_colours_do_not_change_them(self):
        steps = [{"name": "autocontrast"}, {"name": "grey"}]
        mask = Image.fromarray(noise(20, 20)[..., 0])
        plain, coloured = (apply_to_mask(mask, recipe(*made), 8, None) for made in (STRETCH, [*steps, *STRETCH]))
        assert np.array_equal(plain, coloured)


class TestReducedDecoding:
    @pytest.mark.parametrize(
        ("steps", "expected"),
        [
            ((), 32),
            (STRETCH, 32),
            (LETTERBOX, 32),
            ([{"name": "grey"}, *STRETCH], 32),
            (CROP, None),
            ([{"name": "autocontrast"}, *STRETCH], None),
            ([{"name": "center_crop"}, {"name": "pad"}], None),
        ],
    )
    def test_only_images_that_are_made_smaller_first_are_decoded_smaller(self, steps, expected):
        assert smallest_side(recipe(*steps), 32) == expected

    def test_it_can_be_switched_off(self):
        assert smallest_side(recipe(reduced_decoding=False), 32) is None

    def test_a_jpeg_decoded_at_half_its_size_looks_the_same(self):
        ramp = np.linspace(0, 255, 256).astype(np.uint8)
        tiles = np.stack([np.tile(ramp, (256, 1)), np.tile(ramp[:, None], 256), np.full((256, 256), 99)], 2)
        buffer = io.BytesIO()
        Image.fromarray(tiles.astype(np.uint8)).save(buffer, "JPEG", quality=95)
        half = simplejpeg.decode_jpeg(buffer.getvalue(), "RGB", min_height=128, min_width=128)
        assert half.shape == (128, 128, 3)
        assert np.abs(run(half, side=100).astype(int) - run(tiles.astype(np.uint8), side=100)).max() <= 4


PRESETS = Library.read(ROOT / "config").presets["preprocessing"]


class TestPresets:
    @pytest.mark.parametrize("name", PRESETS)
    def test_every_preset_makes_the_square_of_any_shape(self, name):
        made = load_config({"preprocessing": name}, Library.read(ROOT / "config")).pipelines["default"].preprocessing
        assert apply_steps(Image.fromarray(noise(37, 100)), made, 24).size == (24, 24)

    def test_the_endoscopy_preset_shows_the_view_alone(self):
        made = load_config({"preprocessing": "endoscopy"}, Library.read(ROOT / "config")).pipelines["default"]
        inner = np.full((8, 8, 3), 90, np.uint8)
        picture = apply_steps(Image.fromarray(framed(inner, (2, 5, 2, 5))), made.preprocessing, 8)
        assert np.array_equal(picture, inner)
