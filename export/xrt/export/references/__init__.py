"""References that graphs are compared with: PyTorch's autograd, or an ONNX file with gradients proved in float64."""
