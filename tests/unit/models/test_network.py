"""Networks: every architecture, its features, its heads."""

import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

from foldwise.config.pipeline import Arch, DenseNet, EfficientNet, ResNet
from foldwise.models.network import Network, build_network, count_parameters

FEATURES = {
    "resnet10": 512, "resnet18": 512, "resnet34": 512, "resnet50": 2048, "resnet101": 2048, "resnet152": 2048,
    "densenet121": 1024, "densenet169": 1664, "densenet201": 1920,
    "efficientnet-b0": 1280, "efficientnet-b1": 1280, "efficientnet-b2": 1408, "efficientnet-b3": 1536,
    "efficientnet-b4": 1792, "efficientnet-b5": 2048, "efficientnet-b6": 2304, "efficientnet-b7": 2560,
}  # fmt: skip
# Parameters without the head, as published; MONAI's shortcut convolutions have a bias of their own.
PUBLISHED = {
    "resnet18": 11_176_512 + 896,
    "resnet50": 23_508_032 + 3840,
    "densenet121": 6_953_856,
    "efficientnet-b0": 4_007_548,
}


def build(name="resnet10", channels=3, outputs=(5, 2), **keys):
    arch = TypeAdapter(Arch).validate_python({"name": name, **keys})
    return build_network(arch, channels, list(outputs))


def tiny(**keys):
    return build(block_inplanes=[4, 4, 8, 8], conv1_t_size=3, conv1_t_stride=1, no_max_pool=True, **keys)


def names_of(section):
    return section.model_fields["name"].annotation.__args__


def test_every_architecture_is_tested_here():
    assert [name for section in (ResNet, DenseNet, EfficientNet) for name in names_of(section)] == list(FEATURES)


@pytest.mark.parametrize(("name", "features"), FEATURES.items(), ids=FEATURES)
def test_every_architecture_gives_logits_of_each_head(name, features):
    network = build(name).eval()
    assert [head.in_features for head in network.heads] == [features, features]
    with torch.inference_mode():
        images = torch.rand(2, 3, 32, 32)
        assert network.backbone(images).shape == (2, features)
        assert network(images).shape == (2, 5)
        assert network(images, head=1).shape == (2, 2)
        assert torch.isfinite(network(images)).all()


@pytest.mark.parametrize(("name", "parameters"), PUBLISHED.items(), ids=PUBLISHED)
def test_architectures_are_the_published_ones(name, parameters):
    assert count_parameters(build(name).backbone) == parameters


def test_parameters_of_backbone_and_heads_are_counted_without_frozen_ones():
    network = Network(nn.Linear(4, 3), 3, [2, 5])
    assert count_parameters(network) == (4 * 3 + 3) + (3 * 2 + 2) + (3 * 5 + 5)
    network.backbone.requires_grad_(False)
    assert count_parameters(network) == (3 * 2 + 2) + (3 * 5 + 5)


def test_arguments_of_a_family_reach_the_network():
    network = tiny()
    assert network.heads[0].in_features == 8
    assert network.backbone.conv1.kernel_size == (3, 3)
    assert network.backbone.conv1.stride == (1, 1)
    assert build("densenet121", growth_rate=4, init_features=8).heads[0].in_features < 200


@pytest.mark.parametrize("channels", [1, 4])
def test_images_may_have_any_number_of_channels(channels):
    assert tiny(channels=channels).eval()(torch.rand(1, channels, 8, 8)).shape == (1, 5)


def test_heads_share_the_backbone_and_nothing_else():
    network = tiny().eval()
    images = torch.rand(2, 3, 8, 8)
    before = network(images), network(images, head=1)
    with torch.no_grad():
        network.heads[1].bias += 1
    assert torch.equal(network(images), before[0])
    torch.testing.assert_close(network(images, head=1), before[1] + 1)


def test_weights_and_outputs_are_in_channels_last_order():
    network = tiny()
    weight = network.backbone.layer1[0].conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_the_seed_decides_the_weights():
    def weights(seed):
        torch.manual_seed(seed)
        return torch.cat([parameter.flatten() for parameter in tiny().parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


class TestDropout:
    def test_features_are_dropped_while_training_and_only_then(self):
        network = Network(nn.Flatten(), 1000, [1], dropout=0.25)
        nn.init.ones_(network.heads[0].weight)
        nn.init.zeros_(network.heads[0].bias)
        images = torch.ones(50, 1000)
        torch.manual_seed(0)
        kept = network.train()(images) / 1000 * 0.75
        assert kept.std() > 0
        assert kept.mean().item() == pytest.approx(0.75, abs=0.01)
        assert torch.equal(network.eval()(images), torch.full((50, 1), 1000.0))

    def test_the_architecture_decides_how_many(self):
        assert tiny(dropout=0.3).dropout.p == 0.3
        assert tiny().dropout.p == 0.0

    @pytest.mark.parametrize("name", ["resnet18", "densenet121", "efficientnet-b0"])
    def test_no_architecture_drops_features_of_its_own(self, name):
        dropouts = [module for module in build(name).modules() if isinstance(module, nn.Dropout)]
        assert [module.p for module in dropouts] == [0.0]
