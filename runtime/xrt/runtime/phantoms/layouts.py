"""Write phantoms to disk in the layout of a public data set, with several processes.

The parts that differ are in `nih`, `rsna` and `covid`: which findings the phantom of an index has, which
files one phantom becomes, and which tables the whole data set has. Adding a layout is one file and one line.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Literal, get_args

import xrt.runtime.phantoms.covid as covid
import xrt.runtime.phantoms.nih as nih
import xrt.runtime.phantoms.rsna as rsna
from xrt.runtime.errors import UsageError
from xrt.runtime.phantoms.files import Row
from xrt.runtime.phantoms.records import DEFAULT_CONTRAST, DESCRIPTION
from xrt.runtime.progress import SILENT, Progress

Layout = Literal["nih", "rsna", "covid"]

_CHUNK = 8  # phantoms a task: short enough for a smooth progress bar, long enough to hide the pickling


@dataclass(frozen=True)
class _Writer:
    """What a layout supplies; its functions are importable by name, so they travel to spawned processes."""

    prepare: Callable[[Path], None]  # make folders; raise MissingDependency
    one: Callable[[int, Path, int, int, tuple[float, float]], Row]  # index, out, seed, size, contrast
    tables: Callable[[Path, list[Row]], None]
    size: int  # pixels, the data set's own or a handy one
    about: str


_LAYOUTS: dict[str, _Writer] = {
    "nih": _Writer(nih.prepare, nih.one, nih.tables, 512, "NIH ChestX-ray14"),
    "rsna": _Writer(rsna.prepare, rsna.one, rsna.tables, 512, "the RSNA Pneumonia Detection Challenge"),
    "covid": _Writer(covid.prepare, covid.one, covid.tables, 299, "the COVID-19 Radiography Database"),
}


def write(
    out: Path,
    *,
    layout: Layout = "nih",
    count: int,
    seed: int = 0,
    size: int | None = None,
    contrast: tuple[float, float] = DEFAULT_CONTRAST,
    workers: int | None = None,
    progress: Progress = SILENT,
) -> None:
    """Write `count` phantoms into the folder `out`, which must be absent or empty.

    `size` is the side in pixels; None is the layout's own (512; 299 for covid). `workers` is the number of
    processes (None: one per core; 0 or 1: this process alone) and changes no byte of the result. Files are written
    into a sibling folder that is renamed at the end, so a broken run leaves nothing that looks complete.

    Raises UsageError for an unknown layout, a count under 1, a size under 64 or a folder that is not empty,
    and MissingDependency for rsna without pydicom.
    """
    if layout not in get_args(Layout):
        raise UsageError(f"unknown layout {layout!r}; choose one of {', '.join(get_args(Layout))}")
    writer = _LAYOUTS[layout]
    size = writer.size if size is None else size
    if count < 1:
        raise UsageError(f"count is {count}; write at least 1 phantom")
    if size < 64:
        raise UsageError(f"size is {size}; a phantom needs at least 64 pixels per side")
    out = Path(out)
    with _replacing(out) as folder:
        writer.prepare(folder)
        work = partial(_chunk, layout, folder, seed, size, contrast)
        rows: list[Row] = []
        for chunk in _map(work, count, os.cpu_count() or 1 if workers is None else workers):
            rows.extend(chunk)
            progress.count(len(rows), count, "drawing")
        writer.tables(folder, rows)
        (folder / "README.txt").write_text(
            f"{DESCRIPTION.capitalize()}.\n\n"
            f"{count} computed images in the layout of {writer.about}, written by xrt phantoms"
            f" (seed {seed}, size {size}, contrast {contrast[0]:g} to {contrast[1]:g}).\n"
            "No person was radiographed. Every radiograph carries the word SYNTHETIC at its lower edge,\n"
            "and every file says so in its header.\n"
            "Not for training or testing anything that is meant to judge patients.\n",
            encoding="utf-8",
        )


def _chunk(layout: str, folder: Path, seed: int, size: int, contrast: tuple[float, float], indices: range) -> list[Row]:
    return [_LAYOUTS[layout].one(index, folder, seed, size, contrast) for index in indices]


def _map(work: Callable[[range], list[Row]], count: int, workers: int) -> Iterator[list[Row]]:
    """Results in the order of the indices, from any number of processes."""
    chunks = [range(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]
    if workers <= 1 or len(chunks) == 1:
        yield from map(work, chunks)
        return
    # Spawned, because a forked process may inherit locks that another thread of the caller holds.
    with ProcessPoolExecutor(min(workers, len(chunks)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, chunks)


@contextmanager
def _replacing(out: Path) -> Iterator[Path]:
    """A temporary sibling of `out` that takes its place on success and is removed on failure."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists and is not an empty folder; name another one or remove it first")
    parent = out.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=parent))
    try:
        yield folder
        folder.chmod(0o777 & ~_umask())
        if out.exists():
            out.rmdir()
        folder.rename(out)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
