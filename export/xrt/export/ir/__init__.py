"""The ground floor: shapes, constants and attributes of ONNX graphs, and the emitter that appends nodes to them."""
