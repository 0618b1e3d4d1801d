"""Destination profiles: how results are made for those who receive them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dicom_node.anatomy import Structure, anatomy_document, load_anatomy
from dicom_node.errors import SettingsError
from dicom_node.settings import Settings

ResultKind = Literal["SEG", "RTSTRUCT", "SC"]
SegKind = Literal["BINARY", "LABELMAP", "FRACTIONAL"]
ROIName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[!-\[\]-~]([ -\[\]-~]*[!-\[\]-~])?$")]
"""ASCII without a backslash, and without spaces at its ends, which DICOM does not count: every character set
that a source may declare holds it, and TG-263 asks for no more."""


class Profile(BaseModel):
    """``[profile.NAME]`` of anatomy.toml or node.toml: what a destination takes and wants."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    results: tuple[ResultKind, ...] = Field(default=("SEG", "RTSTRUCT"), strict=False, min_length=1)
    """Which objects are made; SC is the key image, a picture for viewers that show neither of the others."""
    structures: tuple[str, ...] = Field(default=(), strict=False)
    """Names of the structures that are sent; every one that was found where empty."""
    names: Mapping[str, ROIName] = Field(default_factory=dict)
    """The site's own names, by name of anatomy.toml; used for segments and ROIs alike."""
    name_length: int = Field(default=16, ge=1, le=64)
    """Longest ROIName the destination takes."""
    seg: SegKind = "BINARY"
    """SegmentationType. LABELMAP is made beside BINARY and goes only to a peer that accepts it."""
    external: bool = True
    """Whether structure sets get the body's outline as ROI of type EXTERNAL."""
    contours: Literal["pixel-edge", "smooth"] = "pixel-edge"
    """Along the pixel borders, exact to the voxel; or where the network's probability crosses one half."""
    contour_tolerance_mm: float = Field(default=0.0, ge=0, le=2, strict=False)
    """How far a simplified contour may lie off the traced one. Smooth contours are always simplified within it,
    pixel-edge contours only where they exceed ``contour_points``."""
    contour_points: int | None = Field(default=None, ge=100)
    """Most points of one contour the destination takes."""
    irregular_contours: bool = False
    """Whether tilted or unevenly spaced series get an RTSTRUCT too."""

    @model_validator(mode="after")
    def _says_each_thing_once(self) -> Profile:
        for key, listed in (("results", self.results), ("structures", self.structures)):
            if len(set(listed)) < len(listed):
                raise ValueError(f"{key}: something is listed twice")
        given = [name.casefold() for name in self.names.values()]
        if len(set(given)) < len(given):
            raise ValueError("names: two structures have one name")
        too_long = [name for name in self.names.values() if len(name) > self.name_length]
        if too_long:
            raise ValueError(f"names: {too_long} are longer than name_length = {self.name_length}")
        return self

    @property
    def identity(self) -> str:
        """What tells objects of this profile from those of others; empty for the default profile's content."""
        content = self.model_dump(mode="json")
        if content == Profile().model_dump(mode="json"):
            return ""
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def variants(self) -> tuple[Profile, ...]:
        """The profiles that objects are made by: a binary segmentation too, for peers that refuse the label map."""
        if self.seg != "LABELMAP" or "SEG" not in self.results:
            return (self,)
        return (self, self.model_copy(update={"seg": "BINARY", "results": ("SEG",)}))

    def segment_label(self, structure: Structure) -> str:
        """What a segment is called: the site's name, else ours (LO, 64)."""
        return self.names.get(structure.name, structure.name)[:64]

    def wants(self, structure: Structure) -> bool:
        """Whether a structure is sent; a body outline that was asked for always is."""
        return not self.structures or structure.name in self.structures or structure.interpreted_type == "EXTERNAL"


@cache
def packaged_profiles() -> dict[str, Profile]:
    """Every ``[profile.NAME]`` of anatomy.toml by name; "default" is always there.

    Raises:
        SettingsError: The file in the package is damaged.
    """
    return {name: parse_profile(table, name) for name, table in anatomy_document()["profile"].items()}


def load_profiles(tables: Mapping[str, dict[str, Any]] | None = None) -> dict[str, Profile]:
    """The packaged profiles and a site's own; a site's profile of the same name takes its place.

    Args:
        tables: ``[profile.NAME]`` of node.toml.

    Raises:
        SettingsError: An unknown key, a wrong value or a structure that anatomy.toml lacks.
    """
    own = {name: parse_profile(table, name) for name, table in (tables or {}).items()}
    return {**packaged_profiles(), **own}


def parse_profile(table: Mapping[str, Any], name: str) -> Profile:
    """One ``[profile.NAME]`` table.

    Raises:
        SettingsError: An unknown key, a wrong value or a structure that anatomy.toml lacks.
    """
    try:
        profile = Profile.model_validate(table)
    except ValidationError as error:
        reasons = (f"{'.'.join(map(str, item['loc'])) or 'table'}: {item['msg']}" for item in error.errors())
        raise SettingsError(f"profile {name!r}: {'; '.join(reasons)}") from error
    unknown = sorted({*profile.structures, *profile.names} - set(load_anatomy()))
    if unknown:
        raise SettingsError(f"profile {name!r}: anatomy.toml has no structure {', '.join(unknown)}")
    _require_own_names(profile, name)
    return profile


def _require_own_names(profile: Profile, profile_name: str) -> None:
    """A structure may not be called what another one is called: the left kidney "Kidney_R".

    Raises:
        SettingsError: One is.
    """
    for name, given in profile.names.items():
        for other in load_anatomy().values():
            own = {text.casefold() for text in (other.name, other.alias, other.short_name)}
            if other.name != name and given.casefold() in own:
                raise SettingsError(f'profile {profile_name!r}: names: {name} = "{given}" is the name of {other.name}')


def require_profiles(settings: Settings) -> None:
    """Check, at start, that the profile of every destination and peer exists and is sound.

    Raises:
        SettingsError: One does not.
    """
    load_profiles(settings.profile)
    for destination in settings.destination:
        profile_named(settings, destination.profile, f'destination "{destination.name}"')
    for peer in settings.peer:
        profile_named(settings, peer.profile, f'peer "{peer.ae_title}"')


def profile_named(settings: Settings, name: str, asked_by: str) -> Profile:
    """A profile of the package or of the settings.

    Args:
        settings: The node's settings.
        name: Name of the profile.
        asked_by: What error messages say wants it.

    Raises:
        SettingsError: There is none, or one of the settings is wrong.
    """
    known = load_profiles(settings.profile)
    if name not in known:
        raise SettingsError(f'{asked_by}: no profile "{name}"; the profiles are {", ".join(sorted(known))}')
    return known[name]
