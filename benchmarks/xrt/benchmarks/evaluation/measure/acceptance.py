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

from xrt.benchmarks.evaluation.measure.figures import RESAMPLED, Figures, FiguresByClass
from xrt.benchmarks.evaluation.measure.subgroups import MIN_IMAGES
from xrt.benchmarks.statistics import Estimate
from xrt.runtime._io import first_line
from xrt.runtime.errors import UsageError

Verdict = Literal["accepted", "refused", "insufficient evidence"]
FIGURES = tuple(Figures.__dataclass_fields__)
_FORM = re.compile(r"\s*([a-z0-9_]+)\s*(?::\s*(.+?))?\s*(>=|<=)\s*(\S+)\s*")


@dataclass(frozen=True)
class Requirement:
    """A limit for a figure of one class, or for the mean over the classes (`name` None)."""

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
                f"{text!r} is no limit: write FIGURE[:CLASS]>=LIMIT or <=LIMIT with a limit from 0 to 1; figures are "
                f"{', '.join(FIGURES)}"
            )
        return cls(match[1], match[2], ">=" if match[3] == ">=" else "<=", limit)

    def __str__(self) -> str:
        return f"{self.figure}{f':{self.name}' if self.name else ''} {self.direction} {self.limit:g}"


@dataclass(frozen=True)
class RequirementResult:
    """A requirement, the figure that was measured for it, and the verdict on it alone.

    The fields are the keys in `metrics.json`, as those of `Acceptance` are.
    """

    requirement: str
    found: Estimate
    verdict: Verdict


@dataclass(frozen=True)
class Acceptance:
    """The overall verdict, and the result for every requirement."""

    verdict: Verdict
    judged: tuple[RequirementResult, ...]


def read_requirements(texts: Sequence[str]) -> tuple[Requirement, ...]:
    """Limits from `--acceptance`: each a limit, or a YAML file with a list of them. Raises UsageError."""
    requirements: list[Requirement] = []
    for text in texts:
        path = Path(text)
        if ">=" in text or "<=" in text:
            requirements.append(Requirement.parse(text))
        elif path.is_file():
            requirements += [Requirement.parse(line) for line in _lines(path)]
        else:
            raise UsageError(
                f"--acceptance takes a limit such as 'auroc>=0.9' or a YAML file of them; there is no file {text!r} (a "
                "limit needs quotes, because > has a meaning in the shell)"
            )
    return tuple(requirements)


def require_classes(requirements: Sequence[Requirement], names: Sequence[str]) -> None:
    """Raise UsageError for a limit on a class that is not among `names`, those of the model."""
    for requirement in requirements:
        if requirement.name is not None and requirement.name not in names:
            raise UsageError(f"{requirement} names no class of the model: it has {', '.join(names)}")


def judge(requirements: Sequence[Requirement], figures: FiguresByClass) -> Acceptance:
    """Compare the figures with the limits. Raises UsageError for a class that the model does not have."""
    require_classes(requirements, [c.name for c in figures.classes])
    results = tuple(_judge(r, _estimate(r, figures)) for r in requirements)
    verdicts = {result.verdict for result in results}
    order: tuple[Verdict, ...] = ("refused", "insufficient evidence", "accepted")
    return Acceptance(next(v for v in order if v in verdicts), results)


def _judge(requirement: Requirement, estimate: Estimate) -> RequirementResult:
    verdict: Verdict = "insufficient evidence"
    if estimate.low is not None and estimate.high is not None:
        at_least = requirement.direction == ">="
        near, far = (estimate.low, estimate.high) if at_least else (estimate.high, estimate.low)
        if near >= requirement.limit if at_least else near <= requirement.limit:
            verdict = "accepted"
        elif far < requirement.limit if at_least else far > requirement.limit:
            verdict = "refused"
    return RequirementResult(str(requirement), estimate, verdict)


def _estimate(requirement: Requirement, figures: FiguresByClass) -> Estimate:
    if requirement.name is None and len(figures.classes) > 1:
        return figures.accuracy if requirement.figure == "accuracy" else getattr(figures.mean, requirement.figure)
    c = next(c for c in figures.classes if requirement.name in (None, c.name))
    estimate: Estimate = getattr(c.figures, requirement.figure)
    few = min(c.positives, c.negatives) < MIN_IMAGES and requirement.figure in RESAMPLED
    return Estimate(estimate.value) if few else estimate


def _lines(path: Path) -> list[str]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path} cannot be read as YAML ({first_line(error)}): give a list of limits") from None
    if not isinstance(content, list) or not content or not all(isinstance(line, str) for line in content):
        raise UsageError(f"{path} is no list of limits: write one a line, such as `- auroc >= 0.9`")
    return content
