"""The way from a file to a decision, laid beside what another pipeline made of the same files."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from xrt.runtime.certification.drift import PipelineComparison
from xrt.runtime.certification.original import as_levels, read_original
from xrt.runtime.decisions import probabilities
from xrt.runtime.errors import DataError
from xrt.runtime.session import open_session

MEAN, STD = (0.5,), (0.25,)
COUNT = 12


@pytest.fixture(scope="module")
def files(phantom_folder):
    return sorted((phantom_folder / "images").iterdir())[:COUNT]


def made(files, filter_=Image.Resampling.BILINEAR, *, box=None, invert=False, mean=0.5, std=0.25):
    """What somebody else's pipeline makes of the files: Pillow's resize, and their own normalisation."""
    arrays = []
    for file in files:
        image = Image.open(file).convert("L")
        grey = np.asarray(image.resize((64, 64), filter_, box=box and box(image)), dtype=np.float32) / 255
        arrays.append(((1 - grey if invert else grey) - mean) / std)
    return np.stack(arrays)[:, None].astype(np.float32)


def archive(path, files, **arrays):
    np.savez(path, files=np.array([file.name for file in files]), **arrays)
    return path


def comparison(bundle, path, files):
    spec = bundle.manifest.preprocessing
    return PipelineComparison.of(read_original(path, files[0].parent), spec, (MEAN, STD))


def centre(share):
    def box(image):
        inset = (1 - share) / 2
        return image.width * inset, image.height * inset, image.width * (1 - inset), image.height * (1 - inset)

    return box


def test_the_same_pipeline_agrees(bundle, files, tmp_path):
    path = archive(tmp_path / "same.npz", files, inputs=made(files))
    with open_session(bundle) as opened:
        drift = comparison(bundle, path, files).whole(lambda x: opened.session.infer_all(x).logits, bundle.manifest)
    assert drift.reasons == ()
    assert drift.figures["input_change_max"] <= 1e-6  # float32 holds a grey level to 1e-7 of the range
    assert drift.figures["source_flips"] == 0


CAUSES = {
    "nearest": ({"filter_": Image.Resampling.NEAREST}, "--interpolation nearest"),
    "bicubic": ({"filter_": Image.Resampling.BICUBIC}, "--interpolation bicubic"),
    "a crop": ({"box": centre(0.875)}, "--fit crop --crop 0.875"),
    "bright air": ({"invert": True}, "--invert"),
    "a mean": ({"mean": 0.3}, "--mean 0.3 --std 0.25"),
    "another std and filter": (
        {"filter_": Image.Resampling.NEAREST, "mean": 0.0, "std": 1.0},
        "--interpolation nearest --mean",
    ),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_another_pipeline_is_refused_with_its_cause(bundle, files, tmp_path, cause):
    changes, options = CAUSES[cause]
    path = archive(tmp_path / "other.npz", files, inputs=made(files, **changes))
    (reason,) = comparison(bundle, path, files).inputs.reasons
    assert "input_change_p95 is " in reason and "the limit is 0.00392" in reason
    assert f"most likely the original was made with {options}" in reason


def test_what_no_setting_explains_is_said(bundle, files, tmp_path):
    noise = np.random.default_rng(0).normal(size=(COUNT, 1, 64, 64)).astype(np.float32)
    (reason,) = comparison(bundle, archive(tmp_path / "noise.npz", files, inputs=noise), files).inputs.reasons
    assert "no other setting explains it; the nearest is" in reason


def test_probabilities_alone_find_a_filter(bundle, files, tmp_path):
    """Of the original only its probabilities are known: the model is asked with other settings."""
    with open_session(bundle) as opened:

        def predict(images):
            return opened.session.infer_all(images).logits

        for filter_, refused in ((Image.Resampling.BILINEAR, False), (Image.Resampling.NEAREST, True)):
            levels = as_levels(tuple(made(files, filter_)), (64, 64), (MEAN, STD))
            theirs = probabilities(predict(np.rint(levels).astype(np.uint8)), bundle.manifest)
            path = archive(tmp_path / "p.npz", files, probabilities=theirs)
            drift = comparison(bundle, path, files).whole(predict, bundle.manifest)
            assert set(drift.figures) == {"source_change_p95", "source_change_max", "source_flips"}
            assert bool(drift.reasons) == refused
            assert not refused or "most likely the original was made with --interpolation nearest" in drift.reasons[0]


def test_a_decision_that_flips_is_refused(bundle, files, tmp_path):
    with open_session(bundle) as opened:

        def predict(images):
            return opened.session.infer_all(images).logits

        pipeline = comparison(bundle, archive(tmp_path / "a.npz", files, inputs=made(files)), files)
        theirs = probabilities(predict(pipeline.images), bundle.manifest)
        theirs[3, 1] = 0.4 - 1e-6 if theirs[3, 1] >= 0.4 else 0.4
        path = archive(tmp_path / "p.npz", files, probabilities=theirs)
        drift = comparison(bundle, path, files).whole(predict, bundle.manifest)
    assert drift.figures["source_flips"] == pytest.approx(1 / (3 * COUNT))
    assert any("source_flips is 0.0278, the limit is 0" in reason for reason in drift.reasons)


@pytest.mark.parametrize("layout", ["channels last", "no channels", "a batch of one"])
def test_inputs_in_any_layout_are_read(bundle, files, tmp_path, layout):
    inputs = made(files)
    change = {
        "channels last": inputs.transpose(0, 2, 3, 1),
        "no channels": inputs[:, 0],
        "a batch of one": inputs[:, None],
    }
    path = archive(tmp_path / "a.npz", files, inputs=change[layout])
    assert not comparison(bundle, path, files).inputs.reasons


def test_a_folder_of_arrays(bundle, files, tmp_path):
    for file, array in zip(files, made(files), strict=True):
        np.save(tmp_path / f"{file.stem}.npy", array)
    original = read_original(tmp_path, files[0].parent)
    assert [file.name for file in original.files] == [file.name for file in files]
    assert not comparison(bundle, tmp_path, files).inputs.reasons
    np.save(tmp_path / "nobody.npy", made(files)[0])
    with pytest.raises(DataError, match=r"each \.npy of .* needs one image of its stem .* nobody\.npy \(0\)"):
        read_original(tmp_path, files[0].parent)


def test_archives_that_do_not_fit(files, tmp_path):
    def refusal(**arrays):
        np.savez(tmp_path / "a.npz", **arrays)
        with pytest.raises(DataError) as caught:
            read_original(tmp_path / "a.npz", files[0].parent)
        return str(caught.value)

    names = np.array([file.name for file in files])
    assert "has the arrays files; needed are `files`" in refusal(files=names)
    assert f"`inputs` is float32 [3, 1, 64, 64] for {COUNT} files" in refusal(files=names, inputs=made(files)[:3])
    assert "names images that are not under" in refusal(files=np.array(["gone.png"]), inputs=made(files)[:1])
    assert "names no image" in refusal(files=np.array([], dtype=str), inputs=np.zeros((0, 1)))
    assert "cannot be read as .npz" in refusal(files=np.array([{"a": 1}], dtype=object), inputs=np.zeros((1, 1)))
    (tmp_path / "a.npz").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"cannot be read as \.npz"):
        read_original(tmp_path / "a.npz")


def test_inputs_of_another_size(bundle, files, tmp_path):
    path = archive(tmp_path / "a.npz", files, inputs=made(files)[..., :50])
    with pytest.raises(DataError, match=r"has the shape \[1, 64, 50\], the network takes 1 channels of 64 x 64"):
        _ = comparison(bundle, path, files).inputs
