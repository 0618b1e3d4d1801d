"""Reception: associations, admission and the durable spool."""
