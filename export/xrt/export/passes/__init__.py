"""Passes over a classifier's graph, each with what it requires and ensures; `order` lists them."""
