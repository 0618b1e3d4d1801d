"""The thread that looks after an association takes requests, and leaves answers to who waits for them."""

from __future__ import annotations

import queue
from types import SimpleNamespace
from typing import Any

from pynetdicom.dimse_primitives import C_ECHO, N_EVENT_REPORT

from dicom_node.deliver.answers import keep_answers


def messages_of(*waiting: Any) -> Any:
    kept: queue.Queue[Any] = queue.Queue()
    for message in waiting:
        kept.put((1, message))
    dimse = SimpleNamespace(msg_queue=kept, get_msg=lambda block: kept.get(block=block))
    keep_answers(SimpleNamespace(dimse=dimse))  # type: ignore[arg-type]
    return dimse


def test_who_does_not_wait_gets_no_answer() -> None:
    answer = C_ECHO()
    answer.MessageIDBeingRespondedTo = 1
    messages = messages_of(answer)
    assert messages.get_msg(block=False) == (None, None)
    assert messages.get_msg(block=True) == (1, answer)


def test_a_request_of_the_peer_is_taken() -> None:
    request = N_EVENT_REPORT()
    messages = messages_of(request)
    assert messages.get_msg(block=False) == (1, request)
    assert messages.get_msg(block=False) == (None, None)
