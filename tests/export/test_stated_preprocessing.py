"""What is known of a model's preprocessing: stated by its user, carried by the model, or assumed and announced."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from export.onnx_graphs import BODY, graph
from PIL import Image
from torchvision import transforms
from torchvision.transforms import v2

from xrt.export.publish import publish_source
from xrt.export.sources import Description, open_source
from xrt.export.sources.named_normalisations import named_normalisation
from xrt.export.sources.stated_preprocessing import StatedPreprocessing, of_compose, of_timm, of_torchvision
from xrt.runtime import open_session
from xrt.runtime.bundle.manifest import Preprocessing
from xrt.runtime.errors import ModelError, UsageError
from xrt.runtime.preprocessing import preprocess

NEAREST = StatedPreprocessing("nearest", fit="stretch", equalisation="none")


@pytest.fixture
def file(tmp_path) -> Path:
    """A classifier of 64 px as an ONNX file."""
    onnx.save(graph(BODY + "y = Identity (l)", opset=17), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def description(**fields) -> Description:
    return Description(mean=(0.5,), std=(0.5,), task="multilabel", **fields)


def test_what_is_assumed_is_in_the_bundle_and_in_every_warning(file, tmp_path):
    source = open_source(str(file), description())
    assert "assumed: interpolation bilinear, antialias true, fit stretch" in " ".join(source.notes)
    bundle = publish_source(source, tmp_path / "a.xrt").bundle
    assert bundle.manifest.assumed["interpolation"] == "bilinear"
    with open_session(bundle) as opened:
        assert "nobody stated how images were prepared" in str(opened.warning)


def test_what_is_stated_is_used_and_no_longer_assumed(file, tmp_path):
    source = open_source(str(file), description(preprocessing=NEAREST, population="adults"))
    assert source.notes == ()
    manifest = publish_source(source, tmp_path / "a.xrt").bundle.manifest
    assert (manifest.assumed, manifest.intended_use.population) == ({}, "adults")
    assert manifest.preprocessing.interpolation == "nearest"
    for other in (StatedPreprocessing(), StatedPreprocessing("area")):
        assert open_source(str(file), description(preprocessing=other)).preprocessing != source.preprocessing


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        # preprocess_input of keras.applications for the grey level 51, first and last channel as the network takes them
        ("imagenet", (0.2 - 0.485) / 0.229, (0.2 - 0.406) / 0.225),
        ("keras:xception", 51 / 127.5 - 1, 51 / 127.5 - 1),
        ("keras:densenet", (0.2 - 0.485) / 0.229, (0.2 - 0.406) / 0.225),
        ("keras:vgg16", 51 - 103.939, 51 - 123.68),
        ("keras:efficientnet", 51.0, 51.0),
        ("keras:tf", -0.6, -0.6),
    ],
)
def test_a_normalisation_has_a_name(name, first, last):
    named = named_normalisation(name)
    values = (51 / 255 - np.array(named.mean)) / np.array(named.std)
    np.testing.assert_allclose(values[[0, -1]], [first, last], rtol=1e-6)


def test_the_named_normalisation_and_the_order_of_channels_are_the_model_s(tmp_path):
    colour = graph(
        BODY.replace("(x, w)", "(x, w3)") + "y = Identity (l)", signature="(float[n,3,64,64] x) => (float y)", opset=17
    )
    onnx.save(colour, tmp_path / "colour.onnx")
    source = open_source(str(tmp_path / "colour.onnx"), Description(normalisation="keras:vgg16", task="multilabel"))
    assert source.normalisation.mean == pytest.approx([103.939 / 255, 116.779 / 255, 123.68 / 255])
    assert "normalisation" not in source.assumed
    reversed_source = open_source(
        str(tmp_path / "colour.onnx"), Description(normalisation="imagenet", channel_order="bgr", task="multilabel")
    )
    assert reversed_source.normalisation.mean == (0.406, 0.456, 0.485)


def test_a_normalisation_that_cannot_be_is_refused(file):
    for fields, message in (
        ({"normalisation": "keras:lenet"}, "takes imagenet, or keras: with one of tf, torch, caffe, raw"),
        ({"normalisation": "imagenet", "mean": (0.5,), "std": (0.5,)}, "give it, or these two"),
        ({"mean": (0.5,), "std": (0.5,), "channel_order": "bgr"}, "three channels; this one takes 1"),
    ):
        with pytest.raises(UsageError, match=message):
            open_source(str(file), Description(task="multilabel", **fields))


def test_the_population_is_stated_or_not_stated(bundle):
    assert bundle.manifest.intended_use.population is None


def test_a_recipe_states_the_population_of_its_model(tmp_path):
    from xrt.train.checkpoint import CheckpointSpec, save_checkpoint
    from xrt.train.models import Normalisation, build_model
    from xrt.train.recipes.loader import load_recipe

    recipe = load_recipe("pneumoniamnist")
    assert recipe.data.population == "children of one to five years, anterior-posterior chest radiographs"
    spec = CheckpointSpec(
        model=recipe.model,
        task="binary",
        classes=[{"name": "normal"}, {"name": "pneumonia"}],
        explained_class=1,
        preprocessing=recipe.preprocessing,
        normalisation=Normalisation(mean=(0.5,), std=(0.25,)),
        population=recipe.data.population,
    )
    save_checkpoint(tmp_path / "run", build_model(spec.model, 1, (28, 28)), spec)
    assert open_source(str(tmp_path / "run")).population == recipe.data.population
    assert open_source(str(tmp_path / "run"), Description(population="adults")).population == "adults"


def test_the_command_line_states_everything(file, xrt, tmp_path, capsys):
    options = ["--interpolation", "area", "--fit", "crop", "--crop", "0.875", "--equalisation", "histogram"]
    more = ["--border-crop", "0.1", "--invert", "--population", "children", "--mean", "0.5", "--std", "0.5"]
    assert xrt("export", file, "--out", tmp_path / "b.xrt", *options, *more, "--task", "multilabel") == 0
    saved = json.loads((tmp_path / "b.xrt" / "bundle.json").read_text())
    expected = {"interpolation": "area", "fit": "crop", "crop": 0.875, "equalisation": "histogram", "border_crop": 0.1}
    assert expected.items() <= saved["preprocessing"].items()
    assert saved["preprocessing"]["invert"] is True
    assert saved["assumed"] == {}
    assert saved["intended_use"]["population"] == "children"


def test_contradictions_are_refused(file):
    for statement, message in (
        (StatedPreprocessing("area", False), "area averages what an output pixel covers"),
        (StatedPreprocessing(fit="stretch", crop=0.5), "a crop to 0.5 of the image is for fit crop, not stretch"),
        (StatedPreprocessing(crop=0.5), "a crop to 0.5 of the image is for fit crop, not stretch"),
        (StatedPreprocessing(crop=0.5, fit="crop", border_crop=0.7), "--border-crop: Input should be less than 0.5"),
    ):
        with pytest.raises(UsageError, match=message):
            open_source(str(file), description(preprocessing=statement))


def test_a_config_of_hugging_face_beside_the_file(file):
    config = {
        "do_resize": True, "size": {"shortest_edge": 72}, "resample": 3, "do_center_crop": True,
        "crop_size": {"height": 64, "width": 64}, "do_rescale": True, "rescale_factor": 1 / 127.5,
        "do_normalize": True, "image_mean": [1.0], "image_std": [1.0],
    }  # fmt: skip
    file.with_name("preprocessor_config.json").write_text(json.dumps(config))
    source = open_source(str(file), Description(task="multilabel"))
    assert (source.preprocessing.interpolation, source.preprocessing.fit) == ("bicubic", "crop")
    assert source.preprocessing.crop == pytest.approx(64 / 72)
    # x / 127.5 - 1 is (x / 255 - 0.5) / 0.5.
    assert source.normalisation.mean == pytest.approx((0.5,))
    assert source.normalisation.std == pytest.approx((0.5,))
    assert source.assumed == {}
    file.with_name("preprocessor_config.json").write_text("{")
    with pytest.raises(ModelError, match="not a preprocessor config of Hugging Face"):
        open_source(str(file), Description(task="multilabel"))


def test_the_data_config_of_timm():
    config = {"crop_pct": 0.875, "interpolation": "bicubic", "crop_mode": "center"}
    assert of_timm(config) == StatedPreprocessing("bicubic", True, "crop", 0.875, "none")
    assert of_timm({**config, "crop_mode": "squash"}).fit is None
    assert of_timm({**config, "crop_mode": "squash", "crop_pct": 1.0}).fit == "stretch"
    source = open_source("timm:test_resnet", Description(labels=("a", "b"), task="multilabel"))
    assert source.preprocessing.fit == "crop"
    assert "interpolation" not in source.assumed


def test_the_transforms_of_torchvisions_weights():
    preset = SimpleNamespace(
        resize_size=[232], crop_size=[224], antialias=True, interpolation=transforms.InterpolationMode.BILINEAR
    )
    assert of_torchvision(preset) == StatedPreprocessing("bilinear", True, "crop", 224 / 232, "none")


@pytest.mark.parametrize("library", [transforms, v2])
def test_a_compose_is_translated(library):
    tensor = [library.ToTensor()] if library is transforms else [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    steps = [library.Resize(96, antialias=True), library.CenterCrop(64), *tensor, library.Normalize([0.4], [0.2])]
    config = of_compose(library.Compose(steps), "chest.preprocess")
    assert config.preprocessing == StatedPreprocessing("bilinear", True, "crop", 64 / 96, "none")
    assert (config.size, config.mean, config.std) == ((64, 64), (0.4,), (0.2,))


def test_a_step_without_an_equivalent_is_refused_by_name():
    steps = [transforms.Resize((64, 64)), transforms.RandomRotation(5), transforms.ToTensor()]
    with pytest.raises(ModelError, match=r"chest\.preprocess has the step RandomRotation"):
        of_compose(transforms.Compose(steps), "chest.preprocess")


def test_what_torchvision_prepares_is_what_the_bundle_prepares():
    """The same grey levels to one level of 255, for a shape that is cropped on both sides."""
    image = np.random.default_rng(0).integers(0, 256, (120, 200), dtype=np.uint8)
    theirs = transforms.Compose([transforms.Resize(96), transforms.CenterCrop(64)])
    expected = np.asarray(theirs(Image.fromarray(image)), dtype=int)
    spec = Preprocessing(height=64, width=64, fit="crop", crop=64 / 96)
    ours, _ = preprocess(image, spec)
    # The crop falls between pixels of the resized image in ours, and on them in theirs.
    assert np.abs(ours.astype(int) - expected).mean() < 4
