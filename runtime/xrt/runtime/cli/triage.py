"""`xrt triage`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from xrt.runtime.cli.output import (
    CheckOption,
    JsonOption,
    TerminalProgress,
    TrustOption,
    content_checks,
    say,
    write_json,
)
from xrt.runtime.cli.renamed import renamed_options
from xrt.runtime.cli.stopping import EXIT_CODES, stop_signals

_REASONS = 5
"""How many reasons for files without a score are printed, the most frequent first."""


@renamed_options({"--any-body-part": "--skip-body-part-check"})
def triage(
    bundle: Annotated[Path, typer.Argument(metavar="NAME.xrt", help="The bundle to screen with.")],
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...", help="Radiographs or folders of them: PNG, JPEG, TIFF, BMP, WebP, JPEG 2000, DICOM."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for results.db, worklist.csv, report.html and heatmaps/.")
    ],
    backend: Annotated[str, typer.Option(help="Back end: auto, or one that `xrt doctor` lists.")] = "auto",
    precision: Annotated[str, typer.Option(help="Variant: auto, fp32, fp16 or int8.")] = "auto",
    require_radiographs: Annotated[
        bool,
        typer.Option(
            "--require-radiographs",
            help="Refuse a variant that was compared with its model on synthetic phantoms only.",
        ),
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, max=1024, help="Images per run of the graph.")] = 8,
    workers: Annotated[
        int | None, typer.Option(min=0, max=64, help="Decoding processes; by default one per core, at most 8.")
    ] = None,
    threads: Annotated[int, typer.Option(min=0, help="Threads of the back end; 0 takes every core.")] = 0,
    heatmaps: Annotated[
        Literal["positive", "all", "none"],
        typer.Option(help="Write overlays of findings, of all classes, or none; `xrt draw` draws them afterwards."),
    ] = "positive",
    study_by: Annotated[
        Literal["uid", "folder", "stem", "image"],
        typer.Option(
            help="What makes images one study: the DICOM StudyInstanceUID, the folder, the file name up to its last "
            "_ or -, or nothing."
        ),
    ] = "uid",
    skip_body_part_check: Annotated[
        bool,
        typer.Option(
            "--skip-body-part-check",
            help="Score DICOM files whose header says they are no frontal chest, too.",
        ),
    ] = False,
    check: CheckOption = None,
    follow_links: Annotated[
        bool, typer.Option("--follow-links", help="Also look at what links lead to outside of the folders given.")
    ] = False,
    redact_paths: Annotated[
        bool,
        typer.Option(
            "--redact-paths", help="Record a hash in place of each path and identifier, which may carry names."
        ),
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue in --out: do what is new, changed or failed before.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on until stopped: screen files as they arrive in the folders.")
    ] = False,
    interval: Annotated[
        float, typer.Option(min=0.1, help="With --watch: seconds between two scans of the folders.")
    ] = 30.0,
    settle: Annotated[
        float, typer.Option(min=0.0, help="With --watch: seconds without change after which a file is whole.")
    ] = 5.0,
    on_positive: Annotated[
        str | None,
        typer.Option(
            "--on-positive",
            metavar="CMD",
            help="A command that is told of every image with findings: JSON on its standard input, a key as its last "
            "argument. It is called again until its exit code is 0, so a key may come twice. No shell runs it.",
        ),
    ] = None,
    trust: TrustOption = None,
    json: JsonOption = None,
) -> None:
    """Screen radiographs: findings, heatmaps, and a worklist in order of urgency.

    Files that cannot be read, or are damaged, are recorded as failed with their reason and make the exit code 3; those
    that are no frontal chest radiograph by their header are recorded as rejected.

    SIGTERM and Ctrl-C finish what is under way; worklist and report then say how far the run came, --resume goes on,
    and the exit code is 143 or 130. A second one stops at once, which loses a second's work at most.

    With --watch the run ends by SIGTERM or Ctrl-C, with exit code 0, and OUT/health.json says every ten seconds how it
    goes; started again on the same OUT, it goes on.

    Examples:

      xrt triage chest.xrt incoming/ --out results/

      xrt triage chest.xrt /mnt/xrays --out results/ --watch --on-positive "/usr/local/bin/tell-ris --urgent"
    """
    from xrt.runtime.bundle.reader import Bundle
    from xrt.runtime.screening.options import TriageOptions
    from xrt.runtime.screening.screener import ScreeningOptions
    from xrt.runtime.screening.triage import triage as screen
    from xrt.runtime.screening.watch import WatchOptions

    options = TriageOptions(
        backend=backend,
        precision=precision,
        require_radiographs=require_radiographs,
        screening=ScreeningOptions(
            batch_size, workers, threads, skip_body_part_check, content_checks=content_checks(check)
        ),
        heatmaps=heatmaps,
        study_by=study_by,
        redact_paths=redact_paths,
        follow_links=follow_links,
        resume=resume,
        watch=WatchOptions(interval, settle) if watch else None,
        on_positive=_command(on_positive),
    )
    with TerminalProgress() as progress, stop_signals() as stopped:
        summary = screen(
            Bundle.open(bundle, trust=trust), paths, out, options, progress=progress, stop=lambda: "".join(stopped)
        )
    print(", ".join(f"{summary.counts[s]} {s}" for s in ("ok", "rejected", "failed", "unchanged") if summary.counts[s]))
    for reason, count in summary.reasons.most_common(_REASONS):
        print(f"  {count} {reason}")
    if len(summary.reasons) > _REASONS:
        print(f"  and {len(summary.reasons) - _REASONS} other reasons, in results.db")
    if summary.left_out:
        reasons = ", ".join(f"{count} {reason}" for reason, count in summary.left_out.items())
        print(f"listed {summary.listed}, left out {sum(summary.left_out.values())}: {reasons}")
    if summary.gone:
        print(f"{summary.gone} that were there before are no longer there")
    if not summary.listed:
        print("no files: nothing was screened")
    if summary.positives:
        print("findings: " + ", ".join(f"{name} {count}" for name, count in summary.positives.most_common()))
    print(f"report: {out / 'report.html'}")
    write_json(json, {**vars(summary), "out": str(out)})
    if summary.undelivered:
        say(f"{summary.undelivered} events were not taken by {on_positive}: the next run in {out} tries them again")
    if summary.interrupted and not watch:
        say(f"interrupted by {summary.interrupted}: --resume goes on")
        raise typer.Exit(EXIT_CODES.get(summary.interrupted, 1))
    if summary.failed and not watch:
        raise typer.Exit(3)


def _command(text: str | None) -> tuple[str, ...]:
    """A command line as a list, as a shell would split it. Raises UsageError where quotes do not match."""
    import shlex

    from xrt.runtime.errors import UsageError

    try:
        return tuple(shlex.split(text or ""))
    except ValueError as error:
        raise UsageError(f"--on-positive {text!r}: {error}") from error
