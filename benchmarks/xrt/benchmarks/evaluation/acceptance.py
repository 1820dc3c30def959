"""Site acceptance: a verdict on local labels against limits that the site states before it looks.

The interval is judged, not the point. A lower limit (`>=`) is met when the lower bound of the 95 % interval reaches
it, and missed when even the upper bound does not; between the two, the cases do not suffice for a verdict. Upper limits
(`<=`) mirror this. The model is accepted when every limit is met, refused when one is missed. Bootstrap intervals are
too narrow on a handful of images: those of a class with fewer than 10 of either kind are no evidence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from xrt.benchmarks.evaluation.estimates import Estimate
from xrt.benchmarks.evaluation.figures import RESAMPLED, Figures, Measured
from xrt.benchmarks.evaluation.subgroups import MIN_IMAGES
from xrt.runtime.errors import UsageError

Verdict = Literal["accepted", "refused", "insufficient evidence"]
FIGURES = tuple(Figures.__dataclass_fields__)
_FORM = re.compile(r"\s*([a-z0-9_]+)\s*(?::\s*(.+?))?\s*(>=|<=)\s*(\S+)\s*")


@dataclass(frozen=True)
class Requirement:
    """A limit for a figure of one class, or of the whole (`name` None): the mean over the classes."""

    figure: str
    name: str | None
    direction: Literal[">=", "<="]
    limit: float

    @classmethod
    def parse(cls, text: str) -> Requirement:
        """A limit from text such as `auroc>=0.9` or `sensitivity:Pneumonia >= 0.85`. Raises UsageError."""
        match = _FORM.fullmatch(text)
        try:
            limit = float(match[4]) if match else float("nan")
        except ValueError:
            limit = float("nan")
        if match is None or match[1] not in FIGURES or not 0 <= limit <= 1:
            raise UsageError(
                f"{text!r} is no limit: write FIGURE[:CLASS]>=SHARE or <=SHARE with a share from 0 to 1; figures are "
                f"{', '.join(FIGURES)}"
            )
        return cls(match[1], match[2], ">=" if match[3] == ">=" else "<=", limit)

    def __str__(self) -> str:
        return f"{self.figure}{f':{self.name}' if self.name else ''} {self.direction} {self.limit:g}"


@dataclass(frozen=True)
class Judged:
    """A requirement, what was found, and the verdict on it alone."""

    requirement: str
    found: Estimate
    verdict: Verdict


@dataclass(frozen=True)
class Acceptance:
    """The verdict, and that on every requirement."""

    verdict: Verdict
    judged: tuple[Judged, ...]


def read_requirements(texts: Sequence[str]) -> tuple[Requirement, ...]:
    """Limits from `--require`: each a limit, or a YAML file with a list of them. Raises UsageError."""
    found: list[Requirement] = []
    for text in texts:
        path = Path(text)
        if ">=" in text or "<=" in text:
            found.append(Requirement.parse(text))
        elif path.is_file():
            found += [Requirement.parse(line) for line in _listed(path)]
        else:
            raise UsageError(
                f"--require takes a limit such as 'auroc>=0.9' or a YAML file of them; there is no file {text!r} (a "
                "limit needs quotes, or the shell takes its > for itself)"
            )
    return tuple(found)


def require_classes(requirements: Sequence[Requirement], names: Sequence[str]) -> None:
    """Raise UsageError for a limit on a class that is not among `names`, those of the model."""
    for requirement in requirements:
        if requirement.name is not None and requirement.name not in names:
            raise UsageError(f"{requirement} names no class of the model: it has {', '.join(names)}")


def judge(requirements: Sequence[Requirement], measured: Measured) -> Acceptance:
    """Hold the figures against the limits. Raises UsageError for a class that the model does not have."""
    require_classes(requirements, [c.name for c in measured.classes])
    judged = tuple(_judge(r, _found(r, measured)) for r in requirements)
    verdicts = {j.verdict for j in judged}
    order: tuple[Verdict, ...] = ("refused", "insufficient evidence", "accepted")
    return Acceptance(next(v for v in order if v in verdicts), judged)


def _judge(requirement: Requirement, found: Estimate) -> Judged:
    verdict: Verdict = "insufficient evidence"
    if found.low is not None and found.high is not None:
        at_least = requirement.direction == ">="
        near, far = (found.low, found.high) if at_least else (found.high, found.low)
        if near >= requirement.limit if at_least else near <= requirement.limit:
            verdict = "accepted"
        elif far < requirement.limit if at_least else far > requirement.limit:
            verdict = "refused"
    return Judged(str(requirement), found, verdict)


def _found(requirement: Requirement, measured: Measured) -> Estimate:
    if requirement.name is None and len(measured.classes) > 1:
        return measured.accuracy if requirement.figure == "accuracy" else getattr(measured.mean, requirement.figure)
    c = next(c for c in measured.classes if requirement.name in (None, c.name))
    found: Estimate = getattr(c.figures, requirement.figure)
    few = min(c.positives, c.negatives) < MIN_IMAGES and requirement.figure in RESAMPLED
    return Estimate(found.value) if few else found


def _listed(path: Path) -> list[str]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"{path} cannot be read as YAML ({reason}): give a list of limits") from None
    if not isinstance(content, list) or not content or not all(isinstance(line, str) for line in content):
        raise UsageError(f"{path} is no list of limits: write one a line, such as `- auroc >= 0.9`")
    return content
