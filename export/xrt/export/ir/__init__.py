"""The basics of ONNX graphs: shapes, constants, attributes, files, and the emitter that appends nodes."""
