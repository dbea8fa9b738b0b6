# SPDX-License-Identifier: Apache-2.0
"""A file goes through the adapter: written at the sender, moved as messages, read at the receiver.

The host is the software of both partitions, and their processor as well: it writes a message into
the sender's entry, has the sender's driver send it, takes the receiver's notification, reads the
message where it was placed, and frees the place.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from ..driver import Event, TableEntry
from ..messages import EventKind, Status
from .board import Board
from .link import HostError

__all__ = ["NoRoute", "Route", "Transfer", "TransferError", "find_route", "transfer"]

#: A message moves in far less than a millisecond; an event that is this late does not come.
EVENT_TIMEOUT_S = 10.0


class NoRoute(HostError):
    """The table does not let the one partition send to the other."""


class TransferError(HostError):
    """A message did not end as it must."""


@dataclass(frozen=True, kw_only=True)
class Route:
    """From entry `source_id` of partition `sender` to entry `destination_id` of `receiver`."""

    sender: int
    receiver: int
    source_id: int
    source: TableEntry
    destination_id: int
    destination: TableEntry

    @property
    def message_bytes_max(self) -> int:
        """The longest message that both entries have room for."""
        return min(self.source.length, self.destination.length)


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """What came of it. The check sums are SHA-256, in hexadecimal."""

    total_bytes: int
    messages: int
    sent_sha256: str
    received_sha256: str
    seconds: float

    @property
    def equal(self) -> bool:
        return self.sent_sha256 == self.received_sha256


def find_route(table: Mapping[int, TableEntry], sender: int, receiver: int) -> Route:
    """The way of the longest messages from one partition to another.

    Raises
    ------
    NoRoute
        There is none.
    """
    sources = {network_id: one for network_id, one in table.items()
               if one.owner == sender and one.may_send}
    destinations = {network_id: one for network_id, one in table.items()
                    if one.owner == receiver and one.may_receive and sender in one.senders}
    if not sources:
        raise NoRoute(f'partition {sender} must own an entry with the right "send", and has none')
    if not destinations:
        raise NoRoute(f'partition {receiver} must own an entry with the right "receive" that lists '
                      f"partition {sender} in senders, and has none")
    # An entry that also receives is taken last: its sender would write over what arrived.
    source_id = max(sources, key=lambda one: (not sources[one].may_receive, sources[one].length))
    others = {one: entry for one, entry in destinations.items() if one != source_id}
    if not others:
        raise NoRoute(f"partition {sender} must have another entry to send from than the one that "
                      f"it sends to, {source_id}")
    destination_id = max(others, key=lambda one: others[one].length)
    return Route(sender=sender, receiver=receiver, source_id=source_id, source=sources[source_id],
                 destination_id=destination_id, destination=others[destination_id])


async def transfer(board: Board, route: Route, file: BinaryIO, *, message_bytes: int,
                   progress: Callable[[int], object] = lambda moved_bytes: None) -> Transfer:
    """Move what is left of a file as messages of `message_bytes` bytes, the last one shorter.

    The entries of the route were just committed. `progress` is told bytes that were written or
    read: twice the file's size in all.

    Raises
    ------
    TransferError
        A message was refused, failed, or was told otherwise than it was sent.
    HostError
        As the link.
    """
    began = time.monotonic()
    sent, received = hashlib.sha256(), hashlib.sha256()
    total = messages = filled = 0
    while message := file.read(message_bytes):
        sent.update(message)
        if not route.destination.ring and filled + len(message) > route.destination.length:
            await board.drivers[route.receiver].rewind(route.destination_id)
            filled = 0
        board.write_memory(route.source.base, message, progress)
        placed = await _send(board, route, len(message), messages)
        received.update(_read_placed(board, route.destination, placed, progress))
        if route.destination.ring:
            await board.drivers[route.receiver].consume(route.destination_id, len(message))
        filled += len(message)
        total += len(message)
        messages += 1
    return Transfer(total_bytes=total, messages=messages, sent_sha256=sent.hexdigest(),
                    received_sha256=received.hexdigest(), seconds=time.monotonic() - began)


async def _send(board: Board, route: Route, count: int, number: int) -> Event:
    """Send one message; the notification that the receiver got."""
    tag = number % 256
    sender, receiver = board.drivers[route.sender], board.drivers[route.receiver]
    async with board.within(EVENT_TIMEOUT_S, f"message {number}"):
        await sender.send(route.source_id, 0, route.destination_id, count, event=True,
                          notify=True, tag=tag)
        ended = await sender.wait_event()
        if ended.kind is EventKind.COMPLETION and ended.status is not Status.OK:
            raise TransferError(f"message {number} of {count} bytes from partition {route.sender} "
                                f"to {route.receiver} ended {ended.status.name}")
        placed = await receiver.wait_event()
    if sender is receiver and ended.kind is EventKind.NOTIFICATION:
        ended, placed = placed, ended       # In its one queue they may come in either order.
    for event, kind, peer in ((ended, EventKind.COMPLETION, route.receiver),
                              (placed, EventKind.NOTIFICATION, route.sender)):
        told = (event.kind, event.tag, event.peer, event.dst_id, event.count)
        expected = (kind, tag, peer, route.destination_id, count)
        if told != expected:
            raise TransferError(f"the event of message {number} must tell (kind, tag, peer, "
                                f"entry, count) = {expected}, not {told}")
    return placed


def _read_placed(board: Board, entry: TableEntry, placed: Event,
                 progress: Callable[[int], object]) -> bytes:
    """A message from where it was placed; in a ring it may go on at the start."""
    first = min(placed.count, entry.length - placed.offset)
    return (board.read_memory(entry.base + placed.offset, first, progress)
            + board.read_memory(entry.base, placed.count - first, progress))
