"""The node: CT and MR series in over DICOM, DICOM-SEG and RTSTRUCT out.

::

    association ──► spool ──► series ──► volume ──► label volume ──► results ──► destination
      receive/     receive/   imaging/   imaging/     segment/       results/     deliver/
                                  │                      │
                               route/                 models/
                          which card, where to     the shared network
    ────────────── workflow.py: one durable workflow per case ──────────────
"""

__version__ = "0.1.0"
