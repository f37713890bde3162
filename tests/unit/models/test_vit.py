"""The vision transformer: what its token sees, and the names of its weights."""

import pytest
import torch

from foldwise.models.vit import VisionTransformer


def build(size=(16, 24), **keys):
    torch.manual_seed(0)
    given = {"patch_size": 8, "hidden_size": 16, "mlp_dim": 32, "layers": 2, "heads": 4, "qkv_bias": False, **keys}
    return VisionTransformer(3, size, **given).eval()


def test_there_is_a_feature_vector_an_image():
    assert build()(torch.rand(5, 3, 16, 24)).shape == (5, 16)


@pytest.mark.parametrize("place", [(0, 0), (15, 23), (7, 12)])
def test_every_pixel_matters(place):
    network, images = build(), torch.zeros(2, 3, 16, 24)
    images[1, :, place[0], place[1]] = 1
    first, second = network(images)
    assert not torch.allclose(first, second)


def test_places_of_patches_matter():
    network, image = build(), torch.rand(1, 3, 16, 24)
    assert not torch.allclose(network(image), network(image.roll(8, dims=3)))


def test_images_do_not_see_each_other():
    network, images = build(), torch.rand(4, 3, 16, 24)
    torch.testing.assert_close(network(images)[2:3], network(images[2:3]))


def test_attention_is_the_weighted_mean_of_values():
    attention = build(heads=1).blocks[0].attn
    tokens = torch.rand(1, 3, 16)
    queries, keys, values = attention.qkv(tokens)[0].split(16, dim=1)
    weights = torch.softmax(queries @ keys.T / 4, dim=1)
    torch.testing.assert_close(attention(tokens)[0], attention.out_proj(weights @ values))


def test_weights_have_the_names_of_monai():
    names = {name for name in build(qkv_bias=True).state_dict() if not name.startswith("blocks.1")}
    layers = ("norm1", "norm2", "attn.qkv", "attn.out_proj", "mlp.linear1", "mlp.linear2")
    parts = [f"blocks.0.{layer}" for layer in layers] + ["norm", "patch_embedding.patch_embeddings"]
    expected = {f"{part}.{kind}" for part in parts for kind in ("weight", "bias")}
    assert names == {*expected, "cls_token", "patch_embedding.position_embeddings"}


def test_bias_is_a_choice():
    assert build().blocks[0].attn.qkv.bias is None
    assert build(qkv_bias=True).blocks[0].attn.qkv.bias is not None
