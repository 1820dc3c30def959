"""`xrt sign`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def sign(
    bundle: Annotated[
        Path | None, typer.Argument(metavar="[NAME.xrt]", help="The bundle to sign; left out to make a key only.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The private key, a PEM file that --new-key made.")
    ] = None,
    new_key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="First make a key: FILE, which stays secret, and FILE.pub for those who trust it."
        ),
    ] = None,
) -> None:
    """Sign a bundle, so that whoever has the public key knows that it is yours and unchanged.

    The signature is a file in the bundle, over the digest of bundle.json, which names every other file by its hash.
    `xrt triage --trust KEY.pub` and the other commands that take --trust then run nothing else.

    Examples:

      xrt sign --new-key hospital.key

      xrt sign chest.xrt --key hospital.key
    """
    from xrt.runtime.bundle.reader import Bundle
    from xrt.runtime.bundle.signature import new_key as make_key
    from xrt.runtime.bundle.signature import sign_bundle
    from xrt.runtime.errors import UsageError

    if new_key is not None:
        public = new_key.with_name(f"{new_key.name}.pub")
        print(f"key {make_key(new_key, public)[:16]}: {new_key} (keep it secret), {public}")
    if bundle is None:
        if new_key is None:
            raise UsageError("nothing to sign: name a bundle, or make a key with --new-key")
        return
    if (secret := key or new_key) is None:
        raise UsageError("a private key signs: name it with --key, or make one with --new-key")
    opened = Bundle.open(bundle)
    print(f"{bundle}: signed with key {sign_bundle(opened.path, opened.sha256, secret).short_key}")
