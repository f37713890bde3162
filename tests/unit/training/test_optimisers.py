"""Optimisers with a learning rate for backbone and head each, and schedules step by step."""

import math

import pytest
import torch

from foldwise.config.pipeline import (
    SGD,
    Adam,
    AdamW,
    Constant,
    Cosine,
    CosineRestart,
    Exponential,
    OneCycle,
    ResNet,
    Step,
)
from foldwise.models.network import build_network
from foldwise.training.optimisers import build_optimizer, build_scheduler

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
