# SPDX-License-Identifier: Apache-2.0
"""The completion unit against a model: order, exactly one each, nothing before its responses."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from amaranth.sim import Simulator

from formal.mutants import mutated
from mvxl import completion
from mvxl.config import OFFSET_BITS, AdapterConfig
from mvxl.messages import InFlight, Status, WriteEnd

CONFIGS = {
    "small": AdapterConfig(
        partitions=2, entries=4, data_bits=32, burst_beats=4, reads_in_flight=2,
        writes_in_flight=2, messages_in_flight=4, command_queue_depth=2, data_queue_beats=16),
    "large": AdapterConfig(
        partitions=5, entries=128, data_bits=64, address_bits=40, messages_in_flight=16),
}


@dataclass
class Burst:
    """A `WriteEnd`, and the error bit of its response (None: there is none)."""

    address: int = 0
    last: bool = True
    read_error: bool = False
    response: int | None = 0


@dataclass
class Message:
    """An accepted command; `bursts` is empty if it was refused."""

    partition: int = 0
    tag: int = 0
    event: int = 0
    notify: int = 0
    status: Status = Status.OK
    dst_id: int = 0
    receiver: int = 0
    offset: int = 0
    count: int = 1
    bursts: list[Burst] = field(default_factory=list)

    @property
    def write_failures(self) -> list[int]:
        """Addresses of the bursts whose responses were errors."""
        return [burst.address for burst in self.bursts if burst.response]

    def outcome(self, halted: bool) -> tuple[Status, bool]:
        """How it ends, and whether that is a failure which halts its partition."""
        if halted:
            return Status.ABORTED, False
        if self.write_failures:
            return Status.WRITE_ERROR, True
        if any(burst.read_error for burst in self.bursts):
            return Status.READ_ERROR, True
        return self.status, False


def random_messages(config: AdapterConfig, number: int, dice: random.Random) -> list[Message]:
    """Messages of every kind; one in ten fails, one in four is refused."""
    messages = []
    for tag in range(number):
        message = Message(
            partition=dice.randrange(config.partitions), tag=tag & 255, event=dice.randrange(2),
            notify=dice.randrange(2), dst_id=dice.randrange(config.entries),
            receiver=dice.randrange(config.partitions),
            offset=dice.choice((0, 64, (1 << OFFSET_BITS) - 4096)), count=dice.randint(1, 4095))
        if dice.random() < 0.25:
            message.status = dice.choice(
                (Status.BAD_OP, Status.SRC_FAULT, Status.DST_FULL, Status.CANCELLED,
                 Status.ABORTED))
            messages.append(message)
            continue
        kind = dice.choice((None,) * 7 + ("read", "write", "both"))
        length = dice.randint(1, 4)
        for index in range(length):
            hit = dice.random() < 0.5 or index == length - 1
            message.bursts.append(Burst(
                address=dice.randrange(1 << config.address_bits) & -4,
                last=index == length - 1,
                read_error=hit and kind in ("read", "both"),
                response=int(hit and kind in ("write", "both"))))
        # Where a message is abandoned, its end comes without a response.
        if kind is not None and dice.random() < 0.5:
            message.bursts[-1].last = False
            message.bursts.append(Burst(last=True, read_error=kind != "write", response=None))
        messages.append(message)
    return messages


def check(module: Any, config: AdapterConfig, messages: list[Message], *, pace: float = 1.0,
          seed: int = 0) -> list[Status]:
    """Run `messages` through the unit of `module`; every output is compared in every cycle.

    `pace` is the chance of a transfer of each stream in a cycle. Returns the statuses.
    """
    unit = module.CompletionUnit(config)
    dice = random.Random(seed)
    statuses: list[Status] = []

    async def bench(ctx: Any) -> None:
        offered = 0                             # messages accepted
        ends = [burst for message in messages for burst in message.bursts]
        owners = [index for index, message in enumerate(messages) for _ in message.bursts]
        ended = answered = 0                    # of `ends`: taken
        shown = 0                               # of `ends`: offered
        through = [0] * len(messages)           # bursts of each message that are through
        halted = [False] * config.partitions
        released = completed = 0
        released_now = respond = False
        open_completion = False
        fault_due: tuple[Any, ...] | None = None
        moved = [index for index, message in enumerate(messages) if message.bursts]
        quiet = cycle = 0
        while quiet < 10:
            cycle += 1
            assert cycle < 200 + 60 * len(messages), "a command does not complete"
            accept = (offered < len(messages) and dice.random() < pace
                      and offered - completed < config.messages_in_flight)
            ctx.set(unit.accepted.valid, accept)
            if accept:
                message = messages[offered]
                ctx.set(unit.accepted.payload, InFlight(config).const({
                    name: getattr(message, name) for name in
                    ("partition", "tag", "event", "notify", "status", "dst_id", "receiver",
                     "offset", "count")}))
            # An end, and its response, come at the earliest with the message's acceptance.
            showing = shown > ended
            if not showing and shown < len(ends) and owners[shown] < offered + accept:
                showing = dice.random() < pace
                shown += showing
            ctx.set(unit.ends.valid, showing)
            if showing:
                burst = ends[ended]
                ctx.set(unit.ends.payload, WriteEnd(config).const({
                    "responds": burst.response is not None, "last": burst.last,
                    "read_error": burst.read_error, "address": burst.address}))
            responding = [index for index in range(answered, len(ends))
                          if ends[index].response is not None and owners[index] < offered]
            respond = respond or bool(responding) and dice.random() < pace
            ctx.set(unit.responses.valid, respond)
            if respond:
                ctx.set(unit.responses.payload, ends[responding[0]].response)
            ctx.set(unit.releases.ready, dice.random() < pace)
            ctx.set(unit.completions.ready, dice.random() < pace)
            ctx.set(unit.halted, sum(bit << p for p, bit in enumerate(halted)))
            (_, _, end_taken, taken, release_valid, release_ready, release, valid, ready, report,
             told, write_error, fault) = await ctx.tick().sample(
                unit.ends.ready, unit.responses.ready, unit.releases.valid,
                unit.releases.ready, unit.releases.payload, unit.completions.valid,
                unit.completions.ready, unit.completions.payload, unit.completed,
                unit.write_error, unit.fault)
            offered += accept

            # Responses, and what is said of their errors.
            expected_error = 0
            if respond and taken:
                index = responding[0]
                answered = index + 1
                if ends[index].response:
                    expected_error = 1 << messages[owners[index]].partition
            assert write_error == expected_error, "write_error goes with the response"
            if showing and end_taken:
                assert ends[ended].response is None or (respond and taken), \
                    "an end is taken without its response"
                through[owners[ended]] += 1
                ended += 1
            respond = respond and not taken

            # Completions: told once, in order, in the first cycle in which they are valid.
            if valid and not open_completion:
                message = messages[completed]
                status, failed = message.outcome(halted[message.partition])
                assert through[completed] == len(message.bursts), \
                    "completed before its last response"
                if message.bursts:
                    assert released_now, "completed in another cycle than behind its release"
                assert (report.partition, report.tag, report.event, report.notify, report.moved,
                        report.dst_id, report.receiver, report.offset, report.count) == (
                    message.partition, message.tag, message.event, message.notify,
                    bool(message.bursts), message.dst_id, message.receiver, message.offset,
                    message.count), "the completion is another command's"
                assert report.status == status, "the status is wrong"
                assert told.en, "completed is not told"
                assert (told.partition, told.failed) == (message.partition, failed), \
                    "completed is told wrongly"
                assert fault.en == failed, "a fault record for each failure, and for no other"
                if failed:
                    fault_due = (message.partition, status, status == Status.WRITE_ERROR)
                    assert (fault.partition, fault.status, fault.write) == fault_due, \
                        "the fault record is wrong"
                    if message.write_failures:
                        assert fault.address == message.write_failures[0], \
                            "the fault record's address is not the first failed burst's"
                    halted[message.partition] = True
                statuses.append(status)
                completed += 1
            else:
                assert not told.en, "completed is told twice"
                assert not fault.en, "a fault is recorded twice"
            open_completion = bool(valid and not ready)

            # Releases: one for each message that moved, never before its last response.
            released_now = False
            if release_valid:
                assert released < len(moved), "a release too many"
                message = messages[moved[released]]
                assert through[moved[released]] == len(message.bursts), \
                    "released before its last response"
                status, _ = message.outcome(halted[message.partition])
                assert (release.dst_id, release.advance) == (
                    message.dst_id, status == Status.OK), "the release is wrong"
                if release.advance:
                    assert release.cursor == (message.offset + message.count) % (
                        1 << OFFSET_BITS), "the cursor is wrong"
                if release_ready:
                    released += 1
                    released_now = True

            # RESUME, once nothing of the partition is in flight.
            for p in range(config.partitions):
                if halted[p] and dice.random() < 0.2 and not any(
                        message.partition == p for message in messages[completed:offered]):
                    halted[p] = False
            quiet = quiet + 1 if completed == len(messages) else 0
        assert released == len(moved)
        assert (ended, answered) == (len(ends), answered)

    sim = Simulator(unit)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    return statuses


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("pace", [1.0, 0.7, 0.2])
def test_random_messages(name: str, pace: float) -> None:
    config = CONFIGS[name]
    messages = random_messages(config, 250, random.Random(3))
    statuses = check(completion, config, messages, pace=pace, seed=4)
    assert {Status.OK, Status.READ_ERROR, Status.WRITE_ERROR, Status.ABORTED,
            Status.DST_FULL} <= set(statuses)


def moving(*bursts: Burst, partition: int = 0, **options: Any) -> Message:
    return Message(partition=partition, bursts=list(bursts), **options)


def test_write_error_wins_over_read_error_of_the_same_message() -> None:
    both = [moving(Burst(last=False, read_error=True, response=0), Burst(response=1)),
            moving(Burst(last=False, response=1), Burst(read_error=True), partition=1)]
    assert check(completion, CONFIGS["small"], both) == [Status.WRITE_ERROR] * 2


def test_first_failed_burst_is_recorded() -> None:
    message = moving(Burst(address=0x40, last=False), Burst(address=0x80, last=False, response=1),
                     Burst(address=0xC0, response=1))
    assert check(completion, CONFIGS["small"], [message]) == [Status.WRITE_ERROR]


def test_behind_a_failure_everything_of_the_partition_is_aborted() -> None:
    """Moves and refusals, also the very next ones; of another partition nothing is."""
    messages = [moving(Burst(response=1)), moving(Burst()), Message(status=Status.DST_FULL),
                moving(Burst(response=1)), moving(Burst(), partition=1)]
    statuses = check(completion, CONFIGS["large"], messages)
    assert statuses == [Status.WRITE_ERROR] + 3 * [Status.ABORTED] + [Status.OK]


def test_end_without_response_waits_for_none() -> None:
    abandoned = [moving(Burst(response=None, read_error=True)),
                 moving(Burst(response=None), partition=1)]
    assert check(completion, CONFIGS["small"], abandoned) == [Status.READ_ERROR, Status.OK]


FAULTS = [
    ("response-not-awaited", "& (~end.responds | self.responses.valid)", "",
     "an end is taken without its response"),
    ("published-on-first-end", "with m.If(end.last):", "with m.If(1):", "before its last response"),
    ("response-awaited-always", "& (~end.responds | self.responses.valid)",
     "& self.responses.valid", "does not complete"),
    ("read-error-wins", "m.Elif(write_failed):", "m.Elif(write_failed & ~read_failed):",
     "the release is wrong|the status is wrong"),
    ("aborted-not", "with m.If(halted):", "with m.If(halted & moved):", "the status is wrong"),
    ("cursor-after-failure", "published.eq(moved & (status == Status.OK))", "published.eq(moved)",
     "the release is wrong"),
    ("cursor-without-count", "cursor.eq(head.offset + head.count)", "cursor.eq(head.offset)",
     "the cursor is wrong"),
    ("error-kept", "                read_failed.eq(0),\n", "", "wrong"),
    ("write-error-kept", "                write_failed.eq(0),\n", "", "wrong"),
    ("last-failed-address", "with m.If(~write_failed):", "with m.If(1):", "first failed burst"),
    ("failed-although-halted", "failed.eq(~halted & (", "failed.eq((", "told wrongly"),
    ("completion-overwritten", "with m.If(~self.completions.valid):",
     "with m.If(1):", "told twice|another command"),
    ("released-without-handshake", "with m.If(~moved | self.releases.ready):", "with m.If(1):",
     "behind its release|too many"),
    ("refused-releases", "self.releases.valid.eq(moved)", "self.releases.valid.eq(1)",
     "release too many|the release is wrong|before its last"),
    ("write-error-late", "self.write_error.eq(1 << head.partition)",
     "self.write_error.eq(end.last << head.partition)", "goes with the response"),
    ("moved-lost", "report.moved.eq(moved)", "report.moved.eq(published)", "another command's"),
]


@pytest.mark.parametrize(("name", "old", "new", "expected"), FAULTS,
                         ids=[fault[0] for fault in FAULTS])
def test_planted_fault(name: str, old: str, new: str, expected: str) -> None:
    config = CONFIGS["small"]
    messages = random_messages(config, 120, random.Random(5))
    with pytest.raises(AssertionError, match=expected):
        check(mutated(completion, old, new), config, messages, pace=0.7, seed=6)
