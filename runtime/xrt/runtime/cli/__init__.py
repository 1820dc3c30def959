"""The command line of the runtime. Each command's module imports nothing heavy until it runs."""
