"""PDUs that pynetdicom decodes and then cannot digest: they end their connection, not the thread that serves it.

An A-ABORT from a source that does not exist, a request with an impossible title: pynetdicom raises in the middle of its
state machine, its provider's thread is gone, and with it whoever would close the connection.
"""

from __future__ import annotations

from pynetdicom.association import Association

from dicom_node.receive.connection import guarded

_REQUESTED, _CONNECTION_CLOSED = "Evt6", "Evt17"  # PS3.8 9.2.2
_OVER, _INDICATED = "Sta1", "Sta3"


def survive_pdus(association: Association) -> None:
    """Have an accepted association end by its state machine whatever comes; before its threads start."""
    provider, machine = association.dul, association.dul.state_machine
    act = machine.do_action

    def act_or_end(event: str) -> None:
        try:
            act(event)
        except Exception as error:
            if event == _CONNECTION_CLOSED:  # nothing is left that could end in order
                provider._kill_thread = association._kill = True
                raise
            guarded(association).cut(f"a PDU that means nothing here: {error}"[:200])
        else:
            if event == _REQUESTED and machine.current_state == _INDICATED:
                guarded(association).note_request()
            if machine.current_state == _OVER:
                guarded(association).end()

    machine.do_action = act_or_end  # type: ignore[method-assign]
