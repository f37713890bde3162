"""Networks: a backbone and its heads, what is frozen, and which images it takes."""

import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

from foldwise.config.architectures import SEGMENTERS, Arch
from foldwise.errors import ConfigError
from foldwise.models.lora import add_lora
from foldwise.models.network import Network, build_network, check_size, count_outputs, count_parameters

TINY = {"block_inplanes": [4, 4, 8, 8], "conv1_t_size": 3, "conv1_t_stride": 1, "no_max_pool": True}
UNET = {"channels": [8, 16, 32], "num_res_units": 1}


def arch_of(name="resnet10", **keys):
    return TypeAdapter(Arch).validate_python({"name": name, **keys})


def build(name="resnet10", bands=3, outputs=(5, 2), kinds=None, size=None, **keys):
    return build_network(arch_of(name, **keys), bands, list(outputs), kinds, size)


def tiny(**keys):
    return build(**{**TINY, **keys})


def images(count=4, side=8):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def test_parameters_of_backbone_and_heads_are_counted_without_frozen_ones():
    network = Network(nn.Linear(4, 3), 3, [2, 5])
    assert count_parameters(network) == (4 * 3 + 3) + (3 * 2 + 2) + (3 * 5 + 5)
    network.freeze_backbone()
    assert count_parameters(network) == (3 * 2 + 2) + (3 * 5 + 5)


def test_heads_share_the_backbone_and_nothing_else():
    network = tiny().eval()
    before = network(images()), network(images(), head=1)
    with torch.no_grad():
        network.heads[1].bias += 1
    assert torch.equal(network(images()), before[0])
    torch.testing.assert_close(network(images(), head=1), before[1] + 1)


def test_weights_are_in_channels_last_order():
    assert tiny().backbone.layer1[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)


class TestRandomWeights:
    def weights(self, seed, **keys):
        torch.manual_seed(seed)
        return torch.cat([parameter.flatten() for parameter in tiny(**keys).parameters()])

    def test_the_seed_decides_them(self):
        assert torch.equal(self.weights(1), self.weights(1))
        assert not torch.equal(self.weights(1), self.weights(2))

    def test_they_do_not_depend_on_the_size_of_images(self):
        assert torch.equal(self.weights(1), self.weights(1, size=(16, 24)))

    def test_the_backbone_comes_first_and_heads_in_order(self):
        torch.manual_seed(1)
        plain = tiny(outputs=(5,))
        torch.manual_seed(1)
        more = tiny(outputs=(5, 2), kinds=["classification", "regression"])
        same = {name: torch.equal(tensor, more.state_dict()[name]) for name, tensor in plain.state_dict().items()}
        assert all(same.values())


class TestDropout:
    def test_features_are_dropped_while_training_and_only_then(self):
        network = Network(nn.Flatten(), 1000, [1], dropout=0.25)
        nn.init.ones_(network.heads[0].weight)
        nn.init.zeros_(network.heads[0].bias)
        ones = torch.ones(50, 1000)
        torch.manual_seed(0)
        kept = network.train()(ones) / 1000 * 0.75
        assert kept.std() > 0
        assert kept.mean().item() == pytest.approx(0.75, abs=0.01)
        assert torch.equal(network.eval()(ones), torch.full((50, 1), 1000.0))

    def test_the_architecture_decides_how_many(self):
        assert tiny(dropout=0.3).dropout.p == 0.3
        assert tiny().dropout.p == 0.0


class TestFreezing:
    def network(self):
        torch.manual_seed(0)
        network = tiny()
        network.freeze_backbone()
        return network

    def test_a_network_is_not_frozen_at_first(self):
        assert not tiny().frozen
        assert self.network().frozen

    def test_weights_and_statistics_of_the_backbone_stay_and_heads_learn(self):
        network = self.network()
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        optimiser = torch.optim.SGD([weight for weight in network.parameters() if weight.requires_grad], lr=1.0)
        for _ in range(3):
            network.train()(images()).square().mean().backward()
            optimiser.step()
        changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
        assert changed == {"heads.0.weight", "heads.0.bias"}

    def test_it_stays_in_evaluation_whenever_the_network_trains(self):
        network = self.network()
        for mode in (True, False, True):
            network.train(mode)
            assert {module.training for module in network.backbone.modules()} == {False}
            assert network.training == network.heads.training == network.dropout.training == mode

    def test_it_answers_as_in_evaluation(self):
        network = self.network()
        assert torch.equal(network.train()(images()), network.eval()(images()))

    def test_nothing_is_kept_for_gradients_of_the_backbone(self):
        network = self.network()
        assert not network.extract(images()).requires_grad
        assert network(images()).requires_grad

    def test_adapters_within_it_learn_and_drop_while_training(self):
        network = self.network()
        add_lora(network.backbone, r=2, alpha=2.0, dropout=0.5)
        network.train()
        assert network.backbone.conv1.dropout.training
        assert not network.backbone.bn1.training
        for _ in range(2):  # the update starts at zero
            network(images()).square().mean().backward()
            with torch.no_grad():
                network.backbone.conv1.up.weight -= network.backbone.conv1.up.weight.grad
        assert network.backbone.conv1.down.weight.grad.abs().sum() > 0
        assert not torch.equal(network(images()), network(images()))
        assert torch.equal(network.eval()(images()), network(images()))


class TestHeadsOnMaps:
    def test_a_head_of_segmentation_sees_every_pixel_and_others_the_average(self):
        network = build("unet", outputs=(3, 5), kinds=["segmentation", "regression"], **UNET).eval()
        with torch.inference_mode():
            features = network.backbone(images(2, 16))
            assert network(images(2, 16)).shape == (2, 3, 16, 16)
            torch.testing.assert_close(network(images(2, 16), head=1), network.heads[1](features.mean(dim=(2, 3))))
        assert [tuple(weight.shape) for weight in network.heads[0].parameters()] == [(3, 8, 1, 1), (3,)]

    @pytest.mark.parametrize("name", ["resnet10", "densenet121", "efficientnet-b0", "vit"])
    def test_segmentation_needs_a_map_of_features(self, name):
        with pytest.raises(ConfigError) as caught:
            build(name, outputs=(2,), kinds=["segmentation"])
        expected = f"one of {', '.join(SEGMENTERS)} for task type segmentation"
        assert caught.value.message == f"arch.name: got '{name}', expected {expected}."


class TestSizes:
    def check(self, name, shape, built=None, **keys):
        arch = arch_of(name, **keys)
        check_size(build_network(arch, built or shape[2], [2], size=shape[:2] if name == "vit" else None), arch, shape)

    @pytest.mark.parametrize(
        ("name", "keys", "shape"),
        [
            ("resnet10", TINY, (1, 1, 3)),
            ("resnet10", TINY, (7, 9, 1)),
            ("densenet121", {"growth_rate": 2, "init_features": 4}, (29, 32, 3)),
            ("vit", {"patch_size": 8, "hidden_size": 12}, (16, 24, 3)),
            ("unet", UNET, (4, 12, 3)),
        ],
    )
    def test_images_that_fit(self, name, keys, shape):
        self.check(name, shape, **keys)

    @pytest.mark.parametrize(
        ("name", "keys", "shape", "expected"),
        [
            ("unet", UNET, (16, 18, 3), "16 x 18 pixels, expected a multiple of 4 for unet."),
            ("unet", {}, (12, 8, 3), "12 x 8 pixels, expected a multiple of 8 for unet."),
            ("segresnet", {}, (8, 9, 3), "8 x 9 pixels, expected a multiple of 8 for segresnet."),
            ("basicunet", {}, (8, 8, 3), "8 x 8 pixels, expected a multiple of 16 for basicunet."),
            ("dynunet", {"filters": [4, 8, 8]}, (6, 4, 3), "6 x 4 pixels, expected a multiple of 4 for dynunet."),
            (
                "densenet121",
                {},
                (8, 8, 3),
                "8 x 8 pixels, expected images large enough for densenet121, with sides of at least 29 pixels.",
            ),
        ],
    )
    def test_images_that_do_not_fit(self, name, keys, shape, expected):
        with pytest.raises(ConfigError) as caught:
            self.check(name, shape, **keys)
        assert caught.value.message == f"preprocessing.size: got {expected}"

    def test_a_map_too_small_for_its_normalisation_is_told(self):
        with pytest.raises(
            ConfigError, match=r"4 x 4 pixels, expected images large enough for unet\. Expected more than"
        ):
            self.check("unet", (4, 4, 3), norm="instance", **UNET)

    def test_a_network_made_for_another_size_is_told(self):
        arch = arch_of("vit", patch_size=8, hidden_size=12)
        network = build_network(arch, 3, [2], size=(16, 16))
        with pytest.raises(ConfigError, match=r"preprocessing\.size: got 16 x 24 pixels"):
            check_size(network, arch, (16, 24, 3))

    def test_another_number_of_channels_is_told(self):
        with pytest.raises(ConfigError) as caught:
            self.check("resnet10", (8, 8, 1), built=3, **TINY)
        message = caught.value.message
        assert message.startswith("preprocessing.steps: got images of 1 channels, expected 3 for resnet10.")

    def test_the_network_is_as_before(self):
        network = tiny()
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        check_size(network, arch_of(), (8, 8, 3))
        assert network.training
        assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())

    def test_a_vision_transformer_cannot_be_built_for_parts_of_patches(self):
        with pytest.raises(ConfigError, match="20 x 32 pixels, expected a multiple of 16 for vit"):
            build("vit", size=(20, 32))

    @pytest.mark.parametrize("keys", [{"patch_size": 48}, {"patch_size": 100}])
    def test_without_a_size_one_is_taken_that_fits(self, keys):
        assert build("vit", hidden_size=12, num_layers=1, mlp_dim=8, **keys).heads[0].in_features == 12


@pytest.mark.parametrize(
    ("kind", "classes", "outputs"),
    [("classification", "abc", 3), ("multilabel", "a", 1), ("segmentation", "ab", 2), ("regression", "", 1)],
)
def test_outputs_are_one_a_class_or_the_value(kind, classes, outputs):
    assert count_outputs(kind, list(classes)) == outputs
