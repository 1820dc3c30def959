"""From a torch module to a settled ONNX graph with the uint8 face."""
