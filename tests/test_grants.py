# SPDX-License-Identifier: Apache-2.0
"""The grant unit: tokens, leases, revokes, ends, and what counts as acknowledged."""

from __future__ import annotations

import itertools
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator

from formal.mutants import mutated
from mvxl import grants
from mvxl.config import AdapterConfig
from mvxl.messages import GrantKind

CONFIGS = {
    "one": AdapterConfig(
        partitions=1, entries=4, data_bits=32, burst_beats=4, reads_in_flight=2,
        writes_in_flight=2, messages_in_flight=4, data_queue_beats=16),
    "three": AdapterConfig(partitions=3, entries=16, messages_in_flight=4),
    "five": AdapterConfig(partitions=5, entries=128, address_bits=40, messages_in_flight=8),
}

ENGINE, CPU = GrantKind.ENGINE, GrantKind.CPU
SRC, DST, OTHER = 1, 2, 3
TOP = (1 << 32) - 64


class Driver:
    """Does what the other units do to the unit, one thing a cycle; counts cycles and lapses.

    `reset` resets the unit while it is 1.
    """

    def __init__(self, unit: Any, ctx: Any, reset: Signal) -> None:
        self.unit = unit
        self.ctx = ctx
        self.reset = reset
        self.config = unit.config
        self.now = 0
        self.lapses: list[int] = []
        self.pulsed: list[Any] = []
        self.target: dict[str, int] | None = None   # of the grant that is given
        # What of `moved`, and of the grant that is given, is there in the cycle behind.
        self.lasting: dict[str, int] | None = None
        self.given: dict[str, int] | None = None
        self.hidden = self.still_hidden = 0     # due in this cycle, and in the next one besides
        self.fresh_before = 0   # in the cycle before

    async def cycle(self, cycles: int = 1) -> None:
        for _ in range(cycles):
            _, _, lapsed, give, hidden, self.fresh_before = await self.ctx.tick().sample(
                self.unit.lapsed, self.unit.give, self.unit.hidden, self.unit.fresh)
            assert hidden == self.hidden, "hidden behind a new grant"
            given = give.en << give.partition
            self.hidden, self.still_hidden = given | self.still_hidden, given
            if self.ctx.get(self.reset):
                self.hidden = self.still_hidden = 0
            if lapsed.en:
                self.lapses.append(lapsed.partition)
            self.now += 1
            for signal in self.pulsed:
                self.ctx.set(signal, {})
            self.pulsed = []
            # Besides what it has to keep for a cycle, it is anything.
            self.ctx.set(self.unit.moved, self.lasting or {
                "partition": 0, "first": 1, "good": 1, "offset": 0, "count": TOP})
            self.lasting = None
            if self.given is not None:
                self.ctx.set(self.unit.give.grant, self.given)
            self.given = None
            self.ctx.set(self.unit.target, self.target or {"address": 0xBAD, "first": 0xBAD})
            self.target = None

    def pulse(self, name: str, partition: int = 0, **fields: Any) -> None:
        """In the cycle that comes."""
        signal = getattr(self.unit, name)
        fields |= {"id": partition} if name == "revoke" else {"partition": partition}
        self.ctx.set(signal, {"en": 1, **fields})
        if name == "moved":
            self.lasting = {"partition": 0, "first": 1 - fields.get("first", 0), "good": 1,
                            "offset": fields.get("offset", 0), "count": TOP}
        elif name == "give":
            stays = {key: fields["grant"].get(key, 0) for key in ("receiver", "src_address")}
            self.given = {"kind": 1, "src_id": 3, "dst_id": 3, "token": 0xBAD, "notify": 1,
                          "tag": 0xBA, "position": 0xBAD, "count": 0xBAD} | stays
        self.pulsed.append(signal)

    def look(self, partition: int) -> None:
        """The front end looks at the partition from now on; the next cycle is the first one."""
        self.ctx.set(self.unit.partition, partition)

    def give(self, partition: int = 0, kind: GrantKind = ENGINE, *, src_id: int = SRC,
             dst_id: int = DST, **grant: Any) -> None:
        """To a partition that has been looked at."""
        self.target = grant.pop("target", None)
        self.pulse("give", partition, grant={
            "kind": kind, "src_id": src_id, "dst_id": dst_id, "token": 0xDEAD, **grant})

    async def granted(self, partition: int = 0, kind: GrantKind = ENGINE, **fields: Any) -> None:
        """A grant whose GRANT is through; it is given in the third cycle."""
        self.look(partition)
        await self.cycle(2)
        self.give(partition, kind, **fields)
        await self.cycle()
        await self.through(partition, first=1, good=1, count=100)

    async def through(self, partition: int = 0, **fields: int) -> None:
        """Something of it is through, and has had its effect."""
        self.pulse("moved", partition, **fields)
        await self.cycle(3)

    async def gone(self, partition: int = 0) -> None:
        """Its end is decided, and then through."""
        self.pulse("leave", partition)
        await self.cycle()
        self.pulse("left", partition)
        await self.cycle()

    async def looked_up(self, partition: int, releasing: int = 1) -> Any:
        """(grant, limit, moving) for the front end: the grant two cycles later, the rest three."""
        get, unit = self.ctx.get, self.unit
        self.look(partition)
        self.ctx.set(unit.releasing, releasing)
        await self.cycle(2)
        grant = get(unit.grant)
        await self.cycle()
        assert grant == get(unit.grant), "the record, two cycles later"
        return grant, get(unit.limit), get(unit.moving)

    async def shown(self, partition: int) -> Any:
        """(grant, target), two cycles later."""
        self.ctx.set(self.unit.reader, partition)
        await self.cycle(2)
        return self.ctx.get(self.unit.shown), self.ctx.get(self.unit.shown_target)

    async def shown_acknowledged(self, partition: int) -> int:
        """What is known to be acknowledged: nothing, if its GRANT is not through.

        It is there at once if the reader is at that partition.
        """
        if self.ctx.get(self.unit.reader) != partition:
            self.ctx.set(self.unit.reader, partition)
            await self.cycle(2)
        if self.fresh_before >> partition & 1:
            return 0
        return self.ctx.get(self.unit.shown_acknowledged)

    def state(self, partition: int = 0) -> str:
        """What the partition's grant is: one of live, expired, ending, held (besides), free."""
        bits = {name: self.ctx.get(getattr(self.unit, name)) >> partition & 1
                for name in ("live", "expired", "ending", "held")}
        assert bits["live"] + bits["expired"] + bits["ending"] <= 1, "in two states at once"
        assert bits["held"] or not any(bits.values()), "not held"
        return next((name for name, bit in bits.items() if bit), "free")

    def busy(self, partition: int = 0) -> int:
        return self.ctx.get(self.unit.busy) >> partition & 1


def simulate(bench: Callable[[Driver], Awaitable[None]], name: str, *, module: Any = grants,
             ) -> None:
    unit = module.GrantUnit(CONFIGS[name])
    reset = Signal()

    async def testbench(ctx: Any) -> None:
        await bench(Driver(unit, ctx, reset))

    sim = Simulator(ResetInserter(reset)(unit))
    sim.add_clock(1e-6)
    sim.add_testbench(testbench)
    sim.run()


@pytest.fixture(params=CONFIGS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def tokens(unit: Driver) -> None:
    """Each partition's own, from 1 on, one more each time, however the last grant ended."""
    everyone = range(unit.config.partitions)
    for number in range(1, 7):
        for p in everyone:
            kind = (ENGINE, CPU)[(p + number) % 2]
            target = {"address": 0x1000 + p, "first": 5 + p, "next": number << 6}
            await unit.granted(
                p, kind, tag=number, count=100 + p, src_id=p % 4, dst_id=(p + number) % 4,
                src_address=number << 8, position=number << 9, receiver=p, notify=p % 2,
                target=target)
            assert unit.state(p) == "live"
            if number == 3:
                unit.ctx.set(unit.unit.force, 1 << p)
                await unit.cycle()
                unit.ctx.set(unit.unit.force, 0)
        for p in everyone:
            kind = (ENGINE, CPU)[(p + number) % 2]
            for releasing in (1, 0):
                grant, limit, _ = await unit.looked_up(p, releasing)
                assert grant.token == number, "the token"
                assert limit == (0 if kind is ENGINE and releasing else 100 + p), "the limit"
            unit.look((p + 1) % unit.config.partitions)
            shown, target = await unit.shown(p)
            assert (grant.tag, grant.count, grant.position, grant.receiver, grant.notify) == (
                number, 100 + p, number << 9, p, p % 2), "the record"
            for one in (grant, shown):
                assert (one.token, one.src_address, one.dst_id) == (
                    number, number << 8, (p + number) % 4), "the record"
            assert (target.address, target.first, target.next) == (
                0x1000 + p, 5 + p, number << 6), "the target"
            await unit.gone(p)
            assert unit.state(p) == "free"
            assert (await unit.looked_up(p))[0].token == number, "the last grant is forgotten"


def test_tokens(name: str) -> None:
    simulate(tokens, name)


async def shown_from_the_next_cycle_on(unit: Driver) -> None:
    """A new grant is shown as soon as it is not hidden any more."""
    for number in (1, 2):
        for p in range(unit.config.partitions):
            unit.ctx.set(unit.unit.reader, p)
            unit.look(p)
            await unit.cycle(3)
            unit.give(p, src_address=number, receiver=p, target={"address": 5 + number})
            # The last cycle in which it is hidden, and the first one in which it is read.
            await unit.cycle(4)
            shown, target = unit.ctx.get(unit.unit.shown), unit.ctx.get(unit.unit.shown_target)
            assert (shown.token, shown.src_address, target.address) == (
                number, number, 5 + number), "the record"
            await unit.through(p, first=1, good=1)
            await unit.gone(p)


def test_a_new_grant_is_shown(name: str) -> None:
    simulate(shown_from_the_next_cycle_on, name)


async def shown_in_turn(unit: Driver) -> None:
    """What is shown is of the reader of two cycles before, whoever it was in the next one."""
    dice = random.Random(1)
    everyone = range(unit.config.partitions)
    for p in everyone:
        await unit.granted(p, src_address=0x100 + p, dst_id=p % 4, target={"address": 0x200 + p})
        unit.pulse("started", p)
        await unit.cycle()
        await unit.through(p, good=1, count=10 + p)
    readers = [dice.choice(everyone) for _ in range(2)]
    for cycle in range(40):
        if cycle >= 2:
            p = readers[-2]
            shown, target = unit.ctx.get(unit.unit.shown), unit.ctx.get(unit.unit.shown_target)
            assert (shown.token, shown.src_address, shown.dst_id) == (1, 0x100 + p, p % 4), \
                "the record"
            assert target.address == 0x200 + p, "the target"
            assert unit.ctx.get(unit.unit.shown_acknowledged) == 10 + p, "acknowledged"
        readers.append(dice.choice(everyone))
        unit.ctx.set(unit.unit.reader, readers[-1])
        await unit.cycle()


def test_readers_change_in_every_cycle(name: str) -> None:
    simulate(shown_in_turn, name)


async def tokens_after_reset(unit: Driver) -> None:
    """They go on, so that no late one is valid; nothing else of a grant stays."""
    everyone = range(unit.config.partitions)
    for number in range(1, 4):
        for p in everyone:
            await unit.granted(p)
        unit.pulse("started")
        await unit.cycle()
        unit.ctx.set(unit.reset, 1)
        await unit.cycle()
        unit.ctx.set(unit.reset, 0)
        for p in everyone:
            assert (unit.state(p), unit.busy(p)) == ("free", 0), "outlives the reset"
            assert (await unit.looked_up(p))[0].token == number, "the token"


def test_tokens_go_on_over_a_reset(name: str) -> None:
    simulate(tokens_after_reset, name)


async def states(unit: Driver) -> None:
    """From its decision until its end is through a grant is held; others are not touched."""
    everyone = range(unit.config.partitions)
    for p, kind in itertools.product(everyone, GrantKind):
        others = [unit.state(q) for q in everyone if q != p]
        assert unit.state(p) == "free"
        unit.ctx.set(unit.unit.force, 1 << p)       # nothing is forced of one that has none
        await unit.cycle(2)
        unit.ctx.set(unit.unit.force, 0)
        await unit.cycle(2)
        assert unit.state(p) == "free", "an end of nothing"
        await unit.granted(p, kind)
        unit.pulse("leave", p)
        await unit.cycle()
        assert unit.state(p) == "held", "still live after its end"
        unit.pulse("left", p)
        await unit.cycle()
        assert unit.state(p) == "free"
        await unit.granted(p, kind)
        unit.ctx.set(unit.unit.force, 1 << p)
        await unit.cycle()
        unit.ctx.set(unit.unit.force, 0)
        assert unit.state(p) == "ending", "not forced"
        await unit.cycle(20)
        assert unit.state(p) == "ending"
        unit.pulse("leave", p)
        await unit.cycle()
        assert unit.state(p) == "held"
        await unit.cycle(20)
        assert unit.state(p) == "held", "free before its end is through"
        unit.pulse("left", p)
        await unit.cycle()
        assert unit.state(p) == "free"
        # A GRANT that is refused on its way, or dropped, leaves nothing behind.
        unit.give(p, kind)
        await unit.cycle()
        assert unit.state(p) == "live"
        await unit.through(p, first=1, good=0)
        assert unit.state(p) == "ending", "a GRANT that failed stays"
        await unit.gone(p)
        assert [unit.state(q) for q in everyone if q != p] == others
        if kind is CPU:
            await unit.granted(p, kind)     # which stays
    assert unit.lapses == []


def test_states(name: str) -> None:
    simulate(states, name)


async def leases(unit: Driver) -> None:
    """Not before the lease has passed, and soon after, from the GRANT's decision on."""
    after = set()
    late = unit.config.partitions + 4
    for lease, kind, phase in itertools.product((7, 30, 31), GrantKind, range(5)):
        p = phase % unit.config.partitions
        await unit.cycle(phase)
        unit.ctx.set(unit.unit.lease, lease)
        unit.lapses.clear()
        start = unit.now + 2        # the cycle in which it is given
        await unit.granted(p, kind)
        while unit.state(p) == "live":
            assert unit.now - start <= lease + late, "the lease does not end"
            await unit.cycle()
        passed = unit.now - start
        assert lease <= passed <= lease + late, "the lease is not exact"
        after.add(passed - lease)
        assert unit.state(p) == ("ending" if kind is ENGINE else "expired"), "lapsed to"
        await unit.cycle(2 * lease)
        assert unit.state(p) == ("ending" if kind is ENGINE else "expired"), "does not stay"
        assert unit.lapses == [p], "told once"
        if kind is CPU:
            unit.ctx.set(unit.unit.force, 1 << p)
            await unit.cycle()
            unit.ctx.set(unit.unit.force, 0)
            assert unit.state(p) == "ending", "expired and not forced"
        await unit.gone(p)
    assert len(after) >= min(3, unit.config.partitions)
    # None at all.
    unit.ctx.set(unit.unit.lease, 0)
    unit.lapses.clear()
    await unit.granted()
    await unit.cycle(100)
    assert unit.state() == "live" and unit.lapses == [], "a lease of 0 ends"
    # A new one counts for grants that are there.
    unit.ctx.set(unit.unit.lease, 100)
    await unit.cycle(late)
    assert unit.state() == "ending"


def test_lease(name: str) -> None:
    simulate(leases, name)


async def held_off(unit: Driver) -> None:
    """As long as the GRANT or an MVXL is in flight the lease does not end; then it does soon."""
    p = unit.config.partitions - 1
    late = unit.config.partitions + 4
    for kind in GrantKind:
        unit.ctx.set(unit.unit.lease, 10)
        await unit.cycle(2)
        unit.ctx.set(unit.unit.partition, p)
        unit.give(p, kind)
        await unit.cycle()
        assert unit.busy(p), "its GRANT is in flight"
        await unit.cycle(50)
        assert unit.state(p) == "live", "ended with its GRANT in flight"
        for _ in range(2):
            unit.pulse("started", p)
            await unit.cycle()
        unit.pulse("moved", p, first=1, good=1)
        await unit.cycle(20)
        for late_cycles in (1, 2):      # one comes, one goes
            unit.pulse("moved", p, good=1, count=5)
            await unit.cycle(late_cycles)
            unit.pulse("started", p)
            await unit.cycle(20)
        unit.pulse("moved", p, good=0, count=5)
        await unit.cycle(20)
        assert unit.busy(p) and unit.state(p) == "live", "ended with an MVXL in flight"
        if p:
            unit.pulse("moved", 0, good=1, count=5)     # another's
            unit.pulse("started", 0)
            await unit.cycle(20)
            assert unit.busy(p) and not unit.busy(0), "an MVXL of another partition"
        await unit.through(p, good=1, offset=5, count=5)
        assert not unit.busy(p) and unit.state(p) == "live"
        await unit.cycle(late)
        assert unit.state(p) == ("ending" if kind is ENGINE else "expired"), "held off for ever"
        unit.ctx.set(unit.unit.force, 1 << p)
        await unit.cycle()
        unit.ctx.set(unit.unit.force, 0)
        await unit.gone(p)


def test_moves_hold_the_lease_off(name: str) -> None:
    simulate(held_off, name)


async def revokes(unit: Driver) -> None:
    """Grants on the entry end, however the look-ups stand; when `revoked` is 1 all are found."""
    partitions = unit.config.partitions
    hit = {ENGINE: {SRC: "ending", DST: "ending", OTHER: "live"},
           CPU: {SRC: "expired", DST: "ending", OTHER: "live"}}
    for kind, entry, phase in itertools.product(GrantKind, (SRC, DST, OTHER), range(partitions)):
        for p in range(partitions):
            await unit.granted(p, kind)
        await unit.cycle(phase)
        assert unit.ctx.get(unit.unit.revoked)
        unit.pulse("revoke", entry)
        assert not unit.ctx.get(unit.unit.revoked), "told before it begins"
        await unit.cycle()
        waited = 0
        while not unit.ctx.get(unit.unit.revoked):
            await unit.cycle()
            waited += 1
            assert waited <= partitions + 4, "a revoke takes too long"
        for p in range(partitions):
            assert unit.state(p) == hit[kind][entry], "what a revoke ends"
        if kind is CPU and entry == SRC:
            unit.pulse("revoke", DST)
            await unit.cycle(partitions + 5)
            assert [unit.state(p) for p in range(partitions)] == ["ending"] * partitions, \
                "an expired one stays on its destination"
        assert unit.lapses == []
        for p in range(partitions):
            await unit.gone(p)


def test_revokes(name: str) -> None:
    simulate(revokes, name)


async def revokes_of_new_ones(unit: Driver) -> None:
    """A grant that was given just before is found, too, wherever the look-ups stand."""
    partitions = unit.config.partitions
    for kind, phase, behind in itertools.product(GrantKind, range(partitions), range(1, 6)):
        p = partitions - 1
        while unit.now % partitions != phase:
            await unit.cycle()
        unit.give(p, kind)
        await unit.cycle(behind)
        unit.pulse("revoke", DST)
        await unit.cycle()
        while not unit.ctx.get(unit.unit.revoked):
            await unit.cycle()
        assert unit.state(p) == "ending", "a new one is not found"
        await unit.through(p, first=1, good=1)
        await unit.gone(p)


def test_revokes_of_new_ones(name: str) -> None:
    simulate(revokes_of_new_ones, name)


async def new_records(unit: Driver) -> None:
    """A grant that has just been given is not taken for the one before it."""
    partitions = unit.config.partitions
    for kind, phase, behind in itertools.product(GrantKind, range(partitions), range(-2, 6)):
        p = partitions - 1
        unit.ctx.set(unit.unit.lease, 20)
        await unit.granted(p, kind, src_id=OTHER, dst_id=OTHER)
        await unit.gone(p)
        await unit.cycle(40 + phase)
        unit.lapses.clear()
        if behind < 0:
            unit.pulse("revoke", OTHER)
            await unit.cycle(-behind)
        unit.give(p, kind)
        for _ in range(behind):
            await unit.cycle()
        if not unit.pulsed:
            unit.pulse("moved", p, first=1, good=1)
        if behind >= 0:
            unit.pulse("revoke", OTHER)
        await unit.cycle(partitions + 6)
        assert unit.state(p) == "live" and unit.lapses == [], "taken for the one before"
        if behind <= 0:
            unit.pulse("moved", p, first=1, good=1)
        await unit.cycle(2)
        await unit.gone(p)


def test_new_records_are_looked_at(name: str) -> None:
    simulate(new_records, name)


async def acknowledges(unit: Driver) -> None:
    """Without a gap from the start, whatever the order and the overlap; in all 32 bits."""
    dice = random.Random(2)
    partitions = unit.config.partitions
    for _ in range(40):
        p = dice.randrange(partitions)
        await unit.granted(p, count=0x9000_0001)
        assert (await unit.looked_up(p))[1] == 0, "of the grant before"
        known = 0
        size = dice.choice((100, 3 << 30, TOP))
        for _ in range(dice.randrange(1, 12)):
            offset = min(size - 1, max(0, dice.choice(
                (0, known, known + 1, known - 1, size - 1, 1 << 31, dice.randrange(size)))))
            count = dice.choice((1, size - offset, dice.randrange(size - offset) + 1))
            good = dice.random() < 0.8
            unit.pulse("started", p)
            await unit.cycle()
            assert (await unit.looked_up(p))[2], "an MVXL is in flight"
            await unit.through(p, good=good, offset=offset, count=count)
            if good and offset <= known:
                known = max(known, offset + count)
            assert await unit.shown_acknowledged(p) == known, "acknowledged"
            assert (await unit.looked_up(p))[1:] == (known, 0), "acknowledged"
            assert (await unit.looked_up(p, releasing=0))[1] == 0x9000_0001, "all that is granted"
        await unit.gone(p)
    await unit.granted()
    for offset, count, known in ((0, (1 << 31) - 1, (1 << 31) - 1), (1 << 31, 1, (1 << 31) - 1),
                                 ((1 << 31) - 1, 2, (1 << 31) + 1), (5, 1 << 31, (1 << 31) + 5)):
        unit.pulse("started")
        await unit.cycle()
        await unit.through(good=1, offset=offset, count=count)
        assert await unit.shown_acknowledged(0) == known, "acknowledged"
    # As fast as they can come.
    await unit.gone()
    await unit.granted()
    for _ in range(3):
        unit.pulse("started")
        await unit.cycle()
    for number in range(3):
        unit.pulse("moved", good=1, offset=10 * number, count=10)
        await unit.cycle(3)
    assert await unit.shown_acknowledged(0) == 30, "acknowledged"


def test_acknowledged(name: str) -> None:
    simulate(acknowledges, name)


async def inherits(unit: Driver) -> None:
    """A new grant has no acknowledged bytes, and is in flight until its GRANT is through."""
    for p in range(unit.config.partitions):
        await unit.granted(p)
        unit.pulse("started", p)
        await unit.cycle()
        await unit.through(p, good=1, count=77)
        assert await unit.shown_acknowledged(p) == 77, "of the grant before"
        await unit.gone(p)
        unit.give(p)
        await unit.cycle(2)
        for _ in range(5):
            assert await unit.shown_acknowledged(p) == 0, "shows what the last grant moved"
            _, limit, moving = await unit.looked_up(p)
            assert moving or not limit, "may be released with what the last one moved"
            assert moving, "its GRANT is not through"
        await unit.through(p, first=1, good=1, offset=3, count=9)
        assert (await unit.looked_up(p))[1:] == (0, 0), "of the grant before"
        assert await unit.shown_acknowledged(p) == 0
        # It is moving until what it has acknowledged is known.
        unit.pulse("started", p)
        await unit.cycle(3)
        unit.ctx.set(unit.unit.releasing, 1)
        unit.pulse("moved", p, good=1, count=50)
        moving = []
        for _ in range(8):
            await unit.cycle()
            moving.append(unit.ctx.get(unit.unit.moving))
            assert moving[-1] or unit.ctx.get(unit.unit.limit) == 50, "of two times"
        assert moving == sorted(moving, reverse=True) and (moving[0], moving[-1]) == (1, 0)
        await unit.gone(p)


def test_a_new_grant_inherits_nothing(name: str) -> None:
    simulate(inherits, name)


FAULTS: list[tuple[str, Callable[[Driver], Awaitable[None]], str, str, str]] = [
    ("token-repeats", tokens, "token.eq(self.grant.token + 1)", "token.eq(self.grant.token)",
     "the token"),
    ("token-of-the-front-end", tokens, "token.eq(self.grant.token + 1)", "token.eq(given.token)",
     "the token"),
    ("token-of-the-reset", tokens_after_reset,
     "records.write_data.token.eq(self.grant.token + 1),",
     'records.write_data.token.eq(Mux(one := Signal(name="one"), self.grant.token, 0) + 1)]\n'
     "        with m.If(given_before.en):\n            m.d.sync += one.eq(1)\n"
     "        m.d.comb += [", "the token"),
    ("record-a-cycle-late", tokens, "records.read_row[0].eq(self.partition),",
     "records.read_row[0].eq(late := Signal.like(self.partition))]\n"
     "        m.d.sync += late.eq(self.partition)\n        m.d.comb += [", "the token|the record"),
    ("extent-a-cycle-late", tokens, "extents.read_row[0].eq(self.partition),",
     "extents.read_row[0].eq(late := Signal.like(self.partition))]\n"
     "        m.d.sync += late.eq(self.partition)\n        m.d.comb += [", "the record"),
    ("record-of-nobody", tokens, "records.write_row.eq(given_before.partition)",
     "records.write_row.eq(self.give.partition)", "the token|the record"),
    ("record-too-early", tokens, "records.write_en.eq(given_before.en)",
     "records.write_en.eq(self.give.en)", "the token|the record"),
    ("extent-of-another", tokens, "extents.write_row.eq(self.give.partition)",
     "extents.write_row.eq(0)", "the limit|the record"),
    ("extent-too-late", tokens, "extents.write_en.eq(self.give.en)",
     "extents.write_en.eq(given_before.en)", "the limit|the record"),
    ("entry-of-a-cycle-later", tokens, "records.write_data.dst_id.eq(given_before.dst_id)",
     "records.write_data.dst_id.eq(given.dst_id)", "the record"),
    ("notify-of-a-cycle-later", tokens, "records.write_data.notify.eq(given_before.notify)",
     "records.write_data.notify.eq(given.notify)", "the record"),
    ("not-hidden", shown_from_the_next_cycle_on,
     "(given_before.en << given_before.partition) | given_earlier", "0", "hidden behind"),
    ("hidden-for-a-cycle-only", shown_from_the_next_cycle_on,
     "(given_before.en << given_before.partition) | given_earlier",
     "given_before.en << given_before.partition", "hidden behind"),
    ("hidden-a-cycle-late", shown_from_the_next_cycle_on,
     "(given_before.en << given_before.partition) | given_earlier", "given_earlier",
     "hidden behind"),
    ("target-of-another", tokens, "targets.write_row.eq(given_before.partition)",
     "targets.write_row.eq(0)", "the target"),
    ("target-too-early", tokens, "targets.write_en.eq(given_before.en)",
     "targets.write_en.eq(self.give.en)", "the target"),
    ("shown-of-the-front-end", tokens, "records.read_row[1].eq(self.reader)",
     "records.read_row[1].eq(self.partition)", "the record"),
    ("shown-a-cycle-late", shown_in_turn, "records.read_row[1].eq(self.reader)",
     "records.read_row[1].eq(reader_before)", "the record"),
    ("target-shown-a-cycle-late", shown_in_turn, "targets.read_row[0].eq(self.reader)",
     "targets.read_row[0].eq(reader_before)", "the target"),
    ("acknowledged-shown-a-cycle-early", shown_in_turn,
     "acknowledged.read_row[1].eq(reader_earlier)", "acknowledged.read_row[1].eq(reader_before)",
     "acknowledged"),
    ("free-at-once", states, "self.live | self.expired | self.ending | leaving",
     "self.live | self.expired | self.ending", "assert"),
    ("never-free", states, "with m.If(self.left.en & (self.left.partition == p)):",
     "with m.If(0):", "assert"),
    ("left-by-another", states, "with m.If(self.left.en & (self.left.partition == p)):",
     "with m.If(self.left.en | (leaving[p] & mine)):", "free before its end|assert"),
    ("force-of-nothing", states, "with m.Elif(has_one & (self.force[p]",
     "with m.Elif(self.force[p] | has_one & (self.force[p]", "an end of nothing"),
    ("not-forced", states, "(self.force[p] | failed |", "(failed |", "not forced"),
    ("failed-stays", states, "(self.force[p] | failed |", "(self.force[p] |",
     "a GRANT that failed stays"),
    ("lease-early", leases, "(elapsed >= self.lease)", "(elapsed + 9 >= self.lease)",
     "the lease is not exact"),
    ("lease-late", leases, "(elapsed >= self.lease)", "(elapsed >= self.lease + 9)",
     "the lease does not end"),
    ("lease-of-none", leases, "passed.eq((self.lease != 0) & ", "passed.eq(", "a lease of 0"),
    ("expired-engine", leases, "| (lapses & is_engine)))", "))", "lapsed to"),
    ("ended-cpu", leases, "| (lapses & is_engine)))", "| lapses))", "lapsed to"),
    ("expired-not-forced", leases, "has_one.eq(self.live[p] | self.expired[p])",
     "has_one.eq(self.live[p])", "expired and not forced"),
    ("told-again-and-again", leases, "mine & passed & self.live[p] & ~self.busy[p]",
     "mine & passed & ~self.busy[p]", "told once"),
    ("lease-during-moves", held_off, "passed & self.live[p] & ~self.busy[p]",
     "passed & self.live[p]", "in flight"),
    ("grant-not-in-flight", held_off, "| (self.give.en & (self.give.partition == p))),", "),",
     "its GRANT is in flight"),
    ("moves-of-another", held_off, "ends.eq(through.en & (through.partition == p))",
     "ends.eq(through.en)", "another|assert"),
    ("revoke-of-the-source-forgotten", revokes,
     "lost_source.eq((records_left != 0) & (looked.src_id == revoking))", "lost_source.eq(0)",
     "what a revoke ends"),
    ("revoke-of-the-destination-forgotten", revokes,
     "lost_destination.eq((records_left != 0) & (looked.dst_id == revoking))",
     "lost_destination.eq(0)", "what a revoke ends"),
    ("revoke-of-any", revokes, "(looked.dst_id == revoking)", "1", "what a revoke ends"),
    ("revoke-ends-the-source's-processor", revokes, "(is_engine & lost_source)", "lost_source",
     "what a revoke ends"),
    ("revoke-looks-at-one-less", revokes, "records_left.eq(config.partitions + 4)",
     "records_left.eq(config.partitions - 1)", "what a revoke ends"),
    ("revoke-looks-at-what-was-fetched", revokes_of_new_ones,
     "records_left.eq(config.partitions + 4)", "records_left.eq(config.partitions + 2)",
     "a new one is not found"),
    ("revoked-too-early", revokes, "self.revoked.eq((records_left == 0) & ~self.revoke.en)",
     "self.revoked.eq(1)", "told before it begins"),
    ("record-that-is-being-replaced", new_records, "fetched_anew.eq(~is_given(turn))",
     "fetched_anew.eq(1)", "taken for the one before"),
    ("record-replaced-a-cycle-later", new_records,
     "fetched_still.eq(fetched_anew & ~is_given(fetched_for))", "fetched_still.eq(fetched_anew)",
     "taken for the one before"),
    ("record-replaced-two-cycles-later", new_records,
     "looked_anew.eq(fetched_still & ~is_given(fetched_at))", "looked_anew.eq(fetched_still)",
     "taken for the one before"),
    ("record-replaced-three-cycles-later", new_records,
     "judged_anew.eq(looked_anew & ~is_given(looked_at))", "judged_anew.eq(looked_anew)",
     "taken for the one before"),
    ("gap-overlooked", acknowledges, "self.moved.offset <= known", "1",
     "acknowledged"),
    ("gap-of-nothing", acknowledges, "self.moved.offset <= known",
     "self.moved.offset < known", "acknowledged"),
    ("goes-back", acknowledges, "reaches & exceeds", "reaches", "acknowledged"),
    ("failed-counts", acknowledges, "through.good & reaches", "reaches", "acknowledged"),
    ("compared-in-31-bits", acknowledges, "self.moved.offset <= known",
     "self.moved.offset[:31] <= known[:31]", "acknowledged"),
    ("not-for-decisions", acknowledges, "for memory in (acknowledged, decided_on):",
     "for memory in (acknowledged,):", "acknowledged"),
    ("end-of-another", acknowledges, "memory.write_row.eq(through.partition)",
     "memory.write_row.eq(0)", "acknowledged|of the grant before"),
    ("goes-back-behind-another", acknowledges,
     "acknowledged.read_row[0].eq(self.moved.partition)", "acknowledged.read_row[0].eq(0)",
     "acknowledged"),
    ("end-of-the-next", acknowledges, "memory.write_data.eq(moved_end)",
     "memory.write_data.eq(Mux(self.moved.first, 0, self.moved.offset + self.moved.count))",
     "acknowledged|of the grant before"),
    ("limit-of-all", acknowledges, "by_known.eq(self.releasing &", "by_known.eq(0 &",
     "acknowledged|of the grant before"),
    ("limit-of-the-acknowledged", acknowledges, "by_known.eq(self.releasing &", "by_known.eq(1 &",
     "all that is granted"),
    ("limit-of-the-other-kind", tokens, "~self.for_cpu.bit_select(self.partition, 1)),",
     "self.for_cpu.bit_select(self.partition, 1)),", "the limit"),
    ("limit-of-a-processor", tokens, " & ~self.for_cpu.bit_select(self.partition, 1)),", "),",
     "the limit"),
    ("inherited", inherits, "Mux(self.moved.first, 0, self.moved.offset + self.moved.count)",
     "self.moved.offset + self.moved.count", "of the grant before"),
    ("last-one's-shown", inherits, "self.fresh[p].eq(1), self", "self.fresh[p].eq(0), self",
     "shows what the last grant moved"),
    ("not-busy-in-time", inherits,
     "self.moving.eq(was_moving.any() | self.busy.bit_select(self.partition, 1)),",
     "self.moving.eq(0),", "may be released"),
    ("at-rest-too-early", inherits,
     "self.moving.eq(was_moving.any() | self.busy.bit_select(self.partition, 1)),",
     "self.moving.eq(was_moving[0] | self.busy.bit_select(self.partition, 1)),", "of two times"),
]


@pytest.mark.parametrize(("bench", "old", "new", "expected"), [fault[1:] for fault in FAULTS],
                         ids=[fault[0] for fault in FAULTS])
def test_planted_fault(bench: Callable[[Driver], Awaitable[None]], old: str, new: str,
                       expected: str) -> None:
    with pytest.raises(AssertionError, match=expected):
        simulate(bench, "three", module=mutated(grants, old, new))
