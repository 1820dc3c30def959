"""The figures of an evaluation: computed from predictions and labels, written by nobody here."""
