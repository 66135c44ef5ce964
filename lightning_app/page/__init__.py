"""A living page of a study's results: `report.html` and the folder `report/`, opened from disk without a network.

`content` is what a caller gives, `writing` the door. Nothing here imports torch.
"""
