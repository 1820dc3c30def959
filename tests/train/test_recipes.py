"""Recipes: the package's own are valid, overrides reach every key, and errors name the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from xrt.runtime.errors import DataError, UsageError
from xrt.train.recipes.loader import known_recipes, load_recipe
from xrt.train.recipes.spec import Recipe


@pytest.mark.parametrize("name", known_recipes())
def test_own_recipes_are_valid_and_named_after_their_file(name: str) -> None:
    assert load_recipe(name).name == name


def test_the_recipes_are_these() -> None:
    assert known_recipes() == (
        "covid-densenet201",
        "covid-vgg16",
        "nih-abnormal",
        "nih-abnormal-cnn",
        "nih-densenet121",
        "nih-lse-resnet50",
        "phantoms",
        "pneumoniamnist",
        "rsna-resnet50",
    )


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("optim.lr=1e-3", lambda r: r.optim.lr == 1e-3),
        ("training.epochs=3", lambda r: r.training.epochs == 3),
        ("model.weights=null", lambda r: r.model.weights is None),
        ("data.proportions=[0.8, 0.1, 0.1]", lambda r: r.data.proportions == (0.8, 0.1, 0.1)),
        ("data.official=false", lambda r: r.data.official is False),
        ("normalisation.mean=[0.5]", None),
    ],
)
def test_overrides(override: str, read: object) -> None:
    if callable(read):
        assert read(load_recipe("pneumoniamnist", [override]))
        return
    with pytest.raises(DataError, match="normalisation"):
        load_recipe("pneumoniamnist", [override])


def test_the_last_override_wins() -> None:
    assert load_recipe("phantoms", ["training.seed=1", "training.seed=2"]).training.seed == 2


def test_a_file_is_a_recipe(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\npreprocessing: {height: 32, width: 48}\n")
    recipe = load_recipe(file, ["model.architecture=resnet18"])
    assert (recipe.name, recipe.preprocessing.width, recipe.model.architecture) == ("mine", 48, "resnet18")


def test_unknown_recipe_lists_the_known() -> None:
    with pytest.raises(
        UsageError, match="no recipe 'nhi': neither a file nor one of covid-densenet201, covid-vgg16, nih-abnormal, "
    ):
        load_recipe("nhi")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.rl=1", r"unknown key 'optim\.rl' \(known: name, lr, weight_decay"),
        ("optimiser.lr=1", r"unknown key 'optimiser' \(known: name, description, data"),
        ("optim.lr=0", r"optim\.lr: Input should be greater than 0 \(got 0\)"),
        ("optim.name=lion", r"optim\.name: Input should be 'adam', 'adamw' or 'sgd'"),
        ("model.compact.blocks=[1]", r"model\.compact: 3 widths but 1 numbers of blocks"),
        ("model.channels=2", r"model\.channels: Input should be 1 or 3"),
        ("data.proportions=[0.9, 0.1, 0.0]", r"data: proportions .* each be above 0"),
        ("preprocessing=null", r"preprocessing: "),
    ],
)
def test_errors_name_the_key(override: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load_recipe("pneumoniamnist", [override])
    assert "\n" not in str(caught.value)


def test_normalisation_follows_the_channels() -> None:
    with pytest.raises(DataError, match="normalisation has 3 channels, the model 1"):
        load_recipe("nih-densenet121", ["model.channels=1"])


def test_lanczos_without_antialias_is_refused() -> None:
    """Pillow has no such filter: it would be bicubic in silence. Each of the two alone is obeyed."""
    lanczos, rough = "preprocessing.interpolation=lanczos", "preprocessing.antialias=false"
    with pytest.raises(DataError, match="interpolation lanczos is not available without antialias; choose"):
        load_recipe("phantoms", [lanczos, rough])
    assert load_recipe("phantoms", [lanczos]).preprocessing.interpolation == "lanczos"
    assert not load_recipe("phantoms", [rough]).preprocessing.antialias


@pytest.mark.parametrize("override", ["optim.lr", "=3", ""])
def test_malformed_override(override: str) -> None:
    with pytest.raises(UsageError, match="--set takes key=value"):
        load_recipe("phantoms", [override])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a list\n", "must be a mapping of keys, not list"),
        ("name: [\n", "is not valid YAML"),
        ("name: x\n", "key 'preprocessing' is missing"),
    ],
)
def test_malformed_files(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(DataError, match=message):
        load_recipe(file)


def test_a_recipe_survives_its_own_json() -> None:
    recipe = load_recipe("phantoms")
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


BASE = "name: mine\npreprocessing: {height: 32, width: 32}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be a mapping of keys, not NoneType"),
        ("- a\n", "must be a mapping of keys, not list"),
        (BASE + "name: other\n", "is not valid YAML: key 'name' is there twice"),
        (BASE + "search: {a: &a [1], b: *a}\n", r"is not valid YAML: \*a: write the value out"),
        (BASE + f"search: {{a: {'[' * 5000}{']' * 5000}}}\n", "is not valid YAML: maximum recursion"),
        (b"name: caf\xe9\n", "is not valid YAML: unacceptable character"),
        (BASE + "a: 1\nb: 1\nc: 1\nd: 1\ne: 1\n", "unknown key 'c' .*; and 2 more$"),
        (BASE + "data: {classes: Mass}\n", r"data\.classes: give a list \(got 'Mass'\)"),
        (BASE + "optim: 3\n", r"optim: give a mapping of keys to values \(got 3\)"),
        (BASE + "training: {seed: -1}\n", r"training\.seed: Input should be greater than or equal to 0 \(got -1\)"),
        (BASE + "training: {threads: 100000}\n", r"training\.threads: Input should be less than or equal to 1024"),
        (BASE + "training: {devices: -1}\n", r"training\.devices.* greater than or equal to 1 \(got -1\)"),
        (BASE + "model: {compact: {centred: 9}}\n", "centred is stage 9; there are 3, counted from 0"),
    ],
)
def test_faults_of_a_file_are_named(tmp_path: Path, text: str | bytes, message: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message):
        load_recipe(file)
