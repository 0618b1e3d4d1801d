"""What a destination's reports of storage commitment mean for the results it stored (PS3.4 annex J). Pure.

Of each result the latest request that named it counts: one that failed and was sent again waits for the new report, and
the others of its case for theirs. That it was committed to counts whichever request it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dicom_node.ledger.commitments import Commitment
from dicom_node.ledger.deliveries import Delivery

SOONEST_SECONDS, LATEST_SECONDS = 2.0, 300.0


@dataclass(frozen=True)
class Standing:
    """Where the unfinished results of a case stand at a destination that is asked to commit to them; by UID.

    Attributes:
        committed: The destination keeps them.
        uncommitted: It said that it does not, with the failure reason; nothing else was asked since.
        awaited: Their report may still come, and there is nothing to do but to wait: when it was asked, by UID.
        overdue: Their report did not come in time.
        unasked: Stored, and no request for them is known to have been taken: after a kill between the two, say.
    """

    committed: frozenset[str] = frozenset()
    uncommitted: Mapping[str, int] | None = None
    awaited: Mapping[str, float] | None = None
    overdue: frozenset[str] = frozenset()
    unasked: frozenset[str] = frozenset()

    def is_awaited(self, row: Delivery) -> bool:
        """Whether a result has to be left alone until its report comes, or is overdue."""
        return row.sop_instance_uid in (self.awaited or {})

    def is_uncommitted(self, row: Delivery) -> bool:
        """Whether the last word of the destination is that it does not commit to a result."""
        return row.sop_instance_uid in (self.uncommitted or {})

    def look_again_after(self, now: float, patience_seconds: float) -> float:
        """Seconds until the ledger is looked at again: soon at first, every five minutes after hours.

        Only where something is awaited.
        """
        ages = [now - asked_at for asked_at in (self.awaited or {}).values()]
        return min(max(SOONEST_SECONDS, min(LATEST_SECONDS, age / 2, patience_seconds - age)) for age in ages)


def standing_of(rows: Sequence[Delivery], asked: Sequence[Commitment], now: float, patience_seconds: float) -> Standing:
    """Sort the results of a case at a destination by what is known of its commitment to them.

    Args:
        rows: Its deliveries; what is settled, or was never sent, is passed over.
        asked: What it was asked, the latest first.
        now: Seconds since the epoch.
        patience_seconds: How long a report may take.
    """
    sent = [row for row in rows if row.state in {"stored", "failed"}]
    committed = {row.sop_instance_uid for row in sent if any(row.sop_instance_uid in each.committed for each in asked)}
    uncommitted: dict[str, int] = {}
    awaited: dict[str, float] = {}
    overdue, unasked = set(), set()
    for row in sent:
        uid = row.sop_instance_uid
        if uid in committed:
            continue
        latest = next((each for each in asked if each.refused_at is None and each.concerns(uid)), None)
        reason = (latest.failed or {}).get(uid) if latest is not None else None
        if reason is not None:
            uncommitted[uid] = reason
        elif row.state != "stored":
            continue
        elif latest is None or not latest.is_open or _taken_at(latest) is None:
            unasked.add(uid)
        elif now - (taken_at := _taken_at(latest) or 0.0) >= patience_seconds:
            overdue.add(uid)
        else:
            awaited[uid] = taken_at
    return Standing(frozenset(committed), uncommitted, awaited, frozenset(overdue), frozenset(unasked))


def _taken_at(asked: Commitment) -> float | None:
    """Since when a report is waited for; an earlier version kept on record only what was taken."""
    return asked.asked_at if asked.instances is None else asked.taken_at
