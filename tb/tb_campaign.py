# SPDX-License-Identifier: Apache-2.0
"""Plays a random campaign (sim/campaign.py) on the registers of a simulated adapter.

Every lane of the campaign is a generator of steps: register accesses and pauses. One coroutine
moves all of them, a clock cycle at a time, through one register port with random gaps, with data
before and after addresses, with several accesses under way and with responses held back.

What the adapter did is in its own trace and the memory's log. What it *answered* to reads is
written to `reads.json`, the memory's contents at the end to `memory.bin`: sim/replay.py compares
all of it with the model. Asserted here is only what needs no model: that responses are OKAY, that
no protocol rule was broken, and that everything comes to an end.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge
from cocotb.utils import get_sim_time

from mvxl.config import CONFIGS, AdapterConfig
from mvxl.messages import EventKind
from mvxl.registers import RegisterMap, register_map
from sim.build import parameters
from sim.campaign import (
    Action,
    Campaign,
    Cancel,
    ClearFault,
    Command,
    Commit,
    Errors,
    Limits,
    Pause,
    Pop,
    Resume,
    Rewind,
)
from sim.memory import CHANNELS, MemoryControl
from sim.model import Row
from sim.system import System

PERIOD_NS = 10
RESET_CYCLES = 5

#: Of reads.json: what a read of the manager's page has as its partition.
MANAGER = -1

#: Without any command ending for so long, something hangs. Far above what 32 of the longest
#: messages take with the slowest memory, and above every WAIT_LIMIT of a campaign.
HANG_CYCLES = 150_000

PRIVILEGED, NON_SECURE = 0b001, 0b010


@dataclass(frozen=True)
class Write:
    """Write a register."""

    address: int
    data: int
    prot: int


@dataclass(frozen=True)
class Read:
    """Read a register; the step's result is its word.

    `partition`: of the page, or MANAGER. `index`: element of an array register. `network_id`: the
    entry that the read is about, if it is about one.
    """

    partition: int
    register: str
    index: int = 0
    network_id: int = 0


#: What a lane asks for: writes, in this order; a read, whose word it gets; or time.
Step = tuple[Write, ...] | Read | Pause
Lane = Generator[Step, Any, None]


@dataclass(eq=False)
class LaneState:
    """A lane, the accesses that it asked for, and those of them that were not answered yet."""

    lane: Lane
    writes: deque[Write] = field(default_factory=deque)     # still to be started
    read: Read | None = None                                # still to be started
    due: int = 0                                            # started, without a response
    answer: int | None = None
    wake_cycle: int = 0
    ended: bool = False

    def advance(self, now: int) -> None:
        """Let the lane go on if all that it asked for has been done."""
        while not (self.ended or self.writes or self.read or self.due or self.wake_cycle > now):
            try:
                step = self.lane.send(self.answer)
            except StopIteration:
                self.ended = True
                return
            self.answer = 0
            match step:
                case Read():
                    self.read = step
                case Pause():
                    self.wake_cycle = now + step.cycles
                case _:
                    self.writes.extend(step)


class RegisterPort:
    """An AXI4-Lite manager that takes a random one of the lanes' next accesses.

    After each rising edge call `take`, then `drive`.

    Parameters
    ----------
    dut : Any
        Cocotb's handle of the system.
    pages : RegisterMap
    random : Random
    """

    #: Accesses of each direction under way.
    OUTSTANDING = 2

    def __init__(self, dut: Any, pages: RegisterMap, random: Random) -> None:
        self._bus = {name: getattr(dut, f"s_axil_{name}") for name in (
            "awaddr", "awprot", "awvalid", "awready", "wdata", "wstrb", "wvalid", "wready",
            "bresp", "bvalid", "bready", "araddr", "arprot", "arvalid", "arready", "rdata",
            "rresp", "rvalid", "rready")}
        self._pages = pages
        self._random = random
        # A port that is always in a hurry, one with gaps, and one that holds responses back.
        self._gap = random.choice((0.0, 0.1, 0.5))
        self._hold = random.choice((0.0, 0.1, 0.5))
        self._driven: dict[str, int] = {}
        self._writes: deque[tuple[LaneState, Write]] = deque()     # without a response
        self._reads: deque[tuple[LaneState, Read, int]] = deque()
        self._delays = {"aw": 0, "w": 0}    # cycles until the channel may be valid
        self._pending: dict[str, Write] = {}
        self.answers: list[tuple[int, int, str, int, int, int]] = []
        for name in ("awvalid", "wvalid", "bready", "arvalid", "rready"):
            self._drive(name, 0)
        self._drive("wstrb", 0b1111)

    def _drive(self, name: str, value: int) -> None:
        if self._driven.get(name) != value:
            self._bus[name].value = value
            self._driven[name] = value

    def _transfers(self, channel: str, far: str, near: str) -> bool:
        """Whether the channel had a handshake in the cycle that has ended."""
        return (self._driven[f"{channel}{near}"] == 1
                and int(self._bus[f"{channel}{far}"].value) == 1)

    @property
    def idle(self) -> bool:
        return not self._writes and not self._reads

    def take(self, now: int) -> None:
        """Take what cycle `now`, which has just ended, brought."""
        for channel in ("aw", "w"):
            if self._transfers(channel, "ready", "valid"):
                self._drive(f"{channel}valid", 0)
                del self._pending[channel]
        if self._transfers("b", "valid", "ready"):
            lane, write = self._writes.popleft()
            response = int(self._bus["bresp"].value)
            assert response == 0, f"write of {write.address:#x}: expected OKAY, seen {response}"
            lane.due -= 1
        if self._transfers("r", "valid", "ready"):
            lane, read, taken = self._reads.popleft()
            response = int(self._bus["rresp"].value)
            assert response == 0, f"{read}: expected OKAY, seen {response}"
            lane.answer = int(self._bus["rdata"].value)
            lane.due -= 1
            self.answers.append((taken, read.partition, read.register, read.index,
                                 read.network_id, lane.answer))
        if self._transfers("ar", "ready", "valid"):
            self._drive("arvalid", 0)
            lane, read, _ = self._reads[-1]
            self._reads[-1] = lane, read, now

    def drive(self, lanes: list[LaneState]) -> None:
        """Drive the cycle that begins, with accesses that the lanes ask for."""
        random = self._random
        if (not self._pending and len(self._writes) < self.OUTSTANDING
                and random.random() >= self._gap):
            if waiting := [lane for lane in lanes if lane.writes]:
                self._start_write(random.choice(waiting))
        if (not self._driven["arvalid"] and len(self._reads) < self.OUTSTANDING
                and random.random() >= self._gap):
            if waiting := [lane for lane in lanes if lane.read]:
                self._start_read(random.choice(waiting))
        for channel in ("aw", "w"):
            if channel in self._pending and not self._driven[f"{channel}valid"]:
                self._delays[channel] -= 1
                if self._delays[channel] < 0:
                    self._present(channel)
        self._drive("bready", int(bool(self._writes) and random.random() >= self._hold))
        self._drive("rready", int(bool(self._reads) and random.random() >= self._hold))

    def _start_write(self, lane: LaneState) -> None:
        write = lane.writes.popleft()
        lane.due += 1
        self._writes.append((lane, write))
        self._pending = {"aw": write, "w": write}
        self._delays = {channel: self._random.choice((0, 0, 0, 1, 3)) for channel in ("aw", "w")}

    def _present(self, channel: str) -> None:
        write = self._pending[channel]
        if channel == "aw":
            self._drive("awaddr", write.address)
            self._drive("awprot", write.prot)
        else:
            self._drive("wdata", write.data)
        self._drive(f"{channel}valid", 1)

    def _start_read(self, lane: LaneState) -> None:
        read, lane.read = lane.read, None
        assert read is not None
        lane.due += 1
        prot = self._random.choice((0, NON_SECURE))
        if read.partition == MANAGER:
            address = self._pages.manager_address(read.register, read.index)
            prot |= PRIVILEGED
        else:
            address = self._pages.partition_address(read.partition, read.register)
        self._reads.append((lane, read, 0))
        self._drive("araddr", address)
        self._drive("arprot", prot)
        self._drive("arvalid", 1)


class Player:
    """Turns a campaign's lanes into register accesses.

    Parameters
    ----------
    campaign : Campaign
    memory : MemoryControl
        Whose error windows the campaign moves.
    """

    def __init__(self, campaign: Campaign, memory: MemoryControl) -> None:
        self.campaign = campaign
        self.config = campaign.config
        self.pages = register_map(campaign.config)
        self._memory = memory
        self.random = Random(f"{campaign.seed} player")
        self.written = [0] * self.config.partitions     # COMMANDs, rejected ones included
        self.sending = self.config.partitions           # senders that have not ended
        self.finishing = False

    def unpacked(self, partition: int, register: str, word: int) -> dict[str, int]:
        page = self.pages.manager if partition == MANAGER else self.pages.partition
        return page[register].unpack(word)

    def partition_write(self, partition: int, register: str, **fields: int) -> Write:
        return Write(self.pages.partition_address(partition, register),
                     self.pages.partition[register].pack(**fields),
                     self.random.choice((0, PRIVILEGED, NON_SECURE)))

    def manager_write(self, register: str, index: int = 0, **fields: int) -> Write:
        return Write(self.pages.manager_address(register, index),
                     self.pages.manager[register].pack(**fields), PRIVILEGED)

    # -- Lanes ------------------------------------------------------------------------------------

    def sender(self, partition: int) -> Lane:
        """The partition's commands, parameters only where they differ from the command before."""
        room = 0
        kept: dict[str, dict[str, int]] = {}
        for action in self.campaign.sender(partition):
            if isinstance(action, Pause):
                yield action
                continue
            assert isinstance(action, Command)
            while action.patient and not room:
                status = self.unpacked(partition, "status", (yield Read(partition, "status")))
                room = status["room"]
                if not room:
                    yield Pause(self.random.randint(1, 60))
            send = action.send
            given = {"src_id": {"id": send.src_id}, "src_offset": {"offset": send.src_offset},
                     "dst_id": {"id": send.dst_id}, "count": {"count": send.count}}
            again = self.random.random() < 0.2
            writes = [self.partition_write(partition, register, **fields)
                      for register, fields in given.items()
                      if again or kept.get(register) != fields]
            self.random.shuffle(writes)
            kept = given
            writes.append(self.partition_write(
                partition, "command", op=send.op, wait=send.wait, fence=send.fence,
                event=send.event, notify=send.notify, tag=send.tag))
            self.written[partition] += 1
            room = max(0, room - 1)
            yield tuple(writes)
            if self.random.random() < 0.1:
                yield Read(partition, self.random.choice(("completed", "rejected", "status")))
            if self.random.random() < 0.02:
                yield (self.partition_write(partition, "status", rejected=1),)
        self.sending -= 1

    def keeper(self, partition: int) -> Lane:
        """What the partition does besides; until nothing more is to come."""
        for action in self.campaign.keeper(partition):
            if self.finishing:
                return
            match action:
                case Pause():
                    yield action
                case Pop(events=events):
                    yield from self.pops(partition, events)
                case Rewind(network_id=network_id):
                    yield from self.rewind(partition, network_id)
                case Resume():
                    yield (self.partition_write(partition, "resume", resume=1),)
                case Cancel():
                    yield (self.partition_write(partition, "cancel", cancel=1),)
            if self.random.random() < 0.2:
                network_id = self.random.choice(list(self.campaign.rows))
                yield (self.partition_write(partition, "receive_id", id=network_id),)
                yield Read(partition, "receive_cursor", network_id=network_id)

    def pops(self, partition: int, events: int) -> Lane:
        for _ in range(events):
            info = yield Read(partition, "event_info")
            if self.unpacked(partition, "event_info", info)["kind"] == EventKind.NONE.value:
                return
            for register in ("event_id", "event_offset", "event_count"):
                yield Read(partition, register)
            yield (self.partition_write(partition, "event_pop", pop=1),)

    def rewind(self, partition: int, network_id: int) -> Lane:
        yield (self.partition_write(partition, "rewind", id=network_id),)
        if self.random.random() < 0.1:
            # Ignored if the one before is still busy, as the next read tells.
            other = self.random.choice(list(self.campaign.rows))
            yield (self.partition_write(partition, "rewind", id=other),)
        yield from self.until_done(partition, "rewind_status")

    def until_done(self, partition: int, register: str) -> Lane:
        """Read a status register until it is not busy."""
        for _ in range(HANG_CYCLES):
            word = yield Read(partition, register)
            if not self.unpacked(partition, register, word)["busy"]:
                return
            yield Pause(self.random.randint(0, 20))
        raise AssertionError(f"{register} of page {partition} is busy for ever")

    def manager(self) -> Lane:
        """Table changes, limits, the memory's errors."""
        for action in self.campaign.manager():
            if self.finishing:
                return
            if isinstance(action, Pause):
                yield action
            else:
                yield from self.manage(action)

    def manage(self, action: Action) -> Lane:
        match action:
            case Commit(network_id=network_id, row=row):
                yield self.commit(network_id, row)
                if self.random.random() < 0.1:
                    other = self.random.choice(list(self.campaign.rows))
                    yield self.commit(other, self.campaign.rows[other])
                yield from self.until_done(MANAGER, "entry_status")
            case Limits(partition=q):
                yield (self.manager_write("partition_max_count", q, count=action.max_count),
                       self.manager_write("partition_wait_limit", q, cycles=action.wait_limit),
                       self.manager_write("partition_control", q, enabled=action.enabled,
                                          weight=action.weight))
            case ClearFault(partition=partition):
                yield from self.faults(partition)
                yield (self.manager_write("fault_clear", partitions=1 << partition),)
            case Errors(windows=windows):
                self._memory.set_errors(*(
                    (window.start, window.end, "r" * window.read + "w" * window.write)
                    for window in windows))

    def commit(self, network_id: int, row: Row) -> tuple[Write, ...]:
        return (
            self.manager_write("entry_id", id=network_id),
            self.manager_write("entry_base_lo", base=row.base & 0xFFFF_FFFF),
            self.manager_write("entry_base_hi", base=row.base >> 32),
            self.manager_write("entry_length", length=row.length),
            self.manager_write("entry_access", valid=row.valid, may_send=row.may_send,
                               may_receive=row.may_receive, owner=row.owner),
            self.manager_write("entry_senders", senders=row.senders),
            self.manager_write("entry_commit", commit=1))

    def faults(self, partition: int) -> Lane:
        yield Read(MANAGER, "fault_pending")
        for register in ("partition_fault_info", "partition_fault_address_lo",
                         "partition_fault_address_hi"):
            yield Read(MANAGER, register, partition)

    # -- Beginning and end ------------------------------------------------------------------------

    def begin(self) -> Lane:
        """Wait for the adapter, then make the campaign's settings and table."""
        while not self.unpacked(MANAGER, "status", (yield Read(MANAGER, "status")))["ready"]:
            yield Pause(20)
        for limits in self.campaign.limits:
            yield from self.manage(limits)
        for network_id, row in self.campaign.rows.items():
            yield self.commit(network_id, row)
            yield from self.until_done(MANAGER, "entry_status")

    def watch(self) -> Lane:
        """Wait until every command was written and has ended; assert that they go on ending."""
        ended_before = -1
        quiet_cycles = 0
        while True:
            ended = 0
            for partition in range(self.config.partitions):
                ended += yield Read(partition, "completed")
                ended += yield Read(partition, "rejected")
            if not self.sending and ended == sum(self.written):
                break
            quiet_cycles = 0 if ended != ended_before else quiet_cycles + 300
            assert quiet_cycles < HANG_CYCLES, (
                f"of {sum(self.written)} commands {ended} ended, and none in {HANG_CYCLES} cycles")
            ended_before = ended
            yield Pause(300)
        self.finishing = True

    def end(self) -> Lane:
        """Take all events, pop once more, and read everything that can be read."""
        for partition in range(self.config.partitions):
            yield from self.pops(partition, self.config.event_slots)
            yield (self.partition_write(partition, "event_pop", pop=1),)
            for register in ("event_info", "event_id", "event_offset", "event_count",
                             "completed", "rejected", "status"):
                yield Read(partition, register)
            for network_id in range(self.config.entries):
                yield (self.partition_write(partition, "receive_id", id=network_id),)
                yield Read(partition, "receive_cursor", network_id=network_id)
            yield from self.faults(partition)
        yield Read(MANAGER, "status")


async def play(dut: Any, clock: CycleClock, port: RegisterPort, lanes: list[Lane]) -> None:
    """Move the lanes until all have ended."""
    states = [LaneState(lane) for lane in lanes]
    now = clock.cycle
    while True:
        for state in states:
            state.advance(now)
        states = [state for state in states if not state.ended]
        if not states:
            return
        port.drive(states)
        rest = min(state.wake_cycle if not (state.writes or state.read or state.due) else now
                   for state in states) - now
        if rest > 1 and port.idle:
            await ClockCycles(dut.clk, rest)
        else:
            await RisingEdge(dut.clk)
        now = clock.cycle
        port.take(now)


class CycleClock:
    """Tells the number of the cycle that a rising edge ends, as the logs count them."""

    def __init__(self, memory: MemoryControl) -> None:
        self._offset = 0
        self._offset = memory.cycle - self.cycle

    @property
    def cycle(self) -> int:
        return int(get_sim_time("ns")) // PERIOD_NS + self._offset


async def reset(dut: Any) -> None:
    dut.rst.value = 1
    await ClockCycles(dut.clk, RESET_CYCLES)
    dut.rst.value = 0
    await RisingEdge(dut.clk)   # A3.1.2: the first VALID comes after an edge without reset.


@cocotb.test()
async def campaign(dut: Any) -> None:
    """One campaign, from reset to quiet."""
    given = parameters()
    config: AdapterConfig = CONFIGS[given["config"]]
    campaign = Campaign(config, given["seed"], messages=given["messages"],
                        memory_bytes=given["memory_bytes"])
    memory = MemoryControl(dut.memory, data_bits=config.data_bits)
    Clock(dut.clk, PERIOD_NS, "ns").start()
    player = Player(campaign, memory)
    port = RegisterPort(dut, player.pages, player.random)
    await reset(dut)
    clock = CycleClock(memory)
    await memory.load(0, campaign.image())
    memory.set_latency(campaign.latency_cycles)
    memory.set_stalls(seed=given["seed"] + 1, **{
        channel: player.random.choice((0, 1, 1)) * campaign.stalls / 256 for channel in CHANNELS})
    partitions = range(config.partitions)

    try:
        await play(dut, clock, port, [player.begin()])
        await play(dut, clock, port, [
            *map(player.sender, partitions), *map(player.keeper, partitions), player.manager(),
            player.watch()])
        memory.set_errors()
        await play(dut, clock, port, [player.end()])
        Path("memory.bin").write_bytes(await memory.dump(0, given["memory_bytes"]))
    finally:
        Path("reads.json").write_text(json.dumps(port.answers), encoding="utf-8")
        await memory.flush()

    system = System(config, memory_bytes=given["memory_bytes"])
    for name, checker in (("memory_port_broken", system.memory_checker),
                          ("register_port_broken", system.register_checker)):
        failed = int(getattr(dut, name).value)
        assert not failed, f"{name}: {checker.told(failed)}"
