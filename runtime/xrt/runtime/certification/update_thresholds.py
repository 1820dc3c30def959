"""New thresholds or temperatures make a new bundle, through the gate, without PyTorch.

Files and known answers stay what they are, but certificates hold for the decision rules that they were measured under,
so every variant is measured again under the new ones. What can be the reference without the model?

- For fp32 the known answers, which the original reference gave: this machine must reproduce them under the new rules.
  They are too few decisions for a verdict. But logits do not depend on the rules, and how far the file's are from the
  reference's was certified. So every validation image whose logit lies farther than that from the new threshold is
  decided as the reference decides it, and one that lies nearer counts as a flip, which fp32 may not have.
- For the other variants the fp32 file, itself just proved, on the validation images: measured as at export. They
  must reproduce the known answers as well, or no session would open.

It fails closed. Under 300 decisions, and if fp32 is refused, nothing is written; what was published by force has no
proof to build on; other variants that miss a limit are left out, and the publication says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from xrt.runtime._io import utc_now
from xrt.runtime.backends import Execution
from xrt.runtime.bundle.certificate import Certificate
from xrt.runtime.bundle.manifest import SCHEMA_VERSION, ClassSpec, Manifest, Variant
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.bundle.writer import check_destination, write_bundle
from xrt.runtime.certification.cache import require_certified
from xrt.runtime.certification.certify import (
    BuiltVariant,
    Certification,
    CertifiedVariant,
    Publication,
    against_reference,
    certify_variant,
)
from xrt.runtime.certification.comparison import ReferenceOutputs
from xrt.runtime.certification.inputs import ValidationInputs
from xrt.runtime.certification.transfer import transfer_certificate
from xrt.runtime.errors import BundleError, RefusedByGate, UsageError
from xrt.runtime.outputs import ModelOutputs
from xrt.runtime.progress import SILENT, Progress


def update_thresholds(
    bundle: Bundle,
    out: Path,
    *,
    thresholds: Mapping[str, float | None],
    temperatures: Mapping[str, float],
    inputs: ValidationInputs,
    note: str,
    progress: Progress = SILENT,
) -> Publication:
    """Write the bundle `out`: that of `bundle` with new decision rules and new certificates.

    `thresholds` and `temperatures` are by class name; classes left out keep theirs. `inputs` give at least 300
    decisions; `note` says how the rules were made and goes into the provenance. Variants other than fp32 that miss a
    limit are left out: the publication names them.

    Raises UsageError when `out` exists or the rules do not fit, BundleError when `bundle` cannot be used, BackendError
    when no back end can run here, and RefusedByGate when fp32 is refused and nothing was written.
    """
    check_destination(out)
    manifest = _updated_manifest(bundle, out.stem, thresholds, temperatures, note)
    if manifest.decisions_sha256 == bundle.manifest.decisions_sha256:
        raise UsageError(f"{bundle.path} decides by these very rules already: no new bundle is needed")
    plain = next((v for v in manifest.variants if v.precision == "fp32"), None)
    if plain is None:
        raise BundleError(f"{bundle.path} has no fp32 file, against which the others are compared: export it again")
    certified = [_certify_plain(bundle, plain, manifest, inputs, progress)]
    if not certified[0].accepted:
        raise RefusedByGate(f"nothing is written, the gate refuses {certified[0].refusal}")
    reference = _reference(certified[0], inputs)
    for variant in manifest.variants:
        if variant is not plain:
            certified.append(_certify_other(bundle, variant, manifest, reference, progress))
    certification = Certification.of(certified)
    known = manifest.known_answers
    files = {**certification.files, known.file: bundle.read(known)}
    return Publication(write_bundle(out, certification.entered_in(manifest), files), certification)


def updated_classes(
    manifest: Manifest, thresholds: Mapping[str, float | None], temperatures: Mapping[str, float]
) -> tuple[ClassSpec, ...]:
    """The classes of a manifest with new rules for those that are named.

    Raises UsageError for a class that has no logit, and for a threshold of a multiclass model, which has none.
    """
    known = [c.name for c in manifest.logit_classes]
    if unknown := sorted({*thresholds, *temperatures} - set(known)):
        raise UsageError(f"{manifest.name} has no logit for {', '.join(unknown)}: it has {', '.join(known)}")
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


def _updated_manifest(
    bundle: Bundle, name: str, thresholds: Mapping[str, float | None], temperatures: Mapping[str, float], note: str
) -> Manifest:
    old = bundle.manifest
    origin = f"made from the bundle {old.name} (SHA-256 {bundle.sha256}) with new decision rules: {note}"
    changes = {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "classes": updated_classes(old, thresholds, temperatures),
        "certificates": (),
        "provenance": old.provenance.model_copy(
            update={
                "notes": (*old.provenance.notes, origin),
                "created": utc_now(),
            }
        ),
    }
    try:
        # Through validation: a plain copy would take rules that no manifest may have.
        return Manifest.model_validate(old.model_copy(update=changes).model_dump())
    except ValueError as error:
        raise UsageError(f"{bundle.path} cannot take these rules: {str(error).splitlines()[-2].strip()}") from error


def _certify_plain(
    bundle: Bundle, variant: Variant, manifest: Manifest, inputs: ValidationInputs, progress: Progress
) -> CertifiedVariant:
    """The fp32 file on every back end, by the known answers and the logit error that was certified before."""
    earlier = _passed_certificates(bundle, variant)

    def certificate(_: Execution, outputs: ModelOutputs, checked: Certificate) -> Certificate:
        return transfer_certificate(checked, outputs.logits, earlier, manifest, inputs)

    built = BuiltVariant(variant, bundle.read(variant))
    return certify_variant(built, inputs, bundle.known_answers(), manifest, certificate, progress=progress)


def _certify_other(
    bundle: Bundle, variant: Variant, manifest: Manifest, reference: ReferenceOutputs, progress: Progress
) -> CertifiedVariant:
    """A faster variant against the fp32 file's outputs, on every back end."""
    # The range scan reads the graph, not the rules: what it measured of this file at export holds.
    peaks = [p for c in _passed_certificates(bundle, variant) if isinstance(p := c.figures.get("peak"), float)]
    built = BuiltVariant(variant, bundle.read(variant), max(peaks, default=None))
    certificate = against_reference(built, reference, manifest)
    return certify_variant(built, reference.inputs, bundle.known_answers(), manifest, certificate, progress=progress)


def _reference(plain: CertifiedVariant, inputs: ValidationInputs) -> ReferenceOutputs:
    """What the fp32 file gave on the first back end on which it passed."""
    result = next(r for r in plain.results if r.certificate.passed)
    c = result.certificate
    return ReferenceOutputs(inputs, result.outputs, f"{result.variant.file} on {c.backend} {c.backend_version}, fp32")


def _passed_certificates(bundle: Bundle, variant: Variant) -> tuple[Certificate, ...]:
    """The certificates that a file has passed with. Raises RefusedByGate when there is none."""
    certificates = tuple(c for c in require_certified(bundle.manifest, variant) if c.passed)
    if not certificates:
        raise RefusedByGate(
            f"{variant.file} passed the gate nowhere and was published by force: there is no proof to build on, export "
            "the model again"
        )
    return certificates
