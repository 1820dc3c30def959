"""Recipes, models and training of chest X-ray classifiers that `xrt.export` can export."""
