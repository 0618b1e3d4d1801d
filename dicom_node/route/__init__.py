"""Routing: which card segments a series, and where its results go. Never reaches torch."""
