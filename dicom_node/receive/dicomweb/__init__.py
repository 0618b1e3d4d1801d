"""Reception by STOW-RS (PS3.18 10.5): HTTP at the edge, and behind it the same desk that C-STORE hands instances to."""
