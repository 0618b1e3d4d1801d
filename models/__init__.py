"""The shared CT/MR network: rendering, training, inference, evaluation. Knows nothing of DICOM."""
