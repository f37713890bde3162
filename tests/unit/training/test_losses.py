"""Objectives of every task type, by hand and against each other."""

import re
import sys

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from foldwise.config.losses import (
    LOSSES,
    BinaryCrossEntropy,
    CrossEntropy,
    DiceCrossEntropy,
    Focal,
    Huber,
    LossChoice,
    OwnLoss,
    SquaredError,
)
from foldwise.data.batches import Masks
from foldwise.errors import ConfigError, DataError
from foldwise.models.scale import TargetScale
from foldwise.training.losses import build_loss, co_task_loss, dice_loss

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


MODULE = """
import torch

mean = torch.nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5]))


def margin(logits, targets, width=1.0, *, power=1):
    right = logits.gather(1, targets[:, None])
    return ((logits - right + width).clamp_min(0) ** power).mean()


def relative(logits, targets):
    assert logits.dtype == torch.float64
    return ((logits[:, 0] - targets).abs() / targets).mean()


def kind(logits, targets):
    return logits.float().mean() * 0 + logits.element_size()


def each(logits, targets):
    return logits.sum(dim=1)


def one(logits, targets):
    return logits.mean()[None]


def count(logits, targets):
    return (logits.argmax(dim=1) == targets).sum()


def cut(logits, targets):
    return logits.detach().mean()


def number(logits, targets):
    return logits.mean().item()


def fails(logits, targets):
    return logits @ targets


def full(logits, targets):
    raise torch.OutOfMemoryError("CUDA out of memory.")


def short(logits):
    return logits.mean()
"""


class TestOwn:
    @pytest.fixture(autouse=True)
    def _module(self, tmp_path, monkeypatch):
        (tmp_path / "losses_of_test.py").write_text(MODULE)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", list(sys.path))
        yield
        sys.modules.pop("losses_of_test", None)

    def build(self, function, kind="classification", scale=None, **arguments):
        loss = OwnLoss(name=f"losses_of_test:{function}", arguments=arguments)
        return build_loss(loss, kind, LABELS, CLASSES, scale)

    def told(self, function):
        with pytest.raises(DataError) as caught:
            self.build(function)(LOGITS.clone().requires_grad_(), TARGETS)
        return caught.value.message

    @pytest.mark.parametrize(
        ("arguments", "width", "power"), [({}, 1.0, 1), ({"width": 0.5}, 0.5, 1), ({"power": 2, "width": 2.0}, 2.0, 2)]
    )
    def test_it_is_called_with_logits_targets_and_its_arguments(self, arguments, width, power):
        values, labels = LOGITS.numpy(), TARGETS.numpy()
        right = values[np.arange(4), labels][:, None]
        expected = (np.maximum(values - right + width, 0) ** power).mean()
        assert self.build("margin", **arguments)(LOGITS, TARGETS).item() == pytest.approx(expected)

    def test_its_gradient_reaches_the_logits(self):
        found = []
        for loss in (self.build("mean").double(), build(class_weights=WEIGHTS)):
            logits = LOGITS.clone().requires_grad_()
            loss(logits, TARGETS).backward()
            found.append(logits.grad)
        assert torch.equal(*found)

    def test_of_a_regression_logits_and_targets_have_the_units_of_the_targets(self):
        targets, scale = torch.tensor([1000.0, 1040.0, 1010.0, 1020.0]), TargetScale(1020.0, 20.0)
        found = self.build("relative", "regression", scale)(LOGITS[:, :1], targets)
        expected = np.abs(LOGITS[:, 0].numpy() * 20 + 1020 - targets.numpy()) / targets.numpy()
        assert found.item() == pytest.approx(expected.mean())

    @pytest.mark.parametrize(("dtype", "size"), [(torch.bfloat16, 4), (torch.float32, 4), (torch.float64, 8)])
    def test_logits_have_at_least_32_bits(self, dtype, size):
        assert self.build("kind")(LOGITS.to(dtype), TARGETS) == size

    @pytest.mark.parametrize(
        ("function", "found"),
        [
            ("each", r"a tensor of shape \(4,\) and torch\.float64, expected .* Return the mean over the batch\."),
            ("one", r"a tensor of shape \(1,\) and torch\.float64, expected a tensor of shape \(\) with a gradient.*"),
            ("count", r"a tensor of shape \(\) and torch\.int64, expected .*"),
            ("cut", r"a tensor without gradient, expected .* Compute it from logits, by torch\."),
            (
                "number",
                r"a value of type float, expected a tensor of shape \(\) with a gradient, the mean loss of a batch\.",
            ),
            ("fails", r"RuntimeError: .* See .*losses_of_test\.py line \d+, `return logits @ targets`\."),
        ],
    )
    def test_what_it_does_wrong_is_told_with_its_name(self, function, found):
        assert re.fullmatch(rf"losses_of_test:{function}: got {found}", self.told(function))

    def test_in_validation_there_is_no_gradient_to_miss(self):
        with torch.no_grad():
            assert self.build("cut")(LOGITS, TARGETS).item() == pytest.approx(LOGITS.mean().item())

    def test_a_full_device_is_for_others_to_tell(self):
        with pytest.raises(torch.OutOfMemoryError):
            self.build("full")(LOGITS, TARGETS)

    @pytest.mark.parametrize(
        ("function", "arguments", "called"),
        [
            ("short", {}, "def short(logits), expected def short(logits, targets)"),
            ("margin", {"widht": 2.0}, "power=1), expected def margin(logits, targets, widht)"),
        ],
    )
    def test_wrong_arguments_are_told_before_training(self, function, arguments, called):
        with pytest.raises(DataError) as caught:
            self.build(function, **arguments)
        assert f"{called}. Mend it, or loss.arguments." in caught.value.message

    def test_a_function_that_is_not_there_is_told_with_the_key(self):
        with pytest.raises(ConfigError, match=r"^loss\.name: got 'losses_of_test:margn' .* Did you mean 'margin'\?"):
            self.build("margn")


OWN = OwnLoss(name="mine:loss")


@pytest.mark.parametrize(
    ("loss", "kind", "expected"),
    [
        (OWN, "classification", CrossEntropy()),
        (OWN, "segmentation", DiceCrossEntropy(name="dice_ce")),
        (Focal(name="focal", gamma=1.0, class_weights=WEIGHTS), "classification", Focal(name="focal", gamma=1.0)),
        (Focal(name="focal", class_weights="auto"), "classification", Focal(name="focal", class_weights="auto")),
        (Focal(name="focal"), "multilabel", BinaryCrossEntropy(name="bce")),
        (SquaredError(name="mse"), "regression", SquaredError(name="mse")),
        (SquaredError(name="mse"), "classification", CrossEntropy()),
        (DiceCrossEntropy(name="dice_ce", class_weights="auto"), "regression", Huber(name="huber")),
        (CrossEntropy(name="cross_entropy"), "segmentation", CrossEntropy(name="cross_entropy")),
        (CrossEntropy(label_smoothing=0.2), "classification", CrossEntropy(label_smoothing=0.2)),
        (CrossEntropy(label_smoothing=0.2), "multilabel", BinaryCrossEntropy(name="bce", label_smoothing=0.2)),
        (CrossEntropy(label_smoothing=0.2, class_weights="auto"), "regression", Huber(name="huber")),
        (
            CrossEntropy(label_smoothing=0.2, class_weights="auto"),
            "segmentation",
            DiceCrossEntropy(name="dice_ce", class_weights="auto"),
        ),
        (CrossEntropy(class_weights=WEIGHTS), "multilabel", BinaryCrossEntropy(name="bce")),
    ],
)
def test_a_co_task_has_the_loss_of_the_pipeline_where_it_goes_with_its_type(loss, kind, expected):
    assert co_task_loss(loss, kind) == expected


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("given", [OWN, Huber(name="huber"), CrossEntropy(label_smoothing=0.1, class_weights="auto")])
def test_the_loss_of_a_co_task_can_always_be_built(kind, given):
    scale = TargetScale(0.0, 1.0)
    targets = {
        "classification": LABELS,
        "multilabel": TestMultilabel.TARGETS,
        "regression": LABELS.astype(np.float32),
        "segmentation": Masks(np.zeros((2, 2, 2), np.uint8), np.arange(2)),
    }[kind]
    assert isinstance(build_loss(co_task_loss(given, kind), kind, targets, CLASSES, scale), torch.nn.Module)
