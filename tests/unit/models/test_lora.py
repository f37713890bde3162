"""Low-rank adaptation: nothing changes at first, only factors learn, and they merge into the weights."""

import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

from foldwise.config.architectures import Arch
from foldwise.errors import ConfigError
from foldwise.models.lora import Adapted, add_lora, merged_weights
from foldwise.models.network import Network, build_network

TINY = {"block_inplanes": [4, 4, 8, 8], "conv1_t_size": 3, "conv1_t_stride": 1, "no_max_pool": True}
RESNET_LAYERS = 8 + 1 + 3  # two a block, the first, and the shortcuts that change size


class Attention(nn.Module):
    """A block of a vision transformer: patches, attention by one linear layer, a multilayer perceptron."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, kernel_size=4, stride=4)
        self.qkv = nn.Linear(8, 24, bias=False)
        self.project = nn.Linear(8, 8)
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))

    def forward(self, images):
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        query, key, value = self.qkv(tokens).chunk(3, dim=-1)
        tokens = tokens + self.project(nn.functional.scaled_dot_product_attention(query, key, value))
        return (tokens + self.mlp(tokens)).mean(dim=1)


class Encoder(nn.Module):
    """Torch's own transformer, which takes weights from its layers without calling them."""

    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(12, 2, 16, dropout=0.0, batch_first=True)

    def forward(self, images):
        return self.layer(images.flatten(2).transpose(1, 2).reshape(len(images), -1, 12)).mean(dim=1)


class OwnConvolution(nn.Conv2d):
    def forward(self, inputs):
        return self._conv_forward(inputs, self.weight / self.weight.std(), self.bias)


class OwnLinear(nn.Linear):
    def forward(self, inputs):
        return super().forward(inputs) * 2


def resnet():
    arch = TypeAdapter(Arch).validate_python({"name": "resnet10", **TINY})
    return build_network(arch, 3, [5, 2])


def convolutions():
    """Every kind of window; the last convolution is in groups."""
    layers = (
        nn.Conv2d(3, 6, (3, 5), stride=(2, 1), padding=(1, 2), dilation=(1, 1)),
        nn.Conv2d(6, 6, 3, padding="same", padding_mode="reflect", bias=False),
        nn.Conv2d(6, 8, 3, dilation=2),
        nn.Conv2d(8, 8, 1, groups=2),
    )
    return Network(nn.Sequential(*layers).to(memory_format=torch.channels_last), 8, [2])


NETWORKS = {
    "resnet": (resnet, RESNET_LAYERS),
    "convolutions": (convolutions, 3),
    "linear": (lambda: Network(nn.Sequential(nn.Flatten(), nn.Linear(768, 6)), 6, [2]), 1),
    "attention": (lambda: Network(Attention(), 8, [2]), 5),
    "encoder": (lambda: Network(Encoder(), 12, [2]), 3),
}
EVERY = pytest.mark.parametrize(("build", "layers"), NETWORKS.values(), ids=NETWORKS)


@pytest.fixture
def images():
    return torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def adapted(build, r=3, alpha=6.0, dropout=0.0, layers=None):
    """Build a network with adapters; return a copy without them, the network, and how many layers were adapted."""
    torch.manual_seed(0)
    plain = build()
    torch.manual_seed(0)
    network = build()
    count = add_lora(network.backbone, r, alpha, dropout, layers)
    return plain, network, count


def train(network, images, steps=3):
    """Train all that learns by large steps."""
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    for step in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images + step), torch.tensor([0, 1, 0, 1])).backward()
        optimizer.step()


@EVERY
class TestEveryNetwork:
    def test_nothing_changes_before_training(self, build, layers, images):
        plain, network, count = adapted(build)
        assert count == layers
        with torch.no_grad():
            assert torch.equal(plain(images), network(images))
            torch.testing.assert_close(plain.eval()(images), network.eval()(images))

    def test_factors_and_heads_alone_learn(self, build, layers, images):
        plain, network, _ = adapted(build)
        names = {name for name, parameter in network.backbone.named_parameters() if parameter.requires_grad}
        assert len(names) == 2 * layers
        assert all(name.endswith((".down.weight", ".up.weight")) for name in names)
        frozen = {name: p.clone() for name, p in network.backbone.named_parameters() if name not in names}
        factors = {name: p.clone() for name, p in network.backbone.named_parameters() if name in names}
        train(network, images)
        parameters = dict(network.backbone.named_parameters())
        assert all(torch.equal(parameters[name], tensor) for name, tensor in frozen.items())
        assert all(not torch.equal(parameters[name], tensor) for name, tensor in factors.items())
        assert len(frozen) == len(list(plain.backbone.parameters()))
        assert all(parameter.requires_grad for parameter in network.heads.parameters())

    def test_a_plain_network_with_merged_weights_gives_the_same(self, build, layers, images):
        plain, network, _ = adapted(build)
        train(network, images)
        with torch.no_grad():
            before = plain.eval()(images)
            plain.load_state_dict(merged_weights(network))
            expected = network.eval()(images)
            torch.testing.assert_close(plain(images), expected, rtol=1e-5, atol=1e-5)
            assert (expected - before).abs().max() > 1e-3

    def test_merged_weights_have_names_order_and_shapes_of_a_network_without_adapters(self, build, layers, images):
        plain, network, _ = adapted(build)
        expected = plain.state_dict()
        merged = merged_weights(network)
        assert list(merged) == list(expected)
        for name, tensor in expected.items():
            assert torch.equal(merged[name], tensor)
            assert merged[name].dtype == tensor.dtype


def test_the_update_of_a_linear_layer_is_scaled_by_alpha_over_r():
    network = Network(nn.Sequential(nn.Linear(3, 2)), 2, [2])
    nn.init.zeros_(network.backbone[0].weight)
    add_lora(network.backbone, r=2, alpha=6.0, dropout=0.0)
    with torch.no_grad():
        network.backbone[0].down.weight.copy_(torch.tensor([[1.0, 2.0, 0.0], [9.0, 9.0, 9.0]]))
        network.backbone[0].up.weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    assert merged_weights(network)["backbone.0.weight"].tolist() == [[3.0, 6.0, 0.0], [-3.0, -6.0, 0.0]]
    assert (network.backbone(torch.ones(1, 3)) - network.backbone[0].bias).tolist()[0] == pytest.approx([9.0, -9.0])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["qkv"], ["qkv"]),
        (["qkv", "mlp"], ["qkv", "mlp.0", "mlp.2"]),
        (["mlp.2", "nowhere"], ["mlp.2"]),
        (None, ["patches", "qkv", "project", "mlp.0", "mlp.2"]),
    ],
)
def test_words_choose_layers_and_all_others_are_frozen(words, expected):
    backbone = Attention()
    assert add_lora(backbone, 2, 4.0, 0.0, words) == len(expected)
    assert [name for name, layer in backbone.named_modules() if isinstance(layer, Adapted)] == expected
    assert sum(parameter.requires_grad for parameter in backbone.parameters()) == 2 * len(expected)


def test_words_that_no_layer_has_are_an_error_that_names_layers():
    backbone = Attention()
    with pytest.raises(ConfigError) as caught:
        add_lora(backbone, 2, 4.0, 0.0, ["query"])
    assert caught.value.message == (
        "peft.lora.layers: got ['query'], "
        "expected words in the names of layers: one of patches, qkv, project, mlp.0, mlp.2."
    )
    assert all(parameter.requires_grad for parameter in backbone.parameters())


@pytest.mark.parametrize("backbone", [nn.Sequential(nn.Conv2d(4, 4, 1, groups=4), nn.BatchNorm2d(4)), nn.Linear(4, 4)])
def test_a_backbone_without_such_layers_inside_is_an_error(backbone):
    with pytest.raises(ConfigError) as caught:
        add_lora(backbone, 2, 4.0, 0.0)
    assert caught.value.message == (
        "peft.lora: got a backbone that has none, expected linear layers or convolutions without groups."
    )


@pytest.mark.parametrize("own", [OwnConvolution(3, 3, 1), OwnLinear(16, 16)])
def test_layers_that_compute_something_of_their_own_are_left_alone(own):
    backbone = nn.Sequential(own, nn.Conv2d(3, 4, 3))
    assert add_lora(backbone, 2, 4.0, 0.0) == 1
    assert backbone[0] is own
    assert not own.weight.requires_grad


def test_a_layer_that_is_used_twice_is_adapted_once():
    layer = nn.Linear(4, 4)
    network = Network(nn.Sequential(layer, nn.ReLU(), layer), 4, [2])
    names = list(network.state_dict())
    assert add_lora(network.backbone, 2, 4.0, 0.0) == 1
    assert network.backbone[0] is network.backbone[2]
    nn.init.ones_(network.backbone[0].up.weight)
    merged = merged_weights(network)
    assert list(merged) == names
    assert torch.equal(merged["backbone.0.weight"], merged["backbone.2.weight"])


def test_inputs_of_factors_are_dropped_while_training_and_only_then(images):
    plain, network, _ = adapted(NETWORKS["linear"][0], dropout=0.5)
    nn.init.ones_(network.backbone[1].up.weight)
    with torch.no_grad():
        assert not torch.equal(network.train()(images), network(images))
        assert torch.equal(network.eval()(images), network(images))
        plain.load_state_dict(merged_weights(network))
        torch.testing.assert_close(plain.eval()(images), network(images))


def test_outputs_and_factors_are_in_channels_last_order(images):
    _, network, _ = adapted(convolutions)
    layer = network.backbone[1]
    for weight in (layer.base.weight, layer.down.weight):
        assert weight.is_contiguous(memory_format=torch.channels_last)
    assert network.backbone(images).is_contiguous(memory_format=torch.channels_last)


def test_factors_have_the_type_of_the_layer():
    backbone = nn.Sequential(nn.Linear(4, 4)).double()
    add_lora(backbone, 2, 4.0, 0.0)
    assert {parameter.dtype for parameter in backbone.parameters()} == {torch.float64}


def test_weights_without_adapters_are_copied():
    network = resnet()
    weights = merged_weights(network)
    assert list(weights) == list(network.state_dict())
    for name, tensor in network.state_dict().items():
        assert torch.equal(weights[name], tensor)
        assert not weights[name].requires_grad
        assert weights[name].data_ptr() != tensor.data_ptr()
