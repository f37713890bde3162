"""Mixtures of images: pixels, shares, losses, and what chance decides."""

import pytest
import torch
from torch import nn

from foldwise.training.mixing import Mixing, Mixture, cut_mix, draw_share, draw_span, mix_up

COUNT, HEIGHT, WIDTH = 6, 8, 12
UP, CUT, BOTH = Mixing(0.4, None), Mixing(None, 1.0), Mixing(0.4, 1.0)
EITHER = pytest.mark.parametrize("mixing", [UP, CUT, BOTH], ids=["mixup", "cutmix", "both"])


@pytest.fixture
def images():
    """Images in channels-last order; each has one value, its number."""
    numbers = torch.arange(1.0, COUNT + 1).view(-1, 1, 1, 1)
    return numbers.repeat(1, 3, HEIGHT, WIDTH).contiguous(memory_format=torch.channels_last)


def draw(mixing, images, count=200):
    return [mixing.mix(images) for _ in range(count)]


def is_cut(mixture, images):
    """Return whether all pixels are those of one image or the other."""
    other = images[mixture.order]
    return bool(((mixture.images == images) | (mixture.images == other)).all())


def test_mixup_of_known_images():
    images, order = torch.tensor([0.0, 8.0, 4.0]).view(3, 1, 1, 1), torch.tensor([1, 2, 0])
    mixture = mix_up(images, order, 0.75)
    assert mixture.images.flatten().tolist() == [2.0, 7.0, 3.0]
    assert (mixture.share, mixture.order.tolist()) == (0.75, [1, 2, 0])


@pytest.mark.parametrize("seed", range(20))
def test_cutmix_pastes_one_box_of_the_other_image_and_shares_by_its_pixels(images, seed):
    torch.manual_seed(seed)
    order = torch.tensor([1, 2, 3, 4, 5, 0])
    mixture = cut_mix(images, order, 0.75)
    pasted = mixture.images != images
    assert torch.equal(mixture.images[pasted], images[order][pasted])
    assert mixture.share == pytest.approx(1 - pasted.float().mean().item())
    assert (pasted == pasted[:1, :1]).all()
    rows, columns = pasted[0, 0].any(dim=1), pasted[0, 0].any(dim=0)
    assert torch.equal(pasted[0, 0], rows[:, None] & columns)
    for side in (rows, columns):
        assert side.nonzero().flatten().diff().eq(1).all()
    assert 1 <= rows.sum() <= HEIGHT / 2
    assert 1 <= columns.sum() <= WIDTH / 2


@pytest.mark.parametrize(("share", "longest"), [(1.0, 0), (0.75, 10), (0.0, 20)])
def test_boxes_are_cut_off_at_the_border_and_have_their_centre_anywhere(share, longest):
    torch.manual_seed(0)
    spans = [draw_span(20, share) for _ in range(500)]
    half = longest // 2
    assert {first for first, _ in spans} == {max(0, centre - half) for centre in range(20)}
    assert {last for _, last in spans} == {min(20, centre + half) for centre in range(20)}
    assert max(last - first for first, last in spans) == longest


@EITHER
class TestMixing:
    def test_images_mix_by_the_share_in_the_mean(self, mixing, images):
        for mixture in draw(mixing, images, 50):
            expected = mixture.share * images + (1 - mixture.share) * images[mixture.order]
            torch.testing.assert_close(mixture.images.mean(dim=(1, 2, 3)), expected.mean(dim=(1, 2, 3)))

    def test_images_keep_their_memory_format_and_the_originals_their_pixels(self, mixing, images):
        before = images.clone()
        for mixture in draw(mixing, images, 20):
            assert mixture.images.is_contiguous(memory_format=torch.channels_last)
            assert mixture.images.dtype == images.dtype
        assert torch.equal(images, before)

    def test_the_generator_of_the_cpu_alone_decides(self, mixing, images):
        def run(seed):
            torch.manual_seed(seed)
            return draw(mixing, images, 5)

        for one, other in zip(run(1), run(1), strict=True):
            assert torch.equal(one.images, other.images)
            assert torch.equal(one.order, other.order)
            assert one.share == other.share
        assert [mixture.share for mixture in run(1)] != [mixture.share for mixture in run(2)]

    def test_every_image_is_mixed_in_once(self, mixing, images):
        orders = torch.stack([mixture.order for mixture in draw(mixing, images)])
        assert (orders.sort(dim=1).values == torch.arange(COUNT)).all()
        assert len(orders.unique(dim=0)) > 100

    def test_a_single_image_stays_as_it_is(self, mixing, images):
        for mixture in draw(mixing, images[:1], 20):
            torch.testing.assert_close(mixture.images, images[:1])


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_are_of_the_beta_distribution(alpha):
    torch.manual_seed(0)
    shares = torch.tensor([draw_share(alpha) for _ in range(4000)])
    assert shares.mean().item() == pytest.approx(0.5, abs=0.03)
    assert shares.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.07)


@pytest.mark.parametrize("alpha", [1e-6, 1e6])
def test_extreme_parameters_give_shares_too(alpha):
    torch.manual_seed(0)
    assert all(0 <= draw_share(alpha) <= 1 for _ in range(100))


def test_both_methods_are_drawn_as_often(images):
    torch.manual_seed(0)
    cut = sum(is_cut(mixture, images) for mixture in draw(Mixing(50.0, 1.0), images, 1000))
    assert cut == pytest.approx(500, abs=60)


@pytest.mark.parametrize(("mixing", "expected"), [(Mixing(50.0, None), False), (CUT, True)])
def test_one_method_alone_is_always_used(mixing, expected, images):
    torch.manual_seed(0)
    assert {is_cut(mixture, images) for mixture in draw(mixing, images)} == {expected}


class TestLoss:
    def test_it_is_that_of_both_targets_by_their_shares(self):
        mixture = Mixture(torch.empty(2), torch.tensor([1, 0]), 0.75)
        logits, targets = torch.tensor([[1.0], [5.0]]), torch.tensor([1.0, 3.0])
        losses = mixture.loss(lambda found, wanted: (found[:, 0] - wanted).abs().sum(), logits, targets)
        assert losses.item() == 0.75 * (0 + 2) + 0.25 * (2 + 4)

    def test_cross_entropy_equals_that_of_mixed_targets(self):
        torch.manual_seed(0)
        logits, targets = torch.randn(COUNT, 4, requires_grad=True), torch.arange(COUNT) % 4
        mixture = Mixture(torch.empty(COUNT), torch.randperm(COUNT), 0.3)
        hard = nn.functional.one_hot(targets, 4).float()
        soft = 0.3 * hard + 0.7 * hard[mixture.order]
        loss = mixture.loss(nn.functional.cross_entropy, logits, targets)
        torch.testing.assert_close(loss, nn.functional.cross_entropy(logits, soft))
        loss.backward()
        assert logits.grad.abs().sum() > 0
