"""fp16 as a cast graph: what is in fp16 and what is not, and that an overflow is seen though no CPU shows it."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest
import torch
from export.parity import manifest_of, randomise, run, source_of
from export.tails import TAILS, Classifier, Tokens
from torch import nn

from xrt.export.compile import compile_source
from xrt.export.publish import ExportOptions, publish_source
from xrt.export.quantisation.variants import VariantRequest, build_variants
from xrt.runtime.certification.inputs import phantom_inputs
from xrt.runtime.gate import LIMITS, judge, measure
from xrt.runtime.progress import Progress

F16, F32 = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT


def compile_float16(module: nn.Module):
    """The compiled float model of a module, and its fp16 form."""
    source = source_of(randomise(module))
    model = compile_source(source)
    (variant,) = build_variants(model.data, model.graph, VariantRequest(["fp16"]))
    return source, model, variant


def types(data: bytes) -> dict[str, int]:
    """The type of every value and weight, by name."""
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(data), strict_mode=True)
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*model.graph.value_info, *model.graph.output)}
    return kinds | {t.name: t.data_type for t in model.graph.initializer}


@pytest.mark.parametrize("tail", ["average pooling, linear", "squeeze and excite", "attention pooling"])
def test_a_convolutional_network(tail):
    torch.manual_seed(1)
    source, model, variant = compile_float16(Classifier(TAILS[tail]()))
    images = phantom_inputs(6, 3, source.preprocessing).images
    outputs = run(model.__class__(variant.data, model.graph, model.reference), source, images)
    figures = measure(model.reference.outputs(images), outputs, manifest_of(source, model.graph))
    assert judge(figures, {k: v for k, v in LIMITS["fp16"].items() if k != "peak"}, enough=False)[0] == "passed"
    assert figures.logit_error > 1e-6, "fp16 that changes nothing is no fp16"


def test_products_of_the_trunk_are_half_and_the_rest_is_not():
    torch.manual_seed(1)
    _, model, variant = compile_float16(Classifier(TAILS["layer norm after the pooling"]()))
    kinds, proto = types(variant.data), onnx.load_from_string(variant.data)
    target = model.graph.cams[0].tensor
    by_type = {(node.op_type, kinds[node.output[0]]) for node in proto.graph.node if node.output[0] in kinds}
    assert ("Conv", F16) in by_type
    assert ("Conv", F32) not in by_type
    assert {kind for op, kind in by_type if op in ("LayerNormalization", "Gemm", "ReduceMean")} == {F32}
    assert kinds[target] == F16
    assert [kinds[name] for name in ("logits", "cams")] == [F32, F32]
    assert not [t.name for t in proto.graph.initializer if t.data_type == F32 and t.name == "trunk.0.weight"]


def test_a_transformer():
    torch.manual_seed(1)
    source, model, variant = compile_float16(Tokens(1, "token"))
    kinds, proto = types(variant.data), onnx.load_from_string(variant.data)
    products = [kinds[n.output[0]] for n in proto.graph.node if n.op_type in ("MatMul", "Gemm")]
    assert products.count(F16) >= 8
    assert {kinds[n.output[0]] for n in proto.graph.node if n.op_type in ("Softmax", "LayerNormalization")} == {F32}
    images = phantom_inputs(3, 3, source.preprocessing).images
    outputs = run(model.__class__(variant.data, model.graph, model.reference), source, images)
    assert measure(model.reference.outputs(images), outputs, manifest_of(source, model.graph)).logit_error < 5e-3


class Loud(nn.Module):
    """Its first activations reach a million, and its logits are those of any network."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(1, 8, 3, 4, 1), nn.Conv2d(8, 12, 3, 2, 1), nn.Linear(12, 3)
        self.gain = gain

    def forward(self, x):
        loud = self.first(x).relu() * self.gain
        return self.head((self.second(loud) / self.gain).relu().mean((2, 3)))


class Notes(Progress):
    """Stores what it receives."""

    def __init__(self, notes: list[str]) -> None:
        self._notes = notes

    def note(self, message: str) -> None:
        self._notes.append(message)


def test_an_overflow_is_seen_by_the_range_scan_alone(tmp_path):
    torch.manual_seed(1)
    source = source_of(randomise(Loud(1e6)))
    model, notes = compile_source(source), []
    request = VariantRequest(["fp16"], inputs=phantom_inputs(4, 3, source.preprocessing))
    (built,) = build_variants(model.data, model.graph, request, progress=Notes(notes))
    assert built.peak > 65504
    assert re.search(r"the largest number that model\.fp16\.onnx computes in fp16 is .*, at \w+", notes[-1])
    publication = publish_source(source, tmp_path / "loud.xrt", ExportOptions(precisions=("fp32", "fp16")))
    assert re.search(r"model\.fp16\.onnx .*peak is .*, the limit is 16376", publication.refusal)
    assert [v.precision for v in publication.bundle.manifest.variants] == ["fp32"]


def test_a_small_variance_survives():
    """1/√(1e-9 + ε) is no number that fp16 could make of 1e-9."""
    torch.manual_seed(1)
    module = Classifier(TAILS["average pooling, linear"]())
    source = source_of(randomise(module))
    norm = module.trunk[3]
    with torch.no_grad():
        module.trunk[2].weight *= 1e-4
        module.trunk[2].bias *= 1e-4
        norm.running_var *= 1e-8
        norm.running_mean *= 1e-4
        norm.eps = 1e-12
    model = compile_source(source)
    (variant,) = build_variants(model.data, model.graph, VariantRequest(["fp16"]))
    images = phantom_inputs(3, 3, source.preprocessing).images
    outputs = run(model.__class__(variant.data, model.graph, model.reference), source, images)
    np.testing.assert_allclose(outputs.logits, model.reference.outputs(images).logits, rtol=2e-2, atol=2e-2)
