"""What goes in: the ranking, its images and labels, what the model got wrong, the sample. Plain data, no torch."""
