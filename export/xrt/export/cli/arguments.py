"""What the options of `xrt export` say, read from their text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from xrt.runtime.cli.output import comma_separated
from xrt.runtime.errors import UsageError

if TYPE_CHECKING:
    from xrt.runtime.bundle.manifest import CamMethod, Precision


def precisions(text: str) -> tuple[Precision, ...]:
    """`--precision`: the variants in the order of their precision. Raises UsageError for an unknown one."""
    from xrt.runtime.bundle.manifest import PRECISIONS

    names = comma_separated("--precision", text, "fp32,fp16")
    if unknown := [name for name in names if name not in PRECISIONS]:
        raise UsageError(f"--precision takes {', '.join(PRECISIONS)}; given {unknown[0]!r}")
    return tuple(p for p in PRECISIONS if p in names)


def methods(options: list[str] | None) -> tuple[CamMethod, ...]:
    """`--method`, which may be repeated and hold several. Raises UsageError for an unknown one."""
    from xrt.export.cams.methods import METHODS

    names = tuple(dict.fromkeys(name for option in options or ["gradcam"] for name in option.split(",")))
    if unknown := [name for name in names if name not in METHODS]:
        raise UsageError(f"--method takes {', '.join(METHODS)}; given {unknown[0]!r}")
    by_name: dict[str, CamMethod] = {method: method for method in METHODS}
    return tuple(by_name[name] for name in names)


def class_names(text: str | None) -> tuple[str, ...] | None:
    """`--labels`: a list, or a text file with one a line. Raises UsageError when the file is not UTF-8."""
    if text is None:
        return None
    path = Path(text)
    try:
        labels = path.read_text(encoding="utf-8").splitlines() if path.is_file() else text.split(",")
    except OSError:  # a list of labels may be longer than any file name
        labels = text.split(",")
    except UnicodeDecodeError as error:
        raise UsageError(f"--labels {path} is no text file in UTF-8") from error
    return tuple(label.strip() for label in labels if label.strip())


def input_size(text: str | None) -> tuple[int, int] | None:
    """`--input-size`: height and width in pixels. Raises UsageError for anything else, and below 8 pixels."""
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) >= 8 for part in parts):
        raise UsageError(f"--input-size takes a side or HxW in pixels, 8 or more; given {text!r}")
    return int(parts[0]), int(parts[-1])
