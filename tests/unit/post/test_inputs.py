"""Members that do not go together are told by name."""

import numpy as np
import pytest

from foldwise.errors import DataError
from foldwise.post.inputs import CHECKED, check_finite, open_members


def zeros(count=3, shape=(5, 2)):
    return [np.zeros(shape, np.float32) for _ in range(count)]


def test_members_are_opened_without_a_copy():
    members = np.zeros((3, 5, 2), np.float32)
    assert all(np.shares_memory(one, members) for one in open_members(members))


@pytest.mark.parametrize("members", [[], np.zeros((0, 5, 2))])
def test_no_member_is_told(members):
    with pytest.raises(DataError, match="members: got nothing, expected the logits of at least one member"):
        open_members(members)


@pytest.mark.parametrize("shape", [(5,), (5, 2, 2), (0, 2), (5, 0)])
def test_logits_need_samples_and_classes(shape):
    with pytest.raises(DataError, match=r"member 0: got shape .*expected logits of shape \(samples, classes\)"):
        open_members(zeros(shape=shape))


def test_all_members_of_another_shape_are_told_by_name():
    members = zeros(4)
    members[1], members[3] = members[1][:4], members[3][:, :1]
    with pytest.raises(DataError) as caught:
        open_members(members, ["a", "b", "c", "d"])
    assert "2 problems, expected the shape of a, (5, 2)" in str(caught.value)
    assert "b: shape (4, 2)" in str(caught.value)
    assert "d: shape (5, 1)" in str(caught.value)


def test_a_member_that_is_no_numbers_is_told():
    members = zeros()
    members[2] = members[2].astype(str)
    with pytest.raises(DataError, match=r"real numbers(.|\n)*member 2: of type <U"):
        open_members(members)


def test_there_is_a_name_for_each_member():
    with pytest.raises(DataError, match="names: got 2 names, expected one for each of the 3 members"):
        open_members(zeros(), ["a", "b"])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_logits_that_are_not_finite_are_counted_for_each_member(dtype):
    members = [member.astype(dtype) for member in zeros()]
    members[0][1:3, 0], members[0][4, 1], members[2][0, 0] = np.nan, -np.inf, np.inf
    with pytest.raises(DataError) as caught:
        check_finite(members, ["a", "b", "c"])
    assert "a: 2 NaN and 1 infinite or huge of 10 logits" in str(caught.value)
    assert "c: 0 NaN and 1 infinite or huge of 10 logits" in str(caught.value)
    assert "  b:" not in str(caught.value)


def test_every_part_of_a_large_member_is_looked_at():
    member = np.zeros((CHECKED + 10, 1), np.float32)
    check_finite([member], ["a"])
    member[-1], member[0] = np.nan, 1e31
    with pytest.raises(DataError, match="1 NaN and 1 infinite or huge"):
        check_finite([member], ["a"])
