# SPDX-License-Identifier: Apache-2.0
"""Memories with one writer; some hold 0 after reset, whatever they held before."""

from __future__ import annotations

from amaranth.hdl import Module, ShapeLike, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

__all__ = ["BlockMemory", "LUT_ROWS", "RowMemory", "ScrubbedMemory"]

#: Up to this many rows a memory with registered reads is made of LUT RAM, above of block RAM.
LUT_ROWS = 64


class RowMemory(wiring.Component):
    """One writer, some readers; after reset its rows hold anything.

    Parameters
    ----------
    shape : ShapeLike
        Shape of a row.
    depth : int
        Rows.
    reads : int
        Read ports.
    registered : bool
        A read shows one cycle after its row; whether a write in the row's cycle is included
        depends on `depth`. Otherwise, in LUT RAM, it shows at once, and writes before this cycle.

    Members
    -------
    write_en : In(1)
    write_row : In(range(depth))
    write_data : In(shape)
    read_row : In(range(depth)).array(reads)
    read_data : Out(shape).array(reads)
    """

    write_en: Signal
    write_row: Signal
    write_data: Signal
    read_row: list[Signal]
    read_data: list[Signal]

    def __init__(self, shape: ShapeLike, *, depth: int, reads: int = 1,
                 registered: bool = False) -> None:
        self._shape = shape
        self._depth = depth
        self._registered = registered
        super().__init__({
            "write_en": In(1),
            "write_row": In(range(depth)),
            "write_data": In(shape),
            "read_row": In(range(depth)).array(reads),
            "read_data": Out(shape).array(reads),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        block = self._registered and self._depth > LUT_ROWS
        m.submodules.memory = memory = Memory(
            shape=self._shape, depth=self._depth, init=[],
            attrs={"ram_style": "block" if block else "distributed"})
        write = memory.write_port()
        m.d.comb += [
            write.en.eq(self.write_en),
            write.addr.eq(self.write_row),
            write.data.eq(self.write_data),
        ]
        for row, data in zip(self.read_row, self.read_data):
            read = memory.read_port(
                domain="sync" if block else "comb", transparent_for=(write,) if block else ())
            domain = m.d.sync if self._registered and not block else m.d.comb
            m.d.comb += read.addr.eq(row)
            domain += data.eq(read.data)
        return m


class BlockMemory(wiring.Component):
    """One writer, some readers, in block RAM without a bypass; after reset its rows hold anything.

    In LUT RAM if it has no more than two rows.

    A read shows one cycle after its row. If the row was written in the read's cycle, it shows
    anything: whoever reads takes care that it does not matter.

    Parameters
    ----------
    shape, depth, reads
        As of `RowMemory`.

    Members
    -------
    write_en, write_row, write_data, read_row, read_data
        As of `RowMemory`.
    """

    write_en: Signal
    write_row: Signal
    write_data: Signal
    read_row: list[Signal]
    read_data: list[Signal]

    def __init__(self, shape: ShapeLike, *, depth: int, reads: int = 1) -> None:
        self._shape = shape
        self._depth = depth
        super().__init__({
            "write_en": In(1),
            "write_row": In(range(depth)),
            "write_data": In(shape),
            "read_row": In(range(depth)).array(reads),
            "read_data": Out(shape).array(reads),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # Two rows are not worth a block RAM, of which small FPGAs have few.
        style = "block" if self._depth > 2 else "distributed"
        # Yosys looks at `no_rw_check` when it makes a block RAM of a memory with a flop behind it,
        # and otherwise builds logic for a read during a write.
        m.submodules.memory = memory = Memory(
            shape=self._shape, depth=self._depth, init=[],
            attrs={"ram_style": style, "no_rw_check": 1})
        write = memory.write_port()
        m.d.comb += [
            write.en.eq(self.write_en),
            write.addr.eq(self.write_row),
            write.data.eq(self.write_data),
        ]
        for row, data in zip(self.read_row, self.read_data):
            read = memory.read_port(domain="comb")
            m.d.comb += read.addr.eq(row)
            m.d.sync += data.eq(read.data)
        return m


class ScrubbedMemory(wiring.Component):
    """A `RowMemory` of which every row is 0 when `ready` rises.

    After reset all rows are written with 0, one a cycle. Writes before `ready` are lost.

    Parameters
    ----------
    shape, depth, reads, registered
        As of `RowMemory`.
    zeroed : bool
        `write_data` is 0 until `ready`, at least in what matters, so that it need not be gated.

    Members
    -------
    ready : Out(1)
    write_en, write_row, write_data, read_row, read_data
        As of `RowMemory`.
    """

    ready: Signal
    write_en: Signal
    write_row: Signal
    write_data: Signal
    read_row: list[Signal]
    read_data: list[Signal]

    def __init__(self, shape: ShapeLike, *, depth: int, reads: int = 1,
                 zeroed: bool = False, registered: bool = False) -> None:
        self._rows = RowMemory(shape, depth=depth, reads=reads, registered=registered)
        self._depth = depth
        self._zeroed = zeroed
        super().__init__({
            "ready": Out(1),
            **{name: self._rows.signature.members[name] for name in (
                "write_en", "write_row", "write_data", "read_row", "read_data")},
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.rows = rows = self._rows
        for own, row, data, read in zip(
                self.read_row, rows.read_row, self.read_data, rows.read_data):
            m.d.comb += [row.eq(own), data.eq(read)]
        scrub_row = Signal(range(self._depth))
        with m.If(self.ready | self._zeroed):
            m.d.comb += rows.write_data.eq(self.write_data)
        with m.If(self.ready):
            m.d.comb += [rows.write_en.eq(self.write_en), rows.write_row.eq(self.write_row)]
        with m.Else():
            m.d.comb += [rows.write_en.eq(1), rows.write_row.eq(scrub_row)]
            m.d.sync += scrub_row.eq(scrub_row + 1)
            with m.If(scrub_row == self._depth - 1):
                m.d.sync += self.ready.eq(1)
        return m
