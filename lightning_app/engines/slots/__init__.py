"""The engine for thousands of examples: many at once on one GPU, each in a slot of its own."""
