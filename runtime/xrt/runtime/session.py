"""Opening a session: find the certificates, verify the file, compile it, and check the known answers."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from xrt.runtime.backends import (
    DEFAULT_SESSION,
    Backend,
    Execution,
    Session,
    SessionOptions,
    available_backends,
    choose_backend,
)
from xrt.runtime.bundle.certificate import Certificate, ExecutionPrecision
from xrt.runtime.bundle.manifest import Manifest, Variant
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.certification.cache import (
    cache_certificate,
    cached_certificate,
    certificate_for,
    has_replayed,
    note_replay,
    require_certified,
)
from xrt.runtime.certification.known_answers import certify_known_answers, repeats_one, verify_known_answers
from xrt.runtime.errors import BundleError, Uncertified

log = logging.getLogger(__name__)
UNSEALED = "this bundle is of an earlier version, whose bundle.json has no digest: nothing shows whether it was changed"


@dataclass(frozen=True)
class OpenedSession:
    """A session of a bundle that has just reproduced the known answers, and the certificate that covers it.

    `certificate` is for this very file, back end and device class: the bundle's own, or, with `from_this_machine`, one
    that the known answers gave here. `refusals` are the reasons of every certificate of this file that did not pass,
    on any machine. Use it as a context manager, or close it.
    """

    bundle: Bundle
    session: Session[Any]
    execution: Execution
    certificate: Certificate
    from_this_machine: bool
    refusals: tuple[str, ...] = ()

    def __enter__(self) -> OpenedSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the graph."""
        self.session.close()

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""
        return self.bundle.manifest

    @property
    def variant(self) -> Variant:
        """The file that is run."""
        return self.execution.variant

    @property
    def backend(self) -> Backend:
        """What runs it."""
        return self.execution.backend

    @property
    def execution_precision(self) -> ExecutionPrecision:
        """The precision in which the graph is executed."""
        return self.execution.precision

    @property
    def description(self) -> str:
        """File, back end, version, precision and device, in a few words."""
        backend = self.backend
        return (
            f"{self.variant.file} on {backend.name} {backend.version()} "
            f"({self.execution_precision}, {backend.device_class()})"
        )

    @property
    def warning(self) -> str | None:
        """What every report must repeat about this session's proof and preprocessing, if anything."""
        warnings = []
        if self.refusals and (self.from_this_machine or not self.certificate.passed):
            warnings.append(f"this variant was published against its certificate: {'; '.join(self.refusals)}")
        certificates = [c for c in self.manifest.certificates if c.file_sha256 == self.variant.sha256]
        if all(c.evidence.synthetic for c in certificates):
            warnings.append("this variant was compared with its model on synthetic phantoms only, not on radiographs")
        if self.manifest.content_sha256 is None:
            warnings.append(UNSEALED)
        if self.manifest.assumption:
            warnings.append(self.manifest.assumption)
        return "; ".join(warnings) or None


def open_session(
    bundle: Bundle,
    *,
    backend: str | Backend = "auto",
    precision: str = "auto",
    options: SessionOptions = DEFAULT_SESSION,
    require_radiographs: bool = False,
    whole_replay: bool = False,
) -> OpenedSession:
    """Open a variant of the bundle on a back end.

    `auto` takes the first back end that can run here and passed with this file, or is not known to get it wrong. With
    `require_radiographs`, a variant that passed on synthetic phantoms only is refused. The session must give the known
    answers: all of them, or one, where this user's cache says that this machine gave all of them before in the same
    way; with `whole_replay` always all of them.

    Raises CorruptBundle, Uncertified, BackendError, UsageError or KnownAnswersFailed; then nothing may be scored.
    """
    manifest = bundle.manifest
    execution = _certified_execution(bundle, precision) if backend == "auto" else _execution(bundle, backend, precision)
    variant, chosen = execution.variant, execution.backend
    certificates = require_certified(manifest, variant)
    if require_radiographs and not bundle.passed_on_radiographs(variant):
        raise Uncertified(
            f"{variant.file} was not certified on radiographs: export it with --certify and a folder of them"
        )
    certificate = certificate_for(certificates, execution)
    model, known = bundle.read(variant), bundle.known_answers()
    session = chosen.open(model, manifest.interface, options)
    covering, from_this_machine = certificate or cached_certificate(bundle, execution), certificate is None
    try:
        replayed = covering is not None and not whole_replay and has_replayed(bundle, execution, str(options))
        if covering is None or not (
            replayed and repeats_one(session.infer(known.images[:1]), execution, known, manifest)
        ):
            # What passed nowhere and was published by force misses its limits here as well, which every report says.
            certify = verify_known_answers if any(c.passed for c in certificates) else certify_known_answers
            checked = certify(session.infer_all(known.images), execution, known, manifest)
            note_replay(bundle, execution, str(options))
            if covering is None:
                cache_certificate(checked, bundle, execution)
            covering = covering or checked
    except BaseException:
        session.close()
        raise
    refusals = tuple(reason for c in certificates if not c.passed for reason in c.reasons)
    opened = OpenedSession(bundle, session, execution, covering, from_this_machine, refusals)
    if opened.warning:
        log.warning("%s: %s", bundle.path.name, opened.warning)
    return opened


def _execution(bundle: Bundle, backend: str | Backend, precision: str) -> Execution:
    chosen = choose_backend(backend) if isinstance(backend, str) else backend
    return Execution(bundle.variant(precision, chosen.family), chosen)


def _certified_execution(bundle: Bundle, precision: str) -> Execution:
    """The variant on the first back end here that passed with it, else on one that nothing is known against.

    A back end that failed with it, be it in another version, comes last: the known answers may not show why. Raises
    BackendError or BundleError where there is no back end, or no variant for it.
    """

    def standing(execution: Execution) -> int:
        certificates = [c for c in bundle.manifest.certificates if c.file_sha256 == execution.variant.sha256]
        own = [c for c in certificates if c.backend == execution.backend.name]
        if any(c.passed for c in own):
            return 0
        return 1 if not own else 2 if any(c.usable for c in own) else 3

    preferred = _execution(bundle, "auto", precision)
    if standing(preferred) == 0:
        return preferred
    executions = [preferred]
    for backend in available_backends():
        with suppress(BundleError):
            executions.append(_execution(bundle, backend, precision))
    return min(executions, key=standing)
