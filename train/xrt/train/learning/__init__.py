"""What one step of training is: the Lightning module, losses, optimisers, phases, and the figures after an epoch."""
