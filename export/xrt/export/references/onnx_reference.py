"""Reference outputs for an ONNX file without a PyTorch model.

The logits are those of the original file, run by ONNX Runtime without optimisation, one image at a time. The CAMs are
made in torch from the activation and its gradient, and that gradient is proved first: along random directions, the
change of every logit, by central differences through the tail of the graph in float64, must agree with the gradient. A
wrong gradient agrees with random directions only with probability zero.
"""

from __future__ import annotations

from collections.abc import Sequence

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
from xrt.export.references.float64 import Float64Graph
from xrt.export.references.maps import METHODS, as_map
from xrt.export.references.reference import Reference, float_pixels
from xrt.export.targets.target import Target
from xrt.runtime.bundle.manifest import CamSpec
from xrt.runtime.errors import ModelError
from xrt.runtime.outputs import ModelOutputs
from xrt.train.models import Normalisation

DIRECTIONS = 2
STEP = 1e-6
"""Relative to the activation's largest value. Float64 leaves nine digits of the difference, and a step rarely crosses a
kink."""
TOLERANCE = 1e-3
"""Relative to the largest directional derivative. The gradient is fp32: rounding is 1e-6 to 1e-4 of it."""


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
            self._prove(images[:2])
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
        tensors = self._run_gradients(images)
        rng = np.random.default_rng(0)
        for tensor in self._layouts:
            tail, sources = _tail(self._forward, tensor)
            image = self._forward.graph.input[0].name
            inputs = {}
            if sources:
                forward = _with_outputs(self._forward, sources).SerializeToString()
                inputs = PlainGraph(forward).run({image: images}, sources)
            tail64 = Float64Graph(tail)
            point = tensors[tensor].astype(np.float64)
            for _ in range(DIRECTIONS):
                direction = rng.normal(size=point.shape) * _smooth(point)
                step = STEP * max(np.abs(point).max(), 1e-3)
                plus, minus = (tail64.run({**inputs, tensor: point + sign * step * direction})[0] for sign in (1, -1))
                change = (plus - minus).reshape(len(images), -1) / (2 * step)
                expected = self._explained_change(change, tensors)
                g = tensors[f"gradient of {tensor}"].astype(np.float64)
                actual = np.stack(
                    [(np.broadcast_to(row, point.shape) * direction).reshape(len(point), -1).sum(1) for row in g],
                    axis=1,
                )
                error = np.abs(actual - expected).max() / max(np.abs(expected).max(), 1e-12)
                if not error <= TOLERANCE:
                    raise ModelError(
                        f"the gradient at {tensor!r} differs from a float64 directional derivative by {error:.2g} of "
                        f"its largest value, the limit is {TOLERANCE:g}: choose another --target-layer"
                    )

    def _explained_change(self, change: np.ndarray, tensors: dict[str, np.ndarray]) -> np.ndarray:
        """The change of the explained logits, [n, maps], signed, from the change of all logits."""
        signs = np.asarray(self.explained.signs)
        columns = tensors.get(CAM_CLASSES)
        if columns is None:
            columns = np.broadcast_to(
                np.asarray(self.explained.classes), (len(change), len(self.explained.classes or ()))
            )
        return np.take_along_axis(change * signs, columns, axis=1)


def _smooth(activation: np.ndarray) -> np.ndarray:
    """Where an activation may be changed: not where its value occurs more than once, as the zeros after a ReLU do.

    At equal values a maximum has no derivative, only one-sided ones. Where nearly all are equal, all are changed.
    """
    _, inverse, counts = np.unique(activation, return_inverse=True, return_counts=True)
    unique = (counts == 1)[inverse].reshape(activation.shape)
    return unique if unique.mean() > 0.01 else np.ones_like(unique)


def _with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    return copy


def _tail(model: onnx.ModelProto, tensor: str) -> tuple[onnx.ModelProto, list[str]]:
    """The part of a graph after a tensor, and the other computed values that it reads."""
    dependents, nodes = {tensor}, []
    for node in model.graph.node:
        if any(name in dependents for name in node.input):
            dependents.update(node.output)
            nodes.append(node)
    constants = {t.name for t in model.graph.initializer}
    outputs = {name for node in nodes for name in node.output}
    inputs = dict.fromkeys(name for node in nodes for name in node.input if name)
    sources = [name for name in inputs if name not in outputs and name not in constants]
    tail = onnx.ModelProto()
    tail.CopyFrom(model)
    del tail.graph.node[:], tail.graph.input[:]
    tail.graph.node.extend(nodes)
    types = {v.name: v.type.tensor_type.elem_type for v in (*model.graph.value_info, *model.graph.input)}
    tail.graph.input.extend(
        onnx.helper.make_tensor_value_info(name, types.get(name, onnx.TensorProto.FLOAT), None) for name in sources
    )
    for weight in [t for t in tail.graph.initializer if t.name not in inputs]:
        tail.graph.initializer.remove(weight)
    return tail, [name for name in sources if name != tensor]
