"""Networks of the user's own: called, measured, and told what is wrong with them."""

import itertools
import re
import sys
from pathlib import Path

import pytest
import torch
import yaml
from pydantic import TypeAdapter
from torch import nn

from foldwise.config.architectures import Arch
from foldwise.errors import ConfigError, DataError
from foldwise.models.network import build_network, check_size
from foldwise.models.weights import load_backbone, write_weights

PAGE = Path(__file__).parents[3] / "docs/architectures.md"
COUNTER = itertools.count()
NETWORK = """
from torch import nn

def vector(channels, width=4):
    return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten())

def pixels(channels, width=4, stride=1):
    return nn.Sequential(nn.Conv2d(channels, width, 3, stride, padding=1), nn.BatchNorm2d(width), nn.ReLU())

def fails(channels):
    raise ValueError("no weights\\nat all")

def number(channels):
    return 5

def sizes(channels, kind):
    shapes = {"tuple": lambda x: (x, x), "whole": lambda x: x.long()}
    shapes |= {"cube": lambda x: x[..., None], "one": lambda x: x[:1]}
    class Wrong(nn.Module):
        def forward(self, images):
            if kind == "raises":
                raise RuntimeError("shapes do not match")
            return shapes[kind](images)
    return Wrong()

def forgetful(channels):
    return nn.Conv2d(3, 4, 1)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write the networks into a module of a name of its own in the working directory; return the name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    name = f"networks{next(COUNTER)}"
    (tmp_path / f"{name}.py").write_text(NETWORK)
    yield name
    sys.modules.pop(name, None)


def build(source, bands=3, kinds=("classification",), size=(8, 8), outputs=(5,), **keys):
    arch = TypeAdapter(Arch).validate_python({"source": source, **keys})
    return build_network(arch, bands, list(outputs), list(kinds), size)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_function_is_called_with_channels_and_arguments(module, channels):
    network = build(f"{module}:vector", channels, arguments={"width": 7}, dropout=0.5)
    assert network.backbone[0].weight.shape == (7, channels, 3, 3)
    assert network.heads[0].in_features == 7
    assert network.dropout.p == 0.5
    assert network(torch.rand(4, channels, 8, 8)).shape == (4, 5)


def test_a_map_serves_segmentation_and_other_tasks(module):
    network = build(f"{module}:pixels", kinds=["segmentation", "regression"], outputs=[3, 1], size=(8, 12))
    images = torch.rand(2, 3, 8, 12)
    assert network(images).shape == (2, 3, 8, 12)
    assert network(images, head=1).shape == (2, 1)


def test_the_seed_decides_the_weights(module):
    def weights(seed):
        torch.manual_seed(seed)
        return torch.cat([weight.flatten() for weight in build(f"{module}:pixels").parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_measuring_changes_no_statistics(module):
    network = build(f"{module}:pixels")
    assert network.backbone[1].num_batches_tracked == 0
    assert network.training
    check_size(network, TypeAdapter(Arch).validate_python({"source": f"{module}:pixels"}), (8, 8, 3))


def test_weights_of_ones_own_are_loaded(module, tmp_path):
    source, target = build(f"{module}:vector"), build(f"{module}:vector")
    write_weights(tmp_path / "own.safetensors", source.backbone.state_dict())
    load_backbone(target, tmp_path / "own.safetensors")
    assert torch.equal(target.backbone[0].weight, source.backbone[0].weight)
    write_weights(tmp_path / "other.safetensors", {**source.backbone.state_dict(), "scale": torch.ones(2)})
    with pytest.raises(ConfigError, match=rf"expected weights of {module}:vector\. .*has unknown scale\."):
        load_backbone(target, tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    ("function", "keys", "expected"),
    [
        (
            "fails",
            {},
            r"torch\.nn\.Module\. Called with \(3\) it raised ValueError: no weights, at line 11 of .*\.py\.",
        ),
        ("number", {}, r"expected a function that returns a torch\.nn\.Module\. .* it returned a value of type int\."),
        (
            "vector",
            {"depth": 2},
            r"Called with \(3, depth=2\) it raised TypeError: .*unexpected keyword argument 'depth'",
        ),
        ("sizes", {"kind": "tuple"}, r"for images of shape \(2, 3, 8, 8\)\. It returned a value of type tuple\."),
        ("sizes", {"kind": "whole"}, r"It returned a tensor of shape \(2, 3, 8, 8\) and torch\.int64\."),
        ("sizes", {"kind": "cube"}, r"It returned a tensor of shape \(2, 3, 8, 8, 1\) and"),
        ("sizes", {"kind": "one"}, r"It returned a tensor of shape \(1, 3, 8, 8\) and"),
        ("sizes", {"kind": "raises"}, r"It raised RuntimeError: shapes do not match, at line 22 of"),
    ],
)
def test_a_function_that_does_not_fit_is_told_with_what_it_did(module, function, keys, expected):
    with pytest.raises(ConfigError, match=expected) as caught:
        build(f"{module}:{function}", arguments=keys)
    assert caught.value.message.startswith(f"arch.source: got '{module}:{function}', expected a ")


def test_a_network_for_other_channels_is_told(module):
    with pytest.raises(ConfigError, match=r"expected input\[2, 1, 8, 8\] to have 3 channels, but got 1 channels"):
        build(f"{module}:forgetful", bands=1)


@pytest.mark.parametrize(("function", "keys"), [("vector", {}), ("pixels", {"stride": 2})])
def test_segmentation_needs_a_map_of_the_size_of_images(module, function, keys):
    with pytest.raises(
        ConfigError, match=r"features of shape \(2, features, 8, 8\) for images of shape \(2, 3, 8, 8\)"
    ):
        build(f"{module}:{function}", kinds=["segmentation"], arguments=keys)


def test_a_function_that_is_not_there_is_told(module):
    with pytest.raises(ConfigError, match="Did you mean 'pixels'"):
        build(f"{module}:pixel")
    with pytest.raises((ConfigError, DataError), match="nowhere"):
        build("nowhere:pixels")


class TestPage:
    def example(self, language, mark):
        found = re.search(rf"<!-- example: {mark} -->\n```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
        return found[1]

    def test_the_network_of_the_page_works_as_it_stands(self, tmp_path, monkeypatch):
        code, config = self.example("python", "own network"), yaml.safe_load(self.example("yaml", "own arch"))
        assert len(code.strip().splitlines()) <= 15
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", list(sys.path))
        source = config["arch"]["source"]
        (tmp_path / f"{source.partition(':')[0]}.py").write_text(code)
        arch = TypeAdapter(Arch).validate_python(config["arch"])
        network = build_network(arch, 3, [10], size=(32, 32))
        assert network.heads[0].in_features == config["arch"]["arguments"]["width"]
        loss = nn.functional.cross_entropy(network(torch.rand(8, 3, 32, 32)), torch.arange(8))
        loss.backward()
        assert all(torch.isfinite(weight.grad).all() for weight in network.parameters())
        segmenter = build_network(arch, 1, [2], ["segmentation"], size=(32, 40))
        assert segmenter(torch.rand(2, 1, 32, 40)).shape == (2, 2, 32, 40)
        sys.modules.pop(source.partition(":")[0], None)
