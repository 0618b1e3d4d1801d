"""The geometry matrix: every way a series can lie in the patient, judged by programs that share nothing with ours.

``cases`` says which series there are, ``written`` takes each the real way from files to a SEG and an RTSTRUCT,
``source_planes``, ``seg_frames`` and ``even_odd`` read files with pydicom and numpy alone, ``agreement`` compares.
"""
