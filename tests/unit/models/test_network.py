"""Networks: every architecture, its features, its heads."""

import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

from foldwise.config.architectures import SEGMENTERS, Arch, DenseNet, EfficientNet, ResNet
from foldwise.errors import ConfigError
from foldwise.models.network import Network, build_network, count_outputs, count_parameters, side_step

FEATURES = {
    "resnet10": 512, "resnet18": 512, "resnet34": 512, "resnet50": 2048, "resnet101": 2048, "resnet152": 2048,
    "densenet121": 1024, "densenet169": 1664, "densenet201": 1920,
    "efficientnet-b0": 1280, "efficientnet-b1": 1280, "efficientnet-b2": 1408, "efficientnet-b3": 1536,
    "efficientnet-b4": 1792, "efficientnet-b5": 2048, "efficientnet-b6": 2304, "efficientnet-b7": 2560,
}  # fmt: skip
MAPS = {"unet": {"channels": [8, 16, 32], "num_res_units": 1}, "segresnet": {"init_filters": 8}}
# Parameters without the head, as published; MONAI's shortcut convolutions have a bias of their own.
PUBLISHED = {
    "resnet18": 11_176_512 + 896,
    "resnet50": 23_508_032 + 3840,
    "densenet121": 6_953_856,
    "efficientnet-b0": 4_007_548,
}


def arch_of(name="resnet10", **keys):
    return TypeAdapter(Arch).validate_python({"name": name, **keys})


def build(name="resnet10", bands=3, outputs=(5, 2), kinds=None, **keys):
    return build_network(arch_of(name, **keys), bands, list(outputs), kinds)


def tiny(**keys):
    return build(block_inplanes=[4, 4, 8, 8], conv1_t_size=3, conv1_t_stride=1, no_max_pool=True, **keys)


def names_of(section):
    return section.model_fields["name"].annotation.__args__


def test_every_architecture_is_tested_here():
    sections = Arch.__args__[0].__args__
    assert sections[:3] == (ResNet, DenseNet, EfficientNet)
    assert [name for section in sections[:3] for name in names_of(section)] == list(FEATURES)
    assert tuple(name for section in sections[3:] for name in names_of(section)) == SEGMENTERS == tuple(MAPS)


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
    assert tiny(bands=channels).eval()(torch.rand(1, channels, 8, 8)).shape == (1, 5)


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


@pytest.mark.parametrize("name", MAPS)
class TestMaps:
    def test_segmentation_has_logits_for_every_pixel(self, name):
        network = build(name, outputs=(3,), kinds=["segmentation"], **MAPS[name]).eval()
        with torch.inference_mode():
            images = torch.rand(2, 3, 16, 24)
            assert network(images).shape == (2, 3, 16, 24)
            assert network(images).is_contiguous(memory_format=torch.channels_last)
            assert network.backbone(images).shape == (2, 8, 16, 24)
        assert [tuple(weight.shape) for weight in network.heads.parameters()] == [(3, 8, 1, 1), (3,)]

    def test_other_heads_average_the_map(self, name):
        network = build(name, outputs=(3, 5), kinds=["segmentation", "regression"], **MAPS[name]).eval()
        with torch.inference_mode():
            images = torch.rand(2, 3, 16, 16)
            assert network(images).shape == (2, 3, 16, 16)
            features = network.backbone(images).mean(dim=(2, 3))
            torch.testing.assert_close(network(images, head=1), network.heads[1](features))

    def test_the_average_of_the_map_tells_images_apart(self, name):
        network = build(name, outputs=(4,), **MAPS[name]).train()
        images = torch.rand(8, 1, 1, 1).expand(8, 3, 16, 16)
        assert network(images).std(dim=0).min() > 1e-3

    def test_pixels_depend_on_their_surroundings_near_and_far(self, name):
        network = build(name, outputs=(2,), kinds=["segmentation"], **MAPS[name]).eval()
        images = torch.zeros(2, 3, 32, 32)
        images[1, :, 10:14, 10:14] = 1
        with torch.inference_mode():
            change = (network(images[1:]) - network(images[:1])).abs().sum(dim=1)[0]
        assert change[12, 12] > 0
        assert change[12, 20] > 0

    def test_sides_must_be_multiples_of_the_step(self, name):
        step = side_step(arch_of(name, **MAPS[name]))
        network = build(name, **MAPS[name]).eval()
        with torch.inference_mode():
            assert network(torch.rand(1, 3, 2 * step, 3 * step)).shape == (1, 5)
            with pytest.raises(RuntimeError):
                network(torch.rand(1, 3, 2 * step, 2 * step + 1))


@pytest.mark.parametrize(
    ("name", "keys", "step"),
    [("unet", {}, 8), ("unet", {"channels": [4, 8]}, 2), ("segresnet", {}, 8), ("resnet18", {}, 1)],
)
def test_the_step_of_sides_comes_from_the_levels(name, keys, step):
    assert side_step(arch_of(name, **keys)) == step


def test_arguments_of_encoder_decoders_reach_the_network():
    assert build("unet").heads[0].in_features == 16
    small, large = (build("unet", num_res_units=count) for count in (0, 3))
    assert count_parameters(small) < count_parameters(large)
    assert build("segresnet", init_filters=24).heads[0].in_features == 24


@pytest.mark.parametrize("name", ["resnet10", "densenet121", "efficientnet-b0"])
def test_segmentation_needs_a_map_of_features(name):
    with pytest.raises(ConfigError) as caught:
        build(name, outputs=(2,), kinds=["segmentation"])
    assert caught.value.message == (
        f"arch.name: got '{name}', expected one of unet, segresnet for task type segmentation."
    )


@pytest.mark.parametrize(
    ("kind", "classes", "outputs"),
    [("classification", "abc", 3), ("multilabel", "a", 1), ("segmentation", "ab", 2), ("regression", "", 1)],
)
def test_outputs_are_one_a_class_or_the_value(kind, classes, outputs):
    assert count_outputs(kind, list(classes)) == outputs
