"""A host program: it imports every module of xrt, exports a model and screens a folder, and says what that changed.

Run as `python host_process.py FOLDER`, with an argument `sabotage` to change something on purpose.
"""

from __future__ import annotations

import importlib
import logging
import pkgutil
import signal
import sys
from pathlib import Path

PARTS = ("runtime", "train", "export", "benchmarks")


# Some libraries set the level of their own logger when they are imported: that is theirs to answer for.
THIRD_PARTIES = ("torch", "lightning", "onnx", "onnxscript", "onnxruntime", "openvino", "optuna", "torchxrayvision")


def state() -> dict[str, object]:
    """What belongs to the host: Pillow's limit, matplotlib's back end, the path, logging, signal handlers."""
    import matplotlib
    import PIL.Image

    loggers = {name: logging.getLogger(name).level for name in ("", "xrt", *THIRD_PARTIES)}
    return {
        "Pillow's limit": PIL.Image.MAX_IMAGE_PIXELS,
        "matplotlib's back end": matplotlib.rcParams._get_backend_or_none(),
        "sys.path": list(sys.path),
        "logging.disable": logging.root.manager.disable,
        "logging levels": loggers,
        "root handlers": list(logging.root.handlers),
        "root filters": list(logging.root.filters),
        "signal handlers": {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)},
    }


def use_everything(folder: Path) -> None:
    """Import all, export one model, screen three images."""
    for part in PARTS:
        package = importlib.import_module(f"xrt.{part}")
        for module in pkgutil.walk_packages(package.__path__, f"xrt.{part}."):
            importlib.import_module(module.name)

    import torch

    from xrt.export import ExportOptions, TorchSource, publish_source
    from xrt.runtime import ClassSpec, Preprocessing, ScreeningOptions, TriageOptions, triage
    from xrt.runtime.phantoms import write
    from xrt.train.models import Normalisation

    torch.manual_seed(0)
    layers = torch.nn.Conv2d(1, 8, 3, 2, 1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    source = TorchSource(
        name="small",
        module=torch.nn.Sequential(*layers, torch.nn.Linear(8, 3)).eval(),
        task="multilabel",
        classes=tuple(ClassSpec(name=name) for name in ("Mass", "Nodule", "Hernia")),
        explained_class=None,
        preprocessing=Preprocessing(height=64, width=64),
        normalisation=Normalisation(mean=(0.5,), std=(0.25,)),
        origin="test",
        sha256=None,
    )
    options = ExportOptions(precisions=("fp32", "fp16"), force=True)
    bundle = publish_source(source, folder / "small.xrt", options).bundle
    write(folder / "images", layout="nih", count=3, size=64, workers=0)
    screening = TriageOptions(screening=ScreeningOptions(workers=1))
    assert triage(bundle, [folder / "images" / "images"], folder / "results", screening).counts["ok"] == 3


if __name__ == "__main__":
    for library in THIRD_PARTIES:
        importlib.import_module(library)
    before = state()
    use_everything(Path(sys.argv[1]))
    if sys.argv[2:] == ["sabotage"]:
        sys.path.append("elsewhere")
    after = state()
    print("changed:", *(name for name in before if before[name] != after[name]), sep="\n")
