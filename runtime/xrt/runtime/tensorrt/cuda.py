"""CUDA as far as running an engine needs it: memory, a stream, copies, graphs; through the binding that is installed.

`cuda.bindings` is NVIDIA's own; pycuda is what older machines, Jetsons above all, have. Both sit behind `Cuda`. Errors
become BackendError. Addresses are integers, as TensorRT takes them.
"""

from __future__ import annotations

from importlib.util import find_spec

from xrt.runtime.errors import BackendError
from xrt.runtime.tensorrt.cuda_base import Cuda

INSTALL = "pip install 'xrt-runtime[tensorrt]'"


def cuda_unavailable_reason() -> str | None:
    """What is missing to use a GPU, and how to get it, in one line; None when nothing is."""
    try:
        open_cuda()
    except BackendError as error:
        return str(error)
    return None


def open_cuda() -> Cuda:
    """The first CUDA device through `cuda.bindings` or pycuda. Raises BackendError with what is missing."""
    if _has("cuda.bindings"):
        from xrt.runtime.tensorrt.cuda_bindings import CudaBindings

        return CudaBindings()
    if _has("pycuda"):
        from xrt.runtime.tensorrt.cuda_pycuda import PyCuda

        return PyCuda()
    raise BackendError(f"neither cuda.bindings nor pycuda is installed: {INSTALL}")


def _has(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package around it is absent
        return False
