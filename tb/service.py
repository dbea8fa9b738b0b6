# SPDX-License-Identifier: Apache-2.0
"""The partitions of a service scenario: a server, its clients, and the workload manager."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict
from typing import Any

from cocotb.triggers import ClockCycles

from mvxl.driver import Event, PartitionDriver, QueueFull
from mvxl.messages import EventKind, Status
from sim.scenario import Partition
from sim.service import request_of, watched_pairs
from sim.velocity import Governor, Pair, Snapshot, interval
from sim.work import WORKS

from .desk import TAGS, Desk, comparison

__all__ = ["Client", "Server", "WorkloadManager"]

#: The workload manager's look at whether it is still needed, in cycles.
LOOK_CYCLES = 200


async def _check_empty(driver: PartitionDriver, network_id: int) -> None:
    """A ring of which everything was consumed must be empty."""
    cursor, head = await driver.receive_cursor(network_id), await driver.receive_head(network_id)
    if cursor != head:
        raise AssertionError(f"ring {network_id} of partition {driver.partition} must be empty at "
                             f"the end: cursor {cursor}, head {head}")


class Server:
    """The software of the partition that answers.

    Requests are answered in the order in which they came. A request stays in its ring until its
    reply is complete, and is consumed then; so a client never has more in the ring than the server
    has not answered.
    """

    def __init__(self, desk: Desk) -> None:
        service = desk.service
        self.desk = desk
        self.partition = service.server
        self.driver = desk.driver(service.server)
        self._work = WORKS[service.work]
        self._source = desk.scenario.entry(service.replies_from)
        self._slot_bytes = service.reply_bytes_max
        # Not more than the command queue takes, so that it is never full.
        self._slots = min(self._source.length // self._slot_bytes,
                          desk.config.command_queue_depth)
        self._came = [0] * len(service.clients)
        self._requests: deque[Event] = deque()
        self._answering: deque[Event] = deque()
        self._answered = 0
        self._next_slot = 0

    async def run(self) -> None:
        """Answer until every client has all its replies."""
        expected = sum(self.desk.service.requests)
        while self._answered < expected:
            async for event in self.driver.events():
                await self._take(event)
            if self._requests and len(self._answering) < self._slots:
                await self._serve(self._requests.popleft())
            elif self._answered < expected:
                await self._take(await self.driver.wait_event())
        for network_id in set(self.desk.service.requests_to):
            await _check_empty(self.driver, network_id)
        self.desk.busy.discard(self.partition)

    async def _take(self, event: Event) -> None:
        if event.kind is EventKind.NOTIFICATION:
            await self._request_came(event)
            return
        request = self._answering.popleft()
        if event.status is not Status.OK or event.tag != request.tag:
            raise AssertionError(
                f"the reply to the request with tag {request.tag} of partition {request.peer} must "
                f"end OK, not {event.status.name} (tag {event.tag})")
        await self.driver.consume(request.dst_id, request.count)
        self._answered += 1

    async def _request_came(self, event: Event) -> None:
        desk, service = self.desk, self.desk.service
        client = service.clients.index(event.peer)
        number = self._came[client]
        self._came[client] += 1
        entry = desk.scenario.entry(event.dst_id)
        seen = await desk.peek_entry(entry, event.offset, event.count)
        expected = request_of(service, client, number)
        desk.checks.append({"what": "request", "partition": event.peer, "number": number,
                            "offset": event.offset, **comparison(expected, seen)})
        desk.arrive(event.count)
        if desk.flip and client == 0 and number == service.requests[0] // 2:
            byte = event.count // 2
            offset = (event.offset + byte) % entry.length
            await desk.flip_bit(entry.base + offset, 3)
            desk.flipped = {"message": number, "entry": entry.id, "offset": offset, "bit": 3,
                            "byte": byte}
        self._requests.append(event)

    async def _serve(self, request: Event) -> None:
        """Make the reply to a request, and send it."""
        desk, service = self.desk, self.desk.service
        entry = desk.scenario.entry(request.dst_id)
        content = await desk.peek_entry(entry, request.offset, request.count)
        if service.service_cycles:
            await ClockCycles(desk.dut.clk, service.service_cycles)
        reply = self._work.answer(content)
        offset = self._next_slot * self._slot_bytes
        self._next_slot = (self._next_slot + 1) % self._slots
        await desk.store(self.partition, self._source.base + offset, reply)
        self._answering.append(request)
        await self.driver.send(
            self._source.id, offset,
            service.replies_to[service.clients.index(request.peer)], len(reply),
            wait=True, event=True, notify=True, tag=request.tag)


class Client:
    """The software of a partition that asks.

    Parameters
    ----------
    desk : Desk
    index : int
        Of the partition in the service's clients.
    """

    def __init__(self, desk: Desk, index: int) -> None:
        service = desk.service
        self.desk = desk
        self.index = index
        self.partition = service.clients[index]
        self.driver = desk.driver(self.partition)
        self.round_trips: list[int] = []
        self._source = desk.scenario.entry(service.requests_from[index])
        self._replies = desk.scenario.entry(service.replies_to[index])
        self._work = WORKS[service.work]
        self._sent_cycles: deque[int] = deque()
        self._sent = 0
        self._answered = 0

    async def run(self) -> None:
        """Ask, and compare every reply."""
        expected = self.desk.service.requests[self.index]
        while self._answered < expected:
            await self._ask()
            await self._take(await self.driver.wait_event())
        await _check_empty(self.driver, self._replies.id)
        self.desk.busy.discard(self.partition)

    async def _ask(self) -> None:
        """Send requests as far as the window and the queue allow."""
        desk, service = self.desk, self.desk.service
        window = service.window[self.index]
        while (self._sent < service.requests[self.index]
               and self._sent - self._answered < window):
            content = request_of(service, self.index, self._sent)
            # The request before in this slot is answered, so nothing reads it any more.
            offset = self._sent % window * service.request_bytes[self.index]
            await desk.store(self.partition, self._source.base + offset, content)
            try:
                await self.driver.send(
                    self._source.id, offset, service.requests_to[self.index], len(content),
                    wait=True, notify=True, tag=self._sent % TAGS)
            except QueueFull:
                return
            self._sent_cycles.append(desk.memory.cycle)
            self._sent += 1

    async def _take(self, event: Event) -> None:
        desk, service = self.desk, self.desk.service
        if event.kind is not EventKind.NOTIFICATION:
            raise AssertionError(f"a request of partition {self.partition} (tag {event.tag}) must "
                                 f"end OK, not {event.status.name}")
        number = self._answered
        if event.tag != number % TAGS:
            raise AssertionError(f"the next reply to partition {self.partition} must be that to "
                                 f"request {number}, not the one with tag {event.tag}")
        seen = await desk.peek_entry(self._replies, event.offset, event.count)
        expected = self._work.answer(request_of(service, self.index, number))
        desk.checks.append({"what": "reply", "partition": self.partition, "number": number,
                            "offset": event.offset, **comparison(expected, seen)})
        self.round_trips.append(desk.memory.cycle - self._sent_cycles.popleft())
        await self.driver.consume(self._replies.id, event.count)
        desk.arrive(event.count)
        self._answered += 1


class WorkloadManager:
    """Takes a snapshot of the counters in every interval, and changes a weight by what it sees.

    Members
    -------
    snapshots : list of Snapshot
    changes : list of Change
    """

    def __init__(self, desk: Desk) -> None:
        assert desk.scenario.manager is not None
        self.desk = desk
        self.settings = desk.scenario.manager
        self.driver = desk.manager()
        self.pairs: list[Pair] = watched_pairs(desk.scenario)
        self.snapshots: list[Snapshot] = []
        self.changes: list[Any] = []
        self._governor = Governor(goal=self.settings.velocity_goal, weights={
            one.id: one.weight for one in desk.scenario.partitions})

    async def run(self) -> None:
        """Look, and act, until the other partitions are through."""
        await self.look()
        due = self.snapshots[0].cycle
        while True:
            due += self.settings.interval_cycles
            while self.desk.busy and (left := due - self.desk.memory.cycle) > 0:
                await ClockCycles(self.desk.dut.clk, min(left, LOOK_CYCLES))
            through = not self.desk.busy
            await self.look()
            if through:
                return
            await self._act()

    async def look(self) -> None:
        """Take a snapshot."""
        cycle = self.desk.memory.cycle
        self.snapshots.append(Snapshot(cycle=cycle,
                                       counters=await self.driver.counters(self.pairs)))

    async def _act(self) -> None:
        change = self._governor.decide(
            interval(self.snapshots[-2], self.snapshots[-1], self.desk.config.data_bytes))
        if change is not None:
            one: Partition = self.desk.scenario.partition(change.partition)
            await self.driver.enable_partition(
                one.id, max_count=one.max_count, wait_limit=one.wait_limit_cycles,
                weight=change.weight)
            self.changes.append(change)

    def outcome(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "snapshots": [{"cycle": one.cycle,
                           "counters": [[*pair, asdict(counters)]
                                        for pair, counters in one.counters.items()]}
                          for one in self.snapshots],
            "changes": [asdict(one) for one in self.changes]}
