"""Analytic CT and MR series whose truth is known: for tests, the demo and the bench.

::

    from tests.phantoms import PhantomSpec, build, write

    phantom = build(PhantomSpec(modality="MR", orientation="oblique"))
    phantom.datasets   # pydicom data sets with file_meta, in the order of phantom.geometry
    phantom.labels     # (k, j, i) uint8; phantom.names says which structure each label is
    write(PhantomSpec(anatomy="torso", slices=88, slice_spacing=5.0), folder)

or ``python -m tests.phantoms --modality CT --anatomy torso --output DIR``.
"""

from tests.phantoms.build import build, write
from tests.phantoms.spec import Phantom, PhantomSpec, geometry_of, spec_for

__all__ = ["Phantom", "PhantomSpec", "build", "geometry_of", "spec_for", "write"]
