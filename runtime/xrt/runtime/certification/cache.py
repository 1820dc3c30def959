"""Which certificate covers a session: the bundle's, or one that this machine made and keeps in its cache.

A certificate holds for one file, back end and version, execution precision, device class, and for the decision rules
that the bundle had when it was measured. A file without a certificate in the bundle is not run at all. On machines
other than the one that exported it, the known answers are checked, and the certificate that they give is kept.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from xrt.runtime._io import sha256_of
from xrt.runtime.backends import Execution
from xrt.runtime.bundle.certificate import Certificate
from xrt.runtime.bundle.manifest import Manifest, Variant
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.cache import cache_folder, read_private, write_private
from xrt.runtime.errors import Uncertified


def require_certified(manifest: Manifest, variant: Variant) -> tuple[Certificate, ...]:
    """The certificates of a variant's file.

    Raises Uncertified when there is none, when the decision rules are no longer those it was certified under, or when
    it passed nowhere and was not published by force.
    """
    certificates = tuple(c for c in manifest.certificates if c.file_sha256 == variant.sha256)
    if not certificates:
        raise Uncertified(f"no certificate in bundle.json is for {variant.file}: export the bundle again")
    unrecorded = (None,) if manifest.schema_version == 1 else ()
    if any(c.decisions_sha256 not in (manifest.decisions_sha256, *unrecorded) for c in certificates):
        raise Uncertified(
            f"bundle.json was changed after {variant.file} was certified (its classes, thresholds, temperatures, "
            "preprocessing or outputs): new ones make a new bundle; copy this one again, or export it again"
        )
    if not any(c.usable for c in certificates):
        raise Uncertified(
            f"{variant.file} failed its certification ({_reasons(certificates[0])}): use another precision"
        )
    return certificates


def certificate_for(certificates: tuple[Certificate, ...], execution: Execution) -> Certificate | None:
    """The certificate of this very execution, if there is one.

    Raises Uncertified when it is one of failure and was not overruled.
    """
    for c in certificates:
        if _execution_key(c) == execution.key:
            if not c.usable:
                raise Uncertified(
                    f"{execution.variant.file} failed its certification on {execution.backend.name} ({_reasons(c)}): "
                    "use another back end or precision"
                )
            return c
    return None


def cached_certificate(bundle: Bundle, execution: Execution) -> Certificate | None:
    """The certificate that this machine made of the execution before, if it is kept."""
    content = read_private(_place(bundle, execution))
    try:
        certificate = None if content is None else Certificate.model_validate_json(content)
    except ValidationError:
        return None
    if certificate is None:
        return None
    certificate_key = (*_execution_key(certificate), certificate.decisions_sha256)
    execution_key = (*execution.key, bundle.manifest.decisions_sha256)
    return certificate if certificate.passed and certificate_key == execution_key else None


def cache_certificate(certificate: Certificate, bundle: Bundle, execution: Execution) -> None:
    """Keep a certificate that this machine made. Where the cache cannot be written it is made again next time."""
    write_private(_place(bundle, execution), certificate.model_dump_json(indent=2).encode())


def _execution_key(c: Certificate) -> tuple[str, ...]:
    return c.file_sha256, c.backend, c.backend_version, c.execution_precision, c.device_class


def _reasons(certificate: Certificate) -> str:
    return "; ".join(certificate.reasons) or f"{certificate.verdict}, without a reason"


def _place(bundle: Bundle, execution: Execution) -> Path:
    return cache_folder("certificates") / f"{sha256_of(chr(0).join([bundle.sha256, *execution.key]))}.json"


def has_replayed(bundle: Bundle, execution: Execution, options: str) -> bool:
    """Whether this machine has replayed all known answers with this execution, under the same session options."""
    return read_private(_replay_place(bundle, execution, options)) is not None


def note_replay(bundle: Bundle, execution: Execution, options: str) -> None:
    """Keep that all known answers were replayed."""
    write_private(_replay_place(bundle, execution, options), b"all known answers")


def _replay_place(bundle: Bundle, execution: Execution, options: str) -> Path:
    known = bundle.manifest.known_answers.sha256
    return cache_folder("replays") / sha256_of("\0".join((bundle.sha256, known, options, *execution.key)))
