"""TensorRT engines, in two flavours behind one code path.

The road: a file is looked at before the parser sees it (`precheck`), a flavour's library is loaded (`flavours`), the
engine is built (`building`) and the types of the parsed network are held against what was asked (`inspection`);
plan and sidecar go into this machine's cache (`engines`); `execution` runs them with memory from `memory`. `preparing`
does all of that for a bundle, and is what `xrt build` calls.
No library of NVIDIA's, and no onnx, is imported before an engine is built or a back end is used.
"""
