# SPDX-License-Identifier: Apache-2.0
"""COMPLETED and the event queues against a model: counts, slots, quotas, pops, resets."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass
from typing import Any

import pytest
from amaranth.sim import Simulator

from formal.mutants import mutated
from mvxl import events
from mvxl.config import AdapterConfig
from mvxl.messages import Completion, EventKind, Status

CONFIGS = {
    "small": AdapterConfig(
        partitions=2, entries=4, data_bits=32, burst_beats=4, reads_in_flight=2,
        writes_in_flight=2, messages_in_flight=4, command_queue_depth=2, notification_slots=2,
        data_queue_beats=16),
    "five": AdapterConfig(
        partitions=5, entries=128, messages_in_flight=4, command_queue_depth=4,
        notification_slots=3),
}

#: Within so many cycles a popped event's slot must be free again.
FREED_WITHIN_CYCLES = 4

HALF = 1 << 31


@dataclass(frozen=True)
class Message:
    """A command that was started, or (`command` is 0) the end of a grant.

    `event`: one is due, as it is for every failure. `reserved`: it holds a notification's room;
    `arrived`: that will be used. `sent` and `known` are not for events.
    """

    partition: int
    tag: int
    event: int
    command: int
    reserved: int
    arrived: int
    status: Status
    dst_id: int
    receiver: int
    offset: int
    count: int

    def own_event(self) -> tuple[int, ...] | None:
        """The sender's event, in the order of `Event`."""
        if not self.command or not self.event:
            return None
        there = self.status == Status.OK
        return (EventKind.COMPLETION.value, self.status.value, self.tag,
                self.receiver if there else 0, self.dst_id, self.offset if there else 0,
                self.count)

    def notification(self) -> tuple[int, ...]:
        return (EventKind.NOTIFICATION.value, self.status.value, self.tag, self.partition,
                self.dst_id, self.offset, self.count)


def fields_of(event: Any) -> tuple[int, ...]:
    return (event.kind.value, event.status.value, event.tag, event.peer, event.id, event.offset,
            event.count)


NOTHING = (0,) * 7


def is_reached(count: int, compare: int) -> bool:
    return (count - compare) % (1 << 32) < HALF


def check(module: Any, config: AdapterConfig, *, seed: int, cycles: int = 1500,
          fast: float = 1.0, resets: bool = False) -> dict[str, int]:
    """Random commands, pops and compare writes; every output is compared in every cycle.

    `fast` is the chance of a completion to show at once. Partitions take their events in phases,
    so that queues run full, and empty again. With `resets`, partitions are in reset now and then,
    until nothing of them is left. Returns how often something was seen.
    """
    unit = module.EventUnit(config)
    dice = random.Random(seed)
    junk = random.Random(seed)
    everyone = range(config.partitions)
    names = ("no_room", "no_quota", "empty_pop", "collision", "met", "failed", "grants", "most")
    rare = ("drained", "others_drained", "dropped", "cleared", "late_clear")
    seen = dict.fromkeys(names + rare if resets else names, 0)

    async def bench(ctx: Any) -> None:
        for _ in range(500):
            if ctx.get(unit.ready):
                break
            await ctx.tick()
        assert ctx.get(unit.ready)

        counts = [0] * config.partitions
        compares = [0] * config.partitions
        reached = [True] * config.partitions
        queues: list[deque[tuple[tuple[int, ...], int | None]]] = [deque() for _ in everyone]
        used = [0] * config.partitions                  # own slots
        pending = [[0] * config.partitions for _ in everyone]   # notifications [receiver][sender]
        freeing: deque[list[tuple[int, int | None]]] = deque(
            [] for _ in range(FREED_WITHIN_CYCLES))     # popped in each of the last cycles
        in_flight: deque[Message] = deque()
        to_start: list[int] = []
        querying: Message | None = None                 # of the cycle before
        announced = showing = False
        counted = False
        stage = 0                                       # cycles since it was counted
        popped_before = compared_before = False
        uncounted: set[int] = set()     # partitions of which none was counted since their reset
        compare_due: tuple[int, int] | None = None      # (partition, value) of the cycle before
        pops_given = frees = frees_due = 0
        reads = [NOTHING] * 2                           # of the cycle before the last, and the last
        readers = [0] * 2
        # Events on their way into their queues; None: a command's slot that it gives back.
        arriving: list[tuple[int, tuple[tuple[int, ...], int | None] | None]] = []
        tag = 0
        resetting: dict[int, int] = {}                  # partition: cycle at which it may end
        resetting_before: set[int] = set()
        since_looked = [0] * config.partitions          # cycles without a pop, in reset
        clear: int | None = None                        # whose COMPLETED is to be cleared
        dropped = False                                 # what shows is of a partition in reset
        last_drain = -10

        for cycle in range(cycles):
            draining = cycle > cycles - 400
            # Resets: nothing of the partition starts, it pops nothing, and in the end nothing of
            # it is left.
            if resets and not draining and len(resetting) < 2 and dice.random() < 0.02:
                p = dice.choice(everyone)
                if p not in resetting and not (querying and querying.partition == p):
                    resetting[p] = cycle + dice.randrange(10, 80)
                    to_start = [one for one in to_start if one != p]
                    if clear is None:
                        clear = p
            for p in [p for p, end in resetting.items() if end < cycle]:
                if clear != p and not queues[p] and not any(
                        message.partition == p for message in in_flight):
                    del resetting[p]
            ctx.set(unit.resetting, sum(1 << p for p in resetting))
            # What shows of the partition since before its reset is counted before it is cleared.
            counts_still = showing and not dropped and in_flight[0].partition == clear
            clearing = None if counts_still else clear
            ctx.set(unit.clear.en, clearing is not None)
            if clearing is not None:
                ctx.set(unit.clear.partition, clearing)
            # Starts: three at once if there is room, each a query and then an acceptance.
            room = ctx.get(unit.event_room)
            late = [slot for popped in freeing for slot in popped]
            for p in everyone:
                unfreed = sum(owner == p and peer is None for owner, peer in late)
                bit = room >> p & 1
                seen["no_room"] += not bit
                assert not bit or used[p] <= config.own_event_slots - 3, "room for own events?"
                assert bit or used[p] + unfreed > config.own_event_slots - 3, "no room any more"
            starting, querying = querying, None
            ctx.set(unit.started.en, starting is not None and starting.command)
            ctx.set(unit.reserve, 0)
            if starting is not None:
                ctx.set(unit.started.partition, starting.partition)
                ctx.set(unit.reserve, starting.reserved)
            elif not to_start and not draining:
                p = dice.choice(everyone)
                # What may have started by the next look has to be within the three.
                within = len(in_flight) + 3 <= config.messages_in_flight
                if p not in resetting and room >> p & 1 and within:
                    to_start = [p] * 3
            if starting is None and to_start:
                p, receiver = to_start.pop(), dice.choice(everyone)
                tag = (tag + 1) & 255
                ctx.set(unit.quota_sender, p)
                ctx.set(unit.quota_receiver, receiver)
                space = ctx.get(unit.quota_room)
                unfreed = sum(slot == (receiver, p) for slot in late)
                held = pending[receiver][p]
                seen["no_quota"] += not space
                assert not space or held < config.notification_slots, "room in the quota?"
                assert space or held + unfreed >= config.notification_slots, "quota not given back"
                notify = dice.random() < 0.7
                moved = dice.random() < 0.9 and (space or not notify)
                failed = dice.random() < 0.2
                command = dice.random() < 0.9
                status = (dice.choice((Status.READ_ERROR, Status.WRITE_ERROR, Status.ABORTED))
                          if failed else Status.OK)
                if not moved:
                    status = dice.choice((Status.RECEIVER_BUSY, Status.BAD_COUNT))
                reserved = notify and moved
                querying = Message(
                    partition=p, tag=tag, command=int(command),
                    event=1 if status is not Status.OK else dice.randrange(2),
                    reserved=int(reserved), status=status,
                    # An end of a grant without bytes is OK, and no notification.
                    arrived=int(reserved and not failed and (command or dice.random() < 0.5)),
                    dst_id=dice.randrange(1 << 16), receiver=receiver,
                    offset=dice.randrange(1 << 32),
                    count=dice.randrange(1 << 32))

            if not showing and announced and dice.random() < fast:
                showing = True
                dropped = in_flight[0].partition in resetting
            announced = bool(in_flight) and not showing
            # In the cycle before it shows, its partition is there.
            ctx.set(unit.oncoming, in_flight[0].partition if announced else dice.choice(everyone))
            ctx.set(unit.completions.valid, showing)
            message = in_flight[0] if showing else None
            if message is None and not arriving:
                ctx.set(unit.completions.payload, Completion(config).from_bits(
                    junk.getrandbits(Completion(config).size)))
            elif message is not None:
                ctx.set(unit.completions.payload, Completion(config).const({
                    name: getattr(message, name) for name in Message.__dataclass_fields__} | {
                        "sent": dice.getrandbits(1), "known": dice.getrandbits(1),
                        "dropped": dropped, "arrived": message.arrived and not dropped}))

            taker = dice.choice(everyone)
            eager = draining or (cycle // 150 + taker) % 2 == 0
            pop = (not popped_before and eager and taker not in resetting
                   and dice.random() < 0.7)
            pop_before = popped_before
            popped_before = pop
            ctx.set(unit.pop.en, pop)
            ctx.set(unit.pop.partition, taker)

            blocked = compared_before
            compare = not compared_before and dice.random() < 0.3
            target = dice.choice(everyone)
            if message is not None and dice.random() < 0.5:
                target = message.partition
            # In reset its page is frozen; a while longer, so that a count sees what was cleared.
            compare = compare and target not in resetting and target not in uncounted
            compared_before = compare
            value = (counts[target] + dice.choice((-1, 0, 1, 2, HALF - 1, HALF, HALF + 1))) % (
                1 << 32)
            ctx.set(unit.compare.en, compare)
            ctx.set(unit.compare.partition, target)
            ctx.set(unit.compare.value, value if compare else 0)

            reader = dice.choice(everyone)
            ctx.set(unit.partition, reader)
            (_, _, taken, freed, got_reached, event, there, completed, cleared, some_waiting,
             *waiting) = await ctx.tick().sample(
                unit.completions.ready, unit.room_freed, unit.reached, unit.event,
                unit.event_there, unit.completed, unit.cleared, unit.some_waiting, *unit.waiting)

            # Events that the cycle before took from partitions in reset: one at most.
            for p in everyone:
                if p in resetting_before and queues[p] and not pop_before:
                    since_looked[p] += 1
                    assert since_looked[p] <= config.partitions + 1, "an event outlives its reset"
                if not (p in resetting_before and waiting[p] == len(queues[p]) - 1
                        and not pop_before and last_drain != cycle):
                    continue
                last_drain = cycle
                since_looked[p] = 0
                event_gone, peer = queues[p].popleft()
                freeing[-1].append((p, peer))
                seen["drained"] += 1
                if peer is None:
                    used[p] -= 1
                else:
                    seen["others_drained"] += peer != p
                    pending[p][peer] -= 1
                    frees_due += 1
            for p in everyone:
                if p not in resetting_before or not queues[p]:
                    since_looked[p] = 0
            resetting_before = set(resetting)
            assert completed == counts[readers.pop(0)], "COMPLETED is wrong"
            readers.append(reader)
            assert [got_reached >> p & 1 for p in everyone] == reached, "reached is wrong"
            lengths = [len(queue) for queue in queues]
            assert waiting == lengths, "events lost or made up"
            assert some_waiting == sum((length != 0) << p for p, length in enumerate(lengths)), \
                "whether some wait"
            seen["most"] = max(seen["most"], *lengths)
            read = reads.pop(0)
            assert there == (read != NOTHING), "whether there is an event"
            assert not there or fields_of(event) == read, "another event is read than the oldest"
            reads.append(queues[reader][0][0] if queues[reader] else NOTHING)

            # What this cycle changes, seen from the next one on.
            reached = [is_reached(counts[p], compares[p]) for p in everyone]
            freeing.popleft()
            freeing.append([])
            frees += freed
            assert frees <= frees_due + (stage >= 2), "room_freed too often"
            if pop:
                if queues[taker]:
                    _, peer = queues[taker].popleft()
                    freeing[-1].append((taker, peer))
                    if peer is None:
                        used[taker] -= 1
                    else:
                        pending[taker][peer] -= 1
                        frees_due += 1
                    pops_given += 1
                else:
                    seen["empty_pop"] += 1
            for p, arrived in arriving:
                if arrived is None:
                    used[p] -= 1
                else:
                    queues[p].append(arrived)
            arriving = []
            stage_before = stage
            counting = None
            if message is not None:
                if stage == 1:
                    own = None if dropped else message.own_event()
                    if own is not None or message.command:
                        arriving.append((message.partition, None if own is None else (own, None)))
                    seen["grants"] += not message.command
                    assert bool(taken) == (not message.reserved), \
                        "taken in another cycle than the second or the third"
                elif stage == 2 and message.arrived and not dropped:
                    arriving.append(
                        (message.receiver, (message.notification(), message.partition)))
                    assert taken, "taken later than in the third cycle"
                elif stage >= 2:
                    # Events that go give room back, too: every second cycle, or in a reset.
                    assert taken or stage == 2 or last_drain > cycle - 6, \
                        "a failed notification's end is held up"
                    if taken:
                        seen["failed"] += 1
                        pending[message.receiver][message.partition] -= 1
                        frees_due += 1
                else:
                    assert not taken, "taken before it was counted"
                if stage == 0 and not counted and not cleared:
                    if blocked:
                        seen["collision"] += 1
                    else:
                        counts[message.partition] += message.command and not dropped
                        if message.command and not dropped:
                            counting = message.partition
                            uncounted.discard(counting)
                        counted = True
                        if resets:
                            seen["dropped"] += dropped
                if counted:
                    stage += 1
                if taken:
                    in_flight.popleft()
                    showing = counted = False
                    stage = 0
            if clearing is not None:
                assert bool(cleared) == (stage_before == 0 and not compare), \
                    "cleared in its cycle"
                if cleared:
                    counts[clearing] = compares[clearing] = 0
                    reached[clearing] = True
                    uncounted.add(clearing)
                    clear = None
                    seen["cleared"] += 1
                else:
                    seen["late_clear"] += 1
            else:
                assert not cleared, "cleared unasked"
            # A write of the compare value takes a cycle more than a count, unless they meet.
            if compare_due is not None and not (cleared and clearing == compare_due[0]):
                compares[compare_due[0]] = compare_due[1]
            compare_due = (target, value) if compare else None
            if compare and counting == target:
                compares[target] = value
                seen["met"] += 1
            if starting is not None:
                in_flight.append(starting)
                used[starting.partition] += starting.command
                if starting.reserved:
                    pending[starting.receiver][starting.partition] += 1
        assert not in_flight, "a completion is never taken"
        assert not any(queues), "the test is too short to take all events"
        assert frees == frees_due, "room_freed does not tell each notification slot"
        assert pops_given > cycles // 20

    sim = Simulator(unit)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    return seen


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(("fast", "seed"), [(1.0, 1), (0.3, 2)])
@pytest.mark.parametrize("resets", [False, True], ids=["alone", "resets"])
def test_random(name: str, fast: float, seed: int, resets: bool) -> None:
    seen = check(events, CONFIGS[name], seed=seed, fast=fast, resets=resets,
                 cycles=4000 if resets else 2500)
    assert all(seen.values()), seen


@pytest.mark.parametrize("name", CONFIGS)
def test_every_slot_holds_an_event(name: str) -> None:
    """All that may be started, and all quotas, pending at one receiver; and all can be taken."""
    config = CONFIGS[name]
    unit = events.EventUnit(config)
    wanted: list[int] = []

    async def start(ctx: Any) -> None:
        ctx.set(unit.started.en, 1)
        await ctx.tick()
        ctx.set(unit.started.en, 0)

    async def complete(ctx: Any, **fields: int) -> None:
        ctx.set(unit.completions.payload, Completion(config).const(fields))
        ctx.set(unit.completions.valid, 1)
        await ctx.tick().until(unit.completions.ready)
        ctx.set(unit.completions.valid, 0)
        await ctx.tick()        # in which it is still there
        wanted.append(fields["tag"])

    async def bench(ctx: Any) -> None:
        while not ctx.get(unit.ready):
            await ctx.tick()
        tag = 0
        for sender in range(config.partitions):
            for slot in range(config.notification_slots + 1):
                ctx.set(unit.quota_sender, sender)
                await ctx.tick()
                assert ctx.get(unit.quota_room) == (slot < config.notification_slots)
                if slot == config.notification_slots:
                    break
                ctx.set(unit.started.partition, sender)
                ctx.set(unit.reserve, 1)
                await start(ctx)
                ctx.set(unit.reserve, 0)
                tag += 1
                await complete(ctx, partition=sender, command=1, reserved=1, arrived=1,
                               receiver=0, tag=tag)
        ctx.set(unit.started.partition, 0)
        for started in range(config.own_event_slots):
            room = started <= config.own_event_slots - 3
            assert ctx.get(unit.event_room) & 1 == room
            await start(ctx)
        for _ in range(config.own_event_slots):
            tag += 1
            await complete(ctx, partition=0, command=1, event=1, tag=tag)
        await ctx.tick().repeat(3)
        assert ctx.get(unit.waiting[0]) == len(wanted) <= config.event_slots
        assert len(wanted) == (
            config.own_event_slots + config.partitions * config.notification_slots)
        for expected in wanted:
            assert ctx.get(unit.event.tag) == expected
            ctx.set(unit.pop.en, 1)
            await ctx.tick()
            ctx.set(unit.pop.en, 0)
            await ctx.tick().repeat(3)
        assert not ctx.get(unit.event_there)
        assert ctx.get(unit.event_room) == (1 << config.partitions) - 1
        assert ctx.get(unit.quota_room)

    sim = Simulator(unit)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()


def test_completions_go_on_beside_writes_of_the_compare_value() -> None:
    """However many there are: a driver's writes hold nobody up."""
    config = CONFIGS["small"]
    unit = events.EventUnit(config)

    async def bench(ctx: Any) -> None:
        while not ctx.get(unit.ready):
            await ctx.tick()
        taken = ready = 0
        ctx.set(unit.completions.payload, Completion(config).const({"command": 1}))
        for cycle in range(60):
            ctx.set(unit.compare, {"en": cycle % 2, "partition": 1, "value": cycle})
            ctx.set(unit.completions.valid, not ready)
            _, _, ready = await ctx.tick().sample(unit.completions.ready)
            taken += ready
        assert taken >= 6, "completions are held up"

    sim = Simulator(unit)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()


def test_completed_reaches_its_compare_value() -> None:
    """Reached after reset (0 − 0); not three cycles after a compare of 1; two cycles behind the
    completion."""
    config = CONFIGS["small"]
    unit = events.EventUnit(config)

    async def bench(ctx: Any) -> None:
        assert ctx.get(unit.reached) == 0b11
        while not ctx.get(unit.ready):
            await ctx.tick()
        assert ctx.get(unit.reached) == 0b11
        ctx.set(unit.partition, 1)
        ctx.set(unit.compare, {"en": 1, "partition": 1, "value": 1})
        await ctx.tick()
        ctx.set(unit.compare.en, 0)
        for _ in range(2):
            assert ctx.get(unit.reached) == 0b11
            await ctx.tick()
        assert ctx.get(unit.reached) == 0b01
        ctx.set(unit.oncoming, 1)
        await ctx.tick()
        ctx.set(unit.oncoming, 0)
        ctx.set(unit.completions.payload, Completion(config).const({"partition": 1, "command": 1}))
        ctx.set(unit.completions.valid, 1)
        assert ctx.get(unit.completed) == 0
        await ctx.tick()
        assert ctx.get(unit.completed) == 1
        await ctx.tick()
        assert ctx.get(unit.reached) == 0b11

    sim = Simulator(unit)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()


FAULTS = [
    ("collision-counts", "with m.Elif(self.completions.valid & ~fetched_compare):",
     "with m.Elif(self.completions.valid):",
     "taken before it was counted|COMPLETED is wrong|taken in another cycle|events lost"),
    ("change-missed", "comparing.eq(counting | (fetched_compare & ~changed))",
     "comparing.eq(counting | fetched_compare)", "reached is wrong"),
    ("change-of-another", "changed.eq(counting & (done.partition == self.compare.partition))",
     "changed.eq(counting)", "reached is wrong"),
    ("counts-what-came-before", "self.completions.valid, done.partition, self.oncoming",
     "1, done.partition, self.oncoming", "COMPLETED is wrong|reached is wrong"),
    ("counts-what-comes-next", "self.completions.valid, done.partition, self.oncoming",
     "0, done.partition, self.oncoming", "COMPLETED is wrong|reached is wrong"),
    ("compare-is-not-compared", "comparing.eq(counting | (fetched_compare & ~changed))",
     "comparing.eq(counting)", "reached is wrong"),
    ("count-is-not-compared", "comparing.eq(counting | (fetched_compare & ~changed))",
     "comparing.eq(fetched_compare & ~changed)", "reached is wrong"),
    ("old-count-compared", "compared_count.eq(new_count)",
     "compared_count.eq(fetched)", "reached is wrong"),
    ("compare-counts", "fetched + ~fetched_compare", "fetched + 1",
     "reached is wrong"),
    ("compare-of-what-completes", "Mux(fetched_compare, fetched_for, done.partition)",
     "done.partition", "reached is wrong"),
    ("compared-unsigned", "eq(~distance[-1])", "eq(compared_count >= compares.read_data[0])",
     "reached is wrong"),
    ("room-one-late", "used <= own_slots - 3", "used <= own_slots - 2", "room for own events"),
    ("room-one-early", "used <= own_slots - 3", "used <= own_slots - 4", "no room any more"),
    ("unused-slot-kept", "- (unused & (done.partition == p))", "", "no room any more"),
    ("popped-slot-kept", "- (freeing & freeing_own & (freeing_by == p))", "", "no room any more"),
    ("notification-frees-own", "- (freeing & freeing_own & (freeing_by == p))",
     "- (freeing & (freeing_by == p))", "room for own events|no room any more"),
    ("quota-beyond", "!= config.notification_slots)", "!= config.notification_slots + 1)",
     "room in the quota|quota not given back"),
    ("quota-of-another", "Cat(freeing_peer, freeing_by)", "Cat(freeing_by, freeing_peer)",
     "quota"),
    ("failed-quota-kept", "returned.write_en.eq((freeing & ~freeing_own) | returning)",
     "returned.write_en.eq(freeing & ~freeing_own)", "quota not given back|room_freed does not"),
    ("both-give-back-at-once", "with m.Elif(~freeing):", "with m.Else():",
     "room_freed|quota|held up"),
    ("failure-without-event", "& done.event)", "& done.event & (done.status == Status.OK))",
     "events lost"),
    ("event-unasked", "& done.event)", ")", "events lost"),
    ("failure-notified", "with m.If(done.arrived):", "with m.If(1):", "events lost"),
    ("refusal-notified", "with m.If(done.reserved):", "with m.If(1):",
     "taken in another cycle"),
    ("offset-told-of-a-failure", "with m.Elif(done.status == Status.OK):", "with m.Else():",
     "another event is read"),
    ("event-of-the-cycle-before", "Cat(heads[self.partition], self.partition)",
     "Cat(heads[partition_before], partition_before)", "another event is read"),
    ("event-a-cycle-early", "self.event.eq(row)", "self.event.eq(read.data)",
     "another event is read"),
    ("event-of-nobody", "row_there.eq(self.some_waiting.bit_select(self.partition, 1))",
     "row_there.eq(self.some_waiting.any())", "whether there is an event"),
    ("event-there-a-cycle-early", "self.event_there.eq(row_there)",
     "self.event_there.eq(self.some_waiting.bit_select(self.partition, 1))",
     "whether there is an event"),
    ("completed-of-the-next-reader", "counts.read_row[1].eq(partition_earlier)",
     "counts.read_row[1].eq(partition_before)", "COMPLETED is wrong"),
    ("pushed-as-anothers", "own.eq(pushing_own)", "own.eq(0)", "another event is read|room"),
    ("empty-popped", "(self.pop.en | self.resetting[p]) & self.some_waiting[p]",
     "(self.pop.en | self.resetting[p])", "events lost|whether some wait"),
    ("popped-by-another", "(popper == p) & (self.pop.en", "(self.pop.en", "events lost"),
    ("some-wait-behind-the-last", "self.some_waiting[p].eq(comes | (self.waiting[p] != 1))",
     "self.some_waiting[p].eq(1)", "whether some wait"),
    ("none-waits-behind-one-of-two", "self.some_waiting[p].eq(comes | (self.waiting[p] != 1))",
     "self.some_waiting[p].eq(comes)", "whether some wait"),
    ("slot-of-the-next-event", "popped_row.eq(heads[popper])", "popped_row.eq(heads[popper] + 1)",
     "room|quota"),
    ("slot-of-another", "read_origin.addr.eq(Cat(popped_row, popped_by))",
     "read_origin.addr.eq(Cat(popped_row, popper))", "room|quota"),
    ("dropped-but-told", "pushing.eq(done.command & ~done.dropped", "pushing.eq(done.command",
     "events lost|no room any more|room_freed too often|another event"),
    ("dropped-but-counted", "counting.eq(done.command & ~done.dropped)",
     "counting.eq(done.command)", "COMPLETED is wrong"),
    ("end-of-a-grant-counted", "counting.eq(done.command & ~done.dropped)",
     "counting.eq(~done.dropped)", "COMPLETED is wrong"),
    ("end-of-a-grant-told", "pushing.eq(done.command & ~done.dropped", "pushing.eq(~done.dropped",
     "events lost"),
    ("end-of-a-grant-frees-a-slot", "ends_unused.eq(done.command & ~pushing)",
     "ends_unused.eq(~pushing)",
     "room for own events|no room any more"),
    ("clear-is-not-compared", "with m.If(self.cleared & (self.clear.partition == p)):",
     "with m.If(0):", "reached is wrong"),
    ("clear-keeps-the-compare-value", "compares.write_en.eq(self.compare.en | self.cleared)",
     "compares.write_en.eq(self.compare.en)", "reached is wrong"),
    ("clear-keeps-the-count", "counts.write_en.eq(counting | self.cleared)",
     "counts.write_en.eq(counting)", "COMPLETED is wrong"),
    ("clear-beside-a-compare", "with m.If(self.clear.en & ~self.compare.en):",
     "with m.If(self.clear.en):", "cleared in its cycle"),
    ("reset-keeps-events", "(self.pop.en | self.resetting[p])", "self.pop.en",
     "outlives its reset"),
    ("pops-take-the-turns", "with m.If(~self.pop.en):\n            m.d.sync += turn",
     "with m.If(1):\n            m.d.sync += turn", "outlives its reset"),
    ("reset-takes-from-others", "self.resetting[p])", "self.resetting.any())",
     "events lost"),
]


@pytest.mark.parametrize(("name", "old", "new", "expected"), FAULTS,
                         ids=[fault[0] for fault in FAULTS])
def test_planted_fault(name: str, old: str, new: str, expected: str) -> None:
    module = mutated(events, old, new)
    with pytest.raises(AssertionError, match=expected):
        check(module, CONFIGS["small"], seed=1)
        check(module, CONFIGS["small"], seed=1, resets=True)
