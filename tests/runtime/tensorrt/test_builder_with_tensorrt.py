"""The builder of the distribution that is not on the index, as far as an imitation of its module can tell."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from runtime.tensorrt.graphs import INTERFACE, classifier

from xrt.runtime.errors import BackendError
from xrt.runtime.tensorrt.builder import build_engine
from xrt.runtime.tensorrt.distributions import Distribution

CONV, MATMUL, FLOAT = "conv", "matmul", "float"


class Machine:
    """What the imitated TensorRT is told to do, and what it was given."""

    def __init__(self, **behaviour: Any) -> None:
        self.behaviour = {"starts": True, "errors": [], "plan": b"plan", "profile": 0, "timings_fit": True} | behaviour
        self.caches: list[bytes] = []
        self.cleared: list[str] = []
        self.flags = 0
        self.shapes: tuple[Any, ...] = ()

    def distribution(self) -> Distribution:
        return Distribution("tensorrt", "TensorRT", False, False, lambda: None, lambda: self.module())  # type: ignore[return-value]

    def module(self) -> Any:
        machine, does = self, self.behaviour

        class ILogger:
            ERROR, INTERNAL_ERROR = "error", "internal"

        class Builder:
            def __init__(self, logger: Any) -> None:
                self.logger = logger
                if not does["starts"]:
                    logger.log("error", "CUDA initialization failure with error: 35")
                    if does["starts"] is None:
                        raise TypeError("pybind11::init(): factory function returned nullptr")

            def create_network(self, flags: int) -> Any:
                machine.flags = flags
                return machine.network()

            def create_builder_config(self) -> Any:
                return machine.config()

            def create_optimization_profile(self) -> Any:
                return SimpleNamespace(set_shape=lambda name, *shapes: setattr(machine, "shapes", (name, *shapes)))

            def build_serialized_network(self, network: Any, config: Any) -> Any:
                if does["plan"] is None:
                    self.logger.log("internal", "out of\n memory")
                return does["plan"]

        errors = [
            SimpleNamespace(node_operator=lambda o=o: o, node_name=lambda: "there", desc=lambda d=d: d)
            for o, d in does["errors"]
        ]
        return SimpleNamespace(
            __version__="10.3.0",
            ILogger=ILogger,
            Builder=Builder,
            OnnxParser=lambda network, logger: SimpleNamespace(
                parse=lambda data: not errors, num_errors=len(errors), get_error=errors.__getitem__
            ),
            NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=3),
            BuilderFlag=SimpleNamespace(TF32="tf32"),
            LayerType=SimpleNamespace(
                CONVOLUTION=CONV, MATRIX_MULTIPLY=MATMUL, DEQUANTIZE="d", SHUFFLE="s", IDENTITY="i"
            ),
            DataType=SimpleNamespace(HALF="half"),
        )

    def network(self) -> Any:
        image = SimpleNamespace(name="image", shape=(-1, 1, 8, 8), dtype=FLOAT)
        logits, cams = (SimpleNamespace(name=name, dtype=FLOAT) for name in ("logits", "cams"))
        layer = SimpleNamespace(
            type=CONV, name="c", num_inputs=1, num_outputs=1, get_input=lambda i: image, get_output=lambda i: logits
        )
        return SimpleNamespace(
            num_inputs=1,
            get_input=lambda i: image,
            num_outputs=2,
            get_output=[logits, cams].__getitem__,
            num_layers=1,
            get_layer=lambda i: layer,
        )

    def config(self) -> Any:
        def set_timing_cache(cache: bytes, ignore_mismatch: bool) -> bool:
            assert not ignore_mismatch
            self.caches.append(cache)
            return self.behaviour["timings_fit"] or not cache

        return SimpleNamespace(
            clear_flag=self.cleared.append,
            create_timing_cache=lambda data: data,
            set_timing_cache=set_timing_cache,
            get_timing_cache=lambda: SimpleNamespace(serialize=lambda: b"new timings"),
            add_optimization_profile=lambda profile: self.behaviour["profile"],
        )


def build(machine: Machine, **options):
    return build_engine(
        machine.distribution(), classifier().SerializeToString(), INTERFACE, compute_capability="sm87", **options
    )


def test_it_is_strongly_typed_without_tf32_and_keeps_timings():
    machine = Machine()
    built = build(machine, timing_cache=b"old timings")
    assert machine.flags == 1 << 3
    assert machine.cleared == ["tf32"]
    assert machine.caches == [b"old timings"]
    assert built.timing_cache == b"new timings"
    assert machine.shapes == ("image", (1, 1, 8, 8), (8, 1, 8, 8), (32, 1, 8, 8))


def test_timings_of_another_gpu_are_left_aside():
    machine = Machine(timings_fit=False)
    build(machine, timing_cache=b"theirs")
    assert machine.caches == [b"theirs", b""]


@pytest.mark.parametrize("starts", [False, None])
def test_without_a_driver_it_does_not_start(starts):
    """TensorRT 11 hands out a null pointer whose first use ends the process; others raise a TypeError."""
    with pytest.raises(BackendError, match="TensorRT does not start: CUDA initialization failure with error: 35"):
        build(Machine(starts=starts))


@pytest.mark.parametrize(
    ("errors", "message"),
    [
        ([("Det", "false")], "TensorRT does not take Det 'there': the operator is not supported; use another back end"),
        ([("Slice", "axes must be\nconstant"), ("Det", "false")], "Slice 'there': axes must be constant .and 1 more.;"),
        ([("", "Failed to parse the ONNX model.")], "TensorRT does not read the file: Failed to parse the ONNX model"),
    ],
)
def test_what_the_parser_says_is_one_line(errors, message):
    with pytest.raises(BackendError, match=message) as refusal:
        build(Machine(errors=errors))
    assert "\n" not in str(refusal.value)


def test_a_profile_that_is_refused():
    with pytest.raises(BackendError, match="batches of 1 to 32 do not fit the graph: the profile is refused"):
        build(Machine(profile=-1))


def test_an_engine_that_cannot_be_built():
    with pytest.raises(BackendError, match="TensorRT cannot build the engine for sm87: out of memory"):
        build(Machine(plan=None))
