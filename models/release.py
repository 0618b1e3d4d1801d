"""Making trained weights the ones that cards name."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from models.card import Card, load_card
from models.inference import read_network
from models.network import SharedNetwork
from models.tissues import structure_label
from models.training import export_weights

_HASH_LINE = re.compile(r'^sha256 = "[0-9a-f]*"$', re.MULTILINE)


def release_weights(weights: Path, cards: Sequence[Path]) -> str:
    """Put averaged weights where the cards look for them and write their SHA-256 into the cards.

    Each anatomy keeps the outputs of the structures that its card lists: what was trained but not learnt is left out of
    the card, and then the network cannot answer it. The cards' ``[quality]`` tables are left: measure them again.

    Args:
        weights: As training wrote them.
        cards: Card files of one weights file, each with one ``sha256 = "..."`` line.

    Returns:
        The SHA-256.

    Raises:
        ValueError: The weights are not a network's, the cards name several files, or one lacks the line.
    """
    listed = [load_card(str(card)) for card in cards]
    targets = {card.weights for card in listed}
    if len(targets) != 1:
        raise ValueError(f"expected cards of one weights file, got {sorted(str(target) for target in targets)}")
    target = targets.pop()
    target.parent.mkdir(parents=True, exist_ok=True)
    _export_listed(read_network(weights), listed, target)
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    for path in cards:
        text, changed = _HASH_LINE.subn(f'sha256 = "{digest}"', path.read_text(encoding="utf-8"))
        if changed != 1:
            raise ValueError(f'{path}: expected one line sha256 = "..." under [weights], got {changed}')
        path.write_text(text, encoding="utf-8")
    return digest


def _export_listed(network: SharedNetwork, cards: Sequence[Card], target: Path) -> None:
    """Export with the output rows of the cards' structures alone."""
    listed = listed_network(network, cards)
    export_weights(listed.state_dict(), listed.shape, target)


def listed_network(network: SharedNetwork, cards: Sequence[Card]) -> SharedNetwork:
    """A trained network with the output rows of the cards' structures alone, in evaluation mode."""
    tensors = network.state_dict()
    outputs = dict(network.shape.outputs)
    for card in cards:
        rows = [0, *(structure_label(card.anatomy, name) for name in card.structures)]
        outputs[card.anatomy] = len(rows)
        for name in [key for key in tensors if key.startswith(f"heads.{card.anatomy}.layers.")]:
            tensors[name] = tensors[name][rows]
    listed = SharedNetwork(replace(network.shape, outputs=outputs))
    listed.load_state_dict(tensors)
    return listed.eval()
