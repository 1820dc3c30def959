"""Who answers for a graph: autograd, or a float64 proof of an ONNX file's own gradients."""
