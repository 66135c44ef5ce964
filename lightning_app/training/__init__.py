"""The only package that trains: examples in, trajectories out."""
