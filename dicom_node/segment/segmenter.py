"""From a volume to labels on its own slices, by the shared network."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from dicom_node.anatomy import Structure, load_anatomy
from dicom_node.errors import InputRefused, SegmentationFailed, SettingsError
from dicom_node.imaging.geometry import Geometry
from dicom_node.imaging.label_volume import LabelVolume
from dicom_node.imaging.volume import Volume
from dicom_node.logs import get_logger
from dicom_node.segment.body import body_box
from dicom_node.segment.cleaning import tidy
from dicom_node.segment.grids import covering_grid, crop
from dicom_node.segment.resampling import to_grid, to_source_with_certainty
from dicom_node.segment.segmentation import Segmentation
from dicom_node.segment.sureness import measure_sureness
from models.appearance import follow_image
from models.card import Card, load_card
from models.inference import load_network, predict_card, standardise
from models.network import SharedNetwork
from models.parity import RunningNetwork, choose_path

AIR_HU = -1024.0
CT_LIMITS = (AIR_HU, 3071.0)
"""Hounsfield units that scanners give; padding below and metal above would spoil averages."""

MOST_SCORE_BYTES = 4 * 2**30
"""Class scores (fp32) of one volume; two metres of a wide body on the torso card take half a gigabyte."""

_log = get_logger("segment")

LoadNetwork = Callable[[Card], SharedNetwork]


class Segmenter:
    """Keeps networks resident, one for each card used.

    Args:
        device: Where networks run, in torch's words; the first GPU where there is one, else the CPU.
        load: How a card's network is loaded; checks the weights against the card.
        compiled: Whether to compile networks (minutes at load); kept only where the results are those of the plain one.

    Not for several threads at once.
    """

    def __init__(self, device: str | None = None, *, load: LoadNetwork = load_network, compiled: bool = False) -> None:
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._load = load
        self._compiler = _compile if compiled else None
        self._networks: dict[str, RunningNetwork] = {}

    def segment(self, volume: Volume, card: Card | str) -> Segmentation:
        """Segment one volume.

        Args:
            volume: CT or MR; its voxels may be memory-mapped.
            card: The use of the network, or its name.

        Raises:
            SettingsError: There is no such card, its weights are missing or not its own, or anatomy.toml lacks one of
                its structures.
            InputRefused: The card does not take the volume's modality, or the volume covers far too much for it.
            SegmentationFailed: The network gave no finite scores, or ran out of memory.
        """
        card = _card(card) if isinstance(card, str) else card
        structures = _structures(card)
        if volume.modality not in card.modalities:
            taken = " and ".join(card.modalities)
            raise InputRefused(f"the card {card.name} takes {taken}, the series is {volume.modality}")
        seconds: dict[str, float] = {}
        with _timed(seconds, "load"):
            network = self._network(card)
        with _timed(seconds, "resample"):
            image, grid = network_image(volume, card)
        _require_room(grid, card)
        with _timed(seconds, "network"):
            ready = standardise(image, volume.modality)
            scores = self._scores(network, ready, volume.modality, card)
        with _timed(seconds, "clean"):
            sureness = measure_sureness(scores, card.structures)  # the network's own, before the image speaks
            follow_image(scores, ready, card.appearance)
            tidy(scores, card.structures, math.prod(card.spacing_mm))
        with _timed(seconds, "label"):
            found, certainty = to_source_with_certainty(scores, grid, volume.geometry)
            labels = LabelVolume(found, volume.geometry, structures, certainty)
        present = {structure.name for _, structure in labels.present()}
        return Segmentation(
            label_volume=labels,
            confidence={name: sure.inside for name, sure in sureness.items() if name in present},
            rim_entropy={name: sure.rim_entropy for name, sure in sureness.items() if name in present},
            seconds=seconds,
            card=card.name,
            card_version=card.version,
            weights_sha256=card.weights_sha256,
        )

    def _network(self, card: Card) -> RunningNetwork:
        key = f"{card.weights_sha256}:{card.anatomy}:{card.window if self._compiler else ''}"
        if key not in self._networks:
            try:
                network = self._load(card).to(self.device).eval()
            except ValueError as error:
                raise SettingsError(str(error)) from error
            self._networks[key] = choose_path(
                network, card.anatomy, self.device, compiler=self._compiler, window=card.window
            )
            for reason in self._networks[key].refused:
                _log.warning("faster inference refused", card=card.name, reason=reason)
        return self._networks[key]

    def _scores(self, running: RunningNetwork, image: Tensor, modality: str, card: Card) -> Tensor:
        """(C, k, j, i) logits of a standardised image, on the CPU."""
        try:
            scores = predict_card(running.network, image.to(self.device), modality, card, precision=running.precision)
        except torch.OutOfMemoryError as error:
            raise SegmentationFailed(f"out of memory on {self.device} for a grid of {tuple(image.shape)}") from error
        if not torch.isfinite(scores).all():
            raise SegmentationFailed(f"the network gave scores that are not finite for a {modality} volume")
        return scores.float().cpu()


def network_image(volume: Volume, card: Card) -> tuple[Tensor, Geometry]:
    """A volume on the card's grid, cropped to the body.

    Returns:
        (k, j, i) float32 in the volume's own units, k towards the head, j posterior, i left; and the grid's geometry.
    """
    is_ct = volume.modality == "CT"
    grid = covering_grid(volume.geometry, card.spacing_mm)
    image = to_grid(
        volume.voxels,
        volume.geometry,
        grid,
        outside=AIR_HU if is_ct else 0.0,
        limits=CT_LIMITS if is_ct else None,
    )
    box = body_box(image, grid, volume.modality)
    return image[box].contiguous(), crop(grid, box)


def _require_room(grid: Geometry, card: Card) -> None:
    needed = 4 * (len(card.structures) + 1) * math.prod(grid.shape)
    if needed > MOST_SCORE_BYTES:
        size = " x ".join(f"{n * mm:.0f}" for n, mm in zip(grid.shape, card.spacing_mm, strict=True))
        raise InputRefused(
            f"the series covers {size} mm, too much for the card {card.name} on its grid of {card.spacing_mm[0]:g} mm: "
            f"scores would take {needed / 2**30:.1f} GiB; was the right card chosen?"
        )


def _card(name: str) -> Card:
    try:
        return load_card(name)
    except ValueError as error:
        raise SettingsError(str(error)) from error


def _structures(card: Card) -> dict[int, Structure]:
    anatomy = load_anatomy()
    unknown = [name for name in card.structures if name not in anatomy]
    if unknown:
        raise SettingsError(f"card {card.name}: anatomy.toml has no {', '.join(unknown)}")
    return {label: anatomy[name] for label, name in enumerate(card.structures, start=1)}


def _compile(network: SharedNetwork) -> SharedNetwork:
    compiled: SharedNetwork = torch.compile(network)  # type: ignore[assignment]
    return compiled


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[step] = round(time.perf_counter() - start, 3)
