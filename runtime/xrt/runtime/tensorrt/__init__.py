"""TensorRT engines, of two distributions behind one code path.

A file is checked before the parser reads it (`onnx_support`), a distribution's library is loaded (`distributions`), the
engine is built (`builder`) and the types of the parsed network are compared with what was asked (`network_report`);
plan and sidecar go into this machine's cache (`engine_cache`); `runner` runs them with memory from `cuda`.
`xrt.runtime.engine_builds` does all of that for a bundle, and is what `xrt build` calls.
No library of NVIDIA's, and no onnx, is imported before an engine is built or a back end is used.
"""
