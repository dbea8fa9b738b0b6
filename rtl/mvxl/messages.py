# SPDX-License-Identifier: Apache-2.0
"""What travels between the units, in the order in which a message travels.

`Command → Request → Verdict`, then `InFlight`, beside it `Span → BurstRequest → WriteEnd`, and at
the end `Release` and `Completion`. `TableChange` takes the place of a `Request`.
Each boundary has a class of its own, because structures of equal width would connect silently.
Addresses, offsets and counts are in bytes. A refusal is data: its `Status` rides forward and
comes out, in order, as the completion.
"""

from __future__ import annotations

from amaranth.lib import data, enum

from .config import LENGTH_BITS, OFFSET_BITS, AdapterConfig

__all__ = ["ID_BITS", "TAG_BITS", "BurstRequest", "ChangeKind", "Command", "Completion", "Entry",
           "EventKind", "InFlight", "Op", "Release", "Request", "Span", "Status", "TableChange",
           "Verdict", "WriteEnd"]

#: Bits of a command's tag, which its events repeat.
TAG_BITS = 8

#: Bits of a network ID in a register; all are compared, whatever the size of the table.
ID_BITS = 16


class Status(enum.Enum, shape=5):
    """How a command ended. The numbers are those of EVENT_INFO.status."""

    OK = 0
    BAD_OP = 1          #: COMMAND.op names no operation.
    NOT_PERMITTED = 2   #: The manager has not enabled the partition.
    BAD_COUNT = 3       #: The count is 0 or above the partition's MAX_COUNT.
    SRC_FAULT = 4       #: The source entry is not valid, not the caller's, or not to be sent from.
    DST_FAULT = 5       #: The destination is not valid, or does not receive from the caller.
    SRC_BOUNDS = 6      #: Source offset + count is beyond the source entry's length.
    DST_FULL = 7        #: Cursor + count is beyond the destination entry's length.
    LOCKED = 8          #: A driver holds the destination's lock.
    RECEIVER_BUSY = 9   #: The receiver has no room for the notification.
    CANCELLED = 10      #: CANCEL ended the wait.
    ABORTED = 11        #: An earlier command of the partition met a bus error.
    READ_ERROR = 12     #: The bus reported an error for a read.
    WRITE_ERROR = 13    #: The bus reported an error for a write.


class Op(enum.Enum, shape=4):
    """COMMAND.op."""

    SEND = 1


class EventKind(enum.Enum, shape=2):
    """EVENT_INFO.kind."""

    NONE = 0
    COMPLETION = 1      #: A command of this partition ended.
    NOTIFICATION = 2    #: Another partition's message arrived.


class Entry(data.StructLayout):
    """A row of the translation table.

    `base` and `length` are counted in units of 64 bytes. Bit q of `senders` lists partition q.
    """

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__({
            "valid": 1,
            "owner": config.partition_bits,
            "base": config.base_bits,
            "length": LENGTH_BITS,
            "may_send": 1,
            "may_receive": 1,
            "senders": config.partitions,
        })


class Command(data.StructLayout):
    """What a COMMAND write queues: the parameters as they were then."""

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__({
            "op": 4,
            "wait": 1, "fence": 1, "event": 1, "notify": 1,
            "tag": TAG_BITS,
            "src_id": ID_BITS, "src_offset": OFFSET_BITS,
            "dst_id": ID_BITS,
            "count": OFFSET_BITS,
        })


class Request(data.StructLayout):
    """The head of one partition's queue, on its way to a decision."""

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__({"partition": config.partition_bits, "command": Command(config)})


class Verdict(data.StructLayout):
    """What was decided of a request.

    `accepted`: it left the queue. Otherwise it returns to the head of its queue: `waits` for what
    `status` names, as its command asked, or is `blocked` until its destination is free, or, with
    neither, runs once nothing of its partition is in flight (a fence).
    """

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__({
            "partition": config.partition_bits,
            "accepted": 1,
            "waits": 1,
            "blocked": 1,
            "status": Status,
        })


class ChangeKind(enum.Enum, shape=2):
    """What a `TableChange` does."""

    INVALIDATE = 0
    WRITE = 1
    REWIND = 2


class TableChange(data.StructLayout):
    """A change of the table or of a cursor, which takes a decision slot of its own.

    INVALIDATE makes row `id` invalid; WRITE replaces it by `entry` and sets its cursor to 0;
    REWIND sets the cursor of `partition`'s own entry to 0.
    """

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__({
            "kind": ChangeKind,
            "id": ID_BITS,
            "partition": config.partition_bits,
            "entry": Entry(config),
        })


class InFlight(data.StructLayout):
    """An accepted command, in the order of acceptance, for its completion.

    `status` is OK for a message that moves. `offset` is the destination offset (bytes) at which
    it was placed, `receiver` the destination's owner.
    """

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__({
            "partition": config.partition_bits,
            "tag": TAG_BITS, "event": 1, "notify": 1,
            "status": Status,
            "dst_id": ID_BITS,
            "receiver": config.partition_bits,
            "offset": OFFSET_BITS,
            "count": OFFSET_BITS,
        })


class Span(data.StructLayout):
    """A range of bytes on the bus, prepared for splitting; a granted message is two of them.

    `last` is the offset of the range's last byte from the start of the aligned block
    (`config.block_bytes`) in which the range starts: (address mod block_bytes) + count − 1.
    `single`: that is in the same block. `other_lane` is the byte lane of the first byte at the
    message's other end.
    """

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__({
            "partition": config.partition_bits,
            "address": config.address_bits,
            "last": OFFSET_BITS + 1,
            "single": 1,
            "other_lane": config.size_log2,
        })


class BurstRequest(data.StructLayout):
    """One burst of a span, inside one aligned block.

    `address` is aligned to the beat; `len` is AxLEN. `first_lane` (of the span's first beat) and
    `last_lane` (of its last one) are byte lanes; `first` and `last` mark the span's first and
    last burst; `other_lane` is the span's. `void`: the span was abandoned; nothing is to be
    issued, and it is the last.
    """

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__({
            "partition": config.partition_bits,
            "address": config.address_bits,
            "len": 8,
            "first_lane": config.size_log2,
            "last_lane": config.size_log2,
            "other_lane": config.size_log2,
            "first": 1,
            "last": 1,
            "void": 1,
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
    """A moved message is complete: what the lock unit is told of its destination.

    `advance`: the cursor moves to `cursor`; otherwise it stays.
    """

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__({
            "dst_id": config.id_bits,
            "advance": 1,
            "cursor": OFFSET_BITS,
        })


class Completion(data.StructLayout):
    """A command has ended: what its sender and its receiver are told.

    `moved`: it held its destination's lock, and so had room for a notification if it asked.
    """

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__({
            "partition": config.partition_bits,
            "tag": TAG_BITS, "event": 1, "notify": 1, "moved": 1,
            "status": Status,
            "dst_id": ID_BITS,
            "receiver": config.partition_bits,
            "offset": OFFSET_BITS,
            "count": OFFSET_BITS,
        })
