"""Answers reach who asked, however busy the machine is.

pynetdicom has an association of the requestor looked after by a thread of its own, which is paused while a request is
under way. Whether it is paused is asked a moment too early: between the end of its pause and its look for messages the
requestor can ask, and the answer is then taken for a request that nobody expects. The requestor waits until its time is
up, and an association that works is aborted.
"""

from __future__ import annotations

import queue
from functools import partial
from typing import Any

from pynetdicom.association import Association


def keep_answers(association: Association) -> None:
    """Have the thread that looks after an association leave answers to who waits for them; before it starts."""
    messages = association.dimse
    messages.get_msg = partial(_next_message, messages.msg_queue, messages.get_msg)  # type: ignore[method-assign]


def _next_message(messages: queue.Queue[Any], wait_long: Any, block: bool = False) -> Any:
    """As pynetdicom's ``get_msg``; who does not wait gets no answer, for it has asked nothing."""
    if block:
        return wait_long(block=True)
    with messages.mutex:
        if not messages.queue or getattr(messages.queue[0][1], "MessageIDBeingRespondedTo", None) is not None:
            return None, None
        return messages.queue.popleft()
