"""pynetdicom's reactors, woken by what happens to an association instead of looking for it every millisecond.

Both of an acceptor's threads poll: the provider (DUL) sleeps 1 ms between looks at the socket and at what there is to
send, the association 1 ms between looks for a message. Every wait of an image's way (its PDUs, the message, the answer)
then costs up to a millisecond. Here the provider waits in ``select`` for the peer, or, while a message is being
answered, for the answer; the association waits for the message. Each wait ends after :data:`LOOK_SECONDS` at the
latest, so that timers, aborts and the end of a thread are seen as before: nothing depends on being woken.
"""

from __future__ import annotations

import queue
import select
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pynetdicom
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider

LOOK_SECONDS = 0.01
_POLL_SECONDS = 0.001

# pynetdicom's own handlers put every message into words for its log, which the node does not show.
pynetdicom._config.LOG_HANDLER_LEVEL = "none"


def make_prompt(association: Association) -> None:
    """Have an accepted association wait for events; before its threads start (``EVT_CONN_OPEN``)."""
    provider, messages = association.dul, association.dimse
    waits = _ProviderWaits(provider)
    messages.msg_queue = _ToldQueue(waits.message_came)
    messages.get_msg = partial(_next_message, messages.msg_queue, messages.get_msg)  # type: ignore[method-assign]
    provider._run_loop_delay = 0
    provider._process_recv_primitive = waits.primitive_to_send  # type: ignore[method-assign]
    provider._is_transport_event = waits.transport_event  # type: ignore[method-assign]


class _ProviderWaits:
    """The provider's waits; used by its own thread alone."""

    def __init__(self, provider: DULServiceProvider) -> None:
        self._provider = provider
        self._look_for_primitive: Callable[[], bool] = provider._process_recv_primitive
        self._look_at_transport: Callable[[], bool] = provider._is_transport_event
        self._answer_is_due = False

    def message_came(self) -> None:
        """A whole message went to the association: what comes next is its answer, not the peer."""
        self._answer_is_due = True

    def primitive_to_send(self) -> bool:
        """Whether there is something to send."""
        found = self._look_for_primitive()
        if found:
            self._answer_is_due = False
        return found

    def transport_event(self) -> bool:
        """Wait for the answer or for the peer; whether the peer sent something."""
        if not self._provider.event_queue.empty():  # an expired timer is acted on first
            return self._look_at_transport()
        if self._answer_is_due:
            _wait_for_item(self._provider.to_provider_queue)
            return self._look_at_transport()
        something_came = _wait_for_peer(self._provider)
        found = self._look_at_transport()
        if something_came and not found:  # a part of a TLS record: nothing to read yet, and select would not wait
            time.sleep(_POLL_SECONDS)
        return found


class _ToldQueue(queue.Queue[Any]):
    """A queue that tells when something was put into it."""

    def __init__(self, told: Callable[[], None]) -> None:
        super().__init__()
        self._told = told

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item, block, timeout)
        self._told()


def _next_message(messages: queue.Queue[Any], wait_long: Callable[..., Any], block: bool = False) -> Any:
    """The next message; (None, None) when none came in time."""
    if block:
        return wait_long(block=True)
    try:
        return messages.get(timeout=LOOK_SECONDS)
    except queue.Empty:
        return None, None


def _wait_for_item(waiting: queue.Queue[Any]) -> None:
    with waiting.not_empty:
        if not waiting.queue:
            waiting.not_empty.wait(LOOK_SECONDS)


def _wait_for_peer(provider: DULServiceProvider) -> bool:
    """Whether something came; at once where TLS has decrypted bytes that ``select`` would not see."""
    wrapped = provider.socket
    connection = wrapped.socket if wrapped is not None else None
    if connection is None or connection.fileno() < 0:
        _wait_for_item(provider.to_provider_queue)
        return False
    if getattr(connection, "pending", int)():
        return True
    try:
        return bool(select.select([connection], [], [], LOOK_SECONDS)[0])
    except (OSError, ValueError):  # closed meanwhile: pynetdicom's own look finds out
        return False
