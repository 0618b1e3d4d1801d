"""Imaging: from DICOM instances to volumes and label volumes in patient coordinates."""
