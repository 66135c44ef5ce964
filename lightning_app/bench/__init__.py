"""The engines side by side on this machine: how fast each is, and whether their numbers are the same bits."""
