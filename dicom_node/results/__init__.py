"""Results: DICOM-SEG and RTSTRUCT, and their verification."""
