"""The crash matrix: a node under four associations, its processes killed at every transition of a case."""
