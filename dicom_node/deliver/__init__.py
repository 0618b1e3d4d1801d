"""Delivery: sending results and confirming that they arrived."""
