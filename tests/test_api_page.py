"""The page of public names is what the docstrings say, and the examples in it run."""

from __future__ import annotations

import importlib.util
import re
import shutil
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
GRAPH = """
<ir_version: 9, opset_import: ["" : 18]>
chest (float[n,1,64,64] pixels) => (float[n,2] logits) <float[4,1,3,3] w, float[4,2] v>
{
    convolved = Conv <strides=[4,4], pads=[1,1,1,1]> (pixels, w)
    layer4 = Relu (convolved)
    pooled = GlobalAveragePool (layer4)
    flat = Flatten <axis=1> (pooled)
    logits = MatMul (flat, v)
}
"""


def api():
    spec = importlib.util.spec_from_file_location("api", REPOSITORY / "docs" / "api.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_docstrings_say():
    assert (REPOSITORY / "docs" / "api.md").read_text() == api().page(), "run `python docs/api.py`"


def examples(part: str) -> list[str]:
    """The code in the docstring of a part."""
    text = api()._prose(import_module(f"xrt.{part}").__doc__)
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def here(tmp_path, monkeypatch, bundle_path, phantom_folder) -> Path:
    """A working directory with what the examples name."""
    import onnx

    shutil.copytree(bundle_path, tmp_path / "chest.xrt")
    shutil.copytree(phantom_folder, tmp_path / "nih")
    shutil.copytree(REPOSITORY / "tests" / "compatibility" / "written" / "checkpoint", tmp_path / "runs" / "pm")
    (tmp_path / "incoming").mkdir()
    images = sorted((phantom_folder / "images").iterdir())
    for image, name in zip(images, ("a.png", "b.png", "incoming/c.png"), strict=False):
        shutil.copy(image, tmp_path / name)
    model = onnx.parser.parse_model(GRAPH)
    rng = np.random.default_rng(0)
    for name, shape in (("w", (4, 1, 3, 3)), ("v", (4, 2))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name))
    onnx.save(model, tmp_path / "chest.onnx")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("part", ["runtime", "train", "export", "benchmarks"])
def test_the_examples_run(part, here, capsys):
    code = "\n".join(examples(part))
    assert f"from xrt.{part} import" in code
    exec(compile(code, f"xrt.{part}", "exec"), {"__name__": "example"})
    assert capsys.readouterr().out or part == "benchmarks"
