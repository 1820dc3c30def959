"""An evaluation as a report."""

from __future__ import annotations

from xrt.benchmarks.evaluation import plots
from xrt.benchmarks.evaluation.calibration import BINS
from xrt.benchmarks.evaluation.cards import data_set_card, model_card
from xrt.benchmarks.evaluation.comparison import Comparison
from xrt.benchmarks.evaluation.estimates import MIN_USABLE
from xrt.benchmarks.evaluation.evaluation import Evaluation, Study
from xrt.benchmarks.evaluation.figures import Figures
from xrt.benchmarks.evaluation.subgroups import MIN_IMAGES
from xrt.benchmarks.report import Cell, Figure, Report, Section, Table
from xrt.runtime.bundle.manifest import IntendedUse

_DECISION_COLUMNS = ("accuracy", "precision", "sensitivity", "specificity", "f1", "npv")


def build_report(evaluation: Evaluation, study: Study) -> Report:
    """Every table and figure, the cards, and how all of it was made."""
    sections = [
        _summary(evaluation),
        _acceptance(evaluation),
        _discrimination(evaluation, study),
        _operating(evaluation),
        _confusion(evaluation),
        _calibration(evaluation, study),
        _subgroups(evaluation),
        _models(evaluation, study),
        _localisation(evaluation),
        data_set_card(
            study.predictions.table, evaluation.part, study.ruled.validation.table if study.ruled.validation else None
        ),
        model_card(study.predictions),
        _methods(evaluation),
    ]
    return Report(
        title=f"{evaluation.model}: evaluation",
        subtitle=f"{evaluation.images} images of {evaluation.dataset}, part {evaluation.part}; {evaluation.executed}",
        sections=tuple(section for section in sections if section is not None),
    )


def _summary(e: Evaluation) -> Section:
    multiclass = not e.operating
    rows: list[tuple[Cell, ...]] = [
        ("AUROC, mean of the classes", str(e.mean.auroc)),
        ("Average precision, mean of the classes", str(e.mean.average_precision)),
        ("Accuracy, of images" if multiclass else "Accuracy, mean of the classes", str(e.accuracy)),
        ("Sensitivity, mean of the classes", str(e.mean.sensitivity)),
        ("Specificity, mean of the classes", str(e.mean.specificity)),
        ("Expected calibration error, mean of the classes", str(e.mean.ece)),
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
    rows = tuple((j.requirement, str(j.found), j.verdict) for j in e.acceptance.judged)
    note = (
        "A lower limit is met when the lower bound of the 95 % interval reaches it, and missed when even the upper "
        "bound does not; an upper limit mirrors this. In between, the evidence is insufficient."
    )
    return Section(
        "Site acceptance",
        (f"Verdict: {e.acceptance.verdict}.",),
        (Table("", ("limit", "found [95 % interval]", "verdict"), rows, note),),
    )


def _discrimination(e: Evaluation, study: Study) -> Section:
    def row(name: str, images: Cell, figures: Figures) -> tuple[Cell, ...]:
        return name, images, str(figures.auroc), str(figures.average_precision)

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
            Figure("ROC curves", "roc.png", plots.roc_png(study.predictions, e), "Dots: the operating points."),
            Figure(
                "Precision-recall curves",
                "pr.png",
                plots.pr_png(study.predictions, e),
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
        chosen = "chosen on the validation cases, measured on the reported ones" if e.validation else "as given"
        note = "" if e.validation else "No validation cases were given, so no threshold was chosen: see --validation."
        points = tuple(
            (p.name, p.rule, p.threshold, *(str(getattr(p, name)) for name in _DECISION_COLUMNS)) for p in e.operating
        )
        tables.append(Table(f"Thresholds, {chosen}", ("class", "rule", "threshold", *_DECISION_COLUMNS), points, note))
    return Section("Operating points", (), tuple(tables))


def _decisions(figures: Figures) -> tuple[str, ...]:
    return tuple(str(getattr(figures, name)) for name in _DECISION_COLUMNS)


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
                "Images, and their share of the row (the truth).",
            ),
        ),
    )


def _calibration(e: Evaluation, study: Study) -> Section:
    tables = []
    for title, rows in (
        ("As the model gives them", e.calibration),
        ("With temperatures fitted on the validation cases", e.recalibrated),
    ):
        cells = tuple((c.name, c.temperature, str(c.ece), str(c.ece_mass), str(c.brier), c.nll) for c in rows)
        if cells:
            columns = ("class", "temperature", "ECE, equal width", "ECE, equal mass", "Brier score", "NLL (nats)")
            tables.append(Table(title, columns, cells))
    note = (
        f"At most {BINS} bins of equal mass; bars are Wilson's 95 % intervals of the share. On the dotted line a "
        "probability comes true as often as it says."
    )
    figure = Figure(
        "Reliability diagrams", "reliability.png", plots.reliability_png(study.original, study.fitted), note
    )
    return Section("Calibration", (), tuple(tables), (figure,))


def _subgroups(e: Evaluation) -> Section | None:
    if not e.subgroups:
        return None
    columns = ("by", "group", "class", "images", "positive", "prevalence", "AUROC", "sensitivity", "specificity")
    rows = tuple(
        (s.by, s.group, s.name, s.images, s.positives, s.prevalence, str(s.auroc), str(s.sensitivity),
         str(s.specificity))
        for s in e.subgroups
    )  # fmt: skip
    note = (
        f"Ages in years. A figure on fewer than {MIN_IMAGES} images of its kind is not defined. Groups differ in more "
        "than their name: a gap is a question, not an answer."
    )
    figure = Figure("AUROC by subgroup", "subgroups.png", plots.subgroups_png(e.subgroups))
    return Section("Subgroups", (), (Table("", columns, rows, note),), (figure,))


def _models(e: Evaluation, study: Study) -> Section | None:
    if not e.comparisons:
        return None
    note = (
        "Differences are the other model's AUROC less this one's, on the same cases, with intervals of paired "
        "resamples. More and fewer count findings; kappa is Cohen's, of the two models' decisions, each at its own "
        "thresholds. disagreements.csv lists every decision that differs."
    )
    figure = Figure("ROC of all models", "models.png", plots.models_png(study.predictions, study.others))
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
        (r.name, r.auroc, r.other_auroc, str(r.auroc_difference), r.gained, r.lost, r.mended, r.broken, r.kappa)
        for r in c.classes
    ]
    if len(rows) > 1:
        rows.append(("mean", "", "", str(c.mean_auroc_difference), "", "", "", "", ""))
    return Table(f"{c.other} ({c.other_executed}) beside {c.model}", columns, tuple(rows), note)


def _localisation(e: Evaluation) -> Section | None:
    if not e.pointing:
        return None
    rows = tuple((p.name, p.count, p.hits, p.chance, p.shuffled) for p in e.pointing)
    note = (
        "The pointing game (Zhang et al. 2018) over findings that have a box. Chance is the share of the image inside "
        "boxes; shuffled deals every map to the other images of its class."
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


def _methods(e: Evaluation) -> Section:
    return Section(
        "Methods",
        (
            f"Intervals are at 95 %. Those of AUROC, average precision, F1, Brier score, calibration errors, means and "
            f"differences are percentile intervals of {e.resamples} bootstrap resamples (seed {e.seed}) that draw "
            "patients with replacement and take all their images; classes, subgroups and models share the resamples. "
            f"A resample in which a figure is not defined is left out; where under {100 * MIN_USABLE:.0f} % "
            "remain, there is no interval.",
            "Accuracy, sensitivity, specificity, precision and NPV are shares of images with Wilson's score interval "
            "(JASA 1927), counts divided by the design effect of several images a patient (Rao & Scott, Biometrics "
            "1992). Without patients' names every image is its own patient, and intervals may be too narrow.",
            "AUROC counts ties half; average precision does not interpolate; both as in scikit-learn. A class with one "
            "kind of case has neither: not defined.",
            "Thresholds are midpoints between adjacent scores of the validation cases: Youden's J (Cancer 1950), the "
            "highest F1, or the best specificity at a fixed sensitivity and the other way round. Temperatures minimise "
            "the negative log likelihood of the validation cases (Guo et al. 2017, arXiv 1706.04599). No reported case "
            "is among them. Where validation gives no threshold, the model's own is kept.",
            f"The expected calibration error has {BINS} bins. It is biased upwards on few images.",
        ),
    )
