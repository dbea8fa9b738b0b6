# SPDX-License-Identifier: Apache-2.0
"""What the bounds checker must answer, in integers that never wrap (SPEC G3).

All inputs are free in every cycle; the legality of a table entry (base + length ≤ 2^address_bits)
is a premise only of the property that needs it.
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
            unit.base.eq(AnySeq(config.base_bits)),
            unit.length.eq(AnySeq(LENGTH_BITS)),
            unit.offset.eq(AnySeq(OFFSET_BITS)),
            unit.count.eq(AnySeq(OFFSET_BITS)),
        ]

        # The inputs of the cycle before, in bytes, as integers: wider than any sum of them.
        integer_bits = 1 + max(config.address_bits, OFFSET_BITS + 1)
        asked = Signal()
        base, length, offset, count = (
            Signal(integer_bits, name=name) for name in ("base", "length", "offset", "count"))
        m.d.sync += [
            asked.eq(1),
            base.eq(unit.base * ENTRY_UNIT_BYTES),
            length.eq(unit.length * ENTRY_UNIT_BYTES),
            offset.eq(unit.offset),
            count.eq(unit.count),
        ]

        inside = Signal()
        space = 1 << config.address_bits
        m.d.comb += inside.eq(offset + count <= length)
        with m.If(asked):
            m.d.comb += [
                Assert(~unit.fits | inside, "nothing is wrongly granted"),
                Assert(~inside | unit.fits, "nothing is wrongly refused"),
                Assert(unit.address == (base + offset) % space, "address is base + offset"),
            ]
            byte = AnyConst(OFFSET_BITS)
            with m.If(unit.fits & (base + length <= space) & (byte < count)):
                m.d.comb += [
                    Assert(unit.address + byte >= base, "no byte lies before the entry"),
                    Assert(unit.address + byte < base + length, "no byte lies behind the entry"),
                ]

            full = offset + count == length
            top = (1 << OFFSET_BITS) - 1
            m.d.comb += [
                Cover(unit.fits & full & (count > 1) & (offset > 0), "ends exactly at the end"),
                Cover(~unit.fits & (offset + count == length + 1), "one byte over"),
                Cover(unit.fits & (count == 0) & (offset == length), "empty, at the end"),
                Cover(unit.fits & (length == top + 1 - ENTRY_UNIT_BYTES) & full,
                      "fills the longest entry"),
                Cover(~unit.fits & (offset == top) & (count == top), "largest sum"),
                Cover(~unit.fits & (offset + count == 1 << OFFSET_BITS) & (count != 0),
                      "carry that leaves 0 in 32 bits"),
                Cover(~unit.fits & ((offset + count) % (1 << OFFSET_BITS) <= length)
                      & (offset + count > top), "would fit but for the carry"),
                Cover(unit.fits & full & (base + length == space) & (count > 1),
                      "ends exactly at the end of the address space"),
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
            Job(name=f"bounds-{address_bits}", spec=spec, mode="prove", depth=2, min_asserts=5),
            Job(name=f"bounds-{address_bits}-cover", spec=spec, mode="cover", depth=3,
                min_asserts=8),
        ]
    return found
