"""Bundles with an edited manifest, of which the digest is made again: what is tested lies behind it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from xrt.runtime.bundle.content import FIELD, sealed


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change `bundle.json` in place; a manifest of an earlier schema loses what came later."""
    file = folder / "bundle.json"
    manifest = json.loads(file.read_text())
    change(manifest)
    version = manifest.get("schema_version")
    if isinstance(version, int) and not isinstance(version, bool) and version < 6:
        as_of(manifest, version)
    else:
        manifest = sealed(manifest)
    file.write_text(json.dumps(manifest))


def as_of(manifest: dict[str, Any], version: int) -> None:
    """Remove the fields that came after a schema version, in place."""
    manifest["schema_version"] = version
    manifest.pop(FIELD, None)
    if version < 7:
        manifest.pop("content_checks", None)
    if version < 4:
        manifest.pop("assumed", None)
    for certificate in manifest.get("certificates", ()):
        if version < 5:
            for name in ("known_answers", "unproved"):
                certificate.pop(name, None)
            for name in ("synthetic", "different_images", "auroc", "accepted", "original"):
                certificate["evidence"].pop(name, None)
            certificate["verdict"] = certificate["verdict"].removesuffix(" (synthetic only)")
        if version < 2:
            for name in ("decisions_sha256", "worst"):
                certificate.pop(name, None)
