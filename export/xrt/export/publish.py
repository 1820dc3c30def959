"""Export: compile, build variants, certify, publish. Nothing is written before the gate has decided."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from xrt.export.compile import DEFAULT_REQUEST, Request, compile_source
from xrt.export.quantisation.calibration import MIN_IMAGES, calibration_images
from xrt.export.quantisation.variants import VariantRequest, build_variants
from xrt.export.references.independence import finite_stress_inputs, require_independent_images
from xrt.export.references.reference import Reference
from xrt.export.sources.base import Source
from xrt.runtime._io import on_one_line, require_writable, sha256_of, utc_now
from xrt.runtime.bundle.known_answers import KnownAnswers
from xrt.runtime.bundle.manifest import (
    PRECISIONS,
    ContentCheck,
    GraphSpec,
    InputStatistics,
    IntendedUse,
    KnownAnswersSpec,
    Manifest,
    Precision,
    Preprocessing,
    Provenance,
    Reaction,
    Variant,
)
from xrt.runtime.bundle.writer import check_destination, write_bundle
from xrt.runtime.certification.certify import (
    BuiltVariant,
    Certification,
    Publication,
    against_reference,
    certify_variant,
)
from xrt.runtime.certification.comparison import ReferenceOutputs
from xrt.runtime.certification.drift import PipelineComparison
from xrt.runtime.certification.inputs import (
    KNOWN_ANSWERS_COUNT,
    PHANTOM_SEED,
    ValidationInputs,
    images_needed,
    phantom_inputs,
    read_inputs,
)
from xrt.runtime.certification.original import read_original
from xrt.runtime.certification.report import write_gate_report
from xrt.runtime.certification.stress import StressInputs
from xrt.runtime.errors import RefusedByGate, UsageError
from xrt.runtime.outputs import ModelOutputs
from xrt.runtime.preprocessing import input_statistics
from xrt.runtime.progress import SILENT, Progress

KNOWN_ANSWERS_FILE = "known-answers.npz"


@dataclass(frozen=True)
class ExportOptions:
    """What a bundle will contain, and how it is certified.

    `precisions` are its variants, fp32 always among them; int8 needs `calibrate`, a folder or data set of
    radiographs. `certify` names one for the gate instead of phantoms, with labels if it has them; `accept_labels` the
    classes whose labels are accepted although the model ranks them worse than chance, or they were matched by place.
    `require_radiographs` refuses to certify on phantoms. `verify_inputs` is an archive or folder of what the original
    pipeline made, `images` where its radiographs are. `content_checks` says what checks of a picture do in screening.
    `report` is a folder for the gate's report. With `force`,
    variants that the gate refuses are published, with the refusal on record.
    """

    request: Request = field(default=DEFAULT_REQUEST)
    precisions: tuple[Precision, ...] = ("fp32",)
    calibrate: Path | None = None
    certify: Path | None = None
    accept_labels: tuple[str, ...] = ()
    require_radiographs: bool = False
    verify_inputs: Path | None = None
    images: Path | None = None
    content_checks: Mapping[ContentCheck, Reaction] = field(default_factory=dict)
    report: Path | None = None
    force: bool = False


DEFAULT_OPTIONS = ExportOptions()


def publish_source(
    source: Source, out: Path, options: ExportOptions = DEFAULT_OPTIONS, *, progress: Progress = SILENT
) -> Publication:
    """Make the bundle `out` from a source; variants that the gate refuses are left out, and listed in the result.

    Raises UsageError when `out` exists or the options contradict each other, ModelError when the model cannot be
    exported, and RefusedByGate, with nothing written, when fp32 misses a limit on every back end and is not forced. A
    forced certificate keeps its verdict and the runtime warns.
    """
    check_destination(out)
    if options.report is not None:
        require_writable(options.report, options.report)
    candidate = _candidate(source, out, options, progress)
    # The model's graphs, circles of nodes and values, are needed no more.
    gc.collect()
    manifest, reference = candidate.manifest, candidate.reference
    certification = Certification.of(
        certify_variant(
            built,
            reference.inputs,
            candidate.known_answers,
            manifest,
            against_reference(built, reference, manifest),
            stress=candidate.stress,
            force=options.force,
            progress=progress,
        )
        for built in candidate.variants
    )
    if options.report is not None:
        progress.note(f"report of the gate: {write_gate_report(options.report, manifest, reference, certification)}")
    if refusals := [c.refusal for c in certification.refused if c.built is candidate.variants[0]]:
        raise RefusedByGate(
            f"nothing is published, the gate refuses {refusals[0]}; --force publishes it with this verdict on record"
        )
    certificate = certification.accepted[0].certificates[0]
    for output in certificate.unproved:
        progress.note(f"nothing is proved of the {output}")
    if certificate.passed and certificate.evidence.synthetic:
        progress.note(
            "passed on synthetic phantoms only, which are not radiographs: every report says so; name a folder of "
            "radiographs with --certify"
        )
    files = {**certification.files, KNOWN_ANSWERS_FILE: candidate.known_answers_file}
    return Publication(write_bundle(out, certification.entered_in(manifest), files), certification)


@dataclass(frozen=True)
class _Candidate:
    """A bundle before the gate: its files, and what they are compared with."""

    manifest: Manifest
    variants: tuple[BuiltVariant, ...]
    known_answers: KnownAnswers
    known_answers_file: bytes
    reference: ReferenceOutputs
    stress: StressInputs


def _candidate(source: Source, out: Path, options: ExportOptions, progress: Progress) -> _Candidate:
    """Compile the source, ask its reference, and build the variants."""
    pipeline = _original_pipeline(source, options, progress)
    variant_request, inputs = _images(source, options, progress)
    if source.input_statistics is None:
        source = replace(source, input_statistics=_statistics(variant_request.calibration, inputs))
    progress.step("tracing the model and compiling its gradients")
    model = compile_source(source, options.request)
    for note in model.notes:
        progress.note(note)
    source = replace(source, notes=(*source.notes, *model.notes))
    if source.task == "binary":
        source = replace(source, explained_class=int(model.reference.explained.signs[0] > 0))
    progress.step(f"computing {len(inputs.images)} images ({inputs.source}) with the reference")
    outputs = model.reference.outputs(inputs.images, progress=progress)
    known_answers = _known_answers(model.reference, inputs, outputs, source.preprocessing, progress)
    known_answers_file = known_answers.to_bytes()
    require_independent_images(model.reference, inputs.images, outputs)
    stress = finite_stress_inputs(model.reference, (source.preprocessing.height, source.preprocessing.width), progress)
    variants = tuple(build_variants(model.data, model.graph, variant_request, progress=progress))
    manifest = _manifest(source, out, model.graph, tuple(built.variant for built in variants), known_answers_file)
    manifest = manifest.model_copy(update={"content_checks": dict(options.content_checks)})
    drift = pipeline and pipeline.whole(lambda images: model.reference.outputs(images).logits, manifest)
    if drift is not None and not drift.reasons:
        progress.note(
            f"inputs and decisions are those of the original pipeline ({drift.source}, {drift.images} images)"
        )
        manifest = manifest.model_copy(update={"assumed": {}})
    reference = ReferenceOutputs(inputs, outputs, model.reference.name, options.accept_labels, drift)
    return _Candidate(manifest, variants, known_answers, known_answers_file, reference, stress)


def _original_pipeline(source: Source, options: ExportOptions, progress: Progress) -> PipelineComparison | None:
    """The inputs of the original pipeline beside the bundle's, where they are given or the model can make them.

    Raises RefusedByGate when they differ and it is not forced: no graph can mend that.
    """
    if options.verify_inputs is not None:
        original = read_original(options.verify_inputs, options.images)
    elif options.images is not None:
        raise UsageError("--images is where the radiographs of --verify-inputs are: give that, or leave it out")
    elif (own := source.original()) is not None:
        original = own
    else:
        return None
    progress.step(f"preparing {len(original.files)} images as the original pipeline did ({original.name})")
    normalisation = source.normalisation.mean, source.normalisation.std
    pipeline = PipelineComparison.of(original, source.preprocessing, normalisation)
    if (reasons := pipeline.inputs.reasons) and not options.force:
        raise RefusedByGate(
            f"nothing is published, the gate refuses {'; '.join(reasons)}; --force publishes it with this on record"
        )
    return pipeline


def _images(source: Source, options: ExportOptions, progress: Progress) -> tuple[VariantRequest, ValidationInputs]:
    """The variants to build, with the images to calibrate on, and the images that certify."""
    precisions: list[Precision] = [p for p in PRECISIONS if p == "fp32" or p in options.precisions]
    spec, calibration = source.preprocessing, None
    if "int8" in precisions:
        if options.calibrate is None:
            raise UsageError(f"int8 is calibrated on radiographs: give {MIN_IMAGES} or more with --calibrate")
        calibration = calibration_images(options.calibrate, source, progress)
    elif options.calibrate is not None:
        raise UsageError("--calibrate is for int8: ask for it with --precision fp32,int8")
    if options.certify is None and options.require_radiographs:
        raise UsageError("radiographs are required to certify: name a folder or data set of them with --certify")
    if options.certify is None:
        count = images_needed(1 if source.task == "multiclass" else source.logits)
        inputs = phantom_inputs(count, PHANTOM_SEED, spec)
    else:
        inputs = read_inputs(options.certify, spec, source, "test", progress=progress)
    if calibration is not None:
        inputs = inputs.without(calibration, progress=progress)
    return VariantRequest(precisions, calibration, inputs), inputs


def _known_answers(
    reference: Reference,
    inputs: ValidationInputs,
    outputs: ModelOutputs,
    spec: Preprocessing,
    progress: Progress,
) -> KnownAnswers:
    """Phantoms with the reference's outputs; the first of those that certify, where phantoms do."""
    if inputs.synthetic and len(inputs.images) >= KNOWN_ANSWERS_COUNT:
        images, answers = inputs.images[:KNOWN_ANSWERS_COUNT], outputs.first(KNOWN_ANSWERS_COUNT)
    else:
        progress.step("computing the known answers with the reference")
        images = phantom_inputs(KNOWN_ANSWERS_COUNT, PHANTOM_SEED, spec).images
        answers = reference.outputs(images, progress=progress)
    return KnownAnswers(images, answers.logits, answers.cams)


def _statistics(calibration: ValidationInputs | None, inputs: ValidationInputs) -> InputStatistics | None:
    """Those of the radiographs that were given for calibrating or certifying; None where only phantoms were used."""
    radiographs = calibration or (inputs if not inputs.synthetic else None)
    if radiographs is None:
        return None
    pixels = radiographs.images.astype(np.float64)
    return input_statistics(pixels.mean(axis=(1, 2, 3)), pixels.std(axis=(1, 2, 3)))


def _manifest(
    source: Source, out: Path, graph: GraphSpec, variants: tuple[Variant, ...], known_answers_file: bytes
) -> Manifest:
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
            file=KNOWN_ANSWERS_FILE, sha256=sha256_of(known_answers_file), count=KNOWN_ANSWERS_COUNT, source="synthetic"
        ),
        provenance=Provenance(
            source=on_one_line(source.origin),
            weights=on_one_line(source.weights) if source.weights else None,
            output=source.output,
            notes=tuple(map(on_one_line, source.notes)),
            checkpoint_sha256=source.sha256,
            dataset=source.dataset,
            recipe=source.recipe,
            normalisation={"mean": source.normalisation.mean, "std": source.normalisation.std},
            versions={**source.versions, **{name: version(name) for name in packages}},
            created=utc_now(),
        ),
        intended_use=IntendedUse(population=source.population),
        assumed=source.assumed,
    )
