"""What makes images one study, and what a row says of its identity where names are redacted."""

from __future__ import annotations

from pathlib import PurePosixPath

from xrt.runtime.screening.options import StudyRule
from xrt.runtime.screening.redaction import Redaction
from xrt.runtime.screening.result import Result
from xrt.runtime.screening.store import Study


class Grouping:
    """Groups images by a rule. With `redact` the identifiers that it records are pseudonyms."""

    def __init__(self, rule: StudyRule, redact: Redaction | None = None) -> None:
        self._rule, self._redact = rule, redact

    def study_of(self, root: str, path: str, result: Result) -> Study:
        """The study of an image at `path` under `root`."""
        uid = self._named(result.study_uid)
        if self._rule == "uid" and uid:
            # A path can look like a UID, and two patients have had one by mistake.
            return Study(f"uid:{uid}#{self._named(result.patient_digest)}", uid, uid)
        pure = PurePosixPath(path)
        if self._rule == "folder":
            pure = pure.parent
        elif self._rule == "stem":
            cut = max(pure.stem.rfind("_"), pure.stem.rfind("-"))
            pure = pure.with_name(pure.stem[:cut] if cut > 0 else pure.stem)
        return Study(f"{root}/{pure}", str(pure) if str(pure) != "." else PurePosixPath(root).name, uid)

    def as_recorded(self, result: Result) -> Result:
        """The result under the identifier that is recorded."""
        return result if self._redact is None else result.with_identifier(self._named(result.sop_instance_uid))

    def _named(self, uid: str) -> str:
        return uid if self._redact is None else self._redact.identifier(uid)
