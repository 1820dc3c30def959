"""Other models beside the one that is reported, as a section of its report."""

from __future__ import annotations

from xrt.benchmarks.evaluation.measure.comparison import Comparison
from xrt.benchmarks.evaluation.measure.evaluation_record import Evaluation, EvaluationRecord
from xrt.benchmarks.evaluation.report import plots
from xrt.benchmarks.report import Cell, Figure, Section, Table
from xrt.benchmarks.statistics.estimate import interval_text


def comparison_section(e: Evaluation, record: EvaluationRecord) -> Section | None:
    """What an upgrade to each would change; None where there is no other model."""
    if not e.comparisons:
        return None
    note = (
        "Differences are the other model's AUROC less this one's, on the same cases, with intervals of paired "
        "resamples. More and fewer count findings; kappa is Cohen's, of the two models' decisions, each at its own "
        "thresholds. disagreements.csv lists every decision that differs."
    )
    figure = Figure("ROC of all models", "models.png", plots.models_png(record.predictions, record.others))
    return Section(
        "Other models",
        tuple(c.verdict for c in e.comparisons),
        tuple(_comparison(c, note) for c in e.comparisons),
        (figure,),
    )


def _comparison(c: Comparison, note: str) -> Table:
    columns = ("class", f"AUROC, {c.model}", f"AUROC, {c.other}", "difference", "more", "fewer", "become right",
               "become wrong", "kappa")  # fmt: skip
    rows: list[tuple[Cell, ...]] = [
        (
            r.name,
            r.auroc,
            r.other_auroc,
            interval_text(r.auroc_difference, "+z.4f"),
            r.gained,
            r.lost,
            r.mended,
            r.broken,
            r.kappa,
        )
        for r in c.classes
    ]
    if len(rows) > 1:
        rows.append(("mean", "", "", interval_text(c.mean_auroc_difference, "+z.4f"), "", "", "", "", ""))
    return Table(f"{c.other} ({c.other_executed}) beside {c.model}", columns, tuple(rows), note)
