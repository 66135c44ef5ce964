"""What `run`, `plan` and `merge` do, in the order of their steps."""
