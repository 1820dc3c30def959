"""What is in a table, as lines for a terminal: to be read before anything is trained or measured on it."""

from __future__ import annotations

from textwrap import wrap

from xrt.runtime.datasets.table import CaseTable

_WIDTH = 100


def describe(table: CaseTable) -> str:
    """Counts, prevalence and co-occurrence of a table as aligned plain text, without a last line end.

    Classes that no image has are said to have none. Co-occurrence is shown for independent classes only: of exclusive
    ones, no image has two.
    """
    facts = table.summary()
    lines = [
        f"{table.name}: {_count(facts['images'], 'image')} of {_count(facts['patients'], 'patient')}, {table.task}"
    ]
    lines += [f"  {name:<10}{text}" for name, text in _particulars(facts) if text]
    lines += ["", *_classes(table, facts)]
    if table.task == "multilabel" and len(table.classes) > 1:
        lines += ["", *_together(facts)]
    for note in table.notes:
        lines += ["", *wrap(f"Note: {note}", _WIDTH)]
    return "\n".join(lines)


def _particulars(facts: dict) -> list[tuple[str, str]]:
    ages, missing = facts["ages"], facts["missing"]
    examples = ", ".join(facts["missing_images"]) + (", …" if missing > len(facts["missing_images"]) else "")
    return [
        ("missing", f"{_count(missing, 'listed image')} not on disk: {examples}" if missing else ""),
        ("left out", f"{_count(facts['left_out'], 'image')} of no class" if facts["left_out"] else ""),
        ("parts", _tally(facts["parts"])),
        ("views", _tally(facts["views"])),
        ("sexes", _tally(facts["sexes"])),
        ("ages", f"{ages['lowest']} to {ages['highest']} years, median {ages['median']:g}" if ages else ""),
        ("boxes", str(facts["boxes"] or "")),
    ]


def _classes(table: CaseTable, facts: dict) -> list[str]:
    width = max(len("class"), *map(len, table.classes))
    lines = [f"{'class':<{width}} {'images':>8} {'prevalence':>11}"]
    for place, (name, figures) in enumerate(facts["classes"].items()):
        remark = "" if table.task != "binary" else ("   negative", "   positive")[place]
        if figures["images"]:
            lines.append(f"{name:<{width}} {figures['images']:>8} {figures['prevalence']:>11.1%}{remark}")
        else:
            lines.append(f"{name:<{width}} {0:>8} {'–':>11}{remark}   no image has it")
    return lines


def _together(facts: dict) -> list[str]:
    names, rows = list(facts["classes"]), facts["co_occurrence"]
    width, cell = max(map(len, names)), max(3, *(len(str(n)) for row in rows for n in row)) + 1
    lines = [
        "images with both classes (columns by number; on the diagonal, images of the class)",
        " " * (width + 4) + "".join(f"{place:>{cell}}" for place in range(1, len(names) + 1)),
    ]
    for place, (name, row) in enumerate(zip(names, rows, strict=True), 1):
        lines.append(f"{place:>3} {name:<{width}}" + "".join(f"{n:>{cell}}" for n in row))
    return lines


def _tally(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in counts.items())


def _count(n: int, thing: str) -> str:
    return f"{n} {thing}{'' if n == 1 else 's'}"
