"""Where universal difficulty comes from: what a pool of models gets right, and the ranking that follows from it."""
