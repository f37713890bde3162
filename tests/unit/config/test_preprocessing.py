"""Steps from images to tensors end in one size."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foldwise.config.preprocessing import Preprocessing, PreprocessingChoice, ends_in_final_size
from foldwise.config.section import nested_sections, tag_words
from foldwise.errors import FoldwiseError
from unit.config.loading import message, recipe

SIZE = 32
STEPS = [word for kind in nested_sections(PreprocessingChoice) for word in tag_words(kind)]
SHAPES = [
    (8, 8),
    (8, 20),
    (20, 8),
    (32, 32),
    (32, 9),
    (9, 32),
    (32, 90),
    (90, 32),
    (90, 90),
    (90, 50),
    (8, 90),
    (90, 8),
]


def resize(shape, factor):
    return tuple(max(1, round(side * factor)) for side in shape)


APPLY = {
    "resize": lambda shape, cut: (SIZE, SIZE),
    "resize_shorter": lambda shape, cut: resize(shape, SIZE / min(shape)),
    "resize_longer": lambda shape, cut: resize(shape, SIZE / max(shape)),
    "center_crop": lambda shape, cut: tuple(min(side, SIZE) for side in shape),
    "pad": lambda shape, cut: tuple(max(side, SIZE) for side in shape),
    "crop_foreground": lambda shape, cut: tuple(max(1, side - less) for side, less in zip(shape, cut, strict=True)),
    "autocontrast": lambda shape, cut: shape,
    "grey": lambda shape, cut: shape,
}


def final_shapes(steps):
    """Return the shapes that images of many shapes with dark borders of many widths have in the end."""
    found = set()
    for shape in SHAPES:
        for cut in ((0, 0), (1, 0), (5, 2), (0, 7)):
            end = shape
            for step in steps:
                end = APPLY[step](end, cut)
            found.add(end)
    return found


@settings(max_examples=300)
@given(st.lists(st.sampled_from(STEPS), min_size=1, max_size=6))
def test_steps_are_accepted_if_and_only_if_every_image_ends_in_the_final_size(steps):
    assert ends_in_final_size(steps) == (final_shapes(steps) == {(SIZE, SIZE)})


def test_the_tests_know_every_step():
    assert set(APPLY) == set(STEPS)


@pytest.mark.parametrize(
    "steps",
    [
        ["resize"],
        ["resize_shorter", "center_crop"],
        ["resize_longer", "pad"],
        ["center_crop", "pad"],
        ["crop_foreground", "resize_longer", "pad", "autocontrast"],
        ["resize_longer", "crop_foreground", "pad"],
        ["resize", "resize_shorter"],
        ["grey", "resize"],
    ],
)
def test_sequences_that_end_in_one_size(steps):
    made = recipe(preprocessing={"steps": [{"name": step} for step in steps]}).preprocessing
    assert [step.name for step in made.steps] == steps


@pytest.mark.parametrize(
    "steps",
    [
        ["resize_shorter"],
        ["resize_longer"],
        ["pad"],
        ["center_crop"],
        ["grey", "autocontrast"],
        ["resize", "crop_foreground"],
        ["resize_shorter", "pad"],
        ["resize_longer", "center_crop"],
        ["pad", "resize_longer"],
    ],
)
def test_sequences_that_do_not(steps):
    assert message(preprocessing={"steps": [{"name": step} for step in steps]}) == (
        f"preprocessing.steps: got {', '.join(steps)}, expected steps that end in the final size (`resize`; "
        "`resize_shorter`, `center_crop`; `resize_longer`, `pad`)."
    )


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"steps": []}, "steps: got [], expected a list of mappings with at least 1 item."),
        ({"steps": ["resize"]}, "steps[0]: got 'resize', expected a mapping."),
        ({"steps": [{}]}, "steps[0].name: got null, expected one of resize, resize_shorter"),
        ({"steps": [{"name": "resise"}]}, "steps[0].name: got 'resise', expected one of resize, resize_shorter"),
        ({"steps": [{"name": "resize", "fill": 1}]}, "steps[0].fill: got an unknown key, expected one of name, inter"),
        (
            {"steps": [{"name": "resize", "interpolation": "cubic"}]},
            "steps[0].interpolation: got 'cubic', expected one of nearest, box, bilinear, hamming, bicubic, lanczos.",
        ),
        ({"steps": [{"name": "pad", "fill": 256}]}, "steps[0].fill: got 256, expected an integer >= 0 and <= 255."),
        ({"size": 7}, "size: got 7, expected auto or an integer >= 8 and <= 4096."),
        ({"storage": "png"}, "storage: got 'png', expected one of raw, jpeg."),
        ({"quality": 0}, "quality: got 0, expected an integer >= 1 and <= 100."),
        ({"id": "a/b"}, "id: got 'a/b', expected letters, digits, `.`, `-` and `_`, at most 60."),
        ({"id": "a" * 61}, "id: got 'a"),
    ],
)
def test_mistakes_are_told_with_what_is_accepted(keys, text):
    assert message(preprocessing=keys).startswith(f"preprocessing.{text}")


def test_steps_of_a_pipeline_replace_those_it_inherits():
    raw = {"preprocessing": {"size": 64, "steps": [{"name": "resize"}]}}
    own = {"steps": [{"name": "resize_longer"}, {"name": "pad"}]}
    changed = recipe(raw, "a", pipelines={"a": {"preprocessing": own}})
    assert [step.name for step in changed.preprocessing.steps] == ["resize_longer", "pad"]
    assert changed.preprocessing.size == 64


def test_the_default_steps_end_in_the_final_size():
    assert ends_in_final_size(step.name for step in Preprocessing().steps)
    with pytest.raises(FoldwiseError):
        recipe(preprocessing={"steps": [{"name": "pad"}]})
