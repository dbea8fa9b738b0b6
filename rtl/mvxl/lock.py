# SPDX-License-Identifier: Apache-2.0
"""The lock unit: who holds a destination, where its next message is placed, what was consumed.

`placed` and `retired` hold a free-running message count and a cursor per entry; each has one
writer: `placed` is written when a message or a grant is accepted, `retired` when it ends. An entry
is held while the counts differ. A failed message advances the count and not the cursor, so that
nothing ever has to be undone.

Cursors run free, modulo 2³²; beside each is its byte position in the entry, which goes round in a
ring and is the cursor itself otherwise. The head of a ring is what its owner has consumed.
"""

from __future__ import annotations

from amaranth.hdl import Module, Mux, ShapeLike, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .config import OFFSET_BITS, AdapterConfig
from .memory import LUT_ROWS, RowMemory
from .messages import Release

__all__ = ["LockUnit", "TURN_BITS"]

#: A holding takes at most 2^TURN_BITS − 1 more messages once another partition waits.
TURN_BITS = 5


class Placed(data.StructLayout):
    """What the front end wrote last. `turn`: messages since another partition began to wait.

    `by_grant`: what holds the entry is a grant, not messages. `moved`: the holding has placed a
    message, so that it has a cursor of its own.
    """

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__({
            "count": config.message_count_bits,
            "holder": config.partition_bits,
            "by_grant": 1,
            "moved": 1,
            "turn": TURN_BITS,
        })


#: A cursor, and its byte position in the entry.
_CURSOR = data.StructLayout({"cursor": OFFSET_BITS, "position": OFFSET_BITS})


class LockUnit(wiring.Component):
    """Locks, cursors and heads of all entries.

    After reset they are anything: an entry is to be cleared before the first message to it, and
    what a lookup tells of it before that means nothing.

    Parameters
    ----------
    config : AdapterConfig

    Members
    -------
    id : In(config.id_bits)
        Entry to look up.
    capture : In(1)
        In the cycle after its ID, which is still there; from the next cycle on, and until the next
        capture:
    published : In(1)
        With `capture`: tell the published cursor even if the entry is held.
    held : Out(1)
        Messages to it are in flight, or a grant holds it.
    holder, by_grant : Out(config.partition_bits), Out(1)
        Their partition, if held, and which of the two.
    cursor : Out(32)
        Where a message would be placed: behind those in flight if held.
    position, filled : Out(32)
        Its byte position, and cursor − head, the bytes that are taken: already in the cycle of
        `capture`, and only then.
    turn : Out(5)
        Messages placed under the holding since others wait.
    place : In(1)
        A message of `partition` is placed in the captured entry; `place_grant` and `next_turn` are
        remembered. The next cycle's lookup sees it.
    place_cursor : In(1)
        With `place`: the next one goes to `next_cursor` and `next_position`; otherwise to where
        this one went.
    clear : In(1)
        Cursor and head of the captured entry to 0; it must not be held. The next cycle's lookup
        sees it.
    consume : In(1)
        The head of the captured entry, whose ID was still `id` in the cycle before, advances by
        `consumed` (bytes).
    releases : In(stream.Signature(Release))
        A placed message is complete. Not in neighbouring cycles; `dst_id` is there in the cycle
        before `valid`, and if it advances, it and `count` in the two cycles before, in which no
        other one is valid.
    freed : Out(1)
        The last message of entry `freed_id` was released in the cycle before: it is free, unless
        one was placed in it at about the same time.
    freed_id : Out(config.id_bits)
    query_id : In(config.id_bits)
    query_cursor, query_head : Out(32)
        The entry's cursor and head as its owner sees them, a cycle later.
    """

    releases: stream.Interface

    def __init__(self, config: AdapterConfig) -> None:
        self.config = config
        super().__init__({
            "id": In(config.id_bits),
            "capture": In(1),
            "published": In(1),
            "held": Out(1),
            "holder": Out(config.partition_bits),
            "by_grant": Out(1),
            "cursor": Out(OFFSET_BITS),
            "position": Out(OFFSET_BITS),
            "filled": Out(OFFSET_BITS),
            "turn": Out(TURN_BITS),
            "place": In(1),
            "place_cursor": In(1),
            "place_grant": In(1),
            "partition": In(config.partition_bits),
            "next_cursor": In(OFFSET_BITS),
            "next_position": In(OFFSET_BITS),
            "next_turn": In(TURN_BITS),
            "clear": In(1),
            "consume": In(1),
            "consumed": In(OFFSET_BITS),
            "releases": In(stream.Signature(Release(config))),
            "freed": Out(1),
            "freed_id": Out(config.id_bits),
            "query_id": In(config.id_bits),
            "query_cursor": Out(OFFSET_BITS),
            "query_head": Out(OFFSET_BITS),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        count_bits = config.message_count_bits

        def memory(name: str, shape: ShapeLike, reads: int, registered: bool = True) -> RowMemory:
            m.submodules[name] = rows = RowMemory(
                shape, depth=config.entries, reads=reads, registered=registered)
            return rows

        # Every read takes a cycle. LUT RAM is so fast that counts are compared in front of the
        # flops and not behind them: much hangs on that.
        in_front = config.entries <= LUT_ROWS
        behind = m.d.sync if in_front else m.d.comb
        placed_rows = memory("placed", Placed(config), 1, registered=not in_front)
        placed_cursors = memory("placed_cursors", _CURSOR, 1)
        # The counts a second time, for releases.
        placed_counts = memory("placed_counts", count_bits, 1)
        retired_counts = memory("retired_counts", count_bits, 1, registered=not in_front)
        # One more than that, for releases.
        next_counts = memory("next_counts", count_bits, 1)
        retired_cursors = memory("retired_cursors", OFFSET_BITS, 2)
        retiring_cursors = memory("retiring_cursors", OFFSET_BITS, 1)
        retired_positions = memory("retired_positions", OFFSET_BITS, 1)
        heads = memory("heads", OFFSET_BITS, 2)

        # Lookup.
        placed = Signal(Placed(config))
        placed_cursor = Signal(_CURSOR)
        retired_cursor = Signal(OFFSET_BITS)
        retired_position = Signal(OFFSET_BITS)
        head = Signal(OFFSET_BITS)
        count = Signal(count_bits)      # placed in the captured entry
        moved = Signal()                # in the captured entry
        captured_id = Signal(config.id_bits)
        held = Signal()
        held_by_moved = Signal()
        is_placed = Signal()    # the cursor is that of the last message placed
        for part in (placed_rows, placed_cursors, retired_counts, retired_cursors,
                     retired_positions, heads):
            m.d.comb += part.read_row[0].eq(self.id)
        m.d.comb += [
            retired_cursors.read_row[1].eq(self.query_id),
            heads.read_row[1].eq(self.query_id),
            placed_cursor.eq(placed_cursors.read_data[0]),
            retired_cursor.eq(retired_cursors.read_data[0]),
            retired_position.eq(retired_positions.read_data[0]),
            head.eq(heads.read_data[0]),
            self.query_cursor.eq(retired_cursors.read_data[1]),
            self.query_head.eq(heads.read_data[1]),
            is_placed.eq(held_by_moved & ~self.published),
            # Two differences, because it takes its time which one counts.
            self.position.eq(Mux(held_by_moved, placed_cursor.position, retired_position)),
            self.filled.eq(Mux(is_placed, placed_cursor.cursor - head, retired_cursor - head)),
        ]
        found = Signal(Placed(config))
        found_held = Signal()
        m.d.comb += [
            found.eq(placed_rows.read_data[0]),
            found_held.eq(found.count != retired_counts.read_data[0]),
        ]
        behind += [
            placed.eq(found), held.eq(found_held), held_by_moved.eq(found_held & found.moved)]
        with m.If(self.capture):
            m.d.sync += [
                count.eq(placed.count),
                self.held.eq(held),
                self.holder.eq(placed.holder),
                self.by_grant.eq(placed.by_grant),
                self.cursor.eq(Mux(is_placed, placed_cursor.cursor, retired_cursor)),
                moved.eq(placed.moved),
                captured_id.eq(self.id),
                self.turn.eq(placed.turn),
            ]

        # Placing.
        written = Signal(Placed(config))
        m.d.comb += [
            written.count.eq(count + 1),
            written.holder.eq(self.partition),
            written.by_grant.eq(self.place_grant),
            written.moved.eq(self.place_cursor | (self.held & moved)),
            written.turn.eq(self.next_turn),
            placed_cursors.write_en.eq(self.place_cursor),
            placed_cursors.write_row.eq(captured_id),
            placed_cursors.write_data.cursor.eq(self.next_cursor),
            placed_cursors.write_data.position.eq(self.next_position),
        ]
        for part, row in ((placed_rows, written), (placed_counts, written.count)):
            m.d.comb += [
                part.write_en.eq(self.place),
                part.write_row.eq(captured_id),
                part.write_data.eq(row),
            ]

        # Consuming.
        m.d.comb += [
            heads.write_en.eq(self.consume | self.clear),
            heads.write_row.eq(captured_id),
            heads.write_data.eq(Mux(self.clear, 0, head + self.consumed)),
        ]

        # Releasing and clearing share the writer of `retired`; clearing cannot wait, so it goes
        # first. They never meet on one entry: only an entry that is not held is cleared.
        release = self.releases.payload
        next_count = Signal(count_bits)
        next_cursor = Signal(OFFSET_BITS)
        writing = Signal()
        m.d.comb += [
            next_count.eq(next_counts.read_data[0]),
            self.releases.ready.eq(~self.clear),
            writing.eq(self.releases.valid & self.releases.ready),
        ]
        for part in (next_counts, retiring_cursors, placed_counts):
            m.d.comb += part.read_row[0].eq(release.dst_id)
        m.d.sync += [
            next_cursor.eq(retiring_cursors.read_data[0] + release.count),
            self.freed.eq(writing & (next_count == placed_counts.read_data[0])),
            self.freed_id.eq(release.dst_id),
        ]
        for part, row, cleared in (
                (retired_counts, next_count, count),
                (next_counts, next_count + 1, count + 1),
                (retired_cursors, next_cursor, 0),
                (retiring_cursors, next_cursor, 0),
                (retired_positions, release.position, 0)):
            moves = 1 if part in (retired_counts, next_counts) else release.advance
            m.d.comb += [
                part.write_en.eq(self.clear | (writing & moves)),
                part.write_row.eq(Mux(self.clear, captured_id, release.dst_id)),
                part.write_data.eq(Mux(self.clear, cleared, row)),
            ]
        return m
