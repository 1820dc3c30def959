"""How a triage run is asked for, and what it says in the end."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from xrt.runtime.screening.screener import ScreeningOptions
from xrt.runtime.screening.watch import WatchOptions

Heatmaps = Literal["positive", "all", "none"]
StudyRule = Literal["uid", "folder", "stem", "image"]


@dataclass(frozen=True)
class TriageOptions:
    """How a triage run works. `heatmaps` says for which classes overlays are written.

    With `require_radiographs`, a variant that was certified on synthetic phantoms only is refused.

    `study_by`: images of a study share the StudyInstanceUID (`uid`; files without one count as a study each), the
    `folder`, the file name up to its last underscore or dash (`stem`), or nothing (`image`). `follow_links` looks at
    what links lead to outside of the folders given. With `watch` a run goes on until it is stopped. `on_positive` is a
    command, as a list, that is told of every image with findings.
    """

    backend: str = "auto"
    precision: str = "auto"
    require_radiographs: bool = False
    screening: ScreeningOptions = ScreeningOptions()
    heatmaps: Heatmaps = "positive"
    study_by: StudyRule = "uid"
    redact_paths: bool = False
    follow_links: bool = False
    resume: bool = False
    watch: WatchOptions | None = None
    on_positive: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """All settings by name, as a run records them."""
        settings = asdict(self)
        screening = settings.pop("screening")
        del screening["limits"]
        return {**settings, **screening}


DEFAULT_TRIAGE = TriageOptions()


@dataclass
class TriageSummary:
    """What a run did: files by status, why some have no score, what was left out, and where the results are.

    `listed` files were found; `interrupted` says why a run ended before it had looked at them all.
    """

    out: Path
    counts: Counter[str] = field(default_factory=Counter)
    positives: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    warning: str | None = None
    listed: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    gone: int = 0
    undelivered: int = 0
    interrupted: str = ""

    @property
    def failed(self) -> int:
        """Files that could not be read."""
        return self.counts["failed"]
