# SPDX-License-Identifier: Apache-2.0
"""The command queues against a front end in plain Python: order, turns, waking, limits, resets."""

from __future__ import annotations

import inspect
import itertools
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from amaranth.sim import Simulator

from formal.mutants import mutated
from mvxl import queues, turns
from mvxl.config import AdapterConfig
from mvxl.messages import Command, GrantKind, Op, Status, Verdict

SMALL = AdapterConfig(
    partitions=2, entries=4, data_bits=32, burst_beats=4, reads_in_flight=2, writes_in_flight=2,
    messages_in_flight=4, command_queue_depth=4, data_queue_beats=16)
THREE = AdapterConfig(
    partitions=3, entries=128, messages_in_flight=16, command_queue_depth=8)
CONFIGS = {"small": SMALL, "three": THREE}

#: Cycles of the longest slot: a LUT-RAM table decides in 4 cycles, one in block RAM in 5.
SLOTS = {"small": 4, "three": 5}

ACCEPT: dict[str, Any] = {"accepted": 1, "status": Status.OK}
DROP: dict[str, Any] = {"accepted": 1, "dropped": 1}
WAIT: dict[str, Any] = {"waits": 1, "status": Status.DST_FULL}
LOCKED: dict[str, Any] = {"waits": 1, "blocked": 1, "status": Status.LOCKED}
BLOCKED: dict[str, Any] = {"blocked": 1}
FENCED: dict[str, Any] = {}


@dataclass
class Look:
    """A request, and what was known of its partition in the cycle before the decision."""

    looked: int         # cycle
    decided: int
    partition: int
    tag: int
    dst_id: int
    known: Any
    verdict: dict[str, Any]


class Desk:
    """Takes the unit's requests, decides by `policy`, and completes what was accepted.

    Decisions take `slot` cycles. Commands complete in order, `delay` cycles after their
    acceptance at the earliest, or when `release` > 0 lets one through if `delay` is None;
    those with a tag in `failing` fail. Of a partition in reset everything is dropped, whatever
    `policy` says. What is told of the time that a head has waited is compared at every look.
    """

    def __init__(self, config: AdapterConfig, *, module: Any = queues, slot: int = 4,
                 delay: int | None = 3) -> None:
        self.config = config
        self.unit = module.CommandQueues(config)
        self.slot = slot
        self.delay = delay
        self.release = 0
        self.failing: set[int] = set()
        self.hold = False               # no slot begins
        self.policy: Callable[[Look], dict[str, Any]] = lambda look: ACCEPT
        self.on_completion: Callable[[Any, int, int], None] | None = None
        self.looks: list[Look] = []
        self.in_flight: deque[tuple[int, int, int, int]] = deque()  # due, partition, tag, ID
        self.completed: list[int] = []
        self.waits_since: dict[int, int] = {}       # partition: its first look at which it waited
        self.waited: list[tuple[int, int]] = []     # told, and right
        self.cycle = 0

    @property
    def accepted(self) -> list[Look]:
        return [look for look in self.looks if look.verdict.get("accepted")]

    async def _decide(self, ctx: Any) -> None:
        unit = self.unit
        step = 0
        looked = 0
        known: Any = None
        verdict: tuple[int, dict[str, Any]] | None = None
        last_completion = ending = False
        last_freed = False
        while True:
            ctx.set(unit.verdicts.valid, verdict is not None)
            if verdict is not None:
                ctx.set(unit.verdicts.payload, Verdict(self.config).const(
                    {"partition": verdict[0], **verdict[1]}))
                verdict = None
            ended = None
            if self.in_flight and not last_completion and (
                    self.release > 0 if self.delay is None
                    else self.in_flight[0][0] <= self.cycle):
                ended = self.in_flight.popleft()
                self.release -= self.delay is None
                self.completed.append(ended[2])
            last_completion = ended is not None
            if ending or last_completion:
                ctx.set(unit.completed.en, last_completion)
                ctx.set(unit.retired.en, last_completion)
            ending = last_completion
            if ended is not None:
                ctx.set(unit.completed.partition, ended[1])
                ctx.set(unit.completed.failed, ended[2] in self.failing)
                ctx.set(unit.retired.partition, ended[1])
            freed = ended is not None and ended[3] not in [one[3] for one in self.in_flight]
            if freed or last_freed:
                ctx.set(unit.wake_freed.en, freed)
            last_freed = freed
            if ended is not None and freed:
                ctx.set(unit.wake_freed.id, ended[3])
            valid = ctx.get(unit.requests.valid)
            starting = step == 0 and valid and not self.hold
            ctx.set(unit.looking, starting and self.slot == 4 or self.slot == 5 and step == 1)
            ctx.set(unit.requests.ready, step == self.slot - 1)
            _, _, request, at = await ctx.tick().sample(
                unit.requests.payload, unit.circumstances)
            if starting:
                step = 1
                looked = self.cycle + self.slot - 4
            elif step == self.slot - 2:
                known = at
                step += 1
            elif step == self.slot - 1:
                assert valid, "a request is withdrawn while it is decided"
                command = request.command
                look = Look(looked, self.cycle, request.partition, command.tag, command.dst_id,
                            known, {})
                since = self.waits_since.get(look.partition)
                self.waited.append((known.waited, 0 if since is None else looked - since))
                look.verdict = DROP if known.resetting else self.policy(look)
                self.looks.append(look)
                verdict = request.partition, look.verdict
                if look.verdict.get("waits"):
                    self.waits_since.setdefault(look.partition, looked)
                elif look.verdict.get("accepted"):
                    self.waits_since.pop(look.partition, None)
                if look.verdict.get("accepted") and not look.verdict.get("dropped"):
                    self.in_flight.append((self.cycle + (self.delay or 0) + 2, look.partition,
                                           look.tag, look.dst_id))
                step = 0
            elif step:
                step += 1
            self.cycle += 1

    async def start(self, ctx: Any, *, limit: int = 0, weights: tuple[int, ...] = ()) -> None:
        """Wait for the unit, enable every partition, set WAIT_LIMIT and weights."""
        unit = self.unit
        while not ctx.get(unit.ready):
            await ctx.tick()
        for p in range(self.config.partitions):
            ctx.set(unit.settings, {
                "partition": p, "control_en": 1, "enabled": 1, "limit_en": 1, "limit": limit,
                "weight": weights[p] if weights else 0})
            await ctx.tick()
        ctx.set(unit.settings, {})
        ctx.set(unit.event_room, (1 << self.config.partitions) - 1)
        await ctx.tick().repeat(2)

    async def push(self, ctx: Any, partition: int, tag: int, dst_id: int = 1,
                   **fields: Any) -> None:
        """Queue a command; two cycles, which is as fast as pushes may come."""
        unit = self.unit
        ctx.set(unit.push.en, 1)
        ctx.set(unit.push.partition, partition)
        ctx.set(unit.push.command, Command(self.config).const(
            {"tag": tag, "dst_id": dst_id, **fields}))
        await ctx.tick()
        ctx.set(unit.push.en, 0)
        await ctx.tick()

    async def pulse(self, ctx: Any, signal: Any, value: Any = 1) -> None:
        ctx.set(signal, value)
        await ctx.tick()
        ctx.set(signal, 0 if isinstance(value, int) else {})

    def run(self, script: Callable[[Any], Any]) -> None:
        sim = Simulator(self.unit)
        sim.add_clock(1e-6)
        sim.add_testbench(self._decide, background=True)
        sim.add_testbench(script)
        sim.run()
        assert [told for told, _ in self.waited] == [right for _, right in self.waited], "waited"


def tags(looks: list[Look]) -> list[int]:
    return [look.tag for look in looks]


def check_order(module: Any, name: str, seed: int) -> None:
    """Random commands, returns and wake-ups: each accepted once, in its partition's order."""
    config = CONFIGS[name]
    desk = Desk(config, module=module, slot=SLOTS[name], delay=7)
    unit = desk.unit
    dice = random.Random(seed)
    pushed: list[list[int]] = [[] for _ in range(config.partitions)]
    done: list[list[int]] = [[] for _ in range(config.partitions)]

    def decide(look: Look) -> dict[str, Any]:
        p = look.partition
        assert len(desk.in_flight) < config.messages_in_flight, "more than may be in flight"
        assert look.tag == pushed[p][len(done[p])] & 255, "not the head of its queue"
        if dice.random() < 0.4:
            return dice.choice((WAIT, BLOCKED, FENCED))
        done[p].append(look.tag)
        return ACCEPT

    desk.policy = decide

    async def script(ctx: Any) -> None:
        await desk.start(ctx)
        for cycle in range(1500):
            p = dice.randrange(config.partitions)
            queued = len(pushed[p]) - len(done[p])
            lull = cycle % 200 > 150
            if cycle < 1300 and not lull and not ctx.get(unit.full) >> p & 1:
                assert queued <= config.command_queue_depth
                pushed[p].append(len(pushed[p]))
                ctx.set(unit.wake_all, dice.random() < 0.1)
                await desk.push(ctx, p, pushed[p][-1] & 255, dice.randrange(4))
            ctx.set(unit.wake_all, cycle >= 1300 or dice.random() < 0.1)
            await ctx.tick()
        ctx.set(unit.wake_all, 1)
        await ctx.tick().repeat(200)
        assert [len(one) for one in done] == [len(one) for one in pushed], "commands are lost"
        assert sum(map(len, done)) > 150
        everyone = (1 << config.partitions) - 1
        assert ctx.get(unit.idle) == ctx.get(unit.empty) == everyone
        assert ctx.get(unit.full) == ctx.get(unit.waiting) == 0
        assert [await room(ctx, unit, p) for p in range(config.partitions)] == (
            [config.command_queue_depth] * config.partitions)

    desk.run(script)


async def room(ctx: Any, unit: Any, partition: int) -> int:
    """Free slots of the partition's queue, a cycle later."""
    ctx.set(unit.asker, partition)
    await ctx.tick()
    return int(ctx.get(unit.room))


@pytest.mark.parametrize("name", CONFIGS)
def test_random_order(name: str) -> None:
    check_order(queues, name, seed=1)


@pytest.mark.parametrize("name", CONFIGS)
def test_shortcut_and_full_and_limit(name: str) -> None:
    check_limits(queues, name)


def check_limits(module: Any, name: str) -> None:
    """A request one cycle after its push; nothing beyond messages_in_flight; full and room."""
    config = CONFIGS[name]
    desk = Desk(config, module=module, slot=SLOTS[name], delay=None)
    unit = desk.unit

    async def script(ctx: Any) -> None:
        await desk.start(ctx)
        ctx.set(unit.push.en, 1)
        ctx.set(unit.push.partition, 1)
        ctx.set(unit.push.command, Command(config).const({"tag": 77, "dst_id": 3}))
        assert not ctx.get(unit.requests.valid)
        await ctx.tick()
        ctx.set(unit.push.en, 0)
        assert ctx.get(unit.requests.valid), "not one cycle after the push"
        request = ctx.get(unit.requests.payload)
        assert (request.partition, request.command.tag, request.command.dst_id) == (1, 77, 3)
        await ctx.tick().repeat(12)
        for tag in range(config.messages_in_flight - 1):
            await desk.push(ctx, 0, tag)
            await ctx.tick().repeat(12)
        assert len(desk.accepted) == config.messages_in_flight
        assert ctx.get(unit.idle) & 0b11 == 0
        for tag in range(config.command_queue_depth):
            assert not ctx.get(unit.full) & 1, "full too early"
            assert await room(ctx, unit, 0) == config.command_queue_depth - tag, "room is wrong"
            await desk.push(ctx, 0, 100 + tag)
        assert ctx.get(unit.full) == 1, "not full"
        assert await room(ctx, unit, 0) == 0
        await desk.push(ctx, 0, 200)
        assert await room(ctx, unit, 0) == 0, "a full queue takes more: room is wrong"
        await ctx.tick().repeat(30)
        assert len(desk.accepted) == config.messages_in_flight, "beyond messages_in_flight"
        desk.release = 1
        await ctx.tick().repeat(30)
        assert tags(desk.accepted)[config.messages_in_flight:] == [100], "one more, and no other"
        assert ctx.get(unit.idle) >> 1 & 1
        ctx.set(unit.event_room, 0)
        desk.release = 100
        await ctx.tick().repeat(60)
        assert tags(desk.accepted)[config.messages_in_flight:] == [100], "without event room"
        ctx.set(unit.event_room, 1)
        ctx.set(unit.crowded, 1)
        await ctx.tick().repeat(30)
        # One may have been chosen; it was not issued while crowded.
        assert tags(desk.accepted)[config.messages_in_flight:] == [100], "issued while crowded"
        ctx.set(unit.crowded, 0)
        await ctx.tick().repeat(80)
        assert tags(desk.accepted)[config.messages_in_flight:] == list(
            range(100, 100 + config.command_queue_depth)), "the push of a full queue is lost"

    desk.run(script)


def check_weights(module: Any, weights: tuple[int, ...], expected: list[int]) -> None:
    desk = Desk(THREE, module=module, slot=4)
    unit = desk.unit

    async def script(ctx: Any) -> None:
        await desk.start(ctx, weights=weights)
        ctx.set(unit.event_room, 0)
        for p, _ in enumerate(weights):
            for tag in range(8):
                await desk.push(ctx, p, tag)
        ctx.set(unit.event_room, 0b111)
        await ctx.tick().repeat(8 * 3 * 6)
        assert [look.partition for look in desk.looks][:len(expected)] == expected, "turns"

    desk.run(script)


TURNS = {(0, 0, 0): [0, 1, 2, 0, 1, 2, 0, 1, 2],
         (0, 3, 0): [0, 1, 1, 1, 1, 2, 0, 1, 1, 1, 1, 2],
         (2, 1, 0): [0, 0, 0, 1, 1, 2, 0, 0, 0, 1, 1, 2]}


@pytest.mark.parametrize("weights", TURNS)
def test_weights(weights: tuple[int, ...]) -> None:
    check_weights(queues, weights, TURNS[weights])


#: What wakes partition 1, which sleeps for ID 2: signal, value, and values that do not wake it.
WAKERS: dict[str, tuple[Any, list[Any]]] = {
    "wake_changed": ({"en": 1, "id": 2}, [{"en": 1, "id": 1}, {"en": 0, "id": 2}]),
    "wake_freed": ({"en": 1, "id": 2}, [{"en": 1, "id": 1}, {"en": 0, "id": 2}]),
    "wake_all": (1, []),
    "nudge": (0b10, [0b01]),
    "cancel": (0b10, [0b01]),
}


def check_waking(module: Any, waker: str, verdict: dict[str, Any]) -> None:
    """A returned head sleeps, its follower is withdrawn, and `waker` brings it back, in order."""
    desk = Desk(SMALL, module=module)
    unit = desk.unit
    wake, others = WAKERS[waker]
    desk.policy = lambda look: verdict if look.partition == 1 and len(desk.looks) < 1 else ACCEPT

    async def script(ctx: Any) -> None:
        await desk.start(ctx)
        await desk.push(ctx, 1, 10, 2)
        await desk.push(ctx, 1, 11, 3)
        await ctx.tick().repeat(30)
        assert tags(desk.looks) == [10], "the follower is not withdrawn, or the head not asleep"
        assert ctx.get(unit.waiting) == (0b10 if verdict.get("waits") else 0)
        for other in others:
            await desk.pulse(ctx, getattr(unit, waker), other)
        await ctx.tick().repeat(20)
        assert tags(desk.looks) == [10], "woken by something else"
        # The other partition is not held up.
        await desk.push(ctx, 0, 12, 1)
        await ctx.tick().repeat(12)
        assert tags(desk.looks) == [10, 12]
        await desk.pulse(ctx, getattr(unit, waker), wake)
        await ctx.tick().repeat(20)
        assert tags(desk.looks) == [10, 12, 10, 11], "not woken"
        assert ctx.get(unit.waiting) == 0

    desk.run(script)


@pytest.mark.parametrize("verdict", [WAIT, LOCKED, BLOCKED, FENCED],
                         ids=["waits", "locked", "blocked", "fenced"])
@pytest.mark.parametrize("waker", WAKERS)
def test_waking(waker: str, verdict: dict[str, Any]) -> None:
    check_waking(queues, waker, verdict)


def check_freed_and_drained(module: Any) -> None:
    """Woken by the freeing of its destination, by another's message; and by its own last one."""
    desk = Desk(SMALL, module=module, delay=None)
    returns = {10: 1, 21: 1}

    def decide(look: Look) -> dict[str, Any]:
        returns[look.tag] = returns.get(look.tag, 0) - 1
        return BLOCKED if returns[look.tag] >= 0 else ACCEPT

    desk.policy = decide

    async def script(ctx: Any) -> None:
        await desk.start(ctx)
        await desk.push(ctx, 0, 1, 3)
        await desk.push(ctx, 0, 2, 2)
        await ctx.tick().repeat(20)
        await desk.push(ctx, 1, 10, 2)
        await ctx.tick().repeat(20)
        desk.release = 1
        await ctx.tick().repeat(20)
        assert tags(desk.looks) == [1, 2, 10], "woken by another destination"
        desk.release = 1
        await ctx.tick().repeat(20)
        assert tags(desk.looks) == [1, 2, 10, 10], "not woken by its destination"
        await desk.push(ctx, 1, 21, 3)
        await ctx.tick().repeat(20)
        assert tags(desk.looks)[4:] == [21]
        desk.release = 1
        await ctx.tick().repeat(20)
        assert tags(desk.looks)[4:] == [21, 21], "not woken although nothing of it is in flight"

    desk.run(script)


def test_freed_and_drained() -> None:
    check_freed_and_drained(queues)


def check_woken_while_decided(module: Any, name: str, offset: int) -> None:
    """A wake-up while the request is decided is not lost, whatever the cycle."""
    desk = Desk(CONFIGS[name], module=module, slot=SLOTS[name])
    desk.policy = lambda look: BLOCKED if len(desk.looks) < 1 else ACCEPT

    async def script(ctx: Any) -> None:
        await desk.start(ctx)
        await desk.push(ctx, 1, 10, 2)      # The slot's first cycle is over.
        await ctx.tick().repeat(offset)
        await desk.pulse(ctx, desk.unit.wake_changed, {"en": 1, "id": 2})
        await ctx.tick().repeat(30)
        assert tags(desk.looks) == [10, 10], "a wake-up is lost"

    desk.run(script)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("offset", range(1, 8))
def test_woken_while_decided(name: str, offset: int) -> None:
    check_woken_while_decided(queues, name, offset)


def check_halt_and_resume(module: Any) -> None:
    """Behind a failure: halted. RESUME marks the place: before it halted, behind it not."""
    desk = Desk(SMALL, module=module, delay=None)
    unit = desk.unit
    desk.failing = {1}

    async def script(ctx: Any) -> None:
        await desk.start(ctx)
        await desk.pulse(ctx, unit.resume, 0b10)    # Not halted: nothing.
        await desk.push(ctx, 1, 1)
        await ctx.tick().repeat(12)
        desk.release = 1
        await ctx.tick().repeat(4)
        assert ctx.get(unit.halted) == 0b10, "not halted"
        await desk.push(ctx, 0, 50)
        ctx.set(unit.event_room, 0b01)
        await desk.push(ctx, 1, 2)
        await desk.push(ctx, 1, 3)
        await desk.pulse(ctx, unit.resume, 0b10)
        await desk.push(ctx, 1, 4)
        ctx.set(unit.event_room, 0b11)
        await ctx.tick().repeat(40)
        halted = {look.tag: look.known.halted for look in desk.looks}
        assert halted == {1: 0, 50: 0, 2: 1, 3: 1}, "what is behind the mark is not held"
        desk.release = 2
        await ctx.tick().repeat(40)
        assert ctx.get(unit.halted) == 0b10, "resumed while some of it is in flight"
        desk.release = 1
        await ctx.tick().repeat(40)
        assert ctx.get(unit.halted) == 0, "not resumed"
        assert [(look.tag, look.known.halted) for look in desk.looks][-1] == (4, 0), "mark"

    desk.run(script)


def test_halt_and_resume() -> None:
    check_halt_and_resume(queues)


def check_cancel(module: Any) -> None:
    """CANCEL reaches a waiting head, only that one command, and nobody who does not wait."""
    desk = Desk(SMALL, module=module)
    unit = desk.unit
    desk.policy = lambda look: (
        WAIT if look.tag in (10, 12) and not look.known.cancelled and len(desk.looks) < 4
        else ACCEPT)

    async def script(ctx: Any) -> None:
        await desk.start(ctx)
        await desk.pulse(ctx, unit.cancel, 0b11)
        await desk.push(ctx, 1, 10, 2)
        await ctx.tick().repeat(12)
        await desk.push(ctx, 1, 11, 2)
        await desk.pulse(ctx, unit.cancel, 0b10)
        await ctx.tick().repeat(20)
        await desk.push(ctx, 1, 12, 2)
        await ctx.tick().repeat(12)
        assert [(look.tag, look.known.cancelled) for look in desk.looks] == [
            (10, 0), (10, 1), (11, 0), (12, 0)], "cancelled"
        assert ctx.get(unit.waiting) == 0b10

    desk.run(script)


def test_cancel() -> None:
    check_cancel(queues)


def check_wait_limit(module: Any, name: str, limit: int) -> None:
    """Expired if and only if at least the limit has passed between first and present look."""
    config = CONFIGS[name]
    ages = {}
    for again in range(limit - 11, limit):
        desk = Desk(config, module=module, slot=SLOTS[name])
        desk.policy = lambda look: ACCEPT if look.known.expired else WAIT

        async def script(ctx: Any, desk: Desk = desk, again: int = again) -> None:
            await desk.start(ctx, limit=limit)
            await desk.push(ctx, 1, 10, 2)
            await ctx.tick().repeat(again)
            await desk.pulse(ctx, desk.unit.wake_all)
            await ctx.tick().repeat(limit + 20)

        desk.run(script)
        first = desk.looks[0]
        assert not first.known.expired
        for look in desk.looks[1:]:
            ages[look.looked - first.looked] = look.known.expired
        last = desk.looks[-1]
        assert last.known.expired, "not woken by its limit"
        assert last.known.waits_on == Status.DST_FULL
        # Its turn to be looked at, the answer, the issue; or the decision that is under way.
        assert last.looked - first.looked <= (
            limit + config.partitions + 5 + 2 * SLOTS[name]), "woken late"
    assert ages == {age: age >= limit for age in ages}, "the limit is not exact"
    assert {limit - 1, limit} <= ages.keys()


@pytest.mark.parametrize("name", CONFIGS)
def test_wait_limit(name: str) -> None:
    check_wait_limit(queues, name, 40)


def check_permitted(module: Any) -> None:
    """Enabled, for grants also their kind; of the partition whose request it is."""
    desk = Desk(SMALL, module=module)
    unit = desk.unit
    found: list[int] = []
    expected: list[int] = []

    async def script(ctx: Any) -> None:
        await desk.start(ctx)
        for enabled, engine, cpu in itertools.product((0, 1), repeat=3):
            grants = engine << GrantKind.ENGINE.value | cpu << GrantKind.CPU.value
            for p, other in ((0, 1), (1, 0)):
                for partition, allowed, kinds in (
                        (p, enabled, grants), (other, 1 - enabled, 3 - grants)):
                    await desk.pulse(ctx, unit.settings, {
                        "partition": partition, "control_en": 1, "enabled": allowed,
                        "grants": kinds})
                for op, kind in ((Op.SEND, 0), (Op.MVCL, 1), (Op.MVXL, 1), (Op.GRANT, 0),
                                 (Op.GRANT, 1), (0, 0), (0, 1)):
                    allowed = 1 if op != Op.GRANT else cpu if kind else engine
                    expected.append(enabled & allowed)
                    await desk.push(ctx, p, 0, op=getattr(op, "value", op), dst_offset=2 | kind)
                    await ctx.tick().repeat(10)
                    found.append(desk.looks[-1].known.permitted)
        assert found == expected, "permitted"
        # A write of the limit alone changes nothing of it.
        await desk.pulse(ctx, unit.settings, {"partition": 1, "limit_en": 1, "limit": 9})
        await desk.push(ctx, 1, 0)
        await ctx.tick().repeat(10)
        assert desk.looks[-1].known.permitted == 1, "permitted"

    desk.run(script)


def test_permitted() -> None:
    check_permitted(queues)


def check_ends_of_grants(module: Any) -> None:
    """The end of a grant is in flight like a command, but not one of `messages_in_flight`."""
    desk = Desk(SMALL, module=module, delay=None)
    unit = desk.unit
    desk.policy = lambda look: ACCEPT if look.known.idle else FENCED

    async def script(ctx: Any) -> None:
        await desk.start(ctx)
        for p in range(2):
            await desk.pulse(ctx, unit.ends_grant, {"en": 1, "partition": p})
        assert ctx.get(unit.idle) == 0, "idle although the end of its grant is in flight"
        await desk.push(ctx, 1, 10)
        await ctx.tick().repeat(20)
        assert tags(desk.looks) == [10], "woken before its grant has ended"
        await desk.pulse(ctx, unit.retired, {"en": 1, "partition": 0})
        await ctx.tick().repeat(20)
        assert tags(desk.looks) == [10], "woken by what is another's"
        # In the cycle in which it is through, too, the next one may go.
        ctx.set(unit.retired, {"en": 1, "partition": 1})
        ctx.set(unit.ends_grant, {"en": 1, "partition": 1})
        await ctx.tick()
        ctx.set(unit.retired, {})
        ctx.set(unit.ends_grant, {})
        await ctx.tick()
        assert ctx.get(unit.idle) == 0b01, "one came, one went"
        await desk.pulse(ctx, unit.retired, {"en": 1, "partition": 1})
        await ctx.tick().repeat(20)
        assert ctx.get(unit.idle) == 0b01
        assert tags(desk.accepted) == [10], "not woken when its grant has ended"

    desk.run(script)


def test_ends_of_grants() -> None:
    check_ends_of_grants(queues)


#: What the front end says to the first request of the partition that is going to be in reset.
FIRST_VERDICTS = {"accepted": ACCEPT, "waits": WAIT, "locked": LOCKED, "blocked": BLOCKED,
                  "fenced": FENCED}


def check_reset(module: Any, name: str, first: dict[str, Any], offset: int, hold: int = 0) -> None:
    """Partition 1 is in reset from a cycle on until nothing of it is there, as the control does.

    `offset`: cycles from the first push to the reset; `hold`: cycles for which no slot begins,
    from then on. What was queued is not decided any more, what others queued is decided once and
    in order, and afterwards the partition works as if nothing had been.
    """
    config = CONFIGS[name]
    desk = Desk(config, module=module, slot=SLOTS[name], delay=9)
    unit = desk.unit
    desk.failing = {10}
    # The first request of partition 1 is returned once, and everything of it is when it is alone.
    desk.policy = lambda look: (
        first if look.tag == 10 and tags(desk.looks).count(10) < 1 else ACCEPT)
    async def script(ctx: Any) -> None:
        await desk.start(ctx)
        ctx.set(unit.asker, 1)
        feed: deque[tuple[int, int]] = deque()
        for tag in range(10, 10 + config.command_queue_depth):
            feed += [(1, tag), (0, 100 + tag)]
        resetting = False
        quiet = False
        others: list[int] = []
        cycle = 0
        while cycle < offset + 4 * hold + 200 and not quiet:
            if cycle == offset:
                resetting = True
                ctx.set(unit.resetting, 0b10)
            desk.hold = offset <= cycle < offset + hold
            ctx.set(unit.push.en, 0)
            if cycle % 2 == 0 and feed:
                p, tag = feed.popleft()
                if p == 0:
                    others.append(tag)
                if not (resetting and p == 1):
                    ctx.set(unit.push, {"en": 1, "partition": p,
                                        "command": {"tag": tag, "dst_id": 2}})
            _, _, empty, idle = await ctx.tick().sample(unit.empty, unit.idle)
            quiet = resetting and cycle > offset and bool(empty & idle & 0b10)
            cycle += 1
        assert quiet, "the reset never ends"
        ctx.set(unit.push.en, 0)
        ctx.set(unit.resetting, 0)
        desk.waits_since.pop(1, None)
        decided = len([look for look in desk.looks if look.partition == 1])
        assert not ctx.get(unit.waiting) & 0b10, "something of it still waits"
        assert not ctx.get(unit.halted) & 0b10, "still halted"
        assert ctx.get(unit.room) == config.command_queue_depth, "its queue is not empty"
        desk.hold = False
        for p, tag in feed:
            if p == 0:
                others.append(tag)
                await desk.push(ctx, 0, tag, 2)
        await ctx.tick().repeat(80 + 12 * config.command_queue_depth)
        assert len([look for look in desk.looks if look.partition == 1]) == decided, \
            "decided after it was gone"
        assert tags([look for look in desk.accepted if look.partition == 0]) == others, \
            "another partition lost something"
        # All that may be in flight can be in flight, and all of it is decided.
        desk.delay = None
        before = len(desk.accepted)
        queued = 0
        while queued < config.messages_in_flight + 1:
            await desk.push(ctx, 1, 50 + queued, 2)
            queued += 1
            await ctx.tick().repeat(8)
        await ctx.tick().repeat(20)
        assert tags(desk.accepted[before:]) == list(
            range(50, 50 + config.messages_in_flight)), "not as many as before the reset"
        desk.release = 100
        await ctx.tick().repeat(40 + 3 * config.messages_in_flight)
        assert ctx.get(unit.idle) == ctx.get(unit.empty) == (1 << config.partitions) - 1
        assert tags(desk.accepted[before:]) == list(
            range(50, 50 + config.messages_in_flight + 1)), "commands behind a reset are lost"

    desk.run(script)


@pytest.mark.parametrize("first", FIRST_VERDICTS)
@pytest.mark.parametrize("offset", range(24))
def test_reset_at_every_cycle(first: str, offset: int) -> None:
    check_reset(queues, "small", FIRST_VERDICTS[first], offset)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("offset", range(16))
def test_reset_while_no_slot_begins(name: str, offset: int) -> None:
    check_reset(queues, name, ACCEPT, offset, hold=30)


def check_resets(module: Any, first: dict[str, Any]) -> None:
    for offset in range(24):
        check_reset(module, "small", first, offset)


def check_reset_forgets(module: Any) -> None:
    """A reset clears what was known of a head, and a RESUME that had not come to its mark.

    It lasts for two cycles at least; what is pushed in the cycle behind it stays.
    """
    desk = Desk(SMALL, module=module, delay=None)
    unit = desk.unit
    desk.failing = {1}
    desk.policy = lambda look: WAIT if look.tag == 2 else ACCEPT

    async def script(ctx: Any) -> None:
        await desk.start(ctx)
        await desk.push(ctx, 1, 1)
        await ctx.tick().repeat(12)
        desk.release = 1
        await ctx.tick().repeat(4)
        await desk.push(ctx, 1, 2)
        await ctx.tick().repeat(12)
        await desk.pulse(ctx, unit.resume, 0b10)
        assert (ctx.get(unit.halted), ctx.get(unit.waiting)) == (0b10, 0b10)
        await desk.pulse(ctx, unit.cancel, 0b10)
        ctx.set(unit.resetting, 0b10)
        await ctx.tick().repeat(2)
        ctx.set(unit.resetting, 0)
        desk.waits_since.clear()
        assert (ctx.get(unit.halted), ctx.get(unit.waiting)) == (0, 0), "the reset forgets nothing"
        await desk.push(ctx, 1, 3)
        await ctx.tick().repeat(12)
        known = desk.looks[-1].known
        assert desk.looks[-1].tag == 3, "not decided"
        assert (known.halted, known.cancelled, known.resetting) == (0, 0, 0), "cancelled before"
        await desk.push(ctx, 1, 4)
        await ctx.tick().repeat(12)
        assert desk.looks[-1].tag == 4, "barred by a RESUME before the reset"

    desk.run(script)


def test_reset_forgets() -> None:
    check_reset_forgets(queues)


def check_hand_over(module: Any) -> None:
    """Three partitions want two destinations, always: who was served least recently goes first.

    `contended` and `overtaken` are compared at every look.
    """
    desk = Desk(THREE, module=module, delay=9)
    dice = random.Random(4)
    blocked: dict[int, int] = {}        # partition: ID
    served = {p: -p for p in range(3)}  # after reset, the last is looked at as the oldest
    turns: dict[int, list[int]] = {5: [], 6: []}

    def decide(look: Look) -> dict[str, Any]:
        p = look.partition
        others = [q for q, dst_id in blocked.items() if q != p and dst_id == look.dst_id]
        assert look.known.contended == bool(others), "contended"
        overtaken = any(served[q] < served[p] for q in others)
        assert look.known.overtaken == overtaken, "overtaken"
        holders = {one[1] for one in desk.in_flight if one[3] == look.dst_id}
        if holders - {p} or (holders and look.known.contended) or (
                not holders and look.known.overtaken):
            blocked[p] = look.dst_id
            return BLOCKED
        blocked.pop(p, None)
        served[p] = len(desk.looks) + 1
        turns[look.dst_id].append(p)
        return ACCEPT

    desk.policy = decide

    async def script(ctx: Any) -> None:
        await desk.start(ctx, weights=(3, 0, 1))
        for cycle in range(700):
            p = dice.randrange(3)
            if not ctx.get(desk.unit.full) >> p & 1:
                await desk.push(ctx, p, 0, 5 if cycle < 350 else dice.choice((5, 5, 6)))
            await ctx.tick()

    desk.run(script)
    first = turns[5][4:40]
    assert len(first) == 36, "they hold each other up"
    hand_overs = [p for before, p in zip([-1, *first], first) if p != before]
    assert all(len(set(hand_overs[i:i + 3])) == 3 for i in range(len(hand_overs) - 2)), \
        "not each in its turn"


def test_hand_over_is_fair() -> None:
    check_hand_over(queues)


FAULTS: list[tuple[str, str, str, Callable[[Any], None], str]] = [
    ("follower-not-withdrawn", "self.requests.valid.eq(occupied & ~dropped)",
     "self.requests.valid.eq(occupied)",
     lambda module: check_order(module, "small", 1), "withdrawn while it is decided"),
    ("not-fetched-again", "issued[p].eq(done[p]),", "issued[p].eq(issued[p]),",
     lambda module: check_waking(module, "wake_all", WAIT), "not woken"),
    ("never-asleep", "asleep[p].eq(~(woken_before | woken[p]))", "asleep[p].eq(0)",
     lambda module: check_waking(module, "nudge", BLOCKED), "not asleep"),
    ("meanwhile-forgotten",
     "m.d.sync += woken_meanwhile.eq(1)",
     "m.d.sync += woken_meanwhile.eq(0)",
     lambda module: check_woken_while_decided(module, "small", 1), "a wake-up is lost"),
    ("deaf-to-nudges", "self.wake_all | self.nudge[p] |", "self.wake_all |",
     lambda module: check_waking(module, "nudge", WAIT), "not woken"),
    ("deaf-to-all", "self.wake_all | self.nudge[p] |", "self.nudge[p] |",
     lambda module: check_waking(module, "wake_all", WAIT), "not woken"),
    ("deaf-to-cancel", "self.wake_all | self.nudge[p] | self.cancel[p]",
     "self.wake_all | self.nudge[p]",
     lambda module: check_waking(module, "cancel", WAIT), "not woken"),
    ("deaf-to-changes", "released.eq(self.wake_changed.en | (", "released.eq((",
     lambda module: check_waking(module, "wake_changed", WAIT), "not woken"),
    ("woken-by-any-change", "(released & (released_id == wait_id[p]))", "released",
     lambda module: check_waking(module, "wake_changed", WAIT), "woken by something else"),
    ("deaf-to-freeing", "self.wake_freed.en & (self.wake_freed.id == wait_id[p])", "0",
     check_freed_and_drained, "not woken by its destination"),
    ("woken-by-any-freeing", "self.wake_freed.en & (self.wake_freed.id == wait_id[p])",
     "self.wake_freed.en", check_freed_and_drained, "woken by another destination"),
    ("not-drained", "left & (in_flight[p] == 1)", "0",
     check_freed_and_drained, "nothing of it is in flight"),
    ("one-more-outstanding", "outstanding != config.messages_in_flight",
     "outstanding != config.messages_in_flight + 1",
     lambda module: check_limits(module, "small"), "room is wrong"),
    ("crowd-overlooked", "self.ready & ~self.crowded &", "self.ready &",
     lambda module: check_limits(module, "small"), "issued while crowded"),
    ("room-overlooked", "eq(self.event_room & ~barred", "eq(~barred",
     lambda module: check_limits(module, "small"), "without event room"),
    ("overrun", "self.push.en & ~self.full.bit_select(self.push.partition, 1)", "self.push.en",
     lambda module: check_limits(module, "small"), "room is wrong"),
    ("no-shortcut", "self.push.en & may_issue & ~turns.any", "0 & ~turns.any",
     lambda module: check_limits(module, "small"), "not one cycle after the push"),
    ("weight-lost", "left - 1, weights[issued.partition]", "left - 1, 0",
     lambda module: check_weights(module, (0, 3, 0), TURNS[0, 3, 0]), "turns"),
    ("weight-plus-one", "with m.If(left_now == 0):", "with m.If((left == 0) & (left_now != 0)):",
     lambda module: check_weights(module, (0, 0, 0), TURNS[0, 0, 0]), "turns"),
    ("mark-overlooked", "resuming[p] & (issued[p] == mark[p])", "0",
     check_halt_and_resume, "behind the mark"),
    ("resumed-early", "(done[p] == mark[p]) & self.idle[p]", "(done[p] == mark[p])",
     check_halt_and_resume, "behind the mark"),
    ("never-halted", "with m.If(ended & self.completed.failed):", "with m.If(0):",
     check_halt_and_resume, "not halted"),
    ("cancels-who-does-not-wait", "(self.cancel & self.waiting)", "self.cancel",
     check_cancel, "cancelled"),
    ("cancelled-for-ever", "                    cancelled[p].eq(0),\n", "",
     check_cancel, "cancelled"),
    ("limit-late", "(elapsed >= compared_limit)", "(elapsed > compared_limit)",
     lambda module: check_wait_limit(module, "small", 40), "not exact"),
    ("limit-from-last-look", "looked & ~self.waiting.bit_select(self.partition, 1)", "looked",
     lambda module: check_wait_limit(module, "small", 40), "waited"),
    ("not-overdue", "self.overdue[p].eq(was_over &", "self.overdue[p].eq(0 &",
     lambda module: check_wait_limit(module, "small", 40), "not woken by its limit"),
    ("most-recent-first", "with m.If(self.served[i]):", "with m.If(0):",
     check_hand_over, "overtaken"),
    ("overtaken-elsewhere", "(wait_id[q] == current_dst)", "1", check_hand_over, "contended"),
    ("waited-since-the-last-look", "Mux(self.waiting.bit_select(self.partition, 1), elapsed, 0)",
     "elapsed", lambda module: check_wait_limit(module, "small", 40), "waited"),
    ("kinds-swapped", "may_get[GrantKind.CPU], may_get[GrantKind.ENGINE]))",
     "may_get[GrantKind.ENGINE], may_get[GrantKind.CPU]))", check_permitted, "permitted"),
    ("kind-not-looked-at", "current.command.op != Op.GRANT, ~0,", "1, ~0,",
     check_permitted, "permitted"),
    ("kind-of-all", "current.command.op != Op.GRANT, ~0,", "0, ~0,",
     check_permitted, "permitted"),
    ("grants-although-not-enabled", "at.permitted.eq((enabled & Mux(", "at.permitted.eq((Mux(",
     check_permitted, "permitted"),
    ("limit-sets-grants", "with m.If(self.settings.control_en):",
     "with m.If(self.settings.control_en | self.settings.limit_en):",
     check_permitted, "permitted"),
    ("end-not-in-flight", "+ (self.ends_grant.en & (self.ends_grant.partition == p)) - left",
     "- left", check_ends_of_grants, "the end of its grant"),
    ("end-of-another", "self.retired.en & (self.retired.partition == p)", "self.retired.en",
     check_ends_of_grants, "what is another's"),
    ("reset-keeps-the-queue", "m.d.sync += pushed[p].eq(done[p])",
     "m.d.sync += pushed[p].eq(pushed[p])",
     lambda module: check_reset(module, "small", ACCEPT, 12), "never ends"),
    ("reset-over-what-is-issued",
     " & ~just_issued[0]\n                      & (issued[p] == done[p])", "",
     lambda module: check_resets(module, ACCEPT), "after it was gone|never ends|is not empty"),
    ("reset-over-what-was-just-issued", " & ~just_issued[0]\n", "\n",
     lambda module: check_resets(module, ACCEPT), "after it was gone|never ends|is not empty"),
    ("fetched-although-one-returns", "(fetched & ~unfetched) | shortcut", "fetched | shortcut",
     lambda module: check_order(module, "small", 1), "not the head of its queue"),
    ("not-fetched-but-outstanding", "dropped | unfetched", "dropped",
     lambda module: check_order(module, "small", 1), "assert"),
    ("reset-over-what-is-being-issued", "with m.If(in_reset[p] & self.resetting[p] &",
     "with m.If(self.resetting[p] &",
     lambda module: check_resets(module, ACCEPT), "after it was gone|is not empty"),
    ("reset-outlives-itself", "with m.If(in_reset[p] & self.resetting[p] &",
     "with m.If(in_reset[p] &", check_reset_forgets, "not decided"),
    ("dropped-stays-outstanding", "undone_before.eq(returned | vanished)",
     "undone_before.eq(returned)",
     lambda module: check_resets(module, ACCEPT), "not as many as before"),
    ("dropped-stays-in-flight", "(mine & verdict.accepted & ~verdict.dropped)",
     "(mine & verdict.accepted)", lambda module: check_resets(module, ACCEPT), "never ends"),
    ("reset-keeps-halted", "cancelled[p].eq(0),\n                    resuming[p].eq(0), "
     "self.halted[p].eq(0)]", "cancelled[p].eq(0), resuming[p].eq(0)]",
     check_reset_forgets, "the reset forgets nothing"),
    ("reset-keeps-waiting", "blocked[p].eq(0), self.waiting[p].eq(0), cancelled[p].eq(0),\n"
     "                    resuming", "blocked[p].eq(0), cancelled[p].eq(0),\n"
     "                    resuming", check_reset_forgets, "the reset forgets nothing"),
    ("reset-keeps-cancelled", "self.waiting[p].eq(0), cancelled[p].eq(0),\n"
     "                    resuming", "self.waiting[p].eq(0),\n                    resuming",
     check_reset_forgets, "cancelled before"),
    ("reset-keeps-the-mark", "cancelled[p].eq(0),\n                    resuming[p].eq(0), self.",
     "cancelled[p].eq(0),\n                    self.", check_reset_forgets, "barred by a RESUME"),
]


def planted(old: str, new: str) -> Any:
    """A copy of the queues with a fault in them, or in one of their parts in `turns`."""
    if old not in inspect.getsource(turns):
        return mutated(queues, old, new)
    faulty = mutated(turns, old, new)
    title = "class CommandQueues("
    copy: Any = mutated(queues, title, title)
    for part in ("RoundRobin", "Seniority", "WaitTimer"):
        setattr(copy, part, getattr(faulty, part))
    return copy


@pytest.mark.parametrize(("name", "old", "new", "check", "expected"), FAULTS,
                         ids=[fault[0] for fault in FAULTS])
def test_planted_fault(name: str, old: str, new: str, check: Callable[[Any], None],
                       expected: str) -> None:
    with pytest.raises(AssertionError, match=expected):
        check(planted(old, new))
