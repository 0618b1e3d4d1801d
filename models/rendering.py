"""Training images rendered from label maps.

Label map -> random pose, deformation and organ sizes -> body of random corpulence -> contents, pathology, arms, table
-> intensities as CT (Hounsfield priors) or MR (plausible sequences, signal equations, random mixtures) -> resolution,
scanner. All in torch from one source of chance, on the device that trains: the same seed renders the same image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from models.bodies import (
    add_arms,
    add_table,
    axis_index,
    crowd_organs,
    fill_contents,
    grow_fat,
    grow_visceral_fat,
    raise_diaphragm,
)
from models.ct_rendering import ct_values, scan_ct
from models.deformation import Geometry, sample_positions
from models.label_maps import LabelMap
from models.mr_rendering import SEQUENCES, mr_values, scan_mr, thick_slices
from models.pathology import add_lesions, grow_osteophytes, implant, waste_muscles
from models.randomness import Randomness
from models.standardisation import standardise
from models.tissues import IGNORED, TISSUE_COUNT, Tissue, structure_label

FAR_MM = 255.0
"""Distance from the body core of what lies beside the map."""


@dataclass(frozen=True)
class RenderingSettings:
    """How patches of one anatomy are rendered; chances are per patch, `fat_mm` the limits of the subcutaneous fat."""

    spacing: float
    geometry: Geometry = field(default_factory=Geometry)
    plausible_mr: float = 0.45
    equations_mr: float = 0.2
    sequences: tuple[str, ...] = SEQUENCES
    """Sequences that the plausible MR look like."""
    fat_mm: tuple[float, float] = (3.0, 38.0)
    visceral_fat: float = 0.35
    stout: float = 0.0
    """Of the bodies with more visceral fat: it lies deep around every organ."""
    crowded: float = 0.6
    """Of the bodies without more visceral fat: muscle beside the organs."""
    arms: float = 0.25
    table: float = 0.6
    thick_ct: float = 0.15
    thick_mr: float = 0.35
    thick_axes: tuple[int, ...] = (0, 0, 0, 1)
    lesions: float = 0.3
    fatty_muscle: float = 0.15
    osteophytes: float = 0.0
    implants: float = 0.05
    narrow_ct: float = 0.1
    own_ct: float = 0.0
    """Share of the CT patches of a map with a CT of its own that show that CT, deformed, instead of a rendering."""
    contrast: str = "trained"
    """"trained" or "unseen": contrasts outside the range of training, for evaluation."""


@dataclass(frozen=True)
class Anatomy:
    """A deformed patch before it gets intensities: tissue and label (D, H, W), labels of the unsettled structures."""

    source: str
    tissue: Tensor
    label: Tensor
    unsettled: tuple[int, ...]


@dataclass(frozen=True)
class RenderedPatch:
    """`image` (1, 1, D, H, W) standardised as `kind`, `label` (1, D, H, W), labels of the unsettled structures."""

    image: Tensor
    label: Tensor
    unsettled: tuple[int, ...]
    kind: str


def render_patch(
    source: LabelMap, shape: tuple[int, int, int], kind: str, settings: RenderingSettings, random: Randomness
) -> RenderedPatch:
    """One patch (k, j, i) of a map as an image of `kind` ("CT" or "MR")."""
    return paint_image(deform(source, shape, settings, random), (kind, kind), settings, random)


def deform(source: LabelMap, shape: tuple[int, int, int], settings: RenderingSettings, random: Randomness) -> Anatomy:
    """A random patch of the map's anatomy, with fat, contents, pathology and arms."""
    positions, repeated = sample_positions(source, shape, settings.spacing, settings.geometry, random)
    inside, flat = _flat_indices(positions, source.label.shape)
    placed = source.on(random.device)
    tissue, label, outside = placed.tissue[flat].long(), placed.label[flat].long(), placed.outside[flat].float()
    outside[~inside] = FAR_MM
    grow_fat(tissue, label, outside, settings.spacing, settings.fat_mm, random)
    if source.anatomy == "torso":
        raise_diaphragm(tissue, label, random)
        fill_contents(tissue, random)
        if random.chance(settings.visceral_fat):
            grow_visceral_fat(tissue, label, settings.spacing, random, settings.stout)
        elif random.chance(settings.crowded):
            crowd_organs(tissue, settings.spacing, random)
        if random.chance(settings.arms):
            add_arms(tissue, label, settings.spacing, random)
    _fall_ill(tissue, label, settings, random)
    label[repeated] = IGNORED
    return Anatomy(source.name, tissue, label, _unsettled(source))


def paint_image(
    anatomy: Anatomy, kinds: tuple[str, str], settings: RenderingSettings, random: Randomness
) -> RenderedPatch:
    """The anatomy as an image of ``kinds[0]`` that is taken for one of ``kinds[1]``, standardised."""
    kind, told = kinds
    image, seen = _intensities(anatomy.tissue, kind, settings, random)
    label = torch.where(seen | (anatomy.label < 0), anatomy.label, torch.zeros_like(anatomy.label))
    return RenderedPatch(_shown(image, told, random), label[None], anatomy.unsettled, told)


def _shown(image: Tensor, told: str, random: Randomness) -> Tensor:
    """The stored image (D, H, W) as the network sees it, (1, 1, D, H, W): standardised; what is no CT a little off."""
    image = standardise(image, told)
    if told != "CT":
        image = image * random.uniform(0.85, 1.15) + random.uniform(-0.15, 0.15)
    return image[None, None]


def _unsettled(source: LabelMap) -> tuple[int, ...]:
    return tuple(structure_label(source.anatomy, name) for name in sorted(source.unsettled))


def photograph(
    source: LabelMap, shape: tuple[int, int, int], told: str, settings: RenderingSettings, random: Randomness
) -> RenderedPatch:
    """One patch of the map's own CT, posed and deformed as a rendering is, with the scanner's variations."""
    positions, repeated = sample_positions(source, shape, settings.spacing, settings.geometry, random)
    inside, flat = _flat_indices(positions, source.label.shape)
    placed = source.on(random.device)
    assert placed.image is not None
    extent = torch.tensor(source.label.shape, device=positions.device)[:, None, None, None]
    grid = (2 * (positions + 0.5) / extent - 1).flip(0).movedim(0, -1)[None]  # grid_sample counts i, j, k
    image = nn.functional.grid_sample(placed.image, grid, padding_mode="border", align_corners=False)[0, 0]
    image = torch.where(inside, image, torch.full_like(image, -1000.0))
    image = _blur(image, random.uniform(0.35, 0.75))
    soft = torch.exp(-((image / 300.0) ** 2))  # phases and scanners differ in soft tissue, not in air and bone
    image = image + soft * (random.normal() * 8 + 0.1 * random.normal() * image)
    image, seen = _scanned_ct(image, torch.zeros_like(repeated), settings, random)
    label = placed.label[flat].long()
    label[~seen & (label > 0)] = 0
    label[repeated] = IGNORED
    return RenderedPatch(_shown(image, told, random), label[None], _unsettled(source), told)


def _flat_indices(positions: Tensor, extent: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Nearest voxels as indices into the flattened map (clamped), and whether j and i were inside."""
    index = positions.round().long()
    limits = torch.tensor(extent, device=positions.device)[:, None, None, None] - 1
    inside = ((index[1:] >= 0) & (index[1:] <= limits[1:])).all(0)
    index = torch.minimum(index.clamp(min=0), limits)
    return inside, (index[0] * extent[1] + index[1]) * extent[2] + index[2]


def _fall_ill(tissue: Tensor, label: Tensor, settings: RenderingSettings, random: Randomness) -> None:
    if random.chance(settings.lesions):
        add_lesions(tissue, label, random)
    if random.chance(settings.fatty_muscle):
        waste_muscles(tissue, random)
    if random.chance(settings.osteophytes):
        grow_osteophytes(tissue, label, random)
    if random.chance(settings.implants):
        implant(tissue, random)


def _intensities(tissue: Tensor, kind: str, settings: RenderingSettings, random: Randomness) -> tuple[Tensor, Tensor]:
    """Image (D, H, W) in HU or in relative signal, as the scanner would store it, and what its field of view shows."""
    unseen = settings.contrast == "unseen"
    if kind == "CT":
        mean, texture = ct_values(random, unseen=unseen)
    else:
        shares = (settings.plausible_mr, settings.equations_mr)
        mean, texture = mr_values(random, *shares, sequences=settings.sequences, unseen=unseen)
    speckle = 0.6 * random.noise(tissue.shape) + 0.8 * random.smooth(tissue.shape, 3)[0]
    image = mean.to(tissue.device)[tissue] + texture.to(tissue.device)[tissue] * speckle
    if kind == "CT" and random.chance(settings.table):
        add_table(image, tissue, random)
    image = _blur(image, random.uniform(0.35, 0.75))
    thick = settings.thick_ct if kind == "CT" else settings.thick_mr
    if random.chance(thick):
        axis = settings.thick_axes[random.integer(0, len(settings.thick_axes))]
        image = thick_slices(image.movedim(axis, 0), random.uniform(1.3, 2.6)).movedim(0, axis).contiguous()
    if kind != "CT":
        return scan_mr(image, random), torch.ones_like(tissue, dtype=torch.bool)
    return _scanned_ct(image, tissue == Tissue.METAL, settings, random)


def _scanned_ct(image: Tensor, metal: Tensor, settings: RenderingSettings, random: Randomness) -> tuple[Tensor, Tensor]:
    """The image as a scanner would store it, at times narrower than the body, and what it shows."""
    image = scan_ct(image, metal, random)
    if not random.chance(settings.narrow_ct):
        return image, torch.ones_like(metal)
    seen = _field_of_view(image, random)
    return torch.where(seen, image, torch.full_like(image, -1024.0)), seen


def _field_of_view(image: Tensor, random: Randomness) -> Tensor:
    """The cylinder of a reconstruction that is narrower than the body."""
    height, width = image.shape[1:]
    radius = random.uniform(0.36, 0.5) * max(height, width)
    rows = axis_index(image, 1) - height / 2 + random.uniform(-4, 4)
    columns = axis_index(image, 2) - width / 2 + random.uniform(-4, 4)
    return (rows.square() + columns.square() <= radius**2).expand_as(image)


def _blur(image: Tensor, sigma: float) -> Tensor:
    """Separable Gaussian blur of (D, H, W), three taps per axis: partial volume and the scanner's resolution."""
    side = float(torch.exp(torch.tensor(-0.5 / sigma**2)))
    middle, side = 1 / (1 + 2 * side), side / (1 + 2 * side)
    for axis in range(3):
        padding = [0] * 6
        padding[2 * (2 - axis)] = padding[2 * (2 - axis) + 1] = 1
        padded = nn.functional.pad(image[None, None], padding, mode="replicate")[0, 0]
        n = image.shape[axis]
        image = middle * image + side * (padded.narrow(axis, 0, n) + padded.narrow(axis, 2, n))
    return image


assert TISSUE_COUNT <= 255
