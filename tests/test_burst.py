# SPDX-License-Identifier: Apache-2.0
"""The burst splitter: proved to cover a range exactly and legally, and its pace simulated."""

from __future__ import annotations

import random
from typing import Any

import pytest
from amaranth.hdl import Fragment
from amaranth.sim import Simulator

from formal.inside import register
from formal.mutants import EVERY_FAILURE, broken, mutated
from formal.run import Job, prove
from formal.spec_burst import BurstSpec, jobs
from mvxl import burst
from mvxl.burst import BurstSplitter
from mvxl.config import AdapterConfig
from mvxl.messages import Span

CONFIG = AdapterConfig.named("default")
JOBS = {job.name: job for job in jobs() if job.quick}


@pytest.mark.parametrize("name", JOBS)
def test_proof(name: str) -> None:
    result = prove(JOBS[name])
    assert result.passed, result.explain()


FAULTS = [
    ("last-inclusive-as-exclusive", "index + 1 == span.last[block:]",
     "index + 1 == (span.last + 1)[block:]", "last marks the burst of the last byte"),
    ("edge-refused", "Mux(last, span.last[lane:block], ~0)",
     "Mux(last & (span.last[lane:block] < (1 << block - lane) - 1), span.last[lane:block], ~1)",
     "never shorter than needed"),
    ("one-burst-less", "index + 1 == span.last[block:]", "index + 1 >= span.last[block:] - 1",
     "last marks the burst of the last byte"),
    ("start-kept", "Mux(first, span.address[lane:block], 0)", "span.address[lane:block]",
     "no gap, no overlap, in order"),
    ("end-of-block-kept", "Mux(last, span.last[lane:block], ~0)", "~0",
     "no beat behind the last byte's"),
    ("one-beat-more", "end_beat - start_beat", "end_beat - start_beat + 1",
     "never crosses a block"),
    ("carry-dropped", "span.address[block:] + index", "span.address[block:] | index",
     "no gap, no overlap, in order"),
    ("pointer-stands", "span.address[block:] + index", "span.address[block:]",
     "no gap, no overlap, in order"),
    ("void-not-last", "split.last.eq(last | void)", "split.last.eq(last)",
     "nothing follows an abandoned span's burst"),
    ("index-kept-after-void", "with m.If(last | void):", "with m.If(last):",
     "first marks the span's first burst"),
    ("first-not-restored", "[index.eq(0), first.eq(1)]", "[index.eq(0)]",
     "first marks the span's first burst"),
    ("payload-overrun", "load.eq(~self.bursts.valid | self.bursts.ready)", "load.eq(1)",
     "payload is stable until ready"),
    ("abandoned-forgotten", "(self.splits & void & ~last) |", "0 |",
     "an abandoned span is taken at once"),
    ("abandoned-split-on", "self.spans.valid & load & ~abandoned", "self.spans.valid & load",
     "splits tells when a burst is split off"),
    ("lanes-swapped", "first_lane.eq(span.address[:lane])", "first_lane.eq(span.last[:lane])",
     "lane of the first byte"),
    ("stopped-by-another", "self.stop.bit_select(span.agent, 1)", "self.stop.any()",
     "void if and only if the agent is stopped"),
    ("manager-not-stopped", "self.stop.bit_select(span.agent, 1)",
     "self.stop[:-1].bit_select(span.agent, 1)", "void if and only if the agent is stopped"),
    ("more-lost", "split.more.eq(span.more)", "split.more.eq(0)", "more is the span's"),
    ("other-lane-lost", "split.other_lane.eq(span.other_lane)", "split.other_lane.eq(0)",
     "the other lane is the span's"),
    ("agent-cut", "split.agent.eq(span.agent)", "split.agent.eq(span.agent[:-1])",
     "the agent is the span's"),
    ("always-revocable", "if not self._revocable:", "if False:", "payload is stable until ready"),
    ("single-of-the-span", "split.single.eq(start_beat == end_beat)",
     "split.single.eq(span.single)", "single: of one beat"),
    ("below-or-equal", "span.address[:lane] < span.other_lane",
     "span.address[:lane] <= span.other_lane", "below: the first lane is below the other"),
]
REVOCABLE_FAULTS = [
    ("never-revocable", "if not self._revocable:", "if True:",
     "void if and only if the agent is stopped"),
    ("revoked-by-the-next", "self.stop.bit_select(burst.agent, 1)",
     "self.stop.bit_select(span.agent, 1)", "void if and only if the agent is stopped"),
    ("revoked-by-anyone", "self.stop.bit_select(burst.agent, 1)", "self.stop.any()",
     "void if and only if the agent is stopped"),
    ("revoked-is-last", "m.d.sync += burst.void.eq(\n",
     "with m.If(burst_void & ~moves):\n            m.d.sync += burst.last.eq(1)\n"
     "        m.d.sync += burst.void.eq(\n", "a span is taken with its last burst"),
    ("spare-not-revoked", "self.stop.bit_select(spare.agent, 1)", "0",
     "void if and only if the agent is stopped"),
    ("spare-revoked-by-the-first", "self.stop.bit_select(spare.agent, 1)",
     "self.stop.bit_select(burst.agent, 1)", "void if and only if the agent is stopped"),
    ("spare-revoked-as-it-moves", "m.d.sync += spare.void.eq(spare_void)", "pass",
     "void if and only if the agent is stopped"),
    ("spare-revoked-as-it-stays", "Mux(spare_valid, spare_void, void)",
     "Mux(spare_valid, spare.void, void)", "void if and only if the agent is stopped"),
    ("moved-as-revoked-as-the-first", "Mux(spare_valid, spare_void, void)",
     "Mux(spare_valid, burst_void, void)", "void if and only if the agent is stopped"),
    ("spare-lost", "~moves & (spare_valid | self.splits)", "0",
     "a burst in every cycle, whatever ready does"),
    ("spare-overrun", "load.eq(~spare_valid)", "load.eq(1)",
     "a span is taken when there is room"),
    ("spare-overtaken", "burst.eq(Mux(spare_valid, spare, split))", "burst.eq(split)",
     "a span is taken with its last burst"),
]


@pytest.mark.parametrize(("name", "old", "new", "expected", "revocable"),
                         [(*fault, False) for fault in FAULTS]
                         + [(*fault, True) for fault in REVOCABLE_FAULTS],
                         ids=[fault[0] for fault in FAULTS + REVOCABLE_FAULTS])
def test_planted_fault(name: str, old: str, new: str, expected: str, revocable: bool) -> None:
    unit = mutated(burst, old, new).BurstSplitter(CONFIG, revocable=revocable)
    result = prove(Job(name=f"burst-fault-{name}", mode="bmc", depth=6, min_asserts=22,
                       engine=EVERY_FAILURE,
                       spec=BurstSpec(CONFIG, unit, revocable=revocable, invariants=False)))
    assert result.status == "FAIL", result.explain()
    assert expected in broken(result), result.explain()


def test_planted_fault_beyond_any_trace() -> None:
    """A span that ends 2³² bytes behind its block's start ends at once: bit 32 is dropped.

    It needs addresses of more than 32 bits, and millions of bursts: only the induction sees it.
    """
    config = AdapterConfig.named("large")
    unit = mutated(burst, "index + 1 == span.last[block:]",
                   "index + 1 == span.last[block:OFFSET_BITS]").BurstSplitter(config)
    result = prove(Job(name="burst-fault-far", spec=BurstSpec(config, unit), mode="prove",
                       depth=2, min_asserts=20))
    assert not result.passed
    assert "next_last tells the last burst" in broken(result), result.explain()


def test_invariant_of_a_register_that_is_not_there() -> None:
    unit = Fragment.get(BurstSplitter(CONFIG), None)
    assert register(unit, "index").name == "index"
    with pytest.raises(ValueError) as told:
        register(unit, "pointer")
    assert str(told.value) == "the unit must assign exactly one register called 'pointer', not 0"


def expected_bursts(config: AdapterConfig, address: int, count: int) -> list[dict[str, int]]:
    """The bursts of a range, found by walking over its beats."""
    beat_bytes, block_bytes = config.data_bytes, config.block_bytes
    beats = range(address // beat_bytes, (address + count - 1) // beat_bytes + 1)
    groups: dict[int, list[int]] = {}
    for beat in beats:
        groups.setdefault(beat * beat_bytes // block_bytes, []).append(beat)
    found = [{"address": group[0] * beat_bytes, "len": len(group) - 1, "first": 0, "last": 0,
              "first_lane": address % beat_bytes,
              "last_lane": (address + count - 1) % beat_bytes, "void": 0}
             for group in groups.values()]
    found[0]["first"] = 1
    found[-1]["last"] = 1
    return found


def span_of(config: AdapterConfig, address: int, count: int) -> Any:
    last = address % config.block_bytes + count - 1
    return Span(config).const({"agent": 1, "address": address, "last": last,
                               "single": last < config.block_bytes})


def run_spans(config: AdapterConfig, spans: list[tuple[int, int]], *, chance: float,
              seed: int = 0) -> tuple[list[dict[str, int]], int]:
    """Send spans; return the bursts that came, and the cycles from the first to the last of them.

    `chance`: of valid at the input, and of ready at the output, in every cycle.
    """
    unit = BurstSplitter(config)
    wanted = sum(len(expected_bursts(config, *span)) for span in spans)
    dice = random.Random(seed)
    found: list[dict[str, int]] = []
    cycles: list[int] = []

    async def bench(ctx) -> None:
        left = list(spans)
        offering = False
        cycle = 0
        while len(found) < wanted:
            offering = offering or bool(left) and dice.random() < chance
            ready = dice.random() < chance
            ctx.set(unit.spans.valid, offering)
            if offering:
                ctx.set(unit.spans.payload, span_of(config, *left[0]))
            ctx.set(unit.bursts.ready, ready)
            _, _, taken, valid, payload = await ctx.tick().sample(
                unit.spans.ready, unit.bursts.valid, unit.bursts.payload)
            if offering and taken:
                left.pop(0)
                offering = False
            if ready and valid:
                assert payload.agent == 1
                found.append({name: int(payload[name]) for name in
                              ("address", "len", "first", "last", "first_lane", "last_lane",
                               "void")})
                cycles.append(cycle)
            cycle += 1
            assert cycle < 100 + 40 * wanted, "the bursts do not come"
        ctx.set(unit.bursts.ready, 1)
        ctx.set(unit.spans.valid, 0)
        assert not left
        await ctx.tick()
        assert not ctx.get(unit.bursts.valid), "a burst too many"

    sim = Simulator(unit)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    return found, cycles[-1] - cycles[0] + 1


def random_spans(config: AdapterConfig, number: int, seed: int) -> list[tuple[int, int]]:
    """Spans that begin and end around the edges of beats, blocks and 4 KiB."""
    dice = random.Random(seed)
    spans = []
    for _ in range(number):
        edge = 4096 + dice.randrange(9) * dice.choice(
            (config.data_bytes, config.block_bytes, 4096))
        address = edge + dice.randrange(-9, 10)
        end = edge + dice.choice((0, 1, 2, 3)) * config.block_bytes + dice.randrange(-9, 10)
        spans.append((address, max(1, end - address)))
    return spans


@pytest.mark.parametrize("name", ["tiny", "default", "large"])
def test_random_spans_under_backpressure(name: str) -> None:
    config = AdapterConfig.named(name)
    spans = random_spans(config, 150, seed=1)
    found, _ = run_spans(config, spans, chance=0.6, seed=2)
    assert found == [one for span in spans for one in expected_bursts(config, *span)]


def test_one_burst_a_cycle_across_spans() -> None:
    spans = random_spans(CONFIG, 100, seed=3)
    found, cycles = run_spans(CONFIG, spans, chance=1.0)
    assert cycles == len(found) > 100


@pytest.mark.parametrize("revocable", [False, True])
def test_stop_abandons_the_span_and_no_other(revocable: bool) -> None:
    """Three blocks, stopped behind the first: a void burst, a cycle without, then the next span.

    The burst that is taken in the cycle of the stop is not touched, revocable or not. The span is
    taken in the cycle of its void burst, and not before.
    """
    unit = BurstSplitter(CONFIG, revocable=revocable)
    block = CONFIG.block_bytes
    found = []
    spans_taken = []

    async def bench(ctx) -> None:
        ctx.set(unit.bursts.ready, 1)
        ctx.set(unit.spans.valid, 1)
        ctx.set(unit.spans.payload, span_of(CONFIG, 0, 3 * block))
        await ctx.tick()
        ctx.set(unit.stop, 0b0010)
        for _ in range(5):
            _, _, taken, valid, payload = await ctx.tick().sample(
                unit.spans.ready, unit.bursts.valid, unit.bursts.payload)
            found.append(
                (payload.void, payload.first, payload.last, payload.address) if valid else None)
            spans_taken.append(taken)
            ctx.set(unit.stop, 0)
            if taken:
                ctx.set(unit.spans.payload, span_of(CONFIG, 8 * block, 2 * block))

    sim = Simulator(unit)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    assert found[0] == (0, 1, 0, 0)
    assert found[1][:3] == (1, 0, 1)
    assert found[2:] == [None, (0, 1, 0, 8 * block), (0, 0, 1, 9 * block)]
    assert spans_taken == [0, 1, 0, 1, 0]


@pytest.mark.parametrize("revocable", [False, True])
def test_stop_reaches_a_waiting_burst(revocable: bool) -> None:
    """Three blocks; the first waits when its agent is stopped, and later the stop stays on.

    It becomes void if it is revocable, and so does the second, which waits behind it then; neither
    is the span's last. The next one is, and is void.
    """
    unit = BurstSplitter(CONFIG, revocable=revocable)
    found = []
    expected = [(1, 1, 0), (1, 0, 0), (1, 0, 1)] if revocable else [(0, 1, 0), (1, 0, 1)]

    async def bench(ctx) -> None:
        ctx.set(unit.spans.valid, 1)
        ctx.set(unit.spans.payload, span_of(CONFIG, 0, 3 * CONFIG.block_bytes))
        await ctx.tick()
        for stop in (0, 0b1000, 0b0010):
            assert ctx.get(unit.bursts.payload.void) == 0
            ctx.set(unit.stop, stop)
            await ctx.tick()
        ctx.set(unit.bursts.ready, 1)
        for _ in expected:
            assert ctx.get(unit.bursts.valid)
            burst = ctx.get(unit.bursts.payload)
            found.append((burst.void, burst.first, burst.last))
            _, _, taken = await ctx.tick().sample(unit.spans.ready)
            if taken:
                ctx.set(unit.spans.valid, 0)

    sim = Simulator(unit)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    assert found == expected
