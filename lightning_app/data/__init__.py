"""Plain data, without torch: examples, trajectories, images, rankings, labels, and the matrix."""
