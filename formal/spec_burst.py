# SPDX-License-Identifier: Apache-2.0
"""What the burst splitter must do: cover a range of bytes exactly, legally, in order.

The inputs are any spans that keep the rules of a stream, and any `stop`. The output is watched
from outside, at every transfer; only the induction looks at the unit's registers.
"""

from __future__ import annotations

from amaranth.asserts import AnySeq, Initial
from amaranth.hdl import (
    Assert, Assume, Cover, Elaboratable, Fragment, Module, Mux, ResetSignal, Signal, Value)
from amaranth.lib import data

from mvxl.burst import BurstSplitter
from mvxl.config import AXI_BOUNDARY_BYTES, OFFSET_BITS, AdapterConfig
from mvxl.messages import BurstRequest, Span

from .inside import register
from .run import Job

__all__ = ["BurstSpec", "jobs"]


class BurstSpec(Elaboratable):
    """The contract of `BurstSplitter`, as a wrapper around one.

    Parameters
    ----------
    config : AdapterConfig
    unit : BurstSplitter
        The unit to be proved; by default a new one of `config` and `revocable`.
    revocable : bool
        The unit is one whose waiting bursts can become void.
    invariants : bool
        Also assert what an induction needs to know of the unit's registers. Without, only the
        contract is checked, which suffices for a bounded proof.
    """

    def __init__(self, config: AdapterConfig, unit: BurstSplitter | None = None, *,
                 revocable: bool = False, invariants: bool = True) -> None:
        self._config = config
        self._invariants = invariants
        self._revocable = revocable
        self._unit = BurstSplitter(config, revocable=revocable) if unit is None else unit

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, unit = self._config, self._unit
        block_bytes = config.block_bytes
        inner = Fragment.get(unit, platform)
        m.submodules.unit = inner
        spans, bursts = unit.spans, unit.bursts
        burst = bursts.payload

        # Any span of any agent: `count` bytes from `address`, inside the address space.
        address = AnySeq(config.address_bits)
        count = AnySeq(OFFSET_BITS)
        pending = Signal()
        before = Signal.like(spans.payload)
        m.d.sync += [pending.eq(spans.valid & ~spans.ready), before.eq(spans.payload)]
        m.d.comb += [
            Assume(ResetSignal() == Initial()),
            spans.valid.eq(AnySeq(1)),
            spans.payload.agent.eq(AnySeq(config.user_bits)),
            spans.payload.other_lane.eq(AnySeq(config.size_log2)),
            spans.payload.more.eq(AnySeq(1)),
            spans.payload.address.eq(address),
            spans.payload.last.eq(address % block_bytes + count - 1),
            spans.payload.single.eq(address % block_bytes + count <= block_bytes),
            bursts.ready.eq(AnySeq(1)),
            unit.stop.eq(AnySeq(config.agents)),
            Assume(spans.payload.agent <= config.manager),
            Assume(count > 0),
            Assume(address + count <= 1 << config.address_bits),
            Assume(~pending | (spans.valid & (spans.payload == before))),
        ]

        # A burst is split off from the span in a cycle, and waits from the next one on: with it the
        # span, and `stop` in that cycle and later. Behind the void burst of an abandoned span
        # nothing is split off for a cycle, in which the span is taken, unless it is already.
        waiting = Signal(range(3 if self._revocable else 2))
        room = Signal()
        splits = Signal()
        through = Signal()
        moves = Signal()            # the output takes one
        leftover = Signal()         # the span has been abandoned before
        m.d.comb += [
            room.eq(waiting != 2 if self._revocable else moves),
            splits.eq(spans.valid & room & ~leftover),
            through.eq(bursts.valid & bursts.ready),
            moves.eq(~bursts.valid | bursts.ready),
        ]
        m.d.sync += [
            waiting.eq(waiting + splits - through),
            leftover.eq(splits & unit.stop.bit_select(spans.payload.agent, 1) & ~spans.ready),
        ]
        origin = data.StructLayout({
            "span": Span(config),
            "bytes_count": OFFSET_BITS,
            "consumed": 1,
            "abandoned": 1,     # its agent was stopped in that cycle
            "revoked": 1,       # ... or in a later one, while the burst waited
        })
        split, shown, spare = (Signal(origin, name=name) for name in ("split", "shown", "spare"))

        def stopped(burst: data.View) -> Value:
            return unit.stop.bit_select(burst.span.agent, 1)

        m.d.comb += [
            split.span.eq(spans.payload),
            split.bytes_count.eq(count),
            split.consumed.eq(spans.ready),
            split.abandoned.eq(stopped(split)),
        ]
        if self._revocable:
            with m.If(waiting != 2):
                m.d.sync += spare.eq(split)
            with m.Else():
                m.d.sync += spare.revoked.eq(spare.revoked | stopped(spare))
            with m.If(~moves):
                m.d.sync += shown.revoked.eq(shown.revoked | stopped(shown))
            with m.Elif(waiting == 2):
                m.d.sync += [shown.eq(spare), shown.revoked.eq(spare.revoked | stopped(spare))]
            with m.Else():
                m.d.sync += shown.eq(split)
        else:
            with m.If(moves):
                m.d.sync += shown.eq(split)

        # What went out of the present span so far.
        sent = data.StructLayout({
            "is_open": 1,
            "pieces": OFFSET_BITS + 1,
            "expected": config.address_bits + 2,    # number of the next beat
        })
        before_shown, before_spare = (
            Signal(sent, name=name) for name in ("before_shown", "before_spare"))
        m.d.comb += before_spare.eq(self._check(m, bursts.valid, burst, shown, before_shown))
        with m.If(through):
            m.d.sync += before_shown.eq(before_spare)
        m.d.comb += [
            Assert(bursts.valid | (waiting == 0), "a burst in every cycle, whatever ready does"),
            Assert(~bursts.valid | (waiting != 0), "no burst without a span"),
            Assert(~spans.ready | room | leftover, "a span is taken when there is room"),
            Assert(~leftover | spans.ready, "an abandoned span is taken at once"),
            Assert(unit.splits == splits, "splits tells when a burst is split off"),
        ]

        held = Signal()
        held_payload = Signal.like(burst)
        m.d.sync += [held.eq(bursts.valid & ~bursts.ready), held_payload.eq(burst)]
        if self._revocable:
            with m.If(unit.stop.bit_select(burst.agent, 1)):
                m.d.sync += held_payload.void.eq(1)
        with m.If(held):
            m.d.comb += [
                Assert(bursts.valid, "valid stays until ready"),
                Assert(burst == held_payload, "payload is stable until ready"),
            ]

        # For the induction: the unit's registers are where the outside says that they are.
        if self._invariants:
            is_newest = bursts.valid
            if self._revocable:
                spare_valid = waiting == 2
                is_newest = waiting == 1
                inner_spare = BurstRequest(config)(register(inner, "spare"))
                self._check(m, spare_valid, inner_spare, spare, before_spare)
                m.d.comb += [
                    Assert(waiting <= 2),
                    Assert(register(inner, "spare_valid") == spare_valid),
                    Assert(~spare_valid | burst.last
                           | (spare.span == shown.span) & (spare.bytes_count == shown.bytes_count),
                           "a burst that is not the last one is followed by the same span's"),
                ]
                self._check_registers(m, inner, spare_valid, inner_spare, spare, before_spare)
                with m.If(spare_valid & ~inner_spare.last):
                    m.d.comb += Assert(pending & (before == spare.span))
            self._check_registers(m, inner, is_newest, burst, shown, before_shown)
            with m.If(is_newest & ~burst.last):
                m.d.comb += Assert(pending & (before == shown.span))
            m.d.comb += [
                Assert(bursts.valid | (register(inner, "index") == 0)),
                Assert(register(inner, "first") == (register(inner, "index") == 0)),
                Assert(register(inner, "abandoned") == leftover),
                Assert(before_shown.is_open == (before_shown.pieces != 0)),
                Assert(~before_shown.is_open | bursts.valid),
            ]

        pieces = before_shown.pieces
        last_byte = shown.span.address + shown.bytes_count - 1
        taken = through & ~burst.void
        single = taken & burst.first & burst.last
        ends_at_boundary = (last_byte + 1) % AXI_BOUNDARY_BYTES == 0
        after_void = Signal()
        with m.If(through):
            m.d.sync += after_void.eq(shown.abandoned & ~burst.first)
        m.d.comb += [
            Cover(single & (burst.len == 0) & (shown.bytes_count == 1), "one byte"),
            Cover(single & (burst.len == config.burst_beats - 1) & ends_at_boundary,
                  "a longest burst that ends exactly on 4 KiB"),
            Cover(taken & burst.last & (pieces == 2), "three bursts"),
            Cover(taken & burst.last & ~burst.first & (burst.len == 0) & (burst.last_lane == 0),
                  "one byte behind the edge"),
            Cover(taken & (last_byte == (1 << config.address_bits) - 1) & burst.last,
                  "up to the end of the address space"),
            Cover(through & shown.abandoned & ~burst.first, "abandoned midway"),
            Cover(taken & burst.first & after_void, "a span begins behind an abandoned one"),
            Cover(taken & burst.more & (burst.agent == config.manager), "a piece of the manager's"),
        ]
        if self._revocable:
            m.d.comb += [
                Cover(through & shown.revoked & burst.first & burst.last,
                      "all of a span is revoked"),
                Cover(through & shown.revoked & ~shown.abandoned & ~burst.last, "revoked midway"),
                Cover(through & shown.abandoned & before_shown.is_open & burst.last,
                      "abandoned behind a revoked one"),
                Cover((waiting == 2) & shown.revoked & spare.revoked & ~shown.abandoned
                      & ~spare.abandoned & (shown.span.agent != spare.span.agent),
                      "both that wait are revoked"),
                Cover((waiting == 2) & ~shown.revoked & spare.revoked, "the second one is revoked"),
            ]
        return m

    def _check(self, m: Module, there: Value, burst: data.View, origin: data.View,
               sent: data.View) -> Value:
        """Assert what a waiting burst must be; return what will have been sent once it is, too."""
        config = self._config
        beat_bytes, block_bytes = config.data_bytes, config.block_bytes
        integer_bits = config.address_bits + 2
        beat = Signal(integer_bits)
        end = Signal(integer_bits)          # the burst's last beat
        first_byte = Signal(integer_bits)
        last_byte = Signal(integer_bits)
        span = origin.span
        m.d.comb += [
            beat.eq(burst.address // beat_bytes),
            end.eq(beat + burst.len),
            first_byte.eq(span.address),
            last_byte.eq(span.address + origin.bytes_count - 1),
        ]
        with m.If(there):
            m.d.comb += [
                Assert(burst.agent == span.agent, "the agent is the span's"),
                Assert(burst.more == span.more, "more is the span's"),
                Assert(burst.other_lane == span.other_lane, "the other lane is the span's"),
                Assert(burst.first == ~sent.is_open, "first marks the span's first burst"),
                Assert(burst.void == origin.abandoned | origin.revoked,
                       "void if and only if the agent is stopped"),
                Assert(~origin.abandoned | burst.last,
                       "nothing follows an abandoned span's burst"),
                Assert(burst.last == origin.consumed | origin.abandoned,
                       "a span is taken with its last burst"),
                Assert(burst.single == (burst.len == 0), "single: of one beat"),
                Assert(burst.below == (burst.first_lane < burst.other_lane),
                       "below: the first lane is below the other"),
            ]
        with m.If(there & ~origin.abandoned):
            m.d.comb += [
                Assert(burst.address % beat_bytes == 0, "the address is aligned to the beat"),
                Assert(~burst.first | (beat == first_byte // beat_bytes),
                       "the first burst starts with the first byte's beat"),
                Assert(burst.first | (beat == sent.expected), "no gap, no overlap, in order"),
                Assert(end <= last_byte // beat_bytes, "no beat behind the last byte's"),
                Assert(burst.last == (end == last_byte // beat_bytes),
                       "last marks the burst of the last byte"),
                Assert(burst.last | ((end + 1) % config.burst_beats == 0),
                       "never shorter than needed"),
                Assert(burst.len < config.burst_beats, "never longer than burst_beats"),
                Assert(beat * beat_bytes // AXI_BOUNDARY_BYTES
                       == (end * beat_bytes + beat_bytes - 1) // AXI_BOUNDARY_BYTES,
                       "never crosses 4 KiB"),
                Assert(beat * beat_bytes // block_bytes == end * beat_bytes // block_bytes,
                       "never crosses a block"),
                Assert(burst.first_lane == first_byte % beat_bytes, "lane of the first byte"),
                Assert(burst.last_lane == last_byte % beat_bytes, "lane of the last byte"),
                Assert(~burst.last | (sent.pieces == last_byte // block_bytes
                                      - first_byte // block_bytes),
                       "as many bursts as blocks"),
            ]
        if self._invariants:
            # What the inputs' rules, and the past, say of the span.
            with m.If(there):
                m.d.comb += [
                    Assert(origin.bytes_count > 0),
                    Assert(last_byte < 1 << config.address_bits),
                    Assert(span.last == first_byte % block_bytes + origin.bytes_count - 1),
                    Assert(span.single == (span.last < block_bytes)),
                ]
            with m.If(there & sent.is_open):
                m.d.comb += [
                    Assert(sent.expected
                           == (first_byte // block_bytes + sent.pieces) * config.burst_beats),
                    Assert(sent.expected <= last_byte // beat_bytes),
                ]
        behind = Signal(sent.shape())
        m.d.comb += [
            behind.is_open.eq(~burst.last),
            behind.pieces.eq(Mux(burst.last, 0, sent.pieces + 1)),
            behind.expected.eq(end + 1),
        ]
        return behind

    def _check_registers(self, m: Module, inner: Fragment, is_newest: Value, burst: data.View,
                         origin: data.View, sent: data.View) -> None:
        """Assert of the unit's registers that the next burst is the one behind the newest."""
        index = register(inner, "index")
        with m.If(is_newest):
            m.d.comb += [
                Assert(index == Mux(burst.last, 0, sent.pieces + 1)),
                Assert((index == 0) | (register(inner, "next_last")
                                       == (index == origin.span.last // self._config.block_bytes)),
                       "next_last tells the last burst"),
            ]


def jobs() -> list[Job]:
    """Every named configuration, and the widest and narrowest beats and bursts, at full width.

    What is revocable differs in how bursts wait, so that the named ones suffice.

    The invariants are inductive in one step; the second one joins the induction, which leaves out
    the first cycle, to the base case.
    """
    named = {name: AdapterConfig.named(name) for name in ("tiny", "default", "large")}
    extreme = {
        "widest": AdapterConfig(data_bits=512, address_bits=64, burst_beats=64),
        "longest": AdapterConfig(data_bits=32, burst_beats=256, data_queue_beats=1024),
        "shortest": AdapterConfig(data_bits=32, burst_beats=2),
    }
    found = []
    for name, config, revocable in (
            *((name, config, False) for name, config in (named | extreme).items()),
            *((f"{name}-revocable", config, True) for name, config in named.items())):
        def spec(config: AdapterConfig = config, revocable: bool = revocable) -> BurstSpec:
            return BurstSpec(config, revocable=revocable)
        found += [
            # Three quarters of a minute each: one of them is enough for the quick ones.
            Job(name=f"burst-{name}", spec=spec, mode="prove", depth=2, min_asserts=32,
                quick=not revocable or config is named["default"]),
            Job(name=f"burst-{name}-cover", spec=spec, mode="cover", depth=7,
                min_asserts=8 + 5 * revocable),
        ]
    return found
