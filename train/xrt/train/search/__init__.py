"""A recipe's grid of configurations, run on as many machines as share a folder."""
