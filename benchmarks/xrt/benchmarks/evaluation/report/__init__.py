"""An evaluation as a report: plots, tables and cards."""
