"""From an ONNX file to a serialised engine, a plan, with either distribution."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from xrt.runtime.bundle.manifest import GraphInterface, Precision
from xrt.runtime.errors import BackendError, UsageError
from xrt.runtime.tensorrt.distributions import Distribution, Library, open_library
from xrt.runtime.tensorrt.network_report import NetworkReport, report_network
from xrt.runtime.tensorrt.onnx_support import check_file


@dataclass(frozen=True)
class Batches:
    """The batch sizes that an engine takes, from 1 to `most`; it is fastest at `usual`."""

    usual: int = 8
    most: int = 32

    @classmethod
    def up_to(cls, most: int) -> Batches:
        """From 1 to `most`. Raises UsageError when that is not positive."""
        if most < 1:
            raise UsageError(f"an engine takes batches of 1 image at least, given {most}")
        return cls(min(cls.usual, most), most)


@dataclass(frozen=True)
class BuiltEngine:
    """A plan, for which GPU and batches, what the parsed network computes in, and how long it took.

    `timing_cache` is what a builder that keeps timings hands back for the next time; empty otherwise.
    """

    plan: bytes
    compute_capability: str
    precision: Precision
    batches: Batches
    network_report: NetworkReport
    seconds: float
    timing_cache: bytes = b""


def build_engine(
    distribution: Distribution,
    model: bytes,
    interface: GraphInterface,
    *,
    compute_capability: str,
    precision: Precision | None = None,
    batches: Batches = Batches(),
    timing_cache: bytes = b"",
) -> BuiltEngine:
    """Build an engine from the ONNX file `model`.

    `compute_capability`, such as `sm86`, is what a distribution that builds ahead of time compiles for; for the other
    it names the GPU that is there. `precision` is what the file is asked to compute in, by default what it looks like.
    Raises BackendError when the file is refused, does not parse, computes in something else, or cannot be built;
    UsageError when the distribution knows no such GPU.
    """
    file_precision = check_file(model)
    precision = precision or file_precision
    library = open_library(distribution)
    check_target(library, compute_capability)
    started = time.perf_counter()
    module = library.module
    builder = library.start(module.Builder)
    try:
        network = builder.create_network(_strong_typing(module))
        parser = module.OnnxParser(network, library.logger)
        parsed = parser.parse(model)
    except (RuntimeError, TypeError) as error:
        raise BackendError(f"{distribution.title} cannot read the file: {library.failure(_line(error))}") from error
    if not parsed:
        raise BackendError(_parser_error(distribution, parser))
    _check_interface(network, interface)
    report = report_network(module, network, interface.graph.logits)
    if (refusal := report.refusal(precision)) is not None:
        raise BackendError(f"the file is not what it is called: {refusal}; export that variant again")
    config = _configuration(library, builder, compute_capability, timing_cache)
    _add_profile(library, builder, config, interface, batches)
    try:
        plan = builder.build_serialized_network(network, config)
    except RuntimeError as error:
        raise BackendError(f"{distribution.title} cannot build the engine: {library.failure(_line(error))}") from error
    if plan is None:
        raise BackendError(
            f"{distribution.title} cannot build the engine for {compute_capability}: {library.failure()}"
        )
    timings = b"" if distribution.runtime_cache else bytes(config.get_timing_cache().serialize())
    seconds = time.perf_counter() - started
    return BuiltEngine(bytes(plan), compute_capability, precision, batches, report, seconds, timings)


def check_target(library: Library, compute_capability: str) -> None:
    """Raises UsageError when the distribution builds ahead of time, but not for that GPU."""
    known = library.compute_capabilities
    if known and compute_capability not in known:
        raise UsageError(
            f"{library.distribution.title} {library.version} does not build for {compute_capability!r}: "
            f"choose from {', '.join(known)}"
        )


def _strong_typing(module: Any) -> int:
    # TensorRT 10 must be told; from 11 on there is nothing else, and a later one may drop the flag.
    flag = getattr(module.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _parser_error(distribution: Distribution, parser: Any) -> str:
    """What the parser says of the first node that it refuses, in one line."""
    if not parser.num_errors:
        return f"{distribution.title} does not read the file and gives no reason: export the bundle again"
    error = parser.get_error(0)
    operator, node = error.node_operator(), error.node_name()
    more = f" (and {parser.num_errors - 1} more)" if parser.num_errors > 1 else ""
    if not operator:
        return f"{distribution.title} does not read the file: {_line(error.desc())}"
    description = _line(error.desc())
    # Of an operator that it does not know at all the parser says that `false` failed.
    reason = "the operator is not supported" if description in ("", "false") else description
    return (
        f"{distribution.title} does not take {operator} {node!r}: {reason}{more}; "
        "use another back end for this model, or express that layer otherwise"
    )


def _check_interface(network: Any, interface: GraphInterface) -> None:
    """The parsed network has the inputs and outputs that the manifest describes."""
    inputs = {network.get_input(i).name: tuple(network.get_input(i).shape) for i in range(network.num_inputs)}
    expected = {interface.graph.image: (-1, *interface.input_shape)}
    if inputs != expected:
        raise BackendError(f"the file takes {inputs}, the manifest says {expected} (-1: any): export the bundle again")
    outputs = {network.get_output(i).name for i in range(network.num_outputs)}
    # A file that was cut down to its logits has none of the others.
    names = {interface.graph.logits} if outputs == {interface.graph.logits} else set(interface.outputs)
    if absent := names - outputs:
        raise BackendError(f"the file has no output {', '.join(sorted(absent))}: export the bundle again")


def _configuration(library: Library, builder: Any, compute_capability: str, timing_cache: bytes) -> Any:
    module, distribution = library.module, library.distribution
    config = builder.create_builder_config()
    # fp32 means fp32: TF32 keeps ten bits of the mantissa and is on by default.
    config.clear_flag(module.BuilderFlag.TF32)
    if distribution.ahead_of_time:
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(module.ComputeCapability, compute_capability.upper()), 0)
    if not distribution.runtime_cache:
        # A distribution with a runtime cache ignores timings, and needs a GPU as soon as it is given a cache for them.
        cache = config.create_timing_cache(timing_cache)
        if not config.set_timing_cache(cache, ignore_mismatch=False):
            # Timings of another GPU or version are of no use: it starts empty.
            config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)
    return config


def _add_profile(library: Library, builder: Any, config: Any, interface: GraphInterface, batches: Batches) -> None:
    profile = builder.create_optimization_profile()
    shapes = [(n, *interface.input_shape) for n in (1, batches.usual, batches.most)]
    try:
        profile.set_shape(interface.graph.image, *shapes)
        added = config.add_optimization_profile(profile)
    except (RuntimeError, ValueError) as error:
        raise BackendError(f"batches of 1 to {batches.most} do not fit the graph: {_line(error)}") from error
    if added < 0:
        reason = library.failure("the profile is refused")
        raise BackendError(f"batches of 1 to {batches.most} do not fit the graph: {reason}")


def _line(message: object) -> str:
    return " ".join(str(message).split())
