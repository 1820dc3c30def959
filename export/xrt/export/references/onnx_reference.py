"""Reference outputs for an ONNX file without a PyTorch model.

The logits are those of the original file, run by ONNX Runtime without optimisation. The CAMs are
made in torch from the activation and its gradient, and that gradient is proved first (`directional_derivatives`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

import numpy as np
import onnx_ir as ir
import torch
from jaxtyping import Float32, UInt8

from xrt.export.autodiff import backward
from xrt.export.cams.explained_logits import ExplainedLogits
from xrt.export.cams.heatmaps import seed_of
from xrt.export.ir.emitter import Emitter
from xrt.export.ir.names import CAM_CLASSES
from xrt.export.ir.plain_graph import PlainGraph
from xrt.export.ir.serialisation import image_input
from xrt.export.ir.skeleton import Skeleton
from xrt.export.references.directional_derivatives import IMAGES, Point, Tail, prove_gradient
from xrt.export.references.maps import METHODS, as_map
from xrt.export.references.reference import Reference, float_pixels
from xrt.export.targets.target import Target
from xrt.runtime.bundle.manifest import CamSpec
from xrt.runtime.errors import BackendError
from xrt.runtime.outputs import ModelOutputs
from xrt.runtime.progress import SILENT, Progress
from xrt.train.models import Normalisation


class OnnxReference(Reference):
    """Outputs of an ONNX file for uint8 images [n, 1, H, W].

    `file` is the file, `logits_name` its logits; `model` the resolved graph with the uint8 input, without heatmaps;
    `targets` are in that graph, and `cams` describe their maps. `outputs` raises ModelError when a gradient fails its
    proof.
    """

    name = "its own graph in ONNX Runtime fp32; gradients proved by float64 directional derivatives"

    def __init__(
        self,
        file: Skeleton,
        logits_name: str,
        model: ir.Model,
        targets: Sequence[Target],
        cams: Sequence[CamSpec],
        explained: ExplainedLogits,
        normalisation: Normalisation,
    ) -> None:
        self._normalisation, self.explained = normalisation, explained
        self.cams, self._layouts = list(cams), {str(t.value.name): t.layout for t in targets}
        image = image_input(file.proto, file.weights)
        self._original, self._image = PlainGraph(file.with_outputs([logits_name])), image.name
        self._batch = image.type.tensor_type.shape.dim[0].dim_value
        self._logits_name = logits_name
        self._forward = Skeleton.of(model)
        self._gradients = PlainGraph(self._with_gradients(model))
        self._proved = False

    def outputs(
        self, images: UInt8[np.ndarray, "n 1 h w"], batch_size: int = 8, *, progress: Progress = SILENT
    ) -> ModelOutputs:
        """Logits and CAMs of all images; the first of them prove the gradient."""
        if not self._proved:
            self._prove(images[:IMAGES])
            self._proved = True
        return super().outputs(images, batch_size, progress=progress)

    def _outputs(self, images: UInt8[np.ndarray, "n 1 h w"]) -> ModelOutputs:
        tensors = self._run_gradients(images)
        cams = {}
        for spec in self.cams:
            layout = self._layouts[spec.tensor]
            activation = as_map(layout, torch.from_numpy(tensors[spec.tensor]))
            maps = [
                METHODS[spec.method](activation, as_map(layout, g.broadcast_to(tensors[spec.tensor].shape)))
                for g in torch.from_numpy(tensors[f"gradient of {spec.tensor}"].copy())
            ]
            cams[spec.output] = torch.stack(maps, dim=1).relu().numpy()
        return ModelOutputs(self._original_logits(images), cams, tensors.get(CAM_CLASSES))

    def _original_logits(self, images: UInt8[np.ndarray, "n 1 h w"]) -> Float32[np.ndarray, "n logits"]:
        """The logits of the original file; where its batch is fixed, of one image at a time, repeated."""
        pixels = float_pixels(images, self._normalisation).numpy()
        if not self._batch:
            with suppress(BackendError):
                logits = self._run_original(pixels)
                if len(logits) == len(pixels):
                    return logits.reshape(len(pixels), -1)
            self._batch = 1
        each = [self._run_original(np.repeat(x[None], self._batch, axis=0)) for x in pixels]
        return np.concatenate([logits.reshape(self._batch, -1)[:1] for logits in each])

    def _run_original(self, pixels: Float32[np.ndarray, "n channels h w"]) -> np.ndarray:
        return self._original.run({self._image: pixels}, [self._logits_name])[self._logits_name]

    def _with_gradients(self, model: ir.Model) -> Skeleton:
        """The graph with every target and its gradient among its outputs."""
        copy = model.clone()
        graph = copy.graph
        values = {v.name: v for node in graph for v in node.outputs}
        emit = Emitter(graph, "reference")
        targets = [values[name] for name in self._layouts]
        gradients = backward(emit, graph.outputs[0], targets, seed_of(emit, graph.outputs[0], self.explained))
        for target, gradient in zip(targets, gradients, strict=True):
            output = ir.Value(name=f"gradient of {target.name}")
            graph.append(ir.node("Identity", [emit.materialise(gradient)], outputs=[output]))
            graph.outputs.extend([target, output])
        return Skeleton.of(copy).with_outputs([str(v.name) for v in graph.outputs])

    def _run_gradients(self, images: UInt8[np.ndarray, "n 1 h w"]) -> dict[str, np.ndarray]:
        names = [name for tensor in self._layouts for name in (tensor, f"gradient of {tensor}")]
        names += [CAM_CLASSES] * bool(self.explained.top_k)
        image = self._forward.proto.graph.input[0].name
        return self._gradients.run({image: images}, names)

    def _prove(self, images: UInt8[np.ndarray, "n 1 h w"]) -> None:
        """Prove the gradient at every target. Raises ModelError when it is wrong."""
        for tensor in self._layouts:
            tail = Tail(self._forward, tensor)
            prove_gradient(tail, self._points(images, tail), np.asarray(self.explained.signs))

    def _points(self, images: UInt8[np.ndarray, "n 1 h w"], tail: Tail) -> Iterator[Point]:
        """What the proof needs of each image, by itself: a tensor may hold the images of a batch in any order."""
        image = self._forward.proto.graph.input[0].name
        forward = PlainGraph(self._forward.with_outputs(tail.sources)) if tail.sources else None
        for i in range(len(images)):
            tensors = self._run_gradients(images[i : i + 1])
            others = forward.run({image: images[i : i + 1]}, tail.sources) if forward else {}
            columns = tensors[CAM_CLASSES][0] if self.explained.top_k else np.asarray(self.explained.classes)
            yield Point(tensors[tail.tensor], others, tensors[f"gradient of {tail.tensor}"], columns)
