"""DICOM's upper layer by hand (PS3.8 9.3), so that it can be sent wrongly."""

from __future__ import annotations

import struct
from random import Random

CT_CLASS, VERIFICATION = b"1.2.840.10008.5.1.4.1.1.2", b"1.2.840.10008.1.1"
EXPLICIT_LITTLE, IMPLICIT_LITTLE = b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2"
COMMITMENT = b"1.2.840.10008.1.20.1"
RELEASE_RQ = b"\x05\x00" + struct.pack(">I", 4) + bytes(4)
ABORT = b"\x07\x00" + struct.pack(">I", 4) + bytes(4)
KINDS = range(9)
COMMANDS = (0x0001, 0x8001, 0x0030, 0x8030, 0x0020, 0x0010, 0x0021, 0x0100, 0x0110, 0x0130, 0x0FFF, 0x0000, 0xFFFF)


def pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBI", kind, 0, len(body)) + body


def associate_rq() -> bytes:
    """A proper request for verification (1), CT images (3) and storage commitment (5)."""
    contexts = ((1, VERIFICATION, IMPLICIT_LITTLE), (3, CT_CLASS, EXPLICIT_LITTLE), (5, COMMITMENT, IMPLICIT_LITTLE))
    items = [_item(0x10, b"1.2.840.10008.3.1.1.1")]
    for number, abstract, transfer in contexts:
        items.append(_item(0x20, bytes((number, 0, 0, 0)) + _item(0x30, abstract) + _item(0x40, transfer)))
    items.append(_item(0x50, _item(0x51, struct.pack(">I", 16384)) + _item(0x52, b"1.2.3.4")))
    head = struct.pack(">HH", 1, 0) + b"DICOM_NODE".ljust(16) + b"DAMAGED".ljust(16) + bytes(32)
    return pdu(0x01, head + b"".join(items))


def p_data(context: int, header: int, content: bytes) -> bytes:
    return pdu(0x04, struct.pack(">IBB", len(content) + 2, context, header) + content)


def command(field: int, message: int, *, sop_class: bytes, instance: bytes = b"", data_set: bool = False) -> bytes:
    """A command set (PS3.7 6.3)."""
    elements = [
        _element(0x0002, sop_class),
        _element(0x0100, struct.pack("<H", field)),
        _element(0x0110, struct.pack("<H", message)),
        _element(0x0700, struct.pack("<H", 0)),
        _element(0x0800, struct.pack("<H", 0x0001 if data_set else 0x0101)),
    ]
    if instance:
        elements.append(_element(0x1000, instance))
    content = b"".join(elements)
    return _element(0x0000, struct.pack("<I", len(content))) + content


def conversation(encoded: bytes, instance: bytes, chance: Random) -> list[bytes]:
    """Some PDUs that an associated peer might send, each in order."""
    echo = p_data(1, 0x03, command(0x0030, chance.randrange(65536), sop_class=VERIFICATION))
    store = command(0x0001, chance.randrange(65536), sop_class=CT_CLASS, instance=instance, data_set=True)
    cut = chance.randrange(len(encoded) + 1)
    parts = [p_data(3, 0x03, store), p_data(3, 0x00, encoded[:cut]), p_data(3, 0x02, encoded[cut:])]
    strange = p_data(
        chance.choice((1, 3, 5, 7, 0, 255)),
        chance.choice((0x03, 0x01, 0x02, 0x00, 0xFF)),
        command(chance.choice(COMMANDS), 1, sop_class=chance.choice((CT_CLASS, VERIFICATION, COMMITMENT, b"x"))),
    )
    action = [
        p_data(5, 0x03, command(0x0130, 7, sop_class=COMMITMENT, instance=b"1.2.840.10008.1.20.1.1", data_set=True)),
        p_data(5, 0x02, encoded[: chance.choice((0, 20, 400))]),
    ]
    sequences = ([echo], parts, [*parts, echo], [strange], [*parts[:2], strange], action, [echo, RELEASE_RQ], [ABORT])
    return list(chance.choice(sequences))


def damaged_pdus(pdus: list[bytes], chance: Random) -> bytes:
    """The bytes of some PDUs with one or two damages."""
    pdus = list(pdus)
    for _ in range(chance.choice((1, 1, 2))):
        k = chance.randrange(len(pdus))
        one = bytearray(pdus[k])
        kind = chance.randrange(7)
        if kind == 0:
            for _ in range(chance.randint(1, 6)):
                one[chance.randrange(min(len(one), 300))] ^= 1 << chance.randrange(8)
        elif kind == 1 and len(one) >= 6:
            length = chance.choice((0, 1, 5, len(one) - 7, len(one) - 5, 1 << 20, (1 << 20) + 1, 0xFFFFFFFF))
            one[2:6] = struct.pack(">I", length & 0xFFFFFFFF)
        elif kind == 2:
            one[0] = chance.choice(KINDS)
        elif kind == 3 and len(one) > 1:
            del one[chance.randrange(1, len(one)) :]
        elif kind == 4:
            one[6:] = chance.randbytes(len(one[6:]))
        elif kind == 5 and len(one) > 12:  # a length within: an item's, a fragment's, an element's
            place = chance.randrange(6, len(one) - 3)
            one[place : place + 4] = chance.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\xff\xff", b"\x7f\xff\0\0"))
        else:
            pdus.insert(chance.randrange(len(pdus) + 1), chance.choice(pdus))
            continue
        pdus[k] = bytes(one) or b"\0"
    return b"".join(pdus)


def _item(kind: int, content: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(content)) + content


def _element(number: int, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHI", 0, number, len(value)) + value
