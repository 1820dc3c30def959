"""What vouches for a variant: the bundle's certificates, and those that this machine made for itself.

A certificate holds for one file, back end and version, execution precision, device class, and for the decision rules
that the bundle had when it was measured. A file that no certificate of the bundle speaks of is not run at all; on
machines other than the one that exported it, the known answers vouch, and what they said is kept.
"""

from __future__ import annotations

import hashlib

from pydantic import ValidationError

from xrt.runtime.backends.base import Backend
from xrt.runtime.bundle.manifest import Certificate, Manifest, Variant
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.cache import cache_folder
from xrt.runtime.errors import Uncertified
from xrt.runtime.files import write_durably
from xrt.runtime.gate.certify import execution_precision


def require_certified(manifest: Manifest, variant: Variant) -> tuple[Certificate, ...]:
    """The certificates of a variant's file.

    Raises Uncertified when there is none, when the decision rules are no longer those it was certified under, or when
    it passed nowhere and was not published by force.
    """
    found = tuple(c for c in manifest.certificates if c.file_sha256 == variant.sha256)
    if not found:
        raise Uncertified(f"no certificate in bundle.json is for {variant.file}: export the bundle anew")
    unrecorded = (None,) if manifest.schema_version == 1 else ()
    if any(c.decisions_sha256 not in (manifest.decisions_sha256, *unrecorded) for c in found):
        raise Uncertified(
            f"bundle.json was changed after {variant.file} was certified (its classes, thresholds, temperatures, "
            "preprocessing or outputs): new ones make a new bundle; copy this one again, or export it anew"
        )
    if not any(c.verdict == "passed" or c.forced for c in found):
        raise Uncertified(f"{variant.file} failed its certification ({_why(found[0])}): use another precision")
    return found


def matching(certificates: tuple[Certificate, ...], variant: Variant, backend: Backend) -> Certificate | None:
    """The certificate of this very file under this very execution, if there is one.

    Raises Uncertified when it is one of failure and was not overruled.
    """
    for c in certificates:
        if _executed(c) == _execution(variant, backend):
            if c.verdict != "passed" and not c.forced:
                raise Uncertified(
                    f"{variant.file} failed its certification on {backend.name} ({_why(c)}): use another back end "
                    "or precision"
                )
            return c
    return None


def of_this_machine(bundle: Bundle, variant: Variant, backend: Backend) -> Certificate | None:
    """The certificate that this machine made of the variant before, if it is kept."""
    try:
        kept = Certificate.model_validate_json(_place(bundle, variant, backend).read_bytes())
    except (OSError, ValidationError):
        return None
    speaks = (*_executed(kept), kept.decisions_sha256)
    wanted = (*_execution(variant, backend), bundle.manifest.decisions_sha256)
    return kept if kept.verdict == "passed" and speaks == wanted else None


def keep(certificate: Certificate, bundle: Bundle, variant: Variant, backend: Backend) -> None:
    """Keep a certificate that this machine made. Where the cache cannot be written it is made again next time."""
    try:
        write_durably(_place(bundle, variant, backend), certificate.model_dump_json(indent=2).encode())
    except OSError:
        return


def _executed(c: Certificate) -> tuple[str, ...]:
    return c.file_sha256, c.backend, c.backend_version, c.execution_precision, c.device_class


def _why(certificate: Certificate) -> str:
    return "; ".join(certificate.reasons) or f"{certificate.verdict}, without a reason"


def _execution(variant: Variant, backend: Backend) -> tuple[str, ...]:
    precision = execution_precision(backend, variant)
    return variant.sha256, backend.name, backend.version(), precision, backend.device_class()


def _place(bundle: Bundle, variant: Variant, backend: Backend):
    key = hashlib.sha256("\0".join([bundle.sha256, *_execution(variant, backend)]).encode()).hexdigest()
    return cache_folder("certificates") / f"{key}.json"
