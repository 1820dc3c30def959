"""Reference outputs from PyTorch: the module's own logits, and CAMs by autograd at the explained tensor itself.

The exported program is functional, so no in-place operator can overwrite an activation after it was read, and its
node names are the graph's value names: a tensor that is no module's output can be read like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8

from xrt.export.cams.explained_logits import ExplainedLogits
from xrt.export.references.maps import METHODS, as_map
from xrt.export.references.reference import Reference, explained_classes, float_pixels
from xrt.export.targets.activation_layout import ActivationLayout
from xrt.runtime.bundle.manifest import CamSpec
from xrt.runtime.errors import ModelError
from xrt.runtime.outputs import ModelOutputs
from xrt.train.models import Normalisation


class TorchReference(Reference):
    """Outputs of a PyTorch model for uint8 images [n, 1, H, W].

    `module` gives the logits, `program` (its exported program) the gradients; `logits_name` is the node
    of the logits where a final activation was removed. `cams` describe the maps, `layouts` the activation of each.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        program: torch.export.ExportedProgram,
        logits_name: str | None,
        cams: Sequence[CamSpec],
        layouts: Sequence[ActivationLayout],
        explained: ExplainedLogits,
        normalisation: Normalisation,
    ) -> None:
        self.name = f"torch {torch.__version__.partition('+')[0]} autograd, fp32"
        self.module, self.program, self.logits_name = module.eval(), program, logits_name
        self.cams, self.layouts, self.explained = list(cams), list(layouts), explained
        self.normalisation = normalisation
        self._tensors = list(dict.fromkeys(cam.tensor for cam in cams))
        self._tail = _Tail(program, self._tensors, logits_name)

    def pixels(self, images: UInt8[np.ndarray, "n 1 h w"]) -> Float[torch.Tensor, "n channels h w"]:
        """The float input of the module for these images."""
        return float_pixels(images, self.normalisation)

    @torch.enable_grad()
    def _outputs(self, images: UInt8[np.ndarray, "n 1 h w"]) -> ModelOutputs:
        """Raises ModelError when the exported program and the module differ."""
        x = self.pixels(images)
        with torch.no_grad():
            module_output = self.module(x)
        program_output, logits, activations = self._tail.forward(x)
        error = (program_output.detach() - module_output).abs().max().item()
        if not error <= 1e-3 * (1 + module_output.abs().max().item()):
            raise ModelError(f"torch's exported program differs from the module by {error:.2g} in its output")
        classes = explained_classes(logits.detach(), self.explained)
        maps: list[list[torch.Tensor]] = [[] for _ in self.cams]
        for column in classes.T:
            signs = torch.tensor(self.explained.signs)[column]
            score = (signs * logits.gather(1, column[:, None])[:, 0]).sum()
            gradients = dict(
                zip(self._tensors, torch.autograd.grad(score, activations, retain_graph=True), strict=True)
            )
            by_name = dict(zip(self._tensors, activations, strict=True))
            for cam_maps, cam, layout in zip(maps, self.cams, self.layouts, strict=True):
                a, g = (as_map(layout, t.detach()) for t in (by_name[cam.tensor], gradients[cam.tensor]))
                cam_maps.append(METHODS[cam.method](a, g).relu())
        cams = {cam.output: torch.stack(m, dim=1).float().numpy() for cam, m in zip(self.cams, maps, strict=True)}
        top = classes.numpy() if self.explained.top_k else None
        return ModelOutputs(logits.detach().float().numpy(), cams, top)


class _Tail(torch.fx.Interpreter):
    """Runs a program without gradients up to the first target, and with them from there on."""

    def __init__(
        self, program: torch.export.ExportedProgram, targets: Sequence[str], logits: str | None = None
    ) -> None:
        module = program.module()
        super().__init__(module)
        names = {node.name for node in module.graph.nodes}
        if missing := [name for name in (*targets, *([logits] if logits else [])) if name not in names]:
            raise ModelError(f"tensor {missing[0]!r} is not in torch's program: choose another --target-layer")
        self._targets, self._logits = list(targets), logits
        self._values: dict[str, torch.Tensor] = {}

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        """The output, the logits with their graph, [n, classes], and the activations of the targets."""
        self._values = {}
        with torch.no_grad():
            result = self.run(x)
        output = result[0] if isinstance(result, (tuple, list)) else result
        logits = self._values[self._logits] if self._logits else output
        return output, logits.reshape(len(x), -1), [self._values[name] for name in self._targets]

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call an operator; torch's primitives have no gradient, but are made of operators that do."""
        if target is torch.ops.prims.var.default:
            x, axes, correction = (*args, kwargs.get("correction", 1))[:3]
            return torch.var(x, axes, correction=correction)
        if getattr(target, "namespace", None) == "prims" and (by_aten := getattr(target, "impl_aten", None)):
            return by_aten(*args, **kwargs)
        return super().call_function(target, args, kwargs)

    def run_node(self, n: torch.fx.Node) -> object:
        """Run one node; the first target becomes the leaf from which gradients are taken."""
        value = super().run_node(n)
        if n.name in self._targets:
            tensor = _as_tensor(value, n.name)
            if not torch.is_grad_enabled():
                torch.set_grad_enabled(True)
                value = tensor.detach().clone().requires_grad_()
        if n.name in self._targets or n.name == self._logits:
            self._values[n.name] = _as_tensor(value, n.name)
        return value


def _as_tensor(value: object, name: str) -> torch.Tensor:
    if not isinstance(value, torch.Tensor):
        raise ModelError(f"{name!r} of torch's program is a {type(value).__name__}, not a tensor: choose another layer")
    return value
