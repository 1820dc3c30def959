"""The bundle: the contract between export and every consumer.

A bundle is an immutable directory `NAME.xrt/` with a `bundle.json` and the files that it names. This package
defines the manifest (`manifest`, with `certificate` and `part`), reads and verifies (`reader`), writes atomically
(`writer`) and holds the known answers (`known_answers`).
"""

from xrt.runtime.bundle.known_answers import KnownAnswers
from xrt.runtime.bundle.manifest import Manifest
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.bundle.writer import write_bundle

__all__ = ["Bundle", "KnownAnswers", "Manifest", "write_bundle"]
