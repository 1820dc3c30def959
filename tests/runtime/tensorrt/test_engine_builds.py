"""`xrt build`: what is built for what, what is refused, and what is run."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from runtime.tensorrt.fakes import FakeCuda
from runtime.tensorrt.graphs import GRAPH, SIZE, classifier, in_precision

from xrt.runtime import engine_builds
from xrt.runtime._io import sha256_of
from xrt.runtime.bundle import Bundle, KnownAnswers, write_bundle
from xrt.runtime.bundle.manifest import ClassSpec, KnownAnswersSpec, Manifest, Provenance, Variant
from xrt.runtime.cli.build import build
from xrt.runtime.engine_builds import NOT_RUN, build_engines, plan_builds
from xrt.runtime.errors import BackendError, UsageError
from xrt.runtime.progress import Progress
from xrt.runtime.tensorrt.builder import Batches
from xrt.runtime.tensorrt.distributions import TENSORRT, TENSORRT_RTX

needs_rtx = pytest.mark.skipif(
    TENSORRT_RTX.unavailable_reason() is not None, reason="TensorRT for RTX is not installed"
)


class Steps(Progress):
    def __init__(self) -> None:
        self.steps: list[str] = []

    def step(self, message: str) -> None:
        self.steps.append(message)


@pytest.fixture(scope="session")
def of_all_kinds(tmp_path_factory) -> Bundle:
    """A bundle with fp32, fp16 and int8 for the GPU, and one int8 for CPUs alone, which is the fp32 file's double."""
    models = {p: in_precision(classifier(), p).SerializeToString() for p in ("fp32", "fp16", "int8")}
    files = {f"{p}.onnx": data for p, data in models.items()} | {"cpu.onnx": models["fp32"]}
    known = KnownAnswers(
        np.zeros((1, 1, 8, 8), np.uint8), np.zeros((1, 2), np.float32), {"cams": np.zeros((1, 2, 8, 8), np.float32)}
    ).to_bytes()
    variants = [
        Variant(file=f"{p}.onnx", sha256=sha256_of(models[p]), precision=p, target="any" if p == "fp32" else "gpu")
        for p in models
    ]
    variants.append(Variant(file="cpu.onnx", sha256=sha256_of(models["fp32"]), precision="int8", target="cpu"))
    manifest = Manifest(
        name="kinds",
        task="multilabel",
        classes=(ClassSpec(name="Mass"), ClassSpec(name="Nodule")),
        preprocessing=SIZE,
        graph=GRAPH,
        variants=tuple(variants),
        known_answers=KnownAnswersSpec(file="known.npz", sha256=sha256_of(known), count=1, source="synthetic"),
        provenance=Provenance(source="test", created="2026-01-01"),
    )
    return write_bundle(tmp_path_factory.mktemp("kinds") / "kinds.xrt", manifest, files | {"known.npz": known})


def only(bundle: Bundle, *files: str) -> Bundle:
    variants = tuple(v for v in bundle.manifest.variants if v.file in files)
    return replace(bundle, manifest=bundle.manifest.model_copy(update={"variants": variants}))


@needs_rtx
def test_every_variant_that_a_gpu_may_run_is_built(of_all_kinds, tmp_path):
    plan = plan_builds(of_all_kinds, "auto", ("sm86",), ())
    assert plan.distribution is TENSORRT_RTX
    assert [v.file for v in plan.variants] == ["fp32.onnx", "fp16.onnx", "int8.onnx"]
    assert [reason.split(" was ")[0] for reason in plan.left_out] == ["cpu.onnx"]
    progress = Steps()
    builds = list(build_engines(of_all_kinds, plan, Batches.up_to(4), folder=tmp_path, progress=progress))
    assert [(r.precision, r.verdict, r.ok) for r in builds] == [(p, NOT_RUN, True) for p in ("fp32", "fp16", "int8")]
    assert progress.steps[0] == "fp32.onnx: building for sm86 with TensorRT for RTX"
    for result in builds:
        assert result.path is not None
        assert result.path.stat().st_size == result.plan_bytes
        assert json.loads((tmp_path / f"{result.path.name}.json").read_text())["batch_most"] == 4


@needs_rtx
def test_a_variant_that_is_not_what_it_is_called_does_not_stop_the_others(of_all_kinds, tmp_path):
    wrong = of_all_kinds.manifest.variants[0].model_copy(update={"precision": "fp16"})
    right = of_all_kinds.manifest.variants[2]
    manifest = of_all_kinds.manifest.model_copy(update={"variants": (wrong, right)})
    bundle = replace(of_all_kinds, manifest=manifest)
    first, second = build_engines(bundle, plan_builds(bundle, "auto", ("sm86",), ()), Batches(), folder=tmp_path)
    assert (first.ok, second.ok) == (False, True)
    assert "fp16 was asked for, and 0 % of the 1 convolutions take it" in first.verdict
    assert len(list(tmp_path.glob("*.plan"))) == 1


@needs_rtx
@pytest.mark.parametrize(
    ("files", "precisions", "message"),
    [
        (
            ["fp32.onnx", "cpu.onnx"],
            ("int8",),
            "cpu.onnx was quantised for a CPU .*: export the int8 variant for",
        ),
        (["fp32.onnx"], ("fp16",), "has no fp16 variant, only fp32: export it with --precision"),
        (["fp32.onnx"], ("fp8",), "has no fp8 variant"),
        (["cpu.onnx"], (), "has no variant for a GPU, only cpu.onnx"),
    ],
)
def test_what_no_gpu_may_run_is_refused(of_all_kinds, files, precisions, message):
    with pytest.raises(UsageError, match=message):
        plan_builds(only(of_all_kinds, *files), "auto", ("sm86",), precisions)


def test_other_back_ends_have_no_engines(of_all_kinds):
    with pytest.raises(
        UsageError, match="no back end 'onnxruntime' that can build engines: choose auto, tensorrt, tensorrt-rtx"
    ):
        plan_builds(of_all_kinds, "onnxruntime", (), ())


def test_tensorrt_does_not_build_ahead(of_all_kinds, monkeypatch):
    from runtime.tensorrt.fakes import fake_distribution

    monkeypatch.setattr(engine_builds, "DISTRIBUTIONS", (fake_distribution(FakeCuda()),))
    with pytest.raises(UsageError, match="TensorRT builds only for its own GPU: leave out --for, or use"):
        plan_builds(of_all_kinds, "tensorrt", ("sm86",), ())


def test_what_is_lacking_is_said(of_all_kinds, monkeypatch):
    absent = [replace(f, missing=lambda: "nothing is installed: pip install it") for f in (TENSORRT, TENSORRT_RTX)]
    monkeypatch.setattr(engine_builds, "DISTRIBUTIONS", absent)
    with pytest.raises(
        BackendError, match=r"no back end can build engines here: tensorrt: nothing .* tensorrt-rtx: nothing"
    ):
        plan_builds(of_all_kinds, "auto", (), ())
    with pytest.raises(
        BackendError, match="back end tensorrt cannot build engines here: nothing is installed: pip install it"
    ):
        plan_builds(of_all_kinds, "tensorrt", (), ())


@needs_rtx
def test_without_a_gpu_a_target_must_be_named(of_all_kinds, monkeypatch):
    monkeypatch.setattr(engine_builds, "cuda_unavailable_reason", lambda: "the driver lists none")
    with pytest.raises(BackendError, match="no GPU to build for: the driver lists none; --for sm86 builds for a named"):
        plan_builds(of_all_kinds, "auto", (), ())


@needs_rtx
def test_the_gpu_that_is_here_is_the_default(of_all_kinds, monkeypatch):
    monkeypatch.setattr(engine_builds, "cuda_unavailable_reason", lambda: None)
    monkeypatch.setattr(engine_builds, "open_cuda", lambda: FakeCuda("sm89"))
    assert plan_builds(of_all_kinds, "tensorrt-rtx", (), ()).targets == ("sm89",)
    monkeypatch.setattr(engine_builds, "open_cuda", lambda: FakeCuda("sm90"))
    with pytest.raises(UsageError, match="does not build for 'sm90'"):
        plan_builds(of_all_kinds, "tensorrt-rtx", (), ())


def xrt(*arguments):
    command = [sys.executable, "-c", "from xrt.runtime.cli.app import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@needs_rtx
def test_the_command_builds_for_every_target(bundle_path, tmp_path):
    done = xrt("build", bundle_path, "--for", "SM86, sm120", "--out", tmp_path / "e", "--json", tmp_path / "b.json")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("fp32 sm86 tensorrt-rtx: ")
    assert lines[0].endswith("% int8): built, not yet run")
    assert "Conv " in lines[1]
    assert "fp32 sm120" in lines[1]
    assert "building for sm86 with TensorRT for RTX" in done.stderr
    assert [r["compute_capability"] for r in json.loads((tmp_path / "b.json").read_text())] == ["sm86", "sm120"]
    assert len(list((tmp_path / "e").glob("*.plan"))) == 2


@needs_rtx
def test_engines_built_ahead_are_installed(bundle_path, tmp_path, monkeypatch):
    monkeypatch.setenv("XRT_CACHE_DIR", str(tmp_path / "cache"))
    ahead = tmp_path / "ahead"
    assert xrt("build", bundle_path, "--for", "sm86", "--out", ahead).returncode == 0
    done = xrt("build", bundle_path, "--for", "sm86,sm89", "--install", ahead)
    assert done.returncode == 1
    first, second, _ = done.stdout.splitlines()
    assert first.startswith("fp32 sm86 tensorrt-rtx: ")
    assert first.endswith(" MB: installed, not yet run")
    assert second.startswith(f"fp32 sm89 tensorrt-rtx: refused: {ahead} holds no engine of this file for sm89")
    assert len(list((tmp_path / "cache" / "engines").glob("*.plan"))) == 1


@needs_rtx
def test_the_command_fails_when_an_engine_is_refused(bundle_path, tmp_path):
    done = xrt("build", bundle_path, "--for", "sm75,sm86", "--out", tmp_path)
    assert done.returncode == 1
    assert "fp32 sm75 tensorrt-rtx: refused: TensorRT for RTX cannot build the engine for sm75" in done.stdout
    assert "built, not yet run" in done.stdout
    assert "1 of 2 engines are not there" in done.stderr


@needs_rtx
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"out": Path("engines")}, "--out goes with --for"),
        ({"targets": "sm86", "out": Path("e"), "install": Path("e")}, "--install takes engines into this machine's"),
        ({"backend": "openvino"}, "no back end 'openvino' that can build engines: choose auto, tensorrt, tensorrt-rtx"),
        ({"targets": "sm90"}, "does not build for 'sm90'"),
        ({"targets": "sm86", "precision": "int8"}, "has no int8 variant, only fp32"),
        ({"targets": ","}, "--for takes names separated by commas, such as .*; given ','"),
        ({"targets": "sm86", "precision": ""}, "--precision takes names separated by commas, such as .*; given ''"),
        ({"targets": "sm86", "max_batch": 0}, "1 image at least"),
    ],
)
def test_wrong_use_is_refused_before_anything_is_built(bundle_path, arguments, message):
    with pytest.raises(UsageError, match=message):
        build(bundle_path, **{"backend": "auto", "precision": "all", "max_batch": 8, **arguments})


@needs_rtx
def test_a_folder_that_cannot_be_written_is_one_line(bundle_path, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(typer.Exit):
        build(bundle_path, "sm86", "auto", "fp32", 8, tmp_path / "file" / "engines")
    assert "refused: " in (output := capsys.readouterr().out)
    assert "cannot be written" in output
