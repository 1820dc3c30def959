"""Reference answers from PyTorch: the module's own logits, and CAMs by autograd at the very tensor that is explained.

The exported program is functional, so no in-place operator can overwrite an activation after it was read, and its
node names are the graph's value names: a tensor that no module owns can be fetched like any other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8

from xrt.runtime.bundle.manifest import CamSpec
from xrt.runtime.errors import ModelError
from xrt.runtime.gate import Answers


def float_pixels(
    images: UInt8[np.ndarray, "n 1 h w"], mean: Sequence[float], std: Sequence[float]
) -> Float[torch.Tensor, "n channels h w"]:
    """What a float model is given for uint8 images: (pixel / 255 - mean) / std for each channel, in float32."""
    grey = torch.from_numpy(images).to(torch.float64) / 255
    centre, deviation = (torch.tensor(v, dtype=torch.float64).view(1, -1, 1, 1) for v in (mean, std))
    return ((grey - centre) / deviation).to(torch.float32)


class TorchReference:
    """Answers of a PyTorch model to uint8 images [n, 1, H, W].

    `module` gives the logits, `program` (its exported program) the gradients; `mean` and `std` are those of the
    graph. `explained` and `signs` are as in `cams.explain`.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        program: torch.export.ExportedProgram,
        cams: Sequence[CamSpec],
        explained: Sequence[int],
        signs: Sequence[float],
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        self.module, self.program = module.eval(), program
        self.cams, self.explained, self.signs = list(cams), list(explained), list(signs)
        self._mean, self._std = mean, std
        self._tail = _Tail(program, [cam.tensor for cam in cams])

    def pixels(self, images: UInt8[np.ndarray, "n 1 h w"]) -> Float[torch.Tensor, "n channels h w"]:
        """The float input of the module for these images."""
        return float_pixels(images, self._mean, self._std)

    def answer(self, images: UInt8[np.ndarray, "n 1 h w"], batch_size: int = 8) -> Answers:
        """Logits and CAMs of all images. Raises ModelError when the exported program is not the module."""
        batches = [self._answer(images[i : i + batch_size]) for i in range(0, len(images), batch_size)]
        names = [cam.output for cam in self.cams]
        return Answers(
            logits=np.concatenate([b.logits for b in batches]),
            cams={name: np.concatenate([b.cams[name] for b in batches]) for name in names},
        )

    def _answer(self, images: UInt8[np.ndarray, "n 1 h w"]) -> Answers:
        x = self.pixels(images)
        with torch.no_grad():
            logits = self.module(x)
        traced, activations = self._tail.forward(x)
        error = (traced.detach() - logits).abs().max().item()
        if not error <= 1e-3 * (1 + logits.abs().max().item()):
            raise ModelError(f"torch's exported program differs from the module by {error:.2g} in the logits")
        maps: list[list[torch.Tensor]] = [[] for _ in self.cams]
        for index, sign in zip(self.explained, self.signs, strict=True):
            score = sign * traced[:, index].sum()
            for i, gradient in enumerate(torch.autograd.grad(score, activations, retain_graph=True)):
                weights = gradient.mean(dim=(2, 3), keepdim=True)
                maps[i].append((weights * activations[i].detach()).sum(dim=1).relu())
        cams = {cam.output: torch.stack(m, dim=1).float().numpy() for cam, m in zip(self.cams, maps, strict=True)}
        return Answers(logits.float().numpy(), cams)


class _Tail(torch.fx.Interpreter):
    """Runs a program without gradients up to the first target, and with them from there on."""

    def __init__(self, program: torch.export.ExportedProgram, targets: Sequence[str]) -> None:
        module = program.module()
        super().__init__(module)
        known = {node.name for node in module.graph.nodes}
        if missing := [name for name in targets if name not in known]:
            raise ModelError(f"tensor {missing[0]!r} is not in torch's program: choose another --target-layer")
        self._targets = set(targets)
        self._order = list(targets)
        self._captured: dict[str, torch.Tensor] = {}

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Logits, with their graph, and the activations of the targets."""
        self._captured = {}
        torch.set_grad_enabled(False)
        try:
            result = self.run(x)
        finally:
            torch.set_grad_enabled(True)
        logits = result[0] if isinstance(result, (tuple, list)) else result
        return logits, [self._captured[name] for name in self._order]

    def run_node(self, n: torch.fx.Node) -> object:
        """Run one node; the first target becomes the leaf from which gradients are taken."""
        value = super().run_node(n)
        if n.name in self._targets:
            assert isinstance(value, torch.Tensor)
            if not self._captured:
                torch.set_grad_enabled(True)
                value = value.detach().clone().requires_grad_()
            self._captured[n.name] = value
        return value
