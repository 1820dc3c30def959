"""Compiling a source: the graph with heatmaps, and the reference that it is compared with."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from xrt.export.cams.explained_logits import ExplainedLogits, parse_top_k
from xrt.export.cams.heatmaps import add_heatmaps, describe_heatmaps
from xrt.export.ir.serialisation import serialise
from xrt.export.ir.shapes import fixed_size, shape_of
from xrt.export.passes.base import run_passes
from xrt.export.passes.order import explained_passes, input_passes
from xrt.export.references.reference import Reference
from xrt.export.sources.base import Source, SourceGraph
from xrt.export.targets.layer_names import find_layer
from xrt.export.targets.moved_positions import moved_positions
from xrt.export.targets.target import Target, default_target, named_target
from xrt.runtime.bundle.manifest import CamMethod, GraphSpec
from xrt.runtime.errors import UsageError

DEFAULT_METHODS: tuple[CamMethod, ...] = ("gradcam",)
log = logging.getLogger("xrt.export.passes")


@dataclass(frozen=True)
class Request:
    """What the heatmaps explain, and how.

    `target_layers` are torch module paths or names of tensors, empty for the default; `methods` go into the graph
    side by side; `classes` is `all`, `top:K`, names of classes separated by commas, or an `ExplainedLogits`.
    """

    target_layers: tuple[str, ...] = ()
    methods: tuple[CamMethod, ...] = DEFAULT_METHODS
    classes: str | ExplainedLogits = "all"


DEFAULT_REQUEST = Request()
_NOTED_BYTES = 512 * 2**20
"""Written for one image. Free: some twelve times what the convolutions of a ResNet-50 write (11.1 million numbers)."""


@dataclass(frozen=True)
class ExplainedModel:
    """A graph with uint8 input, logits and maps: its bytes, its description, and the reference for it.

    `notes` are what a user of its maps should know.
    """

    data: bytes
    graph: GraphSpec
    reference: Reference
    notes: tuple[str, ...] = ()


def compile_source(source: Source, request: Request = DEFAULT_REQUEST) -> ExplainedModel:
    """Make the graph of a source and add the requested heatmaps to it.

    Raises ModelError when the model cannot be explained, UsageError when the request does not fit it.
    """
    choice = request.classes
    explained = explained_logits(source, choice) if isinstance(choice, str) else choice
    graph = source.graph()
    _check_fit(source, graph)
    model, names = graph.model, request.target_layers

    def layers(graph: ir.Graph) -> list[ir.Value]:
        return [find_layer(graph, name) for name in names]

    run_passes(model, input_passes(source.normalisation, keep=layers))
    targets = find_targets(model, names, graph.tensors)
    spec = describe_heatmaps(model, targets, explained, tuple(dict.fromkeys(request.methods)))
    reference = graph.reference(targets, spec.cams, explained)
    notes = tuple(
        f"heatmaps of {target.layer} do not lie as the radiograph does: {note}"
        for target in targets
        for note in moved_positions(model.graph, target.value)
    )
    before = model.graph.num_nodes()
    numbers = add_heatmaps(model, targets, explained, spec.cams)
    notes = (*notes, *_cost(targets, 4 * numbers))
    log.info("%-18s %5d -> %5d nodes", "heatmaps", before, model.graph.num_nodes())
    run_passes(model, explained_passes())
    return ExplainedModel(serialise(model), spec, reference, notes)


def _cost(targets: Sequence[Target], size: int) -> tuple[str, ...]:
    """What heatmaps of early layers cost, where that is much: a gradient for every class passes all layers behind."""
    if size < _NOTED_BYTES:
        return ()
    first = max(targets, key=lambda target: target.layout.height * target.layout.width)
    return (
        f"the gradients at {first.layer} ({first.layout.height} × {first.layout.width}) pass through "
        f"{size / 2**20:.0f} MiB of tensors for each image of a batch: a later --target-layer, fewer --classes (top:5) "
        "or smaller batches make them cheaper",
    )


def _check_fit(source: Source, graph: SourceGraph) -> None:
    """Raise UsageError when the graph's logits, or the activation after them, do not fit the classes and task."""
    logits = fixed_size(shape_of(graph.model.graph.outputs[0])[1])
    if logits != source.logits:
        raise UsageError(f"the model gives {logits} logits for {source.logits} classes: name as many with --labels")
    if graph.activation == "softmax" and source.task == "multilabel":
        raise UsageError("the model ends in a softmax, so its classes exclude each other: --task multiclass")
    if graph.activation == "sigmoid" and source.task == "multiclass":
        raise UsageError("the model ends in a sigmoid, so its classes do not exclude each other: --task multilabel")


def explained_logits(source: Source, classes: str) -> ExplainedLogits:
    """The logits that `all`, `top:K` or a list of class names selects. Raises UsageError for anything else."""
    if classes == "all":
        return ExplainedLogits(source.signs, tuple(range(source.logits)))
    if (top_k := parse_top_k(classes, source.logits)) is not None:
        return ExplainedLogits(source.signs, top_k=top_k)
    class_names = [spec.name for spec in source.classes]
    names = list(dict.fromkeys(name.strip() for name in classes.split(",")))
    if unknown := [name for name in names if name not in class_names]:
        raise UsageError(
            f"no class is called {unknown[0]!r}: --classes takes all, top:K, or some of {', '.join(class_names[:20])}"
        )
    if source.task == "binary":
        if len(names) != 1:
            raise UsageError("a one-logit model explains one of its two classes: name one with --classes")
        return ExplainedLogits((-1.0,) if names[0] == class_names[0] else (1.0,), (0,))
    return ExplainedLogits(source.signs, tuple(class_names.index(name) for name in names))


def find_targets(model: ir.Model, names: Sequence[str], tensors: Collection[str] | None = None) -> list[Target]:
    """The named targets of a model with logits, each once; without names, the default one. Raises ModelError."""
    if not names:
        return [default_target(model, tensors)]
    targets = {target.value: target for target in (named_target(model, name) for name in names)}
    return list(targets.values())
