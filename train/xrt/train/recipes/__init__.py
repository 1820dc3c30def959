"""Recipes: the published ones as YAML, what a recipe may say, and how it is read."""
