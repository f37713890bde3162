"""Images whose pixels tell positions, and what changes them."""

import numpy as np
import torch

from foldwise.config.pipeline import Operation, kornia_operations
from foldwise.data.augment import Augment, AugmentWithMasks, Normalize
from foldwise.data.policies import POLICIES

SIZE = (32, 32)
NEEDED = {  # arguments that have no default in kornia
    "RandomAffine": {"degrees": 30.0},
    "RandomGaussianBlur": {"kernel_size": [3, 3], "sigma": [0.1, 2.0]},
    "RandomMotionBlur": {"kernel_size": 3, "angle": 35.0, "direction": 0.5},
    "RandomRotation": {"degrees": 30.0},
    "RandomRotation90": {"times": [0, 3]},
    "RandomShear": {"shear": 20.0},
}
TARGETS = torch.arange(4)
OPERATIONS = [name for name in kornia_operations() if name not in POLICIES]
PLAIN = Normalize([0.0] * 3, [1.0] * 3)
ROWS, COLUMNS = (places.to(torch.uint8) for places in torch.meshgrid(*map(torch.arange, SIZE), indexing="ij"))
POSITIONS = torch.stack([COLUMNS, ROWS, torch.full_like(ROWS, 255)])[None].repeat(16, 1, 1, 1)


def noise():
    """Four times the same noise, as bytes."""
    one = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, *SIZE), dtype=np.uint8))
    return one.repeat(4, 1, 1, 1).contiguous(memory_format=torch.channels_last)


def operation(name, **arguments):
    return Operation.model_validate({"name": name, **arguments})


def augment(pixels, *operations, seed=0, normalize=PLAIN):
    torch.manual_seed(seed)
    return Augment(list(operations), SIZE, normalize)(pixels, TARGETS)[0]


def augment_with_masks(pixels, masks, *operations):
    torch.manual_seed(0)
    return AugmentWithMasks(list(operations), SIZE, PLAIN)(pixels, masks)
