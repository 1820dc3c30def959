"""Opening a bundle: the schema is checked first, then the manifest, then each file against its hash."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from xrt.runtime._io import read_regular, sha256_of
from xrt.runtime.bundle.content import require_content
from xrt.runtime.bundle.known_answers import KnownAnswers, known_answers_bytes
from xrt.runtime.bundle.manifest import PRECISIONS, SCHEMA_VERSION, KnownAnswersSpec, Manifest, Variant
from xrt.runtime.bundle.signature import read_signature, require_signature
from xrt.runtime.errors import BundleError, CorruptBundle, UnsupportedSchema

MANIFEST_NAME = "bundle.json"
MAX_FILE_BYTES = 2**31 - 1
"""protobuf's limit for one ONNX file; external data would escape the hash, so there is none."""
MAX_MANIFEST_BYTES = 2**24
"""A manifest of a thousand classes takes a hundredth of it."""


@dataclass(frozen=True)
class Bundle:
    """An opened bundle. Files are read into memory and verified when they are asked for.

    `signature` says in a few words whether it is signed, and whether that was checked.
    """

    path: Path
    manifest: Manifest
    sha256: str = field(repr=False)
    signature: str = "unsigned"

    @classmethod
    def open(cls, path: str | Path, *, trust: Path | None = None) -> Bundle:
        """Open the bundle directory at `path`; with `trust`, the file of a public key, only if it signed the bundle.

        Raises BundleError when there is none, UnsupportedSchema when another version wrote it, CorruptBundle when
        the manifest is invalid or a file that it names is missing, and Untrusted.
        """
        path = Path(path)
        try:
            data = read_regular(path / MANIFEST_NAME, MAX_MANIFEST_BYTES)
        except (FileNotFoundError, NotADirectoryError):
            raise BundleError(f"{path} is not a bundle: it has no {MANIFEST_NAME}; `xrt export` makes one") from None
        except OSError as error:
            raise BundleError(f"{path / MANIFEST_NAME} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise CorruptBundle(f"{path / MANIFEST_NAME} {error}: copy the bundle again") from error
        manifest = _parse(path, data)
        for name in (*(v.file for v in manifest.variants), manifest.known_answers.file):
            if not (path / name).is_file():
                raise CorruptBundle(f"{path} lacks its file {name}: copy the whole bundle again, or export it again")
        digest = sha256_of(data)
        if trust is not None:
            signature = f"signed with key {require_signature(path, digest, trust).short_key}, checked"
        else:
            unchecked = read_signature(path)
            signature = f"signed with key {unchecked.short_key}, not checked" if unchecked else "unsigned"
        return cls(path, manifest, digest, signature)

    def read(self, part: Variant | KnownAnswersSpec) -> bytes:
        """The bytes of a variant's ONNX file, or of the known answers, verified.

        Raises CorruptBundle when the hash differs.
        """
        return self._verified(part.file, part.sha256)

    def known_answers(self) -> KnownAnswers:
        """The known answers, verified. Raises CorruptBundle when the hash differs or they do not fit the manifest."""
        spec = self.manifest.known_answers
        known = KnownAnswers.from_bytes(self.read(spec), known_answers_bytes(self.manifest))
        if (misfit := known.fit(self.manifest)) is not None:
            raise CorruptBundle(
                f"{self.path / spec.file} does not fit the manifest ({misfit}): export the bundle again"
            )
        return known

    def variant(self, precision: str = "auto", family: str = "cpu") -> Variant:
        """The variant of that precision for a family of devices, `cpu` or `gpu`.

        `auto` is the first, of fp32, fp16 and int8, that passed on radiographs; where none did, the fp32 file. Raises
        BundleError when the bundle has none.
        """
        fitting = [v for v in self.manifest.variants if v.target in (family, "any")]
        if precision == "auto":
            by_precision = sorted(fitting, key=lambda v: PRECISIONS.index(v.precision))
            precision = next((v.precision for v in by_precision if self.passed_on_radiographs(v)), "fp32")
        for variant in fitting:
            if variant.precision == precision:
                return variant
        precisions = ", ".join(sorted({v.precision for v in fitting})) or "nothing"
        raise BundleError(
            f"{self.path} has no {precision} variant for a {family}, only {precisions}: "
            f"export it with --precision {precision}"
        )

    def passed_on_radiographs(self, variant: Variant) -> bool:
        """Whether one of the file's certificates at least passed on more than synthetic phantoms."""
        return any(c.verdict == "passed" for c in self.manifest.certificates if c.file_sha256 == variant.sha256)

    def _verified(self, name: str, sha256: str) -> bytes:
        path = self.path / name
        try:
            data = read_regular(path, MAX_FILE_BYTES)
        except OSError as error:
            raise CorruptBundle(f"{path} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise CorruptBundle(f"{path} {error}: copy the bundle again") from error
        digest = sha256_of(data)
        if digest != sha256:
            raise CorruptBundle(
                f"{path} has SHA-256 {digest[:12]}…, the manifest says {sha256[:12]}…: "
                "the file was damaged or replaced; copy the bundle again, or export it again"
            )
        return data


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Of a key that is given twice, readers disagree which value counts."""
    names = [name for name, _ in pairs]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"the key {repeated[0]!r} is given twice")
    return dict(pairs)


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number in JSON")


def _parse(path: Path, data: bytes) -> Manifest:
    try:
        raw = json.loads(data, object_pairs_hook=_without_repetition, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise CorruptBundle(f"{path / MANIFEST_NAME} is not JSON ({error}): copy the bundle again") from error
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= SCHEMA_VERSION:
        raise UnsupportedSchema(
            f"{path} has schema version {version!r}, this xrt reads 1 to {SCHEMA_VERSION}: "
            "update xrt-runtime, or export the bundle with this version"
        )
    try:
        require_content(raw, version)
    except ValueError as error:
        raise CorruptBundle(
            f"{path / MANIFEST_NAME} {error}; copy the bundle again, or make a new one with the change (`xrt export`, "
            "`xrt evaluate --bundle-out`)"
        ) from error
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"]) or "manifest"
        raise CorruptBundle(f"{path / MANIFEST_NAME}: {place}: {first['msg']}; export the bundle again") from error
