"""Averages of weights: what they are, when they are validated, and that training never notices them."""

import lightning.pytorch as lightning
import pytest
import torch
from lightning.pytorch.plugins import CheckpointIO
from torch import nn

from foldwise.training.averaging import MovingAverage, StochasticAverage

STEPS = 4  # batches an epoch
FROZEN = "4.weight"


class Toy(lightning.LightningModule):
    """Learn from noise; note the weights of every optimiser step and of every validation."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        layers = (nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 4), nn.Linear(4, 2))
        self.network = nn.Sequential(*layers).to(memory_format=torch.channels_last)
        self.network[4].weight.requires_grad_(False)
        self.steps, self.epochs, self.validated = [], [], []

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)

    def training_step(self, batch, index):
        return (self.network(batch) ** 2).sum(dim=1).sqrt().mean()

    def on_train_batch_end(self, outputs, batch, index):
        if self.global_step > len(self.steps):
            self.steps.append(snapshot(self.network))

    def validation_step(self, batch, index):
        self.validated.append(snapshot(self.network))

    def on_train_epoch_end(self):
        self.epochs.append(snapshot(self.network))


class Keep(lightning.Callback):
    """Copy the weights at the end of validation, as what keeps a model does."""

    def __init__(self):
        self.kept = []

    def on_validation_end(self, trainer, module):
        self.kept.append(snapshot(module.network))


class Memory(CheckpointIO):
    """Keep a checkpoint in memory as files of tensors would: on the CPU, contiguous, and nothing shared."""

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        self.checkpoint = plain(checkpoint)

    def load_checkpoint(self, path, map_location=None, weights_only=None):
        return plain(self.checkpoint)

    def remove_checkpoint(self, path):
        raise NotImplementedError


def plain(value):
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().clone(memory_format=torch.contiguous_format)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


class Save(lightning.Callback):
    """Save the state of training after some epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_train_epoch_end(self, trainer, module):
        if trainer.current_epoch == self.epoch:
            trainer.save_checkpoint("memory")


def snapshot(network):
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def load(batches):
    return torch.utils.data.DataLoader(batches, batch_size=None)


def fit(callbacks, epochs=3, memory=None, resume=False, **trainer):
    module = Toy()
    batches = [torch.randn(5, 3, 3, 3, generator=torch.Generator().manual_seed(index)) for index in range(STEPS)]
    lightning.Trainer(
        accelerator="cpu", max_epochs=epochs, callbacks=callbacks, plugins=[memory] if memory else None, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        **trainer,
    ).fit(module, load(batches), load(batches[:1]), ckpt_path="memory" if resume else None)  # fmt: skip
    return module


def average(snapshots, weights):
    """Return the weighted mean of snapshots; what is counted is of the last, as what is frozen is of all."""
    return {
        name: sum(w * s[name] for w, s in zip(weights, snapshots, strict=True))
        if tensor.is_floating_point() and name != FROZEN
        else tensor
        for name, tensor in snapshots[-1].items()
    }


def moving_weights(decay, steps):
    """Return the weight that each step has in the moving average."""
    weights = [1.0]
    for count in range(1, steps):
        kept = min(decay, (1 + count) / (10 + count))
        weights = [kept * weight for weight in weights] + [1 - kept]
    return weights


def assert_same(left, right):
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("decay", [0.1, 0.3, 0.999])
def test_the_moving_average_is_of_all_steps_with_a_decay_that_warms_up(decay):
    module = fit([MovingAverage(decay)])
    for epoch, validated in enumerate(module.validated):
        done = STEPS * (epoch + 1)
        expected = average(module.steps[:done], moving_weights(decay, done))
        torch.testing.assert_close(validated, expected, rtol=1e-4, atol=1e-6)


def test_gathered_gradients_are_no_steps():
    moving = MovingAverage(0.9)
    module = fit([moving], accumulate_grad_batches=3)
    assert len(module.steps) == moving.count == 3 * 2
    expected = average(module.steps, moving_weights(0.9, 6))
    torch.testing.assert_close(module.validated[-1], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("start", "epochs", "first"),
    [(0.5, 4, 2), (0.75, 4, 3), (0.6, 4, 3), (0.01, 3, 1), (0.99, 3, 3), (0.28, 25, 7)],
)
def test_the_stochastic_average_counts_epochs_from_its_start_on_alike(start, epochs, first):
    module = fit([StochasticAverage(start)], epochs)
    for epoch, validated in enumerate(module.validated, start=1):
        if epoch < first:
            assert_same(validated, module.epochs[epoch - 1])
        else:
            counted = module.epochs[first - 1 : epoch]
            expected = average(counted, [1 / len(counted)] * len(counted))
            torch.testing.assert_close(validated, expected, rtol=1e-4, atol=1e-6)


def test_epochs_that_are_cut_short_or_not_validated_count_too():
    stochastic = StochasticAverage(0.5)
    module = fit([stochastic], epochs=4, limit_train_batches=2, check_val_every_n_epoch=2)
    assert (stochastic.count, len(module.steps), len(module.validated)) == (3, 8, 2)
    expected = average(module.epochs[1:], [1 / 3] * 3)
    torch.testing.assert_close(module.validated[-1], expected, rtol=1e-4, atol=1e-6)


AVERAGES = pytest.mark.parametrize(
    "build", [lambda: MovingAverage(0.9), lambda: StochasticAverage(0.3)], ids=["moving", "stochastic"]
)


@AVERAGES
class TestTraining:
    def test_what_keeps_weights_finds_the_average_that_was_validated(self, build):
        keep = Keep()
        module = fit([keep, build()])
        assert len(keep.kept) == 3
        for kept, validated in zip(keep.kept, module.validated, strict=True):
            assert_same(kept, validated)
        assert not torch.equal(keep.kept[-1]["3.weight"], module.epochs[-1]["3.weight"])

    def test_trained_weights_come_back_and_training_goes_the_same_way(self, build):
        module, alone = fit([build()]), fit([])
        for with_average, without in zip(module.steps, alone.steps, strict=True):
            assert_same(with_average, without)
        assert_same(snapshot(module.network), alone.steps[-1])

    def test_statistics_of_batch_normalisation_are_averaged_and_counters_are_of_now(self, build):
        module = fit([build()])
        last, trained = module.validated[-1], module.epochs[-1]
        assert not torch.equal(last["1.running_var"], trained["1.running_var"])
        assert last["1.num_batches_tracked"] == 3 * STEPS

    def test_what_is_frozen_is_not_averaged(self, build):
        callback = build()
        module = fit([callback])
        assert callback.average.keys() == module.validated[0].keys() - {FROZEN, "1.num_batches_tracked"}

    def test_a_resumed_training_gives_the_same_bytes(self, build):
        whole, memory, part, rest = build(), Memory(), build(), build()
        arguments = {"epochs": 5, "accumulate_grad_batches": 2}
        expected = fit([whole], **arguments)
        fit([part, Save(2)], memory=memory, **arguments)
        module = fit([rest], memory=memory, resume=True, **arguments)
        assert len(module.validated) == 2
        for resumed, straight in zip(module.validated, expected.validated[-2:], strict=True):
            assert_same(resumed, straight)
        assert (rest.count, rest.step) == (whole.count, whole.step) == (whole.count, 5 * STEPS / 2)
        assert_same(rest.state_dict()["average"], whole.state_dict()["average"])
        assert rest.average["0.weight"].is_contiguous(memory_format=torch.channels_last)
