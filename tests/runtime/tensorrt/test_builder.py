"""What NVIDIA's own parser and builder say of our graphs: TensorRT for RTX, ahead of time, without a GPU."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from runtime.tensorrt.graphs import GRAPH, INTERFACE, classifier, in_precision, parse

from xrt.runtime.bundle.manifest import GraphInterface, Preprocessing
from xrt.runtime.errors import BackendError, UsageError
from xrt.runtime.tensorrt.builder import Batches, build_engine
from xrt.runtime.tensorrt.distributions import TENSORRT_RTX, open_library
from xrt.runtime.tensorrt.network_report import Share

pytestmark = pytest.mark.skipif(
    TENSORRT_RTX.unavailable_reason() is not None, reason="TensorRT for RTX is not installed"
)
ARCHITECTURES = ("densenet121", "resnet50", "efficientnet_b0", "vit_b_16")


def build(model: onnx.ModelProto | bytes, **options):
    data = model if isinstance(model, bytes) else model.SerializeToString()
    return build_engine(TENSORRT_RTX, data, INTERFACE, **{"compute_capability": "sm86", **options})


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_shares_are_those_of_the_file(precision):
    built = build(in_precision(classifier(), precision), precision=precision)
    expected = Share(1, fp16=int(precision == "fp16"), int8=int(precision == "int8"))
    assert (built.network_report.conv, built.network_report.matmul) == (expected, expected)
    assert built.precision == precision
    assert len(built.plan) > 10_000
    assert built.timing_cache == b""


def test_a_bundle_of_ours_builds(bundle):
    manifest, variant = bundle.manifest, bundle.variant()
    built = build_engine(TENSORRT_RTX, bundle.read(variant), manifest.interface, compute_capability="sm86")
    assert built.precision == "fp32"
    assert built.network_report.conv.layers >= 1
    assert built.network_report.conv.fp16 == built.network_report.conv.int8 == 0


def test_each_image_s_highest_classes_and_several_methods_build(compact_source):
    from xrt.export.compile import Request, compile_source

    model = compile_source(compact_source, Request(classes="top:2", methods=("gradcam", "gradcam++")))
    assert model.graph.cam_classes is not None
    interface = GraphInterface(model.graph, compact_source.preprocessing)
    assert build_engine(TENSORRT_RTX, model.data, interface, compute_capability="sm86").plan


@pytest.mark.parametrize(
    ("actual", "precision", "message"),
    [
        ("fp32", "fp16", "fp16 was asked for, and 0 % of the 1 convolutions take it; export that variant again"),
        ("fp16", "int8", "int8 was asked for, and 0 % of the 1 convolutions take it"),
        ("int8", "fp32", "fp32 was asked for, and 2 layers take fp16 or int8"),
    ],
)
def test_a_file_that_is_not_what_it_is_called_is_refused(actual, precision, message):
    with pytest.raises(BackendError, match=message):
        build(in_precision(classifier(), actual), precision=precision)


def test_weights_alone_make_no_int8():
    """A convolution whose weights are dequantised computes in fp32 unless its input is quantised, too."""
    model = in_precision(classifier(), "int8")
    plain = {n.output[0]: n for n in model.graph.node}
    plain["c"].input[0], plain["logits"].input[0] = "a", "p"
    with pytest.raises(BackendError, match="0 % of the 1 convolutions"):
        build(model, precision="int8")


def test_an_unknown_operator_is_named():
    model = parse(
        '<ir_version: 9, opset_import: ["" : 18]> g (uint8[n, 1, 8, 8] image) => (float[n, 1, 8, 8] logits)'
        "{ x = Cast<to = 1>(image)  logits = Bernoulli(x) }"
    )
    with pytest.raises(BackendError, match="does not take Bernoulli 'logits': the operator is not supported; use"):
        build(model)


@pytest.mark.parametrize("target", ["sm90", "sm52", "current", ""])
def test_a_gpu_that_it_does_not_know_is_refused(target):
    with pytest.raises(UsageError, match=r"does not build for .*: choose from .*sm86, sm89, sm120"):
        build(classifier(), compute_capability=target)


def test_what_the_builder_refuses_is_one_line():
    with pytest.raises(BackendError, match="cannot build the engine for sm75: .*FP32 GEMM is not supported") as refusal:
        build(classifier(), compute_capability="sm75")
    assert "\n" not in str(refusal.value)


def test_an_interface_that_differs_from_the_manifest_is_refused():
    with pytest.raises(BackendError, match=r"the file takes .*8, 8.*, the manifest says .*16, 16"):
        build_engine(
            TENSORRT_RTX,
            classifier().SerializeToString(),
            GraphInterface(GRAPH, Preprocessing(height=16, width=16)),
            compute_capability="sm86",
        )
    model = classifier()
    model.graph.output[1].name = "m"
    with pytest.raises(BackendError, match="the file takes|has no output cams"):
        build(model)


def test_a_fixed_batch_is_refused():
    model = classifier()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    with pytest.raises(BackendError, match=r"the file takes .*\(1, 1, 8, 8\).*, the manifest says .*\(-1, 1, 8, 8\)"):
        build(model)


def test_a_graph_cut_down_to_its_logits_builds():
    from xrt.runtime.backends.pruning import keep_output

    built = build(keep_output(classifier().SerializeToString(), "logits"))
    assert built.network_report.conv.layers == 1


def test_batches():
    assert Batches.up_to(4) == Batches(4, 4)
    assert Batches.up_to(64) == Batches(8, 64)
    with pytest.raises(UsageError, match="1 image at least, given 0"):
        Batches.up_to(0)


def test_the_library_is_loaded_once():
    assert open_library(TENSORRT_RTX) is open_library(TENSORRT_RTX)
    assert "sm86" in open_library(TENSORRT_RTX).compute_capabilities


@pytest.fixture(scope="module")
def variants(request):
    """A published architecture with the maps of all 14 classes: its GPU files, and the description of the graph."""
    import torch
    import torchvision
    from export.parity import randomise, source_of

    from xrt.export.compile import compile_source
    from xrt.export.quantisation.variants import VariantRequest, build_variants
    from xrt.runtime.certification.inputs import phantom_inputs

    torch.manual_seed(0)
    module = torchvision.models.get_model(request.param, weights=None, num_classes=14)
    source = source_of(randomise(module, 224, channels=3), 224, channels=3, classes=14)
    model = compile_source(source)
    calibration = phantom_inputs(8, 1, source.preprocessing)
    variant_request = VariantRequest(("fp32", "fp16", "int8"), calibration, families=("gpu",))
    builds = build_variants(model.data, model.graph, variant_request)
    return request.param, {m.variant.precision: m.data for m in builds}, model.graph


# Convolutions and products that the logits need, and how many of the products lie in the trunk.
EXPECTED_LAYERS = {
    "densenet121": (120, 1, 0), "resnet50": (53, 1, 0), "efficientnet_b0": (81, 1, 0), "vit_b_16": (1, 73, 66),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("variants", ARCHITECTURES, indirect=True)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_published_architectures_build_for_every_generation(variants, precision):
    name, files, graph = variants
    for target in ("sm86", "sm89", "sm120"):
        built = build_engine(
            TENSORRT_RTX,
            files[precision],
            GraphInterface(graph, Preprocessing(height=224, width=224)),
            compute_capability=target,
            precision=precision,
        )
        conv, matmul = built.network_report.conv, built.network_report.matmul
        convolutions, products, in_the_trunk = EXPECTED_LAYERS[name]
        assert (conv.layers, matmul.layers) == (convolutions, products)
        for share, lower in ((conv, convolutions), (matmul, in_the_trunk)):
            assert share.fp16 == (lower if precision == "fp16" else 0)
            assert share.int8 == (lower if precision == "int8" else 0)
        assert len(built.plan) > 1_000_000
        print(f"{name} {precision} {target}: {len(built.plan) / 1e6:.1f} MB, {built.seconds:.1f} s, {conv}, {matmul}")


def test_in_precision_keeps_the_maps():
    """What the tests build from is itself a valid graph: the checker and ONNX Runtime take it."""
    import onnxruntime

    image = np.random.default_rng(0).integers(0, 256, (2, 1, 8, 8)).astype(np.uint8)
    answers = {}
    for precision in ("fp32", "fp16"):
        model = in_precision(classifier(), precision)
        onnx.checker.check_model(model, full_check=True)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        answers[precision] = session.run(["logits", "cams"], {"image": image})
    for one, other in zip(answers["fp32"], answers["fp16"], strict=True):
        assert np.allclose(one, other, atol=2e-2)  # half precision keeps three digits of values around one
