# SPDX-License-Identifier: Apache-2.0
"""Finds out that the memory does not answer."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .config import AdapterConfig

__all__ = ["CHANNELS", "TIMEOUT_BITS", "Watchdog"]

#: The channels of the memory port, in the order of their bits and of MEMORY_STATE.channel.
CHANNELS = ("AR", "R", "AW", "W", "B")

#: Bits of MEMORY_TIMEOUT.
TIMEOUT_BITS = 32


class Watchdog(wiring.Component):
    """Down when work was due on a channel for a time, and no handshake came.

    Time runs in epochs of T cycles. A channel is stuck that was due and did not move in every
    cycle of an epoch. So `down` rises at the earliest T cycles after the first cycle in which the
    channel stands still, at the latest 2 T - 1 cycles after it.

    Parameters
    ----------
    config : AdapterConfig

    Members
    -------
    timeout : In(struct {en, cycles})
        Sets T; 0, as after reset: never. An epoch starts in the next cycle.
    due : In(5)
        Bit c: work is due on channel c in this cycle.
    moved : In(5)
        Bit c: a handshake takes place on channel c in this cycle.
    up : In(1)
        Clears `down`; an epoch starts in the next cycle. Not down: nothing happens.
    down : Out(1)
        Sticky.
    channel : Out(3)
        The first channel that was found stuck, the lowest of several; 0 unless down.
    """

    timeout: data.View[data.StructLayout]
    due: Signal
    moved: Signal
    up: Signal
    down: Signal
    channel: Signal

    def __init__(self, config: AdapterConfig) -> None:
        self.config = config
        super().__init__({
            "timeout": In(data.StructLayout({"en": 1, "cycles": TIMEOUT_BITS})),
            "due": In(len(CHANNELS)),
            "moved": In(len(CHANNELS)),
            "up": In(1),
            "down": Out(1),
            "channel": Out(range(len(CHANNELS))),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        watching = Signal()     # otherwise an epoch never ends
        epoch_cycles = Signal(TIMEOUT_BITS)
        next_cycle = Signal(TIMEOUT_BITS, init=2)   # of the epoch, counted from 1
        still = Signal(len(CHANNELS))           # due and not moving, in this cycle
        still_before = Signal(len(CHANNELS), init=-1)   # and in every one of the epoch before it
        ends = Signal()         # it is the epoch's last cycle
        m.d.comb += still.eq(self.due & ~self.moved & still_before)

        with m.If(self.timeout.en):
            m.d.sync += [
                watching.eq(self.timeout.cycles != 0),
                epoch_cycles.eq(self.timeout.cycles),
            ]
        with m.If(self.timeout.en | ~watching | self.down | ends):
            m.d.sync += [
                next_cycle.eq(2),
                ends.eq(Mux(self.timeout.en, self.timeout.cycles, epoch_cycles) == 1),
                still_before.eq(-1),
            ]
        with m.Else():
            m.d.sync += [
                next_cycle.eq(next_cycle + 1), ends.eq(next_cycle == epoch_cycles),
                still_before.eq(still)]

        with m.If(self.down):
            with m.If(self.up):
                m.d.sync += [self.down.eq(0), self.channel.eq(0)]
        with m.Elif(ends & ~self.timeout.en & still.any()):
            m.d.sync += self.down.eq(1)
            for number in reversed(range(len(CHANNELS))):
                with m.If(still[number]):
                    m.d.sync += self.channel.eq(number)
        return m
