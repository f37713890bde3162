"""From images to tensors: named steps that end in one size."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from foldwise.config.definition import Name
from foldwise.config.section import Section
from foldwise.errors import ConfigError, Words

Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]


class PreprocessingStep(Section):
    """One step from an image to its tensor."""


class Resize(PreprocessingStep):
    """Resize to the final size, whatever the shape."""

    name: Literal["resize"] = Field(description="Step.")
    interpolation: Interpolation = Field("bilinear", description="How new pixels are computed; masks: always nearest.")


class ResizeShorter(PreprocessingStep):
    """Resize so that the shorter side is the final size; the shape is kept."""

    name: Literal["resize_shorter"] = Field(description="Step.")
    interpolation: Interpolation = Field("bilinear", description="How new pixels are computed; masks: always nearest.")


class ResizeLonger(PreprocessingStep):
    """Resize so that the longer side is the final size; the shape is kept."""

    name: Literal["resize_longer"] = Field(description="Step.")
    interpolation: Interpolation = Field("bilinear", description="How new pixels are computed; masks: always nearest.")


class CenterCrop(PreprocessingStep):
    """Cut the centre out of sides that are longer than the final size."""

    name: Literal["center_crop"] = Field(description="Step.")


class Pad(PreprocessingStep):
    """Add a border to sides that are shorter than the final size; masks: ignored pixels."""

    name: Literal["pad"] = Field(description="Step.")
    fill: Annotated[int, Field(ge=0, le=255)] = Field(0, description="Grey value of the border.")


class CropForeground(PreprocessingStep):
    """Cut off dark borders."""

    name: Literal["crop_foreground"] = Field(description="Step.")
    threshold: Annotated[int, Field(ge=0, le=254)] = Field(10, description="Highest grey value that counts as dark.")


class Autocontrast(PreprocessingStep):
    """Stretch each channel to the whole range of values."""

    name: Literal["autocontrast"] = Field(description="Step.")
    cutoff: Annotated[float, Field(ge=0, lt=50)] = Field(0.0, description="Per cent of values cut off at either end.")


class Grey(PreprocessingStep):
    """Make all channels the luminance."""

    name: Literal["grey"] = Field(description="Step.")


PreprocessingChoice = Annotated[
    Resize | ResizeShorter | ResizeLonger | CenterCrop | Pad | CropForeground | Autocontrast | Grey,
    Field(discriminator="name"),
]
DEFAULT_STEPS: list[Any] = [ResizeShorter(name="resize_shorter"), CenterCrop(name="center_crop")]


def ends_in_final_size(steps: Iterable[str]) -> bool:
    """Tell whether both sides of every image have the final size after steps, given by name."""
    long_enough = short_enough = False  # what holds of both sides, whatever the image was
    for step in steps:
        if step == "resize":
            long_enough = short_enough = True
        elif step in ("resize_shorter", "resize_longer") and not (long_enough and short_enough):
            long_enough, short_enough = step == "resize_shorter", step == "resize_longer"
        elif step == "pad":
            long_enough = True
        elif step == "center_crop":
            short_enough = True
        elif step == "crop_foreground":
            long_enough = False
    return long_enough and short_enough


class Preprocessing(Section):
    """How stored tensors are made from images; it names a folder of tensors shared by all tasks."""

    id: Annotated[str, Words("letters, digits, `.`, `-` and `_`, at most 60")] = Field(
        "default",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
        max_length=60,
        description="Name of the recipe; the folder is the name and a digest of the definition.",
    )
    size: Literal["auto"] | Annotated[int, Field(ge=8, le=4096)] = Field(
        "auto",
        description="Side of the square tensors in pixels; `auto`: the median side of the dataset, rounded to a "
        "multiple of 32 between 32 and 256.",
    )
    steps: list[PreprocessingChoice] = Field(
        DEFAULT_STEPS, min_length=1, description="What is done to an image, in order; ends in the final size."
    )
    reduced_decoding: bool = Field(
        True, description="Decode JPEGs at reduced scale where the result is at least twice smaller."
    )
    storage: Literal["raw", "jpeg"] = Field(
        "raw", description="`raw`: pixels, read without decoding; `jpeg`: a tenth of the space, decoded while training."
    )
    quality: Annotated[int, Field(ge=1, le=100)] = Field(95, description="Quality of stored JPEGs.")

    @model_validator(mode="after")
    def _check_final_size(self) -> Preprocessing:
        if not ends_in_final_size([step.name for step in self.steps]):
            expected = (
                "steps that end in the final size (`resize`; `resize_shorter`, `center_crop`; `resize_longer`, `pad`)"
            )
            raise ConfigError("steps", Words(", ".join(step.name for step in self.steps)), expected)
        return self


class TensorRecord(Section):
    """Tensors of a dataset in one preprocessing; recorded in ``manifest.json``."""

    dataset: Name
    preprocessing: Preprocessing = Preprocessing()
