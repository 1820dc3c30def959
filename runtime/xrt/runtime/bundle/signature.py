"""A detached signature of a bundle: Ed25519 (RFC 8032) over the digest of bundle.json, which names each file's hash.

A hash shows damage; only a signature shows that nobody else wrote the bundle. It is the file `bundle.json.sig` beside
the manifest, so a bundle can be signed after it was made, and is copied with its signature. Keys are PEM files.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xrt.runtime._io import first_line, json_bytes, read_regular, sha256_of, write_atomically
from xrt.runtime.errors import CorruptBundle, MissingDependency, Untrusted, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SIGNATURE_NAME = "bundle.json.sig"
_ALGORITHM = "Ed25519"
_PURPOSE = b"xrt bundle, signature of bundle.json by its SHA-256: "
"""Before the digest, so that no signature of something else can be one of a bundle."""
_MOST = 4096


@dataclass(frozen=True)
class Signature:
    """What `bundle.json.sig` says: the fingerprint of the public key (SHA-256 of its 32 bytes), and the signature."""

    key: str
    signature: bytes

    @property
    def short_key(self) -> str:
        """The first digits of the fingerprint, enough to tell keys apart."""
        return self.key[:16]


def read_signature(bundle: Path) -> Signature | None:
    """The signature of a bundle directory, unchecked; None without one. Raises CorruptBundle for a damaged one."""
    path = bundle / SIGNATURE_NAME
    try:
        content = json.loads(read_regular(path, _MOST))
        if content["algorithm"] != _ALGORITHM:
            raise ValueError(f"its algorithm is {content['algorithm']!r}")
        # Both go into reports and terminals: nothing but hexadecimal digits may stand there.
        return Signature(bytes.fromhex(content["key"]).hex(), bytes.fromhex(content["signature"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise CorruptBundle(f"{path} is no signature ({first_line(error)}): sign the bundle again") from error


def sign_bundle(bundle: Path, manifest_sha256: str, key: Path) -> Signature:
    """Sign the manifest of that digest with a private key, and write the signature into the bundle directory.

    Raises UsageError when the key cannot be read or the directory not be written.
    """
    private = _private_key(key)
    signature = Signature(fingerprint(private.public_key()), private.sign(_message(manifest_sha256)))
    content = {"algorithm": _ALGORITHM, "key": signature.key, "signature": signature.signature.hex()}
    try:
        write_atomically(bundle / SIGNATURE_NAME, json_bytes(content))
    except OSError as error:
        raise UsageError(f"{bundle} cannot be written: {error.strerror}") from error
    return signature


def require_signature(bundle: Path, manifest_sha256: str, trusted: Path) -> Signature:
    """The signature of the bundle, made by the public key in `trusted`. Raises Untrusted for any other, or none."""
    public = _public_key(trusted)
    signature = read_signature(bundle)
    if signature is None:
        raise Untrusted(
            f"{bundle} is not signed, and {trusted} is to be trusted: nothing was run; ask its maker to sign it"
        )
    try:
        public.verify(signature.signature, _message(manifest_sha256))
    except _library().InvalidSignature as error:
        raise Untrusted(
            f"{bundle} is not signed by {trusted} (key {fingerprint(public)[:16]}): its signature names key "
            f"{signature.short_key}, or it was changed since; nothing was run"
        ) from error
    return Signature(fingerprint(public), signature.signature)


def new_key(private: Path, public: Path) -> str:
    """Make a pair of keys in two files, the private one readable by this user alone; returns the fingerprint.

    Raises UsageError when a file exists or cannot be written.
    """
    import os

    lib = _library()
    key = lib.Ed25519PrivateKey.generate()
    contents = {
        private: (key.private_bytes(lib.Encoding.PEM, lib.PrivateFormat.PKCS8, lib.NoEncryption()), 0o600),
        public: (key.public_key().public_bytes(lib.Encoding.PEM, lib.PublicFormat.SubjectPublicKeyInfo), 0o644),
    }
    for path, (data, mode) in contents.items():
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except OSError as error:
            raise UsageError(f"{path} cannot be written: {error.strerror}; a key is never overwritten") from error
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    return fingerprint(key.public_key())


def fingerprint(public: Ed25519PublicKey) -> str:
    """The SHA-256 of a public key's 32 bytes."""
    return sha256_of(public.public_bytes_raw())


def _message(manifest_sha256: str) -> bytes:
    return _PURPOSE + manifest_sha256.encode()


def _private_key(path: Path) -> Ed25519PrivateKey:
    lib = _library()
    try:
        key = lib.load_pem_private_key(read_regular(path, _MOST), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(
            f"{path} is no private key without a password ({first_line(error)}): `xrt sign --new-key {path}` makes one"
        ) from error
    if not isinstance(key, lib.Ed25519PrivateKey):
        raise UsageError(f"{path} is no Ed25519 key: `xrt sign --new-key FILE` makes one")
    return key


def _public_key(path: Path) -> Ed25519PublicKey:
    lib = _library()
    try:
        key = lib.load_pem_public_key(read_regular(path, _MOST))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is no public key ({first_line(error)}): give the .pub file of its maker") from error
    if not isinstance(key, lib.Ed25519PublicKey):
        raise UsageError(f"{path} is no Ed25519 public key: give the .pub file of its maker")
    return key


def _library() -> Any:
    """What is needed of `cryptography`. Raises MissingDependency."""
    from types import SimpleNamespace

    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise MissingDependency("signatures need cryptography: pip install 'xrt-runtime[sign]'") from error
    return SimpleNamespace(
        InvalidSignature=InvalidSignature,
        Ed25519PrivateKey=ed25519.Ed25519PrivateKey,
        Ed25519PublicKey=ed25519.Ed25519PublicKey,
        Encoding=serialization.Encoding,
        NoEncryption=serialization.NoEncryption,
        PrivateFormat=serialization.PrivateFormat,
        PublicFormat=serialization.PublicFormat,
        load_pem_private_key=serialization.load_pem_private_key,
        load_pem_public_key=serialization.load_pem_public_key,
    )
