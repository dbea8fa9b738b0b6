# SPDX-License-Identifier: Apache-2.0
"""Sets a `BenchSystem` up for scenarios of the bench, has each timed, and checks what it did."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, First, RisingEdge, Timer

from mvxl.config import AXI_BOUNDARY_BYTES, ENTRY_UNIT_BYTES, AdapterConfig
from mvxl.driver import ManagerDriver, PartitionDriver, TableEntry
from mvxl.messages import Op
from mvxl.registers import register_map
from sim.bench import RESULTS, SCENARIOS, Measurement, Scenario
from sim.build import parameters
from sim.launcher import Stopwatch
from sim.memory import MemoryControl
from sim.transport import AxiLiteTransport, partition_transport, register_port

PERIOD_NS = 10
GUARD_BYTES = 4096
MAX_COUNT_BYTES = 1 << 20


@dataclass(frozen=True)
class Place:
    """Where an entry lies: `length` bytes from `base`, and guard bytes behind them."""

    base: int
    length: int


@dataclass(frozen=True)
class Layout:
    """The entries of a scenario, by partition: each list has one for every sender.

    A shared destination is there once for each of them.
    """

    sources: list[Place]
    destinations: list[Place]

    @property
    def end(self) -> int:
        """Bytes of the memory that the scenario uses, from address 0."""
        last = max(self.destinations, key=lambda place: place.base)
        return last.base + last.length + GUARD_BYTES


def layout_of(scenario: Scenario, senders: int) -> Layout:
    """Entries just long enough, on 4 KiB boundaries, all of them apart."""
    at = 0

    def place(messages: int, skew: int) -> Place:
        nonlocal at
        needed = messages * scenario.message_bytes + skew
        start, length = at, max(_rounded(needed, ENTRY_UNIT_BYTES), ENTRY_UNIT_BYTES)
        at = _rounded(start + length + GUARD_BYTES, AXI_BOUNDARY_BYTES)
        return Place(start, length)

    each = -(-scenario.messages // senders)
    sources = [place(each, scenario.source_skew) for _ in range(senders)]
    if scenario.one_destination:
        return Layout(sources, [place(scenario.messages, scenario.destination_skew)] * senders)
    return Layout(sources, [place(each, scenario.destination_skew) for _ in range(senders)])


def _rounded(number: int, multiple: int) -> int:
    """The next multiple of `multiple` that is not below `number`."""
    return -(-number // multiple) * multiple


class Bench:
    """One scenario on the simulated system."""

    def __init__(self, dut: Any, master: Any, config: AdapterConfig, scenario: Scenario) -> None:
        self.dut = dut
        self.config = config
        self.scenario = scenario
        self.senders = scenario.senders(config)
        self.memory = MemoryControl(dut.system.memory, data_bits=config.data_bits)
        self.layout = layout_of(scenario, self.senders)
        self.manager = ManagerDriver(AxiLiteTransport(master, privileged=True), config)
        self.transports = [partition_transport(dut, master, config, p)
                           for p in range(self.senders)]
        self.drivers = [PartitionDriver(transport, config, p)
                        for p, transport in enumerate(self.transports)]
        self.faults: list[str] = []

    def require(self, condition: bool, fault: str) -> None:
        if not condition:
            self.faults.append(fault)

    def destination_id(self, sender: int) -> int:
        return self.senders + (0 if self.scenario.one_destination else sender)

    async def set_up(self) -> bytes:
        """Reset, memory, table and parameters. Returns the memory's contents."""
        dut, scenario, config = self.dut, self.scenario, self.config
        dut.run.value = 0
        dut.rst.value = 1
        await ClockCycles(dut.clk, 4)
        dut.rst.value = 0
        # Stalls and errors come later: they would hit the message that skews the cursor.
        self.memory.set_latency(scenario.latency_cycles)
        self.memory.set_stalls()
        self.memory.set_errors()
        content = random.Random(scenario.name).randbytes(self.layout.end)
        await self.memory.load(0, content)
        await self.manager.wait_ready()
        for p in range(config.partitions):
            await self.manager.enable_partition(p, max_count=MAX_COUNT_BYTES)
        everyone = frozenset(range(config.partitions))
        for p, place in enumerate(self.layout.sources):
            await self.manager.commit_entry(
                p, TableEntry(base=place.base, length=place.length, owner=p))
        for p, place in enumerate(self.layout.destinations):
            await self.manager.commit_entry(self.destination_id(p), TableEntry(
                base=place.base, length=place.length, owner=(p + 1) % config.partitions,
                senders=everyone))
        for p, driver in enumerate(self.drivers):
            if scenario.destination_skew:
                number = await driver.send(p, 0, self.destination_id(p),
                                           scenario.destination_skew)
                await driver.wait_completed(number)
            await self._arm(p)
        if scenario.error_at is not None:
            source = self.layout.sources[0]
            self.memory.set_errors(
                (source.base + self._error_offset, source.base + source.length, "r"))
        return content

    @property
    def _error_offset(self) -> int:
        """Source offset of the first beat that is answered with an error (bytes)."""
        beat = self.config.data_bytes
        return (self.scenario.error_at or 0) // beat * beat

    async def _arm(self, p: int) -> None:
        """The parameters of partition `p`, and its interrupt when all its messages are done."""
        scenario = self.scenario
        page = register_map(self.config).partition
        mine = len(range(p, scenario.messages, self.senders))
        before = await self.drivers[p].completed()
        for register, fields in (
                ("src_id", {"id": p}), ("dst_id", {"id": self.destination_id(p)}),
                ("count", {"count": scenario.message_bytes}),
                ("completed_compare", {"count": before + mine}),
                ("irq_enable", {"completed": 1})):
            await self.transports[p].write32(
                register_map(self.config).partition_address(p, register),
                page[register].pack(**fields))

    async def time(self) -> dict[str, int]:
        """Launch, and return the stopwatch's readings at the end."""
        dut, scenario = self.dut, self.scenario
        first = (scenario.source_skew if scenario.source_offset is None
                 else scenario.source_offset)
        command = register_map(self.config).partition["command"]
        for name, value in (
                ("messages", scenario.messages), ("partitions", self.senders),
                ("all_parameters", scenario.all_parameters), ("count", scenario.message_bytes),
                ("first_offset", first), ("step_offset", scenario.message_bytes),
                ("command", command.pack(op=Op.SEND.value)),
                ("awaited", (1 << self.senders) - 1)):
            getattr(dut, name).value = value
        for p in range(self.senders):
            getattr(dut, f"src_id_{p}").value = p
            getattr(dut, f"dst_id_{p}").value = self.destination_id(p)
        self.memory.set_stalls(seed=2, **scenario.stalls)
        await ClockCycles(dut.clk, 4)
        dut.run.value = 1
        # Twice what it takes to do one thing at a time.
        bound = 2 * scenario.messages * (
            2 * scenario.message_bytes // self.config.data_bytes + 2 * scenario.latency_cycles
            + 100)
        ended = RisingEdge(dut.finished)
        if await First(ended, Timer(bound * PERIOD_NS, "ns")) is not ended:
            raise AssertionError(f"{scenario.name}: not done after {bound} cycles")
        await ClockCycles(dut.clk, 2)
        readings = {name: getattr(dut, name).value.to_unsigned() for name in Stopwatch.READINGS}
        self.require(not int(dut.refused.value), "the register port answered with an error")
        # The launcher's last read of STATUS must be over before software has the port again.
        await ClockCycles(dut.clk, 10)
        return readings

    async def check(self, before: bytes, readings: dict[str, int]) -> int:
        """Statuses, memory and protocol. Returns the bytes of messages that ended OK."""
        dut, scenario = self.dut, self.scenario
        dut.run.value = 0
        await ClockCycles(dut.clk, 2)
        for p, driver in enumerate(self.drivers):
            rejected = await driver.rejected()
            self.require(rejected == 0, f"{rejected} commands of partition {p} were rejected")
            # A message that ends OK was not asked to give an event.
            ended = {event.status.name async for event in driver.events()} or {"OK"}
            self.require(ended == {scenario.status},
                         f"messages of partition {p} ended {', '.join(sorted(ended))}, "
                         f"not {scenario.status}")
        after = await self.memory.dump(0, len(before))
        written = readings["written_bytes"]
        if scenario.status == "OK":
            moved = scenario.messages * scenario.message_bytes
            self.require(written == moved, f"{written} bytes were written, not {moved}")
            self._check_moved(before, after)
        else:
            moved = 0
            self.require(written <= self._error_offset,
                         f"{written} bytes were written, {self._error_offset} were good")
            self._check_refused(before, after)
        for port in ("memory_port", "register_port"):
            broken = getattr(dut, f"{port}_broken").value.to_unsigned()
            self.require(not broken, f"rules of the protocol were broken: {port}_broken is "
                                     f"{broken:#x}")
        return moved

    def _check_moved(self, before: bytes, after: bytes) -> None:
        scenario = self.scenario
        size, skew = scenario.message_bytes, scenario.destination_skew
        expected = bytearray(before)
        messages = {}       # of each partition
        for p, (source, destination) in enumerate(
                zip(self.layout.sources, self.layout.destinations, strict=True)):
            start = source.base + scenario.source_skew
            mine = range(p, scenario.messages, self.senders)
            messages[p] = [before[start + k * size:start + (k + 1) * size]
                           for k in range(len(mine))]
            expected[destination.base:destination.base + skew] = (
                before[source.base:source.base + skew])
            if not scenario.one_destination:
                at = destination.base + skew
                expected[at:at + size * len(mine)] = b"".join(messages[p])
        if scenario.one_destination:
            # In which order the partitions' messages got there is up to the arbiter, but those of
            # one partition stay in order.
            at = self.layout.destinations[0].base + skew
            for k in range(at, at + scenario.messages * size, size):
                found = after[k:k + size]
                sender = next((p for p, left in messages.items() if left and left[0] == found),
                              None)
                if sender is not None:
                    expected[k:k + size] = messages[sender].pop(0)
        self._compare(bytes(expected), after)

    def _check_refused(self, before: bytes, after: bytes) -> None:
        """Nothing is written, but what was read before a late read error may be."""
        expected = bytearray(before)
        good = self._error_offset if self.scenario.error_at else 0
        source, destination = self.layout.sources[0].base, self.layout.destinations[0].base
        for i in range(good):
            if after[destination + i] == before[source + i]:
                expected[destination + i] = before[source + i]
        self._compare(bytes(expected), after)

    def _compare(self, expected: bytes, found: bytes) -> None:
        if expected != found:
            wrong = [i for i, (a, b) in enumerate(zip(expected, found, strict=True)) if a != b]
            self.faults.append(f"{len(wrong)} bytes of the memory are wrong, the first at "
                               f"{wrong[0]:#x}")


@cocotb.test()
async def bench(dut: Any) -> None:
    given = parameters()
    config = AdapterConfig(**given["config"])
    Clock(dut.clk, PERIOD_NS, "ns").start()
    dut.run.value = 0
    dut.rst.value = 1
    master = register_port(dut)
    await ClockCycles(dut.clk, 2)
    with open(RESULTS, "w", encoding="utf-8") as file:
        for name in given["scenarios"]:
            one = Bench(dut, master, config, SCENARIOS[name])
            before = await one.set_up()
            readings = await one.time()
            moved = await one.check(before, readings)
            result = Measurement(scenario=name, moved_bytes=moved, faults=one.faults, **readings)
            file.write(json.dumps(asdict(result)) + "\n")
            file.flush()
