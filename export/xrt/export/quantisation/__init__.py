"""Variants of an explained graph: fp16 as a cast graph, int8 with explicit Q/DQ. The gate decides about them."""
