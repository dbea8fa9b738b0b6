# SPDX-License-Identifier: Apache-2.0
"""What the software of all partitions in the demonstration shares."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cocotb.triggers import Lock

from mvxl.config import AdapterConfig
from mvxl.driver import ManagerDriver, PartitionDriver
from sim.memory import MemoryControl
from sim.scenario import Entry, Route, Scenario, Service
from sim.transport import AxiLiteTransport, partition_transport

__all__ = ["CLOCK_NS", "TAGS", "Desk", "comparison"]

CLOCK_NS = 10

TAGS = 256


@dataclass
class Desk:
    """What all coroutines share.

    Software reads and writes the memory of its partition in no simulated time (`peek`, `store`);
    `stores` keeps what was written.
    """

    dut: Any
    master: Any
    scenario: Scenario
    memory: MemoryControl
    content: bytes
    flip: bool
    arrived_bytes: int = 0
    happened: int = 0
    trying: dict[int, str] = field(default_factory=dict)
    busy: set[int] = field(default_factory=set)
    checks: list[dict[str, Any]] = field(default_factory=list)
    stores: list[dict[str, Any]] = field(default_factory=list)
    flipped: dict[str, int] | None = None
    _backdoor: Lock = field(default_factory=Lock)

    @property
    def config(self) -> AdapterConfig:
        return self.scenario.config

    @property
    def route(self) -> Route:
        assert self.scenario.route is not None
        return self.scenario.route

    @property
    def service(self) -> Service:
        assert self.scenario.service is not None
        return self.scenario.service

    @property
    def message_bytes(self) -> int:
        return self.route.message_bytes

    def transport(self, partition: int, *, mmu: bool = True) -> AxiLiteTransport:
        return partition_transport(self.dut, self.master, self.config, partition, mmu=mmu)

    def kernel(self, partition: int) -> AxiLiteTransport:
        """The partition's own page, with privilege."""
        start = partition * self.config.page_bytes
        return AxiLiteTransport(self.master, privileged=True,
                                pages=range(start, start + self.config.page_bytes))

    def driver(self, partition: int) -> PartitionDriver:
        return PartitionDriver(self.transport(partition), self.config, partition,
                               self.kernel(partition))

    def manager(self) -> ManagerDriver:
        return ManagerDriver(AxiLiteTransport(self.master, privileged=True), self.config)

    async def peek(self, address: int, count_bytes: int) -> bytes:
        async with self._backdoor:
            return await self.memory.dump(address, count_bytes)

    async def peek_entry(self, entry: Entry, offset: int, count_bytes: int) -> bytes:
        """Bytes of a message in an entry, which in a ring may go on at its start."""
        first = min(count_bytes, entry.length - offset)
        content = await self.peek(entry.base + offset, first)
        if first < count_bytes:
            content += await self.peek(entry.base, count_bytes - first)
        return content

    async def store(self, partition: int, address: int, content: bytes) -> None:
        """The software of a partition writes into its memory."""
        self.stores.append({"cycle": self.memory.cycle, "partition": partition,
                            "address": address, "content": content.hex()})
        async with self._backdoor:
            await self.memory.load(address, content)

    async def flip_bit(self, address: int, bit: int) -> None:
        async with self._backdoor:
            await self.memory.flip(address, bit)

    def arrive(self, count_bytes: int) -> None:
        """Count bytes that arrived somewhere, for who waits outside."""
        self.arrived_bytes += count_bytes
        self.happened += 1
        Path("progress").write_text(str(self.arrived_bytes), encoding="ascii")

    def message(self, number: int) -> bytes:
        """Bytes of a message of the file."""
        start = number * self.message_bytes
        return self.content[start:start + self.message_bytes]

    @property
    def messages(self) -> int:
        return -(-len(self.content) // self.message_bytes)


def comparison(expected: bytes, seen: bytes) -> dict[str, Any]:
    """How bytes differ from what they must be, for JSON."""
    wrong = [index for index, pair in enumerate(zip(expected, seen, strict=False))
             if pair[0] != pair[1]] if seen != expected else []
    return {"equal": seen == expected, "count": len(seen), "must_count": len(expected),
            "wrong_bytes": len(wrong), "first_wrong": wrong[0] if wrong else 0}
