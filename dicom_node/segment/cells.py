"""Class scores of a grid, asked between its points: which class is best there, and how close the next one comes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from dicom_node.imaging.certainty import CERTAIN
from dicom_node.imaging.geometry import FloatArray, Geometry

SCORED_POINTS = 131_072
"""Points whose class scores are held at once."""
_LEAST_WINNER = 128
_MIXED = 255
_CORNERS = tuple(itertools.product((0, 1), repeat=3))


@dataclass(frozen=True)
class Ranking:
    """The two best classes of some points, as :class:`~dicom_node.imaging.certainty.Certainty` has them.

    Attributes:
        best: (...) uint8.
        winner: (...) uint8: p(best) / (p(best) + p(second)) in 255ths, 128 to 255.
        runner_up: (...) uint8: the second best class; 0 where ``winner`` is 255.
    """

    best: Tensor
    winner: Tensor
    runner_up: Tensor


class Cells:
    """Class scores of a grid, ready to be asked between grid points.

    Where all eight grid points around a place agree on the class, it also wins between them; the scores around the
    other cells, the mixed ones, lie in a compact table.

    Args:
        scores: (C, k, j, i) logits; class 0 is background. At most 254 classes.
    """

    def __init__(self, scores: Tensor) -> None:
        if scores.ndim != 4 or scores.shape[0] >= _MIXED:
            raise ValueError(f"expected up to 254 classes on a grid, got scores of shape {tuple(scores.shape)}")
        self._scores = scores
        self._winner = scores.argmax(0).to(torch.uint8)
        self._size = torch.tensor(self._winner.shape)
        self._labels = self._agreed()
        needed = self._needed()
        self._row = torch.cumsum(needed.flatten(), 0) - 1
        self._table = scores[:, needed].T.contiguous().float()

    @property
    def shape(self) -> tuple[int, int, int]:
        """(k, j, i) of the grid."""
        k, j, i = self._winner.shape
        return k, j, i

    def foreground_corners(self, grid: Geometry) -> FloatArray:
        """(8, 3) patient_mm of a box that holds every voxel that can have a label; (0, 3) where there is none."""
        foreground = torch.nonzero(self._winner)
        if not len(foreground):
            return np.empty((0, 3))
        ends = np.stack([foreground.amin(0).numpy() - 1.0, foreground.amax(0).numpy() + 1.0])
        return grid.index_to_patient(np.array([[ends[c, axis] for axis, c in enumerate(step)] for step in _CORNERS]))

    def labels_at(self, where: Tensor) -> Tensor:
        """(...) uint8 best classes at fractional grid indices (3, ...), which are clamped to the grid."""
        labels, cell = self._looked_up(where)
        mixed = labels == _MIXED
        best = torch.empty(int(mixed.sum()), dtype=torch.uint8)
        for part, scores in self._mixed_scores(where[:, mixed], cell[:, mixed]):
            best[part] = scores.argmax(1).to(torch.uint8)
        labels[mixed] = best
        return labels

    def ranking_at(self, where: Tensor) -> tuple[Ranking, Tensor]:
        """The best classes at fractional grid indices (3, ...), which are clamped to the grid.

        Returns:
            The ranking, CERTAIN outside mixed cells; and (...) whether a point lies in a mixed cell.
        """
        labels, cell = self._looked_up(where)
        mixed = labels == _MIXED
        found = _unranked(int(mixed.sum()))
        for part, scores in self._mixed_scores(where[:, mixed], cell[:, mixed]):
            _rank(scores, scores.argmax(1), found, part)
        ranking = Ranking(labels, torch.full_like(labels, CERTAIN), torch.zeros_like(labels))
        ranking.best[mixed], ranking.winner[mixed], ranking.runner_up[mixed] = found.best, found.winner, found.runner_up
        return ranking, mixed

    def ranking_of(self, labels: npt.NDArray[np.uint8], where: Tensor) -> Ranking:
        """How labels (N,), known to be the best at fractional grid indices (3, N) within the grid, compare there.

        For any cells, mixed or not: the scores are gathered from the whole grid.
        """
        best, cell = torch.from_numpy(labels).long(), self._cell(where)
        found = _unranked(len(labels))
        for part, corners, weights in self._corners(where, cell):
            used, rows = torch.unique(corners, return_inverse=True)
            j, i = used // self.shape[2] % self.shape[1], used % self.shape[2]
            table = self._scores[:, used // (self.shape[1] * self.shape[2]), j, i].T.contiguous().float()
            _rank(
                functional.embedding_bag(rows, table, per_sample_weights=weights, mode="sum"), best[part], found, part
            )
        return found

    def _agreed(self) -> Tensor:
        """(k', j', i') the class on which the corners of each cell agree, else _MIXED."""
        first = self._corner(self._winner, (0, 0, 0))
        agree = torch.ones_like(first, dtype=torch.bool)
        for step in _CORNERS:
            agree &= self._corner(self._winner, step) == first
        return torch.where(agree, first, _MIXED)

    def _needed(self) -> Tensor:
        """(k, j, i) the grid points at corners of mixed cells."""
        needed = torch.zeros(self._winner.shape, dtype=torch.bool)
        mixed = self._labels == _MIXED
        for step in _CORNERS:
            self._corner(needed, step).logical_or_(mixed)
        return needed

    @staticmethod
    def _corner(array: Tensor, step: tuple[int, ...]) -> Tensor:
        """A view of one corner of every cell; a grid of one point along an axis has one cell there."""
        for axis, (offset, n) in enumerate(zip(step, array.shape, strict=True)):
            array = array.narrow(axis, offset if n > 1 else 0, max(n - 1, 1))
        return array

    def _looked_up(self, where: Tensor) -> tuple[Tensor, Tensor]:
        """(...) the class of each point's cell or _MIXED, and (3, ...) the cell; clamps ``where`` in place."""
        for axis in range(3):
            where[axis].clamp_(0, int(self._size[axis]) - 1)
        cell = self._cell(where)
        _, rows, columns = self._labels.shape
        return self._labels.flatten()[(cell[0] * rows + cell[1]) * columns + cell[2]], cell

    def _cell(self, where: Tensor) -> Tensor:
        cell = torch.empty(where.shape, dtype=torch.int64)
        for axis in range(3):
            cell[axis] = where[axis].floor().clamp_(max=max(int(self._size[axis]) - 2, 0))
        return cell

    def _mixed_scores(self, where: Tensor, cell: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """(n, C) scores at points (3, N) within mixed cells (3, N), some at a time."""
        for part, corners, weights in self._corners(where, cell):
            rows = self._row[corners]
            yield part, functional.embedding_bag(rows, self._table, per_sample_weights=weights, mode="sum")

    def _corners(self, where: Tensor, cell: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """(n, 8) flat indices of the grid points around points (3, N) within cells (3, N), and their weights."""
        for first in range(0, where.shape[1], SCORED_POINTS):
            part = slice(first, first + SCORED_POINTS)
            yield part, *self._weighted(where[:, part] - cell[:, part], cell[:, part])

    def _weighted(self, fraction: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        _, rows, columns = self._winner.shape
        index, weight = [], []
        for step in _CORNERS:
            offset = [up if n > 1 else 0 for up, n in zip(step, self._winner.shape, strict=True)]
            k, j, i = (cell[axis] + offset[axis] for axis in range(3))
            index.append((k * rows + j) * columns + i)
            part = [fraction[axis] if up else 1 - fraction[axis] for axis, up in enumerate(step)]
            weight.append(part[0] * part[1] * part[2])
        return torch.stack(index, 1), torch.stack(weight, 1)


def _unranked(count: int) -> Ranking:
    return Ranking(*(torch.empty(count, dtype=torch.uint8) for _ in range(3)))


def _rank(scores: Tensor, best: Tensor, into: Ranking, part: slice) -> None:
    """Rank points by their scores (n, C), which are spent, given the best class (n,) of each."""
    own = scores.gather(1, best[:, None])
    scores.scatter_(1, best[:, None], -torch.inf)
    second, runner_up = scores.max(1)
    winner = (CERTAIN * torch.sigmoid(own[:, 0] - second)).round().clamp_(_LEAST_WINNER, CERTAIN)
    into.best[part] = best.to(torch.uint8)
    into.winner[part] = winner.to(torch.uint8)
    into.runner_up[part] = torch.where(winner < CERTAIN, runner_up, 0).to(torch.uint8)
