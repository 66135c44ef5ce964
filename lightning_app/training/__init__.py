"""The only room that trains: examples in, trajectories out."""
