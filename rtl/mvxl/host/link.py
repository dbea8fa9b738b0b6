# SPDX-License-Identifier: Apache-2.0
"""One request at a time over a serial port: sequence numbers, timeouts, repeats.

The board carries a request out once, however often it comes: a repeat has the same sequence number,
and is answered by the reply of the first. So a reply that does not come, or comes damaged, is asked
for again by sending the request again.

The board may remember a request of a program that ran before, with the very sequence number that
this one begins with. So a HELLO goes before all: it is carried out whatever the board remembers,
and from then on its sequence number is the one remembered.
"""

from __future__ import annotations

import errno
import random
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import serial

from .frames import (CONTENTS_BYTES_MAX, DATA_BYTES_MAX, PROTOCOL_VERSION, WORDS_MAX, Deframer,
                     FrameError, Hello, Operation, Reply, ReplyStatus, Request, frame)

__all__ = ["DEFAULT_BAUD", "BadRequest", "HostError", "NoReply", "PortError", "PortLost",
           "ProtocolError", "RegisterError", "SerialLink", "Statistics"]

DEFAULT_BAUD = 1_000_000
DEFAULT_TIMEOUT_S = 1.0
DEFAULT_ATTEMPTS = 4

_SEQUENCES = 256
_BITS_PER_BYTE = 10     # a start bit, eight of data, a stop bit

#: How long one read of the port may wait. A deadline is met to within this.
_POLL_S = 0.02


class HostError(Exception):
    """Something between host and board failed; the message tells what, and what to do."""


class PortError(HostError):
    """The serial port cannot be opened."""


class PortLost(HostError):
    """The serial port went away in mid-run."""


class NoReply(HostError):
    """A request was not answered."""


class ProtocolError(HostError):
    """What answers is not a board with this protocol."""


class BadRequest(HostError):
    """The board refused a request: an address is outside, or it does not know the operation."""


class RegisterError(HostError):
    """The register port answered an access with an error; `response` is SLVERR or DECERR.

    `done` words before it were answered OKAY. `address` is the byte offset in page `page`.
    """

    def __init__(self, kind: str, page: int, address: int, done: int, response: str) -> None:
        super().__init__(f"{kind} of register {address:#x} in page {page} must be answered OKAY, "
                         f"not {response}")
        self.page = page
        self.address = address
        self.done = done
        self.response = response


class Port(Protocol):
    """What is used of a `serial.Serial`."""

    port: str
    baudrate: int

    @property
    def in_waiting(self) -> int:
        """Bytes that can be read at once."""

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; fewer, or none, if the time is over."""

    def write(self, data: bytes) -> int | None:
        """Write all bytes."""

    def close(self) -> None:
        """Give the port back."""


@dataclass
class Statistics:
    """What went over the line. `stale`: replies that no request waited for any more."""

    requests: int = 0
    repeats: int = 0
    bad_frames: int = 0
    stale: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0

    def __str__(self) -> str:
        return (f"{self.requests:,} requests, {self.repeats:,} of them sent again; "
                f"{self.bad_frames:,} damaged and {self.stale:,} late replies dropped; "
                f"{self.sent_bytes:,} bytes out, {self.received_bytes:,} in")


class SerialLink:
    """A board at a serial port.

    Parameters
    ----------
    port : Port
        Open; its reads give up after a short time.
    timeout_s : float
        How long a reply may take, beside its time on the line, before the request is sent again.
    attempts : int
        How often a request is sent before `NoReply`.

    Raises
    ------
    ValueError
        `timeout_s` or `attempts` is not positive.
    """

    def __init__(self, port: Port, *, timeout_s: float = DEFAULT_TIMEOUT_S,
                 attempts: int = DEFAULT_ATTEMPTS) -> None:
        if timeout_s <= 0:
            raise ValueError(f"timeout_s must be positive, not {timeout_s}")
        if attempts < 1:
            raise ValueError(f"attempts must be at least 1, not {attempts}")
        self.statistics = Statistics()
        self.interrupts = 0     #: Interrupt lines, as the last reply told them.
        self._port = port
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._deframer = Deframer()
        self._arrived: deque[Reply] = deque()
        # Any, so that replies to a program that ran before are hardly taken for ours.
        self._sequence = random.randrange(_SEQUENCES)
        self._is_known = False      # the board remembers a request of this link

    @classmethod
    def open(cls, name: str, baud: int = DEFAULT_BAUD, *, timeout_s: float = DEFAULT_TIMEOUT_S,
             attempts: int = DEFAULT_ATTEMPTS) -> SerialLink:
        """Open the serial port called `name`, such as "/dev/ttyUSB0", for this process alone.

        Raises
        ------
        PortError
            It cannot be opened.
        ValueError
            As the class.
        """
        try:
            port = serial.Serial(name, baud, timeout=_POLL_S, write_timeout=timeout_s,
                                 exclusive=True)
            port.reset_input_buffer()
        except (serial.SerialException, OSError, ValueError) as error:
            raise PortError(f"{name}: {_why_not_open(error, baud)}") from error
        try:
            # Else the driver of the USB bridge keeps each short reply back for 16 ms.
            port.set_low_latency_mode(True)
        except (AttributeError, NotImplementedError, ValueError, OSError):
            pass    # Other ports have no such delay.
        return cls(port, timeout_s=timeout_s, attempts=attempts)

    def __enter__(self) -> SerialLink:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._port.close()

    @property
    def name(self) -> str:
        """Of the port."""
        return self._port.port

    # ---- Operations ----

    def hello(self) -> Hello:
        """What the board says it is.

        Raises
        ------
        ProtocolError
            It is none, or speaks another version of the protocol.
        HostError
            As `request`.
        """
        reply = self.request(Operation.HELLO)
        try:
            hello = Hello.decode(reply.data)
        except FrameError as error:
            raise ProtocolError(f"{self.name}: what answers is no board with an adapter: "
                                f"{error}") from None
        if hello.version != PROTOCOL_VERSION:
            raise ProtocolError(f"{self.name}: the board's protocol must be of version "
                                f"{PROTOCOL_VERSION}, not {hello.version}: take a host program and "
                                "a bitstream of the same release")
        return hello

    def read_registers(self, page: int, address: int, count: int = 1, *,
                       privileged: bool = False) -> list[int]:
        """`count` words (1 to 16) from byte offset `address` of a page on.

        Raises
        ------
        RegisterError
            A word was answered with an error.
        HostError
            As `request`.
        ValueError
            `count` is out of range.
        """
        _check_count("count", count, WORDS_MAX)
        reply = self.request(Operation.READ_REGISTERS, page=page, count=count, address=address,
                             privileged=privileged)
        self._check_access("read", page, address, reply)
        return [int.from_bytes(reply.data[at:at + 4], "little") for at in range(0, 4 * count, 4)]

    def write_registers(self, page: int, address: int, words: Sequence[int], *,
                        privileged: bool = False) -> None:
        """Write words (1 to 16 of them) from byte offset `address` of a page on. Raises as
        `read_registers`; the words before the one with an error were written."""
        _check_count("words", len(words), WORDS_MAX)
        data = b"".join(word.to_bytes(4, "little") for word in words)
        reply = self.request(Operation.WRITE_REGISTERS, page=page, count=len(words),
                             address=address, data=data, privileged=privileged)
        self._check_access("write", page, address, reply)

    def read_memory(self, address: int, count_bytes: int) -> bytes:
        """Up to 256 bytes of the board's memory. Raises as `request`, or ValueError."""
        _check_count("count_bytes", count_bytes, DATA_BYTES_MAX)
        return self.request(Operation.READ_MEMORY, count=count_bytes, address=address).data

    def write_memory(self, address: int, data: bytes) -> None:
        """Write up to 256 bytes to the board's memory. Raises as `request`, or ValueError."""
        _check_count("data", len(data), DATA_BYTES_MAX)
        self.request(Operation.WRITE_MEMORY, count=len(data), address=address, data=data)

    def read_interrupts(self) -> int:
        """Bit p: the interrupt line of partition p; bit 31: that of the manager."""
        return self.request(Operation.INTERRUPTS).interrupts

    @staticmethod
    def _check_access(kind: str, page: int, address: int, reply: Reply) -> None:
        if reply.status is not ReplyStatus.OK:
            raise RegisterError(kind, page, address + 4 * reply.done, reply.done,
                                reply.status.name)

    # ---- The line ----

    def request(self, operation: Operation, *, page: int = 0, count: int = 0, address: int = 0,
                data: bytes = b"", privileged: bool = False) -> Reply:
        """Have a request carried out, once; its reply, with status OK, SLVERR or DECERR.

        Raises
        ------
        NoReply
            No good reply came. It may have been carried out or not.
        PortLost
            The port went away. It may have been carried out or not.
        BadRequest
            The board refused it.
        ProtocolError
            The reply has another length than it must have.
        """
        if not self._is_known:
            # What answers may be a late reply to a program that ran before: it is not looked at.
            self._exchange(self._next(Operation.HELLO))
            self._is_known = True
        asked = self._next(operation, page=page, count=count, address=address, data=data,
                           privileged=privileged)
        reply = self._exchange(asked)
        self.interrupts = reply.interrupts
        return self._checked(asked, reply)

    def _next(self, operation: Operation, **fields: Any) -> Request:
        """A request with the next sequence."""
        self._sequence = (self._sequence + 1) % _SEQUENCES
        return Request(sequence=self._sequence, operation=operation, **fields)

    def _exchange(self, asked: Request) -> Reply:
        """Send a request, and again, until its reply is there."""
        line = frame(asked.encode())
        received_before = self.statistics.received_bytes
        for attempt in range(self._attempts):
            self.statistics.requests += attempt == 0
            self.statistics.repeats += attempt > 0
            self._write(line)
            reply = self._await_reply(asked, len(line))
            if reply is not None:
                return reply
        raise NoReply(self._why_no_reply(asked, self.statistics.received_bytes - received_before))

    def _checked(self, asked: Request, reply: Reply) -> Reply:
        what = f"{asked.operation.name} of page {asked.page}, address {asked.address:#x}"
        if reply.status is ReplyStatus.BAD_REQUEST:
            raise BadRequest(f"{self.name}: the board refuses {what}, {asked.count} items: there "
                             "is no such place, or it does not know the operation")
        expected = asked.reply_data_bytes
        if reply.status is ReplyStatus.OK and len(reply.data) != expected:
            raise ProtocolError(f"{self.name}: the reply to {what} must have {expected} bytes of "
                                f"data, not {len(reply.data)}")
        return reply

    def _await_reply(self, asked: Request, sent_bytes: int) -> Reply | None:
        """The reply, if it comes in time. Others are dropped."""
        on_line = (sent_bytes + 2 * CONTENTS_BYTES_MAX) * _BITS_PER_BYTE / self._port.baudrate
        deadline = time.monotonic() + self._timeout_s + on_line
        is_over = False
        while not is_over:
            # What has come in time counts, though this program may look only now.
            is_over = time.monotonic() >= deadline
            self._read()
            while self._arrived:
                reply = self._arrived.popleft()
                if reply.sequence == asked.sequence:
                    return reply
                self.statistics.stale += 1
        return None

    def _read(self) -> None:
        """Take what has come, or wait a moment for it."""
        try:
            line = self._port.read(max(1, self._port.in_waiting))
        except (serial.SerialException, OSError, TypeError) as error:
            # A TypeError is what pyserial meets in a port that another thread has closed.
            raise PortLost(self._why_lost(error)) from error
        self.statistics.received_bytes += len(line)
        for contents in self._deframer.feed(line):
            try:
                self._arrived.append(Reply.decode(contents))
            except FrameError:
                self.statistics.bad_frames += 1
        self.statistics.bad_frames += self._deframer.dropped
        self._deframer.dropped = 0

    def _write(self, line: bytes) -> None:
        try:
            self._port.write(line)
        except serial.SerialTimeoutException:
            return      # Nobody takes the bytes: no reply will come, and that is told then.
        except (serial.SerialException, OSError, TypeError) as error:
            raise PortLost(self._why_lost(error)) from error
        self.statistics.sent_bytes += len(line)

    def _why_lost(self, error: Exception) -> str:
        return (f"{self.name}: the port went away after {self.statistics.requests} requests "
                f"(unplugged?): {error}")

    def _why_no_reply(self, asked: Request, came_bytes: int) -> str:
        tried = (f"{self.name}: no reply to {asked.operation.name} in {self._attempts} attempts "
                 f"of {self._timeout_s:g} s")
        if asked.operation is not Operation.HELLO:
            return f"{tried}: the board stopped answering (reset, or a bad cable?)"
        if came_bytes:
            return (f"{tried}, though {came_bytes} bytes came: wrong baud rate? It must be the "
                    f"bitstream's, and is {self._port.baudrate}")
        return (f"{tried}: is this the board's port, is the bitstream loaded, and is its baud rate "
                f"{self._port.baudrate}?")


def _check_count(name: str, count: int, highest: int) -> None:
    if not 1 <= count <= highest:
        raise ValueError(f"{name} must be 1 to {highest} items, not {count}")


def _why_not_open(error: Exception, baud: int) -> str:
    """What is in the way of opening a port, and what to do."""
    text = str(error)
    number = getattr(error, "errno", None)
    if isinstance(error, ValueError):
        return f"no port can be opened with {baud} baud: {text}"
    if number == errno.ENOENT:
        return "there is no such port: is the board plugged in? `ls /dev/ttyUSB* /dev/ttyACM*`"
    if number == errno.EACCES:
        return ("no permission to open it: become a member of its group (on Debian: "
                "`sudo adduser $USER dialout`, then log in again)")
    if "exclusively lock" in text:
        return "another program has it open"
    return text
