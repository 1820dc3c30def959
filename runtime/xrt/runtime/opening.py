"""Opening a session: look for certificates, verify the file, compile it, replay the known answers."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from xrt.runtime.backends import Backend, Session, SessionOptions, choose_backend
from xrt.runtime.bundle.manifest import Certificate, ExecutionPrecision, Variant
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.gate.certify import execution_precision, replay, replayed
from xrt.runtime.gate.standing import keep, matching, of_this_machine, require_certified

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenedSession:
    """A session that has just reproduced the known answers, and what vouches for it.

    `certificate` is for this very file, back end and device class: the bundle's own, or, with `of_this_machine`, one
    that the known answers gave here. `refusals` are the reasons of every certificate of this file that did not pass,
    on whichever machine.
    """

    session: Session
    variant: Variant
    backend: Backend
    certificate: Certificate
    of_this_machine: bool
    refusals: tuple[str, ...] = ()

    @property
    def execution_precision(self) -> ExecutionPrecision:
        """The precision in which the graph is executed."""
        return execution_precision(self.backend, self.variant)

    @property
    def warning(self) -> str | None:
        """What every report must repeat about this session's proof, if anything."""
        if self.certificate.verdict == "passed" and not self.of_this_machine:
            return None
        if self.refusals:
            return f"this variant was published against its certificate: {'; '.join(self.refusals)}"
        return None


def open_session(
    bundle: Bundle,
    *,
    backend: str | Backend = "auto",
    precision: str = "auto",
    options: SessionOptions | None = None,
) -> OpenedSession:
    """Open a variant of the bundle on a back end.

    Raises CorruptBundle, Uncertified, BackendError, UsageError or KnownAnswersFailed; then nothing may be scored.
    """
    chosen = choose_backend(backend) if isinstance(backend, str) else backend
    variant = bundle.variant(precision, chosen.family)
    manifest = bundle.manifest
    certificates = require_certified(manifest, variant)
    certificate = matching(certificates, variant, chosen)
    model, known = bundle.read(variant), bundle.known_answers()
    session = chosen.open(model, manifest.graph, manifest.preprocessing, options or SessionOptions())
    # What passed nowhere and was published by force misses its limits here as well, which every report says.
    check = replay if any(c.verdict == "passed" for c in certificates) else replayed
    try:
        found = check(session, known, manifest, variant, chosen)
    except BaseException:
        session.close()
        raise
    made_here = certificate is None
    if certificate is None and (certificate := of_this_machine(bundle, variant, chosen)) is None:
        keep(found, bundle, variant, chosen)
        certificate = found
    refusals = tuple(reason for c in certificates if c.verdict != "passed" for reason in c.reasons)
    opened = OpenedSession(session, variant, chosen, certificate, made_here, refusals)
    if opened.warning:
        log.warning("%s: %s", bundle.path.name, opened.warning)
    return opened
