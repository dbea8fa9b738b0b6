# SPDX-License-Identifier: Apache-2.0
"""The demonstration inside the simulator: the manager, the partitions' drivers, and an intruder.

`sim.demo` starts it and judges what it leaves in its folder: `outcome.json` (what the software
saw), `memory.bin` (the memory at the end), the adapter's trace and the log of the memory port;
`progress` tells while it runs how many bytes have arrived. Each partition is one coroutine that
sleeps until its interrupt.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, SimTimeoutError, Timer, with_timeout

from mvxl.config import AdapterConfig
from mvxl.driver import (
    Event,
    PartitionDriver,
    QueueFull,
    ReleaseRefused,
    RewindRefused,
    TableEntry,
)
from mvxl.messages import EventKind, Op, Status
from mvxl.registers import WORD_BITS, register_map
from sim.build import parameters
from sim.journal import first_image
from sim.memory import CHANNELS, MemoryControl
from sim.scenario import Entry, Scenario, load
from sim.transport import BusError, PageFault, register_port

from .desk import CLOCK_NS, TAGS, Desk, comparison
from .service import Client, Server, WorkloadManager

#: Cursors and heads run free modulo this.
CURSORS = 1 << WORD_BITS

#: Commands that a partition keeps under way.
WINDOW_MESSAGES = 8

#: Cycles between two looks of an owner at its cursors, where no interrupt calls it.
LOOK_CYCLES = 1000

#: The demonstration is stuck when nothing happens for so long, and for each byte of the largest
#: message so many cycles more.
STUCK_CYCLES = 300_000
STUCK_CYCLES_PER_BYTE = 20

#: A token that nobody was given.
FORGED_TOKEN = 1

#: Commands of a storm beyond all that the adapter has room for.
STORM_EXCESS = 32

class Stop:
    """A place where the file stays on its way: one entry of one partition.

    Parameters
    ----------
    desk : Desk
    place : int
        Its index in the route.
    driver : PartitionDriver
        Of the partition whose entry it is.
    """

    def __init__(self, desk: Desk, place: int, driver: PartitionDriver) -> None:
        self.desk = desk
        self.place = place
        self.driver = driver
        self.last = place == len(desk.route.path) - 1
        self.entry = desk.scenario.entry(desk.route.entries[place])
        self.arrived = 0
        self.sent = 0
        self.completed = 0
        self.filled_bytes = 0
        self._waiting: deque[tuple[int, int]] = deque()
        if place == 0:
            for number in range(desk.messages):
                self._waiting.append((number * desk.message_bytes, len(desk.message(number))))

    @property
    def done(self) -> bool:
        """Everything has come here, and everything has gone on."""
        expected = self.desk.messages
        return ((self.place == 0 or self.arrived == expected)
                and (self.last or self.completed == expected))

    async def send(self) -> None:
        """Send on what is here, as far as the window allows."""
        while self._waiting and self.sent - self.completed < _window(self.desk.config):
            offset, count = self._waiting.popleft()
            await self.driver.send(
                self.entry.id, offset, self.desk.route.entries[self.place + 1], count,
                wait=True, event=True, notify=True, tag=self.sent % TAGS)
            self.sent += 1

    async def message_came(self, event: Event) -> None:
        """Take a message that another partition has sent here."""
        number = self.arrived
        self.arrived += 1
        self.filled_bytes += event.count
        await self._check(number, event)
        desk = self.desk
        desk.arrive(event.count)
        if desk.flip and self.place == 1 and number == desk.messages // 2:
            offset = event.offset + event.count // 2
            await desk.flip_bit(self.entry.base + offset, 3)
            desk.flipped = {"message": number, "entry": self.entry.id, "offset": offset, "bit": 3}
        if not self.last:
            self._waiting.append((event.offset, event.count))

    async def _check(self, number: int, event: Event) -> None:
        """Compare a message that came with the file's bytes."""
        expected = self.desk.message(number)
        seen = await self.desk.peek(self.entry.base + event.offset, event.count)
        self.desk.checks.append({
            "message": number, "place": self.place, "offset": event.offset,
            "sha256": hashlib.sha256(seen).hexdigest(), **comparison(expected, seen)})

    async def message_gone(self, event: Event) -> None:
        """A message sent from here is complete; a full entry that is empty again is rewound."""
        self.completed += 1
        if event.status is not Status.OK:
            raise AssertionError(f"message {self.completed - 1} from entry {self.entry.id} must "
                                 f"end OK, not {event.status.name}")
        if (self.place and self.filled_bytes == self.entry.length
                and self.completed == self.arrived):
            await self.driver.rewind(self.entry.id)
            self.filled_bytes = 0


async def carry(desk: Desk, partition: int) -> None:
    """The software of a partition on the route: takes what comes, and sends it on."""
    driver = desk.driver(partition)
    route = desk.route
    stops = [Stop(desk, place, driver) for place, owner in enumerate(route.path)
             if owner == partition]
    arrivals = {route.entries[stop.place]: stop for stop in stops if stop.place}
    departures = {route.entries[stop.place + 1]: stop for stop in stops if not stop.last}
    while not all(stop.done for stop in stops):
        for stop in stops:
            await stop.send()
        event = await driver.wait_event()
        if event.kind is EventKind.NOTIFICATION:
            if event.dst_id in arrivals:
                await arrivals[event.dst_id].message_came(event)
        else:
            await departures[event.dst_id].message_gone(event)


class Talker:
    """The software of a partition with traffic of its own: sends it, in order.

    Of entries that it owns and that others send to it consumes what is in rings, and rewinds others
    when they have no room for another message. Beside a service it sends until that is through.
    """

    def __init__(self, desk: Desk, partition: int) -> None:
        self.desk = desk
        self.partition = partition
        self.transport = desk.transport(partition)
        self.driver = desk.driver(partition)
        self._beside = desk.scenario.service is not None
        mine = [one for one in desk.scenario.traffic if one.partition == partition]
        self._sends = ((one, send) for one in mine for send in desk.scenario.sends(one))
        self._next = next(self._sends, None)
        self._left = sum(one.messages for one in mine)
        self._under_way = 0
        self._pages = register_map(desk.config)
        self._sizes = _largest_counts(desk.scenario)

    async def run(self, *, to_the_end: bool) -> None:
        """Send everything; then, if `to_the_end`, look after the entries until all have sent."""
        await self.transport.write32(
            self._pages.partition_address(self.partition, "irq_enable"),
            self._pages.partition["irq_enable"].pack(event=1))
        while self._goes_on(to_the_end):
            if not self._beside or self.desk.busy:
                await self._send()
            await self._take_events()
            await self._look_after_entries()
            if not self._left:
                self.desk.busy.discard(self.partition)
            if self.desk.busy:
                await self._sleep()

    def _goes_on(self, to_the_end: bool) -> bool:
        if self._beside:
            return bool(self.desk.busy) or self._under_way > 0
        return self._left > 0 or to_the_end and bool(self.desk.busy)

    async def _send(self) -> None:
        while self._next is not None and self._under_way < self._next[0].window:
            send = self._next[1]
            flags = {"wait": send.wait, "fence": send.fence, "event": True,
                     "notify": send.notify, "tag": send.tag}
            try:
                if send.op == Op.MVCL.value:
                    await self.driver.mvcl(send.src_id, send.src_offset, send.dst_id,
                                           send.dst_offset, send.count, **flags)
                else:
                    await self.driver.send(send.src_id, send.src_offset, send.dst_id, send.count,
                                           **flags)
            except QueueFull:
                return
            self._next = next(self._sends, None)
            self._under_way += 1

    async def _take_events(self) -> None:
        async for event in self.driver.events():
            if event.kind is EventKind.COMPLETION:
                self._under_way -= 1
                self._left -= 1
                if not self._beside:
                    self.desk.arrive(event.count)

    async def _look_after_entries(self) -> None:
        for entry in self.desk.scenario.entries:
            largest = self._sizes.get(entry.id, 0)
            if entry.owner != self.partition or not largest:
                continue
            cursor = await self.driver.receive_cursor(entry.id)
            if entry.ring:
                head = await self.driver.receive_head(entry.id)
                await self.driver.consume(entry.id, (cursor - head) % CURSORS)
            elif cursor and cursor + largest > entry.length:
                try:
                    await self.driver.rewind(entry.id)
                except RewindRefused:
                    pass    # A message is in flight to it: at the next look.

    async def _sleep(self) -> None:
        try:
            await with_timeout(self.transport.interrupt(), LOOK_CYCLES * CLOCK_NS, "ns")
        except SimTimeoutError:
            pass    # Nothing happened, but there may be something to look after.


def _window(config: AdapterConfig) -> int:
    """Commands that a partition keeps under way: its queue is never full."""
    return min(WINDOW_MESSAGES, config.command_queue_depth)


def _largest_counts(scenario: Scenario) -> dict[int, int]:
    """The largest count of what is sent to each entry, in bytes."""
    largest: dict[int, int] = {}
    for traffic in scenario.traffic:
        largest[traffic.dst] = max(largest.get(traffic.dst, 0), traffic.count)
    return largest


@dataclass
class Attempt:
    """Something that is tried, what it must get, and what it got.

    `start` begins a command and returns its tag; `act` does anything else and returns what it got.
    """

    name: str
    expected: str
    start: Callable[[], Awaitable[int]] | None = field(default=None, repr=False)
    act: Callable[[], Awaitable[str]] | None = field(default=None, repr=False)
    once: bool = False
    got: str = ""
    times: int = 0

    def note(self, got: str) -> None:
        """Count it; what it got stays as it is once it was not what it must be."""
        if not self.times or self.got == self.expected:
            self.got = got
        self.times += 1


class Intruder:
    """A partition that tries what it may not, again and again, while the others work."""

    def __init__(self, desk: Desk, partition: int) -> None:
        self.desk = desk
        self.partition = partition
        self.pages = register_map(desk.config)
        self.transport = desk.transport(partition)
        self.driver = desk.driver(partition)
        self._tag = 0
        self.storm = {"commands": 0, "rejected": 0}
        scenario = desk.scenario
        self._limits = scenario.partition(partition)
        self._own = next((one for one in scenario.entries
                          if one.owner == partition and "send" in one.rights), None)
        self._door = next((one for one in scenario.entries if partition in one.senders), None)
        self.attempts = list(self._attempts())

    async def run(self) -> None:
        """Everything once, and then again at growing distances until the others have finished."""
        pause_cycles = 1000
        while True:
            for attempt in self.attempts:
                if attempt.act is not None:
                    self.desk.trying[self.partition] = attempt.name
                    attempt.note(await attempt.act())
                    self.desk.happened += 1
            commands = iter([one for one in self.attempts
                             if one.start is not None and not (one.once and one.times)])
            while batch := list(islice(commands, _window(self.desk.config))):
                await self._try_commands(batch)
            if not self.desk.busy:
                return
            await Timer(min(pause_cycles, STUCK_CYCLES // 2) * CLOCK_NS, "ns")
            pause_cycles *= 2

    async def _try_commands(self, batch: Sequence[Attempt]) -> None:
        """Commands, all of them started before the first answer is looked at."""
        self.desk.trying[self.partition] = batch[0].name
        started = {await one.start(): one for one in batch if one.start is not None}
        while started:
            event = await self.driver.wait_event()
            if event.kind is EventKind.COMPLETION:
                started.pop(event.tag).note(event.status.name)
                self.desk.happened += 1

    def _attempts(self) -> Iterator[Attempt]:
        yield from self._on_registers()
        yield from self._on_entries()

    def _on_entries(self) -> Iterator[Attempt]:
        others = [one for one in self.desk.scenario.entries if one.owner != self.partition]
        own = self._own.id if self._own else 0
        door = self._door.id if self._door else 0
        for entry in others:
            if "send" in entry.rights:
                yield self._send(f"send from entry {entry.id} of partition {entry.owner}",
                                 Status.SRC_FAULT, src_id=entry.id, dst_id=door)
        if self._own is None:
            return
        for entry in others:
            if self.partition in entry.senders:
                continue
            why = "not listed" if "receive" in entry.rights else "not to be received into"
            yield self._send(f"send to entry {entry.id} of partition {entry.owner}, {why}",
                             Status.DST_FAULT, src_id=own, dst_id=entry.id)
        for entry in others:
            if "receive" in entry.rights:
                yield Attempt(f"copy into entry {entry.id} of partition {entry.owner}",
                              "DST_FAULT", partial(self._mvcl, own, entry.id))
        entries = self.desk.config.entries
        yield self._send(f"send from ID {own + entries}, its own modulo the table's {entries}",
                         Status.SRC_FAULT, src_id=own + entries, dst_id=door)
        yield self._send(f"send to ID {door + entries}, beyond the table", Status.DST_FAULT,
                         src_id=own, dst_id=door + entries)
        yield self._send("send nothing", Status.BAD_COUNT, src_id=own, dst_id=door, count=0)
        yield self._send("send one byte more than MAX_COUNT", Status.BAD_COUNT, src_id=own,
                         dst_id=door, count=self._limits.max_count + 1)
        if self._door is not None:
            yield from self._at_the_door(self._own, self._door)
        yield Attempt("start an operation that does not exist", "BAD_OP", self._bad_op)
        yield Attempt("ask for a grant, as its kernel", "NOT_PERMITTED",
                      partial(self._grant, own, door))
        yield Attempt("move by a forged token, as its kernel", "STALE", self._mvxl)

    def _at_the_door(self, own: Entry, door: Entry) -> Iterator[Attempt]:
        granted = self._send("send where the table lets it", Status.OK, src_id=own.id,
                             dst_id=door.id)
        granted.once = True
        yield granted
        yield self._send("read on beyond the end of its own entry", Status.SRC_BOUNDS,
                         src_id=own.id, dst_id=door.id, src_offset=own.length - 63)
        yield self._send("send from 2³² − 64 on, wrapping to offset 0", Status.SRC_BOUNDS,
                         src_id=own.id, dst_id=door.id, src_offset=(1 << 32) - 64, count=128)
        if door.length < min(own.length, self._limits.max_count):
            yield self._send("write on beyond the end of the entry that lists it",
                             Status.DST_FULL, src_id=own.id, dst_id=door.id,
                             count=door.length + 1)

    def _send(self, name: str, expected: Status, *, src_id: int, dst_id: int,
              src_offset: int = 0, count: int = 64) -> Attempt:
        async def start() -> int:
            tag = self._next_tag()
            await self.driver.send(src_id, src_offset, dst_id, count, event=True, tag=tag)
            return tag
        return Attempt(name, expected.name, start)

    def _next_tag(self) -> int:
        self._tag = (self._tag + 1) % TAGS
        return self._tag

    async def _write_command(self, op: int, tag: int) -> None:
        await self.transport.write32(
            self.pages.partition_address(self.partition, "command"),
            self.pages.partition["command"].pack(op=op, tag=tag, event=1))

    async def _bad_op(self) -> int:
        tag = self._next_tag()
        await self._write_command(self.pages.partition["command"]["op"].largest, tag)
        return tag

    async def _grant(self, own: int, door: int) -> int:
        tag = self._next_tag()
        await self.driver.grant(own, 0, door, 64, event=True, tag=tag)
        return tag

    async def _mvxl(self) -> int:
        tag = self._next_tag()
        await self.driver.mvxl(FORGED_TOKEN, 0, 0, 64, event=True, tag=tag)
        return tag

    async def _mvcl(self, own: int, entry: int) -> int:
        tag = self._next_tag()
        await self.driver.mvcl(own, 0, entry, 0, 64, event=True, tag=tag)
        return tag

    def _on_registers(self) -> Iterator[Attempt]:
        yield Attempt("a storm of commands", "excess rejected", act=self._storm)
        own_page, manager_page = self.pages.partition_address, self.pages.manager_address
        victim = next((one.id for one in self.desk.scenario.partitions
                       if one.id != self.partition), None)
        if victim is not None:
            yield self._access(f"write COMMAND in partition {victim}'s page", "page fault",
                               own_page(victim, "command"))
        yield self._access("write the manager's page", "page fault", manager_page("entry_commit"))
        yield self._access("write the manager's page, the MMU let it", "SLVERR",
                           manager_page("entry_commit"), mmu=False)
        yield self._access("read the manager's page, the MMU let it", "SLVERR",
                           manager_page("status"), write=False, mmu=False)
        yield self._access("write how many commands it has completed", "SLVERR",
                           own_page(self.partition, "completed"))
        for name in ("grant_command", "mvxl_command", "release"):
            yield self._access(f"write {name.upper()} without privilege", "SLVERR",
                               own_page(self.partition, name))
        yield self._access("read GRANT_TOKEN without privilege", "SLVERR",
                           own_page(self.partition, "grant_token"), write=False)
        yield Attempt("release by a forged token, as its kernel", "STALE", act=self._release)
        for entry in self.desk.scenario.entries:
            if entry.owner != self.partition and "receive" in entry.rights:
                yield Attempt(f"REWIND entry {entry.id} of partition {entry.owner}", "refused",
                              act=partial(self._rewind, entry.id))
                yield Attempt(f"read how far entry {entry.id} is filled", "0",
                              act=partial(self._cursor, entry.id))

    def _access(self, name: str, expected: str, address: int, *, write: bool = True,
                mmu: bool = True) -> Attempt:
        transport = self.desk.transport(self.partition, mmu=mmu)

        async def act() -> str:
            try:
                if write:
                    await transport.write32(address, 1)
                else:
                    await transport.read32(address)
            except PageFault:
                return "page fault"
            except BusError as error:
                return error.response
            return "OKAY"
        return Attempt(name, expected, act=act)

    async def _rewind(self, network_id: int) -> str:
        try:
            await self.driver.rewind(network_id)
        except RewindRefused:
            return "refused"
        return "done"

    async def _release(self) -> str:
        try:
            await self.driver.release(FORGED_TOKEN, moved=64)
        except ReleaseRefused as refusal:
            return refusal.status.name
        return "done"

    async def _cursor(self, network_id: int) -> str:
        return str(await self.driver.receive_cursor(network_id))

    async def _storm(self) -> str:
        """Write COMMAND as fast as the port takes it, without a look at the room or at events."""
        config, driver = self.desk.config, self.driver
        accepted_before, rejected_before = await driver.completed(), await driver.rejected()
        room = config.command_queue_depth + config.messages_in_flight + 2
        commands = min(TAGS - 1, room + STORM_EXCESS)
        writes = [cocotb.start_soon(self._write_command(Op.SEND.value, self._next_tag()))
                  for _ in range(commands)]
        for write in writes:
            await write
        rejected = await driver.rejected() - rejected_before
        left = commands - rejected
        while left:
            left -= (await driver.wait_event()).kind is EventKind.COMPLETION
        completed = await driver.completed() - accepted_before
        self.storm["commands"] += commands
        self.storm["rejected"] += rejected
        if not rejected or completed + rejected != commands:
            return f"{commands} written, {rejected} rejected, {completed} completed"
        flagged = (await driver.status()).rejected
        await driver.clear_rejected()
        return "excess rejected" if flagged else "STATUS.rejected is 0"


async def set_up(desk: Desk) -> None:
    """What the manager does before anybody else runs."""
    manager = desk.manager()
    await manager.wait_ready()
    for one in desk.scenario.partitions:
        if one.enabled:
            await manager.enable_partition(one.id, max_count=one.max_count,
                                           wait_limit=one.wait_limit_cycles, weight=one.weight)
    for entry in desk.scenario.entries:
        await manager.commit_entry(entry.id, TableEntry(
            base=entry.base, length=entry.length, owner=entry.owner,
            senders=frozenset(entry.senders), may_send="send" in entry.rights,
            may_receive="receive" in entry.rights, ring=entry.ring))


async def watch(desk: Desk) -> None:
    """Fail when nothing happens any more."""
    scenario = desk.scenario
    largest = max([scenario.route.message_bytes if scenario.route else 0,
                   *(scenario.service.request_bytes if scenario.service else ()),
                   *_largest_counts(scenario).values()])
    cycles = STUCK_CYCLES + STUCK_CYCLES_PER_BYTE * min(largest, scenario.memory.bytes)
    before = -1
    while before != desk.happened:
        before = desk.happened
        await Timer(cycles * CLOCK_NS, "ns")
    raise AssertionError(f"something must happen every {cycles} cycles, and nothing did after "
                         f"{desk.arrived_bytes} bytes had arrived; at work: partitions "
                         f"{sorted(desk.busy)}; last tried: {desk.trying}")


async def live(desk: Desk, partition: int, intruders: dict[int, Intruder],
               clients: Sequence[Client]) -> None:
    """All that the software of a partition does; a client is told by its index."""
    service = desk.scenario.service
    if service is not None and partition == service.server:
        await Server(desk).run()
    elif service is not None and partition in service.clients:
        await clients[service.clients.index(partition)].run()
    elif desk.scenario.route is None:
        await Talker(desk, partition).run(to_the_end=partition not in intruders)
    elif partition in desk.route.path:
        await carry(desk, partition)
        desk.busy.discard(partition)
    if partition in intruders:
        await intruders[partition].run()


@cocotb.test()
async def demonstration(dut: Any) -> None:
    """Everybody's software runs until everything has arrived; what it saw is written down."""
    given = parameters()
    scenario = load(Path(given["scenario"]))
    if scenario.route is not None:
        scenario = scenario.with_message_bytes(given["message_bytes"])
    content = Path(given["file"]).read_bytes() if given["file"] else b""
    Clock(dut.clk, CLOCK_NS, "ns").start()
    dut.rst.value = 1
    dut.partition_reset.value = 0
    memory = MemoryControl(dut.memory, data_bits=scenario.config.data_bits)
    desk = Desk(dut=dut, master=register_port(dut), scenario=scenario, memory=memory,
                content=content, flip=given["flip"])
    memory.set_latency(scenario.memory.latency_cycles)
    memory.set_stalls(**dict.fromkeys(CHANNELS, scenario.memory.stall_percent / 100))
    memory.enable_log(False)
    await memory.load(0, bytes(first_image(scenario, content)))
    await ClockCycles(dut.clk, 5)
    dut.rst.value = 0
    await set_up(desk)
    start = given["start_cycle"]
    if memory.cycle >= start:
        raise AssertionError(f"the manager must be through by cycle {start}, and needed "
                             f"{memory.cycle}")
    await ClockCycles(dut.clk, start - memory.cycle)
    memory.enable_log(True)
    cocotb.start_soon(close_log(memory, given["log_cycles"]))
    watchdog = cocotb.start_soon(watch(desk))

    enabled = [one for one in scenario.partitions if one.enabled]
    desk.busy = {one.id for one in enabled} & _at_work(scenario)
    intruders = {one.id: Intruder(desk, one.id) for one in enabled if one.hostile}
    clients = [Client(desk, index) for index in
               range(len(scenario.service.clients) if scenario.service else 0)]
    managing = WorkloadManager(desk) if scenario.manager else None
    tasks = [cocotb.start_soon(live(desk, one.id, intruders, clients)) for one in enabled]
    if managing is not None:
        tasks.append(cocotb.start_soon(managing.run()))
    for task in tasks:
        await task
    watchdog.cancel()
    manager = desk.manager()
    while not await manager.is_idle():
        pass
    await memory.flush()
    Path("memory.bin").write_bytes(await desk.peek(0, scenario.memory.bytes))
    Path("outcome.json").write_text(json.dumps(
        await outcome(desk, intruders)
        | {"round_trips": {one.partition: one.round_trips for one in clients},
           "manager": managing.outcome() if managing else None}), encoding="utf-8")


def _at_work(scenario: Scenario) -> set[int]:
    """The partitions for whose work everybody else goes on."""
    if scenario.route is not None:
        return set(scenario.route.path)
    if scenario.service is not None:
        return {scenario.service.server, *scenario.service.clients}
    return {traffic.partition for traffic in scenario.traffic}


async def close_log(memory: MemoryControl, cycles: int) -> None:
    """Let the log of the memory port end after so many cycles: the whole would be huge."""
    await Timer(cycles * CLOCK_NS, "ns")
    memory.enable_log(False)


async def outcome(desk: Desk, intruders: dict[int, Intruder]) -> dict[str, Any]:
    """What the software and the checkers saw, for JSON."""
    dut = desk.dut
    return {
        "end_cycle": desk.memory.cycle,
        "checks": desk.checks,
        "stores": desk.stores,
        "counters": [[*pair, asdict(counters)]
                     for pair, counters in (await desk.manager().counters()).items()],
        "faults": [{"partition": one.partition, "status": one.status.name, "lost": one.lost}
                   for one in await desk.manager().faults()],
        "flipped": desk.flipped,
        "attempts": [
            {"partition": partition, "name": one.name, "expected": one.expected,
             "got": one.got, "times": one.times}
            for partition, intruder in intruders.items() for one in intruder.attempts],
        "storms": {partition: one.storm for partition, one in intruders.items()},
        "rejected": [await desk.driver(partition).rejected()
                     for partition in range(desk.config.partitions)],
        "broken_rules": {"memory port": dut.memory_port_broken.value.to_unsigned(),
                         "register port": dut.register_port_broken.value.to_unsigned()},
    }
