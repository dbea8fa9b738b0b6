# SPDX-License-Identifier: Apache-2.0
"""Frames on a byte stream, as RFC 1662 (HDLC-like framing) with its 32-bit FCS.

A flag (0x7E) begins and ends a frame; one flag may do both. An escape (0x7D) says that the byte
behind it is to be XORed with 0x20; flags and escapes in the contents are escaped. The last four
bytes of a frame are the FCS, CRC-32/ISO-HDLC of what is before it, least significant byte first.
"""

from __future__ import annotations

from amaranth.hdl import Module, ResetInserter, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC
from amaranth.lib.wiring import In, Out

from .messages import FrameByte, Received, Unframed

__all__ = ["ESCAPE", "ESCAPE_XOR", "FCS_BYTES", "FLAG", "Deframer", "Framer"]

FLAG = 0x7E
ESCAPE = 0x7D
ESCAPE_XOR = 0x20
FCS_BYTES = 4


class _SerialCrc(wiring.Component):
    """The FCS of the bytes since `start`, a bit a cycle: a byte takes 8 cycles.

    A byte on the line takes longer, and the circuit for a byte a cycle is three times as large.

    Members
    -------
    i : In(stream.Signature(8))
    start : In(1)
        Only while `i` is ready. A byte that is taken at the same time is the first.
    fcs : Out(32)
        While `i` is ready.
    match : Out(1)
        While `i` is ready: the last four bytes were the FCS of those before.
    """

    i: stream.Interface
    start: Signal
    fcs: Signal
    match: Signal

    def __init__(self) -> None:
        super().__init__({
            "i": In(stream.Signature(8)), "start": In(1), "fcs": Out(32), "match": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        crc = CRC32_ISO_HDLC(data_width=1).create()
        # Its own `start` would take a gate for each bit.
        m.submodules.crc = ResetInserter(self.start)(crc)
        bits = Signal(8)    # lowest first
        count = Signal(range(len(bits)))
        busy = Signal()
        m.d.comb += [
            self.i.ready.eq(~busy),
            crc.data.eq(bits[0]),
            crc.valid.eq(busy),
            self.fcs.eq(crc.crc),
            self.match.eq(crc.match_detected),
        ]
        with m.If(busy):
            m.d.sync += [bits.eq(bits >> 1), count.eq(count + 1)]
            with m.If(count == len(bits) - 1):
                m.d.sync += busy.eq(0)
        with m.Else():
            m.d.sync += [bits.eq(self.i.payload), busy.eq(self.i.valid)]
        return m


class Deframer(wiring.Component):
    """From bytes to frames.

    A frame is good if its FCS is right, it is not too long, nothing of it was lost, and its flag
    does not come right behind an escape. Every frame of which a byte was given ends with an
    `end`; an empty one leaves no trace. What is before the first flag is not given.

    Parameters
    ----------
    longest_bytes : int
        Most bytes of contents, FCS included, that are given for a frame; with more it is not
        good. From 4.

    Members
    -------
    i : In(stream.Signature(Received))
    o : Out(stream.Signature(Unframed))

    Raises
    ------
    ValueError
        `longest_bytes` is too small.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, longest_bytes: int) -> None:
        if longest_bytes < FCS_BYTES:
            raise ValueError(f"longest_bytes must be at least {FCS_BYTES}, not {longest_bytes!r}")
        self._longest_bytes = longest_bytes
        super().__init__({
            "i": In(stream.Signature(Received)),
            "o": Out(stream.Signature(Unframed)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.crc = crc = _SerialCrc()
        spoiled = Signal(init=1)    # to be dropped up to the next flag
        escaped = Signal()
        given_bytes = Signal(range(self._longest_bytes + 1))
        is_flag = Signal()
        is_escape = Signal()
        is_content = Signal()
        full = Signal()
        passing = Signal()
        m.d.comb += [
            is_flag.eq((self.i.payload.byte == FLAG) & ~self.i.payload.error),
            is_escape.eq((self.i.payload.byte == ESCAPE) & ~self.i.payload.error),
            is_content.eq(~(is_flag | is_escape | self.i.payload.error | spoiled | full)),
            self.o.payload.byte.eq(self.i.payload.byte ^ (escaped << ESCAPE_XOR.bit_length() - 1)),
            self.o.payload.end.eq(is_flag),
            self.o.payload.good.eq(crc.match & ~spoiled & ~escaped),
            self.o.valid.eq(self.i.valid & crc.i.ready
                            & (is_content | (is_flag & (given_bytes != 0)))),
            # Not only where something is given: the path would be long.
            self.i.ready.eq(crc.i.ready & self.o.ready),
            passing.eq(self.i.valid & self.i.ready),
            crc.i.payload.eq(self.o.payload.byte),
            crc.i.valid.eq(passing & is_content),
        ]
        # The byte behind the flag is taken now at the earliest, and looked at from the next cycle.
        m.d.sync += crc.start.eq(passing & is_flag)
        with m.If(passing):
            m.d.sync += escaped.eq(is_escape)
            with m.If(is_flag):
                m.d.sync += [spoiled.eq(0), given_bytes.eq(0), full.eq(0)]
            with m.Elif(is_content):
                m.d.sync += [
                    given_bytes.eq(given_bytes + 1),
                    full.eq(given_bytes == self._longest_bytes - 1),
                ]
            with m.Elif(self.i.payload.error | full):
                m.d.sync += spoiled.eq(1)
        return m


class Framer(wiring.Component):
    """From frames to bytes, each frame with its FCS and a flag before and behind it.

    Members
    -------
    i : In(stream.Signature(FrameByte))
        Contents, from 1 byte.
    o : Out(stream.Signature(8))
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self) -> None:
        super().__init__({
            "i": In(stream.Signature(FrameByte)),
            "o": Out(stream.Signature(8)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.crc = crc = _SerialCrc()
        index = Signal(range(FCS_BYTES))
        byte = Signal(8)
        special = Signal()
        escaped = Signal()      # the escape before `byte` is out
        sent = Signal()         # `byte` goes out, its escape was before
        m.d.comb += [
            special.eq((byte == FLAG) | (byte == ESCAPE)),
            crc.i.payload.eq(self.i.payload.byte),
        ]

        def send_byte() -> None:
            m.d.comb += self.o.payload.eq(byte)
            with m.If(escaped):
                m.d.comb += self.o.payload.eq(byte ^ ESCAPE_XOR)
            with m.Elif(special):
                m.d.comb += self.o.payload.eq(ESCAPE)
            m.d.comb += sent.eq(self.o.valid & self.o.ready & (escaped | ~special))
            with m.If(self.o.valid & self.o.ready):
                m.d.sync += escaped.eq(special & ~escaped)

        with m.FSM():
            with m.State("BEGIN"):
                m.d.comb += [
                    self.o.payload.eq(FLAG),
                    self.o.valid.eq(self.i.valid),
                    crc.start.eq(1),
                ]
                with m.If(self.o.valid & self.o.ready):
                    m.next = "CONTENTS"
            with m.State("CONTENTS"):
                m.d.comb += [
                    byte.eq(self.i.payload.byte),
                    self.o.valid.eq(self.i.valid & crc.i.ready),
                    self.i.ready.eq(sent),
                    crc.i.valid.eq(sent),
                ]
                send_byte()
                with m.If(sent & self.i.payload.last):
                    m.next = "FCS"
            with m.State("FCS"):
                m.d.comb += [
                    byte.eq(crc.fcs.word_select(index, 8)),
                    self.o.valid.eq(crc.i.ready),
                ]
                send_byte()
                with m.If(sent):
                    m.d.sync += index.eq(index + 1)
                    with m.If(index == FCS_BYTES - 1):
                        m.next = "END"
            with m.State("END"):
                m.d.comb += [self.o.payload.eq(FLAG), self.o.valid.eq(1)]
                with m.If(self.o.ready):
                    m.next = "BEGIN"
        return m
