# SPDX-License-Identifier: Apache-2.0
"""The bounds checker: does a range of bytes lie inside a table entry, and at which address?"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .config import ENTRY_UNIT_BYTES, LENGTH_BITS, OFFSET_BITS, AdapterConfig

__all__ = ["BoundsChecker"]


class BoundsChecker(wiring.Component):
    """Checks `offset + count ≤ length` and adds `base + offset`; the answer comes a cycle later.

    Nothing is rounded and nothing wraps: the sum of offset and count has 33 bits. A range that
    ends exactly at the entry's end fits; so does an empty one at any offset up to the length.

    Parameters
    ----------
    config : AdapterConfig

    Members
    -------
    base : In(config.base_bits)
        The entry's base address, in units of 64 bytes.
    length : In(26)
        The entry's length, in units of 64 bytes.
    offset : In(32)
        Start of the range inside the entry, in bytes.
    count : In(32)
        Length of the range, in bytes.
    fits : Out(1)
        The range of the cycle before lies inside the entry.
    address : Out(config.address_bits)
        Bus address at which it starts, in bytes. Meaningful if the range fits and is not empty.
    """

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__({
            "base": In(config.base_bits),
            "length": In(LENGTH_BITS),
            "offset": In(OFFSET_BITS),
            "count": In(OFFSET_BITS),
            "fits": Out(1),
            "address": Out(config.address_bits),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        unit_log2 = ENTRY_UNIT_BYTES.bit_length() - 1
        in_bytes = Const(0, unit_log2)
        # One sum of three operands, beside the address sum, is shorter than a sum and a compare.
        # It lies between −(2³³ − 2) and 2³² − 64, so that 34 bits and a sign hold it.
        room = Signal(signed(OFFSET_BITS + 2))
        m.d.comb += room.eq(Cat(in_bytes, self.length) - self.offset - self.count)
        m.d.sync += [
            self.fits.eq(room >= 0),
            self.address.eq(Cat(in_bytes, self.base) + self.offset),
        ]
        return m
