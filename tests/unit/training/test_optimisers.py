"""Optimisers with a learning rate for backbone and head each, and schedules step by step."""

import copy
import math

import numpy as np
import pytest
import torch

from foldwise.config.architectures import ResNet
from foldwise.config.optimization import (
    SGD,
    Adam,
    AdamW,
    Constant,
    Cosine,
    CosineRestart,
    Exponential,
    OneCycle,
    Plateau,
    RMSprop,
    Step,
)
from foldwise.errors import ConfigError
from foldwise.models.lora import add_lora
from foldwise.models.network import build_network
from foldwise.training.optimisers import build_optimizer, build_scheduler
from foldwise.training.state import read_state, write_state

STEPS, EPOCHS = 4, 4
TOTAL = STEPS * EPOCHS
ADAPTIVE = {"weight_decay": 0.2, "betas": [0.8, 0.95], "eps": 1e-6}
RISE = [0.01 + 0.99 * k / 4 for k in range(4)]


@pytest.fixture
def network():
    arch = ResNet(name="resnet10", block_inplanes=[4, 4, 8, 8], conv1_t_size=3, conv1_t_stride=1, no_max_pool=True)
    return build_network(arch, 3, [5])


@pytest.fixture
def rates(network):
    """Return the learning rates that each step of a training uses, of the head or of a backbone at half of it."""

    def run(schedule, group=1, steps=STEPS, epochs=EPOCHS):
        optimizer = build_optimizer(SGD(lr=1.0, backbone_lr_factor=0.5), network)
        scheduler = build_scheduler(schedule, optimizer, steps, epochs)
        found = []
        for _ in range(steps * epochs):
            found.append(optimizer.param_groups[group]["lr"])
            optimizer.step()
            if scheduler:
                scheduler.step()
        return found

    return run


def half_cosine(step, steps, low=0.0):
    return low + (1 - low) * (1 + math.cos(math.pi * step / steps)) / 2


class TestOptimisers:
    @pytest.mark.parametrize(
        ("config", "kind", "arguments"),
        [
            (AdamW(**ADAPTIVE), torch.optim.AdamW, {**ADAPTIVE, "betas": (0.8, 0.95)}),
            (AdamW(), torch.optim.AdamW, {"weight_decay": 0.01, "betas": (0.9, 0.999), "eps": 1e-8}),
            (Adam(**ADAPTIVE), torch.optim.Adam, {**ADAPTIVE, "betas": (0.8, 0.95)}),
            (Adam(), torch.optim.Adam, {"weight_decay": 0.0}),
            (
                SGD(momentum=0.5, nesterov=True, weight_decay=0.3),
                torch.optim.SGD,
                {"momentum": 0.5, "nesterov": True, "weight_decay": 0.3},
            ),
            (SGD(), torch.optim.SGD, {"momentum": 0.9, "nesterov": False, "weight_decay": 0.0}),
            (RMSprop(), torch.optim.RMSprop, {"alpha": 0.99, "momentum": 0.0, "weight_decay": 0.0, "eps": 1e-8}),
            (
                RMSprop(alpha=0.9, momentum=0.5, weight_decay=0.1, eps=1e-3),
                torch.optim.RMSprop,
                {"alpha": 0.9, "momentum": 0.5, "weight_decay": 0.1, "eps": 1e-3, "centered": False},
            ),
        ],
        ids=lambda value: None if isinstance(value, dict) else getattr(value, "name", getattr(value, "__name__", "")),
    )
    def test_arguments_reach_every_group(self, network, config, kind, arguments):
        optimizer = build_optimizer(config, network)
        assert type(optimizer) is kind
        for group in optimizer.param_groups:
            assert {name: group[name] for name in arguments} == arguments

    def test_backbone_and_heads_are_a_group_each_and_nothing_is_left_out(self, network):
        groups = [[id(p) for p in group["params"]] for group in build_optimizer(AdamW(), network).param_groups]
        assert groups == [[id(p) for p in part.parameters()] for part in (network.backbone, network.heads)]
        assert sorted([*groups[0], *groups[1]]) == sorted(id(p) for p in network.parameters())

    def test_the_backbone_has_a_learning_rate_relative_to_the_heads(self, network):
        optimizer = build_optimizer(SGD(lr=0.05, backbone_lr_factor=0.1), network)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.005, 0.05])

    @pytest.mark.parametrize("config", [AdamW(backbone_lr_factor=0.0), SGD(backbone_lr_factor=0.0)])
    def test_a_backbone_of_learning_rate_0_does_not_move(self, network, config):
        before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
        optimizer = build_optimizer(config, network)
        network(torch.rand(4, 3, 8, 8)).square().sum().backward()
        optimizer.step()
        for name, parameter in network.named_parameters():
            assert torch.equal(parameter, before[name]) == name.startswith("backbone")

    def test_rmsprop_takes_the_step_of_its_formula(self, network):
        before = [parameter.detach().clone() for parameter in network.parameters()]
        optimizer = build_optimizer(RMSprop(lr=0.1, alpha=0.9, eps=1e-3), network)
        for parameter in network.parameters():
            parameter.grad = torch.full_like(parameter, 2.0)
        optimizer.step()
        step = 0.1 * 2 / (math.sqrt(0.1 * 2**2) + 1e-3)
        for old, new in zip(before, network.parameters(), strict=True):
            torch.testing.assert_close(new.detach(), old - step)

    def test_groups_have_names(self, network):
        assert [group["name"] for group in build_optimizer(AdamW(), network).param_groups] == ["backbone", "heads"]

    def test_a_frozen_backbone_is_left_out(self, network):
        network.freeze_backbone()
        (group,) = build_optimizer(AdamW(lr=0.1, backbone_lr_factor=0.1), network).param_groups
        assert (group["name"], group["lr"]) == ("heads", 0.1)
        assert [id(p) for p in group["params"]] == [id(p) for p in network.heads.parameters()]

    def test_adapters_of_a_frozen_backbone_learn_as_a_backbone(self, network):
        network.freeze_backbone()
        count = add_lora(network.backbone, r=2, alpha=4.0, dropout=0.0)
        backbone, heads = build_optimizer(AdamW(lr=0.1, backbone_lr_factor=0.1), network).param_groups
        assert (backbone["name"], backbone["lr"]) == ("backbone", pytest.approx(0.01))
        assert len(backbone["params"]) == 2 * count
        assert [id(p) for p in heads["params"]] == [id(p) for p in network.heads.parameters()]

    def test_a_network_in_which_nothing_learns_is_refused(self, network):
        network.requires_grad_(False)
        with pytest.raises(
            ConfigError, match="optimizer: got a network without parameters that learn, expected a head"
        ):
            build_optimizer(AdamW(), network)


FUSED = [AdamW(lr=0.01), Adam(lr=0.01, weight_decay=0.1), SGD(lr=0.01, nesterov=True, weight_decay=0.1)]


class TestFused:
    """One kernel makes a whole step where there is one; it must be the step of the others."""

    def learn(self, network, optimizer):
        generator = torch.Generator().manual_seed(0)
        for _ in range(5):
            for parameter in network.parameters():
                values = torch.randn(parameter.shape, generator=generator)
                parameter.grad = torch.empty_like(parameter).copy_(values)  # lies in memory as the parameter does
            optimizer.step()
        return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])

    @pytest.mark.parametrize("config", FUSED, ids=lambda config: config.name)
    def test_steps_are_those_of_the_loop_and_the_same_bytes_in_every_run(self, network, config):
        found = []
        for fused in (True, True, False):
            copied = copy.deepcopy(network)
            optimizer = build_optimizer(config, copied)
            for group in optimizer.param_groups:
                assert group["fused"]
                group.update(fused=fused, foreach=False)
            found.append(self.learn(copied, optimizer))
        assert torch.equal(found[0], found[1])
        torch.testing.assert_close(found[0], found[2])

    @pytest.mark.parametrize("config", FUSED, ids=lambda config: config.name)
    def test_a_weight_that_is_part_of_a_larger_tensor_is_stepped_right(self, network, config):
        found = []
        for part in (torch.ones(5, 12)[:, :8], torch.ones(5, 8)):
            copied = copy.deepcopy(network)
            copied.heads[0].weight = torch.nn.Parameter(part)
            found.append(self.learn(copied, build_optimizer(config, copied)))
        torch.testing.assert_close(*found)

    def test_rmsprop_has_no_such_kernel(self, network):
        assert "fused" not in build_optimizer(RMSprop(), network).defaults

    def test_weights_on_a_device_without_such_a_kernel_are_stepped_as_ever(self, network):
        groups = build_optimizer(AdamW(), network.to("meta")).param_groups
        assert not any(group["fused"] for group in groups)

    @pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
    def test_gradients_are_clipped_in_mixed_precision(self, network, precision):
        from lightning.pytorch.plugins.precision import MixedPrecision

        scaler = torch.amp.GradScaler("cpu") if precision == "16-mixed" else None
        plugin = MixedPrecision(precision, "cpu", scaler)
        optimizer = build_optimizer(SGD(lr=1.0, momentum=0.0), network)
        before = torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
        loss = network(torch.rand(8, 3, 8, 8)).square().sum()
        (scaler.scale(loss) if scaler else loss).backward()
        if scaler:
            scaler.unscale_(optimizer)
        plugin.clip_gradients(optimizer, 0.5)
        scaler.step(optimizer) if scaler else optimizer.step()
        after = torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
        assert (after - before).norm().item() == pytest.approx(0.5, rel=1e-3)


class TestSchedules:
    def test_without_a_schedule_the_rate_stays(self, rates, network):
        assert build_scheduler(Constant(), build_optimizer(SGD(), network), STEPS, EPOCHS) is None
        assert rates(Constant()) == [1.0] * TOTAL

    @pytest.mark.parametrize(
        ("schedule", "expected"),
        [
            (Cosine(), lambda k: half_cosine(k, TOTAL)),
            (Cosine(eta_min=0.1), lambda k: half_cosine(k, TOTAL, 0.1)),
            (CosineRestart(period_epochs=1.0), lambda k: half_cosine(k % 4, 4)),
            (CosineRestart(period_epochs=0.5, eta_min=0.2), lambda k: half_cosine(k % 2, 2, 0.2)),
            (
                CosineRestart(period_epochs=1.0, period_factor=2),
                lambda k: (
                    half_cosine(k, 4) if k < 4 else half_cosine((k - 4) % 8, 8) if k < 12 else half_cosine(k - 12, 16)
                ),
            ),
            (Step(step_epochs=1, gamma=0.5), lambda k: 0.5 ** (k // 4)),
            (Step(step_epochs=3, gamma=0.1), lambda k: 1.0 if k < 12 else 0.1),
            (Exponential(gamma=0.5), lambda k: 0.5 ** (k / 4)),
        ],
        ids=lambda value: getattr(value, "name", ""),
    )
    def test_every_step_has_the_rate_of_the_formula(self, rates, schedule, expected):
        assert rates(schedule) == pytest.approx([expected(k) for k in range(TOTAL)])

    def test_one_cycle_rises_to_the_learning_rate_and_falls_far_below(self, rates):
        found = rates(OneCycle(pct_start=0.25, div_factor=10.0, final_div_factor=100.0))
        assert [found[k] for k in (0, 3, 9, 15)] == pytest.approx([0.1, 1.0, (1 + 0.001) / 2, 0.001])
        assert found[:4] == sorted(found[:4])
        assert found[3:] == sorted(found[3:], reverse=True)

    @pytest.mark.parametrize("pct_start", [0.1, 0.25, 0.5, 0.9])
    @pytest.mark.parametrize("total", [1, 2, 4, 10])
    def test_one_cycle_takes_trainings_of_a_few_steps(self, rates, pct_start, total):
        found = rates(OneCycle(pct_start=pct_start), steps=total, epochs=1)
        assert all(0 < rate <= 1 for rate in found)
        assert total < 3 or max(found) > 0.4

    @pytest.mark.parametrize("schedule", [Cosine(), CosineRestart(), OneCycle(), Step(), Exponential()])
    def test_the_backbone_follows_the_head_at_its_share(self, rates, schedule):
        assert rates(schedule, group=0) == pytest.approx([rate / 2 for rate in rates(schedule)])


class TestWarmup:
    @pytest.mark.parametrize(
        ("schedule", "rest"),
        [
            (Constant(warmup_epochs=1.0), lambda k: 1.0),
            (Cosine(warmup_epochs=1.0), lambda k: half_cosine(k, 12)),
            (CosineRestart(warmup_epochs=1.0, period_epochs=1.0), lambda k: half_cosine(k % 4, 4)),
            (Step(warmup_epochs=1.0, step_epochs=2), lambda k: 0.1 ** (k // 8)),
            (Exponential(warmup_epochs=1.0, gamma=0.5), lambda k: 0.5 ** (k / 4)),
        ],
        ids=lambda value: getattr(value, "name", ""),
    )
    def test_a_linear_rise_comes_before_the_schedule(self, rates, schedule, rest):
        assert rates(schedule) == pytest.approx([*RISE, *map(rest, range(12))])

    def test_a_rise_may_take_part_of_an_epoch(self, rates):
        assert rates(Constant(warmup_epochs=0.5))[:4] == pytest.approx([0.01, 0.505, 1.0, 1.0])

    def test_a_rise_longer_than_training_is_cut_off(self, rates):
        assert rates(Cosine(warmup_epochs=8.0)) == pytest.approx([0.01 + 0.99 * k / 32 for k in range(TOTAL)])


class TestPlateau:
    LOSSES = (5.0, 4.0, 4.0, 4.0, 3.0, 3.5, 3.0, 3.0, 3.0, 3.0)

    @pytest.fixture
    def start(self, network):
        """Return an optimiser with rates 0.5 and 1.0, and its schedule."""

        def start(**keys):
            optimizer = build_optimizer(SGD(lr=1.0, backbone_lr_factor=0.5), network)
            return optimizer, build_scheduler(Plateau(**keys), optimizer, STEPS, EPOCHS)

        return start

    def run(self, optimizer, scheduler, losses):
        """Return the rates of backbone and head in each epoch, and after the last one."""
        found = [[group["lr"] for group in optimizer.param_groups]]
        for loss in losses:
            scheduler.step(loss)
            found.append([group["lr"] for group in optimizer.param_groups])
        assert scheduler.get_last_lr() == found[-1]
        return np.array(found)

    def test_lightning_knows_it(self, start):
        assert isinstance(start()[1], torch.optim.lr_scheduler.ReduceLROnPlateau)

    def test_the_rate_drops_when_the_loss_has_not_fallen_for_longer_than_patience(self, start):
        found = self.run(*start(factor=0.1, patience=1), self.LOSSES)
        #         losses: 5 4 4, 4 drops, 3 falls, 3.5, 3 drops, 3, 3 drops, 3
        expected = [1.0, 1.0, 1.0, 1.0, 0.1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
        assert found[:, 1] == pytest.approx(expected)
        assert found[:, 0] == pytest.approx(np.array(expected) / 2)

    def test_the_rate_never_goes_below_the_lowest(self, start):
        found = self.run(*start(factor=0.1, patience=0, min_lr=0.03), [1.0] * 6)
        assert found[:, 1] == pytest.approx([1.0, 1.0, 0.1, 0.03, 0.03, 0.03, 0.03])
        assert found[:, 0] == pytest.approx([0.5, 0.5, 0.05, 0.03, 0.03, 0.03, 0.03])

    @pytest.mark.parametrize("level", [-2.0, 0.0, 2.0])
    def test_a_loss_of_any_sign_may_stop_falling(self, start, level):
        assert self.run(*start(factor=0.5, patience=1), [level] * 3)[-1, 1] == 0.5
        assert self.run(*start(factor=0.5, patience=1), [level - 1e-6 * k for k in range(5)])[-1, 1] == 1.0

    @pytest.mark.parametrize(("epochs", "rise"), [(1.0, 1), (2.4, 2), (3.6, 4), (0.4, 0)])
    def test_a_linear_rise_of_whole_epochs_comes_first(self, start, epochs, rise):
        found = self.run(*start(warmup_epochs=epochs, factor=0.1, patience=1), [9.0] * rise + list(self.LOSSES))
        expected = [0.01 + 0.99 * k / rise for k in range(rise)]
        plain = self.run(*start(factor=0.1, patience=1), self.LOSSES)
        assert found[:, 1] == pytest.approx([*expected, *plain[:, 1]])
        assert (found[rise:] == plain).all()

    @pytest.mark.parametrize("stop", range(9))
    def test_a_saved_state_goes_on_exactly(self, start, tmp_path, stop):
        keys = {"warmup_epochs": 3.0, "factor": 0.3, "patience": 1}
        losses = [7.0, 8.0, 9.0, *self.LOSSES]
        whole = self.run(*start(**keys), losses)
        optimizer, scheduler = start(**keys)
        before = self.run(optimizer, scheduler, losses[:stop])
        write_state(tmp_path, "key", {"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()})
        state = read_state(tmp_path, "key")
        optimizer, scheduler = start(**keys)
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
        after = self.run(optimizer, scheduler, losses[stop:])
        assert (np.concatenate([before, after[1:]]) == whole).all()
