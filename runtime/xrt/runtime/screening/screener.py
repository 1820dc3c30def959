"""The screener: a bundle opened on a back end, and a pool that decodes while it infers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import numpy as np

from xrt.runtime.backends import Outputs, SessionOptions
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.decisions import excess, positives, probabilities
from xrt.runtime.errors import UsageError
from xrt.runtime.imaging.pool import DecodingPool
from xrt.runtime.imaging.prepare import NotPrepared, Prepared, PrepareOptions
from xrt.runtime.imaging.radiograph import DecodeLimits
from xrt.runtime.opening import OpenedSession, open_session
from xrt.runtime.screening.boxes import box_of_map
from xrt.runtime.screening.result import Finding, Result

Key = TypeVar("Key")


class Screener:
    """Scores radiographs with a bundle. Use it as a context manager:

        with Screener(Bundle.open("chest.xrt")) as screener:
            for result in screener.screen(paths):
                print(result.key, result.status, [f.class_name for f in result.findings if f.positive])

    Opening raises what `open_session` raises; then nothing is scored. Decoding runs in spawned processes, so a
    script needs `if __name__ == "__main__":`; `workers=0` decodes in this process, without time and memory limits.
    """

    def __init__(
        self,
        bundle: Bundle | str | Path,
        *,
        backend: str = "auto",
        precision: str = "auto",
        batch_size: int = 8,
        workers: int | None = None,
        threads: int = 0,
        any_body_part: bool = False,
        limits: DecodeLimits | None = None,
    ) -> None:
        if batch_size < 1:
            raise UsageError(f"batch_size must be 1 or more, not {batch_size}")
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        self.batch_size = batch_size
        self._backend, self._precision = backend, precision
        self._session_options = SessionOptions(threads=threads)
        options = PrepareOptions(self.bundle.manifest.preprocessing, any_body_part, limits=limits or DecodeLimits())
        self._pool = DecodingPool(options, workers)
        self._stack = ExitStack()
        self._opened: OpenedSession | None = None

    def __enter__(self) -> Screener:
        opened = open_session(
            self.bundle, backend=self._backend, precision=self._precision, options=self._session_options
        )
        self._stack.enter_context(opened.session)
        self._stack.enter_context(self._pool)
        self._opened = opened
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened = None
        self._stack.__exit__(kind, error, trace)

    @property
    def opened(self) -> OpenedSession:
        """The session in use. Raises RuntimeError outside the `with` block."""
        if self._opened is None:
            raise RuntimeError("a Screener is used inside its `with` block")
        return self._opened

    def screen(self, paths: Iterable[str | Path]) -> Iterator[Result[Path]]:
        """Score files; results come in their order, each as soon as its batch is done."""
        return self.screen_files((Path(path), Path(path), "") for path in paths)

    def screen_files(self, files: Iterable[tuple[Key, Path, str]]) -> Iterator[Result[Key]]:
        """Score (key, path, known SHA-256 or "") triples; one whose content is known comes back `unchanged`.

        Memory is bounded: at most two batches and what the workers hold are in flight.
        """
        held: list[tuple[Key, Prepared | NotPrepared]] = []
        ready = 0
        for key, prepared in self._pool.map(files, in_flight=2 * self.batch_size + 2 * self._pool.workers):
            held.append((key, prepared))
            ready += isinstance(prepared, Prepared)
            if ready == self.batch_size or len(held) >= 8 * self.batch_size:
                yield from self._score(held)
                held, ready = [], 0
        yield from self._score(held)

    def _score(self, held: list[tuple[Key, Prepared | NotPrepared]]) -> Iterator[Result[Key]]:
        batch = [prepared.input for _, prepared in held if isinstance(prepared, Prepared)]
        rows = iter(self._rows(np.stack(batch)[:, None])) if batch else iter(())
        for key, prepared in held:
            if isinstance(prepared, NotPrepared):
                yield Result(key, prepared.status, prepared.reason, prepared.sha256)
            elif (row := next(rows)) is None:
                yield Result(key, "failed", "the model gave NaN or infinity for this image", prepared.sha256)
            else:
                yield self._result(key, prepared, row)

    def _rows(self, images: np.ndarray) -> list[tuple[list[Finding], dict[str, np.ndarray]] | None]:
        """Findings and maps by class name, for each image of a batch; None where the outputs are not finite."""
        outputs = self.opened.session.infer(images)
        manifest = self.bundle.manifest
        probability = probabilities(outputs.logits, manifest)
        positive, over = positives(probability, manifest), excess(probability, manifest)
        rows: list[tuple[list[Finding], dict[str, np.ndarray]] | None] = []
        for i in range(len(images)):
            if not all(np.isfinite(values[i]).all() for values in (outputs.logits, *outputs.cams.values())):
                rows.append(None)
                continue
            findings = []
            for c, spec in enumerate(manifest.logit_classes):
                weighted = spec.urgency * over[i, c] if over[i, c] > 0 else over[i, c]
                findings.append(
                    Finding(
                        class_name=spec.name,
                        logit=float(outputs.logits[i, c]),
                        probability=float(probability[i, c]),
                        threshold=None if manifest.task == "multiclass" else spec.threshold,
                        positive=bool(positive[i, c]),
                        excess=float(over[i, c]),
                        urgency=float(weighted) if spec.urgency > 0 else None,
                    )
                )
            rows.append((findings, self._maps(outputs, i)))
        return rows

    def _maps(self, outputs: Outputs, i: int) -> dict[str, np.ndarray]:
        graph = self.bundle.manifest.graph
        indices = graph.explained if outputs.cam_classes is None else outputs.cam_classes[i]
        cams = outputs.cams[graph.cams[0].output][i]
        return {
            self.bundle.manifest.map_class(int(c)): cams[m] for m, c in enumerate(() if indices is None else indices)
        }

    def _unlike_training(self, image: np.ndarray) -> tuple[str, ...]:
        """A note when the input's mean or deviation lies outside what training saw."""
        seen = self.bundle.manifest.input_statistics
        if seen is None:
            return ()
        inside = seen.mean[0] <= image.mean() <= seen.mean[1] and seen.std[0] <= image.std() <= seen.std[1]
        return () if inside else ("brightness or contrast unlike the training images",)

    def _result(self, key: Key, prepared: Prepared, row: tuple[list[Finding], dict[str, np.ndarray]]) -> Result[Key]:
        findings, maps = row
        size, stored = prepared.input.shape, (prepared.height, prepared.width)
        boxed = []
        for finding in findings:
            cam = maps.get(finding.class_name)
            box = box_of_map(cam, prepared.placement, size, stored) if finding.positive and cam is not None else None
            boxed.append(Finding(**{**vars(finding), "box": box}))
        return Result(
            key=key,
            status="ok",
            sha256=prepared.sha256,
            notes=prepared.notes + self._unlike_training(prepared.input),
            width=prepared.width,
            height=prepared.height,
            input_size=(size[0], size[1]),
            view=prepared.view,
            study_uid=prepared.study_uid,
            sop_instance_uid=prepared.sop_instance_uid,
            findings=tuple(boxed),
            maps=maps,
            preview=prepared.preview,
            placement=prepared.placement,
        )
