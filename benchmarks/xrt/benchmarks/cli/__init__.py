"""The commands of this part, one module each. Heavy imports stay inside them, so that `xrt --help` is quick."""
