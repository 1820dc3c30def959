"""What the record of screening costs, apart from decoding and inference.

    python -m xrt.benchmarks.speed.record NAME.xrt [--rows 4000 16000 64000] [--files 10000]

Three figures: seconds to write worklist and report over so many rows; files a second that are listed and recorded where
decoding and inference are replaced by results that are there already; and peak memory of whole runs, of `--files` small
images and of a tenth as many.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from xrt.runtime._io import RESULTS_NAME
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.geometry import Box
from xrt.runtime.progress import SILENT
from xrt.runtime.screening.database import connect
from xrt.runtime.screening.listing import Listing
from xrt.runtime.screening.options import TriageOptions
from xrt.runtime.screening.report import write_report
from xrt.runtime.screening.result import Finding, Result
from xrt.runtime.screening.run import Run
from xrt.runtime.screening.screener import Screener, ScreeningOptions
from xrt.runtime.screening.store import ResultsStore
from xrt.runtime.screening.triage import triage
from xrt.runtime.screening.worklist import write_worklist

Key = TypeVar("Key")
_POSITIVE = 8


class RecordOnly(Screener):
    """A screener that has every result already: eight findings and a map of each class."""

    def screen_files(
        self, files: Iterable[tuple[Key, Path, str] | None], *, preview: bool = True
    ) -> Iterator[Result[Key]]:
        """A result for every file, which nobody opens."""
        names = [spec.name for spec in self.bundle.manifest.logit_classes]
        cam = np.random.default_rng(0).random((7, 7), np.float32)
        findings = tuple(
            Finding(name, 1.0, 0.7, 0.5, c < _POSITIVE, 0.4, 0.4, Box(1, 2, 30, 40) if c < _POSITIVE else None)
            for c, name in enumerate(names)
        )
        for number, file in enumerate(file for file in files if file is not None):
            yield Result(
                file[0], "ok", sha256=f"{number:064x}", width=1024, height=1024, findings=findings,
                maps=dict.fromkeys(names, cam),
            )  # fmt: skip


def measure_recording(bundle: Bundle, files: int) -> tuple[float, dict[str, float]]:
    """Files a second that are listed and recorded, reports included, and the seconds of worklist and report alone."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, out = Path(scratch) / "in", Path(scratch) / "out"
        for number in range(files):
            file = folder / f"{number // 1000}" / f"{number}.png"
            if not number % 1000:
                file.parent.mkdir(parents=True)
            file.touch()
        options = TriageOptions(screening=ScreeningOptions(workers=0), heatmaps="none", study_by="image")
        with RecordOnly(bundle, options=options.screening) as screener, ResultsStore(out) as store:
            started = time.perf_counter()
            listing = Listing([folder], out)
            Run(store, screener, out, options, SILENT, lambda: "").screen(list(listing), listing)
            seconds = time.perf_counter() - started
        db, reports = connect(out / RESULTS_NAME), dict[str, float]()
        for name, write in ("worklist.csv", write_worklist), ("report.html", write_report):
            started = time.perf_counter()
            write(db, out / name)
            reports[name] = time.perf_counter() - started
        db.close()
    return files / seconds, reports


def measure_memory(bundle: Path, files: int) -> float:
    """Peak resident MiB of the process that screens so many small files, in a process of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "in"
        folder.mkdir()
        rng = np.random.default_rng(0)
        smooth = Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).resize((128, 128), Image.Resampling.BICUBIC)
        for number in range(files):
            pixels = np.roll(np.asarray(smooth), number, axis=(0, 1)).copy()
            pixels[0, : pixels.shape[1] // 2] = number % 251
            Image.fromarray(pixels).save(folder / f"{number}.png", compress_level=1)
        command = [sys.executable, "-m", __spec__.name, str(bundle), "--one-run", str(folder)]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def _one_run(bundle: Path, folder: Path) -> None:
    """Screen a folder and print the peak memory of this process, in MiB."""
    with tempfile.TemporaryDirectory() as scratch:
        triage(Bundle.open(bundle), [folder], Path(scratch) / "out", TriageOptions())
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    """Print the three figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rows", type=int, nargs="*", default=(4000, 16000, 64000))
    parser.add_argument("--files", type=int, default=10_000, help="files of the larger run whose memory is measured")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one-run", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one_run is not None:
        return _one_run(given.bundle, given.one_run)
    figures: defaultdict[str, dict[int, object]] = defaultdict(dict)
    for rows in given.rows:
        rate, seconds = measure_recording(Bundle.open(given.bundle), rows)
        figures["files_per_second"][rows], figures["report_seconds"][rows] = rate, seconds
        shown = ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items())
        print(f"{rows} rows: listed and recorded {rate:.0f} files a second; {shown}", flush=True)
    for files in (given.files // 10, given.files) if given.files else ():
        figures["peak_mib"][files] = peak = measure_memory(given.bundle, files)
        print(f"{files} files: peak {peak:.0f} MiB", flush=True)
    if given.json is not None:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")
    return None


if __name__ == "__main__":
    main()
