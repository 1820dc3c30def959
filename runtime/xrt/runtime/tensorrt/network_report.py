"""Which types the parsed network really computes with.

TensorRT says nothing when a file that is called fp16 computes in fp32. The parser's network is strongly typed, so what
each layer is fed with shows what it will compute in: half for fp16; for int8 a DequantizeLayer, which the builder fuses
into the layer behind it.

Only layers that the logits need are counted: the gradient part, which makes the maps, stays fp32 in every variant.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from xrt.runtime.bundle.manifest import Precision


@dataclass(frozen=True)
class Share:
    """How many layers of a kind the classifier has, and how many of them are fed with fp16 or with int8."""

    layers: int = 0
    fp16: int = 0
    int8: int = 0

    def __str__(self) -> str:
        if not self.layers:
            return "none"
        return f"{self.layers} ({100 * self.fp16 / self.layers:.0f} % fp16, {100 * self.int8 / self.layers:.0f} % int8)"


@dataclass(frozen=True)
class NetworkReport:
    """How many convolutions and matrix products (MatMul, Gemm) compute in which precision."""

    conv: Share
    matmul: Share

    def as_dict(self) -> dict[str, Any]:
        """For sidecars and `--json`."""
        return asdict(self)

    def refusal(self, precision: Precision) -> str | None:
        """Why the network is not what was asked for, in a few words; None when it is.

        fp16 and int8 ask that some layers of the kind that the classifier mostly consists of compute in it: how many
        may stay behind is the exporter's choice, and the gate's to judge. fp32 asks that none computes in less.
        """
        kind, share = max((("convolutions", self.conv), ("matrix products", self.matmul)), key=lambda k: k[1].layers)
        if precision == "fp32":
            low = sum(s.fp16 + s.int8 for s in (self.conv, self.matmul))
            return f"fp32 was asked for, and {low} layers take fp16 or int8" if low else None
        count = share.fp16 if precision == "fp16" else share.int8
        return None if count else f"{precision} was asked for, and 0 % of the {share.layers} {kind} take it"


def report_network(module: Any, network: Any, logits: str) -> NetworkReport:
    """Count the layers that the output `logits` of a parsed network needs. `module` is the distribution's."""
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    producer_of = {layer.get_output(i).name: layer for layer in layers for i in range(layer.num_outputs)}
    classifier = _needed_by(logits, producer_of)
    shares = []
    for kind in (module.LayerType.CONVOLUTION, module.LayerType.MATRIX_MULTIPLY):
        of_kind = [layer for layer in classifier if layer.type == kind]
        types = [_computes_in(module, layer, producer_of) for layer in of_kind]
        shares.append(Share(len(of_kind), types.count("fp16"), types.count("int8")))
    return NetworkReport(*shares)


def _needed_by(tensor: str, producer_of: dict[str, Any]) -> list[Any]:
    """The layers on any path to a tensor."""
    layers: dict[str, Any] = {}
    tensors = [tensor]
    while tensors:
        layer = producer_of.get(tensors.pop())
        if layer is None:
            continue
        # A layer is known by its first output; names of layers may repeat.
        key = layer.get_output(0).name
        if key not in layers:
            layers[key] = layer
            inputs = (layer.get_input(i) for i in range(layer.num_inputs))
            tensors += [value.name for value in inputs if value is not None]
    return list(layers.values())


def _computes_in(module: Any, layer: Any, producer_of: dict[str, Any]) -> str:
    # A convolution whose weights are a plain constant has only one input here.
    inputs = [layer.get_input(i) for i in range(min(2, layer.num_inputs))]
    if len(inputs) == 2 and all(_dequantised(module, tensor, producer_of) for tensor in inputs):
        return "int8"
    return "fp16" if all(tensor.dtype == module.DataType.HALF for tensor in inputs) else "other"


def _dequantised(module: Any, tensor: Any, producer_of: dict[str, Any]) -> bool:
    """Whether a tensor comes from a DequantizeLayer, perhaps by way of layers that only move values."""
    while (layer := producer_of.get(tensor.name)) is not None:
        if layer.type == module.LayerType.DEQUANTIZE:
            return True
        if layer.type not in (module.LayerType.SHUFFLE, module.LayerType.IDENTITY):
            return False
        tensor = layer.get_input(0)
    return False
