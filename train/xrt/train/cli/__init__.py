"""The commands of this part. Heavy imports stay inside their functions, so that `xrt --help` is quick."""
