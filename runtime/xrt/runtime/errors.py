"""The exception tree of xrt. Every message says what happened, the value or bound involved, and what to do.

XrtError                        exit 1
├── UsageError                  exit 2: the call is wrong
│   └── MissingDependency           a package or part is not installed
├── DataError                   a data set, table or recipe does not fit
├── BundleError                 a bundle cannot be used
│   ├── UnsupportedSchema           written by a newer xrt, or not a bundle
│   ├── CorruptBundle               a file is missing or its hash differs
│   ├── Uncertified                 no certificate covers a file of the bundle
│   └── KnownAnswersFailed          the session does not reproduce the bundle's known answers
├── BackendError                a back end cannot run here, or failed while running
├── ImageError                  one image cannot be scored; the run goes on
│   ├── UnreadableImage             recorded as `failed`
│   └── NotAChestRadiograph         recorded as `rejected`
└── ModelError                  a model cannot be trained, exported or explained (used by train and export)
    └── RefusedByGate               a variant missed a limit of the gate, and nothing was written
"""

from __future__ import annotations


class XrtError(Exception):
    """Base of every error that xrt raises on purpose. The command line prints it as one line."""

    exit_code = 1


class UsageError(XrtError):
    """The command or call itself is wrong: nothing was started."""

    exit_code = 2


class MissingDependency(UsageError):
    """A package, extra or part that this call needs is not installed. The message names the install command."""


class DataError(XrtError):
    """A data set, a table of labels or a recipe is missing something or contradicts itself."""


class BundleError(XrtError):
    """A bundle cannot be used."""


class UnsupportedSchema(BundleError):
    """`bundle.json` is not one that this version reads."""


class CorruptBundle(BundleError):
    """A file of the bundle is missing, unreadable, or differs from its recorded SHA-256."""


class Untrusted(BundleError):
    """The bundle has no signature by the key that was asked for."""


class Uncertified(BundleError):
    """No certificate of the bundle covers a file as it is to be used."""


class KnownAnswersFailed(BundleError):
    """A session of this bundle on this machine does not reproduce the bundle's known answers."""


class BackendError(XrtError):
    """A back end cannot run on this machine, or failed while running."""


class ImageError(XrtError):
    """One image cannot be scored; others are not affected."""


class UnreadableImage(ImageError):
    """The file is missing, empty, truncated, too large, or in no supported format."""


class NotAChestRadiograph(ImageError):
    """The image's own header says that it is not a chest radiograph."""


class ModelError(XrtError):
    """A model cannot be trained, exported or explained as asked."""


class RefusedByGate(ModelError):
    """A variant missed a limit of the gate, and nothing was written."""
