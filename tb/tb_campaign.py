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
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge
from cocotb.utils import get_sim_time

from mvxl.config import AdapterConfig
from mvxl.messages import EventKind, GrantKind
from mvxl.registers import RegisterMap, register_map
from sim.build import parameters
from sim.campaign import (
    Action,
    Ask,
    Await,
    Campaign,
    Cancel,
    ClearFault,
    Commit,
    Consume,
    Errors,
    ForceRelease,
    Lease,
    Limits,
    Move,
    Moved,
    Pause,
    Pop,
    RawMove,
    Release,
    ResetPin,
    Resets,
    Resume,
    Revoke,
    Rewind,
    Snapshot,
    Start,
    Stop,
    Store,
    TakeUp,
    Token,
    Trespass,
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
OKAY, SLVERR = 0b00, 0b10

#: Of the partition pages: names of privileged registers begin so.
PRIVILEGED_BLOCK = ("grant_", "release", "mvxl_")

#: What tells of a grant.
GRANT_REGISTERS = ("grant_state", "grant_token", "grant_acknowledged", "grant_src_lo",
                   "grant_src_hi", "grant_dst_lo", "grant_dst_hi", "grant_first", "grant_next_lo",
                   "grant_next_hi")


@dataclass(frozen=True)
class Write:
    """Write a register. `denied`: an error response is right, and only that."""

    address: int
    data: int
    prot: int
    denied: bool = False


@dataclass(frozen=True)
class Read:
    """Read a register; the step's result is its word.

    `partition`: of the page, or MANAGER. `index`: element of an array register. `denied`: without
    privilege; an error response is right, and only that.
    """

    partition: int
    register: str
    index: int = 0
    denied: bool = False


@dataclass(eq=False)
class Desk:
    """What an agent knows of its registers: the parameters that it wrote, and room in the queue.

    `resets` is the partition's count of resets, as of then.
    """

    kept: dict[str, dict[str, int]] = field(default_factory=dict)
    room: int = 0
    resets: int = 0


@dataclass(frozen=True)
class MemoryWrite:
    """The processor, on behalf of a partition, writes bytes to the memory, inside one beat."""

    partition: int
    address: int
    data: bytes


#: What a lane asks for: writes of registers, in this order; a read, whose word it gets; a write to
#: the memory; or time.
Step = tuple[Write, ...] | Read | MemoryWrite | Pause
Lane = Generator[Step, Any, None]


@dataclass(eq=False)
class LaneState:
    """A lane, the accesses that it asked for, and those of them that were not answered yet."""

    lane: Lane
    writes: deque[Write] = field(default_factory=deque)     # still to be started
    read: Read | None = None                                # still to be started
    store: MemoryWrite | None = None                        # still to be started
    due: int = 0                                            # started, without a response
    answer: int | None = None
    wake_cycle: int = 0
    ended: bool = False

    @property
    def asking(self) -> bool:
        """Something that it asked for is still to be done."""
        return bool(self.writes or self.read or self.store or self.due)

    def advance(self, now: int) -> None:
        """Let the lane go on if all that it asked for has been done."""
        while not (self.ended or self.asking or self.wake_cycle > now):
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
                case MemoryWrite():
                    self.store = step
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
        self.answers: list[tuple[int, int, str, int, int]] = []
        self.denied = 0     # accesses
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
            expected = SLVERR if write.denied else OKAY
            assert response == expected, (
                f"write of {write.address:#x}: expected response {expected}, seen {response}")
            lane.due -= 1
            self.denied += write.denied
        if self._transfers("r", "valid", "ready"):
            lane, read, taken = self._reads.popleft()
            response = int(self._bus["rresp"].value)
            expected = SLVERR if read.denied else OKAY
            assert response == expected, f"{read}: expected response {expected}, seen {response}"
            lane.answer = int(self._bus["rdata"].value)
            lane.due -= 1
            if read.denied:
                self.denied += 1
            else:
                self.answers.append((taken, read.partition, read.register, read.index,
                                     lane.answer))
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
            if read.register.startswith(PRIVILEGED_BLOCK) and not read.denied:
                prot |= PRIVILEGED
            address = self._pages.partition_address(read.partition, read.register)
        self._reads.append((lane, read, 0))
        self._drive("araddr", address)
        self._drive("arprot", prot)
        self._drive("arvalid", 1)


class StorePort:
    """The processor's way to the memory: a write of one beat at a time.

    After each rising edge call `take`, then `drive`.

    Parameters
    ----------
    dut : Any
        Cocotb's handle of the system.
    config : AdapterConfig
    """

    def __init__(self, dut: Any, config: AdapterConfig) -> None:
        self._bus = {name: getattr(dut, f"cpu_{name}") for name in (
            "awaddr", "awlen", "awsize", "awburst", "awuser", "awvalid", "awready", "wdata",
            "wstrb", "wlast", "wvalid", "wready", "bresp", "bvalid", "bready", "arvalid",
            "rready")}
        self._beat_bytes = config.data_bytes
        self._writer: LaneState | None = None
        self._step = ""         # the channel whose transfer is awaited
        for name, value in {"awlen": 0, "awsize": config.size_log2, "awburst": 1, "wlast": 1,
                            "awvalid": 0, "wvalid": 0, "bready": 0, "arvalid": 0,
                            "rready": 0}.items():
            self._bus[name].value = value

    @property
    def idle(self) -> bool:
        return self._writer is None

    def take(self) -> None:
        """Take what the cycle that has just ended brought."""
        if self._writer is None:
            return
        near, far, following = {"aw": ("awvalid", "awready", "w"), "w": ("wvalid", "wready", "b"),
                                "b": ("bready", "bvalid", "")}[self._step]
        if not int(self._bus[far].value):
            return
        self._bus[near].value = 0
        self._step = following
        if following:
            self._bus["wvalid" if following == "w" else "bready"].value = 1
        else:
            self._writer.due -= 1
            self._writer = None

    def drive(self, lanes: list[LaneState]) -> None:
        """Start a write that a lane asks for."""
        if self._writer is not None:
            return
        for lane in lanes:
            if lane.store is not None:
                write, lane.store = lane.store, None
                lane.due += 1
                self._writer, self._step = lane, "aw"
                first = write.address % self._beat_bytes
                self._bus["awaddr"].value = write.address - first
                self._bus["awuser"].value = write.partition
                self._bus["awvalid"].value = 1
                self._bus["wdata"].value = int.from_bytes(write.data, "little") << 8 * first
                self._bus["wstrb"].value = (1 << len(write.data)) - 1 << first
                return


class Player:
    """Turns a campaign's lanes into register accesses.

    Parameters
    ----------
    campaign : Campaign
    memory : MemoryControl
        Whose error windows the campaign moves, and whose channels it stops.
    reset_pins : Callable
        Drives `partition_reset` with a vector.
    """

    def __init__(self, campaign: Campaign, memory: MemoryControl,
                 reset_pins: Callable[[int], None]) -> None:
        self.campaign = campaign
        self.config = campaign.config
        self.pages = register_map(campaign.config)
        self._memory = memory
        self._reset_pins = reset_pins
        self.random = Random(f"{campaign.seed} player")
        everyone = range(self.config.partitions)
        self.resets = [0 for _ in everyone]             # begun or ended, as far as is known
        self.tokens = [[0, 0] for _ in everyone]        # that GRANT_TOKEN told: last, before that
        self.sending = 2 * self.config.partitions       # senders and drivers that have not ended
        self.stored = [register.name for register in self.pages.partition if register.is_stored]
        self.stopped = False    # a channel of the memory
        self.finishing = False

    def unpacked(self, partition: int, register: str, word: int) -> dict[str, int]:
        page = self.pages.manager if partition == MANAGER else self.pages.partition
        return page[register].unpack(word)

    def partition_write(self, partition: int, register: str, **fields: int) -> Write:
        return Write(self.pages.partition_address(partition, register),
                     self.pages.partition[register].pack(**fields),
                     self.random.choice((0, PRIVILEGED, NON_SECURE)))

    def privileged_write(self, partition: int, register: str, **fields: int) -> Write:
        return Write(self.pages.partition_address(partition, register),
                     self.pages.partition[register].pack(**fields),
                     self.random.choice((PRIVILEGED, PRIVILEGED | NON_SECURE)))

    def manager_write(self, register: str, index: int = 0, **fields: int) -> Write:
        return Write(self.pages.manager_address(register, index),
                     self.pages.manager[register].pack(**fields), PRIVILEGED)

    def fields(self, partition: int, register: str) -> Generator[Step, Any, dict[str, int]]:
        """Read a register; returns its fields."""
        return self.unpacked(partition, register, (yield Read(partition, register)))

    # -- Commands ---------------------------------------------------------------------------------

    def sender(self, partition: int) -> Lane:
        """The partition's commands, parameters only where they differ from the command before."""
        desk = Desk()
        for action in self.campaign.sender(partition):
            if isinstance(action, Pause):
                yield action
                continue
            assert isinstance(action, Start)
            command = action.command
            yield from self.start(
                partition, desk, action.patient, self.partition_write,
                {"src_id": {"id": command.src_id}, "src_offset": {"offset": command.src_offset},
                 "dst_id": {"id": command.dst_id}, "dst_offset": {"offset": command.dst_offset},
                 "count": {"count": command.count}},
                self.partition_write(
                    partition, "command", op=command.op, wait=command.wait, fence=command.fence,
                    event=command.event, notify=command.notify, tag=command.tag))
            if self.random.random() < 0.1:
                yield Read(partition, self.random.choice(("completed", "rejected", "status")))
            if self.random.random() < 0.02:
                yield (self.partition_write(partition, "status", rejected=1),)
        self.sending -= 1

    def start(self, partition: int, desk: Desk, patient: bool, write: Callable[..., Write],
              given: dict[str, dict[str, int]], command: Write) -> Lane:
        """Write parameters, those that differ from what was written last, and a command."""
        while patient and not desk.room:
            status = yield from self.fields(partition, "status")
            desk.room = status["room"] if status["ready"] else 0
            if not desk.room:
                yield Pause(self.random.randint(1, 60))
        again = desk.resets != self.resets[partition] or self.random.random() < 0.2
        desk.resets = self.resets[partition]
        writes = [write(partition, register, **fields) for register, fields in given.items()
                  if again or desk.kept.get(register) != fields]
        self.random.shuffle(writes)
        desk.kept |= given
        desk.room = max(0, desk.room - 1)
        yield (*writes, command)

    def driver(self, partition: int) -> Lane:
        """Grants, what is moved under them, and their releases."""
        desk = Desk()
        granted = False
        for action in self.campaign.driver(partition):
            if isinstance(action, (Move, Release)) and not granted and self.random.random() < 0.9:
                continue
            match action:
                case Pause():
                    yield action
                case Ask(grant=grant, patient=patient):
                    yield from self.start(
                        partition, desk, patient, self.privileged_write,
                        {"grant_src_id": {"id": grant.src_id},
                         "grant_src_offset": {"offset": grant.src_offset},
                         "grant_dst_id": {"id": grant.dst_id},
                         "grant_count": {"count": grant.count}},
                        self.privileged_write(
                            partition, "grant_command", kind=grant.kind.value, wait=grant.wait,
                            event=grant.event, notify=grant.notify, tag=grant.tag))
                case Await():
                    granted = yield from self.wait_for_grant(partition, action)
                case Move(command=move, token=token, patient=patient):
                    yield from self.start(
                        partition, desk, patient, self.privileged_write,
                        {"mvxl_token": {"token": self.token(partition, token)},
                         "mvxl_src": {"offset": move.src_offset},
                         "mvxl_dst": {"offset": move.dst_offset},
                         "mvxl_count": {"count": move.count}},
                        self.privileged_write(
                            partition, "mvxl_command", fence=move.fence, event=move.event,
                            tag=move.tag))
                case Store():
                    yield from self.store(partition, action)
                case Release():
                    yield from self.release(partition, action)
                case Trespass(register=register, write=True):
                    write = self.partition_write(partition, register)
                    yield (replace(write, prot=self.random.choice((0, NON_SECURE)), denied=True),)
                case Trespass(register=register):
                    yield Read(partition, register, denied=True)
        self.sending -= 1

    def wait_for_grant(self, partition: int,
                       action: Await) -> Generator[Step, Any, bool]:
        """Read the token, and more; returns whether there is a grant."""
        tokens = self.tokens[partition]
        for _ in range(action.polls):
            token = (yield from self.fields(partition, "grant_token"))["token"]
            if token:
                if token != tokens[0]:
                    tokens[:] = token, tokens[0]
                for register in self.random.sample(GRANT_REGISTERS, self.random.randint(0, 4)):
                    yield Read(partition, register)
                if self.random.random() < 0.2:
                    yield Read(MANAGER, "partition_lock", partition)
                return True
            yield Pause(self.random.randint(1, 2 * action.cycles))
        return False

    def store(self, partition: int, action: Store) -> Lane:
        """Let the processor write somewhere in the destination of a CPU grant."""
        told = []
        for register in ("grant_dst_lo", "grant_dst_hi", "grant_next_lo", "grant_next_hi",
                         "grant_first"):
            told.append((yield Read(partition, register)))
        destination, following = told[0] | told[1] << 32, told[2] | told[3] << 32
        first = told[4]
        state = yield from self.fields(partition, "grant_state")
        if not state["live"] or state["kind"] != GrantKind.CPU.value or first > action.count:
            return
        for _ in range(action.times):
            offset = self.random.randrange(action.count)
            address, left = ((destination + offset, first - offset) if offset < first else
                             (following + offset - first, action.count - offset))
            unit = self.config.data_bytes
            size = min(self.random.randint(1, unit), left, unit - address % unit)
            yield MemoryWrite(partition, address, self.random.randbytes(size))

    def token(self, partition: int, token: Token) -> int:
        """What to write where a token is asked for."""
        match token:
            case Token.GIVEN:
                return self.tokens[partition][0]
            case Token.LATE:
                return self.tokens[partition][1]
            case Token.FORGED:
                return self.tokens[partition][0] ^ self.random.choice((1, 1 << 16, 1 << 31))
            case Token.OTHERS:
                return self.random.choice(self.tokens)[0]

    def release(self, partition: int, action: Release) -> Lane:
        if action.settle:
            for _ in range(HANG_CYCLES):
                if not (yield from self.fields(partition, "grant_state"))["busy"]:
                    break
                yield Pause(self.random.randint(1, 40))
        count = {Moved.ALL: action.count, Moved.NOTHING: 0}.get(action.moved, 0)
        if action.moved is Moved.ACKNOWLEDGED:
            count = (yield from self.fields(partition, "grant_acknowledged"))["count"]
        count = (count + action.extra) % (1 << 32)
        yield (self.privileged_write(partition, "release_token",
                                     token=self.token(partition, action.token)),
               self.privileged_write(partition, "release", count=count))
        if self.random.random() < 0.1:
            # Ignored if the one before is still busy.
            yield (self.privileged_write(partition, "release", count=count),)
        if self.random.random() < 0.8:
            yield from self.until_done(partition, "release_status")

    # -- What a partition does besides ------------------------------------------------------------

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
                    yield from self.make_room(
                        partition, (self.partition_write(partition, "rewind", id=network_id),))
                case Consume():
                    yield from self.consume(partition, action)
                case Resume():
                    yield (self.partition_write(partition, "resume", resume=1),)
                case Cancel():
                    yield (self.partition_write(partition, "cancel", cancel=1),)
            if self.random.random() < 0.2:
                yield from self.look(partition, self.random.choice(list(self.campaign.rows)))
            if self.random.random() < 0.1:
                yield Read(partition, self.random.choice(self.stored))

    def look(self, partition: int, network_id: int) -> Generator[Step, Any, tuple[int, int]]:
        """Read cursor and head of an entry, with one of the two copies."""
        copy = self.random.choice(("receive", "receive2"))
        yield (self.partition_write(partition, f"{copy}_id", id=network_id),)
        cursor = yield Read(partition, f"{copy}_cursor")
        head = yield Read(partition, f"{copy}_head")
        return cursor, head

    def pops(self, partition: int, events: int) -> Lane:
        for _ in range(events):
            info = yield Read(partition, "event_info")
            if self.unpacked(partition, "event_info", info)["kind"] == EventKind.NONE.value:
                return
            for register in ("event_id", "event_offset", "event_count"):
                yield Read(partition, register)
            yield (self.partition_write(partition, "event_pop", pop=1),)

    def consume(self, partition: int, action: Consume) -> Lane:
        cursor, head = yield from self.look(partition, action.network_id)
        filled = (cursor - head) % (1 << 32)
        count = (int(filled * action.share) + action.extra) % (1 << 32)
        yield from self.make_room(partition, (
            self.partition_write(partition, "consume_id", id=action.network_id),
            self.partition_write(partition, "consume", count=count)))

    def make_room(self, partition: int, writes: tuple[Write, ...]) -> Lane:
        yield writes
        if self.random.random() < 0.1:
            # Ignored if the one before is still busy, as the next read tells.
            other = self.random.choice(list(self.campaign.rows))
            yield (self.partition_write(partition, "rewind", id=other),)
        yield from self.until_done(partition, "receive_status")

    def until_done(self, partition: int, register: str) -> Lane:
        """Read a status register until it is not busy."""
        for _ in range(HANG_CYCLES):
            if not (yield from self.fields(partition, register))["busy"]:
                return
            yield Pause(self.random.randint(0, 20))
        raise AssertionError(f"{register} of page {partition} is busy for ever")

    # -- The manager ------------------------------------------------------------------------------

    def manager(self) -> Lane:
        """Table changes, limits, resets, the memory's errors and stops."""
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
                yield from self.change_table(self.commit(network_id, row))
            case Revoke(network_id=network_id):
                yield from self.change_table((self.manager_write("entry_revoke", id=network_id),))
            case Limits(partition=q):
                yield (self.manager_write("partition_max_count", q, count=action.max_count),
                       self.manager_write("partition_wait_limit", q, cycles=action.wait_limit),
                       self.manager_write(
                           "partition_control", q, enabled=action.enabled, weight=action.weight,
                           grant_engine=action.grant_engine, grant_cpu=action.grant_cpu))
            case Lease(cycles=cycles):
                yield (self.manager_write("lease", cycles=cycles),)
            case ForceRelease(partitions=partitions):
                for q in range(self.config.partitions):
                    if self.random.random() < 0.5:
                        yield Read(MANAGER, "partition_lock", q)
                yield (self.manager_write("lock_release", partitions=partitions),)
            case Resets(partitions=partitions):
                self.note_resets(partitions)
                yield (self.manager_write("partition_reset", partitions=partitions),)
                yield from self.until_out_of_reset(partitions)
            case ResetPin(partition=partition, cycles=cycles):
                self.note_resets(1 << partition)
                self._reset_pins(1 << partition)
                yield Pause(cycles)
                self._reset_pins(0)
                yield from self.until_out_of_reset(1 << partition)
            case RawMove():
                yield from self.move(action)
            case Snapshot(pairs=pairs):
                yield from self.snapshot()
                yield from self.counters(pairs)
            case ClearFault(partition=partition):
                yield from self.faults(partition)
                yield (self.manager_write("fault_clear", partitions=1 << partition),)
            case Errors(windows=windows):
                self._memory.set_errors(*(
                    (window.start, window.end, "r" * window.read + "w" * window.write)
                    for window in windows))
            case Stop(channel=channel):
                self.stop(channel)
            case TakeUp():
                yield from self.take_up()
                yield from self.until_out_of_reset((1 << self.config.partitions) - 1)

    def change_table(self, writes: tuple[Write, ...]) -> Lane:
        yield writes
        if self.random.random() < 0.1:
            other = self.random.choice(list(self.campaign.rows))
            yield self.commit(other, self.campaign.rows[other])
        yield from self.until_done(MANAGER, "entry_status")

    def commit(self, network_id: int, row: Row) -> tuple[Write, ...]:
        return (
            self.manager_write("entry_id", id=network_id),
            self.manager_write("entry_base_lo", base=row.base & 0xFFFF_FFFF),
            self.manager_write("entry_base_hi", base=row.base >> 32),
            self.manager_write("entry_length", length=row.length),
            self.manager_write("entry_access", valid=row.valid, may_send=row.may_send,
                               may_receive=row.may_receive, ring=row.ring, owner=row.owner),
            self.manager_write("entry_senders", senders=row.senders),
            self.manager_write("entry_commit", commit=1))

    def note_resets(self, partitions: int) -> None:
        for q in range(self.config.partitions):
            self.resets[q] += partitions >> q & 1

    def until_out_of_reset(self, partitions: int) -> Lane:
        """Wait for the end of resets; not while the memory stands still, they wait for it, too."""
        if self.stopped:
            return
        for _ in range(HANG_CYCLES):
            if not (yield Read(MANAGER, "resetting")):
                self.note_resets(partitions)
                return
            yield Pause(self.random.randint(0, 40))
        raise AssertionError("a partition is in reset for ever")

    def move(self, action: RawMove) -> Lane:
        """The manager's MVXL, to its end."""
        writes = [self.manager_write(f"mvxl_{side}_{half}", address=address >> shift & 0xFFFF_FFFF)
                  for side, address in (("src", action.src_address), ("dst", action.dst_address))
                  for half, shift in (("lo", 0), ("hi", 32))]
        start = self.manager_write("mvxl_command", start=1)
        yield (*writes, self.manager_write("mvxl_count", count=action.count), start)
        if action.again:
            yield (start,)
        yield from self.until_done(MANAGER, "mvxl_status")

    def snapshot(self) -> Lane:
        """Take a snapshot of the counters, and wait until it can be read."""
        yield (self.manager_write("counter_snapshot", snapshot=1),)
        for _ in range(HANG_CYCLES):
            if not (yield from self.fields(MANAGER, "status"))["snapshot"]:
                return
            yield Pause(self.random.randint(0, 20))
        raise AssertionError("a snapshot is taken for ever")

    def counters(self, pairs: Iterable[tuple[int, int | None]]) -> Lane:
        for sender, receiver in pairs:
            yield (self.manager_write("counter_select", sender=sender, receiver=receiver or 0,
                                      none=receiver is None),)
            for name in ("messages", "bytes", "refused", "waited"):
                for half in ("lo", "hi"):
                    yield Read(MANAGER, f"counter_{name}_{half}")

    def faults(self, partition: int) -> Lane:
        yield Read(MANAGER, "fault_pending")
        for register in ("partition_fault_info", "partition_fault_address_lo",
                         "partition_fault_address_hi"):
            yield Read(MANAGER, register, partition)

    def stop(self, channel: str) -> None:
        """Stop a channel of the memory; "" lets all go on."""
        self.stopped = bool(channel)
        for each in CHANNELS:
            if each == channel:
                self._memory.stop(each)
            else:
                self._memory.go(each)

    def take_up(self) -> Lane:
        """Let the memory port go on, if it is down."""
        for _ in range(HANG_CYCLES):
            state = yield from self.fields(MANAGER, "memory_state")
            if not state["down"]:
                return
            if state["settled"] or self.random.random() < 0.1:
                yield (self.manager_write("memory_up", up=1),)
            yield Pause(self.random.randint(1, 100))
        raise AssertionError("the memory port is down for ever")

    # -- Beginning and end ------------------------------------------------------------------------

    def begin(self) -> Lane:
        """Wait for the adapter, then make the campaign's settings and table."""
        while not (yield from self.fields(MANAGER, "status"))["ready"]:
            yield Pause(20)
        for limits in self.campaign.limits:
            yield from self.manage(limits)
        yield (self.manager_write("lease", cycles=self.campaign.lease_cycles),
               self.manager_write("memory_timeout", cycles=self.campaign.memory_timeout_cycles))
        for network_id, row in self.campaign.rows.items():
            yield self.commit(network_id, row)
            yield from self.until_done(MANAGER, "entry_status")

    def watch(self) -> Lane:
        """Wait until every command was written and has ended; assert that they go on ending."""
        seen_before: list[int] = []
        quiet_cycles = draining_cycles = 0
        while True:
            seen = []
            busy = bool(self.sending)
            for partition in range(self.config.partitions):
                status = yield from self.fields(partition, "status")
                busy |= not (status["ready"] and status["idle"])
                seen.append((yield Read(partition, "completed")))
                seen.append((yield Read(partition, "rejected")))
            if not busy:
                break
            quiet_cycles = 0 if seen != seen_before else quiet_cycles + 300
            draining_cycles += 0 if self.sending else 300
            assert quiet_cycles < HANG_CYCLES, f"no command ended in {HANG_CYCLES} cycles"
            assert draining_cycles < 2 * HANG_CYCLES, (
                f"commands are left {2 * HANG_CYCLES} cycles after the last one was written")
            seen_before = seen
            yield Pause(300)
        self.finishing = True

    def end(self) -> Lane:
        """End all grants, take all events, pop once more, and read everything that can be read."""
        everyone = range(self.config.partitions)
        yield from self.take_up()
        yield (self.manager_write("lock_release", partitions=(1 << self.config.partitions) - 1),)
        yield Pause(300)
        yield from self.snapshot()
        for partition in everyone:
            yield from self.pops(partition, self.config.event_slots)
            yield (self.partition_write(partition, "event_pop", pop=1),)
            for register in ("event_info", "event_id", "event_offset", "event_count",
                             "completed", "rejected", "status", "receive_status",
                             "release_status", *GRANT_REGISTERS, *self.stored):
                yield Read(partition, register)
            for network_id in range(self.config.entries):
                yield from self.look(partition, network_id)
            yield from self.faults(partition)
            yield Read(MANAGER, "partition_lock", partition)
        yield from self.counters((p, q) for p in everyone for q in (None, *everyone))
        for register in ("status", "resetting", "memory_state", "mvxl_status", "entry_status"):
            yield Read(MANAGER, register)


async def play(dut: Any, clock: CycleClock, port: RegisterPort, stores: StorePort,
               lanes: list[Lane]) -> None:
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
        stores.drive(states)
        rest = min(now if state.asking else state.wake_cycle for state in states) - now
        if rest > 1 and port.idle and stores.idle:
            await ClockCycles(dut.clk, rest)
        else:
            await RisingEdge(dut.clk)
        now = clock.cycle
        port.take(now)
        stores.take()


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
    config = AdapterConfig(**given["config"])
    campaign = Campaign(config, given["seed"], messages=given["messages"],
                        memory_bytes=given["memory_bytes"], timeouts=given["timeouts"])
    memory = MemoryControl(dut.memory, data_bits=config.data_bits)
    Clock(dut.clk, PERIOD_NS, "ns").start()

    def set_reset_pins(partitions: int) -> None:
        dut.partition_reset.value = partitions

    set_reset_pins(0)
    player = Player(campaign, memory, set_reset_pins)
    port = RegisterPort(dut, player.pages, player.random)
    stores = StorePort(dut, config)
    memory.enable_processor()
    await reset(dut)
    clock = CycleClock(memory)
    await memory.load(0, campaign.image())
    memory.set_latency(campaign.latency_cycles)
    memory.set_stalls(seed=given["seed"] + 1, **{
        channel: player.random.choice((0, 1, 1)) * campaign.stalls / 256 for channel in CHANNELS})
    partitions = range(config.partitions)

    try:
        await play(dut, clock, port, stores, [player.begin()])
        await play(dut, clock, port, stores, [
            *map(player.sender, partitions), *map(player.driver, partitions),
            *map(player.keeper, partitions), player.manager(), player.watch()])
        memory.set_errors()
        player.stop("")
        await play(dut, clock, port, stores, [player.end()])
        Path("memory.bin").write_bytes(await memory.dump(0, given["memory_bytes"]))
    finally:
        Path("reads.json").write_text(
            json.dumps({"answers": port.answers, "denied": port.denied}), encoding="utf-8")
        await memory.flush()

    system = System(config, memory_bytes=given["memory_bytes"])
    for name, checker in (("memory_port_broken", system.memory_checker),
                          ("register_port_broken", system.register_checker)):
        failed = int(getattr(dut, name).value)
        assert not failed, f"{name}: {checker.told(failed)}"
