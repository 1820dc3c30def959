"""Export: trace, wrap, explain, certify, publish. Nothing is written before the gate has spoken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from xrt.export.certification import judge_variant
from xrt.export.compilation import Request, compile_source
from xrt.export.precision.calibration import MIN_IMAGES, calibration_images, require_disjoint
from xrt.export.precision.variants import made_variants
from xrt.export.sources.source import Source
from xrt.runtime.bundle.known_answers import KnownAnswers
from xrt.runtime.bundle.manifest import (
    PRECISIONS,
    GraphSpec,
    KnownAnswersSpec,
    Manifest,
    Precision,
    Provenance,
    Variant,
)
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.bundle.writer import check_destination, sha256_of, write_bundle
from xrt.runtime.errors import PartlyRefused, RefusedByGate, UsageError
from xrt.runtime.files import on_one_line, require_writable
from xrt.runtime.gate.evidence import (
    CERTIFICATION_SEED,
    KNOWN_ANSWERS_COUNT,
    KNOWN_ANSWERS_SEED,
    EvidenceImages,
    gathered_inputs,
    images_needed,
    phantom_inputs,
)
from xrt.runtime.gate.report import write_gate_report

Progress = Callable[[str], None]
KNOWN_ANSWERS_FILE = "known-answers.npz"


def export_source(
    source: Source,
    out: Path,
    *,
    request: Request = Request(),  # noqa: B008 (it is immutable)
    precisions: Sequence[Precision] = ("fp32",),
    calibrate: Path | None = None,
    certify: Path | None = None,
    force: bool = False,
    report: Path | None = None,
    progress: Progress = lambda message: None,
) -> Bundle:
    """Make the bundle `out` from a source.

    `precisions` are the variants wanted, fp32 always among them; int8 needs `calibrate`, a folder or data set of
    radiographs. `certify` names one for the gate instead of phantoms, with labels if it has them; `report` a folder
    for what the gate saw. Raises UsageError when `out` exists or the request is contradictory, ModelError when the
    model cannot be exported, and RefusedByGate when a variant misses a limit on every back end and `force` is not
    given. If that is fp32, nothing is written; otherwise the variants that passed are, and the error (PartlyRefused)
    holds the bundle. A forced certificate keeps its verdict and the runtime warns.
    """
    check_destination(out)
    if report is not None:
        require_writable(report, report)
    wanted: list[Precision] = [p for p in PRECISIONS if p == "fp32" or p in precisions]
    calibration, evidence = _images(source, wanted, calibrate, certify, progress)
    progress("tracing the model and compiling its gradients")
    model = compile_source(source, request)
    if source.task == "binary":
        source = replace(source, explained_class=int(model.reference.explained.signs[0] > 0))
    known_inputs = phantom_inputs(KNOWN_ANSWERS_COUNT, KNOWN_ANSWERS_SEED, source.preprocessing)
    progress("asking the reference for the known answers")
    answers = model.reference.answer(known_inputs.images)
    known_answers = KnownAnswers(known_inputs.images, answers.logits, answers.cams)
    known = known_answers.to_bytes()
    progress(f"asking the reference about {len(evidence.images)} images ({evidence.source})")
    expected = model.reference.answer(evidence.images)
    made = list(made_variants(model.data, model.graph, wanted, calibration, progress))
    manifest = _manifest(source, out, model.graph, tuple(m.variant for m in made), known)
    judged = [
        judge_variant(
            m, manifest, evidence, expected, model.reference.name, known=known_answers, force=force, progress=progress
        )
        for m in made
    ]
    if report is not None:
        written = write_gate_report(report, manifest, evidence, expected, [t for j in judged for t in j.trials])
        progress(f"what the gate saw: {written}")
    if not judged[0].certificates[0].figures["reference_varies"]:
        progress("note: the model's own heatmaps do not change with the image, so nothing is proved of them")
    published = [j for j in judged if j.publishable]
    if judged[0] not in published:
        raise RefusedByGate(f"nothing is published, the gate refuses {judged[0].refusal}")
    manifest = manifest.model_copy(
        update={
            "variants": tuple(j.made.variant for j in published),
            "certificates": tuple(c for j in published for c in j.certificates),
        }
    )
    files = {j.made.variant.file: j.made.data for j in published}
    bundle = write_bundle(out, manifest, {**files, KNOWN_ANSWERS_FILE: known})
    if refused := [j.refusal for j in judged if not j.publishable]:
        names = ", ".join(j.made.variant.file for j in published)
        raise PartlyRefused(f"{out} is published with {names}; the gate refuses {' and '.join(refused)}", bundle)
    return bundle


def _images(
    source: Source, wanted: Sequence[Precision], calibrate: Path | None, certify: Path | None, progress: Progress
) -> tuple[EvidenceImages | None, EvidenceImages]:
    """The images to calibrate on, if any, and those that certify."""
    spec = source.preprocessing
    calibration = None
    if "int8" in wanted:
        if calibrate is None:
            raise UsageError(f"int8 is calibrated on radiographs: give {MIN_IMAGES} or more with --calibrate")
        calibration = calibration_images(calibrate, source, progress)
    elif calibrate is not None:
        raise UsageError("--calibrate is for int8: ask for it with --precision fp32,int8")
    if certify is None:
        needed = images_needed(1 if source.task == "multiclass" else source.logits)
        evidence = phantom_inputs(needed, CERTIFICATION_SEED, spec)
    else:
        evidence = gathered_inputs(certify, spec, source, "test", skipped=progress)
    if calibration is not None:
        require_disjoint(calibration, evidence)
    return calibration, evidence


def _manifest(source: Source, out: Path, graph: GraphSpec, variants: tuple[Variant, ...], known: bytes) -> Manifest:
    packages = ("xrt-runtime", "xrt-export", "torch", "onnx", "onnx-ir", "onnxscript")
    return Manifest(
        name=on_one_line(out.stem),
        task=source.task,
        classes=source.classes,
        explained_class=source.explained_class,
        preprocessing=source.preprocessing,
        graph=graph,
        input_statistics=source.input_statistics,
        variants=variants,
        known_answers=KnownAnswersSpec(
            file=KNOWN_ANSWERS_FILE, sha256=sha256_of(known), count=KNOWN_ANSWERS_COUNT, source="synthetic"
        ),
        provenance=Provenance(
            source=on_one_line(source.origin),
            weights=on_one_line(source.weights) if source.weights else None,
            output=source.onnx_file.output if source.onnx_file else None,
            notes=tuple(map(on_one_line, source.notes)),
            checkpoint_sha256=source.sha256,
            dataset=source.dataset,
            recipe=source.recipe,
            normalisation={"mean": source.mean, "std": source.std},
            versions={**source.versions, **{name: version(name) for name in packages}},
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        ),
    )
