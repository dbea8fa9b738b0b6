# SPDX-License-Identifier: Apache-2.0
"""A table in block RAM: not ready until every row is empty, after each reset.

For the system of the bench (sim/launcher.py), whose launcher is quiet.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import cocotb
import pytest
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles

from mvxl.config import AdapterConfig
from mvxl.driver import ManagerDriver, PartitionDriver, QueueFull, TableEntry
from mvxl.messages import Op, Status
from mvxl.registers import register_map
from sim.build import parameters
from sim.memory import MemoryControl, read_log
from sim.transport import AxiLiteTransport, BusError, partition_transport, register_port

PERIOD_NS = 10
ENTRY_BYTES = 1024
MESSAGE_BYTES = 64

#: Cycles from the last row to a STATUS read that tells of it: the way of the bit, and of the read.
LAG_CYCLES = 40


def chosen_ids(entries: int) -> list[int]:
    """Rows at both ends of the table, and beside every bit of its addresses."""
    ids = {0, entries - 1}
    for bit in range(1, (entries - 1).bit_length()):
        ids |= {1 << bit, (1 << bit) - 1}
    return sorted(ids)


class Bench:
    """A system whose resets are timed, and the drivers of partitions 0 and 1.

    `table_is_last`: nothing else takes longer to scrub.
    """

    def __init__(self, dut: Any, config: AdapterConfig, *, table_is_last: bool) -> None:
        self.dut = dut
        self.config = config
        self.table_is_last = table_is_last
        self.memory = MemoryControl(dut.system.memory, data_bits=config.data_bits)
        self.master = register_port(dut)
        self.manager = ManagerDriver(AxiLiteTransport(self.master, privileged=True), config)
        self.ports = [partition_transport(dut, self.master, config, p) for p in range(2)]
        self.partitions = self.drivers()

    def drivers(self) -> list[PartitionDriver]:
        return [PartitionDriver(port, self.config, p) for p, port in enumerate(self.ports)]

    async def reset(self) -> None:
        """A reset of the whole adapter, and new drivers; then nothing is ready for a while."""
        self.dut.rst.value = 1
        self.dut.run.value = 0
        await ClockCycles(self.dut.clk, 5)
        self.dut.rst.value = 0
        start = self.memory.cycle
        self.partitions = self.drivers()
        await ClockCycles(self.dut.clk, 2)
        await self.commands_are_rejected()
        while not (await self.partitions[1].status()).ready:
            pass
        took = self.memory.cycle - start
        assert took >= self.config.entries, f"ready after {took} cycles, too early"
        if self.table_is_last:
            assert took < self.config.entries + LAG_CYCLES, f"ready after {took} cycles, too late"

    async def commands_are_rejected(self) -> None:
        driver, page = self.partitions[0], register_map(self.config)
        with pytest.raises(QueueFull, match="the adapter is not ready"):
            await driver.send(0, 0, 1, MESSAGE_BYTES)
        command = (page.partition_address(0, "command"),
                   page.partition["command"].pack(op=Op.SEND.value))
        with pytest.raises(BusError, match="SLVERR"):
            await self.ports[0].write32(*command)
        if self.table_is_last:
            # Between the registers' scrub and the table's they are counted.
            await ClockCycles(self.dut.clk, self.config.entries * 3 // 4)
            await self.ports[0].write32(*command)
            assert await driver.rejected() == 1
        status = await driver.status()
        assert (status.ready, status.idle, status.rejected) == (False, True, self.table_is_last)
        assert await driver.completed() == 0

    async def enable(self) -> None:
        for p in range(2):
            await self.manager.enable_partition(p, max_count=ENTRY_BYTES)

    async def commit(self, ids: list[int]) -> None:
        """Every second row may be sent from by partition 0, the others received into by 1."""
        for place, network_id in enumerate(ids):
            source = place % 2 == 0
            await self.manager.commit_entry(network_id, TableEntry(
                base=ENTRY_BYTES * place, length=ENTRY_BYTES, owner=0 if source else 1,
                may_send=source, may_receive=not source,
                senders=frozenset() if source else frozenset({0})))

    async def send(self, source: int, destination: int) -> Status:
        """How a message that tells its end ends."""
        sender = self.partitions[0]
        await sender.wait_completed(await sender.send(source, 0, destination, MESSAGE_BYTES,
                                                      event=True))
        event = await sender.wait_event()
        return event.status


@cocotb.test(timeout_time=4, timeout_unit="ms")
async def no_row_survives_a_reset(dut: Any) -> None:
    """Rows all over the table carry messages, are gone after a reset, and can be made again."""
    given = parameters()
    config = AdapterConfig(**given["config"])
    ids = chosen_ids(config.entries)
    ids = ids[:len(ids) // 2 * 2]
    assert config.entries - 1 in ids or config.entries - 2 in ids
    Clock(dut.clk, PERIOD_NS, "ns").start()
    bench = Bench(dut, config, table_is_last=given["table_is_last"])
    bench.memory.set_latency(3)
    content = bytearray(random.Random(1).randbytes(ENTRY_BYTES * len(ids)))
    await bench.memory.load(0, bytes(content))
    for life in range(3):
        await bench.reset()
        await bench.enable()
        pairs = list(zip(ids[::2], ids[1::2], strict=True))
        for source, destination in pairs:
            assert await bench.send(source, destination) is Status.SRC_FAULT
        # No message was carried out, so the log did not grow.
        await bench.memory.flush()
        log = list(read_log(Path("log.bin"), data_bits=config.data_bits))
        assert len(log) == life * len(pairs) * 2 * (1 + MESSAGE_BYTES // config.data_bytes)
        await bench.commit(ids)
        for place, (source, destination) in enumerate(pairs):
            assert await bench.send(source, destination) is Status.OK
            start, end = (ENTRY_BYTES * (2 * place + part) for part in (0, 1))
            content[end:end + MESSAGE_BYTES] = content[start:start + MESSAGE_BYTES]
            # The cursor began at 0 too.
            assert await bench.partitions[1].receive_cursor(destination) == MESSAGE_BYTES
        assert await bench.memory.dump(0, len(content)) == content
    for port in ("memory_port", "register_port"):
        assert not int(getattr(dut, f"{port}_broken").value), f"a rule of the {port} is broken"
