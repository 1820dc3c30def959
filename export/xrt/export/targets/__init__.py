"""The explained activation: which one it is, and its layout."""
