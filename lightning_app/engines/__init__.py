"""Examples in, trajectories out: the only package that trains. Engines differ in speed alone."""
