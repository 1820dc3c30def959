"""Training, from the first step to the checkpoint: Lightning module, losses, schedules, run folder, reports."""
