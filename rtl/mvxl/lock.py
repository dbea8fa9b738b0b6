# SPDX-License-Identifier: Apache-2.0
"""The lock unit: who holds a destination, and where its next message is placed.

Two memories, each with one writer, hold a free-running message count and a cursor per entry:
`placed` is written when a message is accepted, `retired` when one completes. An entry is held
while the counts differ. A failed message advances the count and not the cursor, so that nothing
ever has to be undone.
"""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .config import OFFSET_BITS, AdapterConfig
from .memory import LUT_ROWS, ScrubbedMemory
from .messages import Release

__all__ = ["LockUnit", "TURN_BITS"]

#: A holding takes at most 2^TURN_BITS − 1 more messages once another partition waits.
TURN_BITS = 5


class Placed(data.StructLayout):
    """What the front end wrote last. `turn`: messages since another partition began to wait."""

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__({
            "count": config.message_count_bits,
            "holder": config.partition_bits,
            "turn": TURN_BITS,
            "cursor": OFFSET_BITS,
        })


class Retired(data.StructLayout):
    """What has completed. `cursor` is the one that the owner sees."""

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__({
            "count": config.message_count_bits,
            "cursor": OFFSET_BITS,
        })


class LockUnit(wiring.Component):
    """Locks and cursors of all entries.

    Parameters
    ----------
    config : AdapterConfig

    Members
    -------
    ready : Out(1)
        After reset every entry is free, its cursor 0; this rises when that is so.
    id : In(config.id_bits)
        Entry to look up.
    capture : In(1)
        `lookup_cycles` after its ID; from the next cycle on, and until the next capture:
    held : Out(1)
        Messages to it are in flight.
    holder : Out(config.partition_bits)
        Their partition, if held.
    cursor : Out(32)
        Where a message would be placed: behind those in flight if held.
    turn : Out(5)
        Messages placed under the holding since others wait.
    place : In(1)
        A message of `partition` is placed in the captured entry, whose ID is still `id`, the next
        one at `next_cursor`; `next_turn` is remembered. The next cycle's lookup sees it.
    clear : In(1)
        Cursor of the captured entry, whose ID is still `id`, to 0; it must not be held. The next
        cycle's lookup sees it.
    releases : In(stream.Signature(Release))
        A placed message is complete. Taken once every 2 cycles (3 with block RAM).
    freed : Out(1)
        The last message of entry `freed_id` has been released: it is free, unless one was placed
        in it at the same time.
    freed_id : Out(config.id_bits)
    query_id : In(config.id_bits)
    query_cursor : Out(32)
        The entry's cursor as its owner sees it, registered, `lookup_cycles` later.
    """

    releases: stream.Interface

    def __init__(self, config: AdapterConfig) -> None:
        self.config = config
        super().__init__({
            "ready": Out(1),
            "id": In(config.id_bits),
            "capture": In(1),
            "held": Out(1),
            "holder": Out(config.partition_bits),
            "cursor": Out(OFFSET_BITS),
            "turn": Out(TURN_BITS),
            "place": In(1),
            "partition": In(config.partition_bits),
            "next_cursor": In(OFFSET_BITS),
            "next_turn": In(TURN_BITS),
            "clear": In(1),
            "releases": In(stream.Signature(Release(config))),
            "freed": Out(1),
            "freed_id": Out(config.id_bits),
            "query_id": In(config.id_bits),
            "query_cursor": Out(OFFSET_BITS),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        block = config.entries > LUT_ROWS
        count_bits = config.message_count_bits
        m.submodules.placed = placed_rows = ScrubbedMemory(
            Placed(config), depth=config.entries, block=block)
        # The counts a second time, for releases.
        m.submodules.placed_counts = placed_counts = ScrubbedMemory(
            count_bits, depth=config.entries, block=block)
        m.submodules.retired = retired_rows = ScrubbedMemory(
            Retired(config), depth=config.entries, reads=3, block=block)
        m.d.comb += self.ready.eq(placed_rows.ready & placed_counts.ready & retired_rows.ready)

        # Lookup.
        placed = Signal(Placed(config))
        retired = Signal(Retired(config))
        count = Signal(count_bits)      # placed in the captured entry
        held = Signal()
        m.d.comb += [
            placed_rows.read_row[0].eq(self.id),
            retired_rows.read_row[0].eq(self.id),
            retired_rows.read_row[1].eq(self.query_id),
            held.eq(placed.count != retired.count),
        ]
        m.d.sync += [
            placed.eq(placed_rows.read_data[0]),
            retired.eq(retired_rows.read_data[0]),
            self.query_cursor.eq(retired_rows.read_data[1].cursor),
        ]
        with m.If(self.capture):
            m.d.sync += [
                count.eq(placed.count),
                self.held.eq(held),
                self.holder.eq(placed.holder),
                self.cursor.eq(Mux(held, placed.cursor, retired.cursor)),
                self.turn.eq(placed.turn),
            ]

        # Placing.
        written = Signal(Placed(config))
        m.d.comb += [
            written.count.eq(count + 1),
            written.holder.eq(self.partition),
            written.turn.eq(self.next_turn),
            written.cursor.eq(self.next_cursor),
        ]
        for memory, row in ((placed_rows, written), (placed_counts, written.count)):
            m.d.comb += [
                memory.write_en.eq(self.place),
                memory.write_row.eq(self.id),
                memory.write_data.eq(row),
            ]

        # Releasing and clearing share the writer of `retired`; clearing cannot wait, so it goes
        # first. They never meet on one entry: only an entry that is not held is cleared.
        released = Signal(Release(config))
        released_row = Signal(Retired(config))
        last = Signal()
        m.d.comb += [
            retired_rows.read_row[2].eq(self.releases.payload.dst_id),
            placed_counts.read_row[0].eq(self.releases.payload.dst_id),
            released_row.eq(retired_rows.read_data[2]),
        ]
        with m.If(self.clear):
            m.d.comb += [
                retired_rows.write_en.eq(1),
                retired_rows.write_row.eq(self.id),
                retired_rows.write_data.count.eq(count),
                retired_rows.write_data.cursor.eq(0),
            ]
        next_row = Signal(Retired(config))
        with m.FSM():
            with m.State("IDLE"):
                if block:
                    with m.If(self.releases.valid):
                        m.next = "READ"
                else:
                    m.d.comb += self.releases.ready.eq(1)
                    with m.If(self.releases.valid):
                        m.next = "WRITE"
            if block:
                with m.State("READ"):
                    m.d.comb += self.releases.ready.eq(1)
                    m.next = "WRITE"
            with m.State("WRITE"):
                with m.If(~self.clear):
                    m.d.comb += [
                        retired_rows.write_en.eq(1),
                        retired_rows.write_row.eq(released.dst_id),
                        retired_rows.write_data.eq(next_row),
                        self.freed.eq(last),
                    ]
                    m.next = "IDLE"
        next_count = Signal(count_bits)
        m.d.comb += next_count.eq(released_row.count + 1)
        with m.If(self.releases.valid & self.releases.ready):
            m.d.sync += [
                released.eq(self.releases.payload),
                next_row.count.eq(next_count),
                next_row.cursor.eq(Mux(self.releases.payload.advance,
                                       self.releases.payload.cursor, released_row.cursor)),
                last.eq(placed_counts.read_data[0] == next_count),
            ]
        m.d.comb += self.freed_id.eq(released.dst_id)
        return m
