"""Export: a classifier and the gradients of its heatmaps, compiled into one certified ONNX bundle."""
