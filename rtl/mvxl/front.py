# SPDX-License-Identifier: Apache-2.0
"""The front end: looks both entries up, checks both ranges, and decides a request in one cycle.

One request takes a slot of `lookup_cycles + 3` cycles, so that source and destination share the
table's port and the bounds checker:

====  ===========================================================================
step  what happens (with a table in LUT RAM)
====  ===========================================================================
0     source row, lock and cursor are read
1     source range is checked; destination row is read
2     destination range is checked from the cursor; source address is prepared
3     decision: accepted (lock, space and event room together), refused, or returned
====  ===========================================================================
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .bounds import BoundsChecker
from .config import ENTRY_UNIT_BYTES, OFFSET_BITS, AdapterConfig
from .lock import LockUnit
from .memory import ScrubbedMemory
from .messages import (
    ChangeKind,
    InFlight,
    Op,
    Release,
    Request,
    Span,
    Status,
    TableChange,
    Verdict,
)
from .table import TranslationTable, lookup_cycles

__all__ = ["Circumstances", "FrontEnd"]


class Circumstances(data.StructLayout):
    """What the queues know of a request's partition, besides the request.

    `overtaken`: a partition that was served less recently waits for the same destination.
    `contended`: any other partition does. `expired`: WAIT_LIMIT has passed since it began to wait
    for `waits_on`.
    """

    def __init__(self) -> None:
        super().__init__({
            "enabled": 1,
            "halted": 1,
            "idle": 1,
            "cancelled": 1,
            "expired": 1,
            "waits_on": Status,
            "overtaken": 1,
            "contended": 1,
        })


class FrontEnd(wiring.Component):
    """Decides requests and changes of the table, one after the other.

    The streams behind it have room whenever a request is issued, so that nothing here waits.

    Parameters
    ----------
    config : AdapterConfig

    Members
    -------
    ready : Out(1)
        The memories are scrubbed. Requests before are not decided.
    requests : In(stream.Signature(Request))
        Taken in the cycle of its decision.
    circumstances : In(Circumstances)
        Of the request's partition; looked at in the cycle before the decision.
    looking : Out(1)
        Three cycles before a request's decision.
    verdicts : Out(stream.Signature(Verdict, always_ready=True))
        The decision, in the cycle after the one in which the request is taken.
    changes : In(stream.Signature(TableChange))
        Served in turn with requests.
    changed : Out(1)
        In the cycle in which a change is taken: it was carried out (only REWIND may be refused).
    max_count : In(struct {en, partition, count})
        Writes a partition's largest count (bytes), 0 before `ready`.
    quota_receiver, quota_sender : Out(config.partition_bits)
        Whose notifications at whom are looked up, combinational with `quota_room : In(1)`.
    reserve : Out(1)
        A notification of the pair that was looked up in the cycle before takes its room.
    reads : Out(stream.Signature(Span, always_ready=True))
        Source of a granted message, in the cycle of its decision.
    accepted : Out(stream.Signature(InFlight, always_ready=True))
        Every accepted command, in the same cycle.
    writes : Out(stream.Signature(Span, always_ready=True))
        Destination of a granted message, one cycle later.
    releases, freed, freed_id, query_id, query_cursor
        As of `LockUnit`.
    query_owner, query_valid
        As of `TranslationTable`.
    """

    requests: stream.Interface
    verdicts: stream.Interface
    changes: stream.Interface
    reads: stream.Interface
    accepted: stream.Interface
    writes: stream.Interface
    releases: stream.Interface

    def __init__(self, config: AdapterConfig) -> None:
        self.config = config
        super().__init__({
            "ready": Out(1),
            "requests": In(stream.Signature(Request(config))),
            "circumstances": In(Circumstances()),
            "verdicts": Out(stream.Signature(Verdict(config), always_ready=True)),
            "looking": Out(1),
            "changes": In(stream.Signature(TableChange(config))),
            "changed": Out(1),
            "max_count": In(data.StructLayout(
                {"en": 1, "partition": config.partition_bits, "count": OFFSET_BITS})),
            "quota_receiver": Out(config.partition_bits),
            "quota_sender": Out(config.partition_bits),
            "quota_room": In(1),
            "reserve": Out(1),
            "reads": Out(stream.Signature(Span(config), always_ready=True)),
            "accepted": Out(stream.Signature(InFlight(config), always_ready=True)),
            "writes": Out(stream.Signature(Span(config), always_ready=True)),
            "releases": In(stream.Signature(Release(config))),
            "freed": Out(1),
            "freed_id": Out(config.id_bits),
            "query_id": In(config.id_bits),
            "query_owner": Out(config.partition_bits),
            "query_valid": Out(1),
            "query_cursor": Out(OFFSET_BITS),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        source_step = lookup_cycles(config)
        decision_step = source_step + 2

        m.submodules.table = table = TranslationTable(config)
        m.submodules.bounds = bounds = BoundsChecker(config)
        m.submodules.lock = lock = LockUnit(config)
        m.submodules.max_counts = max_counts = ScrubbedMemory(
            OFFSET_BITS, depth=config.partitions, zeroed=True)
        wiring.connect(m, wiring.flipped(self.releases), lock.releases)
        m.d.comb += [
            self.ready.eq(table.ready & lock.ready & max_counts.ready),
            self.freed.eq(lock.freed),
            self.freed_id.eq(lock.freed_id),
            lock.query_id.eq(self.query_id),
            table.query_id.eq(self.query_id),
            self.query_cursor.eq(lock.query_cursor),
            self.query_owner.eq(table.query_owner),
            self.query_valid.eq(table.query_valid),
            max_counts.write_en.eq(self.max_count.en),
            max_counts.write_row.eq(self.max_count.partition),
            max_counts.write_data.eq(self.max_count.count),
        ]

        partition = self.requests.payload.partition
        command = self.requests.payload.command
        change = self.changes.payload

        # Slots: requests and changes alternate while both are there.
        step = Signal(range(decision_step + 1))
        changing = Signal()
        change_next = Signal()
        deciding = Signal()
        starting = Signal()     # a request's slot begins
        with m.If(step == 0):
            with m.If(self.ready & self.changes.valid & (change_next | ~self.requests.valid)):
                m.d.sync += [step.eq(1), changing.eq(1)]
            with m.Elif(self.ready & self.requests.valid):
                m.d.comb += starting.eq(1)
                m.d.sync += step.eq(1)
        with m.Elif(step == decision_step):
            m.d.sync += [step.eq(0), changing.eq(0), change_next.eq(~changing)]
        with m.Else():
            m.d.sync += step.eq(step + 1)
        m.d.comb += [
            deciding.eq((step == decision_step) & ~changing),
            self.looking.eq(
                starting if source_step == 1 else (step == source_step - 1) & ~changing),
        ]

        # Lookups. IDs are compared in all their bits: those above the table name no entry.
        at_source = Signal()
        m.d.sync += at_source.eq(step == source_step - 1)
        # A change's ID is there from step 1 on, a request's from step 0 on.
        m.d.comb += lock.capture.eq(step == Mux(changing, source_step + 1, source_step))
        with m.If(changing):
            m.d.comb += [table.id.eq(change.id), lock.id.eq(change.id)]
        with m.Else():
            m.d.comb += [
                table.id.eq(Mux(step == 0, command.src_id, command.dst_id)),
                lock.id.eq(command.dst_id),
            ]

        # Checks: the source's and then the destination's row passes by.
        entry = table.entry
        m.d.comb += [
            bounds.base.eq(entry.base),
            bounds.length.eq(entry.length),
            bounds.offset.eq(Mux(at_source, command.src_offset, lock.cursor)),
            bounds.count.eq(command.count),
        ]
        last_offset = Signal(OFFSET_BITS + 1)
        m.d.comb += last_offset.eq(
            bounds.address[:config.block_log2] + command.count - 1)

        def single(last: Signal) -> Value:
            return ~last[config.block_log2:].any()

        source_checked = Signal()   # the checker's answer is the source's
        src_unusable = Signal()
        src_outside = Signal()
        src_address = Signal(config.address_bits)
        src_last = Signal(OFFSET_BITS + 1)
        m.d.sync += source_checked.eq(at_source)
        with m.If(at_source):
            m.d.sync += src_unusable.eq(
                ~entry.valid | ~entry.may_send | (entry.owner != partition)
                | (command.src_id >> config.id_bits).any())
        with m.If(source_checked):
            m.d.sync += [
                src_outside.eq(~bounds.fits),
                src_address.eq(bounds.address),
                src_last.eq(last_offset),
            ]

        dst_unusable = Signal()
        receiver = Signal(config.partition_bits)
        never_fits = Signal()
        unit_log2 = ENTRY_UNIT_BYTES.bit_length() - 1
        m.d.sync += [
            dst_unusable.eq(
                ~entry.valid | ~entry.may_receive
                | ~entry.senders.bit_select(partition, 1)
                | (command.dst_id >> config.id_bits).any()),
            receiver.eq(entry.owner),
            never_fits.eq(command.count > Cat(Const(0, unit_log2), entry.length)),
        ]

        # What a decision depends on besides the destination's bounds is put together in the cycle
        # before it.
        at = Signal(Circumstances())
        barred = Signal()       # the partition's state alone ends the command
        fenced = Signal()
        stuck = Signal()        # the destination is not the partition's to place in
        no_room = Signal()
        now = self.circumstances
        m.d.comb += [
            self.quota_receiver.eq(entry.owner),
            self.quota_sender.eq(partition),
        ]
        m.d.sync += [
            at.eq(now),
            barred.eq(now.halted | ~now.enabled | now.cancelled),
            fenced.eq(command.fence & ~now.idle),
            stuck.eq(Mux(
                lock.held,
                (lock.holder != partition) | (now.contended & lock.turn.all()),
                now.overtaken)),
            no_room.eq(command.notify & ~self.quota_room),
        ]

        max_count = Signal(OFFSET_BITS)
        bad_count = Signal()
        m.d.comb += max_counts.read_row[0].eq(partition)
        m.d.sync += [
            max_count.eq(max_counts.read_data[0]),
            bad_count.eq((command.count == 0) | (command.count > max_count)),
        ]

        # The decision. `hopeless`: the command itself or its source ends it, for `reason`.
        hopeless = Signal()
        reason = Signal(Status)
        unlawful = Signal()
        m.d.comb += unlawful.eq(command.op != Op.SEND)
        m.d.sync += hopeless.eq(unlawful | bad_count | src_unusable)
        with m.If(unlawful):
            m.d.sync += reason.eq(Status.BAD_OP)
        with m.Elif(bad_count):
            m.d.sync += reason.eq(Status.BAD_COUNT)
        with m.Else():
            m.d.sync += reason.eq(Status.SRC_FAULT)

        refused = Signal()
        refusal = Signal(Status)
        m.d.comb += refused.eq(barred | hopeless | dst_unusable | src_outside)
        with m.If(at.halted):
            m.d.comb += refusal.eq(Status.ABORTED)
        with m.Elif(~at.enabled):
            m.d.comb += refusal.eq(Status.NOT_PERMITTED)
        with m.Elif(at.cancelled):
            m.d.comb += refusal.eq(Status.CANCELLED)
        with m.Elif(hopeless):
            m.d.comb += refusal.eq(reason)
        with m.Elif(dst_unusable):
            m.d.comb += refusal.eq(Status.DST_FAULT)
        with m.Else():
            m.d.comb += refusal.eq(Status.SRC_BOUNDS)

        blocked = Signal()
        m.d.comb += blocked.eq(stuck | (lock.held & ~bounds.fits))

        verdict = Signal(Verdict(config))
        granted = Signal()
        patient = Signal()
        m.d.comb += [verdict.partition.eq(partition), patient.eq(command.wait & ~at.expired)]
        with m.If(refused):
            m.d.comb += [verdict.accepted.eq(1), verdict.status.eq(refusal)]
        with m.Elif(fenced | blocked):
            # Earlier messages will end this; a limit that has passed does not wait for them.
            m.d.comb += [
                verdict.accepted.eq(at.expired),
                verdict.blocked.eq(~fenced),
                verdict.status.eq(at.waits_on),
            ]
        with m.Elif(~bounds.fits):
            m.d.comb += [
                verdict.waits.eq(patient & ~never_fits),
                verdict.accepted.eq(~patient | never_fits),
                verdict.status.eq(Status.DST_FULL),
            ]
        with m.Elif(no_room):
            m.d.comb += [
                verdict.waits.eq(patient),
                verdict.accepted.eq(~patient),
                verdict.status.eq(Status.RECEIVER_BUSY),
            ]
        with m.Else():
            m.d.comb += [verdict.accepted.eq(1), verdict.status.eq(Status.OK)]
        m.d.comb += granted.eq(~(refused | fenced | blocked | no_room) & bounds.fits)
        m.d.comb += self.requests.ready.eq(deciding)
        m.d.sync += [self.verdicts.valid.eq(deciding), self.verdicts.payload.eq(verdict)]

        # What an acceptance sets going.
        place = Signal()
        m.d.comb += [
            place.eq(deciding & granted),
            lock.place.eq(place),
            lock.partition.eq(partition),
            lock.next_cursor.eq(lock.cursor + command.count),
            lock.next_turn.eq(Mux(lock.held & at.contended, lock.turn + 1, 0)),
            self.reserve.eq(place & command.notify),
            self.reads.valid.eq(place),
            self.reads.payload.partition.eq(partition),
            self.reads.payload.address.eq(src_address),
            self.reads.payload.last.eq(src_last),
            self.reads.payload.single.eq(single(src_last)),
            self.reads.payload.other_lane.eq(bounds.address[:config.size_log2]),
            self.accepted.valid.eq(deciding & verdict.accepted),
            self.accepted.payload.partition.eq(partition),
            self.accepted.payload.tag.eq(command.tag),
            self.accepted.payload.event.eq(command.event),
            self.accepted.payload.notify.eq(command.notify),
            self.accepted.payload.status.eq(verdict.status),
            self.accepted.payload.dst_id.eq(command.dst_id),
            self.accepted.payload.receiver.eq(receiver),
            self.accepted.payload.offset.eq(lock.cursor),
            self.accepted.payload.count.eq(command.count),
        ]
        m.d.comb += self.writes.payload.single.eq(single(self.writes.payload.last))
        m.d.sync += [
            self.writes.valid.eq(place),
            self.writes.payload.partition.eq(partition),
            self.writes.payload.address.eq(bounds.address),
            self.writes.payload.last.eq(last_offset),
            self.writes.payload.other_lane.eq(src_address[:config.size_log2]),
        ]

        # Changes.
        mine = Signal()
        m.d.comb += mine.eq(
            entry.valid & (entry.owner == change.partition) & ~lock.held
            & ~(change.id >> config.id_bits).any())
        m.d.comb += table.write_id.eq(change.id)
        with m.If(changing & (step == decision_step)):
            m.d.comb += self.changes.ready.eq(1)
            with m.Switch(change.kind):
                with m.Case(ChangeKind.INVALIDATE):
                    m.d.comb += [table.write_en.eq(1), self.changed.eq(1)]
                with m.Case(ChangeKind.WRITE):
                    m.d.comb += [
                        table.write_en.eq(1),
                        table.write_entry.eq(change.entry),
                        lock.clear.eq(1),
                        self.changed.eq(1),
                    ]
                with m.Case(ChangeKind.REWIND):
                    m.d.comb += [lock.clear.eq(mine), self.changed.eq(mine)]
        return m
