# SPDX-License-Identifier: Apache-2.0
"""The bounds checker: proved against integers, and the proofs seen to fail."""

from __future__ import annotations

import pytest
from amaranth.sim import Simulator

from formal.mutants import EVERY_FAILURE, broken, mutated
from formal.run import Job, prove
from formal.spec_bounds import BoundsSpec, jobs
from mvxl import bounds
from mvxl.bounds import BoundsChecker
from mvxl.config import AdapterConfig

CONFIG = AdapterConfig.named("default")
JOBS = {job.name: job for job in jobs()}


@pytest.mark.parametrize("name", JOBS)
def test_proof(name: str) -> None:
    result = prove(JOBS[name])
    assert result.passed, result.explain()


GRANTED = "nothing is wrongly granted"
REFUSED = "nothing is wrongly refused"
ADDRESS = "address is base + offset"


FAULTS = [
    ("one-byte-less", "room >= 0", "room > 0", REFUSED),
    ("one-byte-more", "room >= 0", "room >= -1", GRANTED),
    ("sum-of-32-bits", "- self.offset - self.count",
     "- (self.offset + self.count)[:OFFSET_BITS]", GRANTED),
    ("room-without-carry", "signed(OFFSET_BITS + 2)", "signed(OFFSET_BITS + 1)", GRANTED),
    ("count-not-looked-at", "- self.offset - self.count", "- self.offset", GRANTED),
    ("offset-not-looked-at", "- self.offset - self.count", "- self.count", GRANTED),
    ("address-without-carry", "self.base) + self.offset", "self.base) | self.offset", ADDRESS),
    ("offset-of-31-bits", "self.base) + self.offset", "self.base) + self.offset[:31]", ADDRESS),
]


@pytest.mark.parametrize(("name", "old", "new", "expected"), FAULTS,
                         ids=[fault[0] for fault in FAULTS])
def test_planted_fault(name: str, old: str, new: str, expected: str) -> None:
    unit = mutated(bounds, old, new).BoundsChecker(CONFIG)
    result = prove(Job(name=f"bounds-fault-{name}", spec=BoundsSpec(CONFIG, unit), mode="bmc",
                       depth=4, min_asserts=5, engine=EVERY_FAILURE))
    assert result.status == "FAIL", result.explain()
    assert expected in broken(result), result.explain()


def test_fault_must_have_one_place() -> None:
    with pytest.raises(ValueError) as told:
        mutated(bounds, "room", "free")
    assert str(told.value).startswith("the text to change must occur once in mvxl.bounds, not ")


def test_too_few_assertions_are_no_pass() -> None:
    """The gate against empty proofs."""
    result = prove(Job(name="bounds-gate", spec=BoundsSpec(CONFIG), mode="prove", depth=2,
                       min_asserts=6))
    assert not result.passed
    assert result.status == "ERROR", result.explain()


@pytest.mark.parametrize(("offset", "count", "fits"), [
    (0, 0, True), (0, 1, True), (0, 128, True), (0, 129, False),
    (127, 1, True), (128, 0, True), (128, 1, False), (129, 0, False),
    (64, 64, True), (64, 65, False),
    (2**32 - 1, 1, False), (2**32 - 1, 2**32 - 1, False), (1, 2**32 - 1, False),
])
def test_edges(offset: int, count: int, fits: bool) -> None:
    """An entry of 128 bytes, computed by hand; the answer comes one cycle later."""
    unit = BoundsChecker(CONFIG)

    async def bench(ctx) -> None:
        ctx.set(unit.base, 0x1000 // 64)
        ctx.set(unit.length, 128 // 64)
        ctx.set(unit.offset, offset)
        ctx.set(unit.count, count)
        await ctx.tick()
        assert ctx.get(unit.fits) == fits
        assert ctx.get(unit.address) == (0x1000 + offset) % 2**32

    sim = Simulator(unit)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
