"""`worklist.csv`: studies in order of urgency.

The urgency of a study is the highest, over its current images and over classes of weight above 0, of the class's
weight times the excess of its calibrated probability p over its threshold t, (p - t) / (1 - t). Where nothing is
above its threshold it is the highest (p - t) / t, which is negative and unweighted: the nearest miss comes first.

While a run is under way, and after one that was interrupted, the first row says so: its study is INCOMPLETE.
"""

from __future__ import annotations

import csv
import io
import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from xrt.runtime._io import on_one_line, write_atomically

HEADER = ("rank", "study", "urgency", "images", "findings", "notes", "files")
_STUDIES, _WRITTEN_AT_ONCE = 500, 1 << 16
"""Studies that are held at a time, and characters."""
_FORMULA = re.compile(r"(^|[;,\t\n\r])(\s*)(?=[=+\-@\uff1d\uff0b\uff0d\uff20])")


def worklist_rows(db: sqlite3.Connection) -> Iterator[dict[str, object]]:
    """One row per study, most urgent first; some are held at a time, however many there are."""
    ordered, rank = db.execute("SELECT * FROM worklist"), 0
    while studies := ordered.fetchmany(_STUDIES):
        these = ",".join(str(study["study_id"]) for study in studies)
        files, notes = defaultdict[int, list[str]](list), defaultdict[int, set[str]](set)
        for study, path, note in db.execute(
            f"SELECT study_id, path, notes FROM image WHERE study_id IN ({these})"
            " AND current AND gone = '' AND status = 'ok' ORDER BY path"
        ):
            files[study].append(harmless(path))
            if note:
                notes[study].add(note)
        findings = defaultdict[int, list[tuple[float, str, float]]](list)
        for study, name, probability, urgency in db.execute(
            "SELECT study_id, class, MAX(probability), MAX(finding.urgency) FROM image"
            f" JOIN finding ON image.id = image_id WHERE study_id IN ({these})"
            " AND current AND gone = '' AND positive GROUP BY study_id, class"
        ):
            findings[study].append((-float("inf") if urgency is None else urgency, name, probability))
        for study in studies:
            rank += 1
            yield {
                "rank": rank,
                "study": study["study"],
                "urgency": None if study["urgency"] is None else round(study["urgency"], 4),
                "images": study["images"],
                "findings": _in_words(findings[study["study_id"]]),
                "notes": "; ".join(sorted(notes[study["study_id"]])),
                "files": "; ".join(files[study["study_id"]]),
            }


def _in_words(findings: list[tuple[float, str, float]]) -> str:
    """(urgency, class, probability) of every finding, the most urgent first."""
    ordered = sorted(findings, key=lambda finding: (-finding[0], finding[1]))
    return "; ".join(f"{name} {probability:.2f}" for _, name, probability in ordered)


def write_worklist(db: sqlite3.Connection, path: Path, *, incomplete: str = "") -> None:
    """Write the worklist as CSV; `incomplete` says why it does not hold everything, empty where it does.

    Text that a spreadsheet would take for a formula gets an apostrophe, characters that cannot be seen are escaped.
    """
    write_atomically(path, _lines(db, incomplete))


def _lines(db: sqlite3.Connection, incomplete: str) -> Iterator[bytes]:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(HEADER)
    if incomplete:
        writer.writerow(["", "INCOMPLETE", "", "", "", incomplete, ""])
    for row in worklist_rows(db):
        writer.writerow([harmless(value) if isinstance(value, str) else value for value in map(row.get, HEADER)])
        if text.tell() > _WRITTEN_AT_ONCE:
            yield text.getvalue().encode()
            text.seek(0)
            text.truncate()
    yield text.getvalue().encode()


def harmless(text: str) -> str:
    """Text as a cell that is one line, whose characters show, and that no spreadsheet computes.

    In countries where lists are separated by semicolons, a spreadsheet may take what follows one for a cell.
    """
    return _FORMULA.sub(r"\1\2'", on_one_line(text))
