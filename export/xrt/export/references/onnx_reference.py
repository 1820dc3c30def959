"""Reference outputs for an ONNX file without a PyTorch model.

The logits are those of the original file, run by ONNX Runtime without optimisation, one image at a time. The CAMs are
made in torch from the activation and its gradient, and that gradient is proved first (`directional_derivatives`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx
import onnx_ir as ir
import torch
from jaxtyping import Float32, UInt8

from xrt.export.autodiff import backward
from xrt.export.cams.explained_logits import ExplainedLogits
from xrt.export.cams.heatmaps import seed_of
from xrt.export.ir.emitter import Emitter
from xrt.export.ir.names import CAM_CLASSES
from xrt.export.ir.plain_graph import PlainGraph
from xrt.export.references.directional_derivatives import IMAGES, Point, Tail, prove_gradient
from xrt.export.references.maps import METHODS, as_map
from xrt.export.references.reference import Reference, float_pixels
from xrt.export.targets.target import Target
from xrt.runtime.bundle.manifest import CamSpec
from xrt.runtime.outputs import ModelOutputs
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
        file: bytes,
        logits_name: str,
        model: ir.Model,
        targets: Sequence[Target],
        cams: Sequence[CamSpec],
        explained: ExplainedLogits,
        normalisation: Normalisation,
    ) -> None:
        self._normalisation, self.explained = normalisation, explained
        self.cams, self._layouts = list(cams), {str(t.value.name): t.layout for t in targets}
        original = _with_outputs(onnx.load_from_string(file), [logits_name])
        weights = {t.name for t in original.graph.initializer}
        image = next(v for v in original.graph.input if v.name not in weights)
        self._original, self._image = PlainGraph(original.SerializeToString()), image.name
        self._batch = image.type.tensor_type.shape.dim[0].dim_value or 1
        self._logits_name = logits_name
        self._forward = ir.to_proto(model)
        self._gradients = PlainGraph(self._with_gradients(model))
        self._proved = False

    def outputs(self, images: UInt8[np.ndarray, "n 1 h w"], batch_size: int = 8) -> ModelOutputs:
        """Logits and CAMs of all images."""
        if not self._proved:
            self._prove(images[:IMAGES])
            self._proved = True
        return ModelOutputs.joined(
            [self._outputs(images[i : i + batch_size]) for i in range(0, len(images), batch_size)]
        )

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
        pixels = float_pixels(images, self._normalisation).numpy()
        return np.concatenate([self._original_logits_of(x) for x in pixels])

    def _original_logits_of(self, pixels: Float32[np.ndarray, "channels h w"]) -> Float32[np.ndarray, "1 logits"]:
        """The logits of one image by the original file; the image is repeated where the file has a fixed batch."""
        batch = np.repeat(pixels[None], self._batch, axis=0)
        logits = self._original.run({self._image: batch}, [self._logits_name])[self._logits_name]
        return logits.reshape(self._batch, -1)[:1]

    def _with_gradients(self, model: ir.Model) -> bytes:
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
        names = [str(v.name) for v in graph.outputs]
        return _with_outputs(ir.to_proto(copy), names).SerializeToString()

    def _run_gradients(self, images: UInt8[np.ndarray, "n 1 h w"]) -> dict[str, np.ndarray]:
        names = [name for tensor in self._layouts for name in (tensor, f"gradient of {tensor}")]
        names += [CAM_CLASSES] * bool(self.explained.top_k)
        image = self._forward.graph.input[0].name
        return self._gradients.run({image: images}, names)

    def _prove(self, images: UInt8[np.ndarray, "n 1 h w"]) -> None:
        """Prove the gradient at every target. Raises ModelError when it is wrong."""
        for tensor in self._layouts:
            tail = Tail(self._forward, tensor)
            prove_gradient(tail, self._points(images, tail), np.asarray(self.explained.signs))

    def _points(self, images: UInt8[np.ndarray, "n 1 h w"], tail: Tail) -> Iterator[Point]:
        """What the proof needs of each image, by itself: a tensor may hold the images of a batch in any order."""
        image = self._forward.graph.input[0].name
        forward = PlainGraph(_with_outputs(self._forward, tail.sources).SerializeToString()) if tail.sources else None
        for i in range(len(images)):
            tensors = self._run_gradients(images[i : i + 1])
            others = forward.run({image: images[i : i + 1]}, tail.sources) if forward else {}
            columns = tensors[CAM_CLASSES][0] if self.explained.top_k else np.asarray(self.explained.classes)
            yield Point(tensors[tail.tensor], others, tensors[f"gradient of {tail.tensor}"], columns)


def _with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    return copy
