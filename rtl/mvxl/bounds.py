# SPDX-License-Identifier: Apache-2.0
"""The bounds checker: does a range of bytes lie inside a table entry, and at which address?"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .config import ENTRY_UNIT_BYTES, LENGTH_BITS, OFFSET_BITS, AdapterConfig

__all__ = ["BoundsChecker"]


class BoundsChecker(wiring.Component):
    """Checks `used + count ≤ limit`, adds `base + offset`; the answers come a cycle later, and stay
    as they are in cycles without `en`.

    Nothing is rounded and nothing wraps: the sum of used and count has 33 bits. A range that ends
    exactly at the limit fits; so does an empty one if `used` is the limit. Where nothing goes
    round, `used` is the offset and `limit` the length.

    Parameters
    ----------
    config : AdapterConfig

    Members
    -------
    en : In(1)
    limit : In(32)
        Bytes that there are.
    used : In(32)
        Bytes that are before the range.
    count : In(32)
        Length of the range, in bytes.
    base : In(config.address_bits)
        Bus address to which the offset is added, in bytes.
    offset : In(32)
        Start of the range, in bytes.
    length : In(26)
        Where a ring goes round, in units of 64 bytes.
    fits : Out(1)
        The range of the last such cycle is inside the limit.
    address : Out(config.address_bits)
        Bus address at which it starts, in bytes. Meaningful if the range fits and is not empty.
    to_last : Out(32)
        length − offset − 1, in bytes: from the offset to the last byte. Meaningful if the offset
        is below the length.
    """

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__({
            "en": In(1),
            "limit": In(OFFSET_BITS),
            "used": In(OFFSET_BITS),
            "count": In(OFFSET_BITS),
            "base": In(config.address_bits),
            "offset": In(OFFSET_BITS),
            "length": In(LENGTH_BITS),
            "fits": Out(1),
            "address": Out(config.address_bits),
            "to_last": Out(OFFSET_BITS),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        in_bytes = Const(0, ENTRY_UNIT_BYTES.bit_length() - 1)
        # limit − used − count lies between −(2³³ − 2) and 2³² − 1, so that 34 bits, of which one is
        # the sign, hold it. It takes one carry chain, not two, because carries are saved:
        # limit + ~used + ~count = sums + 2 carries, to which 2 is to be added.
        width = OFFSET_BITS + 2
        not_used = Signal(width)
        not_count = Signal(width)
        sums = Signal(width)
        carries = Signal(width)
        room = Signal(signed(width))
        m.d.comb += [
            not_used.eq(~(self.used | Const(0, width))),
            not_count.eq(~(self.count | Const(0, width))),
            sums.eq(self.limit ^ not_used ^ not_count),
            carries.eq((self.limit & not_used) | (self.limit & not_count)
                       | (not_used & not_count)),
            # 2 carries + 1, and 1 more because −~x = x + 1.
            room.eq(sums - ~Cat(Const(1, 1), carries[:-1])),
        ]
        with m.If(self.en):
            m.d.sync += [
                self.fits.eq(room >= 0),
                self.address.eq(self.base + self.offset),
                self.to_last.eq(Cat(in_bytes, self.length) + ~self.offset),
            ]
        return m
