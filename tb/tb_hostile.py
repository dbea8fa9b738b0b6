# SPDX-License-Identifier: Apache-2.0
"""A hostile partition: what it may not do it cannot do, and nothing outside its rights changes.

`Bench.check` compares the whole memory and every access: an attack that got through would be seen
wherever it went.
"""

from __future__ import annotations

from typing import Any

from cocotbext.axi.constants import AxiResp

from mvxl.driver import ConsumeRefused, Fault, RewindRefused, TableEntry
from mvxl.messages import GrantKind, Status
from sim.transport import BusError

from .common import (
    INBOX,
    PAGE_OF_MANAGER,
    PARTITIONS,
    SOURCE,
    Bench,
    case,
    completion,
)
from .holder import NO_GRANT, hold, release_refused

#: A row of the default table that is not valid.
SPARE = 8

#: The hostile partition, and one that it attacks.
HOSTILE, VICTIM = 0, 2

ENGINE, CPU = GrantKind.ENGINE, GrantKind.CPU

#: 32-bit numbers at which sums go wrong.
EDGES = (0, 1, 2**31 - 1, 2**31, 2**32 - 0x8000, 2**32 - 64, 2**32 - 8, 2**32 - 2, 2**32 - 1)


async def denied(bench: Bench, partition: int, register: str, word: int | None = None) -> None:
    """An unprivileged read of a register, or write of `word`, gets an error response."""
    port, address = bench.ports[partition], bench.map.partition_address(partition, register)
    try:
        if word is None:
            await port.read32(address)
        else:
            await port.write32(address, word)
    except BusError as error:
        assert error.response == "SLVERR", error
    else:
        raise AssertionError(f"an unprivileged access to {register} was answered OKAY")


async def privileged_words(bench: Bench, partition: int) -> dict[str, dict[str, int]]:
    """What the privileged registers of a page hold."""
    return {name: await bench.read(partition, name)
            for name, register in bench.map.partition.registers.items()
            if register.privileged and register.is_readable}


@case
async def user_mode_has_no_grants(dut: Any) -> None:
    """Every privileged register refuses every unprivileged access, with and without a grant.

    Nothing changes, though the parameters for a grant, a move and a release are all there.
    """
    bench = await Bench.start(dut, grants=True)
    driver = bench.partitions[HOSTILE]
    names = [name for name, register in bench.map.partition.registers.items()
             if register.privileged]
    assert {"grant_command", "mvxl_command", "release", "grant_dst_lo", "grant_token",
            "release_status"} <= set(names)
    for kind in (None, ENGINE, CPU):
        if kind is None:
            for register, fields in (
                    ("grant_src_id", {"id": SOURCE}), ("grant_dst_id", {"id": INBOX + 1}),
                    ("grant_count", {"count": 64})):
                await bench.write(HOSTILE, register, **fields)
        else:
            holder = await hold(bench, HOSTILE, INBOX + 1, 64, kind=kind)
            await bench.write(HOSTILE, "mvxl_token", token=holder.token)
            await bench.write(HOSTILE, "mvxl_count", count=64)
            await bench.write(HOSTILE, "release_token", token=holder.token)
        before = await privileged_words(bench, HOSTILE)
        completed = await driver.completed()
        for name in names:
            await denied(bench, HOSTILE, name)
            for word in (0, 1, 0xFFFF_FFFF):
                await denied(bench, HOSTILE, name, word)
        await bench.idle_cycles(300)
        assert await privileged_words(bench, HOSTILE) == before
        assert await driver.completed() == completed
        assert (await driver.status()).idle and await driver.rejected() == 0
        assert not await bench.events(HOSTILE)
        await bench.check_silence()
        if kind is not None:
            driver.forget()
            await holder.move(0, 0, 64)
            await holder.release(64)
            await bench.check()


@case
async def denied_accesses_are_logged(dut: Any) -> None:
    """The first one is the partition's fault record, with direction and offset; then they count.

    Accesses without need of privilege, and those that another rule refuses, are no violations.
    """
    bench = await Bench.start(dut, grants=True)
    assert await bench.manager.faults() == []
    expected = {}
    page = bench.map.partition_address
    for p, (register, word) in zip(PARTITIONS, (
            ("grant_dst_lo", None), ("grant_command", 1), ("mvxl_command", 0),
            ("release_status", None)), strict=True):
        await bench.ports[p].read32(page(p, "status"))
        await bench.ports[p].write32(page(p, "src_id"), 3)
        await denied(bench, p, register, word)
        for _ in range(p):
            await denied(bench, p, "release", 0)
            await denied(bench, p, "grant_token")
        await bench.idle_cycles(20)
        expected[p] = Fault(
            partition=p, direction="READ" if word is None else "WRITE",
            status=Status.NOT_PERMITTED, address=page(p, register) - page(p, "version"),
            lost=2 * p)
        assert await bench.manager.faults() == list(expected.values())
    for p in PARTITIONS:
        await bench.manager.clear_fault(p)
    assert await bench.manager.faults() == []
    # With privilege nothing is logged; neither are holes of the page.
    await privileged_words(bench, HOSTILE)
    try:
        await bench.ports[HOSTILE].write32(page(HOSTILE, "grant_state") + 0x400, 0)
    except BusError:
        pass
    assert await bench.manager.faults() == []


@case
async def forged_tokens(dut: Any) -> None:
    """A token that is not that of the own live grant is STALE, for MVXL and for RELEASE."""
    bench = await Bench.start(dut, grants=True)
    guesses = [0, 2, 3, 0xFFFF, 1 << 16, 1 | 1 << 16, 1 | 1 << 31, *EDGES[2:]]
    # Without a grant.
    for token in (0, 1, 2):
        await release_refused(bench, HOSTILE, Status.STALE, token, 0)
    holder = await hold(bench, HOSTILE, INBOX + 1, 64)
    assert holder.token == 1
    for token in guesses:
        await holder.move_refused(Status.STALE, 0, 0, 64, token=token)
        await release_refused(bench, HOSTILE, Status.STALE, token, 0)
    assert (await holder.state()).acknowledged == 0
    await holder.release(0)


@case
async def late_tokens(dut: Any) -> None:
    """After each way in which a grant ends its token is worth nothing, under the next one too."""
    bench = await Bench.start(dut, grants=True)
    late = []
    for end in ("release", "lease", "force", "commit", "reset"):
        for kind in (ENGINE, CPU):
            holder = await hold(bench, HOSTILE, INBOX + 1, 64, kind=kind)
            for old in late:
                await holder.move_refused(Status.STALE, 0, 0, 64, token=old)
                await release_refused(bench, HOSTILE, Status.STALE, old, 0)
            if end == "release":
                await holder.release(0)
            elif end == "lease":
                await bench.manager.set_lease(1)
                await bench.idle_cycles(100)
                await bench.manager.set_lease(0)
                await holder.move_refused(Status.STALE, 0, 0, 64)
                await release_refused(bench, HOSTILE, Status.STALE, holder.token, 0)
                await bench.manager.release_locks(HOSTILE)
            elif end == "force":
                await bench.manager.release_locks(HOSTILE)
            elif end == "commit":
                await bench.commit(INBOX + 1, bench.entries[INBOX + 1])
            else:
                await bench.manager.reset_partition(HOSTILE)
                bench.partitions[HOSTILE].forget()
            await bench.idle_cycles(40)
            assert await holder.state() == NO_GRANT
            late.append(holder.token)
            await holder.move_refused(Status.STALE, 0, 0, 64)
            await release_refused(bench, HOSTILE, Status.STALE, holder.token, 0)
    assert await bench.partitions[1].receive_cursor(INBOX + 1) == 0


@case
async def tokens_of_others(dut: Any) -> None:
    """A token is valid from its own page only, though others have grants with the same number."""
    bench = await Bench.start(dut, grants=True)
    victim = await hold(bench, VICTIM, INBOX + 3, 100)
    await victim.move(0, 0, 100)
    await bench.check()
    for p in (HOSTILE, 1, 3):
        await release_refused(bench, p, Status.STALE, victim.token, 0)
        await bench.partitions[p].mvxl(victim.token, 0, 0, 8)
        assert await bench.event(p) == completion(Status.STALE, tag=0, dst_id=0, count=8)
    await bench.check_silence()
    assert (await victim.state()).live
    # The hostile one's own grant has the same number now: it reaches its own alone.
    own = await hold(bench, HOSTILE, INBOX + 1, 50)
    assert own.token == victim.token
    await own.move_refused(Status.DST_BOUNDS, 0, 50, 1)
    await release_refused(bench, HOSTILE, Status.BAD_COUNT, own.token, 1)
    await own.move(0, 0, 10)
    await own.release(10)
    assert (await victim.state()).acknowledged == 100
    assert await bench.partitions[3].receive_cursor(INBOX + 3) == 0
    await victim.release(100)
    await bench.check()


@case
async def releases_of_more_and_twice(dut: Any) -> None:
    """The cursor never passes what was moved, or granted, and moves once."""
    bench = await Bench.start(dut, grants=True)
    cursor = 0
    for kind in (ENGINE, CPU):
        holder = await hold(bench, HOSTILE, INBOX + 1, 100, kind=kind)
        await holder.move(0, 0, 60)
        await holder.move(0, 61, 39)
        most = 60 if kind is ENGINE else 100
        for moved in (most + 1, 101, *EDGES[2:]):
            await release_refused(bench, HOSTILE, Status.BAD_COUNT, holder.token, moved)
        await holder.release(most)
        cursor += most
        for _ in range(2):
            await release_refused(bench, HOSTILE, Status.STALE, holder.token, most)
        assert await bench.partitions[1].receive_cursor(INBOX + 1) == cursor
        again = await hold(bench, HOSTILE, INBOX + 1, 100, kind=kind)
        await release_refused(bench, HOSTILE, Status.STALE, holder.token, 0)
        if kind is ENGINE:
            await release_refused(bench, HOSTILE, Status.BAD_COUNT, again.token, 1)
        await again.release(0)
    await bench.check()


@case
async def release_with_a_guess_while_the_grant_is_in_flight(dut: Any) -> None:
    """Before its GRANT is told of, a grant's next token gives nothing: what the one before moved
    does not count."""
    bench = await Bench.start(dut, grants=True, latency_cycles=200)
    holder = await hold(bench, HOSTILE, INBOX + 1, 1000)
    await holder.move(0, 0, 1000)
    await holder.release(0)
    number = await bench.partitions[VICTIM].send(SOURCE + VICTIM, 0, INBOX + 3, 500)
    bench.expect(VICTIM, SOURCE + VICTIM, 0, INBOX + 3, 0, 500)
    await bench.partitions[HOSTILE].grant(SOURCE, 0, INBOX + 1, 16)
    await bench.idle_cycles(20)
    assert await bench.partitions[HOSTILE].completed() == 2
    for moved in (0, 16, 1000):
        await release_refused(bench, HOSTILE, Status.BUSY, holder.token + 1, moved)
    await bench.completed(VICTIM, number)
    await bench.completed(HOSTILE, 3)
    await release_refused(bench, HOSTILE, Status.BAD_COUNT, holder.token + 1, 1)
    assert await bench.partitions[1].receive_cursor(INBOX + 1) == 0
    await bench.check()


@case
async def moves_out_of_the_grant(dut: Any) -> None:
    """One byte outside at either end of source and destination, and sums that wrap.

    The entries go on before and behind the grant, so that nothing else would stop it.
    """
    bench = await Bench.start(dut, grants=True, max_count=2**32 - 1)
    number = await bench.partitions[HOSTILE].send(SOURCE, 0, INBOX + 1, 100)
    await bench.completed(HOSTILE, number)
    bench.expect(HOSTILE, SOURCE, 0, INBOX + 1, 0, 100)
    await bench.check()
    count = 77
    for kind in (ENGINE, CPU):
        holder = await hold(bench, HOSTILE, INBOX + 1, count, kind=kind, src_offset=50)
        outside = [(count, 1), (count - 1, 2), (1, count), (0, count + 1), (count + 1, 1),
                   (0, 2**32 - 1), (count, 2**32 - count), (1, 2**32 - 1)]
        # A negative offset, as it were: a sum that wraps would be inside.
        outside += [(2**32 - n, size) for n in (1, 8, 50, 64, 100)
                    for size in (1, n, n + 1, n + count)]
        for offset, size in outside:
            await holder.move_refused(Status.SRC_BOUNDS, offset, 0, size)
            if size <= count:
                await holder.move_refused(Status.DST_BOUNDS, 0, offset, size)
        for src, dst, size in ((0, 0, count), (count - 1, 0, 1), (0, count - 1, 1), (0, 0, 1)):
            await holder.move(src, dst, size)
        await bench.check()
        await holder.release(0)


@case
async def sums_that_wrap(dut: Any) -> None:
    """SEND, MVCL and GRANT with offsets and counts at the edges of 32 bits: all are refused."""
    bench = await Bench.start(dut, grants=True, max_count=2**32 - 1)
    await bench.commit(SPARE, TableEntry(base=0x48000, length=0x1000, owner=HOSTILE))
    for offset in EDGES[3:]:
        for count in (1, 64, 2**32 - offset, 2**32 - 1):
            where = {"src_id": SOURCE, "src_offset": offset, "count": count}
            await bench.refused(HOSTILE, Status.SRC_BOUNDS, dst_id=INBOX + 1, **where)
            await bench.refused(HOSTILE, Status.SRC_BOUNDS, dst_id=INBOX + 1, kind=CPU, **where)
            await bench.refused(HOSTILE, Status.SRC_BOUNDS, dst_id=SPARE, dst_offset=0, **where)
            if count <= 64:
                await bench.refused(HOSTILE, Status.DST_BOUNDS, src_id=SOURCE, count=count,
                                    dst_id=SPARE, dst_offset=offset)


@case
async def entries_of_others(dut: Any) -> None:
    """MVCL reaches own entries only, whatever others allow their senders; so do source IDs."""
    bench = await Bench.start(dut, grants=True)
    await bench.commit(SPARE, TableEntry(base=0x48000, length=0x1000, owner=VICTIM,
                                         senders=frozenset(PARTITIONS)))
    for dst_id in (SPARE, INBOX + 1, INBOX + VICTIM, SOURCE + VICTIM):
        for dst_offset in (0, 0xFC0):
            for flags in ({}, {"wait": True, "notify": True}):
                await bench.refused(HOSTILE, Status.DST_FAULT, src_id=SOURCE, dst_id=dst_id,
                                    dst_offset=dst_offset, **flags)
    for src_id in (SPARE, SOURCE + VICTIM, INBOX + VICTIM):
        await bench.refused(HOSTILE, Status.SRC_FAULT, src_id=src_id, dst_id=INBOX,
                            dst_offset=0)
        await bench.refused(HOSTILE, Status.SRC_FAULT, src_id=src_id, dst_id=INBOX + 1)
        for kind in (ENGINE, CPU):
            await bench.refused(HOSTILE, Status.SRC_FAULT, src_id=src_id, dst_id=INBOX + 1,
                                kind=kind)
    for command in (bench.partitions[HOSTILE].rewind(SPARE),
                    bench.partitions[HOSTILE].consume(SPARE, 0)):
        try:
            await command
        except (RewindRefused, ConsumeRefused):
            pass
        else:
            raise AssertionError("an entry of another partition was emptied")


class Attacker:
    """Random commands of the hostile partition, and the few of them that may be carried out."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.driver = bench.partitions[HOSTILE]
        self.rng = bench.random
        self.carried_out = 0
        # Of its last grant: source ID and offset, destination ID, position, token.
        self.grant: tuple[int, int, int, int, int] | None = None

    def number(self, likely: int) -> int:
        """An offset or count: one below `likely` most of the time."""
        if self.rng.random() < .8:
            return self.rng.randrange(likely)
        return self.rng.choice((likely, *EDGES, self.rng.randrange(2**32)))

    def network_id(self, *good: int) -> int:
        """One of those that are good for something most of the time."""
        if self.rng.random() < .8:
            return self.rng.choice(good)
        return self.rng.choice((self.rng.randrange(12), self.rng.randrange(2**16)))

    async def attack(self) -> None:
        """One command, or one write of a register; what it did is told to the bench."""
        rng, driver = self.rng, self.driver
        source, target = self.network_id(SOURCE), self.network_id(INBOX, INBOX + 1, SPARE)
        src_offset, dst_offset = self.number(0x7000), self.number(0x1000)
        src, dst, count = self.number(100), self.number(100), self.number(400)
        token = rng.choice((self.grant[4] if self.grant else 1, rng.randrange(4),
                            rng.randrange(2**32)))
        match op := rng.choice(("send", "mvcl", "grant", "mvxl", "mvxl", "mvxl", "release",
                                "rewind", "unprivileged")):
            case "send":
                await driver.send(source, src_offset, target, count, event=True)
            case "mvcl":
                await driver.mvcl(source, src_offset, target, dst_offset, count, event=True)
            case "grant":
                await driver.grant(source, src_offset, target, count, event=True,
                                   kind=rng.choice((ENGINE, CPU)))
            case "mvxl":
                await driver.mvxl(token, src, dst, count, event=True)
            case _:
                await self.strike(op, token, target, count)
                return
        event = await self.bench.event(HOSTILE)
        if event.status is not Status.OK:
            return
        self.carried_out += 1
        if op == "grant":
            state = await driver.grant_state()
            self.grant = source, src_offset, target, event.offset, state.token
        elif op == "mvxl":
            assert self.grant is not None
            src_id, base, dst_id, position, _ = self.grant
            self.bench.expect(HOSTILE, src_id, base + src, dst_id,
                              (position + dst) % self.bench.entries[dst_id].length, count)
        else:
            self.bench.expect(HOSTILE, source, src_offset, target, event.offset, count)

    async def strike(self, op: str, token: int, target: int, count: int) -> None:
        """What is no command."""
        if op == "release":
            await self.bench.write(HOSTILE, "release_token", token=token)
            await self.bench.write(HOSTILE, "release", count=count)
            self.driver.forget()
        elif op == "rewind":
            await self.bench.write(HOSTILE, "rewind", id=target)
        else:
            await denied(self.bench, HOSTILE, "grant_command", self.rng.randrange(2))
        await self.bench.idle_cycles(30)


@case
async def anything_at_random(dut: Any) -> None:
    """Hundreds of random commands and writes: the bytes and beats that they reach are known."""
    bench = await Bench.start(dut, grants=True, max_count=2**32 - 1)
    await bench.commit(SPARE, TableEntry(base=0x48000, length=0x800, owner=HOSTILE,
                                         may_send=False, senders=frozenset({HOSTILE}),
                                         ring=True))
    attacker = Attacker(bench)
    for n in range(400):
        await attacker.attack()
        if n % 20 == 19:
            await bench.wait_idle()
            await bench.check()
    assert attacker.carried_out >= 20, attacker.carried_out
    assert [fault.partition for fault in await bench.manager.faults()] == [HOSTILE]
    for p in PARTITIONS:
        assert p == HOSTILE or await bench.partitions[p].completed() == 0


@case
async def manager_page_is_closed(dut: Any) -> None:
    """The raw MVXL, LOCK_RELEASE and their like do nothing for who has no privilege."""
    bench = await Bench.start(dut, grants=True)
    holder = await hold(bench, VICTIM, INBOX + 1, 64)
    for register, fields in (
            ("mvxl_src_lo", {"address": 0x10FC0}), ("mvxl_dst_lo", {"address": 0x20FC0}),
            ("mvxl_count", {"count": 64})):
        await bench.write(PAGE_OF_MANAGER, register, **fields)
    for register in ("mvxl_command", "lock_release", "partition_reset", "entry_revoke", "lease",
                     "memory_timeout", "counter_snapshot", "fault_clear"):
        address = bench.map.manager_address(register)
        answer = await bench.master.write(address, bytes((5, 0, 0, 0)), prot=0)
        assert answer.resp == AxiResp.SLVERR, register
    await bench.idle_cycles(300)
    assert (await holder.state()).live
    assert not (await bench.read(PAGE_OF_MANAGER, "mvxl_status"))["done"]
    await bench.check_silence()
    await bench.check()
