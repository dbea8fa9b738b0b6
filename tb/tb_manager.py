# SPDX-License-Identifier: Apache-2.0
"""What the manager does to partitions and memory: MVXL between addresses, what a reset clears."""

from __future__ import annotations

from typing import Any

from mvxl.driver import MoveFailed
from mvxl.messages import Status
from sim.memory import Kind

from .common import INBOX, PAGE_OF_MANAGER, SOURCE, Bench, case

SPACE_BYTES = 1 << 32


async def move_refused(bench: Bench, status: Status, src: int, dst: int, count: int) -> None:
    """The manager's MVXL ends so, and nothing appears on the bus."""
    try:
        await bench.manager.mvxl(src, dst, count)
    except MoveFailed as failed:
        assert failed.status is status, f"expected {status.name}, seen {failed.status.name}"
    else:
        raise AssertionError(f"expected {status.name}, seen OK")
    await bench.check_silence()


@case
async def raw_mvxl_moves(dut: Any) -> None:
    """From and to every byte lane, on the manager's behalf; locks are not looked at."""
    bench = await Bench.start(dut, grants=True)
    for n in range(8):
        src, dst, count = 0x10000 + 3 * n, 0x48100 + 0x400 * n + n, 150 + 31 * n
        await bench.manager.mvxl(src, dst, count)
        bench.content[dst:dst + count] = bench.content[src:src + count]
        accesses = await bench.accesses()
        assert {access.user for access in accesses} == {bench.config.manager}
        written = sum(access.strobes.bit_count() for access in accesses
                      if access.kind is Kind.WRITE_BEAT)
        assert written == count
        await bench.check_memory()
    bench.check_ports()


@case
async def raw_mvxl_refused(dut: Any) -> None:
    """Nothing to move, and ranges that leave the address space by one byte or by all of it."""
    bench = await Bench.start(dut)
    end = SPACE_BYTES
    for status, src, dst, count in (
            (Status.BAD_COUNT, 0x10000, 0x48000, 0),
            (Status.SRC_BOUNDS, end - 63, 0x48000, 64),
            (Status.SRC_BOUNDS, end - 1, 0x48000, 2),
            (Status.SRC_BOUNDS, 0x40, 0x48000, end - 1),
            (Status.SRC_BOUNDS, end, 0x48000, 64),
            (Status.SRC_BOUNDS, 1 << 63, 0x48000, 64),
            (Status.DST_BOUNDS, 0x10000, end - 63, 64),
            (Status.DST_BOUNDS, 0x10000, end - 1, 2),
            (Status.DST_BOUNDS, 0x10000, end, 64),
            (Status.DST_BOUNDS, 0x10000, 1 << 40, 64)):
        await move_refused(bench, status, src, dst, count)
    bench.check_ports()


@case
async def raw_mvxl_errors(dut: Any) -> None:
    """The last bytes of the address space may be named; nothing answers there but errors."""
    bench = await Bench.start(dut)
    for status, src, dst in ((Status.READ_ERROR, SPACE_BYTES - 64, 0x48000),
                             (Status.WRITE_ERROR, 0x10000, SPACE_BYTES - 64)):
        try:
            await bench.manager.mvxl(src, dst, 64)
        except MoveFailed as failed:
            assert failed.status is status, f"expected {status.name}, seen {failed.status.name}"
        else:
            raise AssertionError(f"expected {status.name}, seen OK")
        assert not (await bench.read(PAGE_OF_MANAGER, "fault_pending"))["partitions"]
    await bench.manager.mvxl(0x10000, 0x48000, 64)
    bench.content[0x48000:0x48040] = bench.content[0x10000:0x10040]
    await bench.check_memory()
    bench.check_ports()


@case
async def reset_clears_the_page(dut: Any) -> None:
    """Every register of the page, and what hangs on it, is as after power-on; others' are not."""
    bench = await Bench.start(dut, grants=True)
    registers = [register for register in bench.map.partition
                 if register.is_stored and not register.privileged]
    for page in (0, 1):
        for register in registers:
            await bench.write(page, register.name, **{
                name: field.largest for name, field in register.fields.items()})
    await bench.write(1, "completed_compare", count=1000)
    await bench.write(0, "completed_compare", count=1000)
    for page in (0, 1):
        assert not (await bench.read(page, "irq_state"))["completed"] or (
            await bench.read(page, "irq_test"))["completed"]
    await bench.write(0, "irq_test", event=0, completed=0)
    assert not (await bench.read(0, "irq_state"))["completed"]
    await bench.partitions[2].send(SOURCE + 2, 0, INBOX, 64, notify=True)
    bench.expect(2, SOURCE + 2, 0, INBOX, 0, 64)
    await bench.wait_idle()

    await bench.manager.reset_partition(0)
    for register in registers:
        fields = await bench.read(0, register.name)
        assert not any(fields.values()), f"{register.name} after a reset: {fields}"
        kept = await bench.read(1, register.name)
        assert any(kept.values()), f"{register.name} of another partition was cleared"
    # COMPLETED and COMPLETED_COMPARE are both 0, so that the one has reached the other.
    assert await bench.read(0, "irq_state") == {"event": 0, "completed": 1}
    status = await bench.read(0, "status")
    assert (status["events"], status["halted"], status["rejected"]) == (0, 0, 0)
    assert (await bench.read(0, "completed"))["count"] == 0
    assert await bench.partitions[0].receive_cursor(INBOX) == 64
    await bench.check()


@case
async def reset_ends_a_halt(dut: Any) -> None:
    """A partition that is halted when it is reset runs its next command, without RESUME."""
    bench = await Bench.start(dut)
    driver = bench.partitions[0]
    source = bench.entries[SOURCE].base
    bench.memory.set_errors((source, source + 64, "r"))
    await driver.send(SOURCE, 0, INBOX + 1, 64)
    assert (await bench.event(0)).status is Status.READ_ERROR
    assert (await driver.status()).halted
    await bench.manager.reset_partition(0)
    driver.forget()
    assert not (await driver.status()).halted
    await bench.accesses()
    await driver.send(SOURCE, 64, INBOX + 1, 64, event=True, tag=1)
    assert (await bench.event(0)).status is Status.OK
    bench.expect(0, SOURCE, 64, INBOX + 1, 0, 64)
    await bench.check()
