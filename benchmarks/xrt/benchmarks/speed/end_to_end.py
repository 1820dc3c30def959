"""Screening from files to results against the bound of its stages.

    python -m xrt.benchmarks.speed.end_to_end NAME.xrt FOLDER [--heatmaps all] [--backend openvino]

The stages are the product's own code, each measured alone on one thread: read and hash, decode with its checks,
preprocess, infer, decide (findings with the boxes of their maps), draw and encode where asked, record. Their sum over
the number of cores is the bound: no pipeline of this code is faster. What is printed is how near to it a whole run
comes, and images per second.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from xrt.runtime._io import sha256_of
from xrt.runtime.backends import SessionOptions
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.device import usable_cores
from xrt.runtime.heatmaps import box_of_map
from xrt.runtime.imaging import decode_radiograph
from xrt.runtime.imaging.content_check import check_content, require_picture
from xrt.runtime.imaging.decoders import read_bytes
from xrt.runtime.imaging.load import LoadedImage, LoadOptions, load_radiograph, preview_of
from xrt.runtime.preprocessing import preprocess
from xrt.runtime.screening.listing import Listing
from xrt.runtime.screening.maps import pack
from xrt.runtime.screening.options import Heatmaps, TriageOptions
from xrt.runtime.screening.overlays import draw, drawing_job
from xrt.runtime.screening.runs import start_run
from xrt.runtime.screening.screener import Screener, ScreeningOptions
from xrt.runtime.screening.store import ResultsStore, Study
from xrt.runtime.screening.triage import triage
from xrt.runtime.session import open_session

STAGES = ("read and hash", "decode", "preprocess", "infer", "decide", "draw", "record")


@dataclass
class StageTimes:
    """Seconds of one thread, by stage, and the images that they are for."""

    images: int
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """Add the time within to a stage."""
        started = time.perf_counter()
        yield
        self.seconds[stage] += time.perf_counter() - started

    @property
    def per_image_ms(self) -> dict[str, float]:
        """Milliseconds an image, by stage."""
        return {stage: 1e3 * self.seconds[stage] / self.images for stage in STAGES}

    def bound_ms(self, cores: int) -> float:
        """The least that an image can take on so many cores."""
        return sum(self.per_image_ms.values()) / cores


def measure_stages(
    bundle: Bundle, folder: Path, images: int, *, backend: str, precision: str, heatmaps: Heatmaps, batch_size: int
) -> StageTimes:
    """Each stage of screening the first `images` files of a folder, alone and on one thread."""
    options = LoadOptions(bundle.manifest.preprocessing)
    files = [file for file, _ in zip(Listing([folder], folder / "nowhere"), range(images), strict=False)]
    times = StageTimes(len(files))
    for file in files:
        with times.of("read and hash"):
            data = read_bytes(file.file, options.limits)
            sha256_of(data)
        with times.of("decode"):
            radiograph = decode_radiograph(data, options.decode, suffix=file.file.suffix)
            require_picture(radiograph.pixels)
            check_content(radiograph.upright)
        with times.of("preprocess"):
            preprocess(radiograph.upright, options.preprocessing)
            if heatmaps != "none":
                preview_of(radiograph.upright)
    loaded = [load_radiograph(file.file, options) for file in files]
    inputs = np.stack([image.input for image in loaded if isinstance(image, LoadedImage)])[:, None]
    one_thread = SessionOptions(threads=1)
    with open_session(bundle, backend=backend, precision=precision, options=one_thread) as opened:
        opened.session.infer(inputs[:batch_size])
        whole = len(inputs) // batch_size * batch_size
        for start in range(0, whole, batch_size):
            with times.of("infer"):
                opened.session.infer(inputs[start : start + batch_size])
        times.seconds["infer"] *= len(files) / whole
    in_process = ScreeningOptions(batch_size, workers=0, threads=1)
    with (
        tempfile.TemporaryDirectory() as scratch,
        Screener(bundle, backend=backend, precision=precision, options=in_process) as screener,
        ResultsStore(Path(scratch)) as store,
    ):
        results = list(screener.screen_files((file, file.file, "") for file in files))
        for result in results:
            with times.of("decide"):
                for finding in result.findings:
                    if finding.positive and finding.class_name in result.maps and result.placement is not None:
                        cam = result.maps[finding.class_name]
                        box_of_map(cam, result.placement, result.input_size, result.upright_size)
        names = []
        for result in results:
            job, drawn = drawing_job(result, Path(scratch), every_class=heatmaps == "all")
            names.append(drawn)
            if job is not None and heatmaps != "none":
                with times.of("draw"):
                    draw(job)
        run = start_run(store, screener.opened, {})
        with times.of("record"), store.transaction():
            for result, drawn in zip(results, names, strict=True):
                root, path, _ = result.key
                store.record(run, root, path, result, Study(path, path), drawn, pack(result.maps))
    return times


def measure_run(bundle: Bundle, folder: Path, options: TriageOptions) -> tuple[float, int]:
    """Milliseconds an image of a whole run from when the session is open, and images."""
    asked_at: list[float] = []

    def note() -> str:
        """Asked before every file: the first time as soon as the session is open."""
        asked_at.append(time.perf_counter())
        return ""

    with tempfile.TemporaryDirectory() as out:
        summary = triage(bundle, [folder], Path(out) / "results", options, stop=note)
        seconds = time.perf_counter() - asked_at[0]
    images = sum(summary.counts.values())
    return 1e3 * seconds / images, images


def measure_first(bundle: Path, folder: Path, options: TriageOptions) -> float:
    """Seconds from opening a bundle to the first result of a folder."""
    started = time.perf_counter()
    screener = Screener(bundle, backend=options.backend, precision=options.precision, options=options.screening)
    with screener:
        next(screener.screen(file.file for file in Listing([folder], folder / "nowhere")))
        return time.perf_counter() - started


def main() -> None:
    """Print the stages, the bound, and how near to it whole runs come."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--heatmaps", choices=("positive", "all", "none"), default="none")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--streams", type=int)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--stage-images", type=int, default=64, help="how many files the stages are measured on")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    bundle = Bundle.open(given.bundle)
    screening = ScreeningOptions(given.batch_size, given.workers, streams=given.streams)
    options = TriageOptions(given.backend, given.precision, screening=screening, heatmaps=given.heatmaps)
    cores, rounds = usable_cores(), []
    for _ in range(given.rounds):
        stages = measure_stages(
            bundle,
            given.folder,
            given.stage_images,
            backend=given.backend,
            precision=given.precision,
            heatmaps=given.heatmaps,
            batch_size=given.batch_size,
        )
        first = measure_first(given.bundle, given.folder, options)
        run_ms, images = measure_run(bundle, given.folder, options)
        bound = stages.bound_ms(cores)
        rounds.append({"stages_ms": stages.per_image_ms, "bound_ms": bound, "run_ms": run_ms, "first_s": first})
        shown = ", ".join(f"{stage} {ms:.1f}" for stage, ms in stages.per_image_ms.items())
        print(f"{images} images: {shown} ms; bound {bound:.1f} ms on {cores} cores")
        print(f"  run {run_ms:.1f} ms an image, {1e3 / run_ms:.1f} a second, {bound / run_ms:.2f} of the bound")
        print(f"  first result after {first:.2f} s with the session; load {os.getloadavg()[0]:.1f}")
    if given.json is not None:
        given.json.write_text(json.dumps(rounds, indent=2) + "\n")


if __name__ == "__main__":
    main()
