"""Objectives of every task type, by hand and against each other."""

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from foldwise.config.pipeline import LOSSES, LossChoice
from foldwise.data.batches import Masks
from foldwise.errors import ConfigError
from foldwise.models.scale import TargetScale
from foldwise.training.losses import build_loss, dice_loss

CLASSES = ("a", "b", "c")
LABELS = np.array([0, 1, 1, 2, 2, 2, 2])
LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 1.0, 0.0], [0.0, 0.0, 3.0], [-1.0, 2.0, 0.3]], dtype=torch.float64)
TARGETS = torch.tensor([0, 2, 2, 1])
WEIGHTS = [1.0, 2.0, 0.5]


def build(labels=LABELS, kind="classification", classes=CLASSES, scale=None, **keys):
    loss = TypeAdapter(LossChoice).validate_python({"name": "auto", **keys})
    return build_loss(loss, kind, labels, classes, scale).double()


def right_probabilities():
    """Return the probability of the right class of each sample, computed without torch's losses."""
    exponentials = np.exp(LOGITS.numpy())
    return (exponentials / exponentials.sum(axis=1, keepdims=True))[np.arange(4), TARGETS.numpy()]


@pytest.mark.parametrize("name", ["auto", "cross_entropy"])
def test_classification_minimises_cross_entropy(name):
    assert build(name=name)(LOGITS, TARGETS).item() == pytest.approx(-np.log(right_probabilities()).mean())


def test_label_smoothing_spreads_a_share_of_the_target_evenly():
    log_probabilities = LOGITS.log_softmax(1).numpy()
    expected = 0.7 * np.log(right_probabilities()).mean() + 0.3 * log_probabilities.mean()
    assert build(label_smoothing=0.3)(LOGITS, TARGETS).item() == pytest.approx(-expected)


@pytest.mark.parametrize("weights", [None, WEIGHTS, "auto"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_focal_loss_of_gamma_0_is_cross_entropy_with_its_gradient(weights, smoothing):
    found = []
    for keys in ({"name": "focal", "gamma": 0.0}, {"name": "cross_entropy"}):
        logits = LOGITS.clone().requires_grad_()
        loss = build(class_weights=weights, label_smoothing=smoothing, **keys)(logits, TARGETS)
        loss.backward()
        found.append(torch.cat([loss.detach()[None], logits.grad.flatten()]))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_loss_by_hand(gamma):
    right = right_probabilities()
    losses = (1 - right) ** gamma * -np.log(right)
    assert build(name="focal", gamma=gamma)(LOGITS, TARGETS).item() == pytest.approx(losses.mean())
    weights = np.array(WEIGHTS)[TARGETS.numpy()]
    weighted = build(name="focal", gamma=gamma, class_weights=WEIGHTS)(LOGITS, TARGETS)
    assert weighted.item() == pytest.approx((weights * losses).sum() / weights.sum())


def test_focal_loss_has_a_finite_slope_at_a_sample_without_doubt():
    logits = torch.tensor([[200.0, 0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    build(name="focal", gamma=0.5)(logits, torch.tensor([0])).backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", ["cross_entropy", "focal"])
def test_automatic_class_weights_are_inverse_to_the_training_frequency_with_mean_1(name):
    weight = build(name=name, class_weights="auto").weight
    assert weight.tolist() == pytest.approx(np.array([4.0, 2.0, 1.0]) / 7 * 3)


def test_a_class_without_training_samples_leaves_automatic_weights_finite():
    weight = build(labels=np.array([0, 0, 2]), class_weights="auto").weight
    assert torch.isfinite(weight).all()
    assert (weight[2] / weight[0]).item() == pytest.approx(2.0)


def test_listed_class_weights_belong_to_the_classes_in_order():
    loss = build(class_weights=WEIGHTS)
    assert loss.weight.tolist() == WEIGHTS
    weights = np.array(WEIGHTS)[TARGETS.numpy()]
    expected = (weights * -np.log(right_probabilities())).sum() / weights.sum()
    assert loss(LOGITS, TARGETS).item() == pytest.approx(expected)


@pytest.mark.parametrize("count", [2, 4])
def test_a_wrong_number_of_class_weights_is_told_with_the_classes(count):
    with pytest.raises(ConfigError, match=rf"loss\.class_weights: got .*{count} weights.*expected 3,.* a, b, c"):
        build(class_weights=[1.0] * count)


def test_automatic_class_weights_of_the_others_do_not_depend_on_a_class_without_samples():
    weight = build(labels=np.array([0, 0, 2]), class_weights="auto").weight
    assert weight.tolist() == pytest.approx([2 / 3, 1.0, 4 / 3])


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in LOSSES for name in ("focal", "bce", "mse", "dice_ce") if name not in LOSSES[kind]],
)
def test_a_loss_of_another_task_type_is_refused(kind, name):
    with pytest.raises(ConfigError, match=rf"loss\.name: got '{name}', expected one of auto, .* for task type {kind}"):
        build(kind=kind, name=name)


@pytest.mark.parametrize(
    ("kind", "keys", "message"),
    [
        ("regression", {"class_weights": "auto"}, r"loss\.class_weights: got 'auto', expected nothing, as huber"),
        ("regression", {"label_smoothing": 0.1}, r"loss\.label_smoothing: got 0\.1, expected nothing, as huber"),
        ("segmentation", {"label_smoothing": 0.1}, r"loss\.label_smoothing: got 0\.1, expected nothing, as dice_ce"),
    ],
)
def test_what_the_automatic_loss_does_not_take_is_told(kind, keys, message):
    with pytest.raises(ConfigError, match=message):
        build(kind=kind, **keys)


class TestMultilabel:
    TARGETS = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 1], [0, 1, 1]], np.uint8)

    def build(self, targets=TARGETS, **keys):
        return build(labels=targets, kind="multilabel", **keys)

    def by_hand(self, targets, weights=1.0):
        probabilities = 1 / (1 + np.exp(-LOGITS.numpy()))
        return np.mean(-weights * targets * np.log(probabilities) - (1 - targets) * np.log(1 - probabilities))

    @pytest.mark.parametrize("name", ["auto", "bce"])
    def test_every_class_is_a_question_of_its_own(self, name):
        found = self.build(name=name)(LOGITS, torch.from_numpy(self.TARGETS))
        assert found.item() == pytest.approx(self.by_hand(self.TARGETS))

    def test_soft_targets_count_as_they_are(self):
        targets = np.random.default_rng(0).random((4, 3)).astype(np.float32)
        assert self.build()(LOGITS, torch.from_numpy(targets)).item() == pytest.approx(self.by_hand(targets))

    def test_label_smoothing_moves_targets_towards_one_half(self):
        found = self.build(label_smoothing=0.2)(LOGITS, torch.from_numpy(self.TARGETS))
        assert found.item() == pytest.approx(self.by_hand(self.TARGETS * 0.8 + 0.1))

    @pytest.mark.parametrize("targets", [TARGETS, np.where(TARGETS, 0.7, 0.4).astype(np.float32)], ids=["hard", "soft"])
    def test_automatic_weights_are_negatives_over_positives_where_there_are_both(self, targets):
        assert self.build(targets, class_weights="auto").weight.tolist() == [1.0, 3.0, 1.0]

    def test_weights_belong_to_positive_samples(self):
        found = self.build(class_weights=WEIGHTS)(LOGITS, torch.from_numpy(self.TARGETS))
        assert found.item() == pytest.approx(self.by_hand(self.TARGETS, np.array(WEIGHTS)))

    @pytest.mark.parametrize("count", [2, 4])
    def test_a_wrong_number_of_weights_is_told(self, count):
        with pytest.raises(ConfigError, match=rf"loss\.class_weights: got {count} weights, expected 3,.* a, b, c"):
            self.build(class_weights=[1.0] * count)


class TestRegression:
    TARGETS = torch.tensor([1000.0, 1040.0, 1010.0, 1020.0])
    SCALE = TargetScale(1020.0, 20.0)

    def residuals(self):
        return LOGITS[:, 0].numpy() - (self.TARGETS.numpy() - 1020) / 20

    def loss(self, **keys):
        return build(kind="regression", scale=self.SCALE, **keys)(LOGITS[:, :1], self.TARGETS).item()

    def test_the_squared_error_is_that_of_standardised_targets(self):
        assert self.loss(name="mse") == pytest.approx(np.mean(self.residuals() ** 2))

    @pytest.mark.parametrize("keys", [{}, {"name": "huber"}, {"name": "huber", "delta": 0.7}])
    def test_hubers_loss_is_squared_near_zero_and_absolute_beyond(self, keys):
        delta, residuals = keys.get("delta", 1.0), np.abs(self.residuals())
        assert residuals.min() < delta < residuals.max()
        expected = np.where(residuals < delta, residuals**2 / 2, delta * (residuals - delta / 2))
        assert self.loss(**keys) == pytest.approx(expected.mean())


MAPS = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 4, 5)))
LABELED = torch.from_numpy(np.random.default_rng(1).integers(0, 3, (2, 4, 5), dtype=np.uint8))
IGNORED = LABELED.masked_fill(torch.rand(2, 4, 5, generator=torch.Generator().manual_seed(0)) < 0.3, 255)


def softmax(maps):
    exponentials = np.exp(maps.numpy())
    return np.moveaxis(exponentials / exponentials.sum(axis=1, keepdims=True), 1, -1)


def cross_entropy_by_hand(maps, labels, weights=(1.0, 1.0, 1.0), smoothing=0.0):
    total = norm = 0.0
    for probabilities, label in zip(softmax(maps).reshape(-1, 3), labels.numpy().ravel(), strict=True):
        if label != 255:
            logs = np.log(probabilities)
            total -= (1 - smoothing) * weights[label] * logs[label] + smoothing * np.mean(np.array(weights) * logs)
            norm += weights[label]
    return total / norm


def dice_by_hand(maps, labels):
    probabilities, labels = softmax(maps).reshape(-1, 3), labels.numpy().ravel()
    probabilities, labels = probabilities[labels != 255], labels[labels != 255]
    found = []
    for k in range(3):
        shared = probabilities[labels == k, k].sum()
        found.append((2 * shared + 1e-5) / (probabilities[:, k].sum() + (labels == k).sum() + 1e-5))
    return 1 - np.mean(found)


class TestSegmentation:
    def build(self, targets=None, **keys):
        return build(labels=targets, kind="segmentation", **keys)

    @pytest.mark.parametrize("labels", [LABELED, IGNORED], ids=["all known", "some ignored"])
    @pytest.mark.parametrize("weights", [None, WEIGHTS])
    @pytest.mark.parametrize("smoothing", [0.0, 0.2])
    def test_cross_entropy_is_the_weighted_mean_over_known_pixels(self, labels, weights, smoothing):
        loss = self.build(name="cross_entropy", class_weights=weights, label_smoothing=smoothing)
        expected = cross_entropy_by_hand(MAPS, labels, weights or (1.0,) * 3, smoothing)
        assert loss(MAPS, labels).item() == pytest.approx(expected)

    @pytest.mark.parametrize("labels", [LABELED, IGNORED], ids=["all known", "some ignored"])
    @pytest.mark.parametrize(("keys", "share"), [({}, 1.0), ({"name": "dice_ce", "dice_weight": 0.3}, 0.3)])
    def test_the_dice_loss_is_added_by_its_weight(self, labels, keys, share):
        expected = cross_entropy_by_hand(MAPS, labels) + share * dice_by_hand(MAPS, labels)
        assert self.build(**keys)(MAPS, labels).item() == pytest.approx(expected)

    def test_the_dice_loss_agrees_with_monai(self):
        from monai.losses import DiceLoss

        reference = DiceLoss(to_onehot_y=True, softmax=True, batch=True, smooth_nr=1e-5, smooth_dr=1e-5)
        pixels = MAPS.permute(0, 2, 3, 1).reshape(-1, 3)
        found = dice_loss(pixels.softmax(dim=1), LABELED.reshape(-1).long())
        assert found.item() == pytest.approx(reference(MAPS, LABELED[:, None]).item())

    def test_a_perfect_prediction_costs_nothing(self):
        maps = 100 * torch.nn.functional.one_hot(LABELED.long(), 3).permute(0, 3, 1, 2).double()
        assert self.build()(maps, LABELED).item() == pytest.approx(0, abs=1e-6)

    @pytest.mark.parametrize("name", ["dice_ce", "cross_entropy"])
    def test_logits_of_ignored_pixels_change_neither_loss_nor_gradient(self, name):
        found = []
        for shift in (0.0, 50.0):
            maps = (MAPS + shift * (IGNORED == 255)[:, None] * torch.tensor([1.0, -1.0, 0.0])[:, None, None]).detach()
            maps.requires_grad_()
            loss = self.build(name=name)(maps, IGNORED)
            loss.backward()
            found.append((loss.item(), maps.grad))
        assert found[0][0] == found[1][0]
        assert torch.equal(found[0][1], found[1][1])
        assert (found[0][1].abs().sum(dim=1)[IGNORED == 255] == 0).all()

    @pytest.mark.parametrize("name", ["dice_ce", "cross_entropy"])
    @pytest.mark.parametrize("weights", [None, [0.0, 1.0, 1.0]])
    def test_a_batch_without_known_pixels_costs_nothing_and_teaches_nothing(self, name, weights):
        maps = MAPS.clone().requires_grad_()
        loss = self.build(name=name, class_weights=weights)(maps, torch.full_like(LABELED, 255))
        loss.backward()
        assert loss.item() == 0
        assert (maps.grad == 0).all()

    def test_pixels_of_classes_without_weight_alone_are_no_division_by_zero(self):
        loss = self.build(name="cross_entropy", class_weights=[0.0, 1.0, 1.0])
        assert loss(MAPS, torch.zeros_like(LABELED)).item() == 0

    def test_automatic_weights_are_inverse_to_the_share_of_pixels_of_the_training_masks(self):
        masks = np.full((5, 2, 3), 255, np.uint8)
        masks[1] = [[0, 0, 0], [0, 1, 255]]
        masks[3] = [[1, 0, 2], [0, 0, 0]]
        masks[4] = 2  # no training mask
        loss = self.build(Masks(masks, np.array([3, 1, 0])), class_weights="auto")
        inverse = 1 / np.array([9 - 1, 2, 1])
        assert loss.weight.tolist() == pytest.approx(inverse / inverse.mean())

    def test_bfloat16_logits_are_summed_with_32_bits(self):
        loss = build(kind="segmentation").float()
        large = MAPS.bfloat16().repeat(1, 1, 40, 40)
        labels = LABELED.repeat(1, 40, 40)
        assert loss(large, labels).dtype == torch.float32
        assert loss(large, labels).item() == pytest.approx(loss(large.float(), labels).item())
