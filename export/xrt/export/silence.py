"""Suppressing other libraries' messages about their internals, which do not help a user."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TextIO

_LIBRARIES = ("nncf", "onnx", "onnx_ir", "onnxruntime", "onnxscript", "openvino", "torch")


@contextmanager
def silence(stdout: TextIO | None = None) -> Iterator[None]:
    """Silence the loggers of other libraries, and warnings; send what is printed to `stdout`, by default nowhere.

    Other loggers of the host process go on; afterwards all levels are as before.
    """
    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] in _LIBRARIES]
    loggers = [logging.getLogger(name) for name in {*_LIBRARIES, *names}]
    levels = [logger.level for logger in loggers]
    logging.root.addFilter(_is_from_elsewhere)
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        with warnings.catch_warnings(), redirect_stdout(stdout or io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.root.removeFilter(_is_from_elsewhere)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _is_from_elsewhere(record: logging.LogRecord) -> bool:
    """ONNX Runtime's quantisation logs to the root logger: what comes from a library's folder is dropped."""
    return not any(f"/site-packages/{name}/" in record.pathname.replace("\\", "/") for name in _LIBRARIES)
