"""One module a command; its `main(argv)` returns the exit code."""
