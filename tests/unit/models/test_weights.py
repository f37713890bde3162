"""Weights on disk: whole or refused."""

import pytest
import torch
from safetensors import safe_open

from foldwise.artifacts import sha256
from foldwise.config.architectures import ResNet
from foldwise.errors import DataError, MissingData
from foldwise.models.network import build_network
from foldwise.models.weights import read_weights, write_weights

METADATA = {"std": "[0.5, 0.25]", "mean": "[1.0, 2.0]", "more": 'ä " ]'}
ARCH = ResNet(name="resnet10", block_inplanes=[4, 4, 8, 8])


@pytest.fixture
def weights():
    return build_network(ARCH, 3, [5]).state_dict()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "fold-0/model.safetensors"


def test_what_was_written_is_read(weights, path):
    found = read_weights(path, write_weights(path, weights))
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in weights.items())
    assert all(found[name].dtype == tensor.dtype for name, tensor in weights.items())


def test_a_network_predicts_the_same_from_disk(path):
    network, other = build_network(ARCH, 3, [5]).eval(), build_network(ARCH, 3, [5]).eval()
    images = torch.rand(2, 3, 32, 32)
    assert not torch.equal(other(images), network(images))
    other.load_state_dict(read_weights(path, write_weights(path, network.state_dict())))
    assert torch.equal(other(images), network(images))


def test_the_record_tells_file_size_and_checksum(weights, path):
    recorded = write_weights(path, weights)
    assert recorded == {"file": "model.safetensors", "bytes": path.stat().st_size, "sha256": sha256(path)}


def test_the_file_is_plain_safetensors_and_holds_nothing_but_weights(weights, path):
    write_weights(path, weights)
    with safe_open(path, "pt") as file:
        assert set(file.keys()) == set(weights)
        assert file.metadata() is None


def test_bytes_do_not_depend_on_the_order_of_names_or_the_memory_order(weights, path, tmp_path):
    other = {name: tensor.contiguous() for name, tensor in reversed(weights.items())}
    assert write_weights(path, weights)["sha256"] == write_weights(tmp_path / "other", other)["sha256"]


class TestMetadata:
    def test_it_is_kept_beside_the_weights(self, weights, path):
        recorded = write_weights(path, weights, METADATA)
        with safe_open(path, "pt") as file:
            assert file.metadata() == METADATA
        found = read_weights(path, recorded)
        assert all(torch.equal(found[name], tensor) for name, tensor in weights.items())

    def test_bytes_are_the_same_each_time(self, weights, path, tmp_path):
        backwards = dict(reversed(METADATA.items()))
        sums = {write_weights(tmp_path / str(n), weights, METADATA)["sha256"] for n in range(20)}
        assert sums == {write_weights(path, weights, backwards)["sha256"]}

    def test_without_any_the_file_is_as_it_was(self, weights, path, tmp_path):
        assert write_weights(path, weights, {})["sha256"] == write_weights(tmp_path / "other", weights)["sha256"]

    @pytest.mark.parametrize("length", range(8))
    def test_tensors_begin_at_a_multiple_of_eight_bytes(self, path, length):
        write_weights(path, {"a": torch.ones(3)}, {"mean": "x" * length})
        assert int.from_bytes(path.read_bytes()[:8], "little") % 8 == 0


def test_weights_that_share_memory_are_written_each(path):
    shared = torch.rand(3)
    found = read_weights(path, write_weights(path, {"a": shared, "b": shared, "c": shared[:2]}))
    assert torch.equal(found["a"], shared)
    assert torch.equal(found["b"], shared)
    assert torch.equal(found["c"], shared[:2])


def test_gradients_are_left_behind(path):
    recorded = write_weights(path, {"a": torch.ones(2, requires_grad=True)})
    assert not read_weights(path, recorded)["a"].requires_grad


@pytest.mark.parametrize("place", [0, 8, 100, -1])
def test_a_flipped_bit_is_noticed(weights, path, place):
    recorded = write_weights(path, weights)
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="bytes with another checksum") as caught:
        read_weights(path, recorded)
    assert caught.value.where == str(path)


@pytest.mark.parametrize("length", [0, 7, 5000, -1])
def test_a_truncated_file_is_told_with_both_sizes(weights, path, length):
    recorded = write_weights(path, weights)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DataError) as caught:
        read_weights(path, recorded)
    assert caught.value.message.startswith(f"{path}: got {path.stat().st_size} bytes with another checksum")
    assert f"expected {recorded['bytes']} bytes as recorded in model.json" in caught.value.message
    assert "the model is trained anew" in caught.value.message


def test_weights_of_another_training_are_noticed(weights, path):
    recorded = write_weights(path, weights)
    write_weights(path, build_network(ARCH, 3, [5]).state_dict())
    with pytest.raises(DataError, match="another checksum"):
        read_weights(path, recorded)


def test_a_missing_file_is_named(path):
    with pytest.raises(MissingData) as caught:
        read_weights(path, {"bytes": 1, "sha256": ""})
    assert caught.value.message.startswith(f"{path}: got nothing, expected the weights of a model.")


def test_a_full_disk_is_named_and_the_old_weights_stay(small_disk):
    path = small_disk / "model.safetensors"
    recorded = write_weights(path, {"a": torch.ones(2)})
    with pytest.raises(DataError) as caught:
        write_weights(path, {"a": torch.ones(2**19)})
    assert caught.value.message.startswith(f"{path}: got a full disk")
    assert torch.equal(read_weights(path, recorded)["a"], torch.ones(2))
    assert list(small_disk.iterdir()) == [path]


def test_a_read_only_disk_is_named(read_only_disk):
    with pytest.raises(DataError, match=r"model\.safetensors: got read-only file system"):
        write_weights(read_only_disk / "model.safetensors", {"a": torch.ones(2)})
