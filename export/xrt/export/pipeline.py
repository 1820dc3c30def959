"""Export: trace, wrap, explain, certify, publish. Nothing is written before the gate has spoken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from xrt.export.compilation import ExplainedModel, Request, compile_source
from xrt.export.sources.source import Source
from xrt.runtime.backends import SessionOptions, choose_backend
from xrt.runtime.bundle.known_answers import KnownAnswers
from xrt.runtime.bundle.manifest import (
    Certificate,
    GraphSpec,
    KnownAnswersSpec,
    Manifest,
    Provenance,
    Variant,
)
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.bundle.writer import check_destination, sha256_of, write_bundle
from xrt.runtime.errors import RefusedByGate
from xrt.runtime.gate import Answers, answer, certificate_of
from xrt.runtime.gate.evidence import (
    CERTIFICATION_SEED,
    KNOWN_ANSWERS_COUNT,
    KNOWN_ANSWERS_SEED,
    EvidenceImages,
    folder_inputs,
    images_needed,
    phantom_inputs,
)

Progress = Callable[[str], None]
FP32_FILE, KNOWN_ANSWERS_FILE = "model.fp32.onnx", "known-answers.npz"


def export_source(
    source: Source,
    out: Path,
    *,
    request: Request = Request(),  # noqa: B008 (it is immutable)
    certify: Path | None = None,
    force: bool = False,
    progress: Progress = lambda message: None,
) -> Bundle:
    """Make the bundle `out` from a source.

    `certify` names a folder of radiographs for the gate instead of phantoms. Raises UsageError when `out` exists,
    ModelError when the model cannot be exported, and RefusedByGate, writing nothing, when the graph misses a limit
    and `force` is not given; a forced certificate keeps its verdict and the runtime warns.
    """
    check_destination(out)
    progress("tracing the model and compiling its gradients")
    model = compile_source(source, request)
    if source.task == "binary":
        source = replace(source, explained_class=int(model.reference.explained.signs[0] > 0))
    known_inputs = phantom_inputs(KNOWN_ANSWERS_COUNT, KNOWN_ANSWERS_SEED, source.preprocessing)
    progress("asking the reference for the known answers")
    answers = model.reference.answer(known_inputs.images)
    known = KnownAnswers(known_inputs.images, answers.logits, answers.cams).to_bytes()
    variant = Variant(file=FP32_FILE, sha256=sha256_of(model.data), precision="fp32")
    manifest = _manifest(source, out, model.graph, variant, known)
    evidence = _evidence(source, certify, progress)
    progress(f"certifying on {len(evidence.images)} images ({evidence.source})")
    certificate = _certify(model, variant, manifest, evidence)
    if not certificate.figures["reference_varies"]:
        progress("note: the model's own heatmaps do not change with the image, so nothing is proved of them")
    if certificate.verdict != "passed":
        if not force:
            raise RefusedByGate(
                f"the fp32 graph is not published, the gate says {certificate.verdict}: "
                f"{'; '.join(certificate.reasons)} (--force publishes it with this verdict on record)"
            )
        certificate = certificate.model_copy(update={"forced": True})
    manifest = manifest.model_copy(update={"certificates": (certificate,)})
    return write_bundle(out, manifest, {FP32_FILE: model.data, KNOWN_ANSWERS_FILE: known})


def _evidence(source: Source, certify: Path | None, progress: Progress) -> EvidenceImages:
    needed = images_needed(1 if source.task == "multiclass" else source.logits)
    if certify is None:
        return phantom_inputs(needed, CERTIFICATION_SEED, source.preprocessing)
    return folder_inputs(certify, source.preprocessing, skipped=progress)


def _certify(model: ExplainedModel, variant: Variant, manifest: Manifest, evidence: EvidenceImages) -> Certificate:
    backend = choose_backend("auto")
    with backend.open(model.data, manifest.graph, manifest.preprocessing, SessionOptions()) as session:
        candidate: Answers = answer(session, evidence.images)
    return certificate_of(
        variant,
        backend,
        model.reference.answer(evidence.images),
        candidate,
        manifest,
        source=evidence.source,
        reference_name=model.reference.name,
    )


def _manifest(source: Source, out: Path, graph: GraphSpec, variant: Variant, known: bytes) -> Manifest:
    packages = ("xrt-runtime", "xrt-export", "torch", "onnx", "onnx-ir", "onnxscript")
    return Manifest(
        name=out.stem,
        task=source.task,
        classes=source.classes,
        explained_class=source.explained_class,
        preprocessing=source.preprocessing,
        graph=graph,
        input_statistics=source.input_statistics,
        variants=(variant,),
        known_answers=KnownAnswersSpec(
            file=KNOWN_ANSWERS_FILE, sha256=sha256_of(known), count=KNOWN_ANSWERS_COUNT, source="synthetic"
        ),
        provenance=Provenance(
            source=source.origin,
            weights=source.weights,
            output=source.onnx_file.output if source.onnx_file else None,
            notes=source.notes,
            checkpoint_sha256=source.sha256,
            dataset=source.dataset,
            recipe=source.recipe,
            normalisation={"mean": source.mean, "std": source.std},
            versions={**source.versions, **{name: version(name) for name in packages}},
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        ),
    )
