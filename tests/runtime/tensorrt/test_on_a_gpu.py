"""The proof on a machine with a GPU: `uv run pytest -m gpu`. Nothing here has run where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from runtime.tensorrt.graphs import INTERFACE, classifier, in_precision

from xrt.runtime.backends import SessionOptions
from xrt.runtime.backends.onnxruntime import OnnxRuntimeCpu
from xrt.runtime.backends.tensorrt import TensorRtBackend
from xrt.runtime.engine_builds import RUN, build_engines, plan_builds
from xrt.runtime.session import open_session
from xrt.runtime.tensorrt.builder import Batches
from xrt.runtime.tensorrt.cuda import open_cuda
from xrt.runtime.tensorrt.distributions import DISTRIBUTIONS

pytestmark = pytest.mark.gpu


@pytest.fixture(params=DISTRIBUTIONS, ids=lambda distribution: distribution.name)
def backend(request, tmp_path) -> TensorRtBackend:
    result = TensorRtBackend(request.param, tmp_path)
    if (lack := result.unavailable_reason()) is not None:
        pytest.skip(lack)
    return result


def test_a_distribution_can_run_here():
    """Otherwise all the others are skipped, and nothing is proved."""
    reasons = [TensorRtBackend(distribution).unavailable_reason() for distribution in DISTRIBUTIONS]
    assert None in reasons, "; ".join(map(str, reasons))


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 1, 8, 8)).astype(np.uint8)


def opened(backend, precision: str = "fp32"):
    return backend.open(in_precision(classifier(), precision).SerializeToString(), INTERFACE, SessionOptions())


def expected(batch: np.ndarray):
    with opened(OnnxRuntimeCpu()) as session:
        return session.infer(batch)


# fp32 without TF32 rounds sums of some 40 products of size one; half precision keeps three digits.
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("fp16", 2e-2)])
def test_it_gives_what_onnx_runtime_gives(backend, precision, tolerance):
    with opened(backend, precision) as session:
        # 40 and 75 are more than one run of the engine: both slots work.
        for count in (1, 3, 8, 40, 75):
            batch = images(count, count)
            actual, reference = session.infer(batch), expected(batch)
            assert np.allclose(actual.logits, reference.logits, atol=tolerance)
            assert np.allclose(actual.cams["cams"], reference.cams["cams"], atol=tolerance)


def test_int8_is_near(backend):
    """Its scales fit no data, so only that it runs and depends on the image can be tested."""
    with opened(backend, "int8") as session:
        logits = session.infer(images(4)).logits
    assert np.isfinite(logits).all()
    assert np.ptp(logits, axis=0).max() > 0


def test_a_cuda_graph_gives_the_same(backend):
    with opened(backend) as session:
        runs = [session.infer(images(4)) for _ in range(4)]
        slot = session._whole.engine._slots[0]
        if not backend.distribution.runtime_cache and open_cuda().__class__.__name__ == "CudaBindings":
            assert slot._graph, "no CUDA graph was recorded"
        other = session.infer(images(4, seed=9))
    for run in runs[1:]:
        assert np.array_equal(run.logits, runs[0].logits)
        assert np.array_equal(run.cams["cams"], runs[0].cams["cams"])
    assert np.allclose(other.logits, expected(images(4, seed=9)).logits, atol=1e-5)  # as above


def test_logits_alone(backend):
    with opened(backend) as session:
        alone = session.infer(images(5), cams=False)
    assert alone.cams == {}
    assert np.allclose(alone.logits, expected(images(5)).logits, atol=1e-5)  # as above


def test_the_engine_is_built_once(backend, tmp_path):
    opened(backend).close()
    (plan,) = tmp_path.glob("*.plan")
    written = plan.stat().st_mtime_ns
    opened(backend).close()
    assert plan.stat().st_mtime_ns == written
    assert bool(list(tmp_path.glob("*.kernels"))) == backend.distribution.runtime_cache


def test_a_bundle_reproduces_its_known_answers(backend, bundle):
    with open_session(bundle, backend=backend.name).session as session:
        known = bundle.known_answers()
        assert session.infer(known.images).logits == pytest.approx(known.logits, abs=1e-4)


def test_build_runs_what_it_built(backend, bundle, tmp_path):
    plan = plan_builds(bundle, backend.name, (), ())
    for result in build_engines(bundle, plan, Batches.up_to(16), folder=tmp_path):
        assert result.verdict == RUN, result.verdict


def test_memory_makes_the_round_trip_plainly_and_in_a_graph():
    cuda = open_cuda()
    assert cuda.compute_capability().startswith("sm")
    stream, device = cuda.stream(), cuda.allocate(1000)
    source, target = cuda.pin(1000), cuda.pin(1000)
    source.bytes[:] = np.arange(1000) % 251

    def there_and_back():
        cuda.upload(device, source, 1000, stream)
        cuda.download(target, device, 1000, stream)

    there_and_back()
    cuda.synchronise(stream)
    assert np.array_equal(source.bytes, target.bytes)
    if cuda.begin_capture(stream):
        there_and_back()
        graph = cuda.end_capture(stream)
        source.bytes[:] = 7
        cuda.launch(graph, stream)
        cuda.synchronise(stream)
        assert (target.bytes == 7).all()
        cuda.destroy_graph(graph)
    for pinned in (source, target):
        cuda.unpin(pinned)
    cuda.free(device)
    cuda.destroy_stream(stream)
