# SPDX-License-Identifier: Apache-2.0
"""Grants from their drivers' side, and who waits for their end, in step with the bench."""

from __future__ import annotations

from dataclasses import dataclass

from cocotb.triggers import with_timeout

from mvxl.driver import GrantState, ReleaseRefused
from mvxl.messages import GrantKind, Status

from .common import SOURCE, Bench, completion

__all__ = ["NO_GRANT", "Holder", "fill", "granted", "held_up", "hold", "let_in",
           "release_refused"]

#: What a partition is told that has no grant.
NO_GRANT = GrantState(held=False, live=False, kind=GrantKind.ENGINE, busy=False, token=0,
                      acknowledged=0)

_TAG = 211


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A partition with a grant. `src_offset`, `position` (of the destination) and `count` in bytes.

    `position` is a byte position: a ring goes on at its start.
    """

    bench: Bench
    partition: int
    src_offset: int
    dst_id: int
    position: int
    count: int
    kind: GrantKind
    token: int

    @property
    def src_id(self) -> int:
        return SOURCE + self.partition

    @property
    def receiver(self) -> int:
        return self.bench.entries[self.dst_id].owner

    async def start_move(self, src: int, dst: int, count: int, *, event: bool = True) -> int:
        """Queue an MVXL; the number of the command."""
        return await self.bench.partitions[self.partition].mvxl(
            self.token, src, dst, count, event=event, tag=_TAG)

    async def moved(self, src: int, dst: int, count: int) -> None:
        """An MVXL with an event ends OK."""
        event = await self.bench.event(self.partition)
        assert event == completion(Status.OK, tag=_TAG, dst_id=self.dst_id, count=count,
                                   peer=self.receiver, offset=dst), event
        length = self.bench.entries[self.dst_id].length
        position = (self.position + dst) % length
        self.bench.expect(self.partition, self.src_id, self.src_offset + src, self.dst_id,
                          position, count)

    async def move(self, src: int, dst: int, count: int) -> None:
        """Move with MVXL, and see it end OK."""
        await self.start_move(src, dst, count)
        await self.moved(src, dst, count)

    async def move_refused(self, status: Status, src: int, dst: int, count: int, *,
                           token: int | None = None) -> None:
        """An MVXL ends with `status`, and leaves nothing but its own event."""
        driver = self.bench.partitions[self.partition]
        await driver.mvxl(self.token if token is None else token, src, dst, count, event=True,
                          tag=_TAG)
        event = await self.bench.event(self.partition)
        dst_id = 0 if status is Status.STALE else self.dst_id
        assert event == completion(status, tag=_TAG, dst_id=dst_id, count=count), event
        await self.bench.idle_cycles(20)
        await self.bench.check_silence()

    async def copy(self) -> None:
        """Move all with the processor's loads and stores, to the addresses that are told."""
        driver = self.bench.partitions[self.partition]
        told = await driver.grant_addresses(self.count)
        source, moves = told.source, []
        for address, count in told.pieces:
            moves.append((source, address, count))
            source += count
        await self.bench.processor.copy(moves, user=self.partition)
        self.bench.expect_content(self.src_id, self.src_offset, self.dst_id, self.position,
                                  self.count)

    async def release(self, moved: int) -> None:
        """Give it back, within 10,000 cycles; the cursor advances by `moved` bytes then."""
        owner = self.bench.partitions[self.receiver]
        before = await owner.receive_cursor(self.dst_id)
        await with_timeout(
            self.bench.partitions[self.partition].release(self.token, moved), 100, "us")
        assert await owner.receive_cursor(self.dst_id) == before + moved
        assert await self.state() == NO_GRANT

    async def state(self) -> GrantState:
        return await self.bench.partitions[self.partition].grant_state()


async def hold(bench: Bench, partition: int, dst_id: int, count: int, *,
               kind: GrantKind = GrantKind.ENGINE, src_offset: int = 0, tag: int = 7,
               notify: bool = False, wait: bool = False) -> Holder:
    """Get a grant from the partition's own source."""
    driver = bench.partitions[partition]
    await driver.grant(SOURCE + partition, src_offset, dst_id, count, kind=kind, event=True,
                       notify=notify, wait=wait, tag=tag)
    return await granted(bench, partition, dst_id, count, kind=kind, src_offset=src_offset,
                         tag=tag)


async def granted(bench: Bench, partition: int, dst_id: int, count: int, *,
                  kind: GrantKind = GrantKind.ENGINE, src_offset: int = 0,
                  tag: int = 7) -> Holder:
    """A GRANT that was asked for with an event ends OK."""
    entry = bench.entries[dst_id]
    event = await bench.event(partition)
    # Nobody else can move it as long as the grant is held.
    cursor = await bench.partitions[entry.owner].receive_cursor(dst_id)
    position = cursor % entry.length if entry.ring else cursor
    assert event == completion(Status.OK, tag=tag, dst_id=dst_id, count=count, peer=entry.owner,
                               offset=position), event
    state = await bench.partitions[partition].grant_state()
    assert state == GrantState(held=True, live=True, kind=kind, busy=False, token=state.token,
                               acknowledged=0), state
    assert state.token
    return Holder(bench=bench, partition=partition, src_offset=src_offset, dst_id=dst_id,
                  position=position, count=count, kind=kind, token=state.token)


async def release_refused(bench: Bench, partition: int, status: Status, token: int,
                          moved: int) -> None:
    """A RELEASE is refused with `status`."""
    try:
        await with_timeout(bench.partitions[partition].release(token, moved), 100, "us")
    except ReleaseRefused as refusal:
        assert refusal.status is status, refusal
    else:
        raise AssertionError(f"a release of {moved} bytes under token {token} by partition "
                             f"{partition} must be refused {status.name}")


async def fill(bench: Bench, sender: int, dst_id: int, count: int, *, offset: int = 0) -> None:
    """A message of partition `sender` is carried out."""
    number = await bench.partitions[sender].send(SOURCE + sender, 0, dst_id, count)
    bench.expect(sender, SOURCE + sender, 0, dst_id, offset, count)
    await bench.completed(sender, number)


async def held_up(bench: Bench, partition: int, dst_id: int, count: int) -> int:
    """A SEND of another partition that waits for the grant's end; its number."""
    number = await bench.partitions[partition].send(
        SOURCE + partition, 9, dst_id, count, wait=True, event=True, tag=_TAG)
    await bench.idle_cycles(100)
    assert (await bench.partitions[partition].status()).waiting
    return number


async def let_in(bench: Bench, partition: int, dst_id: int, count: int, offset: int) -> None:
    """The SEND that waited is carried out now, placed at `offset`."""
    event = await bench.event(partition)
    assert event == completion(Status.OK, tag=_TAG, dst_id=dst_id, count=count,
                               peer=bench.entries[dst_id].owner, offset=offset), event
    bench.expect(partition, SOURCE + partition, 9, dst_id, offset, count)
