"""The digest that a manifest carries of its own content, so that a hand edit or a damaged copy is seen.

It covers every field but itself: urgency, statistics, intended use and certificates as well as what decides. Whoever
edits a manifest can make a new digest: only a signature shows who wrote it (`xrt.runtime.bundle.signature`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from xrt.runtime._io import sha256_of

FIELD = "content_sha256"
SINCE = 6
"""The schema version from which on a manifest carries its digest."""

_SINCE = {"assumed": 4, FIELD: SINCE, "content_checks": 7}
_CERTIFICATE_SINCE = {"decisions_sha256": 2, "worst": 2, "known_answers": 5, "unproved": 5}
_EVIDENCE_SINCE = {"synthetic": 5, "different_images": 5, "auroc": 5, "accepted": 5, "original": 5}


def content_digest(raw: Mapping[str, Any]) -> str:
    """The SHA-256 of a manifest as JSON, its keys sorted, without the digest itself."""
    content = {name: value for name, value in raw.items() if name != FIELD}
    return sha256_of(json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False))


def sealed(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest with its digest."""
    return {**raw, FIELD: content_digest(raw)}


def require_content(raw: Mapping[str, Any], version: int) -> None:
    """Raise ValueError when a manifest is not what was written.

    From schema 6 on the digest must be there and right. An earlier one has none, and so may have no field that came
    later: a manifest of today does not become an old one by its number.
    """
    if version >= SINCE:
        if raw.get(FIELD) != content_digest(raw):
            raise ValueError("was changed after it was written: its digest is that of other content")
        return
    certificates = raw.get("certificates")
    parts: list[tuple[Any, Mapping[str, int]]] = [(raw, _SINCE)]
    for certificate in certificates if isinstance(certificates, list) else []:
        parts.append((certificate, _CERTIFICATE_SINCE))
        if isinstance(certificate, dict):
            parts.append((certificate.get("evidence"), _EVIDENCE_SINCE))
    for part, since in parts:
        later = [name for name in since if isinstance(part, dict) and name in part and since[name] > version]
        if later:
            raise ValueError(
                f"says schema {version} and has {later[0]!r}, which came with {since[later[0]]}: it was changed"
            )
