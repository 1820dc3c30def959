"""Normalisations that have a name: ImageNet's, and what the networks of Keras expect.

The `preprocess_input` of every module of `keras.applications` is one of four (`keras.applications.imagenet_utils`,
Keras 3): `tf` scales to -1..1, `torch` to 0..1 and then by ImageNet's mean and standard deviation, `caffe` subtracts
the mean of each channel in the order blue, green, red, without scaling, and `raw` leaves 0..255, since the network
scales by itself.
"""

from __future__ import annotations

from xrt.runtime.errors import UsageError
from xrt.train.models import Normalisation

IMAGENET = Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
_FULL = 1 / 255
_KERAS_MODES = {
    "tf": Normalisation(mean=(0.5,) * 3, std=(0.5,) * 3),
    "torch": IMAGENET,
    "caffe": Normalisation(mean=(103.939 / 255, 116.779 / 255, 123.68 / 255), std=(_FULL,) * 3),
    "raw": Normalisation(mean=(0.0,) * 3, std=(_FULL,) * 3),
}
_KERAS_MODULES = {
    "convnext": "raw",
    "densenet": "torch",
    "efficientnet": "raw",
    "efficientnet_v2": "raw",
    "inception_resnet_v2": "tf",
    "inception_v3": "tf",
    "mobilenet": "tf",
    "mobilenet_v2": "tf",
    "mobilenet_v3": "raw",
    "nasnet": "tf",
    "resnet": "caffe",
    "resnet_v2": "tf",
    "vgg16": "caffe",
    "vgg19": "caffe",
    "xception": "tf",
}
_KERAS = "keras:"


def named_normalisation(name: str) -> Normalisation:
    """`imagenet`, or `keras:NAME` for a module of keras.applications or one of its modes, as `keras:tf`.

    In units of full scale, one entry for each channel in the order in which the network takes them. Raises UsageError
    for another name.
    """
    if name == "imagenet":
        return IMAGENET
    own = name.removeprefix(_KERAS)
    mode = _KERAS_MODULES.get(own, own)
    if not name.startswith(_KERAS) or mode not in _KERAS_MODES:
        known = ", ".join((*_KERAS_MODES, *_KERAS_MODULES))
        raise UsageError(f"--normalisation takes imagenet, or {_KERAS} with one of {known}; given {name!r}")
    return _KERAS_MODES[mode]
