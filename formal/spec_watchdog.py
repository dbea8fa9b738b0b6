# SPDX-License-Identifier: Apache-2.0
"""When the watchdog must bite, and when it must not: from T to 2 T - 1 cycles, for every T.

All inputs are free in every cycle. How long a channel has stood still is counted beside the unit.
"""

from __future__ import annotations

from typing import Any

from amaranth.asserts import AnySeq, Initial
from amaranth.hdl import (
    Assert,
    Assume,
    Cover,
    Elaboratable,
    Fragment,
    Module,
    ResetSignal,
    Signal,
)

from mvxl import watchdog
from mvxl.config import AdapterConfig
from mvxl.watchdog import CHANNELS

from .inside import register
from .mutants import mutated
from .run import Job

__all__ = ["PROOF_BITS", "WatchdogSpec", "jobs", "narrow"]

#: Width of T in proofs; the unit looks at no bit of it by itself.
PROOF_BITS = 8


class WatchdogSpec(Elaboratable):
    """The contract of `Watchdog`, as a wrapper around one.

    Parameters
    ----------
    unit
        A `Watchdog`, or a mutant of one.
    """

    def __init__(self, unit: Any) -> None:
        self._unit = unit

    def elaborate(self, platform: object) -> Module:
        m = Module()
        unit = self._unit
        width = len(unit.timeout.cycles)
        inside = Fragment.get(unit, platform)
        m.submodules.unit = inside
        m.d.comb += [
            Assume(ResetSignal() == Initial()),
            unit.timeout.eq(AnySeq(1 + width)),
            unit.due.eq(AnySeq(len(CHANNELS))),
            unit.moved.eq(AnySeq(len(CHANNELS))),
            unit.up.eq(AnySeq(1)),
        ]

        timeout = Signal(width)
        was_down = Signal()
        was_up = Signal()
        m.d.sync += [was_down.eq(unit.down), was_up.eq(unit.up)]
        with m.If(unit.timeout.en):
            m.d.sync += timeout.eq(unit.timeout.cycles)
        # Cycles in a row, up to the one before, in which a channel stood still while it mattered.
        still = [Signal(width + 2, name=f"still_{name}") for name in CHANNELS]
        for number, cycles in enumerate(still):
            with m.If(unit.timeout.en | unit.down | (timeout == 0)
                      | ~unit.due[number] | unit.moved[number]):
                m.d.sync += cycles.eq(0)
            with m.Else():
                m.d.sync += cycles.eq(cycles + 1)

        bites = Signal()
        m.d.comb += [
            bites.eq(unit.down & ~was_down),
            Assert(~was_down | was_up | unit.down, "sticky"),
            Assert(~(was_down & was_up) | ~unit.down, "goes up"),
            Assert(unit.down | (unit.channel == 0), "no channel unless down"),
            Assert(~unit.down | (unit.channel < len(CHANNELS)), "a channel"),
            Assert(~bites | (timeout != 0), "off is off"),
        ]
        for number, cycles in enumerate(still):
            found = unit.channel == number
            m.d.comb += [
                Assert(~(bites & found) | (cycles >= timeout), "not before T"),
                Assert(unit.down | (timeout == 0) | (cycles <= 2 * timeout - 2), "in time"),
                Cover(bites & found & (cycles == timeout) & (timeout == 3), "as early as can be"),
                Cover(bites & found & (cycles == 2 * timeout - 1) & (timeout == 3),
                      "as late as can be"),
            ]
        m.d.comb += Cover(~unit.down & was_down & (timeout == 1), "up again")
        self._invariants(m, inside, timeout, still)
        return m

    def _invariants(self, m: Module, inside: Fragment, timeout: Signal,
                    still: list[Signal]) -> None:
        """What holds between the registers of the unit and the counts, for the induction."""
        unit = self._unit
        still_before = register(inside, "still_before")
        # The count is one ahead and wraps in the last cycle of the longest epoch.
        cycle = Signal(len(timeout))
        m.d.comb += [
            cycle.eq(register(inside, "next_cycle") - 1),
            Assert(register(inside, "ends") == (cycle == timeout), "the last cycle"),
            Assert(register(inside, "epoch_cycles") == timeout, "T"),
            Assert(register(inside, "watching") == (timeout != 0), "watching"),
            Assert((cycle >= 1) & ((cycle <= timeout) | (cycle == 1)), "inside the epoch"),
            Assert((timeout != 0) & ~unit.down | (cycle == 1), "no epoch"),
        ]
        for number, cycles in enumerate(still):
            with m.If(~unit.down & (timeout != 0)):
                m.d.comb += [
                    Assert(still_before[number] == (cycles + 1 >= cycle), "all of the epoch"),
                    Assert(~still_before[number] | (cycles + 2 <= cycle + timeout),
                           "not all of the epoch before"),
                ]


def narrow(old: str = "class Watchdog(", new: str = "class Watchdog(") -> Any:
    """A watchdog with a narrow T, and a fault if one is named."""
    module: Any = mutated(watchdog, old, new)
    module.TIMEOUT_BITS = PROOF_BITS
    return module.Watchdog(AdapterConfig())


def jobs() -> list[Job]:
    """For every T of fewer bits."""
    def spec() -> WatchdogSpec:
        return WatchdogSpec(narrow())

    return [
        Job(name="watchdog", spec=spec, mode="prove", depth=2, min_asserts=30),
        Job(name="watchdog-cover", spec=spec, mode="cover", depth=10, min_asserts=11),
    ]
