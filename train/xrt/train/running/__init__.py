"""A run from its first step to its checkpoint: the trainer, the folder, taking up after a kill, the reports."""
