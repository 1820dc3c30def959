"""An evaluation as a report."""

from __future__ import annotations

from xrt.benchmarks.evaluation.measure.calibration import BINS
from xrt.benchmarks.evaluation.measure.evaluation_record import Evaluation, EvaluationRecord
from xrt.benchmarks.evaluation.measure.figures import Figures
from xrt.benchmarks.evaluation.measure.subgroups import MIN_IMAGES
from xrt.benchmarks.evaluation.measure.thresholds import OperatingPoint
from xrt.benchmarks.evaluation.report import plots
from xrt.benchmarks.evaluation.report.cards import data_set_card, model_card
from xrt.benchmarks.evaluation.report.comparison_section import comparison_section
from xrt.benchmarks.evaluation.report.methods import methods
from xrt.benchmarks.report import Cell, Figure, Report, Section, Table
from xrt.benchmarks.statistics.estimate import interval_text
from xrt.runtime.bundle.manifest import IntendedUse

_DECISIONS = ("accuracy", "precision", "sensitivity", "specificity", "f1", "npv")
_DECISION_COLUMNS = ("accuracy", "precision", "sensitivity", "specificity", "F1", "NPV")


def evaluation_report(evaluation: Evaluation, record: EvaluationRecord) -> Report:
    """Every table and figure, the cards, and how all of it was made."""
    sections = [
        _summary(evaluation),
        _acceptance(evaluation),
        _discrimination(evaluation, record),
        _operating(evaluation),
        _confusion(evaluation),
        _calibration(evaluation, record),
        _subgroups(evaluation),
        comparison_section(evaluation, record),
        _localisation(evaluation),
        data_set_card(
            record.predictions.table,
            evaluation.part,
            record.reported.validation.table if record.reported.validation else None,
            evaluation.unscored,
        ),
        model_card(record.predictions),
        methods(evaluation),
    ]
    return Report(
        title=f"{evaluation.model}: evaluation",
        subtitle=f"{evaluation.images} images of {evaluation.dataset}, part {evaluation.part}; {evaluation.executed}",
        sections=tuple(section for section in sections if section is not None),
    )


def _summary(e: Evaluation) -> Section:
    multiclass = not e.operating
    rows: list[tuple[Cell, ...]] = [
        ("AUROC, mean of the classes", interval_text(e.mean.auroc)),
        ("Average precision, mean of the classes", interval_text(e.mean.average_precision)),
        ("Accuracy, of images" if multiclass else "Accuracy, mean of the classes", interval_text(e.accuracy)),
        ("Sensitivity, mean of the classes", interval_text(e.mean.sensitivity)),
        ("Specificity, mean of the classes", interval_text(e.mean.specificity)),
        ("Expected calibration error, mean of the classes", interval_text(e.mean.ece)),
    ]
    if len(e.classes) == 1:
        rows = [(str(name).replace(", mean of the classes", ""), value) for name, value in rows]
    text = [IntendedUse().notice, f"Decisions are by {e.rule}."]
    undefined = [c.name for c in e.classes if c.figures.auroc.value is None]
    if undefined:
        text.append(
            f"Not defined for want of one kind of case: {', '.join(undefined)}. Means are over the other classes."
        )
    if e.part in ("all", "train"):
        text.append(
            f"The part is {e.part!r}: if the model was trained on images of this data set, they may be among these, "
            "and every figure is then too good."
        )
    if e.acceptance is not None:
        text.insert(0, f"Site acceptance: {e.acceptance.verdict}.")
    return Section("Summary", tuple(text), (Table("", ("figure", "value [95 % interval]"), tuple(rows)),))


def _acceptance(e: Evaluation) -> Section | None:
    if e.acceptance is None:
        return None
    rows = tuple((j.requirement, interval_text(j.found), j.verdict) for j in e.acceptance.judged)
    note = (
        "A lower limit is met when the lower bound of the 95 % interval reaches it, and missed when even the upper "
        "bound does not; an upper limit mirrors this. In between, the evidence is insufficient."
    )
    return Section(
        "Site acceptance",
        (f"Verdict: {e.acceptance.verdict}.",),
        (Table("", ("limit", "found [95 % interval]", "verdict"), rows, note),),
    )


def _discrimination(e: Evaluation, record: EvaluationRecord) -> Section:
    def row(name: str, images: Cell, figures: Figures) -> tuple[Cell, ...]:
        return name, images, interval_text(figures.auroc), interval_text(figures.average_precision)

    rows = [row(c.name, c.positives, c.figures) for c in e.classes]
    if len(rows) > 1:
        rows.append(row("mean", "", e.mean))
    table = Table(
        "By class",
        ("class", "positive images", "AUROC", "average precision"),
        tuple(rows),
        f"95 % intervals of {e.resamples} bootstrap resamples of patients.",
    )
    return Section(
        "Discrimination",
        (),
        (table,),
        (
            Figure("ROC curves", "roc.png", plots.roc_png(record.predictions, e), "Dots: the operating points."),
            Figure(
                "Precision-recall curves",
                "pr.png",
                plots.pr_png(record.predictions, e),
                "Bars at the right edge: prevalence, which is the precision of calling everything positive.",
            ),
        ),
    )


def _operating(e: Evaluation) -> Section:
    tables = []
    rows = [
        (c.name, "highest class" if c.threshold is None else c.threshold, *_decisions(c.figures)) for c in e.classes
    ]
    tables.append(
        Table(
            "Figures at the operating point", ("class", "threshold", *_DECISION_COLUMNS), tuple(rows), f"By {e.rule}."
        )
    )
    if e.operating:
        origin = "chosen on the validation cases, measured on the reported ones" if e.validation else "as given"
        note = (
            ""
            if e.validation
            else "No validation cases were given, so no threshold was chosen: see --split-file, --validation."
        )
        points = tuple((p.name, p.rule, p.threshold, *_decisions(p)) for p in e.operating)
        tables.append(Table(f"Thresholds, {origin}", ("class", "rule", "threshold", *_DECISION_COLUMNS), points, note))
    return Section("Operating points", (), tuple(tables))


def _decisions(figures: Figures | OperatingPoint) -> tuple[str, ...]:
    return tuple(interval_text(getattr(figures, name)) for name in _DECISIONS)


def _confusion(e: Evaluation) -> Section:
    lines = tuple((line.name, line.precision, line.recall, line.f1, line.images) for line in e.report_lines)
    return Section(
        "Confusion matrices and classification report",
        (),
        (Table("Classification report", ("class", "precision", "recall", "F1", "images"), lines),),
        (
            Figure(
                "Confusion matrices",
                "confusion.png",
                plots.confusion_png(e.confusions),
                "Images, and their fraction of the row (the truth).",
            ),
        ),
    )


def _calibration(e: Evaluation, record: EvaluationRecord) -> Section:
    tables = []
    for title, rows in (
        ("As the model gives them", e.calibration),
        ("With temperatures fitted on the validation cases", e.recalibrated),
    ):
        cells = tuple(
            (c.name, c.temperature, interval_text(c.ece), interval_text(c.ece_mass), interval_text(c.brier), c.nll)
            for c in rows
        )
        if cells:
            columns = ("class", "temperature", "ECE, equal width", "ECE, equal mass", "Brier score", "NLL (nats)")
            tables.append(Table(title, columns, cells))
    note = (
        f"At most {BINS} bins of equal mass; bars are Wilson's 95 % intervals of the fraction. On the dotted line a "
        "probability comes true as often as it says."
    )
    figure = Figure(
        "Reliability diagrams", "reliability.png", plots.reliability_png(record.original, record.fitted), note
    )
    return Section("Calibration", (), tuple(tables), (figure,))


def _subgroups(e: Evaluation) -> Section | None:
    if not e.subgroups:
        return None
    columns = ("by", "group", "class", "images", "positive", "prevalence", "AUROC", "sensitivity", "specificity")
    rows = tuple(
        (s.by, s.group, s.name, s.images, s.positives, s.prevalence, interval_text(s.auroc),
         interval_text(s.sensitivity), interval_text(s.specificity))
        for s in e.subgroups
    )  # fmt: skip
    note = (
        "Ages in years. By contrast (phantoms): the images that show the class so, and all that do not show it. A "
        f"figure on fewer than {MIN_IMAGES} images of its kind is not defined. Groups differ in more than their name: "
        "a gap is a question, not an answer."
    )
    figure = Figure(
        "AUROC by subgroup",
        "subgroups.png",
        plots.subgroups_png(e.subgroups),
        "Dotted: 0.5, which is chance. A hollow dot has no interval: all its resamples agree.",
    )
    return Section("Subgroups", (), (Table("", columns, rows, note),), (figure,))


def _localisation(e: Evaluation) -> Section | None:
    if not e.pointing:
        return None
    rows = tuple((p.name, p.count, p.hits, p.chance, p.shuffled) for p in e.pointing)
    note = (
        "The pointing game (Zhang et al. 2018) over findings that have a box. Chance is the fraction of the image "
        "inside boxes; shuffled compares every map with the boxes of the other images of its class."
    )
    return Section(
        "Localisation",
        (),
        (
            Table(
                "Maximum of the heatmap inside a box",
                ("class", "findings", "heatmap", "chance", "shuffled"),
                rows,
                note,
            ),
        ),
    )
