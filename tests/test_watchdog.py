# SPDX-License-Identifier: Apache-2.0
"""The watchdog: when it bites, from both sides, and that it never does while things move."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import pytest
from amaranth.sim import Simulator

from formal.mutants import EVERY_FAILURE, broken, mutated
from formal.run import Job, prove
from formal.spec_watchdog import WatchdogSpec, jobs, narrow
from mvxl import watchdog
from mvxl.config import AdapterConfig
from mvxl.watchdog import CHANNELS

CONFIG = AdapterConfig()
NUMBERS = range(len(CHANNELS))


class Port:
    """A watchdog, and what is set and seen in each cycle."""

    def __init__(self, module: Any) -> None:
        self.unit = module.Watchdog(CONFIG)

    def run(self, bench: Callable[[Any], Any]) -> None:
        sim = Simulator(self.unit)
        sim.add_clock(1e-6)
        sim.add_testbench(bench)
        sim.run()

    async def tick(self, ctx: Any, *, due: int = 0, moved: int = 0, up: int = 0,
                   timeout: int | None = None) -> tuple[int, int]:
        """One cycle; returns `down` and `channel` in it."""
        unit = self.unit
        ctx.set(unit.due, due)
        ctx.set(unit.moved, moved)
        ctx.set(unit.up, up)
        ctx.set(unit.timeout, {"en": timeout is not None, "cycles": timeout or 0})
        _, _, down, channel = await ctx.tick().sample(unit.down, unit.channel)
        assert down or channel == 0, "a channel although it is not down"
        return down, channel

    async def rest(self, ctx: Any, cycles: int, **inputs: int) -> None:
        for _ in range(cycles):
            down, _ = await self.tick(ctx, **inputs)
            assert not down, "down for nothing"

    async def delay(self, ctx: Any, limit: int, due: int) -> tuple[int, int]:
        """Cycles from the first in which `due` stands still to `down`, and the channel."""
        for cycles in range(limit + 1):
            down, channel = await self.tick(ctx, due=due)
            if down:
                return cycles, channel
        raise AssertionError(f"not down within {limit} cycles")


def check_bounds(module: Any, timeout: int, number: int) -> None:
    """A channel stands still from every cycle of an epoch on; others move, or have nothing due.

    Together the delays are all from T to 2 T - 1, each once.
    """
    port = Port(module)
    delays = []

    async def bench(ctx: Any) -> None:
        others = ~(1 << number) & 0b11111
        for phase in range(timeout):
            await port.tick(ctx, timeout=timeout)
            await port.rest(ctx, phase, due=0b11111, moved=0b11111)
            cycles, channel = await port.delay(ctx, 2 * timeout + 2, due=1 << number)
            assert channel == number, "another channel"
            delays.append(cycles)
            # It stays down, whatever moves and whatever T is, until it is told to go up.
            for _ in range(3 * timeout):
                assert await port.tick(ctx, due=others, moved=others) == (1, number), "not sticky"
            await port.tick(ctx, up=1)
            await port.rest(ctx, 1)

    port.run(bench)
    assert min(delays) >= timeout, "down before T"
    assert sorted(delays) == list(range(timeout, 2 * timeout)), "not in time"


@pytest.mark.parametrize("timeout", [1, 2, 3, 8])
@pytest.mark.parametrize("number", NUMBERS, ids=CHANNELS)
def test_bounds(timeout: int, number: int) -> None:
    check_bounds(watchdog, timeout, number)


def check_random(module: Any, timeout: int, seed: int) -> None:
    """Channels stand still for at most T - 1 cycles; at times one stops for good.

    `still[c]` is how long channel c has stood still: it is never down while all are below T, and
    always when one is at 2 T - 1.
    """
    port = Port(module)
    dice = random.Random(seed)

    async def bench(ctx: Any) -> None:
        still = [0] * len(CHANNELS)
        was_down = 0
        await port.tick(ctx, timeout=timeout)
        for number in range(4000):
            dead = number // 200 % 10       # a channel that stops in the second half, or none
            due = moved = 0
            for c in NUMBERS:
                stops = c == dead and number % 200 > 100
                late = still[c] >= timeout - 1 and not stops
                if stops or still[c] and not late or dice.random() < 0.8:
                    due |= 1 << c
                if not stops and (late or dice.random() < 0.3):
                    moved |= 1 << c     # sometimes although nothing was known to be due
                if late and dice.random() < 0.5:
                    due, moved = due & ~(1 << c), moved & ~(1 << c)
            up = dice.random() < 0.05
            down, channel = await port.tick(ctx, due=due, moved=moved, up=up)
            if down and not was_down:
                assert still[channel] >= timeout, "down although all moved in time"
            if not down:
                assert max(still) < 2 * timeout, "not down in time"
            was_down = down
            for c in NUMBERS:
                stands = due >> c & 1 and not moved >> c & 1
                still[c] = still[c] + 1 if stands and not down else 0
            seen.add((down, channel))

    seen: set[tuple[int, int]] = set()
    port.run(bench)
    assert seen >= {(0, 0), *((1, c) for c in NUMBERS)}, "too tame"


@pytest.mark.parametrize("timeout", [2, 5, 30])
def test_random(timeout: int) -> None:
    check_random(watchdog, timeout, seed=timeout)


def check_off(module: Any) -> None:
    """After reset, and with T = 0, it is never down; a T that is written starts anew."""
    port = Port(module)

    async def bench(ctx: Any) -> None:
        await port.rest(ctx, 20, due=0b11111)
        for timeout in (6, 4):
            assert not (await port.tick(ctx, due=0b11111, timeout=timeout))[0]
            cycles, _ = await port.delay(ctx, 10, due=0b11111)
            assert cycles == timeout, "the old epoch goes on"
            await port.tick(ctx, due=0b11111, timeout=0)
            assert await port.tick(ctx, due=0b11111) == (1, 0), "cleared by T"
            await port.tick(ctx, due=0b11111, up=1)
            await port.rest(ctx, 20, due=0b11111)
        for age in range(1, 12):
            # A long T is shortened, and a short one lengthened, in the middle of an epoch.
            for before, after in ((12, 3), (6, 9)):
                await port.tick(ctx, timeout=before)
                await port.rest(ctx, min(age, before - 1), due=2)
                assert not (await port.tick(ctx, timeout=after, due=2))[0]
                cycles, channel = await port.delay(ctx, 20, due=2)
                assert (cycles, channel) == (after, 1), "the old epoch goes on"
                await port.tick(ctx, up=1)
        # Written in the cycle in which the old epoch ends: the new one counts.
        await port.tick(ctx, timeout=5)
        await port.rest(ctx, 4, due=1)
        assert not (await port.tick(ctx, due=1, timeout=7))[0]
        assert (await port.delay(ctx, 20, due=1))[0] == 7, "the old epoch goes on"

    port.run(bench)


def test_off_and_restart() -> None:
    check_off(watchdog)


def check_long_off(module: Any) -> None:
    """Off is off for longer than the clock goes, which has 4 bits here."""
    module.TIMEOUT_BITS = 4
    port = Port(module)

    async def bench(ctx: Any) -> None:
        await port.rest(ctx, 40, due=0b11111)
        await port.tick(ctx, timeout=15)
        assert (await port.delay(ctx, 20, due=0b11111))[0] == 15
        await port.tick(ctx, timeout=0, up=1)
        await port.rest(ctx, 40, due=0b11111)

    port.run(bench)


def test_off_for_long() -> None:
    check_long_off(mutated(watchdog, "class Watchdog(", "class Watchdog("))


def check_up(module: Any) -> None:
    """It goes up in one cycle; an epoch starts then, and an `up` before it has no effect."""
    port = Port(module)

    async def bench(ctx: Any) -> None:
        await port.tick(ctx, timeout=6)
        for _ in range(3):
            await port.rest(ctx, 5, due=0b01010, up=1)
            cycles, channel = await port.delay(ctx, 3, due=0b01010)
            assert (cycles, channel) == (1, 1), "up although it was not down"
            assert await port.tick(ctx, due=0b01000) == (1, 1)
            assert await port.tick(ctx, due=0b01000, up=1) == (1, 1)
            await port.rest(ctx, 6, due=0b00001)
            assert await port.tick(ctx, up=1) == (1, 0), "not down again T cycles after up"

    port.run(bench)


def test_up() -> None:
    check_up(watchdog)


def check_lowest(module: Any) -> None:
    """Of several that are found at once, the lowest is told."""
    port = Port(module)

    async def bench(ctx: Any) -> None:
        await port.tick(ctx, timeout=2)
        for due in range(1, 32):
            _, channel = await port.delay(ctx, 4, due=due)
            assert channel == next(c for c in NUMBERS if due >> c & 1), "not the lowest"
            await port.tick(ctx, up=1)

    port.run(bench)


def test_lowest_channel() -> None:
    check_lowest(watchdog)


def check_moving(module: Any, interrupted: Sequence[int]) -> None:
    """What moves once in T cycles, or is not due once, is not stuck, whatever the phase."""
    port = Port(module)

    async def bench(ctx: Any) -> None:
        await port.tick(ctx, timeout=5)
        for phase, idle in product(range(5), (False, True)):
            await port.rest(ctx, phase)
            for number in range(40):
                now = number % 5 in interrupted
                await port.rest(ctx, 1, due=0 if now and idle else 0b11111,
                                moved=0b11111 if now and not idle else 0)

    port.run(bench)


@pytest.mark.parametrize("interrupted", [(0,), (4,), (1, 3)])
def test_moving(interrupted: Sequence[int]) -> None:
    check_moving(watchdog, interrupted)


def bounds(module: Any) -> None:
    check_bounds(module, 3, 4)


def bounds_of_one(module: Any) -> None:
    check_bounds(module, 1, 4)


def moving(module: Any) -> None:
    check_moving(module, (4,))


def randomly(module: Any) -> None:
    check_random(module, 5, seed=1)


FAULTS: list[tuple[str, str, str, Callable[[Any], None], str]] = [
    ("epoch-one-short", "cycle == epoch_cycles", "cycle + 1 == epoch_cycles", bounds,
     "down before T"),
    ("epoch-one-long", "cycle == epoch_cycles", "cycle == epoch_cycles + 1", bounds,
     "not in time"),
    ("epoch-of-one-overlooked", "epoch_cycles) == 1", "epoch_cycles) == 0", bounds_of_one,
     "not down within"),
    ("first-epoch-is-as-before", "Mux(self.timeout.en, self.timeout.cycles, epoch_cycles)",
     "epoch_cycles", bounds_of_one, "not down within"),
    ("later-epochs-are-of-one", "Mux(self.timeout.en, self.timeout.cycles, epoch_cycles)",
     "Mux(self.timeout.en, self.timeout.cycles, 1)", bounds, "down before T"),
    ("epoch-in-low-bits", "cycle == epoch_cycles", "cycle[:3] == epoch_cycles[:3]",
     lambda module: check_random(module, 10, seed=1), "down although"),
    ("stands-at-the-end-only", "& ~self.moved & still_before", "& ~self.moved", bounds,
     "down before T"),
    ("end-overlooked", "self.due & ~self.moved & still_before", "still_before", moving,
     "down for nothing"),
    ("moves-overlooked", "self.due & ~self.moved &", "self.due &", moving, "down for nothing"),
    ("due-overlooked", "self.due & ~self.moved &", "~self.moved &", moving, "down for nothing"),
    ("any-move-helps-all", "~self.moved &", "~self.moved.any().replicate(5) &", randomly,
     "not down in time"),
    ("one-channel-unwatched", "still.any()", "still[:4].any()", bounds, "not down within"),
    ("highest-channel", "reversed(range(len(CHANNELS)))", "range(len(CHANNELS))", check_lowest,
     "not the lowest"),
    ("channel-kept", "[self.down.eq(0), self.channel.eq(0)]", "self.down.eq(0)", check_up,
     "although it is not down"),
    ("not-sticky", "with m.If(self.up):", "with m.If(self.up | ends):",
     lambda module: check_bounds(module, 1, 0), "not sticky"),
    ("never-up", "with m.If(self.up):", "with m.If(0):", check_up, "down for nothing"),
    ("epoch-goes-on-while-down", "~watching | self.down | ends", "~watching | ends", check_up,
     "after up|up although"),
    ("up-restarts", "~watching | self.down | ends", "~watching | self.down | self.up | ends",
     check_up, "not down within"),
    ("never-off", "watching.eq(self.timeout.cycles != 0)", "watching.eq(1)", check_long_off,
     "down for nothing"),
    ("watches-after-reset", "watching = Signal()", "watching = Signal(init=1)", check_long_off,
     "down for nothing"),
    ("write-does-not-restart", "m.If(self.timeout.en | ~watching", "m.If(~watching", check_off,
     "old epoch|down"),
    ("old-epoch-bites", "ends & ~self.timeout.en & still", "ends & still", check_off,
     "old epoch"),
]


@pytest.mark.parametrize(("old", "new", "check", "expected"), [fault[1:] for fault in FAULTS],
                         ids=[fault[0] for fault in FAULTS])
def test_planted_fault(old: str, new: str, check: Callable[[Any], None], expected: str) -> None:
    with pytest.raises(AssertionError, match=expected):
        check(mutated(watchdog, old, new))


JOBS = {job.name: job for job in jobs()}


@pytest.mark.parametrize("name", JOBS)
def test_proof(name: str) -> None:
    result = prove(JOBS[name])
    assert result.passed, result.explain()


PROOF_FAULTS = [
    ("epoch-one-short", "cycle == epoch_cycles", "cycle + 1 == epoch_cycles", "not before T"),
    ("epoch-one-long", "cycle == epoch_cycles", "cycle == epoch_cycles + 1", "in time"),
    ("epoch-of-one-overlooked", "epoch_cycles) == 1", "epoch_cycles) == 0", "in time"),
    ("first-epoch-is-as-before", "Mux(self.timeout.en, self.timeout.cycles, epoch_cycles)",
     "epoch_cycles", "not before T"),
    ("later-epochs-are-of-one", "Mux(self.timeout.en, self.timeout.cycles, epoch_cycles)",
     "Mux(self.timeout.en, self.timeout.cycles, 1)", "not before T"),
    ("end-overlooked", "self.due & ~self.moved & still_before", "still_before", "not before T"),
    ("old-epoch-bites", "ends & ~self.timeout.en & still", "ends & still", "not before T"),
    ("not-sticky", "with m.If(self.up):", "with m.If(self.up | ends):", "sticky"),
    ("never-up", "with m.If(self.up):", "with m.If(0):", "goes up"),
    ("channel-kept", "[self.down.eq(0), self.channel.eq(0)]", "self.down.eq(0)",
     "no channel unless down"),
    ("wrong-channel", "self.channel.eq(number)", "self.channel.eq(number + 1)", "a channel"),
    ("bites-without-an-epoch", "ends & ~self.timeout.en & still", "still", "off is off"),
]


@pytest.mark.parametrize(("name", "old", "new", "expected"), PROOF_FAULTS,
                         ids=[fault[0] for fault in PROOF_FAULTS])
def test_proof_finds_planted_fault(name: str, old: str, new: str, expected: str) -> None:
    result = prove(Job(name=f"watchdog-fault-{name}", mode="bmc", depth=8, engine=EVERY_FAILURE,
                       spec=lambda: WatchdogSpec(narrow(old, new))))
    assert expected in broken(result), result.explain()
