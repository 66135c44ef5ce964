"""The page of a study: `report.html`, opened from disk without a network."""
