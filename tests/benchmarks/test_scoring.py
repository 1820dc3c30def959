from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from benchmarks.linear import NAMES, make_bundle, make_opened

from xrt.benchmarks.explanation.classes import MapClasses
from xrt.runtime.datasets.images import ImageSource
from xrt.runtime.errors import DataError, UnreadableImage, UsageError
from xrt.runtime.progress import Progress
from xrt.runtime.scoring import score_cases, stream_cases


@dataclasses.dataclass(frozen=True)
class _Damaged(ImageSource):
    """Other images, of which some cannot be read."""

    images: ImageSource
    damaged: tuple[str, ...]

    def read(self, key, without_window="minmax"):
        if key in self.damaged:
            raise UnreadableImage("the file is empty")
        return self.images.read(key, without_window)


def damage(table, *keys):
    return dataclasses.replace(table, images=_Damaged(table.images, keys))


def test_the_stream_says_what_the_session_says_of_each_image(linear, halves):
    opened = make_opened(linear)
    images = np.stack([halves.pixels(i) for i in range(len(halves))])[:, None]
    expected = opened.session.infer(images)
    counts = []

    class Recorder(Progress):
        def count(self, done, total, what):
            counts.append(done)

    for batch_size in (1, 5, 64):
        for image in stream_cases(opened, halves, batch_size=batch_size, progress=Recorder()):
            np.testing.assert_array_equal(image.logits, expected.logits[image.key])
            np.testing.assert_array_equal(image.cams["cams"], expected.cams["cams"][image.key])
            np.testing.assert_array_equal(image.cam(1, "cams"), expected.cams["cams"][image.key, 1])
        assert counts[-1] == len(halves)
    scores = score_cases(opened, halves, maps=True, batch_size=5)
    np.testing.assert_array_equal(scores.cams, expected.cams["cams"])
    np.testing.assert_allclose(scores.probability, 1 / (1 + np.exp(-expected.logits.astype(float))), rtol=1e-12)


def test_images_that_cannot_be_read_are_listed_up_to_a_share(linear, halves):
    table, unscored = damage(halves, "test/2", "test/11"), []
    keys = [image.key for image in stream_cases(make_opened(linear), table, allow_unscored=0.2, unscored=unscored)]
    assert keys == [0, 1, 3, 4, 5, 6, 7, 8, 9, 10]
    assert [(u.index, u.key, u.reason) for u in unscored] == [
        (2, "test/2", "the file is empty"),
        (11, "test/11", "the file is empty"),
    ]
    with pytest.raises(DataError, match=r"1 of 12 images cannot be scored \(the last: test/2: the file is empty\)"):
        list(stream_cases(make_opened(linear), table, allow_unscored=0.05))
    with pytest.raises(DataError, match="test/2"):
        score_cases(make_opened(linear), table)
    scores, whole = (score_cases(make_opened(linear), t, allow_unscored=0.2) for t in (table, halves))
    kept = [i for i in range(12) if i not in (2, 11)]
    assert [u.index for u in scores.unscored] == [2, 11]
    assert scores.table.cases == tuple(table.cases[i] for i in kept)
    assert np.array_equal(scores.logits, whole.logits[kept])


def test_an_image_that_gives_nan_is_not_scored(linear, halves, monkeypatch):
    opened, unscored = make_opened(linear), []
    infer = opened.session.infer

    def broken(images, *, cams):
        outputs = infer(images, cams=cams)
        outputs.logits[3] = np.nan
        return outputs

    monkeypatch.setattr(opened.session, "infer", broken)
    assert 3 not in [i.key for i in stream_cases(opened, halves, allow_unscored=1, unscored=unscored)]
    assert unscored[0].reason == "the model gave NaN or infinity for this image"


def test_a_batch_size_of_zero_is_refused(linear, halves):
    with pytest.raises(UsageError, match="batch size must be 1 or more, not 0"):
        list(stream_cases(make_opened(linear), halves, batch_size=0))


def test_the_top_k_say_whose_maps_they_are(halves):
    bundle = make_bundle(top_k=1)
    for image in stream_cases(make_opened(bundle), halves):
        (best,) = image.explained
        assert best == image.logits.argmax()
        assert image.cam(best, "cams") is not None
        assert image.cam(2, "cams") is None


def test_a_one_logit_model_may_explain_the_negative_class(linear):
    names = ("normal", "pneumonia")
    classes = tuple(linear.manifest.classes[0].model_copy(update={"name": name}) for name in names)
    graph = linear.manifest.graph.model_copy(update={"explained": (0,)})
    update = {"task": "binary", "classes": classes, "graph": graph, "explained_class": 0}
    negative = MapClasses.of(linear.manifest.model_copy(update=update))
    positive = MapClasses.of(linear.manifest.model_copy(update={**update, "explained_class": 1}))
    probability = np.array([[0.9], [0.2]])
    assert (negative.names, positive.names) == (("normal",), ("pneumonia",))
    np.testing.assert_allclose(negative.probability(probability), 1 - probability)
    np.testing.assert_array_equal(negative.predicted(probability), [[False], [True]])
    np.testing.assert_array_equal(positive.predicted(probability), [[True], [False]])


def test_a_class_without_maps_is_refused(linear):
    assert MapClasses.of(linear.manifest, ["Right"]).names == ("Right",)
    with pytest.raises(UsageError, match=f"explains no class 'Hernia'; it explains {', '.join(NAMES)}"):
        MapClasses.of(linear.manifest, ["Hernia"])
