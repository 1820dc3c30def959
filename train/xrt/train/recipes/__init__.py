"""Recipes: the published ones as YAML, their keys (`spec`) and how they are read (`loader`)."""
