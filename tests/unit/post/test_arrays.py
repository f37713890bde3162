"""Messages about arrays name the file they come from."""

import numpy as np
import pytest

from foldwise.errors import DataError
from foldwise.post.arrays import check_label_shares, check_logits, check_targets


def test_what_is_right_becomes_double_precision_and_stays_as_it_was():
    logits = np.ones((2, 3), dtype=np.float16)
    found = check_logits(logits)
    found += 1
    assert found.dtype == np.float64
    assert (logits == 1).all()
    assert check_targets(np.array([0, 2], dtype=np.uint8), 3).dtype == np.int64
    assert check_label_shares(np.array([[True, False]]), 2).tolist() == [[1, 0]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: check_logits([[1.0, np.nan]], where="a.npz"), "a.npz: got 1 value not finite, the first in row 0"),
        (
            lambda: check_logits([[1.0, 1e101]]),
            "not finite, the first in row 0, expected finite values, 1e[+]100 at most",
        ),
        (lambda: check_logits([[1.0, 2.0]], 3, where="a.npz"), "a.npz: got shape .1, 2., expected .* and 3 classes"),
        (
            lambda: check_targets([0, 3, 9], 3, where="a.npz"),
            "a.npz: got 2 values outside of 0 to 2, the first in row 1",
        ),
        (lambda: check_label_shares([[0.5], [-1]], 1, where="a.npz"), "a.npz: got 1 value outside of .*in row 1"),
    ],
)
def test_what_is_wrong_is_named(call, message):
    with pytest.raises(DataError, match=message):
        call()
