# SPDX-License-Identifier: Apache-2.0
"""What goes over the serial line between host and board: frames, requests and replies.

A frame is framed as in RFC 1662: a flag begins and ends it (one flag may do both), the flag and the
escape in its contents are escaped, and its last four bytes are the 32-bit frame check sequence of
its contents. All numbers are little-endian.
"""

from __future__ import annotations

import enum
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["DATA_BYTES_MAX", "FLAG", "PROTOCOL_VERSION", "WORDS_MAX", "Deframer", "FrameError",
           "Hello", "Operation", "Reply", "ReplyStatus", "Request", "frame"]

PROTOCOL_VERSION = 1

FLAG = 0x7E
ESCAPE = 0x7D
ESCAPED_XOR = 0x20
FCS_BYTES = 4

#: Most bytes that a frame moves to or from the memory, and words to or from registers.
DATA_BYTES_MAX = 256
WORDS_MAX = 16

_REQUEST = struct.Struct("<BBBBI")
_REPLY = struct.Struct("<BBBI")
_HELLO = struct.Struct("<4sBBBBII")
_MAGIC = b"MVXL"
_PRIVILEGED = 1 << 3


class FrameError(ValueError):
    """The contents of a frame are not what they are taken for."""


class Operation(enum.IntEnum):
    """What a request asks for."""

    HELLO = 0
    READ_REGISTERS = 1
    WRITE_REGISTERS = 2
    READ_MEMORY = 3
    WRITE_MEMORY = 4
    INTERRUPTS = 5


#: Bytes of one item of a request's `count`.
_ITEM_BYTES = {Operation.READ_REGISTERS: 4, Operation.WRITE_REGISTERS: 4,
               Operation.READ_MEMORY: 1, Operation.WRITE_MEMORY: 1}
_WRITES = (Operation.WRITE_REGISTERS, Operation.WRITE_MEMORY)


class ReplyStatus(enum.IntEnum):
    """How a request ended. SLVERR and DECERR are the register port's."""

    OK = 0
    SLVERR = 1
    DECERR = 2
    BAD_REQUEST = 3


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request.

    Parameters
    ----------
    sequence : int
        0 to 255.
    page : int
        The register page; 0 for other operations.
    count : int
        Words of registers (1 to 16) or bytes of memory (1 to 256); 0 for other operations.
    address : int
        Of registers: byte offset in the page. Of memory: byte address.
    data : bytes
        What is written.
    privileged : bool
        AxPROT[0] of register accesses.
    """

    sequence: int
    operation: Operation
    page: int = 0
    count: int = 0
    address: int = 0
    data: bytes = b""
    privileged: bool = False

    @property
    def reply_data_bytes(self) -> int:
        """Bytes of data in its reply, if that is OK."""
        if self.operation is Operation.HELLO:
            return _HELLO.size
        return 0 if self.operation in _WRITES else self.count * _ITEM_BYTES.get(self.operation, 0)

    def encode(self) -> bytes:
        """Its contents, without the check sequence."""
        return _REQUEST.pack(self.sequence, self.operation | self.privileged * _PRIVILEGED,
                             self.page, max(self.count, 1) - 1, self.address) + self.data

    @classmethod
    def decode(cls, contents: bytes) -> Request:
        """The request with these contents.

        Raises
        ------
        FrameError
            They are not those of a request.
        """
        if len(contents) < _REQUEST.size:
            raise FrameError(f"a request must have at least {_REQUEST.size} bytes, "
                             f"not {len(contents)}")
        sequence, code, page, count, address = _REQUEST.unpack_from(contents)
        data = contents[_REQUEST.size:]
        try:
            operation = Operation(code & ~_PRIVILEGED)
        except ValueError:
            raise FrameError(f"the operation of a request must be known, not {code}") from None
        item_bytes = _ITEM_BYTES.get(operation, 0)
        expected = (count + 1) * item_bytes if operation in _WRITES else 0
        if len(data) != expected:
            raise FrameError(f"the data of this {operation.name} must be {expected} bytes, "
                             f"not {len(data)}")
        return cls(sequence=sequence, operation=operation, page=page,
                   count=count + 1 if item_bytes else 0, address=address, data=data,
                   privileged=bool(code & _PRIVILEGED))


@dataclass(frozen=True, kw_only=True)
class Reply:
    """The reply to the request of the same sequence.

    `done`: words of registers that were answered OKAY. `interrupts`: bit p is the interrupt line
    of partition p, bit 31 that of the manager, when the request was carried out.
    """

    sequence: int
    status: ReplyStatus
    done: int = 0
    interrupts: int = 0
    data: bytes = b""

    def encode(self) -> bytes:
        """Its contents, without the check sequence."""
        return _REPLY.pack(self.sequence, self.status, self.done, self.interrupts) + self.data

    @classmethod
    def decode(cls, contents: bytes) -> Reply:
        """The reply with these contents.

        Raises
        ------
        FrameError
            They are not those of a reply.
        """
        if len(contents) < _REPLY.size:
            raise FrameError(f"a reply must have at least {_REPLY.size} bytes, "
                             f"not {len(contents)}")
        sequence, status, done, interrupts = _REPLY.unpack_from(contents)
        try:
            known = ReplyStatus(status)
        except ValueError:
            raise FrameError(f"the status of a reply must be 0 to {max(ReplyStatus)}, "
                             f"not {status}") from None
        return cls(sequence=sequence, status=known, done=done, interrupts=interrupts,
                   data=contents[_REPLY.size:])


@dataclass(frozen=True, kw_only=True)
class Hello:
    """What a board says it is. `config` is the index in the sorted names of `CONFIGS`."""

    version: int
    config: int
    partitions: int
    page_log2: int
    clock_hz: int
    memory_bytes: int

    def encode(self) -> bytes:
        """The data of the reply to HELLO."""
        return _HELLO.pack(_MAGIC, self.version, self.config, self.partitions, self.page_log2,
                           self.clock_hz, self.memory_bytes)

    @classmethod
    def decode(cls, data: bytes) -> Hello:
        """What the data of a reply to HELLO say.

        Raises
        ------
        FrameError
            They are not those of a board with an adapter.
        """
        if len(data) != _HELLO.size:
            raise FrameError(f"the reply to HELLO must have {_HELLO.size} bytes, not {len(data)}")
        magic, version, config, partitions, page_log2, clock_hz, memory_bytes = _HELLO.unpack(data)
        if magic != _MAGIC:
            raise FrameError(f"the reply to HELLO must begin with {_MAGIC!r}, not {magic!r}")
        return cls(version=version, config=config, partitions=partitions, page_log2=page_log2,
                   clock_hz=clock_hz, memory_bytes=memory_bytes)


#: Longest contents in either direction, check sequence included.
CONTENTS_BYTES_MAX = _REQUEST.size + DATA_BYTES_MAX + FCS_BYTES


def frame(contents: bytes) -> bytes:
    """The bytes on the line for these contents: escaped, with check sequence and both flags."""
    line = bytearray([FLAG])
    for byte in contents + zlib.crc32(contents).to_bytes(FCS_BYTES, "little"):
        if byte in (FLAG, ESCAPE):
            line += bytes([ESCAPE, byte ^ ESCAPED_XOR])
        else:
            line.append(byte)
    line.append(FLAG)
    return bytes(line)


class Deframer:
    """Finds the good frames in bytes from the line.

    What is not a good frame is dropped and counted in `dropped`: a wrong check sequence, an escape
    before the flag, too many bytes, and what lies between frames.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self._contents = bytearray()
        self._escaped = False

    def feed(self, line: bytes) -> Iterator[bytes]:
        """The contents, without check sequence, of each good frame that ends in these bytes."""
        for byte in line:
            if byte == FLAG:
                contents, escaped = bytes(self._contents), self._escaped
                self._contents.clear()
                self._escaped = False
                if not contents and not escaped:
                    continue
                body, check = contents[:-FCS_BYTES], contents[-FCS_BYTES:]
                if (escaped or not body or len(contents) > CONTENTS_BYTES_MAX
                        or zlib.crc32(body) != int.from_bytes(check, "little")):
                    self.dropped += 1
                else:
                    yield body
            elif byte == ESCAPE:
                self._escaped = True
            elif len(self._contents) <= CONTENTS_BYTES_MAX:
                self._contents.append(byte ^ ESCAPED_XOR if self._escaped else byte)
                self._escaped = False
