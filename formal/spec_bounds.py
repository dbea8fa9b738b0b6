# SPDX-License-Identifier: Apache-2.0
"""What the bounds checker must answer, in integers that never wrap (SPEC G3).

All inputs are free in every cycle; the legality of an entry (base + limit ≤ 2^address_bits) is a
premise only of the property that needs it.
"""

from __future__ import annotations

from amaranth.asserts import AnyConst, AnySeq, Initial
from amaranth.hdl import Assert, Assume, Cover, Elaboratable, Module, ResetSignal, Signal

from mvxl.bounds import BoundsChecker
from mvxl.config import ENTRY_UNIT_BYTES, LENGTH_BITS, OFFSET_BITS, AdapterConfig

from .run import Job

__all__ = ["BoundsSpec", "jobs"]


class BoundsSpec(Elaboratable):
    """The contract of `BoundsChecker`, as a wrapper around one.

    Parameters
    ----------
    config : AdapterConfig
    unit : BoundsChecker
        The unit to be proved; by default a new one of `config`.
    """

    def __init__(self, config: AdapterConfig, unit: BoundsChecker | None = None) -> None:
        self._config = config
        self._unit = BoundsChecker(config) if unit is None else unit

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.unit = unit = self._unit
        m.d.comb += [
            Assume(ResetSignal() == Initial()),
            unit.en.eq(AnySeq(1)),
            unit.limit.eq(AnySeq(OFFSET_BITS)),
            unit.used.eq(AnySeq(OFFSET_BITS)),
            unit.count.eq(AnySeq(OFFSET_BITS)),
            unit.base.eq(AnySeq(config.address_bits)),
            unit.offset.eq(AnySeq(OFFSET_BITS)),
            unit.length.eq(AnySeq(LENGTH_BITS)),
        ]

        # The inputs of the last cycle with `en`, in bytes, as integers: wider than any sum of them.
        integer_bits = 1 + max(config.address_bits, OFFSET_BITS + 1)
        asked = Signal()
        limit, used, count, base, offset, length = (
            Signal(integer_bits, name=name)
            for name in ("limit", "used", "count", "base", "offset", "length"))
        with m.If(unit.en):
            m.d.sync += [
                asked.eq(1),
                limit.eq(unit.limit),
                used.eq(unit.used),
                count.eq(unit.count),
                base.eq(unit.base),
                offset.eq(unit.offset),
                length.eq(unit.length * ENTRY_UNIT_BYTES),
            ]

        inside = Signal()
        space = 1 << config.address_bits
        m.d.comb += inside.eq(used + count <= limit)
        with m.If(asked):
            m.d.comb += [
                Assert(~unit.fits | inside, "nothing is wrongly granted"),
                Assert(~inside | unit.fits, "nothing is wrongly refused"),
                Assert(unit.address == (base + offset) % space, "address is base + offset"),
                Assert((offset >= length) | (unit.to_last == length - offset - 1),
                       "to_last is length - offset - 1"),
            ]
            # An entry that nothing goes round in: `limit` bytes from `base`.
            byte = AnyConst(OFFSET_BITS)
            with m.If(unit.fits & (used == offset) & (base + limit <= space) & (byte < count)):
                m.d.comb += [
                    Assert(unit.address + byte >= base, "no byte lies before the entry"),
                    Assert(unit.address + byte < base + limit, "no byte lies behind the entry"),
                ]

            full = used + count == limit
            top = (1 << OFFSET_BITS) - 1
            m.d.comb += [
                Cover(unit.fits & full & (count > 1) & (used > 0), "ends exactly at the limit"),
                Cover(~unit.fits & (used + count == limit + 1), "one byte over"),
                Cover(unit.fits & (count == 0) & (used == limit), "empty, at the limit"),
                Cover(unit.fits & (limit == top) & full & (used > 0), "fills the longest range"),
                Cover(~unit.fits & (used == top) & (count == top), "largest sum"),
                Cover(~unit.fits & (used + count == 1 << OFFSET_BITS) & (count != 0),
                      "carry that leaves 0 in 32 bits"),
                Cover(~unit.fits & ((used + count) % (1 << OFFSET_BITS) <= limit)
                      & (used + count > top), "would fit but for the carry"),
                Cover(unit.fits & full & (used == offset) & (base + limit == space) & (count > 1),
                      "ends exactly at the end of the address space"),
                Cover((offset + 1 == length) & (offset != 0) & (unit.to_last == 0),
                      "starts at the last byte"),
                Cover((offset == 0) & (unit.to_last == top - ENTRY_UNIT_BYTES),
                      "all of the longest entry is left"),
            ]
            if config.address_bits > OFFSET_BITS:
                m.d.comb += Cover(
                    unit.fits & (base < 1 << OFFSET_BITS) & (unit.address >= 1 << OFFSET_BITS),
                    "address carries beyond 32 bits")
        return m


def jobs() -> list[Job]:
    """At full width for every width of address that differs in kind."""
    found = []
    for address_bits in (32, 40, 64):
        def spec(address_bits: int = address_bits) -> BoundsSpec:
            return BoundsSpec(AdapterConfig(address_bits=address_bits))
        found += [
            Job(name=f"bounds-{address_bits}", spec=spec, mode="prove", depth=2, min_asserts=6),
            Job(name=f"bounds-{address_bits}-cover", spec=spec, mode="cover", depth=3,
                min_asserts=10),
        ]
    return found
