# SPDX-License-Identifier: Apache-2.0
"""What the partitions are told: COMPLETED, and the event queues with their reserved slots."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .config import OFFSET_BITS, AdapterConfig
from .memory import ScrubbedMemory
from .messages import ID_BITS, TAG_BITS, Completion, EventKind, Status

__all__ = ["COMPLETED_BITS", "Event", "EventUnit"]

#: Bits of COMPLETED.
COMPLETED_BITS = 32


class Event(data.StructLayout):
    """An event: the four registers EVENT_INFO, EVENT_ID, EVENT_OFFSET, EVENT_COUNT."""

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__({
            "kind": EventKind,
            "status": Status,
            "tag": TAG_BITS,
            "peer": config.partition_bits,
            "id": ID_BITS,
            "offset": OFFSET_BITS,
            "count": OFFSET_BITS,
        })


class EventUnit(wiring.Component):
    """Counts completions and queues events, one queue a partition.

    No event can be lost: a command starts only with a slot for its own completion, and a message
    that notifies only with one of the receiver's slots for this sender.

    Parameters
    ----------
    config : AdapterConfig

    Members
    -------
    ready : Out(1)
    completions : In(stream.Signature(Completion))
        COMPLETED counts in the cycle after one shows, its events follow; taken every 2 or 3
        cycles, and still there in the cycle after.
    oncoming : In(config.partition_bits)
        Partition of a completion, in the cycle before it shows. `completions` is not valid then.
    started : In(struct {en, partition})
        A command was accepted: it takes a slot of its partition.
    event_room : Out(config.partitions)
        Bit p: three more commands of partition p may start.
    quota_receiver, quota_sender : In(config.partition_bits)
    quota_room : Out(1)
        A notification of this sender at this receiver has room; combinational.
    reserve : In(1)
        The pair of the cycle before takes that room.
    room_freed : Out(1)
        Some pair has room again.
    pop : In(struct {en, partition})
        Drops the oldest event of a partition, if there is one. At most every second cycle.
    resetting : In(config.partitions)
        Bit p: events of partition p are dropped, whatever they tell.
    clear : In(struct {en, partition})
        COMPLETED and COMPLETED_COMPARE of a partition to 0; held until `cleared`. It writes
        neither, and has nothing to be counted.
    cleared : Out(1)
    compare : In(struct {en, partition, value})
        Writes COMPLETED_COMPARE. At most every second cycle; 0 before `ready`.
    waiting : Out(range(event_slots + 1)).array(config.partitions)
        Events in each queue.
    some_waiting : Out(config.partitions)
        Bit p: there are some in the queue of partition p.
    reached : Out(config.partitions)
        Bit p: COMPLETED has reached COMPLETED_COMPARE.
    partition : In(config.partition_bits)
        Whose state is read; two cycles later:
    event, event_there : Out(Event), Out(1)
        Its oldest event, and whether there is one.
    completed : Out(32)
        Its COMPLETED.
    """

    completions: stream.Interface

    def __init__(self, config: AdapterConfig) -> None:
        self.config = config
        bits = config.partition_bits
        super().__init__({
            "ready": Out(1),
            "completions": In(stream.Signature(Completion(config))),
            "oncoming": In(bits),
            "started": In(data.StructLayout({"en": 1, "partition": bits})),
            "event_room": Out(config.partitions),
            "quota_receiver": In(bits),
            "quota_sender": In(bits),
            "quota_room": Out(1),
            "reserve": In(1),
            "room_freed": Out(1),
            "pop": In(data.StructLayout({"en": 1, "partition": bits})),
            "compare": In(data.StructLayout(
                {"en": 1, "partition": bits, "value": COMPLETED_BITS})),
            "resetting": In(config.partitions),
            "clear": In(data.StructLayout({"en": 1, "partition": bits})),
            "cleared": Out(1),
            "waiting": Out(range(config.event_slots + 1)).array(config.partitions),
            "some_waiting": Out(config.partitions),
            "reached": Out(config.partitions, init=(1 << config.partitions) - 1),
            "partition": In(bits),
            "event": Out(Event(config)),
            "event_there": Out(1),
            "completed": Out(COMPLETED_BITS),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        everyone = range(config.partitions)
        slots = config.event_slots
        slot_bits = slots.bit_length() - 1
        own_slots = config.own_event_slots
        done = self.completions.payload

        # COMPLETED and its compare value: fetch a count, count, compare. A fetch for a write of the
        # compare value takes the place of that for a completion, which is counted a cycle later. If
        # the count changes while it is fetched for the compare, the completion's compare is enough.
        m.submodules.counts = counts = ScrubbedMemory(
            COMPLETED_BITS, depth=config.partitions, reads=2)
        m.submodules.compares = compares = ScrubbedMemory(
            COMPLETED_BITS, depth=config.partitions, zeroed=True)
        partition_before = Signal(config.partition_bits)
        partition_earlier = Signal(config.partition_bits)
        fetched = Signal(COMPLETED_BITS)
        fetched_compare = Signal()      # it was fetched for a write of the compare value
        fetched_for = Signal(config.partition_bits)     # then
        changed = Signal()              # it has changed since
        counting = Signal()
        new_count = Signal(COMPLETED_BITS)
        comparing = Signal()
        compared = Signal(config.partition_bits)
        compared_count = Signal(COMPLETED_BITS)
        distance = Signal(COMPLETED_BITS)
        m.d.comb += [
            counts.read_row[0].eq(Mux(self.compare.en, self.compare.partition, Mux(
                self.completions.valid, done.partition, self.oncoming))),
            counts.read_row[1].eq(partition_earlier),
            self.completed.eq(counts.read_data[1]),
            new_count.eq(fetched + ~fetched_compare),
            counts.write_en.eq(counting | self.cleared),
            counts.write_row.eq(Mux(self.cleared, self.clear.partition, done.partition)),
            counts.write_data.eq(Mux(self.cleared, 0, new_count)),
            compares.write_en.eq(self.compare.en | self.cleared),
            compares.write_row.eq(
                Mux(self.cleared, self.clear.partition, self.compare.partition)),
            compares.write_data.eq(Mux(self.cleared, 0, self.compare.value)),
            compares.read_row[0].eq(compared),
            distance.eq(compared_count - compares.read_data[0]),
        ]
        m.d.sync += [
            partition_before.eq(self.partition), partition_earlier.eq(partition_before),
            fetched.eq(counts.read_data[0]),
            fetched_compare.eq(self.compare.en),
            fetched_for.eq(self.compare.partition),
            changed.eq(counting & (done.partition == self.compare.partition)),
            comparing.eq(counting | (fetched_compare & ~changed)),
            compared.eq(Mux(fetched_compare, fetched_for, done.partition)),
            compared_count.eq(new_count),
        ]
        for p in everyone:
            with m.If(self.cleared & (self.clear.partition == p)):
                m.d.sync += self.reached[p].eq(1)
            with m.Elif(comparing & (compared == p)):
                m.d.sync += self.reached[p].eq(~distance[-1])

        # The queues: one memory, and what a pop has to know in a second one. An empty queue's
        # head is read while it is written, but then nothing is made of it.
        m.submodules.events = events = Memory(
            shape=Event(config), depth=config.partitions * slots, init=[],
            attrs={"ram_style": "block", "no_rw_check": 1})
        m.submodules.origins = origins = Memory(
            shape=data.StructLayout({"own": 1, "peer": config.partition_bits}),
            depth=config.partitions * slots, init=[],
            attrs={"ram_style": "block", "no_rw_check": 1})
        heads = Array(Signal(slot_bits, name=f"head_{p}") for p in everyone)
        tails = Array(Signal(slot_bits, name=f"tail_{p}") for p in everyone)
        pushing = Signal()      # an event is pushed a cycle later, to the sender if it is its own
        pushing_own = Signal()
        push = Signal()
        own = Signal()
        target = Signal(config.partition_bits)
        event = Signal(Event(config))
        write = events.write_port()
        write_origin = origins.write_port()
        m.d.comb += [
            target.eq(Mux(own, done.partition, done.receiver)),
            event.kind.eq(Mux(own, EventKind.COMPLETION, EventKind.NOTIFICATION)),
            event.status.eq(done.status),
            event.tag.eq(done.tag),
            event.id.eq(done.dst_id),
            event.count.eq(done.count),
            write.en.eq(push),
            write.addr.eq(Cat(tails[target], target)),
            write.data.eq(event),
            write_origin.en.eq(push),
            write_origin.addr.eq(write.addr),
            write_origin.data.own.eq(own),
            write_origin.data.peer.eq(done.partition),
        ]
        m.d.sync += [push.eq(pushing), own.eq(pushing_own)]
        # A sender learns whose entry it was, and where its bytes are, only if they are there.
        with m.If(~own):
            m.d.comb += [event.peer.eq(done.partition), event.offset.eq(done.offset)]
        with m.Elif(done.status == Status.OK):
            m.d.comb += [event.peer.eq(done.receiver), event.offset.eq(done.offset)]

        # The events of a partition in reset are popped like any, so that they give back what they
        # hold; the partitions are looked at in turn.
        goes = Signal(config.partitions)    # bit p: an event of partition p is popped
        popper = Signal(config.partition_bits)
        turn = Signal(config.partition_bits)
        read_origin = origins.read_port(domain="comb")
        origin = Signal(origins.shape)
        m.d.comb += [
            popper.eq(Mux(self.pop.en, self.pop.partition, turn)),
            *(goes[p].eq((popper == p) & (self.pop.en | self.resetting[p]) & self.some_waiting[p])
              for p in everyone),
        ]
        # A turn that a pop displaces is made up for.
        with m.If(~self.pop.en):
            m.d.sync += turn.eq(Mux(turn == config.partitions - 1, 0, turn + 1))
        with m.If(push):
            m.d.sync += tails[target].eq(tails[target] + 1)
        next_head = Signal(slot_bits)
        m.d.comb += next_head.eq(heads[popper] + 1)
        for p in everyone:
            comes = Signal(name=f"comes_{p}")
            m.d.comb += comes.eq(push & (target == p))
            with m.If(goes[p]):
                m.d.sync += heads[p].eq(next_head)
            with m.If(comes ^ goes[p]):
                m.d.sync += [
                    self.waiting[p].eq(self.waiting[p] + Mux(goes[p], -1, 1)),
                    self.some_waiting[p].eq(comes | (self.waiting[p] != 1)),
                ]

        # The oldest event, for reading.
        read = events.read_port(domain="comb")
        # Two rows of flops, which block RAM has inside: it is slow from clock to output.
        row = Signal(Event(config))
        row_there = Signal()
        m.d.comb += read.addr.eq(Cat(heads[self.partition], self.partition))
        m.d.sync += [
            row_there.eq(self.some_waiting.bit_select(self.partition, 1)),
            row.eq(read.data),
            self.event_there.eq(row_there),
            self.event.eq(row),
        ]

        # A popped event gives its slot back, three cycles later.
        popped = Signal(2)
        popped_row = Signal(slot_bits)
        popped_by = Signal(config.partition_bits)
        fetched_by = Signal(config.partition_bits)
        freeing = Signal()
        freeing_by = Signal(config.partition_bits)
        freeing_own = Signal()
        freeing_peer = Signal(config.partition_bits)
        m.d.sync += [
            popped.eq(Cat(goes.any(), popped[0])),
            popped_row.eq(heads[popper]),
            popped_by.eq(popper),
            origin.eq(read_origin.data),
            fetched_by.eq(popped_by),
            freeing.eq(popped[1]),
            freeing_by.eq(fetched_by),
            freeing_own.eq(origin.own),
            freeing_peer.eq(origin.peer),
        ]

        m.d.comb += read_origin.addr.eq(Cat(popped_row, popped_by))

        # Slots for own completions.
        ends_unused = Signal()
        unused = Signal()       # a command has ended without an event
        m.d.sync += unused.eq(ends_unused)
        for p in everyone:
            used = Signal(range(own_slots + 1), name=f"used_{p}")
            m.d.comb += self.event_room[p].eq(used <= own_slots - 3)
            m.d.sync += used.eq(
                used + (self.started.en & (self.started.partition == p))
                - (unused & (done.partition == p))
                - (freeing & freeing_own & (freeing_by == p)))

        # Quotas of notifications, per receiver and sender: what was reserved and what was given
        # back are counted apart, so that each memory has one writer.
        quota_bits = config.notification_slots.bit_length()
        pairs = 1 << (2 * config.partition_bits)
        m.submodules.reserved = reserved = ScrubbedMemory(quota_bits, depth=pairs)
        m.submodules.returned = returned = ScrubbedMemory(quota_bits, depth=pairs, reads=2)
        pair = Signal(range(pairs))
        pair_before = Signal(range(pairs))
        reserved_before = Signal(quota_bits)
        returning = Signal()    # a failed message gives its notification's room back
        giver = Signal(range(pairs))
        m.d.comb += [
            pair.eq(Cat(self.quota_sender, self.quota_receiver)),
            reserved.read_row[0].eq(pair),
            returned.read_row[0].eq(pair),
            self.quota_room.eq((reserved.read_data[0] - returned.read_data[0])[:quota_bits]
                               != config.notification_slots),
            reserved.write_en.eq(self.reserve),
            reserved.write_row.eq(pair_before),
            reserved.write_data.eq(reserved_before + 1),
            giver.eq(Mux(freeing, Cat(freeing_peer, freeing_by),
                         Cat(done.partition, done.receiver))),
            returned.read_row[1].eq(giver),
            returned.write_en.eq((freeing & ~freeing_own) | returning),
            returned.write_row.eq(giver),
            returned.write_data.eq(returned.read_data[1] + 1),
            self.room_freed.eq(returned.write_en),
        ]
        m.d.sync += [pair_before.eq(pair), reserved_before.eq(reserved.read_data[0])]

        m.d.comb += self.ready.eq(counts.ready & compares.ready & reserved.ready & returned.ready)

        with m.FSM():
            with m.State("COUNT"):
                with m.If(self.clear.en & ~self.compare.en):
                    m.d.comb += self.cleared.eq(1)
                with m.Elif(self.completions.valid & ~fetched_compare):
                    m.d.comb += counting.eq(done.command & ~done.dropped)
                    m.next = "SENDER"
            with m.State("SENDER"):
                m.d.comb += [
                    pushing_own.eq(1),
                    pushing.eq(done.command & ~done.dropped & done.event),
                    ends_unused.eq(done.command & ~pushing),
                ]
                with m.If(done.reserved):
                    m.next = "RECEIVER"
                with m.Else():
                    m.d.comb += self.completions.ready.eq(1)
                    m.next = "COUNT"
            with m.State("RECEIVER"):
                with m.If(done.arrived):
                    m.d.comb += [pushing.eq(1), self.completions.ready.eq(1)]
                    m.next = "COUNT"
                with m.Elif(~freeing):
                    m.d.comb += [returning.eq(1), self.completions.ready.eq(1)]
                    m.next = "COUNT"
        return m
