"""Networks of timm, in an environment that has it: `docs/architectures.md` says how to make one.

Weights come from a server on this machine that answers as the hub does.
"""

import contextlib
import importlib.util
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

if not all(map(importlib.util.find_spec, ("timm", "torchvision"))):
    pytest.skip("the extra timm is not installed", allow_module_level=True)

import torch
from pydantic import TypeAdapter
from safetensors.torch import save

from foldwise.config.architectures import Arch, Timm, check_available, check_builds
from foldwise.errors import ConfigError, DataError
from unit.conftest import digits, make_pipeline, train  # noqa: F401

try:
    check_builds()
    ONE_BUILD = True
except ConfigError:
    # torchvision is a build for another torch, whose operators cannot be loaded; timm's networks do not use them.
    ONE_BUILD = False
    OPERATORS = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        OPERATORS.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

COMMIT = "0" * 40


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub does: a file of a repository, or that there is none of that name."""

    files: dict[str, bytes] = {}  # noqa: RUF012
    asked: list[str] = []  # noqa: RUF012

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        content = self.answer()
        with contextlib.suppress(OSError):
            self.wfile.write(content)

    def answer(self):
        repository, _, file = self.path.strip("/").partition("/resolve/")
        name = f"{repository}/{file.partition('/')[2]}"
        if file:
            self.asked.append(f"{self.command} {name}")
        content = self.files.get(name, b"")
        closed = repository.startswith("timm/test_vit")
        self.send_response(200 if content else 403 if closed else 404)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{abs(hash(content))}"')
        self.send_header("Content-Length", str(len(content)))
        if not content and not closed:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.end_headers()
        return content

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module", autouse=True)
def hub(tmp_path_factory):
    """Let timm ask a server of this machine, with an empty cache."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hub")))
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield Hub
    server.shutdown()
    server.server_close()


def arch_of(name="test_resnet", **keys):
    return TypeAdapter(Arch).validate_python({"source": "timm", "name": name, **keys})


def build(name="test_resnet", bands=3, size=(32, 32), outputs=(5,), kinds=None, **keys):
    from foldwise.models.network import build_network

    return build_network(arch_of(name, **keys), bands, list(outputs), kinds, size)


def refused(error=ConfigError, **keys):
    with pytest.raises(error) as caught:
        build(**keys)
    return caught.value.message


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_vit", "test_resnet.r160_in1k", "resnet10t"])
@pytest.mark.parametrize(("bands", "size"), [(3, (32, 32)), (1, (32, 48))])
def test_networks_give_logits_for_images_of_any_size_and_channels_and_learn(name, bands, size):
    network = build(name, bands, size)
    logits = network(torch.rand(4, bands, *size))
    assert logits.shape == (4, 5)
    logits.square().mean().backward()
    assert all(weight.grad is not None for weight in network.parameters())


def test_weights_are_in_channels_last_order_and_the_head_is_ours():
    network = build()
    assert network.backbone.conv1[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert not [name for name, _ in network.backbone.named_parameters() if name.startswith("fc.")]
    assert build(dropout=0.25).dropout.p == 0.25


def test_the_seed_decides_the_weights():
    def weights(seed):
        torch.manual_seed(seed)
        return torch.cat([weight.flatten() for weight in build().parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_gradients_are_deterministic():
    def gradients():
        torch.manual_seed(0)
        network = build("test_vit")
        network(torch.ones(4, 3, 32, 32)).square().mean().backward()
        return [weight.grad for weight in network.parameters()]

    torch.use_deterministic_algorithms(True)
    try:
        assert all(map(torch.equal, gradients(), gradients()))
    finally:
        torch.use_deterministic_algorithms(False)


def test_arguments_reach_the_network():
    plain, wide = build("test_vit"), build("test_vit", arguments={"embed_dim": 96})
    assert (plain.heads[0].in_features, wide.heads[0].in_features) == (64, 96)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"name": "resnet19"}, "arch.name: got 'resnet19', expected a network of timm. Did you mean 'resnet1"),
        ({"name": "hf-hub:timm/resnet18"}, "expected a network of timm."),
        ({"name": "resnet18.a1_in2k"}, "Did you mean 'resnet18.a1_in1k'?"),
        ({"arguments": {"depth": 3}}, "channels that takes depth. It raised TypeError: "),
        ({"name": "test_vit", "size": (8, 8)}, "arch.name: got 'test_vit', expected a network"),
    ],
)
def test_what_timm_does_not_have_is_told(keys, expected):
    assert expected in refused(**keys)


def test_segmentation_is_refused():
    assert refused(kinds=["segmentation"]).startswith("arch.source: got 'timm', expected monai, with one of unet, ")


def test_it_is_available_where_torch_and_torchvision_go_together():
    if ONE_BUILD:
        check_available(Timm(source="timm"))
    else:
        with pytest.raises(ConfigError, match=r"torchvision: got version .* Install both from the same index"):
            check_available(Timm(source="timm"))


class TestPretrained:
    """Weights that timm publishes; here they are made up and served as the hub serves its files."""

    @pytest.fixture
    def published(self, hub, monkeypatch):
        """Publish weights of `test_resnet`; return them."""
        import timm

        torch.manual_seed(5)
        weights = timm.create_model("test_resnet").state_dict()
        content = save({name: tensor.contiguous() for name, tensor in weights.items()})
        monkeypatch.setattr(hub, "files", {"timm/test_resnet.r160_in1k/model.safetensors": content})
        monkeypatch.setattr(hub, "asked", [])
        return weights

    def start(self, name="test_resnet", bands=3, size=(32, 32)):
        from foldwise.models.weights import load_start

        network = build(name, bands, size)
        load_start(network, arch_of(name, pretrained=True), size)
        return network

    def test_weights_are_fetched_once_as_safetensors(self, published, hub):
        for _ in range(2):
            network = self.start()
            own = network.backbone.state_dict()
            assert all(torch.equal(own[name], published[name]) for name in own)
        assert {name.partition(" ")[2] for name in hub.asked} == {"timm/test_resnet.r160_in1k/model.safetensors"}
        assert len([name for name in hub.asked if name.startswith("GET")]) == 1

    def test_building_alone_fetches_nothing(self, published, hub):
        build(pretrained=True)
        assert hub.asked == []

    def test_the_first_convolution_is_adapted_to_other_channels(self, published):
        weight = self.start(bands=1).backbone.conv1[0].weight
        torch.testing.assert_close(weight, published["conv1.0.weight"].sum(dim=1, keepdim=True))

    def test_a_pickle_is_never_fetched(self, hub, monkeypatch):
        monkeypatch.setattr(hub, "files", {"timm/test_efficientnet.r160_in1k/pytorch_model.bin": b"\x80\x04."})
        monkeypatch.setattr(hub, "asked", [])
        with pytest.raises(ConfigError) as caught:
            self.start("test_efficientnet")
        assert caught.value.message.startswith(
            "arch.pretrained: got true, expected false for test_efficientnet, whose weights timm does not have as "
            "safetensors."
        )
        assert not any("pytorch_model.bin" in name for name in hub.asked)

    def test_weights_that_are_no_file_of_the_hub_are_refused(self, hub, monkeypatch):
        from foldwise.models.timm import fetch

        monkeypatch.setattr(hub, "asked", [])
        with pytest.raises(ConfigError, match="false for gcvit_base, whose weights timm does not have as safetensors"):
            fetch(arch_of("gcvit_base"))
        assert hub.asked == []

    def test_without_access_it_is_told_what_to_do(self):
        with pytest.raises(DataError) as caught:
            self.start("test_vit")
        assert caught.value.message.startswith("arch.pretrained: got no access to model.safetensors of timm/test_vit.")
        assert "HF_HOME" in caught.value.message

    def test_statistics_are_those_of_the_weights(self):
        from foldwise.models.weights import pretrained_statistics

        assert pretrained_statistics(arch_of("vit_tiny_patch16_224", pretrained=True)) == ([0.5] * 3, [0.5] * 3)
        assert pretrained_statistics(arch_of("resnet18", pretrained=True))[0] == [0.485, 0.456, 0.406]
        assert pretrained_statistics(arch_of("resnet18")) is None


class TestOwnFile:
    def test_weights_of_timms_whole_network_are_loaded(self, tmp_path):
        import timm

        from foldwise.models.weights import load_backbone, write_weights

        for name, size in (("test_resnet", (32, 32)), ("test_vit", (160, 160))):
            weights, network = timm.create_model(name).state_dict(), build(name, size=size)
            write_weights(tmp_path / "w.safetensors", weights)
            load_backbone(network, tmp_path / "w.safetensors")
            own = network.backbone.state_dict()
            assert all(torch.equal(own[key], weights[key]) for key in own)

    def test_those_of_another_network_are_refused(self, tmp_path):
        from foldwise.models.weights import load_backbone, write_weights

        write_weights(tmp_path / "w.safetensors", build("test_vit").state_dict())
        with pytest.raises(ConfigError, match="got weights of another architecture, expected weights of test_resnet"):
            load_backbone(build(), tmp_path / "w.safetensors")


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_a_residual_network_of_torchvision_gives_its_weights_to_that_of_monai(name, tmp_path):
    import torchvision

    from foldwise.models.network import build_network
    from foldwise.models.weights import load_backbone, write_weights

    torch.manual_seed(0)
    theirs = getattr(torchvision.models, name)()
    write_weights(tmp_path / "w.safetensors", theirs.state_dict())
    ours = build_network(TypeAdapter(Arch).validate_python({"name": name, "bias_downsample": False}), 3, [5])
    load_backbone(ours, tmp_path / "w.safetensors")
    theirs.fc = torch.nn.Identity()
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(ours.eval().backbone(images), theirs.eval()(images), rtol=1e-4, atol=1e-4)


class TestListing:
    def rows(self, capsys, *arguments):
        from foldwise.models.__main__ import main

        status = main(["--source", "timm", *arguments])
        return status, capsys.readouterr()

    def test_networks_are_listed_with_their_weights(self, capsys):
        status, found = self.rows(capsys, "test_resnet*")
        assert status == 0
        assert found.out.splitlines() == [
            "name         kind        parameters  sides of images   description",
            "test_resnet  classifier       0.4 M  trained with 160  weights: r160_in1k",
        ]

    def test_there_are_too_many_to_count_the_parameters_of_all(self, capsys):
        status, found = self.rows(capsys)
        assert status == 0
        assert len(found.out.splitlines()) > 1000

    def test_an_unknown_name_is_told(self, capsys):
        status, found = self.rows(capsys, "resnt18")
        assert status == 1
        assert "Did you mean" in found.err

    def test_there_are_none_for_segmentation(self, capsys):
        assert self.rows(capsys, "--segmentation")[0] == 1


class TestTraining:
    ARCH = {"source": "timm", "name": "test_vit", "arguments": {"patch_size": 4}}  # noqa: RUF012

    def test_a_network_learns_the_digits_and_comes_out_the_same_each_time(self, train, tmp_path):  # noqa: F811
        sections = {
            "arch": self.ARCH,
            "optimizer": {"name": "adamw", "lr": 0.003},
            "trainer": {"max_epochs": 4},
            "sampling": {"sample_num": 0},
        }
        runs = [train(tmp_path / str(n), **sections) for n in range(2)]
        assert runs[0].record["metrics"]["accuracy"] > 0.6
        assert runs[0].record["weights"]["sha256"] == runs[1].record["weights"]["sha256"]
        assert runs[0].record["recipe"]["arch"]["source"] == "timm"
