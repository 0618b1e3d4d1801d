"""The audit trail: what is on record for it becomes DICOM audit messages, in a file and at a syslog server."""
