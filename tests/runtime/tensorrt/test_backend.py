"""The back end from `open` to `close`, on a simulated GPU."""

from __future__ import annotations

import numpy as np
import pytest
from runtime.tensorrt.fakes import FakeCuda, fake_distribution
from runtime.tensorrt.graphs import classifier

from xrt.runtime.backends import SessionOptions
from xrt.runtime.backends import tensorrt as module
from xrt.runtime.backends.pruning import keep_output
from xrt.runtime.backends.tensorrt import TensorRtBackend
from xrt.runtime.bundle.manifest import CamSpec, GraphInterface, GraphSpec, Preprocessing
from xrt.runtime.errors import BackendError
from xrt.runtime.tensorrt.builder import Batches, BuiltEngine
from xrt.runtime.tensorrt.network_report import NetworkReport, Share

SIZE = Preprocessing.model_construct(height=4, width=4)
GRAPH = GraphSpec(
    cams=(CamSpec(output="cams", layer="r", tensor="r", channels=4, height=2, width=2),), explained=(0,)
)  # fmt: skip
INTERFACE = GraphInterface(GRAPH, SIZE)
MODEL = classifier().SerializeToString()


@pytest.fixture
def cuda(monkeypatch):
    device = FakeCuda()
    monkeypatch.setattr(module, "open_cuda", lambda: device)
    return device


@pytest.fixture
def built(monkeypatch):
    """The files that engines were built from, with the batches of the imitated engine."""
    files: list[bytes] = []

    def build(distribution, model, interface, *, compute_capability, precision, timing_cache):
        files.append(model)
        return BuiltEngine(b"plan", compute_capability, precision, Batches(4, 4), NetworkReport(Share(), Share()), 0.1)

    monkeypatch.setattr(module, "build_engine", build)
    return files


def images(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 1, 4, 4)).astype(np.uint8)


def test_a_session_from_open_to_close(cuda, built, tmp_path):
    backend = TensorRtBackend(fake_distribution(cuda), tmp_path)
    batch = images(6)
    with backend.open(MODEL, INTERFACE, SessionOptions()) as session:
        outputs = session.infer(batch)
        assert np.array_equal(outputs.cams["cams"], 2.0 * batch[:, :, :2, :2])
        assert outputs.logits[:, 0].tolist() == batch.sum(axis=(1, 2, 3)).tolist()
        assert built == [MODEL]
        alone = session.infer(batch, cams=False)
        assert alone.cams == {}
        assert np.array_equal(alone.logits, outputs.logits)
        assert built == [MODEL, keep_output(MODEL, "logits")]
    assert cuda.held == {}
    with pytest.raises(BackendError, match="the session is closed"):
        session.infer(batch)
    backend.open(MODEL, INTERFACE, SessionOptions()).close()
    assert len(built) == 2
    assert (backend.name, backend.version(), backend.device_class()) == ("tensorrt", "11.4.0", "gpu-sm86")
    assert backend.execution_precision == "fp32"


def test_kernels_that_were_compiled_are_kept(cuda, built, tmp_path):
    backend = TensorRtBackend(fake_distribution(cuda, runtime_cache=True), tmp_path)
    for _ in range(2):
        with backend.open(MODEL, INTERFACE, SessionOptions()) as session:
            session.infer(images(1))
    assert cuda.log == ["execute", "kernels compiled", "execute"]


def test_another_gpu_gets_an_engine_of_its_own(cuda, built, tmp_path):
    backend = TensorRtBackend(fake_distribution(cuda), tmp_path)
    backend.open(MODEL, INTERFACE, SessionOptions()).close()
    cuda.capability = "sm89"
    backend.open(MODEL, INTERFACE, SessionOptions()).close()
    assert len(built) == 2
    assert len(list(tmp_path.glob("*.plan"))) == 2


def test_an_engine_that_was_put_there_for_another_gpu_is_refused(cuda, built, tmp_path):
    backend = TensorRtBackend(fake_distribution(cuda), tmp_path)
    backend.open(MODEL, INTERFACE, SessionOptions()).close()
    for path in tmp_path.iterdir():
        path.rename(path.with_name(path.name.replace("sm86", "sm89")))
    cuda.capability = "sm89"
    with pytest.raises(BackendError, match="built for compute_capability sm86, here it is sm89; run `xrt build` again"):
        backend.open(MODEL, INTERFACE, SessionOptions())
