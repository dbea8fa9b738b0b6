# SPDX-License-Identifier: Apache-2.0
"""What the tests of the whole adapter share: a system in a known state, and what it should do.

A `Bench` keeps a copy of the memory and a list of the beats that may appear on the bus. A test
tells it of each message that is to be carried out; `Bench.check` then compares every byte of the
memory (so that every byte that nobody was to write is a guard byte) and every beat of the
memory's log: what is refused must not appear there, what is granted must, once.
"""

from __future__ import annotations

import ctypes
import logging
import random
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, with_timeout
from cocotbext.axi.constants import AxiProt, AxiResp

from mvxl.config import AdapterConfig
from mvxl.driver import Event, ManagerDriver, PartitionDriver, TableEntry
from mvxl.messages import EventKind, GrantKind, Op, Status
from mvxl.registers import register_map
from sim.build import parameters
from sim.memory import Access, Kind, MemoryControl, read_log
from sim.processor import Processor
from sim.system import Record, read_trace
from sim.transport import AxiLiteTransport, partition_transport, register_port

from .harness import MEMORY_BYTES

__all__ = ["Bench", "CONFIG", "INBOX", "PAGE_OF_MANAGER", "PARTITIONS", "SOURCE", "case",
           "completion", "default_entries", "notification", "written_bytes"]

CONFIG = AdapterConfig.named("default")
PARTITIONS = range(CONFIG.partitions)

#: Where `Bench.read` and `Bench.write` find the manager's registers.
PAGE_OF_MANAGER = -1

#: Network IDs of the default table: SOURCE + p may be sent from, INBOX + p received into, by p.
SOURCE, INBOX = 0, CONFIG.partitions

#: A cocotb test that fails if it does not end within 400,000 cycles.
case = cocotb.test(timeout_time=4, timeout_unit="ms")


def default_entries() -> dict[int, TableEntry]:
    """A source and an inbox per partition, which everyone may send to.

    Each begins 64 bytes before a 4 KiB edge, and none touches another.
    """
    entries = {}
    for p in PARTITIONS:
        entries[SOURCE + p] = TableEntry(
            base=0x10000 * p + 0x0FC0, length=0x7000, owner=p, may_receive=False)
        entries[INBOX + p] = TableEntry(
            base=0x10000 * p + 0x8FC0, length=0x6000, owner=p, may_send=False,
            senders=frozenset(PARTITIONS))
    return entries


def completion(status: Status, *, tag: int, dst_id: int, count: int, peer: int = 0,
               offset: int = 0) -> Event:
    """A sender's event. `peer` and `offset` (bytes) are told of a message that arrived."""
    return Event(kind=EventKind.COMPLETION, status=status, tag=tag, peer=peer, dst_id=dst_id,
                 offset=offset, count=count)


def notification(*, tag: int, dst_id: int, count: int, peer: int, offset: int) -> Event:
    """A receiver's event; `offset` and `count` in bytes."""
    return Event(kind=EventKind.NOTIFICATION, status=Status.OK, tag=tag, peer=peer,
                 dst_id=dst_id, offset=offset, count=count)


class Bench:
    """A system that has been reset and set up, and a picture of its memory.

    Members
    -------
    entries : dict[int, TableEntry]
        The table by network ID, as `commit` wrote it.
    content : bytearray
        What the memory should hold.
    partitions : list[PartitionDriver]
        Each with its page alone; its accesses to privileged registers are privileged.
    manager : ManagerDriver
    memory : MemoryControl
    processor : Processor
        Of all partitions; there from its first use on.
    """

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.config = CONFIG
        self.map = register_map(CONFIG)
        logging.getLogger("cocotb").setLevel(logging.WARNING)
        warnings.simplefilter("ignore", DeprecationWarning)
        self.master = register_port(dut)
        self.privileged = AxiLiteTransport(self.master, privileged=True)
        self.ports = [partition_transport(dut, self.master, CONFIG, p) for p in PARTITIONS]
        self.manager = ManagerDriver(self.privileged, CONFIG)
        self.kernels = [
            AxiLiteTransport(self.master, privileged=True, pages=range(
                p * CONFIG.page_bytes, (p + 1) * CONFIG.page_bytes)) for p in PARTITIONS]
        self.partitions = [PartitionDriver(self.ports[p], CONFIG, p, self.kernels[p])
                           for p in PARTITIONS]
        self.entries: dict[int, TableEntry] = {}
        self.content = bytearray()
        self.random = random.Random(1)
        self._reads: Counter[tuple[int, int]] = Counter()
        self._writes: Counter[tuple[int, int]] = Counter()
        self._log_bytes = 0
        self._tag = 0
        self._processor: Processor | None = None

    @classmethod
    async def start(cls, dut: Any, *, entries: dict[int, TableEntry] | None = None,
                    latency_cycles: int = 10, max_count: int = 0x8000,
                    wait_limit_cycles: int = 0, grants: bool = False) -> Bench:
        """Reset, fill the memory, enable every partition, commit `entries` (the default table).

        `grants`: every partition may get grants, of both kinds.
        """
        bench = cls(dut)
        await bench.reset()
        bench.memory = MemoryControl(dut.memory, data_bits=CONFIG.data_bits)
        bench.memory.set_latency(latency_cycles)
        bench.memory.set_stalls()
        bench.memory.set_errors()
        bench.content = bytearray(bench.random.randbytes(MEMORY_BYTES))
        await bench.memory.load(0, bytes(bench.content))
        await bench.set_up(entries, max_count=max_count, wait_limit_cycles=wait_limit_cycles,
                           grants=grants)
        await bench.accesses()
        return bench

    async def reset(self) -> None:
        Clock(self.dut.clk, 10, "ns").start()
        self.dut.rst.value = 1
        self.dut.partition_reset.value = 0
        await ClockCycles(self.dut.clk, 5)
        self.dut.rst.value = 0
        await ClockCycles(self.dut.clk, 2)

    async def set_up(self, entries: dict[int, TableEntry] | None = None, *,
                     max_count: int = 0x8000, wait_limit_cycles: int = 0,
                     grants: bool = False) -> None:
        """What the manager does before the partitions run."""
        await self.manager.wait_ready()
        for p in PARTITIONS:
            await self.manager.enable_partition(
                p, max_count=max_count, wait_limit=wait_limit_cycles, grant_engine=grants,
                grant_cpu=grants)
        for network_id, entry in (default_entries() if entries is None else entries).items():
            await self.commit(network_id, entry)

    async def commit(self, network_id: int, entry: TableEntry, **changes: Any) -> None:
        """Commit `entry`, with `changes`, and remember it."""
        entry = replace(entry, **changes)
        await self.manager.commit_entry(network_id, entry)
        self.entries[network_id] = entry

    @property
    def processor(self) -> Processor:
        """Loads and stores beside the adapter, with AxUSER of the partition whose they are."""
        if self._processor is None:
            self._processor = Processor(self.dut, self.memory)
        return self._processor

    # Registers by name.

    def _address(self, page: int, register: str, index: int) -> int:
        if page == PAGE_OF_MANAGER:
            return self.map.manager_address(register, index)
        return self.map.partition_address(page, register)

    def _port(self, page: int, privileged: bool) -> AxiLiteTransport:
        if page == PAGE_OF_MANAGER:
            return self.privileged
        return self.kernels[page] if privileged else self.ports[page]

    async def read(self, page: int, register: str, index: int = 0) -> dict[str, int]:
        """The fields of a register of partition `page`, or of the manager.

        With privilege if the register asks for it.
        """
        layout = (self.map.manager if page == PAGE_OF_MANAGER else self.map.partition)[register]
        port = self._port(page, layout.privileged)
        return layout.unpack(await port.read32(self._address(page, register, index)))

    async def write(self, page: int, register: str, index: int = 0, **fields: int) -> None:
        layout = (self.map.manager if page == PAGE_OF_MANAGER else self.map.partition)[register]
        await self._port(page, layout.privileged).write32(
            self._address(page, register, index), layout.pack(**fields))

    def post(self, page: int, register: str, **fields: int) -> Any:
        """Hand a write of a register to the manager of the bus; an event to wait for.

        Writes that are posted one after the other follow each other without a pause. A write of
        the manager's page has privilege.
        """
        if page == PAGE_OF_MANAGER:
            layout = self.map.manager[register]
            return self.master.init_write(
                self._address(page, register, 0), layout.pack(**fields).to_bytes(4, "little"),
                prot=AxiProt.PRIVILEGED)
        layout = self.map.partition[register]
        prot = AxiProt.PRIVILEGED if layout.privileged else AxiProt(0)
        return self.master.init_write(self._address(page, register, 0),
                                      layout.pack(**fields).to_bytes(4, "little"), prot=prot)

    async def post_commands(self, page: int, number: int, **fields: int) -> None:
        """`number` COMMAND writes without a pause, with the parameters as they are."""
        posted = [self.post(page, "command", op=Op.SEND.value, **fields) for _ in range(number)]
        for write in posted:
            await write.wait()
            assert write.data.resp == AxiResp.OKAY

    # What should happen.

    def expect(self, partition: int, src_id: int, src_offset: int, dst_id: int, dst_offset: int,
               count: int) -> None:
        """A message is to be carried out, after those that were told before. All in bytes.

        `dst_offset` is a byte position: in a ring it goes on at the start.
        """
        source = self.entries[src_id].base + src_offset
        self.expect_reads(partition, source, count)
        for target, piece in self.pieces(dst_id, dst_offset, count):
            self._writes.update((partition, target + i) for i in range(piece))
        self.expect_content(src_id, src_offset, dst_id, dst_offset, count)

    def pieces(self, dst_id: int, dst_offset: int, count: int) -> list[tuple[int, int]]:
        """The (address, bytes) of a range of an entry: two, if it wraps to a ring's start."""
        entry = self.entries[dst_id]
        first = min(count, entry.length - dst_offset)
        assert entry.ring or first == count, f"{dst_offset} + {count} is outside of {entry}"
        pieces = [(entry.base + dst_offset, first), (entry.base, count - first)]
        return [(address, piece) for address, piece in pieces if piece]

    def expect_content(self, src_id: int, src_offset: int, dst_id: int, dst_offset: int,
                       count: int) -> None:
        """These bytes are to be moved, by whomever."""
        source = self.entries[src_id].base + src_offset
        data = self.content[source:source + count]
        for target, piece in self.pieces(dst_id, dst_offset, count):
            self.content[target:target + piece], data = data[:piece], data[piece:]

    def expect_reads(self, partition: int, address: int, count: int) -> None:
        """The beats that hold these bytes are to be read."""
        beat = self.config.data_bytes
        self._reads.update((partition, at) for at in
                           range(address // beat * beat, address + count, beat))

    async def accesses(self) -> list[Access]:
        """What the memory's log tells since this was called last."""
        await self.memory.flush()
        log, part = Path("log.bin"), Path("log.part.bin")
        with log.open("rb") as file:
            file.seek(self._log_bytes)
            tail = file.read()
        self._log_bytes += len(tail)
        part.write_bytes(tail)
        return list(read_log(part, data_bits=self.config.data_bits))

    async def check_silence(self) -> None:
        """Nothing has been read or written since the log was looked at last."""
        assert not await self.accesses()

    async def check(self) -> list[Access]:
        """Everything that was expected has happened, and nothing else; the accesses.

        Call it when every command has completed.
        """
        seen = await self.accesses()
        reads = Counter((access.user, access.address) for access in seen
                        if access.kind is Kind.READ_BEAT)
        writes = written_bytes(seen)
        assert reads == self._reads, told("beats read", reads, self._reads)
        assert writes == self._writes, told("bytes written", writes, self._writes)
        self._reads.clear()
        self._writes.clear()
        await self.check_memory()
        self.check_ports()
        return seen

    async def check_memory(self) -> None:
        """Every byte of the memory is as it should be."""
        found = await self.memory.dump(0, MEMORY_BYTES)
        if found != self.content:
            wrong = [i for i in range(MEMORY_BYTES) if found[i] != self.content[i]]
            raise AssertionError(f"{len(wrong)} bytes of the memory are wrong, the first one at "
                                 f"{wrong[0]:#x}, the last one at {wrong[-1]:#x}")

    def check_ports(self) -> None:
        """The protocol checkers of both ports have found nothing."""
        rules = parameters()
        for port in ("memory_port", "register_port"):
            broken = int(getattr(self.dut, f"{port}_broken").value)
            names = [name for i, name in enumerate(rules[port]) if broken >> i & 1]
            assert not broken, f"broken on the {port}: {', '.join(names)}"

    async def event(self, partition: int) -> Event:
        """The oldest event of a partition, which must come within 20,000 cycles."""
        return await with_timeout(self.partitions[partition].wait_event(), 200, "us")

    async def completed(self, partition: int, number: int) -> None:
        """Return when the command with this number ended, which must be within 50,000 cycles."""
        await with_timeout(self.partitions[partition].wait_completed(number), 500, "us")

    async def events(self, partition: int) -> list[Event]:
        """Take all events of a partition."""
        return [event async for event in self.partitions[partition].events()]

    async def refused(self, partition: int, status: Status, *, src_id: int, dst_id: int,
                      count: int = 64, src_offset: int = 0, dst_offset: int | None = None,
                      kind: GrantKind | None = None, **flags: bool) -> None:
        """A command ends with `status`, and leaves nothing but its own event.

        An MVCL if `dst_offset` is given, a GRANT if `kind` is, otherwise a SEND.
        """
        self._tag = (self._tag + 1) % 256
        owner = self.entries[dst_id].owner if dst_id in self.entries else partition
        cursor = await self.partitions[owner].receive_cursor(dst_id)
        driver = self.partitions[partition]
        if dst_offset is not None:
            number = await driver.mvcl(
                src_id, src_offset, dst_id, dst_offset, count, tag=self._tag, **flags)
        elif kind is not None:
            number = await driver.grant(
                src_id, src_offset, dst_id, count, kind=kind, tag=self._tag, **flags)
        else:
            number = await driver.send(
                src_id, src_offset, dst_id, count, tag=self._tag, **flags)
        await self.completed(partition, number)
        await self.idle_cycles(10)
        event = await self.partitions[partition].pop_event()
        assert event is not None, f"a command that must end {status} was carried out"
        assert event == completion(status, tag=self._tag, dst_id=dst_id, count=count), event
        assert await self.partitions[partition].completed() == number
        for p in PARTITIONS:
            assert not await self.events(p)
        assert await self.partitions[owner].receive_cursor(dst_id) == cursor
        await self.check_silence()

    async def wait_idle(self) -> None:
        """Return when no command of anyone is queued or in flight, and its events are out."""
        while not await self.manager.is_idle():
            pass
        await ClockCycles(self.dut.clk, 10)

    def trace(self) -> list[Record]:
        """What the trace tells since the simulation began."""
        # The trace is written by the simulator, which is in this process: its output is buffered.
        ctypes.CDLL(None).fflush(None)
        return list(read_trace(Path("trace.bin"), self.config))

    async def idle_cycles(self, number: int) -> None:
        await ClockCycles(self.dut.clk, number)

    @property
    def cycle(self) -> int:
        """The clock of the memory's log and of the trace."""
        return self.memory.cycle


def written_bytes(accesses: Iterable[Access]) -> Counter[tuple[int, int]]:
    """How often each byte was written, by (partition, address)."""
    return Counter((access.user, access.address + lane) for access in accesses
                   if access.kind is Kind.WRITE_BEAT
                   for lane in range(access.strobes.bit_length()) if access.strobes >> lane & 1)


def told(what: str, found: Counter[tuple[int, int]], expected: Counter[tuple[int, int]]) -> str:
    """The differences between two counts by (partition, address)."""
    def some(count: Counter[tuple[int, int]]) -> str:
        first = ", ".join(f"{p}:{address:#x}" for p, address in sorted(count)[:4])
        return f"{count.total()} ({first}{', ...' if len(count) > 4 else ''})"
    return (f"{what}, as partition:address: wrongly {some(found - expected)}, "
            f"missing {some(expected - found)}")
