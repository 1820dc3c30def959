"""Opening a session: verify the file, look for its certificate, compile it, replay the known answers."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from xrt.runtime.backends import Backend, Session, SessionOptions, choose_backend
from xrt.runtime.bundle.manifest import Certificate, ExecutionPrecision, Variant
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.gate.certify import replay
from xrt.runtime.gate.figures import Figures

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenedSession:
    """A session that has just reproduced the known answers, and what vouches for it.

    `certificate` is the bundle's own for this back end and device class; None means that the known answers alone
    vouch for this machine. `refusals` are the reasons of every certificate of this file that did not pass, on whichever
    machine.
    """

    session: Session
    variant: Variant
    backend: Backend
    certificate: Certificate | None
    replayed: Figures
    refusals: tuple[str, ...] = ()

    @property
    def execution_precision(self) -> ExecutionPrecision:
        """The precision in which the graph is executed."""
        return self.backend.execution_precision if self.variant.precision == "fp32" else self.variant.precision

    @property
    def warning(self) -> str | None:
        """What every report must repeat about this session's proof, if anything."""
        if self.certificate is not None and self.certificate.verdict == "passed":
            return None
        if self.refusals:
            return f"this variant was published against its certificate: {'; '.join(self.refusals)}"
        return None


def open_session(
    bundle: Bundle,
    *,
    backend: str = "auto",
    precision: str = "auto",
    options: SessionOptions | None = None,
) -> OpenedSession:
    """Open a variant of the bundle on a back end.

    Raises CorruptBundle, BackendError, UsageError or KnownAnswersFailed; then nothing may be scored.
    """
    variant = bundle.variant(precision)
    chosen = choose_backend(backend)
    model, known = bundle.read(variant), bundle.known_answers()
    manifest = bundle.manifest
    session = chosen.open(model, manifest.graph, manifest.preprocessing, options or SessionOptions())
    try:
        figures = replay(session, known, manifest, variant)
    except BaseException:
        session.close()
        raise
    of_file = [c for c in manifest.certificates if c.file_sha256 == variant.sha256]
    refusals = tuple(reason for c in of_file if c.verdict != "passed" for reason in c.reasons)
    opened = OpenedSession(session, variant, chosen, _certificate(bundle, variant, chosen), figures, refusals)
    if opened.warning:
        log.warning("%s: %s", bundle.path.name, opened.warning)
    return opened


def _certificate(bundle: Bundle, variant: Variant, backend: Backend) -> Certificate | None:
    wanted = (variant.sha256, backend.name, backend.version(), backend.device_class())
    for certificate in bundle.manifest.certificates:
        found = (
            certificate.file_sha256,
            certificate.backend,
            certificate.backend_version,
            certificate.device_class,
        )
        if found == wanted:
            return certificate
    return None
