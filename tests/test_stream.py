# SPDX-License-Identifier: Apache-2.0
"""The stream parts: proved to lose and reorder nothing; their latency and pace simulated."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from amaranth.sim import Simulator

from formal.mutants import EVERY_FAILURE, broken, mutated
from formal.run import Job, prove
from formal.spec_stream import PAYLOAD_BITS, BufferSpec, jobs, queue_spec, skid_spec
from mvxl import stream
from mvxl.stream import Queue, SkidBuffer

JOBS = {job.name: job for job in jobs()}


@pytest.mark.parametrize("name", JOBS)
def test_proof(name: str) -> None:
    result = prove(JOBS[name])
    assert result.passed, result.explain()


def queue_of(module: Any, **options: Any) -> BufferSpec:
    return queue_spec(module.Queue(PAYLOAD_BITS, depth=4, **options), depth=4, **options)


def lut_queue(module: Any) -> BufferSpec:
    return queue_of(module, margin=2)


def block_queue(module: Any) -> BufferSpec:
    return queue_of(module, block=True)


def bypass_queue(module: Any) -> BufferSpec:
    return queue_of(module, bypass=True)


def leisurely_queue(module: Any) -> BufferSpec:
    return queue_of(module, leisurely=True)


def leisurely_block_queue(module: Any) -> BufferSpec:
    return queue_of(module, leisurely=True, block=True)


def skid_buffer(module: Any) -> BufferSpec:
    return skid_spec(module.SkidBuffer(PAYLOAD_BITS))


NOTHING_NEW = "nothing comes out that did not go in"
ROOM = "holds no more than it has room for"
ORDER = "comes out unchanged, in order"
SOON = "shows up in time"
PROMISE = "roomy holds what it promises"


FAULTS = [
    ("full-late", lut_queue, "full.eq((written ^ taken) == self._depth)",
     "full.eq(level == self._depth + 1)", ROOM),
    ("full-early", lut_queue, "full.eq((written ^ taken) == self._depth)",
     "full.eq(level >= self._depth - 3)", "takes what it has room for"),
    ("nonempty-late", lut_queue, "nonempty.eq(written != taken),",
     "]\n        m.d.sync += nonempty.eq(written != taken)\n        m.d.comb += [", NOTHING_NEW),
    ("pointers-without-wrap", lut_queue, "nonempty.eq(written != taken)",
     "nonempty.eq((written ^ taken)[:index_bits].any())", SOON),
    ("roomy-without-the-last", lut_queue, "level <= self._depth - self._margin - 1)",
     "level <= self._depth - self._margin)", PROMISE),
    ("roomy-of-one-less", lut_queue, "level <= self._depth - self._margin - 1)",
     "level <= self._depth - self._margin + 1)", PROMISE),
    ("roomy-too-late", lut_queue, "level <= self._depth - self._margin - 1)",
     "level <= self._depth - self._margin - 2)", "roomy if there is room"),
    ("never-roomy-again", lut_queue, "level <= self._depth - self._margin - 1)",
     "self.roomy & (level == 0))", "roomy if there is room"),
    ("output-overrun", lut_queue, "(0 if waits else self.o.ready)", "1",
     ORDER),
    ("valid-waits-for-ready", lut_queue,
     "drained.eq(~self.o.valid | (0 if waits else self.o.ready))",
     "drained.eq(self.o.ready)", SOON),
    ("bypass-overtakes", bypass_queue, "Mux(available, ", "Mux(~self.i.valid, ",
     ORDER),
    ("bypass-twice", bypass_queue, "with m.If(pop | passing):", "with m.If(pop):", NOTHING_NEW),
    ("bypass-counted-once", bypass_queue, "push.eq(self.i.valid & ~full)",
     "push.eq(self.i.valid & ~full & ~passing)", NOTHING_NEW),
    ("fetched-twice", block_queue, "fetched.eq(pop | (fetched & ~drained))",
     "fetched.eq(pop | fetched)", NOTHING_NEW),
    ("fetched-forgotten", block_queue, "fetched.eq(pop | (fetched & ~drained))",
     "fetched.eq(pop)", SOON),
    ("fetched-overrun", block_queue,
     "pop.eq(nonempty & (~fetched | (0 if self._leisurely else drained)))",
     "pop.eq(nonempty)", ORDER),
    ("leisurely-twice", leisurely_queue, "with m.If(self.o.ready):\n                m.d.sync += "
     "self.o.valid.eq(0)", "pass", NOTHING_NEW),
    ("leisurely-in-haste", leisurely_queue, "(0 if waits else self.o.ready)",
     "self.o.ready", "rests behind each"),
    ("leisurely-overrun", leisurely_block_queue, "(0 if self._leisurely else drained)", "1",
     ORDER),
    ("leisurely-too-slow", leisurely_block_queue,
     "pop.eq(nonempty & (~fetched | (0 if self._leisurely else drained)))",
     "pop.eq(nonempty & ~fetched & self.o.ready)", SOON),
    ("fetched-lost", block_queue, "row = Signal(self._shape)",
     "row = Signal(self._shape)\n            m.d.sync += row.eq(read.data)", ORDER),
    ("skid-always-ready", skid_buffer, "self.i.ready.eq(free)", "self.i.ready.eq(1)",
     ROOM),
    ("skid-spare-lost", skid_buffer, "spare_valid.eq(1)", "spare_valid.eq(0)", ROOM),
    ("skid-spare-overtaken", skid_buffer, "            with m.If(spare_valid):\n",
     "            with m.If(0):\n", ORDER),
]


@pytest.mark.parametrize(("name", "make", "old", "new", "expected"), FAULTS,
                         ids=[fault[0] for fault in FAULTS])
def test_planted_fault(name: str, make: Callable[[Any], BufferSpec], old: str, new: str,
                       expected: str) -> None:
    result = prove(Job(name=f"stream-fault-{name}", spec=make(mutated(stream, old, new)),
                       mode="bmc", depth=12, min_asserts=7,
                       engine=EVERY_FAILURE))
    assert result.status == "FAIL", result.explain()
    assert expected in broken(result), result.explain()


def refused(make: Callable[[], object]) -> str:
    """The message with which a unit is refused."""
    with pytest.raises(ValueError) as told:
        make()
    return str(told.value)


@pytest.mark.parametrize("value", [0, 1, 3, 12])
def test_wrong_depth(value: int) -> None:
    assert refused(lambda: Queue(8, depth=value)) == (
        f"depth must be a power of two from 2, not {value}")


@pytest.mark.parametrize("value", [0, 4, 5])
def test_wrong_margin(value: int) -> None:
    assert refused(lambda: Queue(8, depth=4, margin=value)) == (
        f"margin must be between 1 and 3, not {value}")


UNITS: dict[str, tuple[Callable[[], Any], int]] = {
    "skid": (lambda: SkidBuffer(16), 1),
    "queue": (lambda: Queue(16, depth=4), 2),
    "block": (lambda: Queue(16, depth=4, block=True), 3),
    "bypass": (lambda: Queue(16, depth=4, bypass=True), 1),
    "block-bypass": (lambda: Queue(16, depth=4, block=True, bypass=True), 1),
}
LEISURELY: dict[str, tuple[Callable[[], Any], int]] = {
    "leisurely": (lambda: Queue(16, depth=4, leisurely=True), 2),
    "leisurely-block": (lambda: Queue(16, depth=4, block=True, leisurely=True), 3),
    "leisurely-bypass": (lambda: Queue(16, depth=4, bypass=True, leisurely=True), 1),
}


def run(unit: Any, number: int, *, push: float, pull: float, seed: int = 0) -> list[int]:
    """Send 0, 1, … `number` − 1; the cycle in which each came out, counted from the first push.

    `push`, `pull`: chance of valid at the input and of ready at the output, in every cycle.
    """
    dice = random.Random(seed)
    arrivals: list[int] = []

    async def bench(ctx: Any) -> None:
        sent = cycle = 0
        offering = False
        while len(arrivals) < number:
            offering = sent < number and (offering or dice.random() < push)
            ready = dice.random() < pull
            ctx.set(unit.i.valid, offering)
            ctx.set(unit.i.payload, sent)
            ctx.set(unit.o.ready, ready)
            _, _, taken, valid, payload = await ctx.tick().sample(
                unit.i.ready, unit.o.valid, unit.o.payload)
            if ready and valid:
                assert payload == len(arrivals), "out of order"
                arrivals.append(cycle)
            if offering and taken:
                sent += 1
                offering = False
            cycle += 1
            assert cycle < 100 + 20 * number, "payloads are lost"

    sim = Simulator(unit)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    return arrivals


@pytest.mark.parametrize("name", UNITS)
def test_latency_and_one_payload_a_cycle(name: str) -> None:
    make, latency = UNITS[name]
    assert run(make(), 100, push=1.0, pull=1.0) == list(range(latency, latency + 100))


@pytest.mark.parametrize("name", LEISURELY)
def test_latency_and_one_payload_in_two_cycles(name: str) -> None:
    make, latency = LEISURELY[name]
    assert run(make(), 100, push=1.0, pull=1.0) == list(range(latency, latency + 200, 2))


@pytest.mark.parametrize("name", UNITS | LEISURELY)
@pytest.mark.parametrize(("push", "pull"), [(0.5, 0.5), (0.9, 0.3), (0.3, 0.9)])
def test_random_backpressure(name: str, push: float, pull: float) -> None:
    make, _ = (UNITS | LEISURELY)[name]
    assert len(run(make(), 300, push=push, pull=pull, seed=7)) == 300
