"""Load configurations with the shipped presets, and no tasks but embedded ones and those that a test defines."""

from pathlib import Path

import pytest

from foldwise.config.load import Library, load_config
from foldwise.errors import FoldwiseError

FOLDER = Path(__file__).parents[3] / "config"
SHIPPED = Library.read(FOLDER)
LIBRARY = Library(SHIPPED.presets, {}, SHIPPED.pipelines)
SMALL = {"name": "resnet10", "block_inplanes": [16, 32, 64, 128], "conv1_t_size": 3, "conv1_t_stride": 1}


def load(raw=None, **keys):
    return load_config({**(raw or {}), **keys}, LIBRARY)


def recipe(raw=None, pipeline="default", **keys):
    return load(raw, **keys).pipelines[pipeline]


def message(raw=None, **keys):
    with pytest.raises(FoldwiseError) as caught:
        load(raw, **keys)
    return caught.value.message
