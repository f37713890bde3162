"""A trained model by itself: from image files of any size to logits, as modes pp and predict do it.

It needs nothing but the folder of the model, neither tensors nor a task.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from foldwise.artifacts import read_json
from foldwise.config.callbacks import TestTimeAugmentation
from foldwise.config.pipeline import Pipeline
from foldwise.config.preprocessing import Preprocessing
from foldwise.data.augment import Normalize
from foldwise.data.batches import BatchPlan
from foldwise.data.packed import decode_into, encode_rows
from foldwise.data.steps import apply_steps, smallest_side
from foldwise.errors import NOTHING, DataError, DataProblems, Problem, Words, shorten
from foldwise.inference import checks
from foldwise.inference.predict import NO_VARIATIONS, load_network, predict_pixels, speed_up
from foldwise.inference.variations import check_images
from foldwise.models.network import Network
from foldwise.tasks.decode import Unreadable, damage_told, decode, load_rgb, orientation, to_rgb, turn

ImageLike = str | Path | Image.Image | np.ndarray
COLOURS = (3, 4)  # channels of an array of colours, without and with transparency


class TrainedModel(nn.Module):
    """A trained network with what comes before it: preprocessing, normalisation, test-time augmentation.

    Parameters
    ----------
    record : dict
        Content of ``model.json``.
    recipe : Pipeline
        How it was trained.
    network : Network
        With its weights, ready to predict in the units of the targets.
    normalize : Normalize
        What comes before it.
    size : tuple of int
        Height and width of its images.
    tta : TestTimeAugmentation
        Variations of each image that are predicted too.

    Attributes
    ----------
    task_type : str
        What `predict` gives logits of.
    classes : list of str
        In the order of logits; empty for regression.
    batch_size : int
        Images that `predict` works on together.
    """

    def __init__(
        self,
        record: dict[str, Any],
        recipe: Pipeline,
        network: Network,
        normalize: Normalize,
        size: tuple[int, int],
        tta: TestTimeAugmentation = NO_VARIATIONS,
    ) -> None:
        super().__init__()
        self.record = record
        self.network = network
        self.normalize = normalize
        self.preprocessing = recipe.preprocessing
        self.size = size
        self.tta = tta
        self.task_type = str(record["type"])
        self.classes = list(record["classes"])
        self.batch_size = recipe.sampling.batch_size

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits of images that are preprocessed already.

        Parameters
        ----------
        images : Tensor of uint8 or float, shape (n, channels, height, width)
            Pixels from 0 to 255 as tensors hold them, not normalised; of the size of the model.

        Returns
        -------
        Tensor
            Float32 of shape (n, classes), for regression (n, 1) in the units of the targets, for segmentation float16
            of shape (n, classes, height, width).

        Raises
        ------
        DataError
            If images have another shape.
        """
        expected = (self.record["channels"], *self.size)
        if images.ndim != 4 or tuple(images.shape[1:]) != expected:
            shape = f"shape (n, {', '.join(map(str, expected))})"
            raise DataError("images", Words(f"shape {tuple(images.shape)}"), shape, "`predict` takes any size.")
        pixels = images.contiguous(memory_format=torch.channels_last)
        return predict_pixels(self.network, self.normalize, pixels, self.tta)

    @torch.inference_mode()
    def predict(self, images: ImageLike | Sequence[ImageLike]) -> np.ndarray:
        """Return the logits of images of any size.

        Parameters
        ----------
        images : path, PIL image, ndarray, or sequence of these
            Files are decoded as mode pp does it: a large JPEG may be decoded at reduced size. PIL images and arrays are
            taken as they are. An array is an image of shape (height, width), grey, uint8 or uint16, or of shape
            (height, width, 3) or (height, width, 4), uint8; of four axes it is many images.

        Returns
        -------
        ndarray
            Of shape (n, classes), (n, 1) or (n, classes, height, width) as in `forward`; maps have the size of the
            network's images.

        Raises
        ------
        DataProblems
            If images cannot be read; lists all of them.
        DataError
            If there is no image.
        """
        listed = as_list(images)
        if not listed:
            raise DataError("images", NOTHING, "at least one image")
        found: list[np.ndarray] = []
        problems: list[Problem] = []
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=True):
            for places in BatchPlan(len(listed), self.batch_size).batches(0):
                rows = self.preprocess([listed[place] for place in places], int(places[0]), problems)
                if not problems:
                    found.append(self(torch.from_numpy(rows).permute(0, 3, 1, 2)).cpu().numpy())
        if problems:
            raise DataProblems("images", problems, "images that can be read", "Mend them, or leave them out.")
        return np.concatenate(found)

    def preprocess(self, images: Sequence[ImageLike], first: int, problems: list[Problem]) -> np.ndarray:
        """Return images as tensors hold them, uint8 of shape (n, height, width, channels); note those that fail."""
        rows = np.zeros((len(images), *self.size, 3), np.uint8)
        for place, image in enumerate(images):
            try:
                rows[place] = as_stored(image, self.preprocessing, self.size[0])
            except Unreadable as error:
                where = str(image) if isinstance(image, str | Path) else f"image {first + place}"
                problems.append(Problem(where, error.reason))
        return rows

    def probabilities(self, images: ImageLike | Sequence[ImageLike]) -> np.ndarray:
        """Return the probabilities of the classes: softmax of logits, of a multi-label task sigmoid.

        Parameters
        ----------
        images : path, PIL image, ndarray, or sequence of these
            As in `predict`.

        Returns
        -------
        ndarray of float32
            Of the shape of the logits.

        Raises
        ------
        DataError
            If the task is one of regression.
        """
        if self.task_type == "regression":
            expected = "a task with classes"
            raise DataError("model", Words("a model of task type regression"), expected, "`predict` gives its values.")
        logits = torch.from_numpy(self.predict(images)).float()
        return (logits.sigmoid() if self.task_type == "multilabel" else logits.softmax(dim=1)).numpy()

    def extra_repr(self) -> str:
        """Say what it is, above its layers."""
        model = f"{self.record['pipeline']} on {self.record['task']}, fold {self.record['fold']}"
        pixels = f"{self.size[0]} x {self.size[1]} pixels"
        return f"{model}, {self.task_type} of {len(self.classes)} classes, images of {pixels}"


def load_model(
    folder: Path, tta: TestTimeAugmentation = NO_VARIATIONS, device: str | torch.device = "cpu"
) -> TrainedModel:
    """Load a trained model, ready to predict.

    Parameters
    ----------
    folder : Path
        Where ``model.json`` and ``model.safetensors`` are.
    tta : TestTimeAugmentation
        Variations of each image that are predicted too.
    device : str or torch.device
        Where it works. On a GPU it predicts in the precision that mode predict has there.

    Raises
    ------
    MissingData, DataError
        If a file is missing or damaged, the weights were not stored, or there is no such device.
    """
    path, weights = folder / "model.json", folder / "model.safetensors"
    record = read_json(path)
    recipe = checks.recipe_of(record)
    checks.check_weights(record, weights, path)
    size = size_of(record, recipe, path)
    check_images(tta, record["type"], *size)
    network, normalize = load_network(record, weights, size, find_device(device))
    speed_up(network, recipe.trainer, normalize.scale.device, 0)
    return TrainedModel(record, recipe, network, normalize, size, tta).eval()


def size_of(record: dict[str, Any], recipe: Pipeline, path: Path) -> tuple[int, int]:
    """Return height and width of the images of a model."""
    if record.get("size"):
        height, width = record["size"]
        return height, width
    side = recipe.preprocessing.size
    if side == "auto":
        raise DataError(path, Words("a model without the size of its images"), "size", "Train it anew.")
    return side, side


def find_device(name: str | torch.device) -> torch.device:
    """Return a device; raise `DataError` if there is none of this name."""
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        expected = "a device of this machine" + (", such as cuda" if torch.cuda.is_available() else ": cpu")
        raise DataError("device", str(name), expected, f"torch says: {reason}") from error
    return device


def as_list(images: ImageLike | Sequence[ImageLike]) -> list[ImageLike]:
    """Return one image or many as a list."""
    if isinstance(images, np.ndarray) and images.ndim == 4:
        return list(images)
    return [images] if isinstance(images, str | Path | Image.Image | np.ndarray) else list(images)


def as_stored(image: ImageLike, recipe: Preprocessing, side: int) -> np.ndarray:
    """Return an image as it would be read from tensors: after all steps and, in JPEG storage, the loss of that.

    Raises
    ------
    Unreadable
        If it is no whole image.
    """
    row = np.array(apply_steps(as_picture(image, smallest_side(recipe, side)), recipe, side))
    if recipe.storage == "jpeg":
        decode_into(row, encode_rows(row[None], recipe.quality)[0])
    return row


def as_picture(image: ImageLike, smallest: int | None) -> Image.Image:
    """Return an image in mode RGB, turned as its file says; raise `Unreadable` if it is none."""
    if isinstance(image, str | Path):
        return load_rgb(Path(image), smallest)
    if isinstance(image, np.ndarray):
        return to_rgb(from_array(image))
    if isinstance(image, Image.Image):
        with damage_told():
            return turn(to_rgb(decode(image.copy())), orientation(image))
    raise Unreadable(f"a value of type {type(image).__name__}, not a path, PIL image or array")


def from_array(array: np.ndarray) -> Image.Image:
    """Return an array as an image; raise `Unreadable` if it has not the form of one."""
    grey = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    is_grey = grey.ndim == 2 and grey.dtype in (np.uint8, np.uint16, np.bool_)
    if array.size and (is_grey or (array.ndim == 3 and array.shape[2] in COLOURS and array.dtype == np.uint8)):
        return Image.fromarray(np.ascontiguousarray(grey))
    forms = "uint8 of shape (height, width), (height, width, 3) or (height, width, 4)"
    raise Unreadable(f"an array of {array.dtype} and shape {shorten(Words(str(array.shape)))}, not {forms}")
