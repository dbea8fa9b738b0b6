# SPDX-License-Identifier: Apache-2.0
"""The burst splitter: a range of bytes becomes AXI bursts."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .config import OFFSET_BITS, AdapterConfig
from .messages import BurstRequest, Span

__all__ = ["BurstSplitter"]


class BurstSplitter(wiring.Component):
    """Splits spans into bursts on aligned blocks of `config.burst_beats`, one burst a cycle.

    The bursts of a span cover exactly the beats that hold its bytes, in order. None crosses a
    block, and so none crosses 4 KiB (AXI4, section A3.4.1), because a block's size divides it.
    Splitting on blocks needs a counter where splitting by length needs wide compares.

    A span whose agent is stopped is abandoned: one `void` burst, which is the span's last, stands
    for the rest. If it would have been followed by others, the span is taken in the next cycle in
    which it is there, and no burst is split off then: no path leads from `stop` to `spans.ready`.

    Parameters
    ----------
    config : AdapterConfig
    revocable : bool
        A burst that waits becomes void, too, when its agent is stopped. It is not the span's last
        then, unless it was; another void one follows. Two may wait, so that no path leads from
        `bursts.ready` to the spans.

    Members
    -------
    spans : In(stream.Signature(Span))
        Count ≥ 1; the range does not wrap around the address space.
    bursts : Out(stream.Signature(BurstRequest))
        One cycle behind the span.
    stop : In(config.agents)
        Bit a: abandon the spans of agent a.
    splits : Out(1)
        A burst is split off; it shows at `bursts`, or behind those that wait there, from the next
        cycle on.
    """

    spans: stream.Interface
    bursts: stream.Interface
    stop: Signal
    splits: Signal

    def __init__(self, config: AdapterConfig, *, revocable: bool = False) -> None:
        self.config = config
        self._revocable = revocable
        super().__init__({
            "spans": In(stream.Signature(Span(config))),
            "bursts": Out(stream.Signature(BurstRequest(config))),
            "stop": In(config.agents),
            "splits": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        lane, block = config.size_log2, config.block_log2
        span = self.spans.payload
        burst = self.bursts.payload

        index = Signal(OFFSET_BITS + 1 - block)     # blocks of the span that are through
        first = Signal(init=1)                      # index = 0
        next_last = Signal()                        # of the bursts behind the first: it is the last
        last = Signal()
        void = Signal()
        abandoned = Signal()                        # the span's void burst is out
        start_beat = Signal(block - lane)
        end_beat = Signal(block - lane)
        load = Signal()
        split = Signal.like(burst)
        m.d.comb += [
            last.eq(Mux(first, span.single, next_last)),
            void.eq(self.stop.bit_select(span.agent, 1)),
            start_beat.eq(Mux(first, span.address[lane:block], 0)),
            end_beat.eq(Mux(last, span.last[lane:block], ~0)),
            self.spans.ready.eq(abandoned | (load & last)),
            self.splits.eq(self.spans.valid & load & ~abandoned),
            split.agent.eq(span.agent),
            split.address.eq(Cat(Const(0, lane), start_beat, span.address[block:] + index)),
            split.len.eq(end_beat - start_beat),
            split.first_lane.eq(span.address[:lane]),
            split.last_lane.eq(span.last[:lane]),
            split.other_lane.eq(span.other_lane),
            split.first.eq(first),
            split.last.eq(last | void),
            split.more.eq(span.more),
            split.void.eq(void),
            split.single.eq(start_beat == end_beat),
            split.below.eq(span.address[:lane] < span.other_lane),
        ]
        m.d.sync += abandoned.eq((self.splits & void & ~last) | (abandoned & ~self.spans.valid))
        with m.If(self.splits):
            with m.If(last | void):
                m.d.sync += [index.eq(0), first.eq(1)]
            with m.Else():
                m.d.sync += [
                    index.eq(index + 1),
                    first.eq(0),
                    next_last.eq(index + 1 == span.last[block:]),
                ]

        if not self._revocable:
            m.d.comb += load.eq(~self.bursts.valid | self.bursts.ready)
            with m.If(load):
                m.d.sync += [self.bursts.valid.eq(self.splits), burst.eq(split)]
            return m

        # A skid buffer of bursts that become void where they wait. The spare one is filled in any
        # case, and counts if it is needed.
        spare = Signal.like(burst)
        spare_valid = Signal()
        moves = Signal()
        burst_void = Signal()
        spare_void = Signal()
        m.d.comb += [
            load.eq(~spare_valid),
            moves.eq(self.bursts.ready | ~self.bursts.valid),
            burst_void.eq(burst.void | self.stop.bit_select(burst.agent, 1)),
            spare_void.eq(spare.void | self.stop.bit_select(spare.agent, 1)),
        ]
        m.d.sync += spare_valid.eq(~moves & (spare_valid | self.splits))
        with m.If(load):
            m.d.sync += spare.eq(split)
        with m.Else():
            m.d.sync += spare.void.eq(spare_void)
        with m.If(moves):
            m.d.sync += [
                self.bursts.valid.eq(spare_valid | self.splits),
                burst.eq(Mux(spare_valid, spare, split)),
            ]
        m.d.sync += burst.void.eq(
            Mux(moves, Mux(spare_valid, spare_void, void), burst_void))
        return m
