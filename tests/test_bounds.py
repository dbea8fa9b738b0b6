# SPDX-License-Identifier: Apache-2.0
"""The bounds checker, and what the front end makes of it for a ring: proved against integers, and
the proofs seen to fail."""

from __future__ import annotations

import pytest
from amaranth.sim import Simulator

from formal import spec_bounds, spec_ring
from formal.mutants import EVERY_FAILURE, broken, mutated
from formal.run import Job, prove
from formal.spec_bounds import BoundsSpec
from formal.spec_ring import RingSpec
from mvxl import bounds, front
from mvxl.bounds import BoundsChecker
from mvxl.config import AdapterConfig

CONFIG = AdapterConfig.named("default")
JOBS = {job.name: job for job in spec_bounds.jobs() + spec_ring.jobs()}


@pytest.mark.parametrize("name", JOBS)
def test_proof(name: str) -> None:
    result = prove(JOBS[name])
    assert result.passed, result.explain()


GRANTED = "nothing is wrongly granted"
REFUSED = "nothing is wrongly refused"
ADDRESS = "address is base + offset"
TO_LAST = "to_last is length - offset - 1"


FAULTS = [
    ("one-byte-less", "room >= 0", "room > 0", REFUSED),
    ("one-byte-more", "room >= 0", "room >= -1", GRANTED),
    ("sum-of-32-bits",
     "~(self.used | Const(0, width))),\n            not_count.eq(~(self.count | Const(0, width)))",
     "~((self.used + self.count)[:OFFSET_BITS] | Const(0, width))),\n"
     "            not_count.eq(~Const(0, width))", GRANTED),
    ("room-without-carry", "signed(width)", "signed(width - 1)", GRANTED),
    ("one-bit-too-narrow", "width = OFFSET_BITS + 2", "width = OFFSET_BITS + 1", GRANTED),
    ("count-not-looked-at", "~(self.count |", "~(0 |", GRANTED),
    ("used-not-looked-at", "~(self.used |", "~(0 |", GRANTED),
    ("length-for-limit",
     "sums.eq(self.limit ^ not_used ^ not_count),\n"
     "            carries.eq((self.limit & not_used) | (self.limit & not_count)",
     "sums.eq(Cat(in_bytes, self.length) ^ not_used ^ not_count),\n"
     "            carries.eq((Cat(in_bytes, self.length) & (not_used | not_count))", GRANTED),
    ("carries-not-doubled", "Cat(Const(1, 1), carries[:-1])", "Cat(Const(1, 1), carries[1:])",
     GRANTED),
    ("carries-of-32-bits", "carries[:-1]", "carries[:OFFSET_BITS - 1]", GRANTED),
    ("one-not-added", "Cat(Const(1, 1), carries[:-1])", "Cat(Const(0, 1), carries[:-1])",
     REFUSED),
    ("carry-of-both-lost", "\n                       | (not_used & not_count)", "", REFUSED),
    ("address-without-carry", "self.base + self.offset", "self.base | self.offset", ADDRESS),
    ("address-of-used", "self.base + self.offset", "self.base + self.used", ADDRESS),
    ("offset-of-31-bits", "self.base + self.offset", "self.base + self.offset[:31]", ADDRESS),
    ("last-in-units", "Cat(in_bytes, self.length) + ~self.offset", "self.length + ~self.offset",
     TO_LAST),
    ("last-behind-range", "Cat(in_bytes, self.length) + ~self.offset",
     "Cat(in_bytes, self.length) + ~self.offset - self.count", TO_LAST),
    ("goes-on-without-en", "with m.If(self.en):", "with m.If(1):", ADDRESS),
    ("stays-for-ever", "with m.If(self.en):", "with m.If(self.en & ~self.fits):", ADDRESS),
    ("end-for-last", "Cat(in_bytes, self.length) + ~self.offset",
     "Cat(in_bytes, self.length) - self.offset", TO_LAST),
]


@pytest.mark.parametrize(("name", "old", "new", "expected"), FAULTS,
                         ids=[fault[0] for fault in FAULTS])
def test_planted_fault(name: str, old: str, new: str, expected: str) -> None:
    unit = mutated(bounds, old, new).BoundsChecker(CONFIG)
    result = prove(Job(name=f"bounds-fault-{name}", spec=BoundsSpec(CONFIG, unit), mode="bmc",
                       depth=4, min_asserts=6, engine=EVERY_FAILURE))
    assert result.status == "FAIL", result.explain()
    assert expected in broken(result), result.explain()


RING_FAULTS = [
    ("goes-round-at-the-end", "send", "goes_round.eq(beyond[-1]", "goes_round.eq(over[-1]",
     "it goes on if it goes round"),
    ("end-is-not-the-start", "send", "entry.ring & over[-1], over", "entry.ring & beyond[-1], over",
     "the next position is behind the range, round the ring"),
    ("all-are-rings", "send", "Mux(entry.ring & over[-1], over", "Mux(over[-1], over",
     "the next position is behind the range, round the ring"),
    ("carry-lost", "send", "beyond = Signal(OFFSET_BITS + 1)",
     "beyond = Signal(OFFSET_BITS)", "it goes on if it goes round"),
    ("first-piece-is-all", "send", "goes_round, bounds.to_last, count_less_1",
     "0, bounds.to_last, count_less_1", "it ends at its end, or the entry's"),
    ("one-byte-more", "send", "piece_less_1.eq(beyond)", "piece_less_1.eq(over)",
     "the pieces are count bytes together"),
    ("second-goes-on", "send", "span.address.eq(Cat(in_bytes, start))",
     "span.address.eq(bounds.address)", "it goes on at the entry's start"),
    ("second-at-the-next-row", "send", "span.address.eq(Cat(in_bytes, start))",
     "span.address.eq(Cat(in_bytes, entry.base))", "it goes on at the entry's start"),
    ("second-rotated", "send", "span.other_lane.eq(source_lane - destination_lane)",
     "span.other_lane.eq(source_lane)", "lanes of the second piece"),
    ("single-of-the-source", "send", "in_block.eq(start_byte + piece_less_1[:config.block_log2])",
     "in_block.eq(src_address[:config.block_log2] + piece_less_1[:config.block_log2])",
     "single: in one block"),
    ("checked-again-in-the-decision", "mvcl", "bounds.en.eq(~at_decision)",
     "bounds.en.eq(at_decision)", "it fits if there is room"),
    ("grant-from-its-start", "mvxl", "moved_position.eq(next_position)",
     "moved_position.eq(grant.position)", "it is placed at its position"),
    ("moved-a-cycle-early", "mvxl", "step == _MVXL_STEP - 4", "step == _MVXL_STEP - 5",
     "it is placed at its position"),
    ("moved-by-the-count", "mvxl", "is_mvxl & (step < _MVXL_STEP - 3)",
     "is_mvxl & (step < _MVXL_STEP - 4)", "it is placed at its position"),
    ("grant-has-no-limit", "mvxl", "bounds.limit.eq(Mux(limited, self.grant_limit,",
     "bounds.limit.eq(Mux(0, self.grant_limit,", "it fits if there is room"),
    ("room-behind-the-position", "send", "used.eq(lock.filled)",
     "used.eq(lock.position)", "it fits if there is room"),
    ("told-the-whole", "grant", "self.target.next.eq(Mux(went_round,",
     "self.target.next.eq(Mux(1,", "a processor is told where it goes on"),
    ("told-one-less", "grant", "self.target.first.eq(piece_less_1 + 1)",
     "self.target.first.eq(piece_less_1)", "a processor is told where it ends"),
    ("released-in-place", "release", "entry.ring & over[-1], over", "entry.ring & beyond[-1], over",
     "the next position is behind the range, round the ring"),
]


@pytest.mark.parametrize(("name", "kind", "old", "new", "expected"), RING_FAULTS,
                         ids=[fault[0] for fault in RING_FAULTS])
def test_planted_fault_in_a_ring(name: str, kind: str, old: str, new: str,
                                 expected: str) -> None:
    spec = RingSpec(AdapterConfig.named("tiny"), kind, mutated(front, old, new))
    result = prove(Job(name=f"ring-fault-{name}", spec=spec, mode="bmc", depth=12, min_asserts=10,
                       engine=EVERY_FAILURE))
    assert result.status == "FAIL", result.explain()
    assert expected in broken(result), result.explain()


def test_fault_must_have_one_place() -> None:
    with pytest.raises(ValueError) as told:
        mutated(bounds, "room", "free")
    assert str(told.value).startswith("the text to change must occur once in mvxl.bounds, not ")


def test_too_few_assertions_are_no_pass() -> None:
    """The gate against empty proofs."""
    result = prove(Job(name="bounds-gate", spec=BoundsSpec(CONFIG), mode="prove", depth=2,
                       min_asserts=7))
    assert not result.passed
    assert result.status == "ERROR", result.explain()


@pytest.mark.parametrize(("used", "count", "fits"), [
    (0, 0, True), (0, 1, True), (0, 128, True), (0, 129, False),
    (127, 1, True), (128, 0, True), (128, 1, False), (129, 0, False),
    (64, 64, True), (64, 65, False),
    (2**32 - 1, 1, False), (2**32 - 1, 2**32 - 1, False), (1, 2**32 - 1, False),
])
@pytest.mark.parametrize("offset", [0, 1, 127, 128])
def test_edges(used: int, count: int, fits: bool, offset: int) -> None:
    """An entry of 128 bytes, computed by hand; the answer comes one cycle later."""
    unit = BoundsChecker(CONFIG)

    async def bench(ctx) -> None:
        ctx.set(unit.en, 1)
        ctx.set(unit.limit, 128)
        ctx.set(unit.used, used)
        ctx.set(unit.count, count)
        ctx.set(unit.base, 0x1000)
        ctx.set(unit.offset, offset)
        ctx.set(unit.length, 128 // 64)
        for _ in range(2):      # and they stay
            await ctx.tick()
            assert ctx.get(unit.fits) == fits
            assert ctx.get(unit.address) == 0x1000 + offset
            if offset < 128:
                assert ctx.get(unit.to_last) == 127 - offset
            ctx.set(unit.en, 0)
            ctx.set(unit.limit, 127 if fits else 1 << 31)
            ctx.set(unit.used, 127 if fits else 0)
            ctx.set(unit.count, 127 if fits else 0)
            ctx.set(unit.offset, 5)

    sim = Simulator(unit)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
