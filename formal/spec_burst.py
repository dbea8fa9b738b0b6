# SPDX-License-Identifier: Apache-2.0
"""What the burst splitter must do: cover a range of bytes exactly, legally, in order.

The inputs are any spans that keep the rules of a stream, and any `stop`. The output is watched
from outside, at every transfer; only the induction looks at the unit's registers.
"""

from __future__ import annotations

from amaranth.asserts import AnySeq, Initial
from amaranth.hdl import (
    Assert, Assume, Cover, Elaboratable, Fragment, Module, Mux, ResetSignal, Signal)

from mvxl.burst import BurstSplitter
from mvxl.config import AXI_BOUNDARY_BYTES, OFFSET_BITS, AdapterConfig

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
        beat_bytes, block_bytes = config.data_bytes, config.block_bytes
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

        # A burst is loaded a cycle after its span was seen: the span and `stop` in that cycle.
        load = ~bursts.valid | bursts.ready
        loaded = Signal()
        consumed = Signal()
        abandoned = Signal()    # its agent was stopped in that cycle
        revoked = Signal()      # ... or in a later one, while the burst waited
        span = Signal.like(spans.payload)
        bytes_count = Signal(OFFSET_BITS)
        m.d.sync += loaded.eq(spans.valid & load)
        with m.If(load):
            m.d.sync += [
                consumed.eq(spans.ready),
                abandoned.eq(unit.stop.bit_select(spans.payload.agent, 1)),
                span.eq(spans.payload),
                bytes_count.eq(count),
            ]
            if self._revocable:
                m.d.sync += revoked.eq(0)
        if self._revocable:
            with m.Elif(unit.stop.bit_select(burst.agent, 1)):
                m.d.sync += revoked.eq(1)

        # What went out of the present span so far.
        integer_bits = config.address_bits + 2
        is_open = Signal()
        pieces = Signal(OFFSET_BITS + 1)
        expected = Signal(integer_bits)     # number of the next beat
        beat = Signal(integer_bits)
        end = Signal(integer_bits)          # the burst's last beat
        first_byte = Signal(integer_bits)
        last_byte = Signal(integer_bits)
        m.d.comb += [
            beat.eq(burst.address // beat_bytes),
            end.eq(beat + burst.len),
            first_byte.eq(span.address),
            last_byte.eq(span.address + bytes_count - 1),
        ]
        with m.If(bursts.valid & bursts.ready):
            m.d.sync += [
                is_open.eq(~burst.last),
                pieces.eq(Mux(burst.last, 0, pieces + 1)),
                expected.eq(end + 1),
            ]

        with m.If(bursts.valid):
            m.d.comb += [
                Assert(burst.agent == span.agent, "the agent is the span's"),
                Assert(burst.more == span.more, "more is the span's"),
                Assert(burst.other_lane == span.other_lane, "the other lane is the span's"),
                Assert(burst.first == ~is_open, "first marks the span's first burst"),
                Assert(burst.void == abandoned | revoked,
                       "void if and only if the agent is stopped"),
                Assert(~abandoned | burst.last, "nothing follows an abandoned span's burst"),
                Assert(burst.last == consumed, "a span is taken with its last burst"),
            ]
        with m.If(bursts.valid & ~abandoned):
            m.d.comb += [
                Assert(burst.address % beat_bytes == 0, "the address is aligned to the beat"),
                Assert(~burst.first | (beat == first_byte // beat_bytes),
                       "the first burst starts with the first byte's beat"),
                Assert(burst.first | (beat == expected), "no gap, no overlap, in order"),
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
                Assert(~burst.last | (pieces == last_byte // block_bytes
                                      - first_byte // block_bytes),
                       "as many bursts as blocks"),
            ]
        with m.If(loaded):
            m.d.comb += Assert(bursts.valid, "a burst in every cycle, whatever ready does")
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
        with m.Else():
            m.d.comb += Assert(~bursts.valid | loaded, "no burst without a span")

        # For the induction: the unit's registers are where the outside says that they are.
        mid_span = bursts.valid & ~burst.last
        if self._invariants:
            index = register(inner, "index")
            m.d.comb += [
                Assert(register(inner, "first") == (index == 0)),
                Assert(index == Mux(mid_span, pieces + 1, 0)),
                Assert((index == 0) | (register(inner, "next_last")
                                       == (index == span.last // block_bytes)),
                       "next_last tells the last burst"),
                Assert(is_open == (pieces != 0)),
                Assert(~is_open | bursts.valid),
                Assert(~mid_span | (pending & (before == span))),
            ]
            with m.If(bursts.valid):
                m.d.comb += [
                    Assert(bytes_count > 0),
                    Assert(last_byte < 1 << config.address_bits),
                    Assert(span.last == first_byte % block_bytes + bytes_count - 1),
                    Assert(span.single == (span.last < block_bytes)),
                ]
            with m.If(is_open):
                m.d.comb += [
                    Assert(expected
                           == (first_byte // block_bytes + pieces) * config.burst_beats),
                    Assert(expected <= last_byte // beat_bytes),
                ]

        through = bursts.valid & bursts.ready
        taken = through & ~burst.void
        single = taken & burst.first & burst.last
        ends_at_boundary = (last_byte + 1) % AXI_BOUNDARY_BYTES == 0
        after_void = Signal()
        with m.If(through):
            m.d.sync += after_void.eq(abandoned & ~burst.first)
        m.d.comb += [
            Cover(single & (burst.len == 0) & (bytes_count == 1), "one byte"),
            Cover(single & (burst.len == config.burst_beats - 1) & ends_at_boundary,
                  "a longest burst that ends exactly on 4 KiB"),
            Cover(taken & burst.last & (pieces == 2), "three bursts"),
            Cover(taken & burst.last & ~burst.first & (burst.len == 0) & (burst.last_lane == 0),
                  "one byte behind the edge"),
            Cover(taken & (last_byte == (1 << config.address_bits) - 1) & burst.last,
                  "up to the end of the address space"),
            Cover(through & abandoned & ~burst.first, "abandoned midway"),
            Cover(taken & burst.first & after_void, "a span begins behind an abandoned one"),
            Cover(taken & burst.more & (burst.agent == config.manager), "a piece of the manager's"),
        ]
        if self._revocable:
            m.d.comb += [
                Cover(through & revoked & burst.first & burst.last, "all of a span is revoked"),
                Cover(through & revoked & ~abandoned & ~burst.last, "revoked midway"),
                Cover(through & abandoned & is_open & burst.last, "abandoned behind a revoked one"),
            ]
        return m


def jobs() -> list[Job]:
    """Every named configuration, and the widest and narrowest beats and bursts, at full width.

    What is revocable differs in `void` alone, so that the named ones suffice.

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
            Job(name=f"burst-{name}", spec=spec, mode="prove", depth=2, min_asserts=29),
            Job(name=f"burst-{name}-cover", spec=spec, mode="cover", depth=7,
                min_asserts=8 + 3 * revocable),
        ]
    return found
