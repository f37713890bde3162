"""Sections of networks: one of three sources, arguments of a family, what needs to be installed."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import Field, ValidationError

from foldwise.config.architectures import (
    FAMILIES,
    SEGMENTERS,
    SMALLEST,
    Arch,
    OwnNetwork,
    ResNet,
    Timm,
    check_available,
    check_builds,
    check_maps,
    side_step,
    smallest_side,
)
from foldwise.config.section import Section, convert_errors, tag_words
from foldwise.errors import ConfigError

SCRIPTS = Path(__file__).parents[3] / "scripts"
INSTALLED = all(map(importlib.util.find_spec, ("timm", "torchvision")))


class Recipe(Section):
    """Something with a network."""

    arch: Arch = Field(ResNet(), description="The network.")


def read(**keys):
    try:
        return Recipe.model_validate({"arch": keys}).arch
    except ValidationError as error:
        raise convert_errors(error, Recipe) from None


def message(**keys):
    with pytest.raises(Exception, match="arch") as caught:
        read(**keys)
    return caught.value.message


@pytest.mark.parametrize("family", FAMILIES)
def test_every_name_chooses_its_family(family):
    assert tag_words(family)
    for name in tag_words(family):
        assert type(read(name=name)) is family
        assert type(read(source="monai", name=name)) is family


def test_names_are_those_of_one_family_each():
    names = [name for family in FAMILIES for name in tag_words(family)]
    assert len(names) == len(set(names)) == 35
    assert set(SMALLEST) <= set(names)


def test_segmenters_are_the_families_with_maps():
    names = ["unet", "attentionunet", "basicunet", "basicunetplusplus", "segresnet", "flexibleunet", "dynunet"]
    assert list(SEGMENTERS) == names


@pytest.mark.parametrize(
    ("keys", "kind"),
    [
        ({"source": "timm"}, Timm),
        ({"source": "timm", "name": "vit_tiny_patch16_224"}, Timm),
        ({"source": "nets:tiny"}, OwnNetwork),
    ],
)
def test_the_source_chooses_before_the_name(keys, kind):
    assert type(read(**keys)) is kind


def test_a_network_of_ones_own_is_called_as_its_function():
    assert read(source="nets.small:tiny").name == "nets.small:tiny"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"name": "resnet19"}, "arch.name: got 'resnet19', expected one of resnet10, .* Did you mean 'resnet1[08]'"),
        ({"name": "u-net"}, "Did you mean 'unet'"),
        ({"source": "torch", "name": "resnet18"}, "got 'torch', expected monai, timm, or a function of your own"),
        ({"source": "nets:2"}, "arch.source: got 'nets:2', expected a function of your own|expected `module:function`"),
        ({"name": "resnet18", "pretrained": True}, "arch.pretrained: got true, expected false. .* set arch.weights"),
        ({"name": "resnet18", "dropout": 1.0}, r"arch.dropout: got 1.0, expected a number >= 0 and < 1"),
        ({"name": "resnet18", "growth_rate": 4}, "arch.growth_rate: got an unknown key"),
        ({"name": "resnet18", "block_inplanes": [64, 128]}, "arch.block_inplanes: got .* with 4 items"),
        ({"name": "vit", "num_heads": 5}, "arch.num_heads: got 5, expected a divisor of hidden_size, 768"),
        ({"name": "unet", "kernel_size": 4}, "arch.kernel_size: got 4, expected one of 1, 3, 5, 7"),
        ({"name": "unet", "channels": [16]}, "arch.channels: got .* at least 2"),
        ({"name": "segresnet", "init_filters": 12}, "arch.init_filters: got 12"),
        (
            {"name": "segresnet", "blocks_up": [1]},
            "arch.blocks_up: got .*, expected 3 numbers, one less than in blocks_down",
        ),
        ({"name": "flexibleunet", "backbone": "vgg"}, "arch.backbone: got 'vgg', expected one of efficientnet-b0"),
        ({"name": "seresnet50", "reduction": 0}, "arch.reduction: got 0, expected an integer >= 1 and <= 256"),
        (
            {"source": "timm", "arguments": {"num_classes": 5}},
            "arch.arguments.num_classes: .* Heads follow from the tasks",
        ),
        (
            {"source": "timm", "arguments": {"checkpoint_path": "a.pth"}},
            "arch.arguments.checkpoint_path: .* arch.weights",
        ),
        ({"source": "timm", "arguments": {"drop_rate": 0.1}}, "arch.arguments.drop_rate: .* Set arch.dropout"),
        (
            {"source": "timm", "pretrained": True, "weights": "a"},
            "arch.weights: got 'a', expected null with pretrained: true",
        ),
        ({"source": "timm", "depth": 3}, "arch.depth: got an unknown key"),
        ({"source": "nets:tiny", "width": 3}, "arch.width: got an unknown key, expected one of .*arguments"),
    ],
)
def test_what_is_wrong_is_told_with_its_key(keys, expected):
    assert re.search(expected, message(**keys))


@pytest.mark.parametrize("value", [False, "false"])
def test_built_in_networks_accept_that_nothing_is_pretrained(value):
    assert read(name="resnet18", pretrained=value) == read(name="resnet18")


def test_values_of_the_command_line_are_read():
    assert read(name="unet", kernel_size="5", channels="[8, 16]").channels == [8, 16]


@pytest.mark.parametrize(
    ("keys", "step", "least"),
    [
        ({"name": "resnet18"}, 1, 1),
        ({"name": "seresnext50"}, 1, 3),
        ({"name": "densenet121"}, 1, 29),
        ({"name": "efficientnet-b4"}, 1, 28),
        ({"name": "vit"}, 16, 16),
        ({"name": "vit", "patch_size": 4}, 4, 4),
        ({"name": "unet"}, 8, 8),
        ({"name": "attentionunet", "channels": [4, 8]}, 2, 2),
        ({"name": "basicunet"}, 16, 16),
        ({"name": "segresnet"}, 8, 8),
        ({"name": "segresnet", "blocks_down": [1, 1], "blocks_up": [1]}, 2, 2),
        ({"name": "flexibleunet"}, 32, 32),
        ({"name": "dynunet"}, 16, 16),
        ({"source": "timm"}, 1, 1),
        ({"source": "nets:tiny"}, 1, 1),
    ],
)
def test_the_sides_of_images_follow_from_the_section(keys, step, least):
    assert (side_step(read(**keys)), smallest_side(read(**keys))) == (step, least)


class TestMaps:
    @pytest.mark.parametrize("keys", [{"name": "unet"}, {"name": "dynunet"}, {"source": "nets:tiny"}])
    def test_networks_with_maps_serve_segmentation(self, keys):
        check_maps(read(**keys), "segmentation")

    @pytest.mark.parametrize("kind", ["classification", "multilabel", "regression"])
    def test_all_networks_serve_other_tasks(self, kind):
        for keys in ({"name": "resnet18"}, {"name": "unet"}, {"source": "timm"}, {"source": "nets:tiny"}):
            check_maps(read(**keys), kind)

    def test_others_are_refused(self):
        with pytest.raises(ConfigError) as caught:
            check_maps(read(name="vit"), "segmentation", "pipelines.a.arch")
        expected = f"one of {', '.join(SEGMENTERS)} for task type segmentation."
        assert caught.value.message == f"pipelines.a.arch.name: got 'vit', expected {expected}"

    def test_timm_is_refused(self):
        with pytest.raises(ConfigError, match=r"arch\.source: got 'timm', expected monai, with one of unet, "):
            check_maps(read(source="timm"), "segmentation")


class TestInstalled:
    def test_what_comes_along_needs_nothing(self):
        check_available(read(name="resnet18"))
        check_available(read(source="nets:tiny"))

    @pytest.mark.skipif(INSTALLED, reason="timm is installed here")
    def test_a_missing_extra_is_told(self):
        with pytest.raises(ConfigError) as caught:
            check_available(read(source="timm"))
        assert caught.value.message == (
            "arch.source: got 'timm', expected monai, or a function of your own as `module:function`. "
            "Install the extra: pip install 'foldwise[timm]'."
        )

    @pytest.mark.parametrize(
        ("torch", "vision", "fits"),
        [
            ("2.13.0", "0.28.0", True),
            ("2.13.0+cpu", "0.28.0+cpu", True),
            ("2.13.0+cu130", "0.28.0", True),
            ("2.13.0+cpu", "0.28.0", False),
            ("2.13.0+cpu", "0.28.0+cu130", False),
        ],
    )
    def test_builds_of_torch_and_torchvision_must_go_together(self, torch, vision, fits, tmp_path, monkeypatch):
        for name, version in (("torch", torch), ("torchvision", vision)):
            folder = tmp_path / f"{name}-{version}.dist-info"
            folder.mkdir()
            (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        monkeypatch.setattr(sys, "path", [str(tmp_path)])
        if fits:
            check_builds()
        else:
            with pytest.raises(ConfigError, match=r"torchvision: got version 0.28.0.* beside torch 2.13.0\+cpu"):
                check_builds()

    def test_looking_imports_neither_torch_nor_timm(self):
        code = (
            "import sys\n"
            "from foldwise.config.architectures import Timm, check_available\n"
            "from foldwise.errors import ConfigError\n"
            "try:\n    check_available(Timm(source='timm'))\nexcept ConfigError:\n    pass\n"
            "print(sorted({'torch', 'timm', 'torchvision'} & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=SCRIPTS, check=True)
        assert done.stdout.strip() == "[]"
