"""MONAI's networks: every name builds, gives features, learns; small ones are really trained."""

import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

from foldwise.config.architectures import FAMILIES, SEGMENTERS, SMALLEST, Arch
from foldwise.config.section import tag_words
from foldwise.models import monai
from foldwise.models.network import build_network, count_parameters

FEATURES = {
    "resnet10": 512, "resnet18": 512, "resnet34": 512, "resnet50": 2048, "resnet101": 2048, "resnet152": 2048,
    "resnet200": 2048, "seresnet50": 2048, "seresnet101": 2048, "seresnet152": 2048, "seresnext50": 2048,
    "seresnext101": 2048, "senet154": 2048, "densenet121": 1024, "densenet169": 1664, "densenet201": 1920,
    "densenet264": 2688, "efficientnet-b0": 1280, "efficientnet-b1": 1280, "efficientnet-b2": 1408,
    "efficientnet-b3": 1536, "efficientnet-b4": 1792, "efficientnet-b5": 2048, "efficientnet-b6": 2304,
    "efficientnet-b7": 2560, "efficientnet-b8": 2816, "efficientnet-l2": 5504, "vit": 768,
    "unet": 16, "attentionunet": 16, "basicunet": 32, "basicunetplusplus": 32, "segresnet": 16, "flexibleunet": 16,
    "dynunet": 32,
}  # fmt: skip
# Parameters without the last layer, as published; MONAI's shortcuts of a ResNet have a bias of their own.
PUBLISHED = {
    "resnet18": 11_176_512 + 896,
    "resnet50": 23_508_032 + 3840,
    "seresnet50": 26_039_024,
    "seresnext50": 25_510_896,
    "senet154": 113_039_984,
    "densenet121": 6_953_856,
    "efficientnet-b0": 4_007_548,
}
QUICK = ("resnet10", "resnet18", "seresnet50", "seresnext50", "densenet121", "efficientnet-b0", "vit", *SEGMENTERS)
TINY_RESNET = {"block_inplanes": [4, 4, 8, 8], "conv1_t_size": 3, "conv1_t_stride": 1, "no_max_pool": True}
# One of each family, as small as its arguments make it, and the side of its images.
SMALL = {
    "resnet10": (TINY_RESNET, 8),
    "seresnet50": ({}, 8),
    "seresnext50": ({}, 8),
    "densenet121": ({"init_features": 8, "growth_rate": 4}, 32),
    "efficientnet-b0": ({}, 32),
    "vit": ({"patch_size": 4, "hidden_size": 32, "mlp_dim": 64, "num_layers": 2, "num_heads": 4}, 16),
    "unet": ({"channels": [8, 16, 32]}, 16),
    "attentionunet": ({"channels": [8, 16, 32]}, 16),
    "basicunet": ({"features": [8, 8, 16, 32, 64, 8]}, 32),
    "basicunetplusplus": ({"features": [8, 8, 16, 32, 64, 8]}, 32),
    "segresnet": ({"init_filters": 8}, 16),
    "flexibleunet": ({"backbone": "resnet10", "decoder_channels": [32, 16, 16, 8, 8]}, 32),
    "dynunet": ({"filters": [8, 16, 32]}, 16),
}
VARIANTS = {
    "unet": [{"num_res_units": 0}, {"norm": "instance"}, {"act": "gelu"}, {"kernel_size": 5, "up_kernel_size": 5}],
    "attentionunet": [{"kernel_size": 1, "up_kernel_size": 7}],
    "basicunet": [{"norm": "instance"}, {"upsample": "pixelshuffle"}, {"upsample": "nontrainable"}],
    "basicunetplusplus": [{"norm": "instance"}, {"upsample": "pixelshuffle"}, {"upsample": "nontrainable"}],
    "segresnet": [
        {"upsample_mode": "deconv"},
        {"upsample_mode": "pixelshuffle"},
        {"blocks_down": [1, 1], "blocks_up": [2]},
    ],
    "flexibleunet": [{"upsample": "deconv"}, {"upsample": "pixelshuffle"}, {"interp_mode": "bilinear"}],
    "dynunet": [{"norm": "instance"}, {"res_block": True, "trans_bias": True}, {"kernel_size": 5}],
    "vit": [{"qkv_bias": True}],
    "densenet121": [{"bn_size": 2}],
    "resnet10": [{"bias_downsample": False}],
}


def arch_of(name, **keys):
    return TypeAdapter(Arch).validate_python({"name": name, **keys})


def build(name, side=64, outputs=(5, 2), device="cpu", **keys):
    kinds = ["segmentation", "regression"][: len(outputs)] if name in SEGMENTERS else None
    with torch.device(device):
        return build_network(arch_of(name, **keys), 3, list(outputs), kinds, size=(side, side))


def build_small(name, **keys):
    """Build a small network for images of the side that goes with it."""
    small, side = SMALL[name]
    return build(name, side, **{**small, **keys}), side


def images_of(side, count=4):
    """Make images as training has them: bytes in channels-last order."""
    pixels = torch.randint(
        0, 256, (count, side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    return pixels.permute(0, 3, 1, 2).float() / 255


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def test_every_architecture_is_tested_here():
    names = [name for family in FAMILIES for name in tag_words(family)]
    assert names == list(FEATURES)
    small = {type(arch_of(name)) for name in SMALL}
    assert [family.__name__ for family in FAMILIES if family not in small] == ["SENet"]  # trained as it is, below
    assert {*monai.FAMILIES, type(arch_of("vit"))} == set(FAMILIES)


@pytest.mark.parametrize(("name", "features"), FEATURES.items(), ids=FEATURES)
def test_every_architecture_has_its_features(name, features):
    assert [head.weight.shape[1] for head in build(name, device="meta").heads] == [features, features]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in FEATURES]
)
def test_every_architecture_gives_logits_of_each_head_and_all_its_weights_learn(name):
    network = build(name, device="meta")
    images = torch.zeros(2, 3, 64, 64, device="meta")
    logits = network(images), network(images, head=1)
    assert logits[0].shape == ((2, 5, 64, 64) if name in SEGMENTERS else (2, 5))
    assert logits[1].shape == (2, 2)
    (logits[0].mean() + logits[1].mean()).backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []


@pytest.mark.parametrize(("name", "parameters"), PUBLISHED.items(), ids=PUBLISHED)
def test_architectures_are_the_published_ones(name, parameters):
    assert count_parameters(build(name, device="meta").backbone) == parameters


def test_the_vision_transformer_is_the_published_one_but_for_the_position_of_its_class_token():
    assert count_parameters(build("vit", 224, device="meta", qkv_bias=True).backbone) == 85_798_656 - 768


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.usefixtures("deterministic")
def test_gradients_are_the_same_from_run_to_run_and_finite(name):
    def gradients():
        torch.manual_seed(0)
        network, side = build_small(name)
        network(images_of(side)).square().mean().backward()
        return [weight.grad for weight in network.backbone.parameters()]

    first, second = gradients(), gradients()
    assert all(map(torch.equal, first, second))
    assert all(torch.isfinite(gradient).all() for gradient in first)
    assert any(gradient.abs().sum() > 0 for gradient in first)


@pytest.mark.slow
@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("name", ["senet154", "resnet200", "densenet264", "efficientnet-b7"])
def test_deep_networks_learn(name):
    network = build(name, 32, outputs=(5,))
    network(images_of(32, 2)).square().mean().backward()
    assert all(torch.isfinite(weight.grad).all() for weight in network.parameters())


@pytest.mark.parametrize(
    ("name", "keys"),
    [(name, keys) for name, variants in VARIANTS.items() for keys in variants],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
@pytest.mark.usefixtures("deterministic")
def test_arguments_change_the_network_and_it_still_learns(name, keys):
    (network, side), (plain, _) = build_small(name, **keys), build_small(name)
    assert repr(network) != repr(plain)
    network(images_of(side)).square().mean().backward()
    assert all(torch.isfinite(weight.grad).all() for weight in network.backbone.parameters())


@pytest.mark.parametrize("name", SMALL)
def test_memory_stays_channels_last_from_the_images_to_the_features(name):
    network, side = build_small(name)
    last, orders = torch.channels_last, []
    for module in network.backbone.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            assert module.weight.is_contiguous(memory_format=last)
            module.register_forward_hook(lambda *found: orders.append(found[2].is_contiguous(memory_format=last)))
    network(images_of(side))
    assert orders
    assert all(orders)


@pytest.mark.parametrize("name", SMALL)
def test_no_architecture_drops_features_of_its_own(name):
    dropouts = [
        module for module in build_small(name)[0].modules() if isinstance(module, nn.modules.dropout._DropoutNd)
    ]
    assert {module.p for module in dropouts} == {0.0}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in SMALLEST]
)
def test_the_smallest_images_are_known(name):
    network, least = build(name, device="meta").eval().backbone, SMALLEST[name]
    assert network(torch.zeros(1, 3, least, least, device="meta")).shape == (1, FEATURES[name])
    with pytest.raises(RuntimeError):
        network(torch.zeros(1, 3, least - 1, least - 1, device="meta"))


@pytest.mark.parametrize("name", ["resnet10", "resnet50"])
def test_a_residual_network_takes_a_single_pixel(name):
    assert build(name, device="meta").eval()(torch.zeros(1, 3, 1, 1, device="meta")).shape == (1, 5)


@pytest.mark.parametrize("name", SEGMENTERS)
class TestMaps:
    def test_segmentation_has_logits_for_every_pixel(self, name):
        network, side = build_small(name)
        with torch.inference_mode():
            logits = network.eval()(images_of(side))
        assert logits.shape == (4, 5, side, side)
        assert logits.is_contiguous(memory_format=torch.channels_last)

    def test_sides_are_multiples_of_the_step_and_need_not_be_equal(self, name):
        keys, _ = SMALL[name]
        step = arch_of(name, **keys).step
        network = build(name, step, device="meta", **keys).eval().backbone
        for height, width in ((step, 3 * step), (4 * step, 2 * step)):
            assert network(torch.zeros(1, 3, height, width, device="meta")).shape[2:] == (height, width)

    def test_the_average_of_the_map_tells_images_apart(self, name):
        network, side = build_small(name)
        images = torch.linspace(0, 1, 8).view(8, 1, 1, 1).expand(8, 3, side, side)
        assert network.train()(images, head=1).std(dim=0).min() > 1e-3

    def test_pixels_depend_on_their_surroundings_near_and_far(self, name):
        network, _ = build_small(name)
        images = torch.zeros(2, 3, 32, 32)
        images[1, :, 10:14, 10:14] = 1
        with torch.inference_mode():
            change = (network.eval()(images[1:]) - network(images[:1])).abs().sum(dim=1)[0]
        assert change[12, 12] > 0
        assert change[12, 18:26].sum() > 0

    def test_weights_are_named_once(self, name):
        tensors = build_small(name)[0].state_dict().values()
        assert len({tensor.data_ptr() for tensor in tensors if tensor.numel()}) == len(tensors)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("seresnet50", {"reduction": 4}),
        ("seresnet50", {"inplanes": 32}),
        ("seresnet50", {"input_3x3": True}),
        ("seresnet50", {"downsample_kernel_size": 3}),
        ("seresnext50", {"groups": 16}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_arguments_of_squeeze_and_excitation_reach_the_network(name, keys):
    network = build(name, device="meta", **keys)
    assert repr(network) != repr(build(name, device="meta"))
    assert network(torch.zeros(2, 3, 32, 32, device="meta")).shape == (2, 5)


def test_all_encoders_of_the_flexible_unet_are_offered():
    from monai.networks.nets.flexible_unet import FLEXUNET_BACKBONE

    offered = type(arch_of("flexibleunet")).model_fields["backbone"].annotation.__args__
    assert set(offered) == set(FLEXUNET_BACKBONE.register_dict)


@pytest.mark.parametrize("backbone", ["resnet50", "efficientnet-b3"])
def test_encoders_of_all_widths_fit_their_decoder(backbone):
    network = build("flexibleunet", device="meta", backbone=backbone)
    assert network(torch.zeros(2, 3, 64, 32, device="meta")).shape == (2, 5, 64, 32)


def test_the_number_of_channels_may_be_any():
    for channels in (1, 4):
        network = build_network(arch_of("resnet10", **TINY_RESNET), channels, [5]).eval()
        assert network(torch.rand(1, channels, 8, 8)).shape == (1, 5)
