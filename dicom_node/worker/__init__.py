"""The worker: opens a case for every quiet series and carries it, durably, to its destinations."""
