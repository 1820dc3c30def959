"""What the code asks of NVIDIA's bindings exists there, with those parameters.

The code is read, not a list: every attribute and call on an object of TensorRT is looked up in the classes of
`tensorrt-lean` 11.4, the real runtime of the enterprise distribution, and of TensorRT for RTX, which has a builder too.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from xrt.runtime.tensorrt import builder, cuda_bindings, distributions, network_report, runner
from xrt.runtime.tensorrt.distributions import TENSORRT_RTX, open_library

lean = pytest.importorskip("tensorrt_lean")
pytestmark = pytest.mark.skipif(
    TENSORRT_RTX.unavailable_reason() is not None, reason="TensorRT for RTX is not installed"
)

# The names that the modules give to objects of each class.
RUNNING = {
    "self._runtime": "Runtime",
    "self._engine": "ICudaEngine",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "self._context": "IExecutionContext",
}
KERNELS = {"config": "IRuntimeConfig", "self._config": "IRuntimeConfig", "cache": "IRuntimeCache"}
BUILDING = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "error": "ParserError",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
}
INSPECTING = {"network": "INetworkDefinition", "layer": "ILayer", "tensor": "ITensor", "value": "ITensor"}
# What TensorRT for RTX alone has, and the code uses only there.
RTX_ONLY = {"CudaGraphStrategy", "ComputeCapability"}


class Use(NamedTuple):
    owner: str
    name: str
    positional: int | None
    keywords: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.owner}.{self.name}" + ("" if self.positional is None else f"({self.positional})")


def uses(module, owners: dict[str, str]) -> set[Use]:
    """Attributes and calls on the objects that go by these names, anywhere in a module."""
    tree = ast.parse(inspect.getsource(module))
    called = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    result = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in owners:
            call = called.get(id(node))
            starred = call is not None and any(isinstance(argument, ast.Starred) for argument in call.args)
            positional = None if call is None or starred else len(call.args)
            keywords = tuple(str(k.arg) for k in call.keywords) if call is not None else ()
            result.add(Use(owners[ast.unparse(node.value)], node.attr, positional, keywords))
    return result


def module_names(*modules) -> set[str]:
    """What the code takes from a distribution's module itself, such as `Runtime`."""
    owners = dict.fromkeys(("module", "library.module", "self._library.module"), "")
    return {use.name for module in modules for use in uses(module, owners)} - {"__version__", "__members__"}


def overloads(doc: str, name: str) -> Iterator[list[tuple[str, bool]]]:
    """The parameters (name, has a default) of each signature in a pybind docstring, without self."""
    for signature in re.findall(rf"^(?:\d+\. )?{name}\((self: .*)\) -> ", doc, re.MULTILINE):
        parts = re.split(r", (?=\w+: )", signature)[1:]
        yield [(part.split(":")[0], " = " in part) for part in parts]


def accepts(function, use: Use) -> bool:
    for parameters in overloads(function.__doc__ or "", use.name):
        names = [name for name, _ in parameters]
        arguments = {*names[: use.positional], *use.keywords}
        required = {name for name, default in parameters if not default}
        if (use.positional or 0) <= len(names) and set(use.keywords) <= set(names) and required <= arguments:
            return True
    return False


def hold(library, use: Use) -> None:
    member = getattr(getattr(library, use.owner), use.name, None)
    assert member is not None, f"{library.__name__} has no {use}"
    if use.positional is not None:
        assert accepts(member, use), f"{use} does not fit {member.__doc__}"


@pytest.mark.parametrize("use", sorted(uses(runner, RUNNING)), ids=str)
def test_running_is_held_against_the_enterprise_runtime(use):
    hold(lean, use)


@pytest.mark.parametrize("use", sorted(uses(runner, RUNNING | KERNELS)), ids=str)
def test_running_is_held_against_tensorrt_for_rtx(use):
    hold(open_library(TENSORRT_RTX).module, use)


@pytest.mark.parametrize("use", sorted(uses(builder, BUILDING) | uses(network_report, INSPECTING)), ids=str)
def test_building_is_held_against_tensorrt_for_rtx(use):
    hold(open_library(TENSORRT_RTX).module, use)


@pytest.mark.parametrize("name", sorted(module_names(runner, distributions, builder, network_report)))
def test_names_of_the_module(name):
    assert hasattr(open_library(TENSORRT_RTX).module, name)


@pytest.mark.parametrize("name", sorted(module_names(runner, distributions) - RTX_ONLY))
def test_names_of_the_enterprise_module(name):
    assert hasattr(lean, name)


def test_every_name_on_a_cuda_binding_exists():
    runtime = importlib.import_module("cuda.bindings.runtime")
    names = uses(cuda_bindings, {"self._cuda": "", "runtime": ""})
    assert {"cudaMemcpyAsync", "cudaGraphLaunch", "cudaMallocHost"} <= {use.name for use in names}
    for use in names:
        assert hasattr(runtime, use.name), use.name
    for text in ("self._cuda.cudaMemcpyKind", "self._cuda.cudaStreamCaptureMode", "self._cuda.cudaDeviceAttr"):
        enumeration = text.rpartition(".")[2]
        owners = {text: enumeration} | ({"attributes": enumeration} if enumeration == "cudaDeviceAttr" else {})
        members = uses(cuda_bindings, owners)
        assert members
        for use in members:
            assert hasattr(getattr(runtime, enumeration), use.name), use.name


def test_the_reading_finds_what_matters():
    running = {str(use) for use in uses(runner, RUNNING | KERNELS)}
    assert {
        "Runtime.deserialize_cuda_engine(1)",
        "ICudaEngine.get_tensor_dtype(1)",
        "IExecutionContext.set_tensor_address(2)",
        "IExecutionContext.execute_async_v3(1)",
        "IRuntimeConfig.cuda_graph_strategy",
        "IRuntimeCache.serialize(0)",
    } <= running
    assert {"Builder.build_serialized_network(2)", "IBuilderConfig.set_timing_cache(1)"} <= {
        str(use) for use in uses(builder, BUILDING)
    }
    assert {"BuilderFlag", "OnnxParser", "Runtime", "LayerType", "ILogger"} <= module_names(
        runner, distributions, builder, network_report
    )


def test_the_proof_can_fail():
    wrong = [
        Use("ICudaEngine", "num_bindings", None, ()),
        Use("IExecutionContext", "execute_async_v3", 2, ()),
        Use("IExecutionContext", "execute_async_v3", 0, ("stream",)),
        Use("IExecutionContext", "set_tensor_address", 1, ()),
    ]
    for use in wrong:
        with pytest.raises(AssertionError):
            hold(lean, use)
    hold(lean, Use("IExecutionContext", "execute_async_v3", 0, ("stream_handle",)))
