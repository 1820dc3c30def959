"""What a bundle is compared with: eager PyTorch, alone and with pytorch-grad-cam. Needs the extra `torch`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM, XGradCAM
from pytorch_grad_cam.base_cam import BaseCAM
from pytorch_grad_cam.utils.model_targets import BinaryClassifierOutputTarget, ClassifierOutputTarget

from xrt.export.references.maps import as_map
from xrt.export.references.probe import probed_module
from xrt.export.references.reference import explained_classes, float_pixels
from xrt.export.references.torch_reference import TorchReference
from xrt.export.sources import TorchSource
from xrt.runtime.bundle.manifest import CamMethod

_METHODS: dict[CamMethod, type[BaseCAM]] = {
    "gradcam": GradCAM,
    "hirescam": HiResCAM,
    "gradcam++": GradCAMPlusPlus,
    "xgradcam": XGradCAM,
    "layercam": LayerCAM,
}


def eager(source: TorchSource, images: UInt8[np.ndarray, "n 1 height width"]) -> dict[str, Callable[[], object]]:
    """Forward passes of the module: as PyTorch does by default, channels-last, and channels-last in bf16."""
    module, x = source.module.eval(), float_pixels(images, source.normalisation)
    module_last = copy.deepcopy(module).to(memory_format=torch.channels_last)
    x_last = x.contiguous(memory_format=torch.channels_last)

    def plain() -> object:
        with torch.inference_mode():
            return module(x)

    def channels_last() -> object:
        with torch.inference_mode():
            return module_last(x_last)

    def bf16() -> object:
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
            return module_last(x_last)

    return {"eager": plain, "eager, channels-last": channels_last, "eager, channels-last, bf16": bf16}


def grad_cam(
    source: TorchSource, layer: str, images: UInt8[np.ndarray, "n 1 height width"], classes: Sequence[int]
) -> Callable[[], object]:
    """pytorch-grad-cam as its users call it: on the model itself, hooked at module `layer`, once for each class."""
    module = source.module.eval()
    x = float_pixels(images, source.normalisation)
    cam = GradCAM(model=module, target_layers=[module.get_submodule(layer)])
    # pytorch-grad-cam declares modules here and takes any callable.
    targets: list[Any] = [_target(source.signs, c) for c in classes]

    def explain() -> object:
        return [cam(input_tensor=x, targets=[target] * len(x)) for target in targets]

    return explain


def unscaled_cams(
    reference: TorchReference,
    images: UInt8[np.ndarray, "n 1 height width"],
    output: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Float[np.ndarray, "n maps h w"]:
    """pytorch-grad-cam's maps before it scales them, at cloned activations; one for each explained class.

    `output` counts the CAM outputs of the graph. The program is run in `dtype`.
    """
    spec, layout = reference.cams[output], reference.layouts[output]
    module = probed_module(reference.program, spec.tensor, reference.logits_name).to(dtype)
    x = reference.pixels(images).to(dtype)
    maps = []
    method, probe = _METHODS[spec.method], [module.get_submodule("probe")]
    with method(model=module, target_layers=probe, reshape_transform=lambda t: as_map(layout, t)) as cam:
        with torch.no_grad():
            classes = explained_classes(_logits(cam, x), reference.explained)
        for column in classes.T:
            logits = _logits(cam, x).flatten(1)
            module.zero_grad()
            targets: list[Any] = [_target(reference.explained.signs, int(c)) for c in column]
            torch.stack([target(row) for target, row in zip(targets, logits, strict=True)]).sum().backward()
            activations = cam.activations_and_grads.activations[0].numpy()
            gradients = cam.activations_and_grads.gradients[0].numpy()
            weighted = cam.get_cam_image(x, probe[0], targets, activations, gradients, False)
            maps.append(np.maximum(weighted, 0))
    return np.stack(maps, axis=1)


def _logits(cam: BaseCAM, x: torch.Tensor) -> torch.Tensor:
    output = cam.activations_and_grads(x)
    return output[0] if isinstance(output, (tuple, list)) else output


def _target(signs: Sequence[float], index: int) -> Callable[[torch.Tensor], torch.Tensor]:
    if len(signs) == 1:
        return BinaryClassifierOutputTarget(1 if signs[0] > 0 else 0)
    return ClassifierOutputTarget(index)
