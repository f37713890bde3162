"""Weights of files that a configuration names: found under other names, refused where they are others'."""

import json
import re
from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import save_file

from foldwise.config.architectures import Arch
from foldwise.errors import ConfigError
from foldwise.models.network import build_network
from foldwise.models.weights import load_backbone, load_start, pretrained_statistics, write_weights

PAGE = Path(__file__).parents[3] / "docs/architectures.md"
TINY = {"block_inplanes": [4, 4, 8, 8], "conv1_t_size": 3}
UNET = {"channels": [4, 8, 8], "num_res_units": 1}
DYNUNET = {"filters": [4, 8, 8]}


def arch_of(name="resnet10", **keys):
    return TypeAdapter(Arch).validate_python({"name": name, **keys})


def build(name="resnet10", bands=3, outputs=(5,), **keys):
    keys = keys or (TINY if name == "resnet10" else {})
    return build_network(arch_of(name, **keys), bands, list(outputs))


def monai_resnet(**keys):
    from monai.networks.nets.resnet import ResNet

    widths = {"block_inplanes": [4, 4, 8, 8], "conv1_t_size": 3}
    given = {"block": "basic", "layers": [1, 1, 1, 1], "spatial_dims": 2, "num_classes": 7}
    return ResNet(**{**given, **widths, **keys})


@pytest.fixture
def write(tmp_path):
    """Write tensors into a safetensors file as others do; names may get something before or behind them."""

    def run(tensors, lead="", **metadata):
        path = tmp_path / "start.safetensors"
        save_file({lead + name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata or None)
        return path

    return run


def refused(network, path):
    with pytest.raises(ConfigError) as caught:
        load_backbone(network, path)
    return caught.value.message


def assert_equal(backbone, tensors):
    own = backbone.state_dict()
    assert all(torch.equal(own[name], tensors[name]) for name in own)


class TestOurs:
    def test_the_backbone_is_loaded_and_heads_are_new(self, tmp_path):
        source, target = build(outputs=(5, 2)), build(outputs=(9,))
        head = target.heads[0].weight.clone()
        write_weights(tmp_path / "model.safetensors", source.state_dict(), {"mean": "[0.5]", "std": "[1.0]"})
        load_backbone(target, tmp_path / "model.safetensors")
        assert_equal(target.backbone, source.backbone.state_dict())
        assert torch.equal(target.heads[0].weight, head)

    def test_a_network_answers_as_the_one_that_was_written(self, tmp_path):
        source, target = build("unet", **UNET).eval(), build("unet", **UNET).eval()
        write_weights(tmp_path / "model.safetensors", source.state_dict())
        load_backbone(target, tmp_path / "model.safetensors")
        images = torch.rand(2, 3, 16, 16)
        assert torch.equal(target.backbone(images), source.backbone(images))

    def test_memory_order_and_precision_stay_those_of_the_network(self, write):
        target = build()
        load_backbone(target, write({name: tensor.half() for name, tensor in build().state_dict().items()}))
        weight = target.backbone.layer1[0].conv1.weight
        assert weight.dtype == torch.float32
        assert weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "lead", ["", "module.", "model.", "backbone.", "module.model.", "_orig_mod.module.", "network."]
)
def test_the_last_layer_of_monai_is_left_out_and_what_wrappers_put_before_names(lead, write):
    source, target = monai_resnet(), build()
    load_backbone(target, write(source.state_dict(), lead))
    assert_equal(target.backbone, source.state_dict())


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("seresnet50", {}),
        ("densenet121", {"init_features": 4, "growth_rate": 2}),
        ("efficientnet-b0", {}),
        ("attentionunet", {"channels": [4, 8]}),
        ("basicunet", {"features": [4, 4, 4, 4, 4, 4]}),
        ("basicunetplusplus", {"features": [4, 4, 4, 4, 4, 4]}),
        ("segresnet", {"init_filters": 8}),
        ("dynunet", DYNUNET),
    ],
)
def test_every_family_takes_the_weights_of_monais_whole_network(name, keys, write):
    last = {
        "seresnet50": ("last_linear.weight", "last_linear.bias"),
        "densenet121": ("class_layers.out.weight", "class_layers.out.bias"),
        "efficientnet-b0": ("_fc.weight", "_fc.bias"),
        "attentionunet": ("model.2.conv.weight", "model.2.conv.bias"),
        "basicunet": ("final_conv.weight", "final_conv.bias"),
        "basicunetplusplus": ("final_conv_0_1.weight", "final_conv_0_4.bias"),
        "segresnet": ("conv_final.2.conv.weight", "conv_final.2.conv.bias"),
        "dynunet": ("output_block.conv.conv.weight", "input_block.conv1.conv.weight"),
    }[name]
    source, target = build(name, **keys), build(name, **keys)
    load_backbone(target, write({**source.backbone.state_dict(), **{key: torch.ones(2) for key in last}}))
    assert_equal(target.backbone, source.backbone.state_dict())


def test_the_last_level_of_a_whole_u_net_is_new_if_its_outputs_differ(write):
    from monai.networks.nets.unet import UNet

    source = UNet(2, 3, 2, [4, 8, 8], [2, 2], num_res_units=1, norm="batch")
    target = build("unet", **UNET)
    before = {name: tensor.clone() for name, tensor in target.backbone.state_dict().items()}
    load_backbone(target, write(source.state_dict()))
    new = {name for name, tensor in target.backbone.state_dict().items() if torch.equal(tensor, before[name])}
    loaded = target.backbone.state_dict()["model.0.conv.unit0.conv.weight"]
    assert torch.equal(loaded, source.state_dict()["model.0.conv.unit0.conv.weight"])
    assert {name for name in new if name.endswith("conv.weight")} == {
        name for name in before if name.startswith("model.2.") and name.endswith("conv.weight")
    }


def test_counters_of_old_files_may_be_missing(write):
    source, target = monai_resnet(), build()
    tensors = {name: tensor for name, tensor in source.state_dict().items() if "num_batches" not in name}
    load_backbone(target, write(tensors))
    assert torch.equal(target.backbone.conv1.weight, source.conv1.weight)


@pytest.mark.parametrize("wrap", [lambda tensors: tensors, lambda tensors: {"state_dict": tensors, "epoch": 3}])
def test_the_lines_of_the_page_convert_what_others_have_saved(wrap, tmp_path, monkeypatch):
    source, target = monai_resnet(), build()
    source.to(memory_format=torch.channels_last)
    monkeypatch.chdir(tmp_path)
    torch.save(wrap(source.state_dict()), "weights.pth")
    code = re.search(r"<!-- example: convert -->\n```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)[1]
    exec(compile(code, "architectures.md", "exec"), {})
    load_backbone(target, tmp_path / "weights.safetensors")
    assert_equal(target.backbone, source.state_dict())
    found = pretrained_statistics(arch_of(weights=str(tmp_path / "weights.safetensors")))
    assert found == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


class TestRefused:
    def test_another_architecture_is_told_with_the_first_few_names(self, write):
        path = write({**build("densenet121", init_features=4, growth_rate=2).backbone.state_dict()})
        message = refused(build(), path)
        assert message.startswith("arch.weights: got weights of another architecture, expected weights of resnet10. ")
        assert f"{path} has unknown features.conv0.weight, features.denseblock1.denselayer1." in message
        assert "lacks conv1.weight, bn1.weight, bn1.bias and " in message

    def test_a_deeper_network_is_told(self, write):
        message = refused(build(), write(monai_resnet(layers=[2, 2, 2, 2]).state_dict()))
        assert (
            "has unknown layer1.1.bn1.bias, layer1.1.bn1.running_mean, layer1.1.bn1.running_var and 37 more." in message
        )
        assert "lacks" not in message

    def test_other_widths_are_told_with_both_shapes(self, write):
        tensors = build(block_inplanes=[6, 4, 8, 8], conv1_t_size=3).backbone.state_dict()
        message = refused(build(), write(tensors))
        assert "has conv1.weight (6, 3, 3, 3) instead of (4, 3, 3, 3), bn1.weight (6,) instead of (4,), " in message
        assert "unknown" not in message

    def test_another_kernel_is_told(self, write):
        message = refused(build(), write(monai_resnet(conv1_t_size=7).state_dict()))
        assert "has conv1.weight (4, 3, 7, 7) instead of (4, 3, 3, 3)." in message

    @pytest.mark.parametrize(("name", "keys"), [("resnet10", TINY), ("unet", UNET), ("dynunet", DYNUNET)])
    def test_other_channels_are_told_as_such(self, name, keys, write):
        path = write(build(name, bands=1, **keys).backbone.state_dict())
        assert refused(build(name, **keys), path) == (
            "arch.weights: got weights for images of 1 channels, expected weights for 3, as the images have. "
            f"The file is {path}."
        )

    def test_other_channels_and_widths_are_another_architecture(self, write):
        tensors = build(bands=1, block_inplanes=[6, 4, 8, 8], conv1_t_size=3).backbone.state_dict()
        assert "conv1.weight (6, 1, 3, 3) instead of (4, 3, 3, 3)" in refused(build(), write(tensors))

    def test_heads_alone_are_no_backbone(self, write):
        heads = {name: tensor for name, tensor in build().state_dict().items() if name.startswith("heads.")}
        assert "lacks conv1.weight" in refused(build(), write(heads))

    def test_nothing_is_loaded_then(self, write):
        target = build()
        before = {name: tensor.clone() for name, tensor in target.backbone.state_dict().items()}
        refused(target, write({"conv1.weight": torch.zeros(4, 3, 3, 3)}))
        assert_equal(target.backbone, before)

    @pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".bin"])
    def test_a_pickle_is_told_with_how_to_convert_it(self, suffix, tmp_path):
        path = tmp_path / f"resnet{suffix}"
        path.write_bytes(b"PK\x03\x04" + bytes(100))
        message = refused(build(), path)
        assert message.startswith(f"arch.weights: got '{path}', expected a safetensors file. A pickle can run code")
        assert "docs/architectures.md" in message

    @pytest.mark.parametrize("content", [b"", b"GIF89a", b"\xff" * 64])
    def test_a_damaged_file_is_told(self, content, tmp_path):
        path = tmp_path / "broken.safetensors"
        path.write_bytes(content)
        assert "expected a safetensors file. Reading it fails: " in refused(build(), path)

    def test_a_missing_file_or_a_folder_is_told(self, tmp_path):
        assert "Reading it fails: No such file" in refused(build(), tmp_path / "none.safetensors")
        assert "expected a safetensors file. Reading it fails: " in refused(build(), tmp_path)

    def test_an_empty_file_is_told(self, write):
        assert "lacks conv1.weight" in refused(build(), write({}))


class TestStart:
    def test_weights_that_are_asked_for_are_loaded(self, write):
        source, arch = build(), arch_of(weights=str(write(build().backbone.state_dict())), **TINY)
        network = build_network(arch, 3, [5])
        load_backbone(source, write(build().backbone.state_dict()))
        load_start(network, arch, (16, 16))
        assert_equal(network.backbone, source.backbone.state_dict())

    def test_without_any_the_network_stays_as_it_is(self):
        network = build()
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        load_start(network, arch_of(**TINY), (16, 16))
        assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


class TestStatistics:
    def test_they_come_from_the_file(self, write):
        path = write({"a": torch.ones(1)}, mean=json.dumps([0.1, 0.2, 0.3]), std="[1, 2, 3]")
        assert pretrained_statistics(arch_of(weights=str(path))) == ([0.1, 0.2, 0.3], [1.0, 2.0, 3.0])

    @pytest.mark.parametrize("metadata", [{}, {"mean": "[0.5]"}, {"format": "pt"}])
    def test_a_file_may_have_none(self, metadata, write):
        path = write({"a": torch.ones(1)}, **metadata)
        assert pretrained_statistics(arch_of(weights=str(path))) is None

    def test_without_weights_there_are_none(self):
        assert pretrained_statistics(arch_of()) is None

    @pytest.mark.parametrize("mean", ["half", "[a]", "0.5", '["a"]', "null"])
    def test_others_are_told(self, mean, write):
        path = write({"a": torch.ones(1)}, mean=mean, std="[1.0]")
        with pytest.raises(ConfigError, match="mean and std as JSON lists of numbers in its metadata"):
            pretrained_statistics(arch_of(weights=str(path)))

    def test_a_file_that_is_none_is_told(self, tmp_path):
        with pytest.raises(ConfigError, match="expected a safetensors file"):
            pretrained_statistics(arch_of(weights=str(tmp_path / "none.pth")))
