# SPDX-License-Identifier: Apache-2.0
"""On-chip RAM behind AXI4, with a second port for single bytes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from mvxl.axi import AXI4Signature, Burst, Response
from mvxl.config import AXI_BOUNDARY_BYTES
from mvxl.stream import Queue

__all__ = ["AXI4Ram", "BytePortSignature"]

#: Addresses that wait in each direction; two more are in the queue's output and under way.
_ADDRESSES = 8

#: Read beats, and write responses, that wait to be taken. LUT RAM has 16 rows.
_BEATS = 16

#: Beats that may still come into such a queue once it is no more roomy: what is on its way to it,
#: and what starts until that is seen.
_MARGIN = 7


class BytePortSignature(wiring.Signature):
    """Reads and writes of single bytes, one at a time, as the one who asks sees them.

    `valid` stays, with `write`, `address` and `wdata` unchanged, until the cycle of `done`, and is
    low in the cycle behind it. `rdata` holds in the cycle of `done`.

    Parameters
    ----------
    size_bytes : int
        Addresses are 0 to `size_bytes` − 1.
    """

    def __init__(self, size_bytes: int) -> None:
        super().__init__({
            "valid": Out(1), "write": Out(1), "address": Out(range(size_bytes)), "wdata": Out(8),
            "done": In(1), "rdata": In(8),
        })


class _Lane(wiring.Component):
    """One byte of each row: block RAM, with flops of its own on all sides.

    The blocks of a large memory are far from each other, and slow: a signal to or from them needs
    a cycle for the way. The flops before them are kept while the lane is not used, so each lane's
    differ, and synthesis does not make a single one, with a long way to all lanes, of them.

    Parameters
    ----------
    rows : int

    Members
    -------
    write_en, write_row, write_data : In
        The first port: writes.
    en, row : In
        The second port: reads.
    byte_write, byte_data : In
        With `en`: writes, too.
    data : Out(8)
        What the second port has read, 4 cycles after `en`.
    """

    write_en: Signal
    write_row: Signal
    write_data: Signal
    en: Signal
    row: Signal
    byte_write: Signal
    byte_data: Signal
    data: Signal

    def __init__(self, rows: int) -> None:
        self._rows = rows
        super().__init__({
            "write_en": In(1), "write_row": In(range(rows)), "write_data": In(8),
            "en": In(1), "row": In(range(rows)), "byte_write": In(1), "byte_data": In(8),
            "data": Out(8),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # Without `no_rw_check` Yosys builds logic for reads of what is being written. It looks at
        # it when it makes a block RAM of a memory with a flop behind it.
        m.submodules.memory = memory = Memory(
            shape=8, depth=self._rows, init=[], attrs={"ram_style": "block", "no_rw_check": 1})
        write = memory.write_port()
        byte_write = memory.write_port()
        read = memory.read_port(domain="comb")
        fetched = Signal(8, reset_less=True)    # the memory's own
        # Two more: its own output is late in the cycle, so the first is to be very near.
        caught = Signal(8, reset_less=True)
        m.d.sync += [
            write.en.eq(self.write_en),
            byte_write.en.eq(self.en & self.byte_write),
            fetched.eq(read.data),
            caught.eq(fetched),
            self.data.eq(caught),
        ]
        with m.If(self.write_en):
            m.d.sync += [write.addr.eq(self.write_row), write.data.eq(self.write_data)]
        with m.If(self.en):
            m.d.sync += [read.addr.eq(self.row), byte_write.data.eq(self.byte_data)]
        m.d.comb += byte_write.addr.eq(read.addr)
        return m


class AXI4Ram(wiring.Component):
    """Block RAM behind AXI4: one beat a cycle in each direction at the same time.

    INCR bursts of full-width beats are served; the bits of an address inside a beat are not
    looked at. Up to 10 bursts in each direction are taken before the first is answered, and they
    are answered in order. A burst outside of the memory gets DECERR, another kind of burst
    SLVERR, for each of its beats: it writes nothing, and what it reads has no meaning. A burst
    must not cross 4 KiB (as AXI4 says), so it is inside or outside as a whole.

    Block RAM has two ports. One serves the bus's writes, the other its reads and the bytes: a byte
    access goes before, and takes one cycle from the reads. It ends after 9 cycles, whatever the
    bus does; so whoever uses the byte port can never be kept waiting by the bus.

    What is read in the cycle in which the same bytes are written by the other port, or what two
    writes at once leave, is undefined; AXI4 gives no order to accesses whose responses are not
    there yet.

    Parameters
    ----------
    size_bytes : int
        A power of two from 4096; the addresses 0 to `size_bytes` − 1.
    address_bits, data_bits, user_bits, id_bits : int
        Widths of the bus, in bits, as for `AXI4Signature`.

    Members
    -------
    bus : In(AXI4Signature(...))
    byte : In(BytePortSignature(size_bytes))

    Raises
    ------
    ValueError
        `size_bytes` is not a power of two from 4096, or beyond the address width.
    """

    def __init__(self, *, size_bytes: int, address_bits: int, data_bits: int, user_bits: int,
                 id_bits: int = 1) -> None:
        if size_bytes < AXI_BOUNDARY_BYTES or size_bytes & (size_bytes - 1):
            raise ValueError(f"size_bytes must be a power of two from {AXI_BOUNDARY_BYTES}, "
                             f"not {size_bytes!r}")
        if size_bytes > 1 << address_bits:
            raise ValueError(f"size_bytes must be at most 2^address_bits = {1 << address_bits}, "
                             f"not {size_bytes!r}")
        self.size_bytes = size_bytes
        self._lane_log2 = (data_bits // 8 - 1).bit_length()
        super().__init__({
            "bus": In(AXI4Signature(address_bits=address_bits, data_bits=data_bits,
                                    user_bits=user_bits, id_bits=id_bits)),
            "byte": In(BytePortSignature(size_bytes)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        rows = self.size_bytes // len(self.bus.wstrb)
        lanes = [_Lane(rows) for _ in range(len(self.bus.wstrb))]
        for index, lane in enumerate(lanes):
            m.submodules[f"lane_{index}"] = lane
        self._elaborate_writes(m, lanes)
        self._elaborate_reads(m, lanes)
        return m

    @property
    def _row_bits(self) -> int:
        return (self.size_bytes - 1).bit_length() - self._lane_log2

    def _addresses(self, m: Module, name: str) -> Queue:
        """The queue of an address channel: row, beats − 1, ID, and the response to all beats."""
        bus = self.bus
        address, length, size, burst = (
            getattr(bus, f"{name}{field}") for field in ("addr", "len", "size", "burst"))
        queue = Queue(data.StructLayout({
            "row": self._row_bits, "len": 8, "id": len(bus.bid), "response": 2,
        }), depth=_ADDRESSES)
        response = Signal(2, name=f"{name}_response")
        m.d.comb += [
            queue.i.valid.eq(getattr(bus, f"{name}valid")),
            getattr(bus, f"{name}ready").eq(queue.i.ready),
            queue.i.payload.as_value().eq(Cat(
                address[self._lane_log2:(self.size_bytes - 1).bit_length()], length,
                getattr(bus, f"{name}id"), response)),
        ]
        with m.If(address[(self.size_bytes - 1).bit_length():].any()):
            m.d.comb += response.eq(Response.DECERR.value)
        with m.Elif((burst != Burst.INCR.value) | (size != self._lane_log2)):
            m.d.comb += response.eq(Response.SLVERR.value)
        return queue

    def _elaborate_writes(self, m: Module, lanes: Sequence[_Lane]) -> None:
        bus = self.bus
        m.submodules.aw = addresses = self._addresses(m, "aw")
        m.submodules.b = responses = Queue(
            data.StructLayout({"id": len(bus.bid), "response": 2}), depth=_BEATS, margin=_MARGIN)

        busy = Signal(name="write_busy")
        burst = Signal.like(addresses.o.payload, name="write_burst")
        taking = Signal()
        ending = Signal()
        load = Signal(name="write_load")
        m.d.comb += [
            taking.eq(bus.wvalid & bus.wready),
            ending.eq(taking & bus.wlast),
            addresses.o.ready.eq(~busy | ending),
            load.eq(addresses.o.valid & addresses.o.ready),
        ]
        # Ready beforehand, so that it is a flop.
        m.d.sync += bus.wready.eq((load | (busy & ~ending)) & responses.roomy)
        with m.If(load):
            m.d.sync += [burst.eq(addresses.o.payload), busy.eq(1)]
        with m.Else():
            m.d.sync += burst.row.eq(burst.row + taking)
            with m.If(ending):
                m.d.sync += busy.eq(0)

        # The write itself, later, so that it may be far away; the response before it, but no read
        # that waits for the response overtakes it.
        accepted = (burst.response == Response.OKAY.value) & taking
        strobes = Signal.like(bus.wstrb, name="write_strobes")
        row = Signal(self._row_bits, name="write_row")
        beat = Signal.like(bus.wdata, name="write_beat")
        m.d.sync += [
            strobes.eq(Mux(accepted, bus.wstrb, 0)),
            row.eq(burst.row),
            beat.eq(bus.wdata),
        ]
        for index, lane in enumerate(lanes):
            m.d.comb += [
                lane.write_en.eq(strobes[index]),
                lane.write_row.eq(row),
                lane.write_data.eq(beat.word_select(index, 8)),
            ]
        m.d.sync += [
            responses.i.valid.eq(ending),
            responses.i.payload.id.eq(burst.id),
            responses.i.payload.response.eq(burst.response),
        ]
        m.d.comb += [
            bus.bvalid.eq(responses.o.valid),
            responses.o.ready.eq(bus.bready),
            bus.bid.eq(responses.o.payload.id),
            bus.bresp.eq(responses.o.payload.response),
        ]

    def _elaborate_reads(self, m: Module, lanes: Sequence[_Lane]) -> None:
        """Reads, and the bytes: both use the memory's second port."""
        bus, byte = self.bus, self.byte
        m.submodules.ar = addresses = self._addresses(m, "ar")
        beat_layout = data.StructLayout({
            "data": len(bus.rdata), "id": len(bus.rid), "response": 2, "last": 1})
        m.submodules.r = beats = Queue(beat_layout, depth=_BEATS, margin=_MARGIN)

        busy = Signal(name="read_busy")
        burst = Signal.like(addresses.o.payload, name="read_burst")
        is_last = Signal()
        issue = Signal()
        ending = Signal(name="read_ending")
        load = Signal(name="read_load")
        byte_starts = Signal()
        byte_under_way = Signal()
        m.d.comb += [
            issue.eq(busy & beats.roomy & ~byte_starts),
            ending.eq(issue & is_last),
            addresses.o.ready.eq(~busy | ending),
            load.eq(addresses.o.valid & addresses.o.ready),
        ]
        m.d.sync += byte_starts.eq(byte.valid & ~byte_starts & ~byte_under_way)
        with m.If(load):
            m.d.sync += [
                burst.eq(addresses.o.payload),
                is_last.eq(addresses.o.payload.len == 0),
                busy.eq(1),
            ]
        with m.Elif(issue):
            m.d.sync += [
                burst.row.eq(burst.row + 1),
                burst.len.eq(burst.len - 1),
                is_last.eq(burst.len == 1),
            ]
            with m.If(ending):
                m.d.sync += busy.eq(0)

        # To the lanes, through them, and back. What belongs to the beat goes along.
        row = Signal(self._row_bits, name="read_row")
        asked = Signal(len(lanes))
        byte_write = Signal()
        byte_lane = byte.address[:self._lane_log2]
        m.d.sync += [
            row.eq(Mux(byte_starts, byte.address[self._lane_log2:], burst.row)),
            asked.eq(Mux(byte_starts, 1 << byte_lane, -1)),
            byte_write.eq(byte_starts & byte.write),
        ]
        for index, lane in enumerate(lanes):
            m.d.comb += [
                lane.en.eq(asked[index]),
                lane.row.eq(row),
                lane.byte_write.eq(byte_write),
                lane.byte_data.eq(byte.wdata),
            ]
        about_layout = data.StructLayout({
            "valid": 1, "is_byte": 1, "id": len(bus.rid), "response": 2, "last": 1})
        about = [Signal(about_layout, name=f"about_{stage}")
                 for stage in ("asked", "addressed", "fetched", "caught", "leaving", "back")]
        m.d.sync += [
            about[0].valid.eq(issue),
            about[0].is_byte.eq(byte_starts),
            about[0].id.eq(burst.id),
            about[0].response.eq(burst.response),
            about[0].last.eq(is_last),
            *(after.eq(before) for before, after in pairwise(about)),
        ]
        back = Signal(len(bus.rdata), reset_less=True)
        m.d.sync += back.eq(Cat(lane.data for lane in lanes))
        m.d.comb += [
            beats.i.valid.eq(about[-1].valid),
            beats.i.payload.data.eq(back),
            beats.i.payload.id.eq(about[-1].id),
            beats.i.payload.response.eq(about[-1].response),
            beats.i.payload.last.eq(about[-1].last),
            bus.rvalid.eq(beats.o.valid),
            beats.o.ready.eq(bus.rready),
            bus.rdata.eq(beats.o.payload.data),
            bus.rid.eq(beats.o.payload.id),
            bus.rresp.eq(beats.o.payload.response),
            bus.rlast.eq(beats.o.payload.last),
        ]

        m.d.sync += [
            byte_under_way.eq((byte_under_way | byte_starts) & ~byte.done),
            byte.done.eq(about[-1].is_byte),
            byte.rdata.eq(back.word_select(byte_lane, 8)),
        ]
