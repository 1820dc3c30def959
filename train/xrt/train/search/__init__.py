"""A recipe's grid of configurations, trained on as many machines as share a folder."""
