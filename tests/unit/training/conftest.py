"""What makes many short trainings quick."""

import gc

import pytest


@pytest.fixture(scope="package", autouse=True)
def _quick():
    """Let Lightning's tuner, which collects garbage again and again, not look at what was there before."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
