"""How sure a network was of each voxel's label, and where between two voxels the border of a label runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

HALF = 127.5
"""One half on the scale of a byte; no stored value lies on it, so every voxel is on one side of a border."""
CERTAIN = 255


@dataclass(frozen=True)
class Certainty:
    """The two best labels of every voxel, and how the network weighed them against each other.

    Only the best and the second best label are kept: where one of them meets the other, their weights cross one half,
    and there the border runs. A label that is neither has probability 0 at that voxel.

    Attributes:
        winner: (k, j, i) bytes from 128 to 255: p(best) / (p(best) + p(second)), as 255ths; raised by a few of them
            where the border would come too near to the voxel's centre. 255 where nothing else was in question.
        runner_up: (k, j, i) bytes: the second best label, 0 for background; without meaning where ``winner`` is 255.
    """

    winner: Bytes
    runner_up: Bytes

    def __post_init__(self) -> None:
        if self.winner.shape != self.runner_up.shape:
            raise ValueError(f"winner has shape {self.winner.shape}, runner_up {self.runner_up.shape}")

    def probability(
        self, labels: npt.NDArray[np.unsignedinteger], label: int, k: int, box: tuple[slice, slice]
    ) -> Bytes:
        """The probability of one label on a part of a slice, as 255ths: above HALF exactly where the label is.

        Args:
            labels: (rows, columns) best labels of that part.
            label: Whose probability.
            k: The slice.
            box: Rows and columns of the part.
        """
        winner = self.winner[k][box]
        other = np.where(self.runner_up[k][box] == label, CERTAIN - winner, 0)
        return np.where(labels == label, winner, other).astype(np.uint8)
