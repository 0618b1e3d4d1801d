"""The second way in: series that arrive in an Orthanc are handed to the node.

::

    Orthanc ── stable series ──► selection ──► handover ── C-STORE by Orthanc ──► the node
       │                            ▲                                               │
       └──── every series, now and then: reconciliation      results, like to any destination

Runs inside Orthanc's Python, so it needs the standard library alone; no image is touched and nothing is segmented here.
What was handed over is remembered in Orthanc's own metadata, so nothing is lost with Orthanc's process or the node's.
"""

from dicom_node.orthanc_bridge.bridge import Bridge, install

__all__ = ["Bridge", "install"]
