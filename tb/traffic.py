# SPDX-License-Identifier: Apache-2.0
"""Messages of several partitions at once, each checked by the event that it gives."""

from __future__ import annotations

from dataclasses import dataclass, field

import cocotb

from mvxl.driver import Event
from mvxl.messages import Status

from .common import SOURCE, Bench, completion

__all__ = ["Traffic", "run_all"]


@dataclass
class Traffic:
    """A partition's messages, all with an event, and the events that they gave.

    `messages`: (source offset, destination ID, count).
    """

    partition: int
    messages: list[tuple[int, int, int]]
    events: list[Event] = field(default_factory=list)

    async def run(self, bench: Bench) -> None:
        """Send all, as fast as the queue takes them, and take the events meanwhile."""
        driver = bench.partitions[self.partition]
        for tag, (src_offset, dst_id, count) in enumerate(self.messages):
            if (await driver.status()).room == 0:
                self.events.append(await bench.event(self.partition))
            await driver.send(SOURCE + self.partition, src_offset, dst_id, count, event=True,
                              tag=tag % 256, until_room=True)
        while len(self.events) < len(self.messages):
            self.events.append(await bench.event(self.partition))

    def expect(self, bench: Bench) -> dict[int, list[tuple[int, int]]]:
        """Check the events and tell the bench; (offset, count) in their order, by destination."""
        placed: dict[int, list[tuple[int, int]]] = {}
        for tag, ((src_offset, dst_id, count), event) in enumerate(
                zip(self.messages, self.events, strict=True)):
            assert event == completion(
                Status.OK, tag=tag % 256, dst_id=dst_id, count=count,
                peer=bench.entries[dst_id].owner, offset=event.offset), (self.partition, event)
            bench.expect(self.partition, SOURCE + self.partition, src_offset, dst_id,
                         event.offset, count)
            placed.setdefault(dst_id, []).append((event.offset, count))
        for dst_id, ranges in placed.items():
            assert ranges == sorted(ranges), f"{self.partition} → {dst_id} is out of order"
        return placed


async def run_all(bench: Bench, traffics: list[Traffic]) -> dict[int, list[tuple[int, int]]]:
    """Run traffic of several partitions at once, check everything; the ranges by destination.

    The messages to a destination must fill it without gaps.
    """
    tasks = [cocotb.start_soon(traffic.run(bench)) for traffic in traffics]
    for task in tasks:
        await task
    placed: dict[int, list[tuple[int, int]]] = {}
    for traffic in traffics:
        for dst_id, ranges in traffic.expect(bench).items():
            placed.setdefault(dst_id, []).extend(ranges)
    for dst_id, ranges in placed.items():
        end = 0
        for offset, count in sorted(ranges):
            assert offset == end, f"entry {dst_id} must be filled on at {end}, not {offset}"
            end += count
        owner = bench.entries[dst_id].owner
        assert await bench.partitions[owner].receive_cursor(dst_id) == end
    await bench.wait_idle()
    await bench.check()
    return placed
