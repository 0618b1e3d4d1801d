"""The label maps by name: where their files lie under a folder of sources, and how they are read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.bodyparts_maps import read_bodyparts
from models.femur_maps import read_femur
from models.hubmap_maps import read_hubmap_torso
from models.knee_maps import read_hubmap_knee, read_pymskt_knee, read_spl_knee
from models.label_maps import LabelMap
from models.torso_maps import read_spl_abdominal
from models.totalsegmentator_maps import read_totalsegmentator


@dataclass(frozen=True)
class Source:
    """One source map: its file or folder under the folder of sources, how it is read, and the map that completes it."""

    place: str
    read: Callable[..., LabelMap]
    filler: str | None = None
    attribution: str = ""


_SPL = "SPL/PNL and Brigham and Women's Hospital, Open Anatomy Project"
_HUBMAP = "HuBMAP Human Reference Atlas 3D reference objects (Visible Human derived), Schlehlein et al."
SOURCES: dict[str, Source] = {
    "spl_abdominal": Source("labelmap_spl_abdominal", read_spl_abdominal, attribution=_SPL),
    "hubmap_female_torso": Source(
        "labelmap_hra/hra_vh_female_torso_2mm.nii.gz", read_hubmap_torso, "spl_abdominal", _HUBMAP
    ),
    "hubmap_male_torso": Source(
        "labelmap_hra/hra_vh_male_torso_2mm.nii.gz", read_hubmap_torso, "spl_abdominal", _HUBMAP
    ),
    "spl_knee": Source("labelmap_spl_knee", read_spl_knee, attribution=_SPL),
    "pymskt_knee": Source(
        "knee_labelmap_pymskt/SAG_3D_DESS_RIGHT_bones_cart_men_fib-label.nrrd",
        read_pymskt_knee,
        "spl_knee",
        "pymskt, Anthony Gatti",
    ),
    "hubmap_knee": Source("labelmap_hra/hra_vh_female_knee_left_0p8mm.nii.gz", read_hubmap_knee, "spl_knee", _HUBMAP),
}

for _number in (1, 2, 3):
    SOURCES[f"pymskt_femur_{_number}"] = Source(
        f"femur_meshes_pymskt/{_number}_RIGHT_femur_Nov_02_2021.vtk", read_femur, "spl_knee", "pymskt, Anthony Gatti"
    )
SOURCES["totalsegmentator_torso"] = Source(
    "ct_abdomen_pelvis_TS_example",
    read_totalsegmentator,
    attribution="TotalSegmentator's example CT and its labels (Wasserthal et al., doi:10.1148/ryai.230024), Apache-2.0",
)
for _anatomy, _file in (("torso", "bodyparts3d_torso_2mm_lungs"), ("knee", "bodyparts3d_knee_left_0p8mm")):
    SOURCES[f"bodyparts3d_{_anatomy}"] = Source(
        f"labelmap_bodyparts3d/{_file}.nii.gz",
        read_bodyparts,
        attribution="BodyParts3D, (c) The Database Center for Life Science; share-alike (CC BY-SA)",
    )


def load_maps(folder: Path, names: Iterable[str], *, cache: Path | None = None) -> dict[str, LabelMap]:
    """The named maps, harmonised; with `cache`, a folder that keeps them for the next time (reading takes minutes).

    Raises:
        ValueError: A name is unknown, or its files are not under `folder`.
    """
    maps: dict[str, LabelMap] = {}
    for name in names:
        _load(folder, name, cache, maps)
    return {name: maps[name] for name in names}


def _load(folder: Path, name: str, cache: Path | None, maps: dict[str, LabelMap]) -> LabelMap:
    if name in maps:
        return maps[name]
    if name not in SOURCES:
        raise ValueError(f"expected one of the label maps {sorted(SOURCES)}, got {name!r}")
    kept = None if cache is None else cache / f"{name}.npz"
    source = SOURCES[name]
    if not (folder / source.place).exists():
        raise ValueError(f"the label map {name!r} needs {folder / source.place}, which does not exist")
    fingerprint = _fingerprint(folder / source.place)
    if kept is not None and kept.is_file() and _fingerprint_of(kept) == fingerprint:
        maps[name] = _restore(kept)
        return maps[name]
    fillers = [_load(folder, source.filler, cache, maps)] if source.filler else []
    maps[name] = source.read(folder / source.place, *fillers)
    if kept is not None:
        _store(maps[name], kept, fingerprint)
    return maps[name]


def _fingerprint(place: Path) -> str:
    """What a harmonised map depends on: the code that reads maps, and the sizes of the source's files."""
    code = sorted(path for path in Path(__file__).parent.glob("*.py") if path.stem.endswith("_maps"))
    code += [Path(__file__).with_name(name) for name in ("composition.py", "nifti.py", "tissues.py", "torso_names.py")]
    files = sorted(place.rglob("*")) if place.is_dir() else [place]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in code))
    digest.update(repr([(path.name, path.stat().st_size) for path in files]).encode())
    return digest.hexdigest()


def _fingerprint_of(kept: Path) -> str:
    with np.load(kept, allow_pickle=False) as stored:
        return str(json.loads(str(stored["header"])).get("fingerprint", ""))


def _store(label_map: LabelMap, path: Path, fingerprint: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {
        "name": label_map.name,
        "anatomy": label_map.anatomy,
        "licence": label_map.licence,
        "spacing": label_map.spacing,
        "unsettled": sorted(label_map.unsettled),
        "fingerprint": fingerprint,
    }
    temporary = path.with_suffix(".tmp.npz")
    arrays: dict[str, Any] = {"label": label_map.label, "tissue": label_map.tissue, "outside": label_map.outside}
    if label_map.image is not None:
        arrays["image"] = label_map.image
    np.savez_compressed(temporary, header=json.dumps(header), **arrays)
    temporary.replace(path)


def _restore(path: Path) -> LabelMap:
    with np.load(path, allow_pickle=False) as stored:
        header = json.loads(str(stored["header"]))
        return LabelMap(
            header["name"],
            header["anatomy"],
            header["licence"],
            header["spacing"],
            stored["label"],
            stored["tissue"],
            stored["outside"],
            frozenset(header["unsettled"]),
            image=stored.get("image"),
        )
