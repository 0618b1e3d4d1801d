"""C-STORE commands decoded and encoded without pynetdicom, against what pynetdicom makes of them."""

from __future__ import annotations

import struct
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID
from pynetdicom.dimse_messages import C_STORE_RQ, C_STORE_RSP
from pynetdicom.dimse_primitives import C_ECHO, C_FIND, C_STORE
from pynetdicom.dsutils import decode, encode

from dicom_node.receive.store_messages import StoreRequest, decode_store_request, encode_success
from dicom_node.uids import is_uid

CT = "1.2.840.10008.5.1.4.1.1.2"
uids = st.lists(st.integers(0, 10**9), min_size=2, max_size=5).map(lambda parts: ".".join(map(str, [1, *parts])))


def request(instance: str = "1.2.3", *, message: int = 1, priority: int = 2) -> C_STORE:
    primitive = C_STORE()
    primitive.MessageID, primitive.Priority = message, priority
    primitive.AffectedSOPClassUID, primitive.AffectedSOPInstanceUID = UID(CT), UID(instance)
    primitive.DataSet = BytesIO(b"\0" * 8)
    return primitive


def command_of(primitive: C_STORE) -> bytes:
    """The command set as pynetdicom sends it."""
    message = C_STORE_RQ()
    message.primitive_to_message(primitive)
    fragment = next(message.encode_msg(1, 0)).presentation_data_value_list[0][1]
    return bytes(fragment[1:])


@given(instance=uids, message=st.integers(0, 65535), priority=st.sampled_from([0, 1, 2]))
def test_a_request_is_what_was_sent(instance: str, message: int, priority: int) -> None:
    sent = request(instance, message=message, priority=priority)
    assert decode_store_request(command_of(sent)) == StoreRequest(
        sent.MessageID, sent.AffectedSOPClassUID, sent.AffectedSOPInstanceUID
    )


@given(instance=uids, message=st.integers(0, 65535))
def test_a_success_is_read_by_pynetdicom(instance: str, message: int) -> None:
    answer = C_STORE()
    answer.MessageIDBeingRespondedTo, answer.Status = message, 0
    answer.AffectedSOPClassUID, answer.AffectedSOPInstanceUID = UID(CT), UID(instance)
    encoded = encode_success(StoreRequest(message, CT, instance))
    theirs = C_STORE_RSP()
    theirs.primitive_to_message(answer)
    assert decode(BytesIO(encoded), True, True) == decode(BytesIO(encode(theirs.command_set, True, True)), True, True)
    assert struct.unpack_from("<I", encoded, 8)[0] == len(encoded) - 12


@given(cut=st.integers(0, 200), at=st.integers(0, 200), value=st.integers(0, 255))
def test_a_damaged_command_is_left_to_pynetdicom_or_still_a_request(cut: int, at: int, value: int) -> None:
    command = bytearray(command_of(request()))
    command[at % len(command)] = value
    read = decode_store_request(bytes(command[: cut or None]))
    assert read is None or is_uid(read.sop_instance_uid)


@pytest.mark.parametrize("other", [C_ECHO, C_FIND])
def test_other_requests_are_left_to_pynetdicom(other: type) -> None:
    field = {C_ECHO: 0x0030, C_FIND: 0x0020}[other]
    command = command_of(request())
    changed = command.replace(struct.pack("<HHIH", 0, 0x0100, 2, 0x0001), struct.pack("<HHIH", 0, 0x0100, 2, field))
    assert changed != command
    assert decode_store_request(changed) is None


def test_a_request_without_a_data_set_is_left_to_pynetdicom() -> None:
    primitive = request()
    primitive.DataSet = None
    assert decode_store_request(command_of(primitive)) is None
