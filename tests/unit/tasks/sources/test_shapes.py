"""Shapes of COCO files, drawn as masks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldwise.tasks.sources.shapes import decode_counts, draw, parse_shape


def drawn(*annotations, key="segmentation", height=4, width=5, dtype=np.uint8):
    shapes = [(parse_shape({key: found}, key, height, width), value) for value, found in enumerate(annotations, 1)]
    return draw(shapes, height, width, dtype).tolist()


def encode_counts(counts):
    """Compress run lengths; the inverse of what is tested."""
    text = ""
    for place, count in enumerate(counts):
        number = count - counts[place - 2] if place > 2 else count
        more = True
        while more:
            chunk = number & 31
            number >>= 5
            more = number != (-1 if chunk & 16 else 0)
            text += chr(48 + chunk + 32 * more)
    return text


def test_a_polygon_covers_the_pixels_whose_centres_it_holds():
    assert drawn([[1, 1, 4, 1, 4, 3, 1, 3]]) == [[0, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]]
    assert drawn([[0.6, 0, 2.4, 0, 2.4, 1, 0.6, 1]])[0] == [0, 1, 0, 0, 0]
    assert drawn([[0, 0, 4, 0, 0, 4]], width=4) == [[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert drawn([[1, 1, 1.4, 1, 1.4, 3]]) == [[0] * 5] * 4


def test_what_lies_outside_the_image_is_cut_off():
    assert drawn([[-9, -9, 99, -9, 99, 99, -9, 99]]) == [[1] * 5] * 4
    assert drawn([[3, -9, 99, -9, 99, 2, 3, 2]]) == [[0, 0, 0, 1, 1]] * 2 + [[0] * 5] * 2
    assert drawn([[-9, 0, -1, 0, -1, 9, -9, 9]]) == [[0] * 5] * 4


def test_an_object_may_have_parts_and_lines_that_cross():
    assert drawn([[0, 0, 1, 0, 1, 1, 0, 1], [3, 0, 5, 0, 5, 1, 3, 1]])[0] == [1, 0, 0, 1, 1]
    hole = [0, 0, 5, 0, 5, 4, 0, 4, 0, 0, 1, 1, 1, 3, 4, 3, 4, 1, 1, 1]
    assert drawn([hole]) == [[1] * 5, [1, 0, 0, 0, 1], [1, 0, 0, 0, 1], [1] * 5]


@given(points=st.lists(st.tuples(st.integers(-8, 20), st.integers(-8, 20)), min_size=3, max_size=8))
def test_polygons_agree_with_a_test_of_every_pixel(points):
    shape = parse_shape({"segmentation": [[number for point in points for number in point]]}, "segmentation", 9, 12)
    expected = np.zeros((9, 12), np.uint8)
    for row in range(9):
        for column in range(12):
            for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
                if (x0 <= column + 0.5) != (x1 <= column + 0.5):
                    crossing = y0 + (column + 0.5 - x0) * (y1 - y0) / (x1 - x0)
                    expected[row, column] ^= crossing <= row + 0.5
    assert np.array_equal(draw([(shape, 1)], 9, 12, np.uint8), expected)


def test_boxes_are_left_top_width_height():
    assert drawn([1, 2, 3, 1], key="bbox")[2] == [0, 1, 1, 1, 0]
    assert parse_shape({"bbox": [1, 2, 3, 1]}, "bbox", 4, 5).area == 3


def test_run_lengths_go_down_columns():
    assert drawn({"size": [4, 5], "counts": [5, 2, 13]}) == [[0] * 5, [0, 1, 0, 0, 0], [0, 1, 0, 0, 0], [0] * 5]
    assert drawn({"size": [4, 5], "counts": [0, 20]}) == [[1] * 5] * 4
    assert parse_shape({"segmentation": {"size": [4, 5], "counts": [5, 2, 10, 1, 2]}}, "segmentation", 4, 5).area == 3


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("", []),
        ("0", [0]),
        ("52=", [5, 2, 13]),
        ("d0", [20]),
        ("5230", [5, 2, 3, 2]),
        ("522O", [5, 2, 2, 1]),
        ("061M", [0, 6, 1, 3]),
        ("0PP1", [0, 1024]),
    ],
)
def test_compressed_run_lengths_are_decoded(text, counts):
    assert decode_counts(text) == counts


@given(st.lists(st.integers(0, 2**28)))
def test_run_lengths_survive_compression(counts):
    assert decode_counts(encode_counts(counts)) == counts


def test_compressed_run_lengths_are_drawn():
    assert drawn({"size": [4, 5], "counts": "52="}) == drawn({"size": [4, 5], "counts": [5, 2, 13]})


def test_smaller_objects_lie_over_larger_ones_and_later_over_earlier():
    small, large = [[1, 0, 3, 0, 3, 1, 1, 1]], [[0, 0, 5, 0, 5, 4, 0, 4]]
    assert drawn(small, large)[0] == [2, 1, 1, 2, 2]
    assert drawn(large, small)[0] == [1, 2, 2, 1, 1]
    assert drawn(small, small)[0] == [0, 2, 2, 0, 0]
    assert drawn({"size": [4, 5], "counts": [0, 20]}, small)[0] == [1, 2, 2, 1, 1]


def test_values_above_255_need_more_bits():
    shape = parse_shape({"bbox": [0, 0, 5, 4]}, "bbox", 4, 5)
    mask = draw([(shape, 300)], 4, 5, np.uint16)
    assert (mask.dtype, mask.max(), mask.flags.c_contiguous) == (np.uint16, 300, True)


@pytest.mark.parametrize("found", [None, [], {}])
def test_an_annotation_without_shape_has_none(found):
    assert parse_shape({"segmentation": found}, "segmentation", 4, 5) is None
    assert parse_shape({}, "segmentation", 4, 5) is None


@pytest.mark.parametrize(
    ("key", "found", "reason"),
    [
        ("segmentation", [[0, 0, 1, 1, 2]], "a polygon of 5 numbers, which are no pairs"),
        ("segmentation", [[0, 0, 1, 1]], "a polygon of 2 points, fewer than 3"),
        ("segmentation", [[]], "a polygon of 0 points, fewer than 3"),
        ("segmentation", [0, 0, 1, 1, 2, 2], "a polygon that is no list of numbers"),
        ("segmentation", [[0, 0, 1, 1, 2, "x"]], "a polygon that is no list of numbers"),
        ("segmentation", [[[0, 0], [1, 1], [2, 2]]], "a polygon that is no list of numbers"),
        ("segmentation", [[0, 0, 1, 1, 2, {}]], "a polygon that is no list of numbers"),
        ("segmentation", [[0, 0, 1, 1, 2, None]], "numbers that are not between -1000000 and 1000000"),
        ("segmentation", [[0, 0, 1, 1, 2, float("inf")]], "numbers that are not between"),
        ("segmentation", [[0, 0, 1, 1, 2, 10**400]], "a polygon that is no list of numbers"),
        ("segmentation", "text", "neither a list of polygons nor run lengths"),
        ("segmentation", {"counts": [20]}, r"run lengths of size None, and an image of \[4, 5\]"),
        ("segmentation", {"size": [5, 4], "counts": [20]}, r"run lengths of size \[5, 4\], and an image of \[4, 5\]"),
        ("segmentation", {"size": [4, 5]}, "run lengths that are no list of counts"),
        ("segmentation", {"size": [4, 5], "counts": [21, -1]}, "run lengths that are no list of counts"),
        ("segmentation", {"size": [4, 5], "counts": [1.5]}, "run lengths that are no list of counts"),
        ("segmentation", {"size": [4, 5], "counts": [19]}, "run lengths of 19 pixels in all, and an image of 20"),
        ("segmentation", {"size": [4, 5], "counts": "5 2"}, "compressed run lengths with wrong letters"),
        ("segmentation", {"size": [4, 5], "counts": "é"}, "compressed run lengths with wrong letters"),
        ("segmentation", {"size": [4, 5], "counts": "o" * 20}, "compressed run lengths with wrong letters"),
        ("segmentation", {"size": [4, 5], "counts": "5P"}, "compressed run lengths that are cut off"),
        ("segmentation", {"size": [4, 5], "counts": "O"}, "run lengths that are no list of counts"),
        ("bbox", [0, 0, 1], "a bbox that is not x, y, width, height"),
        ("bbox", [0, 0, -1, 1], "a bbox that is not x, y, width, height"),
        ("bbox", {"x": 1}, "a bbox that is no list of numbers"),
    ],
)
def test_wrong_shapes_are_refused_with_a_reason(key, found, reason):
    with pytest.raises(ValueError, match=reason):
        parse_shape({key: found}, key, 4, 5)
