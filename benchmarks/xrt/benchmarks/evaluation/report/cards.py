"""The data-set card and the model card of a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from xrt.benchmarks.evaluation.measure.predictions import Predictions
from xrt.benchmarks.report import Section, Table
from xrt.runtime.bundle.manifest import ClassSpec, IntendedUse, Manifest, Preprocessing
from xrt.runtime.datasets import Case, CaseTable
from xrt.runtime.scoring import Unscored

_SHOWN = 5  # missing images that the card names
_RECORDED = {
    "view": lambda case: case.view,
    "sex": lambda case: case.sex,
}


def data_set_card(
    table: CaseTable, part: str, validation: CaseTable | None = None, unscored: Sequence[Unscored] = ()
) -> Section:
    """What the cases are: counts, prevalence, and who is among them."""
    cases = table.cases
    ages = sorted(case.age for case in cases if case.age is not None)
    patients = len({case.patient for case in cases})
    facts = [
        ("Data set", table.name),
        ("Part", part),
        ("Images", f"{len(cases)}"),
        ("Patients", f"{patients}" + (" (every image counts as its own)" if patients == len(cases) else "")),
        ("Images with a box", f"{sum(bool(case.boxes) for case in cases)}"),
        ("Rows without an image file, left out", _count_and_names(table.missing)),
        ("Images of no class, left out", f"{table.left_out}"),
        ("Images that could not be scored, left out", _count_and_names([f"{u.key} ({u.reason})" for u in unscored])),
        *((by.capitalize(), _counts([value(case) for case in cases])) for by, value in _RECORDED.items()),
        ("Age in years", f"median {ages[len(ages) // 2]}, {ages[0]} to {ages[-1]}" if ages else "not recorded"),
        ("Validation cases", "none" if validation is None else f"{validation.name}, {len(validation)} images"),
    ]
    return Section(
        title="Data-set card",
        text=table.notes,
        tables=(
            Table("", ("fact", "value"), tuple(facts)),
            Table("Prevalence", ("class", "images", "prevalence"), _prevalence(table.classes, cases)),
            *((_co_occurrence(table),) if table.task == "multilabel" else ()),
        ),
    )


def _co_occurrence(table: CaseTable) -> Table:
    rows = tuple((name, *map(int, counts)) for name, counts in zip(table.classes, table.co_occurrence(), strict=True))
    return Table(
        "Co-occurrence", ("images with", *table.classes), rows, note="On the diagonal, all images of the class."
    )


def model_card(predictions: Predictions) -> Section:
    """What the model is, its certificates, and its limits."""
    model = predictions.model
    if model.opened is None:
        return Section(
            title="Model card",
            text=(
                f"The predictions were {model.executed}. Which model made them, and its certificates, are not known.",
                IntendedUse().notice,
            ),
        )
    opened, manifest = model.opened, model.opened.manifest
    provenance, certificate = manifest.provenance, opened.certificate
    origin = "made on this machine by the known answers" if opened.from_this_machine else "from the bundle"
    facts = [
        ("Bundle", f"{manifest.name}, SHA-256 of bundle.json {opened.bundle.sha256}, {opened.bundle.signature}"),
        ("Task", manifest.task),
        ("Executed", model.executed),
        ("Input", _input(manifest.preprocessing)),
        ("Heatmaps", "; ".join(f"{c.method} at {c.layer}, {c.width} × {c.height}" for c in manifest.graph.cams)),
        ("Source", provenance.source),
        ("Weights", provenance.weights or "not stated"),
        ("Checkpoint's SHA-256", provenance.checkpoint_sha256 or "not stated"),
        ("Trained on", provenance.dataset or "not stated"),
        ("Recipe", provenance.recipe or "not stated"),
        ("Made", f"{provenance.created}, with {', '.join(f'{k} {v}' for k, v in provenance.versions.items())}"),
        *(("Note", note) for note in provenance.notes),
        ("Certificate of this execution", f"{certificate.verdict}, {origin}"),
        ("Not measured by it", "; ".join(certificate.unmeasured) or "nothing that the gate knows"),
        ("Population", manifest.intended_use.population or "not stated"),
        ("Notice", manifest.intended_use.notice),
    ]
    return Section(
        title="Model card",
        text=(f"Warning: {opened.warning}",) if opened.warning else (),
        tables=(
            Table("", ("fact", "value"), tuple(facts)),
            Table(
                "Classes and decision rules of the bundle",
                ("class", "threshold", "temperature", "urgency"),
                tuple(_class_row(c, manifest) for c in manifest.logit_classes),
                note="A class is a finding when its calibrated probability is at or above the threshold."
                if manifest.task != "multiclass"
                else "A multiclass model decides by its highest class.",
            ),
            _certificates(manifest),
        ),
    )


def _certificates(manifest: Manifest) -> Table:
    file_of = {variant.sha256: variant.file for variant in manifest.variants}
    return Table(
        "Certificates in the bundle",
        ("file", "back end", "executed in", "device class", "verdict", "decisions", "evidence", "reference"),
        tuple(
            (
                file_of.get(c.file_sha256, "not in this bundle"),
                f"{c.backend} {c.backend_version}",
                c.execution_precision,
                c.device_class,
                c.verdict + (" (published by force)" if c.forced else ""),
                c.evidence.decisions,
                f"{c.evidence.source}, {c.evidence.images} images",
                c.evidence.reference,
            )
            for c in manifest.certificates
        ),
        note="Each says that a file, run by this back end on such a device, gives the same results as the reference.",
    )


def _class_row(spec: ClassSpec, manifest: Manifest) -> tuple[str | float | None, ...]:
    threshold = "highest class" if manifest.task == "multiclass" else spec.threshold
    return spec.name, "none, never a finding" if threshold is None else threshold, spec.temperature, spec.urgency


def _input(spec: Preprocessing) -> str:
    steps = [f"{spec.width} × {spec.height} pixels, {spec.fit}, {spec.interpolation}"]
    if spec.equalisation != "none":
        steps.append(f"{spec.equalisation} equalisation")
    if spec.border_crop:
        steps.append(f"{100 * spec.border_crop:g} % of each side cut away")
    return ", ".join(steps)


def _prevalence(classes: Sequence[str], cases: Sequence[Case]) -> tuple[tuple[str, int, float], ...]:
    counts = [(name, sum(name in case.labels for case in cases)) for name in classes]
    return tuple((name, count, count / max(1, len(cases))) for name, count in counts)


def _count_and_names(missing: Sequence[str]) -> str:
    names = ", ".join(missing[:_SHOWN]) + (", …" if len(missing) > _SHOWN else "")
    return f"{len(missing)}: {names}" if missing else "0"


def _counts(values: Sequence[str | None]) -> str:
    if not any(values):
        return "not recorded"
    return ", ".join(f"{value or 'not recorded'} {count}" for value, count in Counter(values).most_common())
