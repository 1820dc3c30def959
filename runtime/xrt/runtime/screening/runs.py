"""The runs of a screening folder: what each was asked for, what it ran, how far it came."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from importlib.metadata import version

from xrt.runtime._io import utc_now
from xrt.runtime.errors import UsageError
from xrt.runtime.screening.store import ResultsStore
from xrt.runtime.session import OpenedSession

DECIDING = ("skip_body_part_check", "content_checks", "study_by", "redact_paths", "heatmaps")
"""Settings that decide what a row says: a folder is continued with those that it was begun with."""
_RENAMED = {"any_body_part": "skip_body_part_check"}
"""What settings were called by earlier versions."""


def start_run(
    store: ResultsStore, opened: OpenedSession, settings: Mapping[str, object], roots: Collection[str] = ()
) -> int:
    """Record a new run over some folders, as recorded, and return its id.

    Raises UsageError when the folder holds another bundle's results, or results made in another way.
    """
    bundle, db = opened.bundle, store.db
    _require_same(store, opened, settings)
    with store.transaction():
        db.execute(
            "INSERT INTO bundle (sha256, manifest) VALUES (?, ?) ON CONFLICT DO NOTHING",
            (bundle.sha256, bundle.manifest.model_dump_json()),
        )
        (run,) = db.execute(
            "INSERT INTO run (started, xrt_version, bundle, bundle_sha256, variant, backend, backend_version,"
            " execution_precision, settings, roots, proof) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
            (
                utc_now(),
                version("xrt-runtime"),
                bundle.manifest.name,
                bundle.sha256,
                opened.variant.file,
                opened.backend.name,
                opened.backend.version(),
                opened.execution_precision,
                json.dumps(dict(settings), default=str),
                json.dumps(sorted(roots)),
                json.dumps(_proof(opened)),
            ),
        ).fetchone()
    return run


def note_listed(store: ResultsStore, run: int, listed: int, left_out: Mapping[str, int]) -> None:
    """Record how many files were found, and how many of them were left out, by reason."""
    with store.transaction():
        store.db.execute(
            "UPDATE run SET listed = ?, left_out = ? WHERE id = ?", (listed, json.dumps(dict(left_out)), run)
        )


def finish_run(store: ResultsStore, run: int, *, interrupted: str = "") -> None:
    """Record that a run reached its end, or why it did not. Everything else must be written before."""
    with store.transaction():
        if interrupted:
            store.db.execute("UPDATE run SET interrupted = ? WHERE id = ?", (interrupted, run))
        else:
            store.db.execute("UPDATE run SET finished = ? WHERE id = ?", (utc_now(), run))


def unfinished(store: ResultsStore, *, apart_from: int | None = None) -> str:
    """Why the record does not hold everything that was asked for, empty where it does.

    A run that was interrupted is made up for by a later one that ended, over the same folders or folders around them.
    `apart_from` is taken to be ending now.
    """
    covered: list[str] = []
    for run in store.db.execute("SELECT id, finished, interrupted, roots FROM run ORDER BY id DESC"):
        roots = json.loads(run["roots"])
        if run["finished"] or run["id"] == apart_from:
            covered += roots or [""]  # earlier versions did not record them
        elif not all(
            any(f"{root}/".startswith(f"{other}/") or not other for other in covered) for root in roots or [""]
        ):
            return f"run {run['id']}: {run['interrupted'] or 'broken off'}"
    return ""


def _lies_in(path: str, folder: str) -> bool:
    return not folder or f"{path}/".startswith(f"{folder.rstrip('/')}/")


def _require_same(store: ResultsStore, opened: OpenedSession, settings: Mapping[str, object]) -> None:
    """Raise UsageError unless the run before, if any, was of this bundle and made in the same way."""
    last = store.db.execute("SELECT * FROM run ORDER BY id DESC LIMIT 1").fetchone()
    if last is None:
        return
    where = store.path.parent
    if last["bundle_sha256"] != opened.bundle.sha256:
        raise UsageError(f"{where} holds results of another bundle ({last['bundle']}): choose another --out")
    before = {_RENAMED.get(name, name): value for name, value in json.loads(last["settings"]).items()}
    now = json.loads(json.dumps(dict(settings), default=str))
    differences = [
        f"{name.replace('_', '-')} was {before[name]}, now {now[name]}"
        for name in DECIDING
        if name in before and name in now and before[name] != now[name]
    ]
    executed = ("variant", opened.variant.file), ("backend", opened.backend.name)
    executed = *executed, ("execution_precision", opened.execution_precision)
    differences += [f"{name} was {last[name]}, now {value}" for name, value in executed if last[name] != value]
    if differences:
        raise UsageError(
            f"{where} was begun with other settings ({'; '.join(differences)}): resume with the same, or choose "
            "another --out"
        )


def _proof(opened: OpenedSession) -> dict[str, object]:
    """What a report repeats of the proof of what is run."""
    certificate = opened.certificate
    return {
        "warning": opened.warning,
        "signature": opened.bundle.signature,
        "verdict": certificate.verdict,
        "images": certificate.evidence.images,
        "source": certificate.evidence.source,
        "reference": certificate.evidence.reference,
        "unmeasured": list(certificate.unmeasured),
        "from_this_machine": opened.from_this_machine,
    }
