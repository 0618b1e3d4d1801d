"""The node with a quick stand-in for its network, for tests that kill it hundreds of times."""
