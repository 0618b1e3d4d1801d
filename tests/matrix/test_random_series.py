"""SEG and RTSTRUCT of series that nobody thought of: any rotation, spacing, size and order, drawn by hypothesis."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.matrix.agreement import worst
from tests.matrix.cases import Case, random_directions
from tests.matrix.even_odd import read_structures
from tests.matrix.seg_frames import read_segments
from tests.matrix.written import write_case
from tests.phantoms import PhantomSpec

spacings = st.floats(0.4, 3.0).map(lambda value: round(value, 4))
specs = st.builds(
    PhantomSpec,
    modality=st.sampled_from(["CT", "MR"]),
    orientation=st.integers(0, 2**32 - 1).map(random_directions),
    slices=st.integers(2, 16),
    rows=st.integers(12, 40),
    columns=st.integers(12, 40),
    row_spacing=spacings,
    column_spacing=spacings,
    slice_spacing=st.floats(0.6, 6.0).map(lambda value: round(value, 4)),
    tilt_degrees=st.sampled_from([0.0, 0.0, 0.0, -22.5, 11.0]),
    reverse_order=st.booleans(),
    multiframe=st.booleans(),
)


@settings(max_examples=25)
@given(spec=specs)
def test_results_agree_with_any_series(spec: PhantomSpec) -> None:
    with tempfile.TemporaryDirectory() as folder:
        written = write_case(Case("drawn", spec), Path(folder))
        volumes = written.planes.voxel_volumes
        assert worst(read_segments(written.seg, written.planes), written.truth, volumes).dice == 1.0
        contours = worst(read_structures(written.rtstruct, written.planes), written.truth, volumes)
        assert contours.dice == 1.0
        assert contours.volume_error == 0.0
