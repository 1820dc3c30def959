"""Writing a bundle: all of it or nothing, in one rename."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from xrt.runtime._io import require_writable, sha256_of, write_synced
from xrt.runtime.bundle.content import FIELD, sealed
from xrt.runtime.bundle.manifest import Manifest
from xrt.runtime.bundle.reader import MANIFEST_NAME, Bundle
from xrt.runtime.errors import BundleError, UsageError


def check_destination(path: Path) -> None:
    """Refuse a destination that exists, since bundles are immutable. Raises UsageError."""
    if path.suffix != ".xrt":
        raise UsageError(f"a bundle is a directory NAME.xrt, not {path.name}")
    require_writable(path.parent, path)
    if path.exists():
        raise UsageError(f"{path} exists, and bundles are immutable: choose another name or remove it first")


def write_bundle(path: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Bundle:
    """Write `manifest` and `files` (name to content) as the bundle `path`, and open it.

    The bundle is assembled in a hidden sibling directory, synced and renamed, so that a reader never sees half of
    it and a failure leaves nothing. Raises UsageError when `path` exists, BundleError when it cannot be written.
    """
    check_destination(path)
    hashes = {v.file: v.sha256 for v in manifest.variants}
    hashes[manifest.known_answers.file] = manifest.known_answers.sha256
    for name, sha256 in hashes.items():
        if name not in files or sha256_of(files[name]) != sha256:
            raise BundleError(f"the manifest names {name}, but the file given is missing or differs")
    scratch = _scratch(path)
    try:
        for name, data in files.items():
            write_synced(scratch / name, data)
        write_synced(scratch / MANIFEST_NAME, manifest_bytes(manifest))
        scratch.chmod(0o755)
        scratch.rename(path)
    except OSError as error:
        raise BundleError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Bundle.open(path)


def manifest_bytes(manifest: Manifest) -> bytes:
    """`bundle.json` for a manifest, with the digest of its content."""
    raw = json.loads(manifest.model_dump_json(by_alias=True, exclude={FIELD}))
    return json.dumps(sealed(raw), indent=2, ensure_ascii=False).encode()


def _scratch(path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise BundleError(f"{path} cannot be written: {error.strerror}") from error
