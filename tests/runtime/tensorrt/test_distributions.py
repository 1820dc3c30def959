from __future__ import annotations

import importlib
from types import ModuleType, SimpleNamespace

import pytest

from xrt.runtime.backends import BACKENDS, choose_backend
from xrt.runtime.backends import table as back_ends
from xrt.runtime.backends.onnxruntime import OnnxRuntimeCpu
from xrt.runtime.backends.tensorrt import TensorRtBackend
from xrt.runtime.errors import BackendError
from xrt.runtime.tensorrt import cuda, distributions
from xrt.runtime.tensorrt.distributions import TENSORRT, TENSORRT_RTX, Distribution, open_library
from xrt.runtime.tensorrt.engine_cache import StoredEngine
from xrt.runtime.tensorrt.runner import EngineRunner

HIDDEN = object()


def hide(monkeypatch, *modules: str) -> None:
    real = importlib.util.find_spec

    def find(name: str):
        return None if name.split(".")[0] in modules else real(name)

    for module in (distributions, cuda):
        monkeypatch.setattr(module, "find_spec", find)


def distribution_of(module: object, **fields) -> Distribution:
    def load() -> ModuleType:
        if isinstance(module, Exception):
            raise module
        return module  # type: ignore[return-value]

    values = {"name": "tensorrt", "title": "TensorRT", "ahead_of_time": False, "runtime_cache": False}
    return Distribution(**{**values, **fields}, missing=lambda: None, load=load)


def module_of(version: str) -> object:
    return SimpleNamespace(__version__=version, ILogger=type("ILogger", (), {"ERROR": 1, "INTERNAL_ERROR": 0}))


def test_what_is_not_installed_is_named_with_the_command(monkeypatch):
    hide(monkeypatch, "tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings")
    reason = TENSORRT.unavailable_reason()
    assert reason is not None
    assert "tensorrt is not installed: pip install 'xrt-runtime[tensorrt]' (a Jetson" in reason
    reason = TENSORRT_RTX.unavailable_reason()
    assert reason is not None
    assert "tensorrt_rtx_bindings is not installed: pip install 'xrt-runtime[tensorrt-rtx]'" in reason


def test_the_libraries_and_onnx_are_asked_for(monkeypatch):
    hide(monkeypatch, "onnxruntime_ep_nv_tensorrt_rtx", "tensorrt_rtx")
    assert "onnxruntime_ep_nv_tensorrt_rtx is not installed" in str(TENSORRT_RTX.unavailable_reason())
    hide(monkeypatch, "onnx")
    assert "the package onnx" in str(TENSORRT_RTX.unavailable_reason())


def test_rtx_is_for_x86(monkeypatch):
    monkeypatch.setattr(distributions.platform, "machine", lambda: "aarch64")
    assert (
        TENSORRT_RTX.unavailable_reason()
        == "TensorRT for RTX is made for x86-64 alone, this is aarch64: use the back end tensorrt"
    )


@pytest.mark.parametrize("error", [ImportError("libnvinfer.so.11: cannot open\nmore"), OSError("libnvinfer.so.11")])
def test_a_library_that_does_not_load_is_one_line(error):
    with pytest.raises(BackendError, match=r"TensorRT is installed but does not load \(libnvinfer.*\): reinstall it"):
        open_library(distribution_of(error))


@pytest.mark.parametrize(("version", "too_old"), [("10.2.0", True), ("8.6.1", True), ("10.3.0.26", False)])
def test_an_old_tensorrt_is_refused(version, too_old):
    reason = distribution_of(module_of(version)).unavailable_reason()
    assert reason == (
        f"TensorRT {version} is too old, 10.3 is the oldest that is supported: update it" if too_old else None
    )


def test_no_binding_to_cuda_is_one_line(monkeypatch):
    hide(monkeypatch, "cuda", "pycuda")
    assert cuda.cuda_unavailable_reason() == (
        "neither cuda.bindings nor pycuda is installed: pip install 'xrt-runtime[tensorrt]'"
    )  # fmt: skip


@pytest.mark.skipif(cuda.cuda_unavailable_reason() is None, reason="this machine has a GPU")
def test_without_a_gpu_a_named_back_end_raises_and_auto_passes_over():
    if TENSORRT_RTX.unavailable_reason() is None:
        with pytest.raises(BackendError, match="tensorrt-rtx cannot run here: no GPU can be used: .*nvidia-smi"):
            choose_backend("tensorrt-rtx")
    assert isinstance(choose_backend("auto"), OnnxRuntimeCpu)
    assert {"tensorrt", "tensorrt-rtx"} < set(BACKENDS)


def test_auto_takes_tensorrt_where_nothing_else_runs(monkeypatch):
    backend = TensorRtBackend(TENSORRT)
    monkeypatch.setattr(TensorRtBackend, "unavailable_reason", lambda self: None)
    monkeypatch.setattr(back_ends, "BACKENDS", {backend.name: backend})
    assert choose_backend("auto") is backend


def test_a_gpu_that_rtx_does_not_know_is_lacking(monkeypatch):
    if TENSORRT_RTX.unavailable_reason() is not None:
        pytest.skip("TensorRT for RTX is not installed")
    from runtime.tensorrt.fakes import FakeCuda

    from xrt.runtime.backends import tensorrt as backend

    monkeypatch.setattr(backend, "cuda_unavailable_reason", lambda: None)
    monkeypatch.setattr(backend, "open_cuda", lambda: FakeCuda("sm90"))
    reason = TensorRtBackend(TENSORRT_RTX).unavailable_reason()
    assert reason is not None
    assert reason.startswith("TensorRT for RTX does not know this GPU (sm90), only sm75, sm80, sm86")
    assert TensorRtBackend(TENSORRT_RTX).device_class() == "gpu-sm90"


@pytest.mark.parametrize("module", ["tensorrt_lean", "tensorrt_rtx"])
def test_real_runtimes_refuse_what_is_no_plan(module):
    """Both distributions' own loggers and runtimes, which need no GPU as far as this."""
    from runtime.tensorrt.fakes import FakeCuda

    if module == "tensorrt_lean":
        library = open_library(distribution_of(pytest.importorskip("tensorrt_lean")))
    elif TENSORRT_RTX.unavailable_reason() is None:
        library = open_library(TENSORRT_RTX)
    else:
        pytest.skip("TensorRT for RTX is not installed")
    with pytest.raises(
        BackendError, match=r"cannot load the engine \(.+\): run `xrt build` again|does not start: "
    ) as e:
        EngineRunner(library, FakeCuda(), StoredEngine(b"junk" * 100, 4), "image", ["logits"])
    assert "\n" not in str(e.value)
    print(e.value)
