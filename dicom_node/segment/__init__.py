"""Segmentation: a volume in, labels on its own slices out. The only door to the networks."""
