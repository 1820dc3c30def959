"""The command `xrt`: collects the commands of every installed part and turns errors into one line."""

from __future__ import annotations

import inspect
import io
import logging
import sqlite3
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points, version
from typing import Annotated, Any

import typer

from xrt.runtime._io import on_one_line
from xrt.runtime.cli.logs import LogFormat, configure_logs, release_logs
from xrt.runtime.cli.renamed import Command
from xrt.runtime.errors import MissingDependency, XrtError

GROUP = "xrt.commands"
# In the order in which they are used; the value is what to install for the command.
COMMANDS = {
    "demo": "xrt-benchmarks[torch]",
    "phantoms": "xrt-runtime",
    "train": "xrt-train[lightning]",
    "search": "xrt-train[search]",
    "export": "xrt-export",
    "sign": "xrt-runtime",
    "build": "xrt-runtime",
    "parity": "xrt-benchmarks[torch]",
    "triage": "xrt-runtime",
    "draw": "xrt-runtime",
    "purge": "xrt-runtime",
    "benchmark": "xrt-benchmarks",
    "evaluate": "xrt-benchmarks",
    "explain": "xrt-benchmarks",
    "faithfulness": "xrt-benchmarks",
    "doctor": "xrt-runtime",
}
EPILOG = "Exit codes: 0 done; 1 failed, or refused by the gate; 2 wrong usage; 3 finished, but some inputs failed."


def build_app() -> typer.Typer:
    """The Typer application with the commands of all installed parts."""
    app = typer.Typer(
        name="xrt",
        help="Deploy chest X-ray classifiers: train, export with heatmaps in the graph, certify, screen, measure.",
        epilog=EPILOG,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    installed = {point.name: point for point in entry_points(group=GROUP)}
    for name in [*COMMANDS, *sorted(installed.keys() - COMMANDS.keys())]:
        function = _load(installed[name]) if name in installed else None
        if function is not None:
            wanted = name not in ("demo", "doctor")
            app.command(name, cls=Command, help=_reflowed(function.__doc__ or ""), no_args_is_help=wanted)(function)
        else:
            context = {"ignore_unknown_options": True, "allow_extra_args": True}
            app.command(name, context_settings=context, help=f"(install {COMMANDS[name]})".replace("[", r"\["))(
                _absent(name)
            )
    return app


def main() -> None:
    """Entry point of the console script."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file may have a name that this terminal's encoding lacks.
        sys.stdout.reconfigure(errors="backslashreplace")
    configure_logs("text")
    try:
        build_app()()
    except XrtError as error:
        print(f"xrt: {on_one_line(str(error))}", file=sys.stderr)
        sys.exit(error.exit_code)
    except (OSError, sqlite3.Error) as error:
        # A full disk, a folder without permission, a damaged results.db: nothing that a traceback would explain.
        print(f"xrt: {on_one_line(str(error))}", file=sys.stderr)
        sys.exit(1)
    finally:
        release_logs()


def _root(
    show_version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    log_format: Annotated[
        LogFormat,
        typer.Option(
            envvar="XRT_LOG_FORMAT",
            help="Warnings on stderr as lines for a person, or every event as a line of JSON for a collector of logs.",
        ),
    ] = "text",
) -> None:
    configure_logs(log_format)
    if show_version:
        print(version("xrt-runtime"))
        raise typer.Exit


def _load(point: EntryPoint) -> Callable[..., Any] | None:
    try:
        return point.load()
    except ModuleNotFoundError as error:
        # The part was removed but its metadata was not, or one of its packages is missing.
        logging.getLogger(__name__).debug("%s cannot be loaded: %s", point.value, error)
        return None


def _reflowed(docstring: str) -> str:
    """A docstring whose paragraphs are one line each, for the terminal to wrap; indented ones stay as they are."""
    paragraphs = inspect.cleandoc(docstring).split("\n\n")
    return "\n\n".join(text if text.startswith(" ") else text.replace("\n", " ") for text in paragraphs)


def _absent(name: str) -> Callable[[], None]:
    def command() -> None:
        raise MissingDependency(f"`xrt {name}` is not installed: pip install '{COMMANDS[name]}'")

    return command
