# SPDX-License-Identifier: Apache-2.0
"""A system whose register port is driven cycle by cycle, for tests in which the cycle matters.

`RegisterPort` presents address and data of a write together and tells in which cycle they were
taken; a write can be asked for at a cycle. `Rig` is a system in a known state, and short names for
what such tests do with it. Cycles are those of the memory's log: the number of clock edges before
the one that ends the cycle.
"""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import Event, RisingEdge, Timer
from cocotb.utils import get_sim_time

from mvxl.config import AdapterConfig
from mvxl.driver import TableEntry
from mvxl.messages import EventKind, Op, Status
from mvxl.registers import register_map
from sim.build import parameters
from sim.memory import Access, Kind, MemoryControl, read_log
from sim.system import Record, read_trace

__all__ = ["CONFIG", "PARTITIONS", "STUCK_CYCLES", "Outcome", "RegisterPort", "Rig", "Write",
           "by_bytes"]

CONFIG = AdapterConfig.named("default")
PARTITIONS = range(CONFIG.partitions)

#: Within so many cycles everything that a test starts is over, unless it is stuck.
STUCK_CYCLES = 4000

PERIOD_NS = 10
PRIVILEGED = 1      # AxPROT


@dataclass(eq=False)
class Write:
    """A write that was handed to the port. `cycle`: in which it was taken, -1 before."""

    address: int
    value: int
    at: int | None = None
    cycle: int = -1


class RegisterPort:
    """Drives `dut.s_axil_*` and watches the interrupts, in a task that runs for ever.

    Writes are carried out in the order in which they were posted, each as soon as the port takes
    it, or, if it has an `at`, in that very cycle. Reads go beside them. An answer other than OKAY,
    or a cycle that was missed, fails the test.

    Members
    -------
    cycle : int
        The cycle that has ended last.
    rises : dict[str, list[int]]
        First cycles in which `irq0`, `irq1`, ... or `irq_manager` was high after it was low.
    longest_cycles : int
        Of all reads and writes, from the handshake of the later of AW and W, or of AR, to VALID
        of the response.
    """

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.map = register_map(CONFIG)
        self.cycle = 0
        self.rises: dict[str, list[int]] = {}
        self.longest_cycles = 0
        self._writes: deque[Write] = deque()
        self._reads: deque[tuple[int, list[int], Event]] = deque()
        self._alarms: dict[int, list[Event]] = {}
        self._drained = Event()
        for name in ("awvalid", "wvalid", "arvalid", "bready", "rready"):
            getattr(dut, f"s_axil_{name}").value = 0

    def start(self, cycle: int) -> None:
        """Begin to drive, at a clock edge; `cycle`: the one that ends with the next edge."""
        self.cycle = cycle - 1
        self._first_cycle = cycle - 1
        self._first_ns = get_sim_time("ns")
        dut = self.dut
        dut.s_axil_wstrb.value = 0xF
        dut.s_axil_awprot.value = PRIVILEGED
        dut.s_axil_arprot.value = PRIVILEGED
        dut.s_axil_bready.value = 1
        dut.s_axil_rready.value = 1
        cocotb.start_soon(self._drive())
        cocotb.start_soon(self._watch(dut.irq, [f"irq{p}" for p in PARTITIONS]))
        cocotb.start_soon(self._watch(dut.irq_manager, ["irq_manager"]))

    async def _drive(self) -> None:
        dut = self.dut
        edge = RisingEdge(dut.clk)
        awvalid, wvalid, arvalid = dut.s_axil_awvalid, dut.s_axil_wvalid, dut.s_axil_arvalid
        awready, wready, arready = dut.s_axil_awready, dut.s_axil_wready, dut.s_axil_arready
        bvalid, rvalid = dut.s_axil_bvalid, dut.s_axil_rvalid
        writes, reads = self._writes, self._reads
        writing = reading = False           # presented
        written = asked = -1                # in which cycle the port took what is not answered
        while True:
            await edge
            self.cycle += 1
            cycle = self.cycle
            alarms = self._alarms.pop(cycle, ())
            for alarm in alarms:
                alarm.set()
            awaited = bool(writing or reads or alarms or written >= 0)
            if written >= 0 and bvalid.value == 1:
                assert int(dut.s_axil_bresp.value) == 0, f"a write was refused in cycle {cycle}"
                self.longest_cycles = max(self.longest_cycles, cycle - written)
                written = -1
            if asked >= 0 and rvalid.value == 1:
                assert int(dut.s_axil_rresp.value) == 0, f"a read was refused in cycle {cycle}"
                self.longest_cycles = max(self.longest_cycles, cycle - asked)
                _, answer, done = reads.popleft()
                answer.append(dut.s_axil_rdata.value.to_unsigned())
                asked = -1
                done.set()
            if writing and awready.value == 1:
                assert wready.value == 1, "AW and W are presented together, and taken together"
                write = writes.popleft()
                write.cycle = written = cycle
                assert write.at is None or write.at == cycle, (
                    f"the write asked for in cycle {write.at} was taken in cycle {cycle}")
                writing = False
                awvalid.value = 0
                wvalid.value = 0
            if reading and arready.value == 1:
                reading = False
                asked = cycle
                arvalid.value = 0
            if not writing and writes:
                write = writes[0]
                if write.at is None or cycle + 1 >= write.at:
                    dut.s_axil_awaddr.value = write.address
                    dut.s_axil_wdata.value = write.value
                    awvalid.value = 1
                    wvalid.value = 1
                    writing = True
            if not writes and written < 0:
                self._drained.set()
            if reads and not reading and asked < 0:
                dut.s_axil_araddr.value = reads[0][0]
                arvalid.value = 1
                reading = True
            if not (awaited or writing or reads):
                await self._sleep()     # nobody has been woken

    async def _sleep(self) -> None:
        """Pass the cycles in which nothing is to be done before the next alarm, or write."""
        times = [*self._alarms, *(write.at - 1 for write in [*self._writes][:1] if write.at)]
        idle_cycles = min(times, default=0) - self.cycle
        if idle_cycles > 2:
            await Timer(PERIOD_NS * idle_cycles - PERIOD_NS // 2, "ns")
            self.cycle += idle_cycles - 1

    async def _watch(self, vector: Any, names: list[str]) -> None:
        """Note when lines rise. Their changes follow the clock edge that begins the cycle."""
        before = vector.value.to_unsigned() if len(names) > 1 else int(vector.value)
        while True:
            await vector.value_change
            level = vector.value.to_unsigned() if len(names) > 1 else int(vector.value)
            cycle = self._first_cycle + int(get_sim_time("ns") - self._first_ns) // PERIOD_NS + 1
            for number, name in enumerate(names):
                if level & ~before & 1 << number:
                    self.rises.setdefault(name, []).append(cycle)
            before = level

    def post(self, address: int, value: int, at: int | None = None) -> Write:
        """Hand over a write."""
        write = Write(address, value, at)
        self._writes.append(write)
        self._drained.clear()
        return write

    def write(self, partition: int, register: str, at: int | None = None, **fields: int) -> Write:
        """Hand over a write of a partition's register."""
        return self.post(self.map.partition_address(partition, register),
                         self.map.partition[register].pack(**fields), at)

    def manage(self, register: str, at: int | None = None, index: int = 0,
               **fields: int) -> Write:
        """Hand over a write of a register of the manager."""
        return self.post(self.map.manager_address(register, index),
                         self.map.manager[register].pack(**fields), at)

    async def written(self) -> None:
        """Return when every write has been answered."""
        await self._drained.wait()

    async def until(self, cycle: int) -> None:
        """Return when this cycle, or a later one, has ended."""
        if cycle > self.cycle:
            alarm = Event()
            self._alarms.setdefault(cycle, []).append(alarm)
            await alarm.wait()

    async def _ask(self, address: int) -> int:
        answer: list[int] = []
        done = Event()
        self._reads.append((address, answer, done))
        await done.wait()
        return answer[0]

    async def read(self, partition: int, register: str) -> dict[str, int]:
        """The fields of a partition's register."""
        return self.map.partition[register].unpack(
            await self._ask(self.map.partition_address(partition, register)))

    async def look(self, register: str, index: int = 0) -> dict[str, int]:
        """The fields of a register of the manager."""
        return self.map.manager[register].unpack(
            await self._ask(self.map.manager_address(register, index)))


@dataclass(frozen=True)
class Outcome:
    """An event; of a completion or of a notification. `offset` and `count` in bytes."""

    status: Status
    tag: int
    dst_id: int
    offset: int
    count: int
    notification: bool = False


@dataclass
class Rig:
    """A system that was reset, with every partition enabled.

    Members
    -------
    memory : MemoryControl
    port : RegisterPort
    entries : dict[int, TableEntry]
        What was committed last, by network ID.
    """

    dut: Any
    port: RegisterPort = field(init=False)
    memory: MemoryControl = field(init=False)
    entries: dict[int, TableEntry] = field(default_factory=dict)
    _kept: dict[tuple[str, int, str], dict[str, int]] = field(default_factory=dict)
    _log_bytes: int = 0
    _trace_bytes: int = 0

    @classmethod
    async def start(cls, dut: Any) -> Rig:
        """Reset, enable, allow everything."""
        rig = cls(dut)
        dut.rst.value = 1
        dut.partition_reset.value = 0
        rig.port = RegisterPort(dut)
        rig.memory = MemoryControl(dut.memory, data_bits=CONFIG.data_bits)
        Clock(dut.clk, PERIOD_NS, "ns").start()
        for _ in range(5):
            await RisingEdge(dut.clk)
        dut.rst.value = 0
        await RisingEdge(dut.clk)
        rig.port.start(rig.memory.cycle + 1)
        await rig.enable()
        return rig

    async def enable(self) -> None:
        """Wait until the adapter is ready, enable every partition, forget what was written."""
        self._kept.clear()
        while not (await self.port.look("status"))["ready"]:
            pass
        for p in PARTITIONS:
            self.port.manage("partition_control", index=p, enabled=1, grant_engine=1, grant_cpu=1)
            self.port.manage("partition_max_count", index=p, count=1 << 20)
        await self.port.written()

    def set(self, partition: int, **values: int) -> None:
        """Post parameters of a partition that are not what they are to be.

        `name=value` is for a register with one field.
        """
        for register, value in values.items():
            (name,) = self.port.map.partition[register].fields
            key = ("partition", partition, register)
            if self._kept.get(key) != {name: value}:
                self._kept[key] = {name: value}
                self.port.write(partition, register, **{name: value})

    def forget(self, partition: int) -> None:
        """The parameters of a partition are no longer what was written."""
        for key in [key for key in self._kept if key[:2] == ("partition", partition)]:
            del self._kept[key]

    def stage(self, network_id: int, entry: TableEntry) -> None:
        """Post all of a commit but ENTRY_COMMIT."""
        staged = {
            "entry_id": {"id": network_id},
            "entry_base_lo": {"base": entry.base},
            "entry_length": {"length": entry.length},
            "entry_access": {
                "valid": 1, "may_send": int(entry.may_send),
                "may_receive": int(entry.may_receive), "ring": int(entry.ring),
                "owner": entry.owner},
            "entry_senders": {"senders": sum(1 << p for p in entry.senders)},
        }
        for register, fields in staged.items():
            key = ("manager", 0, register)
            if self._kept.get(key) != fields:
                self._kept[key] = fields
                self.port.manage(register, **fields)

    async def commit(self, network_id: int, entry: TableEntry) -> None:
        """Commit an entry; return when it is done."""
        self.stage(network_id, entry)
        self.port.manage("entry_commit", commit=1)
        self.entries[network_id] = entry
        await self.changed()

    async def changed(self) -> None:
        """Return when the last commit or revoke is done, and was not refused."""
        await self.port.written()
        last = self.port.cycle + STUCK_CYCLES
        while not (status := await self.port.look("entry_status"))["done"]:
            assert self.port.cycle < last, "a commit or revoke is never done"
        assert not status["refused"], f"the table must change, not {status}"

    def command(self, partition: int, src_id: int, src_offset: int, dst_id: int, count: int,
                at: int | None = None, **fields: int) -> Write:
        """Post a SEND."""
        self.set(partition, src_id=src_id, src_offset=src_offset, dst_id=dst_id, count=count)
        return self.port.write(partition, "command", at, op=Op.SEND.value, **fields)

    async def events(self, partition: int) -> list[Outcome]:
        """Take all events of a partition."""
        port = self.port
        taken = []
        while (info := await port.read(partition, "event_info"))["kind"] != EventKind.NONE.value:
            taken.append(Outcome(
                Status(info["status"]), info["tag"],
                (await port.read(partition, "event_id"))["id"],
                (await port.read(partition, "event_offset"))["offset"],
                (await port.read(partition, "event_count"))["count"],
                info["kind"] == EventKind.NOTIFICATION.value))
            port.write(partition, "event_pop", pop=1)
            await port.written()
        return taken

    async def completed(self, partition: int) -> int:
        return (await self.port.read(partition, "completed"))["count"]

    async def cursor(self, network_id: int) -> int:
        """As its owner sees it."""
        owner = self.entries[network_id].owner
        self.set(owner, receive_id=network_id)
        await self.port.written()
        return (await self.port.read(owner, "receive_cursor"))["cursor"]

    async def quiet(self, what: str) -> None:
        """Return when nothing is queued or in flight, in reset or being changed."""
        await self.port.written()
        for register, field_name, quiet in (
                ("status", "idle", 1), ("resetting", "partitions", 0), ("entry_status", "busy", 0)):
            await self.shows(what, register, field_name, quiet)

    async def shows(self, what: str, register: str, field_name: str, value: int) -> None:
        """Return when a register of the manager shows a value."""
        last = self.port.cycle + STUCK_CYCLES
        while (found := (await self.port.look(register))[field_name]) != value:
            assert self.port.cycle < last, (
                f"{what} is stuck: {register}.{field_name} is {found:#x}, not {value:#x}")

    async def accesses(self) -> list[Access]:
        """What the memory's log tells since this was called last."""
        await self.memory.flush()
        log, part = Path("log.bin"), Path("log.part.bin")
        with log.open("rb") as file:
            file.seek(self._log_bytes)
            tail = file.read()
        self._log_bytes += len(tail)
        part.write_bytes(tail)
        return list(read_log(part, data_bits=CONFIG.data_bits))

    def trace(self) -> list[Record]:
        """What the trace tells since this was called last."""
        # The trace is written by the simulator, which is in this process: its output is buffered.
        ctypes.CDLL(None).fflush(None)
        trace, part = Path("trace.bin"), Path("trace.part.bin")
        with trace.open("rb") as file:
            file.seek(self._trace_bytes)
            tail = file.read()
        self._trace_bytes += len(tail)
        part.write_bytes(tail)
        return list(read_trace(part, CONFIG))

    def check_ports(self) -> None:
        """The protocol checkers of both ports have found nothing."""
        rules = parameters()
        for port in ("memory_port", "register_port"):
            broken = int(getattr(self.dut, f"{port}_broken").value)
            names = [name for i, name in enumerate(rules[port]) if broken >> i & 1]
            assert not broken, f"broken on the {port}: {', '.join(names)}"


def by_bytes(accesses: Iterable[Access], user: int) -> list[tuple[int, int, int]]:
    """The bytes that `user` wrote: (cycle, address, byte), in their order."""
    return [(access.cycle, access.address + lane, access.data[lane])
            for access in accesses if access.kind is Kind.WRITE_BEAT and access.user == user
            for lane in range(access.strobes.bit_length()) if access.strobes >> lane & 1]
