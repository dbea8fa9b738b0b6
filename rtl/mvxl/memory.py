# SPDX-License-Identifier: Apache-2.0
"""Memories that hold 0 after reset, whatever they held before."""

from __future__ import annotations

from amaranth.hdl import Module, ShapeLike, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

__all__ = ["LUT_ROWS", "ScrubbedMemory"]

#: Up to this many rows a memory that may be either is made of LUT RAM, above of block RAM.
LUT_ROWS = 64


class ScrubbedMemory(wiring.Component):
    """One writer, some readers; every row is 0 when `ready` rises.

    After reset all rows are written with 0, one a cycle. Writes before `ready` are lost.

    Parameters
    ----------
    shape : ShapeLike
        Shape of a row.
    depth : int
        Rows.
    reads : int
        Read ports.
    zeroed : bool
        `write_data` is 0 until `ready`, so that it need not be gated.
    block : bool
        Block RAM: a read shows one cycle after its address, a write in the same cycle included.
        Otherwise LUT RAM: a read shows at once, a write from the next cycle on.

    Members
    -------
    ready : Out(1)
    write_en : In(1)
    write_row : In(range(depth))
    write_data : In(shape)
    read_row : In(range(depth)).array(reads)
    read_data : Out(shape).array(reads)
    """

    ready: Signal
    write_en: Signal
    write_row: Signal
    write_data: Signal
    read_row: list[Signal]
    read_data: list[Signal]

    def __init__(self, shape: ShapeLike, *, depth: int, reads: int = 1,
                 zeroed: bool = False, block: bool = False) -> None:
        self._shape = shape
        self._depth = depth
        self._reads = reads
        self._zeroed = zeroed
        self._block = block
        super().__init__({
            "ready": Out(1),
            "write_en": In(1),
            "write_row": In(range(depth)),
            "write_data": In(shape),
            "read_row": In(range(depth)).array(reads),
            "read_data": Out(shape).array(reads),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(
            shape=self._shape, depth=self._depth, init=[],
            attrs={"ram_style": "block" if self._block else "distributed"})
        write = memory.write_port()
        for row, data in zip(self.read_row, self.read_data):
            if self._block:
                read = memory.read_port(transparent_for=(write,))
            else:
                read = memory.read_port(domain="comb")
            m.d.comb += [read.addr.eq(row), data.eq(read.data)]

        scrub_row = Signal(range(self._depth))
        with m.If(self.ready | self._zeroed):
            m.d.comb += write.data.eq(self.write_data)
        with m.If(self.ready):
            m.d.comb += [write.en.eq(self.write_en), write.addr.eq(self.write_row)]
        with m.Else():
            m.d.comb += [write.en.eq(1), write.addr.eq(scrub_row)]
            m.d.sync += scrub_row.eq(scrub_row + 1)
            with m.If(scrub_row == self._depth - 1):
                m.d.sync += self.ready.eq(1)
        return m
