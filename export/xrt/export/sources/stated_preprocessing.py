"""What models carry about their preprocessing, in the words of the library that they come from.

timm's data config (`pretrained_cfg`), the transforms of torchvision's weights, and the `preprocessor_config.json` that
Hugging Face writes beside a model; a torchvision `Compose` in the module of a factory. What cannot be expressed exactly
is left unstated, and is then assumed and announced.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from xrt.runtime.bundle.manifest import Interpolation
from xrt.runtime.errors import ModelError
from xrt.train.models import Normalisation

_PILLOW_FILTERS: dict[int, Interpolation] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "area"}
"""`resample` of Hugging Face: Pillow's numbers."""
_BY_NAME: dict[str, Interpolation] = {
    "nearest": "nearest",
    "bilinear": "bilinear",
    "bicubic": "bicubic",
    "lanczos": "lanczos",
    "box": "area",
}


@dataclass(frozen=True)
class StatedPreprocessing:
    """The fields of `Preprocessing` that somebody stated; None for the others."""

    interpolation: Interpolation | None = None
    antialias: bool | None = None
    fit: Literal["stretch", "crop", "pad"] | None = None
    crop: float | None = None
    equalisation: Literal["none", "histogram"] | None = None
    border_crop: float | None = None
    invert: bool | None = None

    def stated(self) -> dict[str, Any]:
        """The stated fields by name."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}

    def over(self, other: StatedPreprocessing) -> StatedPreprocessing:
        """These statements, and the other's where these say nothing."""
        return StatedPreprocessing(**{**other.stated(), **self.stated()})


NOTHING_STATED = StatedPreprocessing()


def of_timm(config: Mapping[str, Any]) -> StatedPreprocessing:
    """timm's data config: resize to size / crop_pct, then the centre, with Pillow's antialiased filters.

    `crop_mode` squash and border with a crop have no equivalent, and leave `fit` unstated.
    """
    share, mode = float(config.get("crop_pct") or 1.0), config.get("crop_mode") or "center"
    interpolation = _BY_NAME.get(str(config.get("interpolation")))
    if mode == "center":
        return StatedPreprocessing(interpolation, True, "crop", min(share, 1.0), "none")
    fit = {"squash": "stretch", "border": "pad"}.get(mode) if share == 1 else None
    return StatedPreprocessing(interpolation, True, fit, None, "none")  # type: ignore[arg-type]


def _filter_of(mode: Any) -> Interpolation | None:
    """torchvision's interpolation mode, which is an enumeration or, in a transform, already its name."""
    return _BY_NAME.get(str(getattr(mode, "value", mode)))


def of_torchvision(transforms: Any) -> StatedPreprocessing:
    """The `ImageClassification` transforms of torchvision's weights: resize the shorter side, then the centre."""
    resize, crop = transforms.resize_size[0], transforms.crop_size[0]
    interpolation = _filter_of(transforms.interpolation)
    antialias = transforms.antialias is not False  # Pillow images are always antialiased
    return StatedPreprocessing(interpolation, antialias, "crop", min(crop / resize, 1.0), "none")


@dataclass(frozen=True)
class PreprocessorConfig:
    """What a whole pipeline states: preprocessing, input size, mean and std in units of full scale."""

    preprocessing: StatedPreprocessing
    size: tuple[int, int] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]


def normalisation_of(config: PreprocessorConfig, channels: int) -> Normalisation | None:
    """Its mean and std for so many channels; None where they are no normalisation."""
    mean, std = (v * channels if len(v) == 1 else v for v in (config.mean, config.std))
    try:
        return Normalisation(mean=mean, std=std)
    except ValueError:
        return None


def config_beside(path: Path) -> PreprocessorConfig | None:
    """The `preprocessor_config.json` in the folder of a file, where there is one."""
    config = path.with_name("preprocessor_config.json")
    return read_preprocessor_config(config) if config.is_file() else None


def labels_beside(path: Path) -> tuple[str, ...] | None:
    """The classes by `id2label` of a `config.json` in the folder of a file, in the order of the logits; else None."""
    try:
        named = json.loads(path.with_name("config.json").read_text(encoding="utf-8"))["id2label"]
        return tuple(str(named[str(i)]) for i in range(len(named))) or None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_preprocessor_config(path: Path) -> PreprocessorConfig:
    """Read the file that Hugging Face's image processors write. Raises ModelError when it is no such file."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        return _of_hugging_face(config)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(
            f"{path} is not a preprocessor config of Hugging Face: {error}; correct or remove it"
        ) from error


def _of_hugging_face(config: dict[str, Any]) -> PreprocessorConfig:
    resample = config.get("resample")
    interpolation = None if resample is None else _PILLOW_FILTERS.get(int(resample))
    resized, cropped = _sides(config.get("size")), _sides(config.get("crop_size"))
    fit: Literal["stretch", "crop", "pad"] | None = None
    crop = None
    if config.get("do_center_crop"):
        shortest = _shortest(config.get("size"))
        if shortest is not None and cropped is not None and cropped[0] == cropped[1]:
            fit, crop = "crop", min(cropped[0] / shortest, 1.0)
    elif resized is not None:
        fit = "stretch"
    size = cropped if config.get("do_center_crop") else resized
    mean, std = config.get("image_mean"), config.get("image_std")
    scale = float(config.get("rescale_factor", 1 / 255)) * 255 if config.get("do_rescale", True) else 255.0
    if not config.get("do_normalize", True) or mean is None or std is None:
        mean, std = [0.0], [1.0]
    # The network sees (pixel · factor - mean) / std, here written for pixel / 255.
    return PreprocessorConfig(
        StatedPreprocessing(interpolation, True if interpolation is not None else None, fit, crop, "none"),
        size,
        tuple(float(m) / scale for m in mean),
        tuple(float(s) / scale for s in std),
    )


def _sides(size: Any) -> tuple[int, int] | None:
    """Height and width; None for a size that is the shorter side alone."""
    if isinstance(size, dict):
        return (int(size["height"]), int(size["width"])) if "height" in size else None
    return None if size is None else (int(size), int(size))


def _shortest(size: Any) -> int | None:
    if isinstance(size, dict):
        return int(size["shortest_edge"]) if "shortest_edge" in size else None
    return None if size is None else int(size)


def of_compose(compose: Any, where: str) -> PreprocessorConfig:
    """A torchvision `Compose`, of either version of its transforms, translated step by step.

    Raises ModelError that names a step which has no equivalent: it changes what the network sees.
    """
    statement = NOTHING_STATED
    size: tuple[int, int] | None = None
    mean, std = (0.0,), (1.0,)
    resized: list[int] = []
    for step in compose.transforms:
        kind = type(step).__name__
        if kind == "Resize":
            resized = [step.size] if isinstance(step.size, int) else list(step.size)
            interpolation = _filter_of(step.interpolation)
            if len(resized) == 2:
                size = resized[0], resized[1]
            fit = "stretch" if len(resized) == 2 else None
            statement = StatedPreprocessing(interpolation, step.antialias is not False, fit).over(statement)
        elif kind == "CenterCrop" and len(resized) == 1 and step.size[0] == step.size[1]:
            size = int(step.size[0]), int(step.size[1])
            statement = StatedPreprocessing(fit="crop", crop=min(size[0] / resized[0], 1.0)).over(statement)
        elif kind == "Normalize":
            mean, std = tuple(map(float, step.mean)), tuple(map(float, step.std))
        elif kind not in _WITHOUT_EFFECT:
            raise ModelError(
                f"{where} has the step {kind}, which has no equivalent in a bundle: remove it, or rename {where} and"
                " state the preprocessing with options"
            )
    return PreprocessorConfig(statement.over(StatedPreprocessing(equalisation="none")), size, mean, std)


_WITHOUT_EFFECT = {"ConvertImageDtype", "Grayscale", "PILToTensor", "ToDtype", "ToImage", "ToTensor"}
"""Steps that change types and channels of a grey image, and no grey level."""
