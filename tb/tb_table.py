# SPDX-License-Identifier: Apache-2.0
"""The manager's table and its privilege; REWIND; what the register port refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cocotb
from cocotb.triggers import with_timeout
from cocotbext.axi.constants import AxiProt, AxiResp

from mvxl.driver import CommitRefused, RewindRefused, TableEntry
from mvxl.messages import Op, Status
from sim.memory import Kind
from sim.transport import AxiLiteTransport, BusError

from .common import (
    CONFIG,
    INBOX,
    PAGE_OF_MANAGER,
    PARTITIONS,
    SOURCE,
    Bench,
    case,
    completion,
)

#: A row of the default table that is not valid.
SPARE = 8

LATENCY = 200


async def commit_refused(bench: Bench, network_id: int, entry: TableEntry, reason: str) -> None:
    """A commit is refused, and told so."""
    try:
        await with_timeout(bench.manager.commit_entry(network_id, entry), 50, "us")
    except CommitRefused as refusal:
        assert refusal.reason == reason
    else:
        raise AssertionError(f"a commit must be refused with {reason}")


@case
async def commit_rules(dut: Any) -> None:
    """A row that is against a rule is refused with its reason, and the row stays as it was."""
    bench = await Bench.start(dut)
    good = replace(bench.entries[INBOX + 1], base=0x48000)
    await bench.commit(SPARE, good)
    end = 2**32
    refused = [
        (16, good, "BAD_ID"), (SPARE + 16, good, "BAD_ID"), (0x8000 + SPARE, good, "BAD_ID"),
        (SPARE, replace(good, base=0x48001), "BAD_BASE"),
        (SPARE, replace(good, base=0x48020), "BAD_BASE"),
        (SPARE, replace(good, base=end + 0x48000), "BAD_BASE"),
        (SPARE, replace(good, base=2**63), "BAD_BASE"),
        (SPARE, replace(good, length=0), "BAD_LENGTH"),
        (SPARE, replace(good, length=100), "BAD_LENGTH"),
        (SPARE, replace(good, length=32), "BAD_LENGTH"),
        (SPARE, replace(good, base=end - 64, length=128), "BAD_END"),
        (SPARE, replace(good, base=128, length=end - 64), "BAD_END"),
        (SPARE, replace(good, owner=4), "BAD_OWNER"),
        (SPARE, replace(good, owner=31), "BAD_OWNER"),
    ]
    for network_id, entry, reason in refused:
        await commit_refused(bench, network_id, entry, reason)
        assert not (await bench.read(PAGE_OF_MANAGER, "entry_status"))["busy"]
    number = await bench.partitions[0].send(SOURCE, 0, SPARE, 64)
    bench.expect(0, SOURCE, 0, SPARE, 0, 64)
    await bench.completed(0, number)
    assert await bench.partitions[1].receive_cursor(SPARE) == 64
    await bench.check()
    # Entries that end with the address space, and the longest one.
    for entry in (replace(good, base=end - 64, length=64), replace(good, base=64, length=end - 64),
                  replace(good, base=0, length=end - 64)):
        await bench.commit(SPARE, entry)
        status = await bench.read(PAGE_OF_MANAGER, "entry_status")
        assert status == {"busy": 0, "done": 1, "refused": 0, "reason": 0}
        assert await bench.partitions[1].receive_cursor(SPARE) == 0
    await bench.check_silence()


async def commit_under_way(bench: Bench, network_id: int, **changes: Any) -> tuple[int, int]:
    """Commit a changed entry; the cycles in which it was written and in which it was done."""
    entry = replace(bench.entries[network_id], **changes)
    task = cocotb.start_soon(bench.manager.commit_entry(network_id, entry))
    while not (await bench.read(PAGE_OF_MANAGER, "entry_status"))["busy"]:
        assert not task.done(), "the commit did not wait for what is in flight"
    written = bench.cycle
    await task
    bench.entries[network_id] = entry
    return written, bench.cycle


@case
async def commit_waits_for_the_old_entry(dut: Any) -> None:
    """Done only when nothing is in flight by the old entry; then never an access by it again.

    The destination's row and the source's, each replaced while a message is on the way.
    """
    bench = await Bench.start(dut, latency_cycles=LATENCY)
    for network_id, new_base, fault in ((INBOX + 1, 0x48000, Status.DST_FAULT),
                                        (SOURCE, 0x50000, Status.SRC_FAULT)):
        old = bench.entries[network_id]
        cursor = await bench.partitions[1].receive_cursor(INBOX + 1)
        driver = bench.partitions[0]
        for n in range(4):
            await driver.send(SOURCE, 600 * n, INBOX + 1, 600, event=True, tag=n)
            bench.expect(0, SOURCE, 600 * n, INBOX + 1, cursor + 600 * n, 600)
        await bench.idle_cycles(20)
        task = cocotb.start_soon(commit_under_way(bench, network_id, base=new_base))
        while not (await bench.read(PAGE_OF_MANAGER, "entry_status"))["busy"]:
            pass
        # Written after the commit: it must not see the old entry, and ends before the new one.
        await driver.send(SOURCE, 0, INBOX + 1, 8, tag=50)
        # Others are not stopped by it.
        other = await bench.partitions[2].send(SOURCE + 2, 0, INBOX + 3, 8)
        bench.expect(2, SOURCE + 2, 0, INBOX + 3,
                     await bench.partitions[3].receive_cursor(INBOX + 3), 8)
        assert (await bench.read(PAGE_OF_MANAGER, "entry_status"))["busy"]
        _, done = await task
        await bench.completed(2, other)
        events = [await bench.event(0) for _ in range(5)]
        assert [event.status for event in events] == [Status.OK] * 4 + [fault]
        await bench.wait_idle()
        accesses = await bench.check()
        by_old = [access for access in accesses
                  if old.base <= access.address < old.base + old.length]
        assert by_old
        last = max(access.cycle for access in by_old)
        last_write = max(access.cycle for access in accesses if access.user == 0
                         and access.kind is Kind.WRITE_BEAT)
        assert last < done and last_write + LATENCY <= done
        # The new entry is in use, with its cursor at 0.
        assert (await bench.partitions[1].receive_cursor(INBOX + 1) == 0) == (
            network_id == INBOX + 1)
        cursor = await bench.partitions[1].receive_cursor(INBOX + 1)
        number = await driver.send(SOURCE, 0, INBOX + 1, 8)
        bench.expect(0, SOURCE, 0, INBOX + 1, cursor, 8)
        await bench.completed(0, number)
        assert not [access for access in await bench.check()
                    if old.base <= access.address < old.base + old.length]


@case
async def commands_behind_a_revoke(dut: Any) -> None:
    """From the write on: a COMMAND in the next write already gets the fault, however many there
    are before it and at the source's side as at the destination's.
    """
    bench = await Bench.start(dut)
    driver = bench.partitions[0]
    for network_id, fault in ((INBOX + 1, Status.DST_FAULT), (SOURCE, Status.SRC_FAULT)):
        entry = bench.entries[network_id]
        for number in range(8):
            for pause in range(3):
                await bench.commit(network_id, entry)
                cursor = await bench.partitions[1].receive_cursor(INBOX + 1)
                # The parameters, with a message that is not counted.
                await bench.completed(0, await driver.send(SOURCE, 0, INBOX + 1, 8))
                bench.expect(0, SOURCE, 0, INBOX + 1, cursor, 8)
                for tag in range(number):
                    bench.post(0, "command", op=Op.SEND.value, event=1, tag=tag)
                await bench.idle_cycles(pause)
                revoke = bench.post(PAGE_OF_MANAGER, "entry_revoke", id=network_id)
                behind = [bench.post(0, "command", op=Op.SEND.value, event=1, tag=number + n)
                          for n in range(2)]
                for write in (revoke, *behind):
                    await write.wait()
                    assert write.data.resp == AxiResp.OKAY
                await bench.wait_idle()
                statuses = [event.status for event in await bench.events(0)]
                done = statuses.count(Status.OK)
                assert done <= number and statuses[done:] == [fault] * (number + 2 - done), (
                    f"{statuses} of {number} commands before a revoke of {network_id}")
                for n in range(1, done + 1):
                    bench.expect(0, SOURCE, 0, INBOX + 1, cursor + 8 * n, 8)
                await bench.check()
        await bench.commit(network_id, entry)


@case
async def commit_while_busy(dut: Any) -> None:
    """A second commit is refused while the first is busy, and changes nothing of it."""
    bench = await Bench.start(dut, latency_cycles=LATENCY)
    await bench.partitions[0].send(SOURCE, 0, INBOX + 1, 500)
    bench.expect(0, SOURCE, 0, INBOX + 1, 0, 500)
    entry = replace(bench.entries[INBOX + 1], base=0x48000)
    for register, fields in (
            ("entry_id", {"id": INBOX + 1}), ("entry_base_lo", {"base": entry.base}),
            ("entry_base_hi", {"base": 0}), ("entry_length", {"length": entry.length}),
            ("entry_senders", {"senders": 0b1111}),
            ("entry_access", {"valid": 1, "may_receive": 1, "owner": 1})):
        await bench.write(PAGE_OF_MANAGER, register, **fields)
    await bench.write(PAGE_OF_MANAGER, "entry_commit", commit=1)
    await bench.write(PAGE_OF_MANAGER, "entry_id", id=SPARE)
    await bench.write(PAGE_OF_MANAGER, "entry_base_lo", base=0x60000)
    await bench.write(PAGE_OF_MANAGER, "entry_commit", commit=1)
    reasons = bench.map.manager["entry_status"]["reason"].encoding
    assert await bench.read(PAGE_OF_MANAGER, "entry_status") == {
        "busy": 1, "done": 0, "refused": 1, "reason": reasons["BUSY"]}
    while (await bench.read(PAGE_OF_MANAGER, "entry_status"))["busy"]:
        pass
    bench.check_ports()
    bench.entries[INBOX + 1] = entry
    await bench.check()
    # The first one is in force, the second one never was.
    await bench.refused(0, Status.DST_FAULT, src_id=SOURCE, dst_id=SPARE)
    number = await bench.partitions[0].send(SOURCE, 9, INBOX + 1, 20)
    bench.expect(0, SOURCE, 9, INBOX + 1, 0, 20)
    await bench.completed(0, number)
    await bench.check()
    # And commits work as before.
    await bench.commit(SPARE, replace(entry, base=0x60000))


@case
async def revoke_rules(dut: Any) -> None:
    """ENTRY_REVOKE takes the row that it names, not the staged one; a row that is none, none."""
    bench = await Bench.start(dut)
    # Staged, but not committed.
    staged = {"entry_id": {"id": INBOX + 2}, "entry_base_lo": {"base": 0x48001}}
    for register, fields in staged.items():
        await bench.write(PAGE_OF_MANAGER, register, **fields)
    for network_id in (16, 0x8000 + INBOX + 1, 0xFFFF):
        try:
            await with_timeout(bench.manager.revoke_entry(network_id), 50, "us")
        except CommitRefused as refusal:
            assert refusal.reason == "BAD_ID"
        else:
            raise AssertionError(f"a revoke of {network_id} must be refused")
    await bench.manager.revoke_entry(INBOX + 1)
    await bench.refused(0, Status.DST_FAULT, src_id=SOURCE, dst_id=INBOX + 1)
    for register, fields in staged.items():
        assert await bench.read(PAGE_OF_MANAGER, register) == fields
    number = await bench.partitions[0].send(SOURCE, 0, INBOX + 2, 64)
    bench.expect(0, SOURCE, 0, INBOX + 2, 0, 64)
    await bench.completed(0, number)
    # The commit of an entry that is not valid does the same.
    await bench.write(PAGE_OF_MANAGER, "entry_base_lo", base=0)
    await bench.write(PAGE_OF_MANAGER, "entry_access", valid=0)
    await bench.write(PAGE_OF_MANAGER, "entry_commit", commit=1)
    await bench.idle_cycles(50)
    assert (await bench.read(PAGE_OF_MANAGER, "entry_status"))["done"]
    await bench.check()
    await bench.refused(0, Status.DST_FAULT, src_id=SOURCE, dst_id=INBOX + 2)
    # One that is not valid may be revoked, too.
    await bench.manager.revoke_entry(INBOX + 2)


@case
async def commit_needs_its_bit(dut: Any) -> None:
    """A write of 0 to ENTRY_COMMIT, and staging alone, change nothing."""
    bench = await Bench.start(dut)
    await bench.write(PAGE_OF_MANAGER, "entry_id", id=INBOX + 1)
    await bench.write(PAGE_OF_MANAGER, "entry_access", valid=0)
    await bench.write(PAGE_OF_MANAGER, "entry_senders", senders=0)
    await bench.write(PAGE_OF_MANAGER, "entry_commit", commit=0)
    number = await bench.partitions[0].send(SOURCE, 0, INBOX + 1, 64)
    bench.expect(0, SOURCE, 0, INBOX + 1, 0, 64)
    await bench.completed(0, number)
    assert await bench.partitions[1].receive_cursor(INBOX + 1) == 64
    await bench.check()


async def rewind_refused(bench: Bench, partition: int, network_id: int) -> None:
    try:
        await with_timeout(bench.partitions[partition].rewind(network_id), 50, "us")
    except RewindRefused:
        return
    raise AssertionError(f"a rewind of {network_id} by partition {partition} must be refused")


@case
async def rewind(dut: Any) -> None:
    """Only the owner, only if nothing is in flight to the entry, only an ID that names it."""
    bench = await Bench.start(dut, latency_cycles=LATENCY)
    inbox = INBOX + 1
    number = await bench.partitions[0].send(SOURCE, 0, inbox, 300)
    bench.expect(0, SOURCE, 0, inbox, 0, 300)
    await bench.idle_cycles(20)
    await rewind_refused(bench, 1, inbox)
    await bench.completed(0, number)
    assert await bench.partitions[1].receive_cursor(inbox) == 300
    for p in (0, 2, 3):
        await rewind_refused(bench, p, inbox)
    for network_id in (SPARE, inbox + 16, 0x8000 + inbox, 0xFFFF):
        await rewind_refused(bench, 1, network_id)
    assert await bench.partitions[1].receive_cursor(inbox) == 300
    # Messages to other entries do not matter.
    await bench.partitions[0].send(SOURCE, 0, INBOX + 2, 300)
    bench.expect(0, SOURCE, 0, INBOX + 2, 0, 300)
    await bench.partitions[1].rewind(inbox)
    assert await bench.partitions[1].receive_cursor(inbox) == 0
    number = await bench.partitions[3].send(SOURCE + 3, 0, inbox, 20)
    bench.expect(3, SOURCE + 3, 0, inbox, 0, 20)
    await bench.completed(3, number)
    await bench.wait_idle()
    await bench.check()


@case
async def receive_cursor(dut: Any) -> None:
    """RECEIVE_CURSOR is 0 for entries of others, for rows that are not valid, for other IDs."""
    bench = await Bench.start(dut)
    number = await bench.partitions[0].send(SOURCE, 0, INBOX + 1, 77)
    bench.expect(0, SOURCE, 0, INBOX + 1, 0, 77)
    await bench.completed(0, number)
    for p in PARTITIONS:
        for network_id in (INBOX + 1, SPARE, INBOX + 1 + 16, 0x8000 + INBOX + 1):
            expected = 77 if (p, network_id) == (1, INBOX + 1) else 0
            assert await bench.partitions[p].receive_cursor(network_id) == expected
    await bench.manager.revoke_entry(INBOX + 1)
    assert await bench.partitions[1].receive_cursor(INBOX + 1) == 0
    await bench.check()


@case
async def privilege(dut: Any) -> None:
    """Unprivileged accesses to the manager's page get an error and change nothing."""
    bench = await Bench.start(dut)
    staged = ("entry_id", "entry_base_lo", "entry_length", "entry_access", "entry_senders",
              "irq_enable", "partition_control", "partition_max_count", "partition_wait_limit")
    before = [await bench.read(PAGE_OF_MANAGER, name) for name in staged]
    outsider = AxiLiteTransport(bench.master)
    page = bench.map.manager_address("version")
    answers = []
    for offset in range(0, CONFIG.page_bytes, 60):
        address = page + offset
        for access in (outsider.read32(address), outsider.write32(address, 0xFFFF_FFFF)):
            try:
                await access
            except BusError as error:
                answers.append(error.response)
            else:
                raise AssertionError(f"{address:#x} answered an unprivileged access")
    assert set(answers) == {"SLVERR"}
    for name in staged:
        address = bench.map.manager_address(name)
        answer = await bench.master.write(address, b"\xFF\xFF\xFF\xFF", prot=AxiProt.NONSECURE)
        assert answer.resp == AxiResp.SLVERR, name
    assert [await bench.read(PAGE_OF_MANAGER, name) for name in staged] == before
    # Nonsecure and privileged is enough in this configuration.
    answer = await bench.master.read(page, 4, prot=AxiProt.PRIVILEGED | AxiProt.NONSECURE)
    assert answer.resp == AxiResp.OKAY
    # The table is as it was: the revocation of entry 0, all ones in the staging registers.
    number = await bench.partitions[0].send(SOURCE, 0, INBOX + 1, 64)
    bench.expect(0, SOURCE, 0, INBOX + 1, 0, 64)
    await bench.completed(0, number)
    assert await bench.partitions[1].receive_cursor(INBOX + 1) == 64
    await bench.check()


@case
async def partial_writes_and_holes(dut: Any) -> None:
    """Writes with partial strobes, and accesses to what is not mapped: an error, no effect."""
    bench = await Bench.start(dut)
    for register, fields in (("src_id", {"id": SOURCE}), ("dst_id", {"id": INBOX + 1}),
                             ("count", {"count": 0x4040})):
        await bench.write(0, register, **fields)
    command = bench.map.partition["command"].pack(op=1, event=1).to_bytes(4, "little")
    at = bench.map.partition_address(0, "command")
    for first in range(4):
        for end in range(first + 1, 5):
            if (first, end) == (0, 4):
                continue
            for register, content in (("command", command), ("count", bytes(4))):
                address = bench.map.partition_address(0, register) + first
                answer = await bench.master.write(address, content[first:end], prot=0)
                assert answer.resp == AxiResp.SLVERR, (register, first, end)
    holes = [at + 0x400, at + 0xF00, bench.map.partition_address(0, "version") + 0x1C]
    holes.append(bench.map.manager_address("version") + CONFIG.page_bytes - 4)
    for address in holes:
        assert (await bench.master.write(address, bytes(4), prot=1)).resp == AxiResp.SLVERR
        assert (await bench.master.read(address, 4, prot=1)).resp == AxiResp.SLVERR
    await bench.idle_cycles(100)
    assert (await bench.read(0, "completed"))["count"] == 0
    assert (await bench.read(0, "count"))["count"] == 0x4040
    assert (await bench.partitions[0].status()).idle
    await bench.check()


@case
async def not_ready_after_reset(dut: Any) -> None:
    """While its memories are initialized the adapter says so and takes no command."""
    bench = Bench(dut)
    await bench.reset()
    assert not (await bench.read(0, "status"))["ready"]
    assert not (await bench.read(PAGE_OF_MANAGER, "status"))["ready"]
    try:
        await bench.write(0, "command", op=1)
    except BusError as error:
        assert error.response == "SLVERR"
    await bench.manager.wait_ready()
    assert (await bench.read(0, "status"))["idle"]
    assert (await bench.read(0, "completed"))["count"] == 0
    assert (await bench.read(0, "rejected"))["count"] in (0, 1)
    # After reset nothing is granted.
    for network_id in range(CONFIG.entries):
        assert await bench.partitions[1].receive_cursor(network_id) == 0
        number = await bench.partitions[0].send(network_id, 0, network_id, 0)
        assert await bench.event(0) == completion(
            Status.NOT_PERMITTED, tag=0, dst_id=network_id, count=0)
    await bench.manager.enable_partition(0, max_count=64)
    for network_id in range(CONFIG.entries):
        number = await bench.partitions[0].send(network_id, 0, network_id, 1)
        assert await bench.event(0) == completion(
            Status.SRC_FAULT, tag=0, dst_id=network_id, count=1)
    await bench.completed(0, number)
    bench.check_ports()
