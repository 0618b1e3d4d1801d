"""Metrics, health and readiness over HTTP, from a process of its own: nobody waits for a slow database or scraper."""
