"""Damaged copies of DICOM files: the same seed gives the same damage."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from random import Random

from tests.robustness.elements import LONG_VRS, PIXEL_DATA, UNDEFINED, Element, body_offset, elements_of, header

NUMBER_TEXTS = (b"", b"NaN", b"inf", b"-inf", b"1e400", b"1e308", b"-1e308", b"1e-320", b"0", b"-1", b"9" * 400, b"x")
NUMBER_TEXTS_SEVERAL = (
    b"1\\2\\3\\4\\5\\6\\7",
    b"nan\\nan\\nan",
    b"1e200\\0\\0",
    b"inf\\0\\0\\0\\inf\\0",
    b"\\\\",
    b"0\\0",
)
UIDS = (b"", b"1.2..3", b"../../../etc/passwd", b"1" * 65, b"1.2.\0\0", b"abc", b"1.2\\1.3", b"\xff\xfe", b"1." * 40)
SYNTAXES = (
    *(b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2.2"),
    *(b"1.2.840.10008.1.2.5", b"1.2.840.10008.1.2.8.1", b"1.2.3", b""),
)
SHORT_VRS = (
    b"AE",
    b"AS",
    b"AT",
    b"CS",
    b"DA",
    b"DS",
    b"FL",
    b"FD",
    b"IS",
    b"LO",
    b"PN",
    b"SH",
    b"SS",
    b"UI",
    b"UL",
    b"US",
)
SIZES = (0x00280010, 0x00280011, 0x00280008, 0x00280100, 0x00280101, 0x00280102, 0x00280002)
NUMBERS = {
    *(0x00200032, 0x00200037, 0x00280030, 0x00180050, 0x00281052, 0x00281053, 0x00200013, 0x00200011, 0x00180081),
    *(0x00280120, 0x00280121, 0x00189087, 0x00189074, 0x00180086, 0x00280103),
}

Damage = Callable[[bytes, Sequence[Element], Random], bytes]


def damaged(content: bytes, chance: Random) -> tuple[str, bytes]:
    """A copy with one to three damages.

    Args:
        content: A whole file.
        chance: Chooses.

    Returns:
        The damages' names, and the copy.
    """
    names = []
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        damage = chance.choice(DAMAGES)
        try:
            content = damage(content, elements_of(content), chance)
        except (struct.error, StopIteration, IndexError):  # damaged already beyond finding its elements
            content = flipped_bits(content, (), chance)
        names.append(damage.__name__)
    return "+".join(names), content


def flipped_bits(content: bytes, _: Sequence[Element], chance: Random) -> bytes:
    """Some bits, most of them in the header."""
    copy = bytearray(content)
    for _ in range(chance.randint(1, 8) if copy else 0):
        reach = min(len(copy), 3000) if chance.random() < 0.7 else len(copy)
        copy[chance.randrange(min(128, reach - 1), reach)] ^= 1 << chance.randrange(8)
    return bytes(copy)


def truncation(content: bytes, _: Sequence[Element], chance: Random) -> bytes:
    return content[: chance.randrange(len(content) + 1)]


def wrong_length(content: bytes, elements: Sequence[Element], chance: Random) -> bytes:
    one = chance.choice(elements)
    length = chance.choice((0, 1, UNDEFINED, 0xFFFFFFFE, 0x7FFFFFFF, one.length + 1, one.length * 2, one.length // 2))
    return content[: one.start] + header(one.tag, one.vr, length & UNDEFINED) + content[one.value :]


def swapped_vr(content: bytes, elements: Sequence[Element], chance: Random) -> bytes:
    """Another VR over the same value, with the header that the other VR has."""
    one = chance.choice([element for element in elements if element.vr])
    vr = chance.choice((*SHORT_VRS, *sorted(LONG_VRS), b"\0\0", b"ZZ"))
    return content[: one.start] + header(one.tag, vr, one.length) + content[one.value :]


def nested_sequences(content: bytes, elements: Sequence[Element], chance: Random) -> bytes:
    """Sequence in sequence, as deep as nobody means it; half of them never end."""
    one = chance.choice(elements)
    depth = chance.choice((5, 100, 400, 1500, 6000))
    tag = chance.choice((0x00081140, 0x52009229, 0x52009230, 0x00089215, one.tag))
    opened = header(tag, one.vr and b"SQ", UNDEFINED) + header(0xFFFEE000, b"", UNDEFINED)
    closed = header(0xFFFEE00D, b"", 0) + header(0xFFFEE0DD, b"", 0)
    return content[: one.start] + opened * depth + closed * (depth * chance.randrange(2)) + content[one.start :]


def nonsense_number(content: bytes, elements: Sequence[Element], chance: Random) -> bytes:
    one = chance.choice([element for element in elements if element.tag in NUMBERS])
    if one.vr in {b"US", b"SS"}:
        return _with_value(content, one, struct.pack("<H", chance.choice((0, 1, 0x7FFF, 0x8000, 0xFFFF))))
    if one.vr in {b"FD", b"FL"}:
        kind, count = ("d", 8) if one.vr == b"FD" else ("f", 4)
        number = chance.choice((float("nan"), float("inf"), -1.0, 0.0, 1e38))
        return _with_value(content, one, struct.pack(f"<{kind}", number) * max(1, one.length // count))
    text = chance.choice((*NUMBER_TEXTS, *NUMBER_TEXTS_SEVERAL))
    if chance.random() < 0.5:
        text = b"\\".join([text] * (content[one.value : one.end].count(b"\\") + 1))
    return _with_value(content, one, text)


def nonsense_size(content: bytes, elements: Sequence[Element], chance: Random) -> bytes:
    """Rows, columns, bits or frames that are not there."""
    if chance.random() < 0.3:
        vr = b"IS" if any(element.vr for element in elements[-3:]) else b""
        frames = chance.choice((b"2147483647", b"0", b"-5", b"100000", b"2"))
        frames += b" " * (len(frames) % 2)
        place = next(element for element in elements if element.tag >= 0x00280010).start
        return content[:place] + header(0x00280008, vr, len(frames)) + frames + content[place:]
    for one in [element for element in reversed(elements) if element.tag in SIZES]:
        if chance.random() < 0.5:
            size = chance.choice((0, 1, 7, 8, 32, 64, 4096, 30000, 0x7FFF, 0xFFFF))
            content = _with_value(content, one, struct.pack("<H", size))
    return content


def pixel_length(content: bytes, elements: Sequence[Element], chance: Random) -> bytes:
    """Pixel data of another length than the header says."""
    one = next(element for element in elements if element.tag == PIXEL_DATA)
    if one.length == UNDEFINED:
        return truncation(content, elements, chance)
    wanted = chance.choice((0, 1, one.length // 2, max(0, one.length - 1), one.length + 1, one.length * 2 + 1))
    return _with_value(content, one, (content[one.value : one.end] * 3)[:wanted])


def wrong_fragments(content: bytes, elements: Sequence[Element], chance: Random) -> bytes:
    """Offsets and lengths of fragments that lead nowhere; pixel data that are not compressed get fragments."""
    pixels = next(element for element in elements if element.tag == PIXEL_DATA)
    if pixels.length != UNDEFINED:
        start = header(PIXEL_DATA, pixels.vr and b"OB", UNDEFINED) + header(0xFFFEE000, b"", 4)
        offset = struct.pack("<I", chance.choice((0, 1, 0xFFFFFFFF, 0x7FFFFFF0)))
        return content[: pixels.start] + start + offset + content[pixels.value :]
    item = chance.choice([element for element in elements if element.start > pixels.start])
    if chance.random() < 0.5:
        offsets = b"".join(struct.pack("<I", chance.choice((0, 1, 8, 0xFFFFFFFF))) for _ in range(chance.randint(1, 9)))
        return content[: item.start] + header(0xFFFEE000, b"", len(offsets)) + offsets + content[item.end :]
    return content[: item.start] + header(0xFFFEE000, b"", chance.choice((0, 1, 3, 0xFFFFFFF0))) + content[item.value :]


def invalid_uid(content: bytes, elements: Sequence[Element], chance: Random) -> bytes:
    one = chance.choice([element for element in elements if element.vr == b"UI"])
    return _with_value(content, one, chance.choice(UIDS))


def other_syntax(content: bytes, elements: Sequence[Element], chance: Random) -> bytes:
    """File meta information that names another transfer syntax than the data set has."""
    return _with_value(content, next(one for one in elements if one.tag == 0x00020010), chance.choice(SYNTAXES))


def lost_element(content: bytes, elements: Sequence[Element], chance: Random) -> bytes:
    one = chance.choice(elements)
    return content[: one.start] + content[one.end :]


def repeated_element(content: bytes, elements: Sequence[Element], chance: Random) -> bytes:
    """An element, and perhaps thousands of it, somewhere else."""
    one, place = chance.choice(elements), chance.choice(elements)
    copies = content[one.start : one.end] if one.length < 1000 else header(one.tag, one.vr, 0)
    return content[: place.start] + copies * chance.choice((1, 1, 2000)) + content[place.start :]


def random_bytes(content: bytes, _: Sequence[Element], chance: Random) -> bytes:
    """Noise from some place on; sometimes nothing else."""
    place = chance.choice((0, 132, 140, body_offset(content), chance.randrange(len(content))))
    return content[:place] + chance.randbytes(chance.choice((0, 1, 50, 2000)))


DAMAGES: tuple[Damage, ...] = (
    *(flipped_bits, truncation, wrong_length, swapped_vr, swapped_vr, nested_sequences, nonsense_number),
    *(nonsense_number, nonsense_size, pixel_length, wrong_fragments, invalid_uid, other_syntax, lost_element),
    *(repeated_element, random_bytes),
)


def _with_value(content: bytes, one: Element, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    return content[: one.start] + header(one.tag, one.vr, len(value)) + value + content[one.end :]
