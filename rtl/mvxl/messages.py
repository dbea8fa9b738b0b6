# SPDX-License-Identifier: Apache-2.0
"""What travels between the units, in the order in which a message travels.

`Command → Request → Verdict`, then `Proposal → Acceptance → InFlight`, beside it
`Span → BurstRequest → WriteEnd`, and at the end `Release` and `Completion`. An `Order` of the
control takes the place of a `Request`. Each boundary has a class of its own, because structures of
equal width would connect silently. Addresses, offsets and counts are in bytes. A refusal is data:
its `Status` rides forward and comes out, in order, as the completion.
"""

from __future__ import annotations

from amaranth.lib import data, enum

from .config import LENGTH_BITS, OFFSET_BITS, WAIT_BITS, AdapterConfig

__all__ = ["ID_BITS", "TAG_BITS", "TOKEN_BITS", "Acceptance", "BurstRequest", "Command",
           "Completion", "Entry", "EventKind", "Grant", "GrantKind", "InFlight", "Kind", "Op",
           "Order", "OrderKind", "Proposal", "Release", "Request", "Span", "Status", "Verdict",
           "WriteEnd"]

#: Bits of a command's tag, which its events repeat.
TAG_BITS = 8

#: Bits of a network ID in a register; all are compared, whatever the size of the table.
ID_BITS = 16

#: Bits of the token of a grant.
TOKEN_BITS = 32


class Status(enum.Enum, shape=5):
    """How a command ended. The numbers are those of EVENT_INFO.status."""

    OK = 0
    BAD_OP = 1          #: COMMAND.op names no operation.
    NOT_PERMITTED = 2   #: The manager has not enabled the partition, or allows no such grant.
    BAD_COUNT = 3       #: The count is 0 or above the partition's MAX_COUNT.
    SRC_FAULT = 4       #: The source entry is not valid, not the caller's, or not to be sent from.
    DST_FAULT = 5       #: The destination is not valid, or does not receive from the caller.
    SRC_BOUNDS = 6      #: Source offset + count is beyond the source entry's length.
    DST_FULL = 7        #: The destination has not so much room behind its cursor.
    LOCKED = 8          #: A driver holds the destination's lock.
    RECEIVER_BUSY = 9   #: The receiver has no room for the notification.
    CANCELLED = 10      #: CANCEL ended the wait.
    ABORTED = 11        #: An earlier command of the partition met a bus error.
    READ_ERROR = 12     #: The bus reported an error for a read.
    WRITE_ERROR = 13    #: The bus reported an error for a write.
    DST_BOUNDS = 14     #: Destination offset + count is beyond the entry's length, or the grant's.
    BUSY = 15           #: There is a grant already, or an MVXL under it is in flight.
    STALE = 16          #: The token is not that of a live grant of the partition.
    TIMEOUT = 17        #: The memory port is down.


class Op(enum.Enum, shape=4):
    """What a queued command does. COMMAND.op names the first two."""

    SEND = 1
    MVCL = 2
    GRANT = 3           #: GRANT_COMMAND.
    MVXL = 4            #: MVXL_COMMAND.


class GrantKind(enum.Enum, shape=1):
    """GRANT_COMMAND.kind."""

    ENGINE = 0          #: The driver moves with MVXL; no physical address is told.
    CPU = 1             #: The driver's processor may move; physical addresses are told.


class EventKind(enum.Enum, shape=2):
    """EVENT_INFO.kind."""

    NONE = 0
    COMPLETION = 1      #: A command of this partition ended.
    NOTIFICATION = 2    #: Another partition's message arrived.


class Entry(data.StructLayout):
    """A row of the translation table.

    `base` and `length` are counted in units of 64 bytes. Bit q of `senders` lists partition q.
    `ring`: messages go round; otherwise they are appended until the entry is full.
    """

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__({
            "valid": 1,
            "owner": config.partition_bits,
            "base": config.base_bits,
            "length": LENGTH_BITS,
            "may_send": 1,
            "may_receive": 1,
            "ring": 1,
            "senders": config.partitions,
        })


class Command(data.StructLayout):
    """What a COMMAND, GRANT_COMMAND or MVXL_COMMAND write queues: the parameters as they were.

    GRANT uses bit 0 of `dst_offset` as its `GrantKind`. MVXL's offsets count from the start of the
    grant's source and destination, and its token is `dst_id` below `src_id`.
    """

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__({
            "op": 4,
            "wait": 1, "fence": 1, "event": 1, "notify": 1,
            "tag": TAG_BITS,
            "src_id": ID_BITS, "src_offset": OFFSET_BITS,
            "dst_id": ID_BITS, "dst_offset": OFFSET_BITS,
            "count": OFFSET_BITS,
        })


class Request(data.StructLayout):
    """The head of one partition's queue, on its way to a decision."""

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__({"partition": config.partition_bits, "command": Command(config)})


class Verdict(data.StructLayout):
    """What was decided of a request.

    `accepted`: it left the queue; `dropped`: without a trace, because its partition is in reset.
    Otherwise it returns to the head of its queue: `waits` for what `status` names, as its command
    asked, or is `blocked` until its destination is free (both, if a driver holds it), or, with
    neither, runs once nothing of its partition is in flight (a fence).
    """

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__({
            "partition": config.partition_bits,
            "accepted": 1,
            "dropped": 1,
            "waits": 1,
            "blocked": 1,
            "status": Status,
        })


class OrderKind(enum.Enum, shape=3):
    """What an `Order` does."""

    INVALIDATE = 0      #: Row `id` becomes invalid, and grants on it end.
    WRITE = 1           #: Row `id` is replaced by the staged entry; cursor and head become 0.
    REWIND = 2          #: The cursor of `partition`'s own entry `id` becomes 0.
    CONSUME = 3         #: The head of `partition`'s own entry `id` advances by `count` bytes.
    RELEASE = 4         #: `partition` gives its grant, named by `token`, back: `count` bytes moved.
    END = 5             #: `partition`'s grant ends, whatever it is; nothing has moved.
    MOVE = 6            #: The manager's MVXL.


class Order(data.StructLayout):
    """What takes a decision slot of its own, beside requests.

    The entry of WRITE and the addresses of MOVE stay where they are, with the control.
    """

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__({
            "kind": OrderKind,
            "id": ID_BITS,
            "partition": config.partition_bits,
            "token": TOKEN_BITS,
            "count": OFFSET_BITS,
        })


class Grant(data.StructLayout):
    """A destination that is held for a driver, and what it may move there.

    `src_address` is the bus address of the source (bytes), `position` the byte position of the
    destination in its entry `dst_id`, `receiver` that entry's owner. `notify`: a notification's
    room is reserved. `src_id` is kept for revokes.
    """

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__({
            "token": TOKEN_BITS,
            "kind": GrantKind,
            "tag": TAG_BITS, "notify": 1,
            "src_id": config.id_bits,
            "dst_id": config.id_bits,
            "receiver": config.partition_bits,
            "src_address": config.address_bits,
            "position": OFFSET_BITS,
            "count": OFFSET_BITS,
        })


class Kind(enum.Enum, shape=3):
    """What an `InFlight` is. The second column: it moves bytes; it holds a lock until it ends."""

    REFUSAL = 0         #: no, no; a command that was refused
    SEND = 1            #: yes, yes
    MVCL = 2            #: yes, yes; no cursor advances
    GRANT = 3           #: no, no; its lock stays
    MVXL = 4            #: yes, no; under a grant
    RELEASE = 5         #: no, yes; not a command: the end of a grant
    RAW = 6             #: yes, no; not a command: the manager's MVXL


class Proposal(data.StructLayout):
    """What a decision may accept: a command, or the end of a grant, in the order of decisions.

    `receiver` is the destination's owner, if `known`: the destination is a valid entry. `offset` is
    the byte position in the destination at which it was placed (for MVXL: the offset in the grant).
    `waited`: cycles for which the command waited.
    """

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__({
            "partition": config.partition_bits,
            "tag": TAG_BITS, "event": 1, "notify": 1,
            "dst_id": ID_BITS,
            "receiver": config.partition_bits, "known": 1,
            "offset": OFFSET_BITS,
            "count": OFFSET_BITS,
            "waited": WAIT_BITS,
        })


class Acceptance(data.StructLayout):
    """What became of the last `Proposal`.

    `status` is OK unless it is a REFUSAL. `next_position`: the byte position behind it.
    """

    def __init__(self) -> None:
        super().__init__({"kind": Kind, "status": Status, "next_position": OFFSET_BITS})


class InFlight(data.StructLayout):
    """A `Proposal` that was accepted, with its `Acceptance`; in the order of acceptance."""

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__({**Proposal(config).members, **Acceptance().members})


class Span(data.StructLayout):
    """A range of bytes on the bus, prepared for splitting; a granted message is two or three.

    `agent` is on whose behalf it moves: a partition, or the manager (`config.manager`). `last` is
    the offset of the range's last byte from the start of the aligned block (`config.block_bytes`)
    in which the range starts: (address mod block_bytes) + count − 1. `single`: that is in the same
    block. `other_lane` is the byte lane of the first byte at the message's other end, counted so
    that `address − other_lane` is by how many lanes bytes are rotated. `more`: another span of the
    message follows, which goes on at the start of a ring.
    """

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__({
            "agent": config.user_bits,
            "address": config.address_bits,
            "last": OFFSET_BITS + 1,
            "single": 1,
            "other_lane": config.size_log2,
            "more": 1,
        })


class BurstRequest(data.StructLayout):
    """One burst of a span, inside one aligned block.

    `address` is aligned to the beat; `len` is AxLEN. `first_lane` (of the span's first beat) and
    `last_lane` (of its last one) are byte lanes; `first` and `last` mark the span's first and
    last burst; `other_lane` and `more` are the span's. `void`: nothing is to be issued, because
    the span was abandoned. `single`: it has one beat. `below`: `first_lane` is below `other_lane`.
    """

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__({
            "agent": config.user_bits,
            "address": config.address_bits,
            "len": 8,
            "first_lane": config.size_log2,
            "last_lane": config.size_log2,
            "other_lane": config.size_log2,
            "first": 1,
            "last": 1,
            "more": 1,
            "void": 1,
            "single": 1,
            "below": 1,
        })


class WriteEnd(data.StructLayout):
    """The write side is through with a burst, or with a message.

    `responds`: a write response will come for it. `last`: the message has no further burst.
    `read_error`: data of the message came with an error response. `address`: of the burst.
    """

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__({
            "responds": 1,
            "last": 1,
            "read_error": 1,
            "address": config.address_bits,
        })


class Release(data.StructLayout):
    """A destination's message, or grant, is through: what the lock unit is told.

    `advance`: the cursor moves by `count` bytes, its byte position to `position`; otherwise both
    stay.
    """

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__({
            "dst_id": config.id_bits,
            "advance": 1,
            "count": OFFSET_BITS,
            "position": OFFSET_BITS,
        })


class Completion(data.StructLayout):
    """Something has ended: what its sender, its receiver and the counters are told.

    `command`: it is a command of the partition, counted in COMPLETED; `event`: it gives an event.
    `reserved`: room for a notification was taken; `arrived`: it is used, otherwise given back.
    `sent`: it counts as a message of `count` bytes. `dropped`: its partition is in reset; it is
    not told of, and not counted.
    """

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__({
            "partition": config.partition_bits,
            "tag": TAG_BITS, "event": 1,
            "command": 1, "reserved": 1, "arrived": 1, "sent": 1, "dropped": 1,
            "status": Status,
            "dst_id": ID_BITS,
            "receiver": config.partition_bits, "known": 1,
            "offset": OFFSET_BITS,
            "count": OFFSET_BITS,
            "waited": WAIT_BITS,
        })
