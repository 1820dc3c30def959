"""New thresholds or temperatures make a new bundle, through the gate, without PyTorch.

Files and known answers stay what they are, but certificates hold for the decision rules that they were measured under,
so every variant is measured again under the new ones. What can be the reference without the model?

- For fp32 the known answers, which the original reference gave: this machine must reproduce them under the new rules.
  They are too few decisions for a verdict. But logits do not depend on the rules, and how far the file's are from the
  reference's was certified. So every image of the evidence whose logit lies farther than that from the new threshold is
  decided as the reference decides it, and one that lies nearer counts as a flip, which fp32 may not have.
- For the other variants the fp32 file, itself just proved, on the images of the evidence: measured as at export. They
  must reproduce the known answers as well, or no session would open.

It fails closed. Under 300 decisions, and if fp32 is refused, nothing is written; what was published by force has no
proof to build on; other variants that miss a limit are left out, and the error says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path

from xrt.runtime.backends import BACKENDS, Backend, Session, SessionOptions
from xrt.runtime.bundle.manifest import SCHEMA_VERSION, Certificate, ClassSpec, Manifest, Variant
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.bundle.writer import check_destination, write_bundle
from xrt.runtime.errors import BackendError, BundleError, PartlyRefused, RefusedByGate, UsageError
from xrt.runtime.gate.answers import Answers, answer
from xrt.runtime.gate.carrying import carried_over
from xrt.runtime.gate.certify import certificate_of, replayed, with_replay
from xrt.runtime.gate.evidence import EvidenceImages
from xrt.runtime.gate.standing import require_certified

Progress = Callable[[str], None]


def redecide(
    bundle: Bundle,
    out: Path,
    *,
    thresholds: Mapping[str, float | None],
    temperatures: Mapping[str, float],
    evidence: EvidenceImages,
    note: str,
    progress: Progress = lambda message: None,
) -> Bundle:
    """Write the bundle `out`: that of `bundle` with new decision rules and new certificates.

    `thresholds` and `temperatures` are by class name; classes left out keep theirs. `evidence` are preprocessed images
    that give at least 300 decisions; `note` says how the rules were made and goes into the provenance.

    Raises UsageError when `out` exists or the rules do not fit, BundleError when `bundle` cannot be used, BackendError
    when no back end can run here, RefusedByGate when fp32 is refused and nothing was written, and PartlyRefused when
    another variant is and the rest was written.
    """
    check_destination(out)
    manifest = _redecided(bundle, out.stem, thresholds, temperatures, note)
    if manifest.decisions_sha256 == bundle.manifest.decisions_sha256:
        raise UsageError(f"{bundle.path} decides by these very rules already: no new bundle is needed")
    plain = next((v for v in manifest.variants if v.precision == "fp32"), None)
    if plain is None:
        raise BundleError(f"{bundle.path} has no fp32 file, against which the others are measured: export it anew")
    certificates, expected, reference = _certify_plain(bundle, plain, manifest, evidence, progress)
    if expected is None:
        raise RefusedByGate(f"nothing is written, the gate refuses {_refusal(plain, certificates)}")
    published, refused = [plain], []
    for variant in manifest.variants:
        if variant is plain:
            continue
        found = _certify_other(bundle, variant, manifest, evidence, expected, reference, progress)
        if any(c.verdict == "passed" for c in found):
            published.append(variant)
            certificates += found
        else:
            refused.append(_refusal(variant, found))
    manifest = manifest.model_copy(update={"variants": tuple(published), "certificates": tuple(certificates)})
    parts = [*published, manifest.known_answers]
    written = write_bundle(out, manifest, {part.file: bundle.read(part) for part in parts})
    if refused:
        names = ", ".join(v.file for v in published)
        raise PartlyRefused(f"{out} is published with {names}; the gate refuses {' and '.join(refused)}", written)
    return written


def redecided_classes(
    manifest: Manifest, thresholds: Mapping[str, float | None], temperatures: Mapping[str, float]
) -> tuple[ClassSpec, ...]:
    """The classes of a manifest with new rules for those that are named.

    Raises UsageError for a class that has no logit, and for a threshold of a multiclass model, which has none.
    """
    known = [c.name for c in manifest.logit_classes]
    if strangers := sorted({*thresholds, *temperatures} - set(known)):
        raise UsageError(f"{manifest.name} has no logit for {', '.join(strangers)}: it has {', '.join(known)}")
    if thresholds and manifest.task == "multiclass":
        raise UsageError(f"{manifest.name} is multiclass and decides by its highest class: it takes no thresholds")
    return tuple(
        c.model_copy(
            update={
                "threshold": thresholds.get(c.name, c.threshold),
                "temperature": temperatures.get(c.name, c.temperature),
            }
        )
        for c in manifest.classes
    )


def _redecided(
    bundle: Bundle, name: str, thresholds: Mapping[str, float | None], temperatures: Mapping[str, float], note: str
) -> Manifest:
    old = bundle.manifest
    origin = f"made from the bundle {old.name} (SHA-256 {bundle.sha256}) with new decision rules: {note}"
    changes = {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "classes": redecided_classes(old, thresholds, temperatures),
        "certificates": (),
        "provenance": old.provenance.model_copy(
            update={
                "notes": (*old.provenance.notes, origin),
                "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            }
        ),
    }
    try:
        # Through validation: a plain copy would take rules that no manifest may have.
        return Manifest.model_validate(old.model_copy(update=changes).model_dump())
    except ValueError as error:
        raise UsageError(f"{bundle.path} cannot take these rules: {str(error).splitlines()[-2].strip()}") from error


def _certify_plain(
    bundle: Bundle, variant: Variant, manifest: Manifest, evidence: EvidenceImages, progress: Progress
) -> tuple[list[Certificate], Answers | None, str]:
    """Certificates of the fp32 file on every back end, what the first that passed answers, and its name."""
    before, known = _earlier(bundle, variant), bundle.known_answers()
    certificates: list[Certificate] = []
    expected, reference = None, ""
    for backend, session in _sessions(bundle, variant, progress):
        with session:
            found = answer(session, evidence.images)
            vouched = replayed(session, known, manifest, variant, backend)
        certificate = carried_over(vouched, found.logits, before, manifest, evidence)
        certificates.append(certificate)
        if certificate.verdict == "passed" and expected is None:
            expected, reference = found, f"{variant.file} on {backend.name} {backend.version()}, fp32"
    return certificates, expected, reference


def _certify_other(
    bundle: Bundle,
    variant: Variant,
    manifest: Manifest,
    evidence: EvidenceImages,
    expected: Answers,
    reference: str,
    progress: Progress,
) -> list[Certificate]:
    """Certificates of a faster variant against the fp32 file's answers, on every back end."""
    # The range scan reads the graph, not the rules: what it found for this file at export holds.
    peaks = [p for c in _earlier(bundle, variant) if isinstance(p := c.figures.get("peak"), float)]
    known, certificates = bundle.known_answers(), []
    for backend, session in _sessions(bundle, variant, progress):
        with session:
            found = answer(session, evidence.images)
            vouched = replayed(session, known, manifest, variant, backend)
        certificate = certificate_of(
            variant,
            backend,
            expected,
            found,
            manifest,
            evidence=evidence,
            reference_name=reference,
            peak=max(peaks) if peaks else None,
        )
        certificates.append(with_replay(certificate, vouched))
    return certificates


def _earlier(bundle: Bundle, variant: Variant) -> tuple[Certificate, ...]:
    """The certificates that a file has passed with. Raises RefusedByGate when there is none."""
    found = tuple(c for c in require_certified(bundle.manifest, variant) if c.verdict == "passed")
    if not found:
        raise RefusedByGate(
            f"{variant.file} passed the gate nowhere and was published by force: there is no proof to build on, export "
            "the model anew"
        )
    return found


def _sessions(bundle: Bundle, variant: Variant, progress: Progress) -> Iterator[tuple[Backend, Session]]:
    """The file opened on every CPU back end that takes it. Raises BackendError when none does."""
    running = [b for b in BACKENDS.values() if b.family == "cpu" and b.lacks() is None]
    if not running:
        raise BackendError("; ".join(f"{name}: {b.lacks()}" for name, b in BACKENDS.items() if b.family == "cpu"))
    data, manifest = bundle.read(variant), bundle.manifest
    refusals: list[BackendError] = []
    for backend in running:
        progress(f"certifying {variant.file} on {backend.name} under the new rules")
        try:
            session = backend.open(data, manifest.graph, manifest.preprocessing, SessionOptions())
        except BackendError as error:
            progress(f"note: {error}")
            refusals.append(error)
            continue
        yield backend, session
    if len(refusals) == len(running):
        raise refusals[0]


def _refusal(variant: Variant, certificates: list[Certificate]) -> str:
    found = [f"{c.backend}: {c.verdict}, {'; '.join(c.reasons)}" for c in certificates]
    return f"{variant.file} ({' | '.join(found)})"
