# SPDX-License-Identifier: Apache-2.0
"""The completion unit against a model: order, exactly one each, nothing before its responses."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import pytest
from amaranth.sim import Simulator

from formal.mutants import mutated
from mvxl import completion
from mvxl.config import OFFSET_BITS, AdapterConfig
from mvxl.messages import Acceptance, Kind, Proposal, Status, WriteEnd

CONFIGS = {
    "small": AdapterConfig(
        partitions=2, entries=4, data_bits=32, burst_beats=4, reads_in_flight=2,
        writes_in_flight=2, messages_in_flight=4, command_queue_depth=2, data_queue_beats=16),
    "large": AdapterConfig(
        partitions=5, entries=128, data_bits=64, address_bits=40, messages_in_flight=16),
    "crowd": AdapterConfig(
        partitions=11, entries=16, messages_in_flight=4, command_queue_depth=2),
}

#: What a kind is: it moves bytes; it holds a lock until it ends; it is a command.
MOVING = (Kind.SEND, Kind.MVCL, Kind.MVXL, Kind.RAW)
HOLDING = (Kind.SEND, Kind.MVCL, Kind.RELEASE)
NO_COMMAND = (Kind.RELEASE, Kind.RAW)

REFUSALS = (Status.ABORTED, Status.BAD_OP, Status.SRC_FAULT, Status.DST_FULL, Status.CANCELLED,
            Status.STALE)

#: What a `Proposal` tells, and comes out again with its completion.
TOLD = ("partition", "tag", "event", "dst_id", "receiver", "known", "offset", "count", "waited")

#: What of it comes out as it was.
SAME = tuple(name for name in TOLD if name != "event")

#: Cycles in which everything that is in flight ends once the memory is down.
TIMEOUT_CYCLES_EACH = 4

#: Cycles for which nothing comes from a memory that is down.
STUCK_CYCLES = 120


@dataclass
class Burst:
    """A `WriteEnd`, and the error bit of its response (None: there is none)."""

    address: int = 0
    last: bool = True
    read_error: bool = False
    response: int | None = 0


@dataclass
class Message:
    """Something accepted; `bursts` is empty if it moves nothing."""

    kind: Kind = Kind.SEND
    partition: int = 0
    tag: int = 0
    event: int = 0
    notify: int = 0
    status: Status = Status.OK
    dst_id: int = 0
    receiver: int = 0
    known: int = 1
    offset: int = 0
    next_position: int = 0
    count: int = 1
    waited: int = 0
    bursts: list[Burst] = field(default_factory=list)

    @property
    def moves(self) -> bool:
        return self.kind in MOVING

    @property
    def holds(self) -> bool:
        return self.kind in HOLDING

    @property
    def is_command(self) -> bool:
        return self.kind not in NO_COMMAND

    @property
    def write_failures(self) -> list[int]:
        """Addresses of the bursts whose responses were errors."""
        return [burst.address for burst in self.bursts if burst.response]

    def outcome(self, halted: bool, down: bool) -> Status:
        """How it ends. `down`: the memory is, and an end of a grant is behind orphans."""
        if down:
            return Status.TIMEOUT
        if halted and self.is_command:
            return Status.ABORTED
        if self.write_failures:
            return Status.WRITE_ERROR
        if any(burst.read_error for burst in self.bursts):
            return Status.READ_ERROR
        return self.status

    def publishes(self, status: Status, dropped: bool) -> bool:
        """Whether a cursor moves."""
        return status is Status.OK and not dropped and (
            self.kind is Kind.SEND or (self.kind is Kind.RELEASE and self.count != 0))


def random_bursts(config: AdapterConfig, dice: random.Random) -> list[Burst]:
    """Three in ten fail, in one way or the other."""
    how = dice.choice((None,) * 7 + ("read", "write", "both"))
    length = dice.randint(1, 4)
    bursts = []
    for index in range(length):
        hit = dice.random() < 0.5 or index == length - 1
        bursts.append(Burst(
            address=dice.randrange(1 << config.address_bits) & -4,
            last=index == length - 1,
            read_error=hit and how in ("read", "both"),
            response=int(hit and how in ("write", "both"))))
    # Where a message is abandoned, its end comes without a response.
    if how is not None and dice.random() < 0.5:
        bursts[-1].last = False
        bursts.append(Burst(last=True, read_error=how != "write", response=None))
    return bursts


def random_messages(config: AdapterConfig, number: int, dice: random.Random) -> list[Message]:
    """Messages of every kind."""
    messages = []
    for tag in range(number):
        kind = dice.choice((Kind.SEND,) * 5 + tuple(Kind))
        message = Message(
            kind=kind, partition=dice.randrange(config.partitions), tag=tag & 255,
            event=dice.randrange(2), notify=dice.randrange(2),
            dst_id=dice.randrange(config.entries), receiver=dice.randrange(config.partitions),
            known=dice.randrange(2), offset=dice.choice((0, 64, (1 << OFFSET_BITS) - 4096)),
            next_position=dice.getrandbits(OFFSET_BITS), count=dice.randint(1, 4095),
            waited=dice.getrandbits(OFFSET_BITS))
        if kind is Kind.REFUSAL:
            message.status = dice.choice(REFUSALS)
        elif kind is Kind.RELEASE:
            message.count = 0 if dice.random() < 0.5 else message.count << 16 * (tag % 2)
        if message.moves:
            message.bursts = random_bursts(config, dice)
        messages.append(message)
    return messages


@dataclass
class Run:
    """What a run of the unit showed, and how often something rare was seen."""

    statuses: list[Status] = field(default_factory=list)
    told_at: list[int] = field(default_factory=list)    # cycles
    dropped: int = 0
    orphans: int = 0
    late_ends: int = 0      # ends of grants that became orphans


class Memory:
    """What comes of the bus: ends, and responses, each in order and not before its message.

    `stuck`: nothing comes.
    """

    def __init__(self, messages: list[Message], dice: random.Random, pace: float) -> None:
        self.ends = [burst for message in messages for burst in message.bursts]
        self.owners = [index for index, message in enumerate(messages) for _ in message.bursts]
        self.dice = dice
        self.pace = pace
        self.stuck = False
        self.ended = self.shown = 0     # of `ends`: taken, offered
        self.answered = 0               # of `ends`: up to the last one with a response taken
        self.respond = False

    def offer(self, accepted: int, accepting: bool) -> tuple[Burst | None, int | None]:
        """An end and an index of a response. They come at the earliest with their message."""
        if self.shown == self.ended < len(self.ends) and not self.stuck:
            self.shown += (self.owners[self.shown] < accepted + accepting
                           and self.dice.random() < self.pace)
        responding = next((index for index in range(self.answered, len(self.ends))
                           if self.ends[index].response is not None
                           and self.owners[index] < accepted), None)
        if responding is not None and not self.stuck and self.dice.random() < self.pace:
            self.respond = True
        return (self.ends[self.ended] if self.shown > self.ended else None,
                responding if self.respond else None)


def check(module: Any, config: AdapterConfig, messages: list[Message], *, pace: float = 1.0,
          seed: int = 0, reset_chance: float = 0.0, down_chance: float = 0.0) -> Run:
    """Run `messages` through the unit of `module`; every output is compared in every cycle.

    `pace` is the chance of a transfer of each stream in a cycle.
    """
    unit = module.CompletionUnit(config)
    dice = random.Random(seed)
    run = Run()

    async def bench(ctx: Any) -> None:
        memory = Memory(messages, dice, pace)
        offered = 0                             # messages accepted
        through = [0] * len(messages)           # bursts of each message that are through
        halted = [False] * config.partitions
        # As driven in the cycle before, and in that before it: what ends goes by the latter when
        # it is told, because it goes by the cycle before when it ends.
        halted_before = halted_earlier = list(halted)
        orphans: deque[int] = deque()
        retiring: deque[int] = deque()          # through with their locks, oldest first
        released_now = open_completion = False
        # `dst_id` and `count` of `releases.payload` in the two cycles before; None: one was taken.
        announced: deque[tuple[int, int] | None] = deque([None, None], maxlen=2)
        moved_before: int | None = None         # `moved.offset`
        moved_at = -3       # the last cycle with `moved`
        oncoming_before = 0
        down = down_before = False
        down_since = completed_at_down = 0
        completed = 0
        resetting = [False] * config.partitions
        resetting_before = resetting_earlier = list(resetting)
        written_error = False
        error_due = 0                           # for the response of the cycle before
        proposed: bool | None = None            # in the cycle before; True: it is accepted
        quiet = cycle = 0
        while quiet < 10:
            cycle += 1
            assert cycle < 400 + 120 * len(messages), "a command does not complete"
            in_flight = messages[completed:offered]
            following = messages[offered] if offered < len(messages) else None
            accept = bool(proposed)
            ctx.set(unit.accepted.valid, accept)
            ctx.set(unit.accepted.payload, acceptance(following) if accept else Acceptance().const(
                {"kind": dice.choice(tuple(Kind)), "status": dice.choice(REFUSALS),
                 "next_position": dice.getrandbits(OFFSET_BITS)}))
            # Not in neighbouring cycles, and not all of them are accepted.
            if proposed is None and dice.random() < pace:
                proposed = following is not None and dice.random() < 0.8 and fits(
                    config, following, in_flight, [messages[index] for index in orphans])
                if following is not None and following.moves and down:
                    proposed = False            # refused with TIMEOUT
            else:
                proposed = None
            ctx.set(unit.proposed.valid, proposed is not None)
            ctx.set(unit.proposed.payload, proposal(config, following) if proposed
                    else Proposal(config).from_bits(dice.getrandbits(Proposal(config).size)))
            end, responding = memory.offer(offered, accept)
            ctx.set(unit.ends.valid, end is not None)
            if end is not None:
                ctx.set(unit.ends.payload, WriteEnd(config).const({
                    "responds": end.response is not None, "last": end.last,
                    "read_error": end.read_error, "address": end.address}))
            ctx.set(unit.responses.valid, responding is not None)
            if responding is not None:
                ctx.set(unit.responses.payload, memory.ends[responding].response)
            ctx.set(unit.releases.ready, dice.random() < pace)
            # Not in its first cycle, in which it is counted.
            ctx.set(unit.completions.ready, open_completion and dice.random() < pace)
            ctx.set(unit.halted, sum(bit << p for p, bit in enumerate(halted)))
            ctx.set(unit.resetting, sum(bit << p for p, bit in enumerate(resetting)))
            ctx.set(unit.down, down)
            driven = list(halted)
            (_, _, end_taken, taken, release_valid, release_ready, release, valid, ready, report,
             told, write_error, fault, moved, retired, settled, oncoming) = await ctx.tick().sample(
                unit.ends.ready, unit.responses.ready, unit.releases.valid,
                unit.releases.ready, unit.releases.payload, unit.completions.valid,
                unit.completions.ready, unit.completions.payload, unit.completed,
                unit.write_error, unit.fault, unit.moved, unit.retired, unit.settled,
                unit.oncoming)
            offered += accept

            # What was told: once, in order, with the first cycle of its completion.
            fault_due = None
            moved_due = None
            assert moved_before in (None, moved.offset), "moved does not stay"
            if told.en:
                assert completed < offered - accept, "completed before it was accepted"
                message = messages[completed]
                p = message.partition
                late = through[completed] < len(message.bursts) or (
                    down_before and message.kind is Kind.RELEASE and bool(orphans))
                if not down_before:
                    assert not late, "completed before its last response"
                timed_out = down_before and (late or message.kind is not Kind.RELEASE)
                status = message.outcome(halted_earlier[p], timed_out)
                dropped = resetting_earlier[p] and message.kind is not Kind.RAW
                bus_failed = (status in (Status.READ_ERROR, Status.WRITE_ERROR)
                              and message.is_command and not dropped)
                failed = bus_failed or (status is Status.TIMEOUT and message.is_command
                                        and not dropped)
                assert valid == (message.kind is not Kind.RAW) or open_completion, \
                    "completions has all but the manager's moves"
                assert not open_completion, "a completion is overwritten"
                assert report.status == status, "the status is wrong"
                published = message.publishes(status, dropped)
                if message.kind is not Kind.RAW:
                    assert tuple(report[name] for name in SAME) == tuple(
                        getattr(message, name) for name in SAME), \
                        "the completion is another command's"
                    assert report.event == (message.event or status is not Status.OK), \
                        "an event is due if asked for, and of every failure"
                    arrived = published or (message.kind is Kind.MVCL and not dropped
                                            and status is Status.OK)
                    assert (report.command, report.reserved, report.arrived, report.dropped) == (
                        message.is_command, message.notify and message.holds, arrived,
                        dropped), "what the completion means is wrong"
                    assert dropped or report.sent == arrived, "counted as a message"
                assert (told.partition, told.kind, told.command, told.failed, told.dropped) == (
                    p, message.kind, message.is_command, failed, dropped), \
                    "completed is told wrongly"
                if message.kind in (Kind.GRANT, Kind.MVXL):
                    moved_due = (p, message.kind is Kind.GRANT,
                                 status is Status.OK and not dropped, message.offset,
                                 message.count)
                if bus_failed:
                    fault_due = (p, status, status is Status.WRITE_ERROR)
                    if message.write_failures:
                        assert fault.address == message.write_failures[0], \
                            "the fault record's address is not the first failed burst's"
                if failed:
                    halted[p] = True
                if late:
                    assert not released_now, "released before its last response"
                    orphans.append(completed)
                    run.orphans += 1
                    run.late_ends += message.kind is Kind.RELEASE
                else:
                    assert released_now == message.holds, \
                        "completed in another cycle than behind its release"
                    retiring.append(completed)
                run.statuses.append(status)
                run.told_at.append(cycle)
                run.dropped += dropped
                completed += 1
            else:
                assert not valid or open_completion, "completed is not told"
            assert ((fault.partition, fault.status, fault.write) if fault.en else None) == \
                fault_due, "a fault record for each failure, and for no other"
            assert ((moved.partition, moved.first, moved.good, moved.offset, moved.count)
                    if moved.en else None) == moved_due, "moved is wrong"
            moved_before = moved.offset if moved.en else None
            if moved.en:
                assert cycle >= moved_at + 3, "moved more often than in every third cycle"
                moved_at = cycle
            if valid and not open_completion:
                assert oncoming_before == report.partition, "a completion without warning"
            oncoming_before = oncoming
            open_completion = bool(valid and not ready)

            # What is through with its lock: at once, or as the oldest orphan.
            if not told.en and retired.en:
                assert orphans, "retired twice"
                index = orphans.popleft()
                assert through[index] == len(messages[index].bursts), \
                    "retired before its last response"
                assert not messages[index].holds or released_now, \
                    "retired in another cycle than behind its release"
                retiring.append(index)
            if retiring:
                index = retiring.popleft()
                assert retired.en and (retired.partition, retired.kind) == (
                    messages[index].partition, messages[index].kind), "retired is wrong"
            else:
                assert not retired.en, "retired is wrong"
            absorbing = released_orphan = False
            if orphans:
                first = orphans[0]
                absorbing = (through[first] == len(messages[first].bursts))
                released_orphan = absorbing and messages[first].holds
            # One that has just ended is an orphan from this cycle on, or was not one any more.
            assert bool(settled) == (not orphans) or absorbing, "settled is wrong"

            # Responses, and what is said of their errors.
            assert write_error == error_due, "write_error goes with the response"
            error_due = 0
            written_error = responding is not None and bool(taken)
            if written_error:
                memory.answered = responding + 1
                owner = memory.owners[responding]
                if memory.ends[responding].response and owner not in orphans:
                    message = messages[owner]
                    error_due = 1 << (config.manager if message.kind is Kind.RAW
                                      else message.partition)
                memory.respond = False
            if end is not None and end_taken:
                assert end.response is None or written_error, "an end is taken without its response"
                through[memory.owners[memory.ended]] += 1
                memory.ended += 1

            # Releases: one for each that holds a lock, never before its last response; as the lock
            # unit wants them.
            assert not (released_now and release_valid), "releases in neighbouring cycles"
            warning = release.dst_id, release.count
            assert not release_valid or announced[-1] == warning, "a release without warning"
            assert not (release_valid and release.advance) or announced[0] == warning, \
                "an advance without warning"
            announced.append(None if release_valid and release_ready else warning)
            released_now = False
            if release_valid:
                index = orphans[0] if released_orphan else completed
                assert index < offered and messages[index].holds, "a release too many"
                message = messages[index]
                if not released_orphan:
                    assert not orphans, "released past an orphan"
                    assert through[index] == len(message.bursts), \
                        "released before its last response"
                status = Status.TIMEOUT if released_orphan else message.outcome(
                    halted_before[message.partition], down and message.kind is not Kind.RELEASE)
                published = message.publishes(status, resetting_before[message.partition])
                assert (release.dst_id, release.advance) == (message.dst_id, published), \
                    "the release is wrong"
                if published:
                    assert (release.count, release.position) == (
                        message.count, message.next_position), "the cursor is wrong"
                released_now = bool(release_ready)

            # The memory goes down, stays so until nothing is outstanding, and comes up again.
            down_before = down
            if down:
                memory.stuck = cycle < down_since + STUCK_CYCLES
                if pace == 1.0 and cycle > down_since + TIMEOUT_CYCLES_EACH * (
                        config.messages_in_flight + config.partitions + 1) + 4:
                    assert completed >= completed_at_down, "not ended although the memory is down"
                if not memory.stuck and not orphans and not in_flight and settled:
                    down = dice.random() < 0.9
            elif dice.random() < down_chance:
                down = memory.stuck = True
                down_since, completed_at_down = cycle, offered

            halted_earlier, halted_before = halted_before, driven

            # Resets go on until nothing of the partition is left, RESUME waits as long.
            resetting_earlier, resetting_before = resetting_before, list(resetting)
            for p in range(config.partitions):
                left = any(messages[index].partition == p
                           for index in (*orphans, *range(completed, offered)))
                if resetting[p]:
                    halted[p] = False
                    resetting[p] = left or dice.random() < 0.5
                elif dice.random() < reset_chance:
                    resetting[p] = True
                elif halted[p] and not left and dice.random() < 0.2:
                    halted[p] = False
            quiet = quiet + 1 if completed == len(messages) and not orphans else 0
        assert memory.ended == len(memory.ends)

    sim = Simulator(unit)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    return run


def proposal(config: AdapterConfig, message: Message) -> Any:
    return Proposal(config).const({
        name: getattr(message, name) for name in (*TOLD, "notify")})


def acceptance(message: Message) -> Any:
    return Acceptance().const({
        name: getattr(message, name) for name in ("kind", "status", "next_position")})


def fits(config: AdapterConfig, following: Message, in_flight: list[Message],
         orphans: list[Message]) -> bool:
    """Whether something more may be accepted: so many commands, and one end of each grant."""
    if following.is_command:
        return sum(message.is_command for message in in_flight) < config.messages_in_flight
    alike = [message for message in (*in_flight, *orphans) if message.kind is following.kind]
    if following.kind is Kind.RAW:
        return not alike
    return all(message.partition != following.partition for message in alike)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("pace", [1.0, 0.7, 0.2])
def test_random_messages(name: str, pace: float) -> None:
    config = CONFIGS[name]
    messages = random_messages(config, 250, random.Random(3))
    run = check(completion, config, messages, pace=pace, seed=4)
    assert {Status.OK, Status.READ_ERROR, Status.WRITE_ERROR, Status.ABORTED} <= set(run.statuses)
    assert set(REFUSALS[1:]) & set(run.statuses)
    assert not run.dropped and not run.orphans


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("pace", [1.0, 0.4])
def test_resets(name: str, pace: float) -> None:
    config = CONFIGS[name]
    messages = random_messages(config, 350, random.Random(5))
    run = check(completion, config, messages, pace=pace, seed=6, reset_chance=0.01)
    assert run.dropped > 30
    assert {Status.OK, Status.READ_ERROR, Status.WRITE_ERROR} <= set(run.statuses)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("pace", [1.0, 0.4])
def test_memory_down(name: str, pace: float) -> None:
    config = CONFIGS[name]
    messages = random_messages(config, 400, random.Random(7))
    run = check(completion, config, messages, pace=pace, seed=8, reset_chance=0.002,
                down_chance=0.012)
    assert run.orphans > 15 and run.late_ends and run.dropped
    assert {Status.OK, Status.TIMEOUT} <= set(run.statuses)


def moving(*bursts: Burst, partition: int = 0, **options: Any) -> Message:
    return Message(partition=partition, bursts=list(bursts), **options)


def refused(status: Status, partition: int = 0) -> Message:
    return Message(kind=Kind.REFUSAL, status=status, partition=partition)


def test_write_error_wins_over_read_error_of_the_same_message() -> None:
    both = [moving(Burst(last=False, read_error=True, response=0), Burst(response=1)),
            moving(Burst(last=False, response=1), Burst(read_error=True), partition=1)]
    assert check(completion, CONFIGS["small"], both).statuses == [Status.WRITE_ERROR] * 2


def test_first_failed_burst_is_recorded() -> None:
    message = moving(Burst(address=0x40, last=False), Burst(address=0x80, last=False, response=1),
                     Burst(address=0xC0, response=1))
    assert check(completion, CONFIGS["small"], [message]).statuses == [Status.WRITE_ERROR]


@pytest.mark.parametrize("kind", [Kind.SEND, Kind.MVCL, Kind.MVXL])
def test_behind_a_failure_every_command_of_the_partition_is_aborted(kind: Kind) -> None:
    """Moves and refusals, also the very next ones; but not the end of a grant, and nothing of
    another partition or of the manager."""
    messages = [moving(Burst(response=1), kind=kind), moving(Burst(), kind=kind),
                refused(Status.DST_FULL), moving(Burst(response=1)), Message(kind=Kind.RELEASE),
                moving(Burst(), partition=1), moving(Burst(), kind=Kind.RAW)]
    run = check(completion, CONFIGS["large"], messages)
    assert run.statuses == [Status.WRITE_ERROR] + 3 * [Status.ABORTED] + 3 * [Status.OK]


@pytest.mark.parametrize("following", [
    refused(Status.DST_FULL), Message(kind=Kind.GRANT), moving(Burst()),
    moving(Burst(), kind=Kind.MVXL)], ids=lambda message: str(message.kind))
def test_the_next_command_may_end_as_soon_as_the_completion_of_a_failed_one_is_taken(
        following: Message) -> None:
    """It is in flight when the failure comes, and the completion is taken in its second cycle."""
    failing = moving(*(Burst(last=False) for _ in range(12)), Burst(response=1))
    run = check(completion, CONFIGS["large"], [failing, following, refused(Status.BAD_OP, 1)])
    assert run.statuses == [Status.WRITE_ERROR, Status.ABORTED, Status.BAD_OP]
    assert run.told_at[1] - run.told_at[0] == 3


def test_a_failure_of_the_managers_move_halts_nobody() -> None:
    messages = [moving(Burst(response=1), kind=Kind.RAW), moving(Burst()),
                moving(Burst(read_error=True), kind=Kind.RAW, partition=1),
                moving(Burst(), partition=1)]
    run = check(completion, CONFIGS["small"], messages)
    assert run.statuses == [Status.WRITE_ERROR, Status.OK, Status.READ_ERROR, Status.OK]


def test_end_without_response_waits_for_none() -> None:
    abandoned = [moving(Burst(response=None, read_error=True)),
                 moving(Burst(response=None), partition=1)]
    run = check(completion, CONFIGS["small"], abandoned)
    assert run.statuses == [Status.READ_ERROR, Status.OK]


def release_behind_an_orphan(module: Any) -> list[bool]:
    """An end of a grant comes at about the time at which the last orphan is through.

    Whether its cursor advances, for each of the delays between the two; if it does, it was told
    for two cycles in which nothing was released.
    """
    config = CONFIGS["small"]
    orphan = moving(Burst(), dst_id=1)
    following = Message(kind=Kind.RELEASE, partition=1, dst_id=2, count=5, next_position=9)
    end_at = 20
    advanced = []

    def run(proposed_at: int) -> None:
        unit = module.CompletionUnit(config)

        async def bench(ctx: Any) -> None:
            shown: list[tuple[int, int] | None] = []    # of `releases`; None: one was valid
            released = []
            ended = False
            ctx.set(unit.releases.ready, 1)
            ctx.set(unit.completions.ready, 1)
            ctx.set(unit.ends.payload, WriteEnd(config).const({"responds": 1, "last": 1}))
            for cycle in range(end_at + 20):
                for message, at in ((orphan, 2), (following, proposed_at)):
                    if cycle == at:
                        ctx.set(unit.proposed.payload, proposal(config, message))
                    if cycle == at + 1:
                        ctx.set(unit.accepted.payload, acceptance(message))
                ctx.set(unit.proposed.valid, cycle in (2, proposed_at))
                ctx.set(unit.accepted.valid, cycle in (3, proposed_at + 1))
                ctx.set(unit.down, cycle >= 4)
                ctx.set(unit.ends.valid, cycle >= end_at and not ended)
                ctx.set(unit.responses.valid, cycle >= end_at and not ended)
                _, _, taken, valid, release = await ctx.tick().sample(
                    unit.ends.ready, unit.releases.valid, unit.releases.payload)
                ended |= cycle >= end_at and bool(taken)
                warning = release.dst_id, release.count
                if valid:
                    released.append((release.dst_id, release.advance))
                    if release.advance:
                        assert shown[-2:] == [warning] * 2, "an advance without warning"
                shown.append(None if valid else warning)
            assert released in ([(1, 0), (2, 0)], [(1, 0), (2, 1)]), "an orphan's lock, and its own"
            advanced.append(released[1] == (2, 1))

        sim = Simulator(unit)
        sim.add_clock(1e-6)
        sim.add_testbench(bench)
        sim.run()

    for delay in range(-9, 6):
        run(end_at + delay)
    return advanced


def test_release_behind_an_orphan() -> None:
    """It ends late as well if it is there before the orphan is through, and well behind it."""
    advanced = release_behind_an_orphan(completion)
    assert not advanced[0] and advanced[-1] and advanced == sorted(advanced)


def test_planted_fault_behind_an_orphan() -> None:
    module = mutated(completion, "in_flight.o.valid & ~done & ~has_orphans",
                     "in_flight.o.valid & ~done")
    with pytest.raises(AssertionError, match="an advance without warning"):
        release_behind_an_orphan(module)


def check_everything(module: Any) -> None:
    """Random messages of every kind: alone, with resets, and with a memory that goes down.

    And one whose response is there before it is the oldest.
    """
    config = CONFIGS["small"]
    check(module, config, [moving(Burst())])
    messages = random_messages(config, 150, random.Random(5))
    check(module, config, messages, pace=0.7, seed=6)
    check(module, config, messages, pace=0.7, seed=6, reset_chance=0.01)
    check(module, config, messages, pace=1.0, seed=7, down_chance=0.02, reset_chance=0.01)
    check(module, config, messages, pace=0.7, seed=8, down_chance=0.02)


FAULTS = [
    ("response-not-awaited", "& (~end.responds | self.responses.valid)", "",
     "an end is taken without its response"),
    ("published-on-first-end", "with m.If(end.last):\n                            m.d.sync",
     "with m.If(1):\n                            m.d.sync", "before its last response"),
    ("response-awaited-always", "& (~end.responds | self.responses.valid)",
     "& self.responses.valid", "does not complete"),
    ("read-error-wins", "m.Elif(write_failed):", "m.Elif(write_failed & ~read_failed):",
     "the release is wrong|the status is wrong"),
    ("aborted-not", "with m.Elif(halted):", "with m.Elif(halted & moves):", "the status is wrong"),
    ("halted-too-late", "        m.d.sync += [\n            dropped.eq(self.resetting"
     ".bit_select(head.partition, 1) & (head.kind != Kind.RAW)),\n"
     "            halted.eq(self.halted",
     "        shown = Signal.like(self.halted)\n        m.d.sync += shown.eq(self.halted)\n"
     "        m.d.sync += [\n            dropped.eq(self.resetting"
     ".bit_select(head.partition, 1) & (head.kind != Kind.RAW)),\n"
     "            halted.eq(shown", "wrong"),
    ("end-of-a-grant-aborted", "(head.kind != Kind.RAW)\n"
     "                      & (head.kind != Kind.RELEASE))", "(head.kind != Kind.RAW))", "wrong"),
    ("managers-move-aborted", "(head.kind != Kind.RAW)\n"
     "                      & (head.kind != Kind.RELEASE))", "(head.kind != Kind.RELEASE))",
     "wrong"),
    ("cursor-after-failure", "published.eq(good & ~dropped &", "published.eq(~dropped &",
     "the release is wrong"),
    ("cursor-in-reset", "published.eq(good & ~dropped &", "published.eq(good &",
     "the release is wrong"),
    ("published-without-bytes", " & some_bytes.any())", ")", "the release is wrong"),
    ("bytes-of-the-lower-half", "some_bytes.any()", "some_bytes[0]", "the release is wrong"),
    ("bytes-of-the-upper-half", "some_bytes.any()", "some_bytes[1]", "the release is wrong"),
    ("cursor-of-mvcl", "advances.eq((head.kind == Kind.SEND)\n",
     "advances.eq((head.kind == Kind.SEND) | (head.kind == Kind.MVCL)\n",
     "the release is wrong"),
    ("cursor-without-count", "self.releases.payload.position.eq(head.next_position)",
     "self.releases.payload.position.eq(head.offset)", "the cursor is wrong"),
    ("error-kept", "                read_failed.eq(0),\n", "", "wrong"),
    ("write-error-kept", "                write_failed.eq(0),\n", "", "wrong"),
    ("last-failed-address", "with m.If(~write_failed):", "with m.If(1):", "first failed burst"),
    ("failed-although-halted", "is_command & ~dropped & ~halted & (status",
     "is_command & ~dropped & (status", "told wrongly"),
    ("failed-in-reset", "is_command & ~dropped & ~halted & (status",
     "is_command & ~halted & (status", "told wrongly"),
    ("managers-move-halts", "bus_failed.eq(is_command & ~dropped", "bus_failed.eq(~dropped",
     "told wrongly"),
    ("timeout-does-not-halt", "failed.eq(bus_failed | (is_command", "failed.eq(0 & (is_command",
     "told wrongly"),
    ("manager-in-reset", "(head.partition, 1) & (head.kind != Kind.RAW))", "(head.partition, 1))",
     "wrong"),
    ("completion-overwritten", "with m.If(~self.completions.valid):",
     "with m.If(1):", "a completion is overwritten"),
    ("released-without-handshake", "with m.If(~held | late | self.releases.ready):",
     "with m.If(1):", "behind its release|too many"),
    ("mvxl-releases", "self.releases.valid.eq(held & ~late)",
     "self.releases.valid.eq((held | moves) & ~late)", "a release too many"),
    ("orphan-releases-at-once", "self.releases.valid.eq(held & ~late)",
     "self.releases.valid.eq(held)", "before its last response|past an orphan"),
    ("write-error-late", "self.write_error.eq(1 << agent)",
     "self.write_error.eq(end.last << agent)", "goes with the response"),
    ("write-error-of-a-partition", "self.write_error.eq(1 << agent)",
     "self.write_error.eq(1 << head.partition)", "goes with the response"),
    ("managers-move-reported", "self.completions.valid.eq(~is_raw)",
     "self.completions.valid.eq(1)", "all but the manager's moves"),
    ("waited-lost", "report.waited.eq(head.waited)", "report.waited.eq(0)", "another command's"),
    ("reserved-by-mvxl", "report.reserved.eq(head.notify & held)",
     "report.reserved.eq(head.notify)", "what the completion means"),
    ("mvcl-not-notified", "report.arrived.eq(published | ((head.kind == Kind.MVCL)",
     "report.arrived.eq(published | (0", "what the completion means"),
    ("mvcl-not-counted", "report.sent.eq(published | ((head.kind == Kind.MVCL)",
     "report.sent.eq(published | (0", "counted as a message"),
    ("end-of-a-grant-a-command",
     "is_command.eq((head.kind != Kind.RAW) & (head.kind != Kind.RELEASE))",
     "is_command.eq(head.kind != Kind.RAW)", "wrong"),
    ("dropped-lost", "report.dropped.eq(dropped)", "report.dropped.eq(0)",
     "what the completion means"),
    ("moved-in-reset", "self.moved.good.eq(good & ~dropped)", "self.moved.good.eq(good)",
     "moved is wrong"),
    ("moved-although-failed", "self.moved.good.eq(good & ~dropped)",
     "self.moved.good.eq(~dropped)", "moved is wrong"),
    ("failure-without-event", "report.event.eq(head.event | ~good)",
     "report.event.eq(head.event)", "an event is due"),
    ("good-although-down", "good.eq(~timed_out & ",
     "good.eq(", "the release is wrong|what the completion means|an event is due|moved is wrong"),
    ("good-although-refused", " & ~refused),", "),", "an event is due"),
    ("good-although-a-read-failed", " & ~read_failed & ~refused", " & ~refused",
     "the release is wrong|what the completion means|an event is due|moved is wrong"),
    ("grant-not-first", "self.moved.first.eq(head.kind == Kind.GRANT)",
     "self.moved.first.eq(head.kind == Kind.MVXL)", "moved is wrong"),
    ("release-times-out-always", "timed_out.eq(self.down & (late | ~is_release))",
     "timed_out.eq(self.down)", "wrong"),
    ("only-orphans-time-out", "timed_out.eq(self.down & (late | ~is_release))",
     "timed_out.eq(self.down & late)", "wrong"),
    ("waits-for-the-memory", "with m.Elif(self.down):", "with m.Elif(0):",
     "not ended although|does not complete"),
    ("released-early", "(ripe | (head.kind == Kind.REFUSAL))", "(ripe | ~is_mover)",
     "an advance without warning"),
    ("moved-and-released-early", "with m.Elif(ripe & moves):",
     "with m.Elif(in_flight.o.valid & is_mover):", "an advance without warning"),
    ("ripe-before-it-is-there", "ripe.eq(in_flight.o.valid & ~done", "ripe.eq(~done",
     "an advance without warning"),
    ("ripe-as-the-one-before", "in_flight.o.valid & ~done & ~has_orphans",
     "in_flight.o.valid & ~has_orphans",
     "an advance without warning|write_error goes with|before its last response"),
    ("never-ripe", "ripe.eq(in_flight.o.valid", "ripe.eq(0 & in_flight.o.valid",
     "not ended although|does not complete"),
    ("end-of-a-grant-past-orphans", "late.eq(is_mover | is_holder)", "late.eq(is_mover)",
     "released past an orphan|told wrongly|the release is wrong|the status is wrong"),
    ("orphan-through-on-first-end", "with m.If(end.last):\n                            m.next",
     "with m.If(1):\n                            m.next", "settled|retired|a release too many"),
    ("orphan-through-without-release", "with m.If(~orphan_holds | self.releases.ready):",
     "with m.If(1):", "retired"),
    ("orphan-there-again", "orphans.o.valid & ~absorbed", "orphans.o.valid",
     "settled|retired|a release too many"),
    ("orphan-that-only-holds-waits", "orphan_moves.eq(oldest.moves)", "orphan_moves.eq(1)",
     "settled|retired|does not complete|before its last response"),
    ("orphan-always-holds", "orphan_holds.eq(oldest.holds)", "orphan_holds.eq(1)",
     "a release too many"),
    ("orphan-keeps-its-lock", "orphan_holds.eq(oldest.holds)", "orphan_holds.eq(0)", "retired"),
    ("orphan-retired-at-once", "retiring.eq((done & ~orphaned) | absorbed)",
     "retiring.eq(done | absorbed)", "retired is wrong"),
    ("settled-with-orphans", "self.settled.eq(~has_orphans)", "self.settled.eq(1)",
     "settled is wrong"),
    ("settled-with-the-last-but-one", "has_orphans.eq(orphan_count != 1)", "has_orphans.eq(0)",
     "settled|retired|does not complete|wrong|before its last response"),
    ("never-settled-again", "has_orphans.eq(orphan_count != 1)", "has_orphans.eq(1)",
     "settled is wrong"),
    ("orphan-not-announced", "with m.If(has_orphans):\n            m.d.comb",
     "with m.If(releasing_orphan):\n            m.d.comb", "a release without warning"),
    ("orphan-released-twice", 'absorbed.eq(1)\n                    m.next = "WAIT"',
     "absorbed.eq(1)", "releases in neighbouring cycles|retired twice"),
    ("moved-of-the-next", "self.moved.offset.eq(report.offset)",
     "self.moved.offset.eq(Mux(self.moved.en, report.offset, head.offset))",
     "moved does not stay"),
    ("completion-of-the-one-before", "self.oncoming.eq(head.partition)",
     "self.oncoming.eq(report.partition)", "a completion without warning"),
    ("refused-too-late", "refused.eq(head.status != Status.OK)",
     "refused.eq(in_flight.o.ready & (head.status != Status.OK))", "an event is due"),
]


def list_all(module: Any, depth: int, *, drained: float, number: int = 200, seed: int = 0) -> None:
    """Proposals, of which some are accepted, through the list; never more than it may hold.

    `drained`: the chance of a transfer out of it in a cycle.
    """
    config = CONFIGS["small"]
    unit = module.InFlightList(config, depth=depth)
    dice = random.Random(seed)
    messages = random_messages(config, number, dice)

    async def bench(ctx: Any) -> None:
        offered = out = cycle = 0
        last_out = -2
        pending: bool | None = None
        came: deque[int] = deque()      # cycles in which those inside were accepted
        while out < number:
            following = messages[offered] if offered < number else None
            accept = bool(pending)
            ctx.set(unit.accepted.valid, accept)
            ctx.set(unit.accepted.payload, acceptance(following) if accept else Acceptance().const(
                {"kind": Kind.RAW, "status": Status.BAD_OP, "next_position": 0x5555}))
            # The memory has one row fewer than it could hold: a proposal may be refused.
            pending = (following is not None and len(came) < depth + 1 and dice.random() < 0.7
                       if pending is None and dice.random() < 0.8 else None)
            ctx.set(unit.proposed.valid, pending is not None)
            ctx.set(unit.proposed.payload, proposal(config, following) if pending
                    else Proposal(config).from_bits(dice.getrandbits(Proposal(config).size)))
            ready = dice.random() < drained
            ctx.set(unit.o.ready, ready)
            _, _, valid, shown = await ctx.tick().sample(unit.o.valid, unit.o.payload)
            if valid:
                assert came, "nothing was accepted"
                message = messages[out]
                told = (*TOLD, "notify", "kind", "status")
                if message.kind is not Kind.REFUSAL:
                    told = (*told, "next_position")
                assert all(shown[name] == getattr(message, name) for name in told), "another one"
                if ready:
                    out += 1
                    last_out = cycle
                    came.popleft()
            elif came:
                assert cycle - came[0] < 3 or cycle - last_out < 2, "shows too late"
            if accept:
                offered += 1
                came.append(cycle)
            cycle += 1

    sim = Simulator(unit)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()


@pytest.mark.parametrize("depth", [2, 4, 8])
@pytest.mark.parametrize("drained", [1.0, 0.3, 0.1])
def test_list_of_what_is_in_flight(depth: int, drained: float) -> None:
    list_all(completion, depth, drained=drained)


@pytest.mark.parametrize(("old", "new", "expected"), [
    ("m.d.sync += written.eq(written + self.accepted.valid)",
     "m.d.sync += written.eq(written + self.proposed.valid)", "nothing was|another one"),
    ("(written != read) & ~fetched", "written != read", "another one|nothing was"),
    ("(written != read) & ~fetched", "(written != read) & ~fetched & ~self.o.valid",
     "shows too late"),
    ("self.o.payload.kind == Kind.REFUSAL, self.o.payload.next_position", "0, 0", "another one"),
    ("self.o.payload.kind == Kind.REFUSAL, self.o.payload.next_position",
     "1, self.o.payload.next_position", "another one"),
    ("self.o.payload.kind == Kind.REFUSAL, self.o", "acceptance.kind == Kind.REFUSAL, self.o",
     "another one"),
    ("accepted.status, accepted.next_position", "accepted.status, accepted.status", "another one"),
    ("write.addr.eq(written)", "write.addr.eq(written & ~1)", "another one"),
], ids=["proposals-count", "overrun", "slow", "without-status", "status-of-a-position",
        "status-by-the-kind-of-the-next",
        "without-position", "rows"])
def test_planted_fault_in_the_list(old: str, new: str, expected: str) -> None:
    module = mutated(completion, old, new)
    with pytest.raises(AssertionError, match=expected):
        for drained in (1.0, 0.1):
            list_all(module, 4, drained=drained)


def test_planted_fault_in_the_size_of_the_list() -> None:
    """As many as there may be: all commands, the ends of all grants, and a move of the manager."""
    config = CONFIGS["small"]
    messages = [moving(*[Burst(last=False)] * 30, Burst())]
    messages += [Message(kind=Kind.REFUSAL, status=Status.BAD_OP, tag=tag)
                 for tag in range(1, config.messages_in_flight)]
    messages += [Message(kind=Kind.RELEASE, partition=p) for p in range(config.partitions)]
    messages += [moving(Burst(), kind=Kind.RAW)]
    check(completion, config, messages)
    module = mutated(completion, "InFlightList(config, depth=depth)",
                     "InFlightList(config, depth=depth // 2)")
    with pytest.raises(AssertionError, match="another command's|completions has all"):
        check(module, config, messages)


def test_planted_fault_in_the_size_of_the_orphans() -> None:
    """More ends of grants than messages may be behind orphans."""
    config = CONFIGS["crowd"]
    messages = [moving(Burst(), partition=p) for p in range(config.messages_in_flight)]
    messages += [Message(kind=Kind.RELEASE, partition=p) for p in range(config.partitions)]
    assert check(completion, config, messages, seed=1, down_chance=1.0).late_ends
    module = mutated(completion, "orphan, depth=depth,",
                     "orphan, depth=2 * config.messages_in_flight,")
    with pytest.raises(AssertionError, match="settled|retired|does not complete"):
        check(module, config, messages, seed=1, down_chance=1.0)


@pytest.mark.parametrize(("name", "old", "new", "expected"), FAULTS,
                         ids=[fault[0] for fault in FAULTS])
def test_planted_fault(name: str, old: str, new: str, expected: str) -> None:
    with pytest.raises(AssertionError, match=expected):
        check_everything(mutated(completion, old, new))
