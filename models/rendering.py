"""Training images rendered from label maps.

Label map -> random pose, deformation and organ sizes -> body of random corpulence -> contents, lesions, arms, table ->
intensities as CT (Hounsfield priors) or MR (half plausible sequences, half random mixtures) -> resolution, scanner.
All in torch from one generator: the same seed renders the same image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from models.ct_rendering import ct_values, scan_ct
from models.deformation import Geometry, chance, sample_positions, smooth_noise, uniform
from models.label_maps import LabelMap
from models.mr_rendering import mr_values, scan_mr, thick_slices
from models.standardisation import standardise
from models.tissues import IGNORED, TISSUE_COUNT, Tissue, structure_label


@dataclass(frozen=True)
class RenderingSettings:
    """How patches of one anatomy are rendered."""

    spacing: float
    geometry: Geometry = field(default_factory=Geometry)
    plausible_mr: float = 0.5
    fat_mm: tuple[float, float] = (3.0, 38.0)
    arms: float = 0.25
    table: float = 0.6
    thick_ct: float = 0.15
    thick_mr: float = 0.35
    thick_axes: tuple[int, ...] = (0, 0, 0, 1)
    lesions: float = 0.3


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
    source: LabelMap,
    shape: tuple[int, int, int],
    kind: str,
    settings: RenderingSettings,
    generator: torch.Generator,
) -> RenderedPatch:
    """One patch (k, j, i) of a map as an image of `kind` ("CT" or "MR")."""
    return paint_image(deform(source, shape, settings, generator), (kind, kind), settings, generator)


def deform(
    source: LabelMap, shape: tuple[int, int, int], settings: RenderingSettings, generator: torch.Generator
) -> Anatomy:
    """A random patch of the map's anatomy, with fat, contents, lesions and arms."""
    positions, repeated = sample_positions(source, shape, settings.spacing, settings.geometry, generator)
    inside, flat = _flat_indices(positions, source.label.shape)
    tissue = torch.from_numpy(source.tissue).flatten()[flat].long()
    label = torch.from_numpy(source.label).flatten()[flat].long()
    outside = torch.from_numpy(source.outside).flatten()[flat].float()
    outside[~inside] = 255.0
    _grow_fat(tissue, label, outside, settings, generator)
    if source.anatomy == "torso":
        _raise_diaphragm(tissue, label, generator)
        _fill_contents(tissue, generator)
        if chance(settings.arms, generator):
            _add_arms(tissue, label, settings.spacing, generator)
    if chance(settings.lesions, generator):
        _add_lesions(tissue, label, generator)
    label[repeated] = IGNORED
    unsettled = tuple(structure_label(source.anatomy, name) for name in sorted(source.unsettled))
    return Anatomy(source.name, tissue, label, unsettled)


def paint_image(
    anatomy: Anatomy, kinds: tuple[str, str], settings: RenderingSettings, generator: torch.Generator
) -> RenderedPatch:
    """The anatomy as an image of ``kinds[0]`` that is taken for one of ``kinds[1]``, standardised."""
    kind, told = kinds
    image = standardise(_intensities(anatomy.tissue, kind, settings, generator), told)
    if told != "CT":
        image = image * uniform(0.85, 1.15, generator) + uniform(-0.15, 0.15, generator)
    return RenderedPatch(image[None, None], anatomy.label[None], anatomy.unsettled, told)


def _flat_indices(positions: Tensor, extent: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Nearest voxels as indices into the flattened map (clamped), and whether j and i were inside."""
    index = positions.round().long()
    limits = torch.tensor(extent)[:, None, None, None] - 1
    inside = ((index[1:] >= 0) & (index[1:] <= limits[1:])).all(0)
    index = torch.minimum(index.clamp(min=0), limits)
    return inside, (index[0] * extent[1] + index[1]) * extent[2] + index[2]


def _grow_fat(
    tissue: Tensor, label: Tensor, outside: Tensor, settings: RenderingSettings, generator: torch.Generator
) -> None:
    """Subcutaneous fat of random, uneven thickness and a skin around the core; air beyond. In place."""
    low, high = settings.fat_mm
    thickness = low * (high / low) ** uniform(0, 1, generator)
    shape: tuple[int, int, int] = tissue.shape  # type: ignore[assignment]
    limit = thickness * torch.exp(0.35 * smooth_noise(shape, 20, generator)[0]).clamp(0.3, 1.8)
    grown = (tissue == Tissue.AIR) & (outside > 0)
    tissue[grown & (outside <= limit)] = Tissue.SUBCUTANEOUS_FAT
    tissue[grown & (outside <= limit) & (outside > limit - 0.6 * settings.spacing)] = Tissue.SKIN
    label[grown & (outside > limit)] = label[grown & (outside > limit)].clamp(max=0)


def _raise_diaphragm(tissue: Tensor, label: Tensor, generator: torch.Generator) -> None:
    """At times fat where the lowest lung is: bodies differ in the fat under the diaphragm. In place."""
    if not chance(0.35, generator):
        return
    lung = tissue == Tissue.LUNG
    levels = lung.any(2).any(1).nonzero()
    if not len(levels) or int(levels[0]) == 0:  # the diaphragm is not in the patch
        return
    low, high = int(levels[0]), int(levels[-1])
    edge = low + uniform(0.1, 0.9, generator) * min(high - low, 15)
    shape: tuple[int, int, int] = tissue.shape  # type: ignore[assignment]
    raised = lung & (torch.arange(shape[0])[:, None, None] < edge + 2 * smooth_noise(shape, 8, generator)[0])
    tissue[raised] = Tissue.VISCERAL_FAT
    label[raised] = 0


def _fill_contents(tissue: Tensor, generator: torch.Generator) -> None:
    """Gas and contents of hollow organs, loops and strands in the visceral fat. In place."""
    shape: tuple[int, int, int] = tissue.shape  # type: ignore[assignment]
    noise = smooth_noise(shape, 4, generator, 3)
    front = torch.linspace(0.6, -0.6, shape[1])[None, :, None]  # gas rises to the front of a supine patient
    for organ, gas in ((Tissue.COLON, Tissue.BOWEL_GAS), (Tissue.STOMACH, Tissue.STOMACH_GAS)):
        threshold = uniform(0.2, 2.5, generator)
        tissue[(tissue == organ) & (noise[0] + front > threshold)] = gas
    small = (tissue == Tissue.COLON) & (noise[1] > uniform(-0.5, 1.5, generator))
    tissue[small] = Tissue.SMALL_BOWEL
    fat = tissue == Tissue.VISCERAL_FAT
    tissue[fat & (noise[2] > uniform(0.3, 2.5, generator))] = Tissue.SMALL_BOWEL
    tissue[fat & (noise[2] < -uniform(0.5, 2.5, generator))] = Tissue.MESENTERY
    lung = tissue == Tissue.LUNG
    tissue[lung & (noise[1] > 1.9)] = Tissue.VEIN
    if chance(0.1, generator):  # effusion or atelectasis at the back
        rows = torch.arange(shape[1])[None, :, None]
        tissue[lung & (rows > shape[1] * uniform(0.6, 0.8, generator))] = Tissue.SPLEEN


def _add_lesions(tissue: Tensor, label: Tensor, generator: torch.Generator) -> None:
    """One to three spheres of lesion inside parenchymal organs; their label stays the organ's. In place."""
    organs = torch.isin(
        tissue, torch.tensor([Tissue.LIVER, Tissue.SPLEEN, Tissue.KIDNEY_CORTEX, Tissue.KIDNEY_MEDULLA])
    )
    voxels = organs.nonzero()
    if len(voxels) < 50:
        return
    axes = [torch.arange(n) for n in tissue.shape]
    for _ in range(int(torch.randint(1, 4, (), generator=generator))):
        centre = voxels[int(torch.randint(len(voxels), (), generator=generator))]
        radius = uniform(1.0, 5.0, generator)
        squares = [(axis - int(c)).float() ** 2 for axis, c in zip(axes, centre, strict=True)]
        sphere = squares[0][:, None, None] + squares[1][None, :, None] + squares[2][None, None, :] <= radius**2
        tissue[sphere & organs & (label == label[tuple(centre)])] = Tissue.LESION


def _add_arms(tissue: Tensor, label: Tensor, spacing: float, generator: torch.Generator) -> None:
    """Arms beside the body, where air is. In place."""
    body = (tissue != Tissue.AIR).any(0)
    columns = body.any(0).nonzero()
    if not len(columns):
        return
    rows = torch.arange(tissue.shape[1])[:, None].float()
    across = torch.arange(tissue.shape[2])[None, :].float()
    radius = uniform(30, 52, generator) / spacing
    gap = uniform(-0.2, 0.6, generator) * radius
    j = uniform(0.35, 0.7, generator) * tissue.shape[1]
    for i in (float(columns[0]) - gap - radius, float(columns[-1]) + gap + radius):
        distance = torch.sqrt((rows - j) ** 2 * uniform(0.6, 1.4, generator) + (across - i) ** 2)
        free = (tissue == Tissue.AIR) & (distance <= radius)[None]
        fat = uniform(3, 14, generator) / spacing
        layers = torch.where(distance > radius - fat, int(Tissue.SUBCUTANEOUS_FAT), int(Tissue.MUSCLE))
        layers = torch.where(distance < 11 / spacing, int(Tissue.CORTICAL_BONE), layers)
        layers = torch.where(distance < 6 / spacing, int(Tissue.TRABECULAR_BONE), layers)
        tissue[free] = layers.expand_as(tissue)[free]
        label[free] = 0


def _intensities(tissue: Tensor, kind: str, settings: RenderingSettings, generator: torch.Generator) -> Tensor:
    """Image (D, H, W) in HU or in relative signal, as the scanner would store it."""
    shape: tuple[int, int, int] = tissue.shape  # type: ignore[assignment]
    mean, texture = ct_values(generator) if kind == "CT" else mr_values(generator, settings.plausible_mr)
    speckle = 0.6 * torch.randn(shape, generator=generator) + 0.8 * smooth_noise(shape, 3, generator)[0]
    image = mean[tissue] + texture[tissue] * speckle
    if kind == "CT" and chance(settings.table, generator):
        _add_table(image, tissue, generator)
    image = _blur(image, uniform(0.35, 0.75, generator))
    thick = settings.thick_ct if kind == "CT" else settings.thick_mr
    if chance(thick, generator):
        axis = settings.thick_axes[int(torch.randint(len(settings.thick_axes), (), generator=generator))]
        image = thick_slices(image.movedim(axis, 0), uniform(1.3, 2.6, generator)).movedim(0, axis).contiguous()
    return scan_ct(image, generator) if kind == "CT" else scan_mr(image, generator)


def _add_table(image: Tensor, tissue: Tensor, generator: torch.Generator) -> None:
    """A curved couch behind the body. In place."""
    rows = (tissue != Tissue.AIR).any(0).any(1).nonzero()
    height, width = tissue.shape[1:]
    back = int(rows[-1]) if len(rows) else height - 1
    across = torch.linspace(-1, 1, width)
    j = back + uniform(0.5, 4, generator) - uniform(-2, 12, generator) * across.square()
    offset = torch.arange(height)[:, None].float() - j[None]
    shell = ((offset >= 0) & (offset < uniform(1, 2.5, generator)))[None] & (tissue == Tissue.AIR)
    foam = ((offset >= 2.5) & (offset < uniform(3, 9, generator)))[None] & (tissue == Tissue.AIR)
    image[shell] = uniform(-700, 150, generator)
    image[foam] = uniform(-980, -800, generator)


def _blur(image: Tensor, sigma: float) -> Tensor:
    """Separable Gaussian blur of (D, H, W), three taps per axis: partial volume and the scanner's resolution."""
    side = float(torch.exp(torch.tensor(-0.5 / sigma**2)))
    kernel = torch.tensor([side, 1.0, side]) / (1 + 2 * side)
    x = image[None, None]
    for axis in range(3):
        shape = [1, 1, 1, 1, 1]
        shape[2 + axis] = 3
        padding = [0] * 6
        padding[2 * (2 - axis)] = padding[2 * (2 - axis) + 1] = 1
        x = nn.functional.conv3d(nn.functional.pad(x, padding, mode="replicate"), kernel.reshape(shape))
    return x[0, 0]


assert TISSUE_COUNT <= 255
