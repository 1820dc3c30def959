"""From a source to a graph that explains itself, and to someone who answers for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xrt.export.cams.explain import Explained, explain
from xrt.export.graphs.face import wrap_in_uint8
from xrt.export.graphs.simplifying import fuse_batch_norms
from xrt.export.graphs.tracing import TracedModel, serialise, trace
from xrt.export.references.onnx_reference import OnnxReference
from xrt.export.references.reference import Reference
from xrt.export.references.torch_reference import TorchReference
from xrt.export.sources.onnx_file import load_graph
from xrt.export.sources.source import Source
from xrt.export.targets.layer_names import find_layer
from xrt.export.targets.target import Target, default_target, named_target
from xrt.runtime.bundle.manifest import CamMethod, GraphSpec
from xrt.runtime.errors import UsageError

DEFAULT_METHODS: tuple[CamMethod, ...] = ("gradcam",)


@dataclass(frozen=True)
class Request:
    """What is to be explained, and how.

    `target_layers` are torch module paths or names of tensors, none meaning the default; `methods` go into the graph
    side by side; `classes` is `all`, `top:K`, or names of classes separated by commas; or what they mean.
    """

    target_layers: tuple[str, ...] = ()
    methods: tuple[CamMethod, ...] = DEFAULT_METHODS
    classes: str | Explained = "all"


@dataclass(frozen=True)
class ExplainedModel:
    """A traced model with its face and its maps: the bytes of the graph, its description, and who answers for it."""

    data: bytes
    graph: GraphSpec
    reference: Reference


def compile_source(source: Source, request: Request = Request()) -> ExplainedModel:
    """Trace a source and put the heatmaps that are asked for into the graph.

    Raises ModelError when the model cannot be explained, UsageError when the request does not fit it.
    """
    chosen = request.classes
    explained = explained_by(source, chosen) if isinstance(chosen, str) else chosen
    size = source.preprocessing
    traced = _traced(source, size.height, size.width)
    _check_fit(source, traced)
    wrap_in_uint8(traced.model, source.mean, source.std)
    fuse_batch_norms(traced.model, keep=[find_layer(traced.model.graph, name) for name in request.target_layers])
    targets = _targets(traced, request.target_layers)
    unexplained = traced.model.clone() if source.module is None else None
    spec = explain(traced.model, targets, explained, tuple(dict.fromkeys(request.methods)))
    if unexplained is None:
        layouts = {str(t.value.name): t.layout for t in targets}
        assert traced.program is not None
        reference: Reference = TorchReference(
            source.torch_module,
            traced.program,
            traced.logits_name if traced.activation else None,
            spec.cams,
            [layouts[cam.tensor] for cam in spec.cams],
            explained,
            source.mean,
            source.std,
        )
    else:
        assert source.onnx_file is not None
        reference = OnnxReference(
            source.onnx_file, traced.logits_name, unexplained, targets, spec.cams, explained, source.mean, source.std
        )
    return ExplainedModel(serialise(traced.model), spec, reference)


def _check_fit(source: Source, traced: TracedModel) -> None:
    """Whether the graph has the logits that the source speaks of, and the activation behind them its task."""
    held = int(traced.model.graph.outputs[0].shape[1])  # type: ignore[index,arg-type]
    if held != source.logits:
        raise UsageError(f"the model gives {held} logits for {source.logits} classes: name as many with --labels")
    if traced.activation == "softmax" and source.task == "multilabel":
        raise UsageError("the model ends in a softmax, so its classes exclude each other: --task multiclass")
    if traced.activation == "sigmoid" and source.task == "multiclass":
        raise UsageError("the model ends in a sigmoid, so its classes do not exclude each other: --task multilabel")


def explained_by(source: Source, classes: str) -> Explained:
    """Which logits `all`, `top:K` or a list of class names means. Raises UsageError when it means none."""
    everything = tuple(range(source.logits))
    if classes == "all":
        return Explained(source.signs, everything)
    if classes.startswith("top:"):
        number = classes.removeprefix("top:")
        if not number.isdecimal() or not 1 <= int(number) <= source.logits:
            raise UsageError(
                f"--classes top:K takes K from 1 to {source.logits}, the number of logits; given {classes!r}"
            )
        return Explained(source.signs, top_k=int(number))
    names = [spec.name for spec in source.classes]
    wanted = list(dict.fromkeys(name.strip() for name in classes.split(",")))
    if unknown := [name for name in wanted if name not in names]:
        raise UsageError(
            f"no class is called {unknown[0]!r}: --classes takes all, top:K, or some of {', '.join(names[:20])}"
        )
    if source.task == "binary":
        if len(wanted) != 1:
            raise UsageError("a one-logit model explains one of its two classes: name one with --classes")
        return Explained((-1.0,) if wanted[0] == names[0] else (1.0,), (0,))
    return Explained(source.signs, tuple(names.index(name) for name in wanted))


def _traced(source: Source, height: int, width: int) -> TracedModel:
    if source.module is not None:
        return trace(source.module, len(source.mean), height, width)
    assert source.onnx_file is not None
    return load_graph(source.onnx_file, height, width)


def _targets(traced: TracedModel, names: Sequence[str]) -> list[Target]:
    if not names:
        return [default_target(traced.model)]
    found = {target.value: target for target in (named_target(traced.model, name) for name in names)}
    return list(found.values())
