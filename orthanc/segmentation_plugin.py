"""What Orthanc loads as "PythonScript": hands series that arrive there to the node; settings as in orthanc.json.

It needs ``dicom_node`` beside its folder, as in the source tree, or on Orthanc's PYTHONPATH; none of the node's
requirements is imported.
"""

import sys
from pathlib import Path

import orthanc  # type: ignore[import-not-found] # exists inside Orthanc alone

sys.path.append(str(Path(__file__).resolve().parents[1]))

from dicom_node.orthanc_bridge import install

install(orthanc)
