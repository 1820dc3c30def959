"""Run by `test_keras.py` in an environment with Keras, TensorFlow and tf2onnx: FOLDER NAME SIDE.

Makes the application NAME of keras.applications with two classes from FOLDER/images, writes it to FOLDER/model.onnx
with Keras's own exporter, and what its own pipeline makes of the images to FOLDER/made.npz.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np

folder, name, side = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
keras.utils.set_random_seed(0)
maker, module = {
    "xception": (keras.applications.Xception, keras.applications.xception),
    "mobilenet_v2": (keras.applications.MobileNetV2, keras.applications.mobilenet_v2),
    "vgg16": (keras.applications.VGG16, keras.applications.vgg16),
    "densenet": (keras.applications.DenseNet121, keras.applications.densenet),
    "mobilenet_v3": (keras.applications.MobileNetV3Small, keras.applications.mobilenet_v3),
}[name]

files = sorted((folder / "images").iterdir())
images = [
    keras.utils.load_img(file, color_mode="rgb", target_size=(side, side), interpolation="nearest") for file in files
]
inputs = module.preprocess_input(np.stack([keras.utils.img_to_array(image) for image in images]))

trunk = maker(weights=None, include_top=False, input_shape=(side, side, 3), pooling="avg")
# Random weights: one run in training mode gives batch normalisations statistics that fit them.
for layer in trunk.layers:
    if isinstance(layer, keras.layers.BatchNormalization):
        layer.momentum = 0.0
trunk(inputs, training=True)
features = trunk.predict(inputs, verbose=0)
# A head that tells images apart: the first principal direction of the features.
centred = features - features.mean(axis=0)
direction = np.linalg.svd(centred, full_matrices=False)[2][0]
direction /= np.abs(centred @ direction).max() / 2
head = keras.layers.Dense(2, activation="softmax")
model = keras.Model(trunk.input, head(trunk.output))
head.set_weights(
    [np.stack([-direction, direction], axis=1), np.outer(features.mean(axis=0) @ direction, [1, -1]).ravel()]
)
probabilities = model.predict(inputs, verbose=0)
model.export(folder / "model.onnx", format="onnx", verbose=False)
np.savez(
    folder / "made.npz",
    files=np.array([file.name for file in files]),
    inputs=inputs,
    probabilities=probabilities,
)
