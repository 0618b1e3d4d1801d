"""The ledger: what the node was given, what it makes of it, and what became of it. One database for all processes."""
