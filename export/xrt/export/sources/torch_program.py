"""A module as torch's exported program, in a form that the exporter to ONNX and the gradients understand.

Torch reports what it cannot capture as its own constraints. What users write most often is named instead: networks
that are random, or that compute with the batch. Two things are rewritten, each to what has the same value: pooling to a
size that does not divide the map, which has no operator; and sigmoids of parts that are joined afterwards, which become
one sigmoid of the whole, so that the logits are one tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch._subclasses import FakeTensor

from xrt.export.sources.torch_detach import DataIsDetached
from xrt.runtime._io import first_line
from xrt.runtime.errors import ModelError

aten = torch.ops.aten
_ELEMENTWISE_AFTER = {
    aten.unsqueeze.default, aten.squeeze.dim, aten.squeeze.default, aten.squeeze.dims, aten.view.default,
    aten.reshape.default, aten.flatten.using_ints, aten.permute.default, aten.transpose.int, aten.slice.Tensor,
    aten.select.int, aten.contiguous.default, aten.clone.default, aten.alias.default,
}  # fmt: skip
"""Operators of one tensor that only rearrange or choose its numbers: an elementwise function may follow as well."""
_JOINING = {aten.cat.default, aten.stack.default, aten.hstack.default, aten.concat.default}


def capture(module: torch.nn.Module, example: torch.Tensor) -> torch.export.ExportedProgram:
    """The module in evaluation mode as a program with a dynamic batch, for images like `example` [2, C, H, W].

    Raises ModelError that names the cause.
    """
    _require_statistics(module)
    try:
        with DataIsDetached():
            program = _with_dynamic_batch(module, example)
    except Exception as error:  # torch has its own family of errors, with long texts
        if (reason := _batch_reason(module, example, error)) is not None:
            raise ModelError(f"{type(module).__name__} {reason}") from error
        raise
    if any(isinstance(constant, FakeTensor) for constant in program.constants.values()):
        raise ModelError(
            f"{type(module).__name__} takes the numbers of a tensor out of the network (`x.data`), where torch cannot "
            "follow: write `x.detach()`"
        )
    if (name := _random_operator(program)) is not None:
        raise ModelError(
            f"{type(module).__name__} is random: {name} draws new numbers in every run, in evaluation mode too; give a "
            "functional dropout `training=self.training`, or remove it"
        )
    if any(node.target is aten.adaptive_max_pool2d.default for node in program.graph.nodes):
        program = program.run_decompositions({aten.adaptive_max_pool2d.default: _adaptive_max_pool2d})
    _join_sigmoids(program)
    return program


def _with_dynamic_batch(module: torch.nn.Module, example: torch.Tensor) -> torch.export.ExportedProgram:
    """Tracing takes Python's `len(x)` for a constant, and the exporter would then fix the batch without a warning;
    torch's bytecode analysis, tried second, understands it.
    """
    shapes = ({0: torch.export.Dim("n", min=1)},)
    try:
        return torch.export.export(module, (example,), dynamic_shapes=shapes, strict=False)
    except Exception as first:
        try:
            return torch.export.export(module, (example,), dynamic_shapes=shapes, strict=True)
        except Exception:
            raise first from None


def _require_statistics(module: torch.nn.Module) -> None:
    """Raise ModelError for a batch normalisation that has only the batch to normalise with."""
    for name, part in module.named_modules():
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm) and part.running_mean is None:
            raise ModelError(
                f"the batch normalisation {name!r} has no running statistics (track_running_stats=False): it "
                "normalises over the batch, so that an image's result depends on the others; train it with them"
            )


def _random_operator(program: torch.export.ExportedProgram) -> str | None:
    """The first operator that draws random numbers, with its place; None when there is none."""
    for node in program.graph.nodes:
        if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
            continue
        if torch.Tag.nondeterministic_seeded in node.target.tags and not _is_off(node):
            where = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values() if path]
            return f"{str(node.target).split('.')[1]}" + (f" in {where[-1]}" if where else " in its forward")
    return None


def _is_off(node: torch.fx.Node) -> bool:
    """Whether a dropout, or an operator with one inside, does not draw: in evaluation mode, or with probability 0."""
    arguments = node.target._schema.arguments  # type: ignore[union-attr]
    values = {argument.name: argument.default_value for argument in arguments}
    values |= {**dict(zip(values, node.args, strict=False)), **node.kwargs}
    probability = values.get("dropout_p", values.get("dropout"))
    if probability is not None:
        return probability == 0 or values.get("train") is False
    return values.get("train", values.get("training", True)) is False


def _batch_reason(module: torch.nn.Module, example: torch.Tensor, error: Exception) -> str | None:
    """Why a module has no dynamic batch, where it can be exported for a fixed one: what it does with the batch.

    `error` is what torch said of the dynamic one.
    """
    try:
        program = torch.export.export(module, (example,), strict=False)
    except Exception:  # then the batch is not the reason
        return None
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if node.target not in _JOINING or not isinstance(value, torch.Tensor):
            continue
        times, rest = divmod(len(value), len(example))
        if times > 1 and not rest:
            action = "doubles the batch" if times == 2 else f"makes the batch {times} times as large"
            return (
                f"{action} inside ({node.name}: images are joined along the first axis, as for test-time "
                "augmentation), so the number of images is not free: run the network once for each version of the "
                "image and average the results"
            )
    return (
        "computes with the number of images, which must be free: it cannot be exported with a dynamic batch "
        f"({innermost_reason(error)[:160]}); use shapes with -1 in place of the batch"
    )


def innermost_reason(error: BaseException) -> str:
    """The first line of the innermost cause of an error of torch's exporter."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)


def _adaptive_max_pool2d(x: torch.Tensor, output_size: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Maxima over windows from floor(i · H / h) to ceil((i + 1) · H / h), each by an ordinary pooling.

    The indices are no result that an exported network can use; they are zeros.
    """
    (height, width), (rows, columns) = x.shape[-2:], output_size
    pooled = []
    for top, bottom in _windows(height, rows):
        line = []
        for left, right in _windows(width, columns):
            window = x[..., top:bottom, left:right]
            line.append(torch.nn.functional.max_pool2d(window, (bottom - top, right - left)))
        pooled.append(torch.cat(line, dim=-1))
    maxima = torch.cat(pooled, dim=-2)
    return maxima, torch.zeros_like(maxima, dtype=torch.int64)


def _windows(size: int, parts: int) -> list[tuple[int, int]]:
    return [(i * size // parts, -(-(i + 1) * size // parts)) for i in range(parts)]


def _join_sigmoids(program: torch.export.ExportedProgram) -> None:
    """Move sigmoids behind what rearranges and joins their results, in place.

    Each node keeps its name, so that outputs stay what they are called.
    """
    graph = program.graph
    for node in list(graph.nodes):
        if node.op != "call_function":
            continue
        if node.target in _ELEMENTWISE_AFTER and _is_sigmoid(node.args[0]):
            _follow(graph, node, node.target, (node.args[0].args[0], *node.args[1:]))  # type: ignore[union-attr]
        elif node.target in _JOINING and len(parts := list(node.args[0])) > 1 and all(map(_is_sigmoid, parts)):  # type: ignore[arg-type]
            _follow(graph, node, node.target, ([part.args[0] for part in parts], *node.args[1:]))
    graph.eliminate_dead_code()
    graph.lint()


def _is_sigmoid(node: Any) -> bool:
    return isinstance(node, torch.fx.Node) and node.target is aten.sigmoid.default


def _follow(graph: torch.fx.Graph, node: torch.fx.Node, target: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """Make `node` the sigmoid of what it did before, now done to the sigmoids' own inputs."""
    with graph.inserting_before(node):
        before = graph.call_function(target, args, node.kwargs)
    before.meta.update({**node.meta})
    node.target, node.args, node.kwargs = aten.sigmoid.default, (before,), {}
