# SPDX-License-Identifier: Apache-2.0
"""The front end: looks both entries up, checks both ranges, and decides a request in one cycle.

One request takes a slot of four cycles, so that source and destination share the table's port and
the bounds checker:

====  ===========================================================================
step  what happens
====  ===========================================================================
0     source row, lock and cursor are read
1     source range is checked; destination row is read
2     destination range is checked from the cursor; all else that a decision needs is put together
3     decision: accepted (lock, space and event room together), refused, or returned
====  ===========================================================================

What a decision sets going follows in the cycle behind it, in which the next slot may begin: its
place in the order of completion, the destination's pieces.

MVXL is checked against the grant of its partition instead of the table, which takes five steps
more: the grant and its row are read, and, as its destination may begin behind the end of a ring,
its byte position is found. Orders of the control take slots, too, of two steps more, or of three if
they end a grant.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .bounds import BoundsChecker
from .config import ENTRY_UNIT_BYTES, OFFSET_BITS, WAIT_BITS, AdapterConfig
from .grants import Target
from .lock import LockUnit
from .memory import ScrubbedMemory
from .messages import (
    ID_BITS,
    Acceptance,
    Entry,
    Grant,
    Kind,
    Op,
    Order,
    OrderKind,
    Proposal,
    Release,
    Request,
    Span,
    Status,
    Verdict,
)
from .table import TranslationTable

__all__ = ["Circumstances", "FrontEnd"]


#: In which step of its slot a SEND, MVCL or GRANT is decided.
_DECISION_STEP = 3
#: In which step an order is served; RELEASE and END read the grant first.
_ORDER_STEP = 5
_ENDING_STEP = 6
#: In which step an MVXL is decided: the grant, its row, and the byte position come before.
_MVXL_STEP = 8


class Circumstances(data.StructLayout):
    """What the queues know of a request's partition, besides the request.

    `permitted`: the manager allows the partition such a command. `overtaken`: a partition that was
    served less recently waits for the same destination. `contended`: any other partition does.
    `expired`: WAIT_LIMIT has passed since it began to wait for `waits_on`; `waited`: for how many
    cycles it has been waiting, 0 if it does not.
    """

    def __init__(self) -> None:
        super().__init__({
            "resetting": 1,
            "permitted": 1,
            "halted": 1,
            "idle": 1,
            "cancelled": 1,
            "expired": 1,
            "waits_on": Status,
            "waited": WAIT_BITS,
            "overtaken": 1,
            "contended": 1,
        })


class FrontEnd(wiring.Component):
    """Decides requests and orders, one after the other.

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
        Of the request's partition; looked at in the cycle before the decision. They are of one
        cycle earlier, but for `expired`, `waited` and `waits_on`.
    down : In(1)
        The memory port is down: every command ends TIMEOUT.
    looking : Out(1)
        Three cycles before the decision of a request that can wait, and perhaps before.
    verdicts : Out(stream.Signature(Verdict, always_ready=True))
        The decision, in the cycle after the one in which the request is taken.
    hold : In(1)
        No request begins its slot.
    orders : In(stream.Signature(Order))
        Served in turn with requests; taken in the cycle of its decision, together with:
    order_status : Out(Status)
        OK: it is carried out. BUSY: a REWIND or CONSUME is refused; RELEASE has more. By what was
        there in the cycle before; it stays until the next order.
    new_entry : In(Entry)
        For WRITE.
    raw_source, raw_destination : In(config.address_bits)
        For MOVE.
    max_count : In(struct {en, partition, count})
        Writes a partition's largest count (bytes), 0 before `ready`.
    quota_receiver, quota_sender : Out(config.partition_bits)
        Whose notifications at whom are looked up, combinational with `quota_room : In(1)`.
    reserve : Out(1)
        A notification of the pair that was looked up in the cycle before takes its room.
    grant_partition, releasing, grant, grant_limit, moving, live, expired, ending, give,
    target, leave, mvxl_started
        As of `GrantUnit`, without grant_.
    reads : Out(stream.Signature(Span, always_ready=True))
        Source of a granted message, in the cycle of its decision.
    proposed : Out(stream.Signature(Proposal, always_ready=True))
        In the cycle of every decision: what has a place in the order of completion, if it is
    accepted : Out(stream.Signature(Acceptance, always_ready=True))
        accepted: every accepted command, and whatever else has its place there, a cycle later.
    writes : Out(stream.Signature(Span, always_ready=True))
        Destination of a granted message, one cycle later; its second piece in the next cycle.
    releases, freed, freed_id, query_id, query_cursor, query_head
        As of `LockUnit`.
    query_owner, query_valid
        As of `TranslationTable`.
    """

    requests: stream.Interface
    verdicts: stream.Interface
    orders: stream.Interface
    reads: stream.Interface
    proposed: stream.Interface
    accepted: stream.Interface
    writes: stream.Interface
    releases: stream.Interface

    def __init__(self, config: AdapterConfig) -> None:
        self.config = config
        bits = config.partition_bits
        everyone = config.partitions
        event = data.StructLayout({"en": 1, "partition": bits})
        super().__init__({
            "ready": Out(1),
            "requests": In(stream.Signature(Request(config))),
            "circumstances": In(Circumstances()),
            "down": In(1),
            "verdicts": Out(stream.Signature(Verdict(config), always_ready=True)),
            "looking": Out(1),
            "hold": In(1),
            "orders": In(stream.Signature(Order(config))),
            "order_status": Out(Status),
            "new_entry": In(Entry(config)),
            "raw_source": In(config.address_bits),
            "raw_destination": In(config.address_bits),
            "max_count": In(data.StructLayout(
                {"en": 1, "partition": bits, "count": OFFSET_BITS})),
            "quota_receiver": Out(bits),
            "quota_sender": Out(bits),
            "quota_room": In(1),
            "reserve": Out(1),
            "grant_partition": Out(bits),
            "releasing": Out(1),
            "grant": In(Grant(config)),
            "grant_limit": In(OFFSET_BITS),
            "moving": In(1),
            "live": In(everyone),
            "expired": In(everyone),
            "ending": In(everyone),
            "give": Out(data.StructLayout(
                {"en": 1, "partition": bits, "grant": Grant(config)})),
            "target": Out(Target(config)),
            "leave": Out(event),
            "mvxl_started": Out(event),
            "reads": Out(stream.Signature(Span(config), always_ready=True)),
            "proposed": Out(stream.Signature(Proposal(config), always_ready=True)),
            "accepted": Out(stream.Signature(Acceptance(), always_ready=True)),
            "writes": Out(stream.Signature(Span(config), always_ready=True)),
            "releases": In(stream.Signature(Release(config))),
            "freed": Out(1),
            "freed_id": Out(config.id_bits),
            "query_id": In(config.id_bits),
            "query_owner": Out(bits),
            "query_valid": Out(1),
            "query_cursor": Out(OFFSET_BITS),
            "query_head": Out(OFFSET_BITS),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config

        m.submodules.table = table = TranslationTable(config)
        m.submodules.bounds = bounds = BoundsChecker(config)
        m.submodules.lock = lock = LockUnit(config)
        m.submodules.max_counts = max_counts = ScrubbedMemory(
            OFFSET_BITS, depth=config.partitions, zeroed=True)
        wiring.connect(m, wiring.flipped(self.releases), lock.releases)
        m.d.comb += [
            self.ready.eq(table.ready & max_counts.ready),
            self.freed.eq(lock.freed),
            self.freed_id.eq(lock.freed_id),
            lock.query_id.eq(self.query_id),
            table.query_id.eq(self.query_id),
            self.query_cursor.eq(lock.query_cursor),
            self.query_head.eq(lock.query_head),
            self.query_owner.eq(table.query_owner),
            self.query_valid.eq(table.query_valid),
            max_counts.write_en.eq(self.max_count.en),
            max_counts.write_row.eq(self.max_count.partition),
            max_counts.write_data.eq(self.max_count.count),
        ]

        command = self.requests.payload.command
        order = self.orders.payload
        grant = self.grant

        # What the slot is for, and the operands that requests and orders share: known from step 1
        # on, until the end of the next slot's step 0.
        ordering = Signal()         # in the slot only
        is_send = Signal()
        is_mvcl = Signal()
        is_grant = Signal()
        is_mvxl = Signal()
        is_move = Signal()          # the manager's MVXL
        is_ending = Signal()        # RELEASE or END
        unlawful = Signal()
        is_given = Signal()         # MVCL or MVXL: the command says where its bytes go
        under_grant = Signal()      # MVXL, RELEASE or END
        partition = Signal(config.partition_bits)
        count = Signal(OFFSET_BITS)             # MVXL's is its offset at first
        count_less_1 = Signal(OFFSET_BITS)      # of the cycle before
        offset_first = Signal()

        # Slots: requests and orders alternate while both are there.
        step = Signal(range(_MVXL_STEP + 1))
        starting = Signal(init=1)   # step 0
        before_decision = Signal()
        at_decision = Signal()
        order_first = Signal()      # the slot that begins now, if one does, is an order's
        order_next = Signal()
        deciding = Signal()
        step_before = Signal(range(_MVXL_STEP))     # the decision's
        m.d.comb += [
            order_first.eq(self.orders.valid & (order_next | ~self.requests.valid | self.hold)),
            step_before.eq(Mux(is_mvxl, _MVXL_STEP, Mux(is_ending, _ENDING_STEP, Mux(
                ordering, _ORDER_STEP, _DECISION_STEP))) - 1),
        ]
        m.d.comb += offset_first.eq(Mux(
            starting, command.op == Op.MVXL, is_mvxl & (step < _MVXL_STEP - 3)))
        with m.If(ordering | (starting & order_first)):
            m.d.sync += count.eq(Mux(order.kind == OrderKind.END, 0, order.count))
        with m.Elif(offset_first):
            m.d.sync += count.eq(command.dst_offset)
        with m.Else():
            m.d.sync += count.eq(command.count)
        m.d.comb += before_decision.eq(step == step_before)
        m.d.sync += at_decision.eq(before_decision)
        with m.If(starting):
            for flag, op in ((is_send, Op.SEND), (is_mvcl, Op.MVCL), (is_grant, Op.GRANT),
                             (is_mvxl, Op.MVXL)):
                m.d.sync += flag.eq(~order_first & (command.op == op))
            m.d.sync += [
                is_move.eq(order_first & (order.kind == OrderKind.MOVE)),
                is_ending.eq(order_first & ((order.kind == OrderKind.RELEASE)
                                            | (order.kind == OrderKind.END))),
                unlawful.eq(~order_first & (command.op != Op.SEND) & (command.op != Op.MVCL)
                            & (command.op != Op.GRANT) & (command.op != Op.MVXL)),
                is_given.eq(~order_first & ((command.op == Op.MVCL) | (command.op == Op.MVXL))),
                under_grant.eq(Mux(order_first, (order.kind == OrderKind.RELEASE)
                                   | (order.kind == OrderKind.END), command.op == Op.MVXL)),
                partition.eq(Mux(order_first, order.partition, self.requests.payload.partition)),
            ]
            with m.If(self.ready & order_first):
                m.d.sync += [step.eq(1), starting.eq(0), ordering.eq(1)]
            with m.Elif(self.ready & self.requests.valid & ~self.hold):
                m.d.sync += [step.eq(1), starting.eq(0)]
        with m.Elif(at_decision):
            m.d.sync += [
                step.eq(0), starting.eq(1), ordering.eq(0), order_next.eq(~ordering)]
        with m.Else():
            m.d.sync += step.eq(step + 1)
        m.d.comb += [
            deciding.eq(at_decision & ~ordering),
            self.looking.eq(starting & self.requests.valid),
        ]

        # Lookups. IDs are compared in all their bits: those above the table name no entry.
        at_source = Signal()
        dst_id = Signal(ID_BITS)
        entry = table.entry
        m.d.comb += [
            # An order's ID is there from step 1 on, a request's from step 0 on.
            lock.capture.eq(step == Mux(ordering, 2, 1)),
            lock.published.eq(ordering),
            # Nothing is placed under a grant, so that its destination need not be looked up there.
            lock.id.eq(Mux(ordering, order.id, command.dst_id)),
            table.id.eq(Mux(starting, command.src_id, dst_id)),
            self.grant_partition.eq(partition),
            self.releasing.eq(is_ending),
        ]
        with m.If(under_grant & ~starting):
            m.d.comb += dst_id.eq(grant.dst_id)
        with m.Else():
            m.d.comb += dst_id.eq(Mux(ordering, order.id, command.dst_id))
        # MVXL's checks begin when its grant, and the row of that, are there.
        next_at_source = Signal()
        used = Signal(OFFSET_BITS)  # what comes before the range that is checked
        m.d.comb += next_at_source.eq(starting | (is_mvxl & (step == _MVXL_STEP - 3)))
        # A cycle longer for a move, whose offset is 0 then.
        m.d.sync += at_source.eq(next_at_source | (is_move & at_source & (step == 1)))
        with m.If(next_at_source):
            m.d.sync += used.eq(command.src_offset)
        with m.Elif(is_given):
            m.d.sync += used.eq(command.dst_offset)
        with m.Elif(is_ending):
            m.d.sync += used.eq(0)
        with m.Elif(lock.capture):
            m.d.sync += used.eq(lock.filled)
        own_live = Signal()     # the partition's grant is live, and the token is its
        token = Signal.like(order.token)
        same_token = Signal()
        m.d.comb += [
            token.eq(Mux(ordering, order.token, Cat(command.dst_id, command.src_id))),
            own_live.eq(self.live.bit_select(partition, 1) & same_token),
        ]
        m.d.sync += same_token.eq(token == grant.token)

        # Checks: the source's and then the destination's row passes by.
        position = Signal(OFFSET_BITS)          # of the range in its entry, or in its grant
        moved_position = Signal(OFFSET_BITS)    # where MVXL's destination begins
        moving_on = Signal()    # MVXL's byte position is being found
        has_moved = Signal()
        m.d.sync += [
            moving_on.eq(is_mvxl & (step == _MVXL_STEP - 4)),
            count_less_1.eq(count - 1),
            has_moved.eq(moving_on | (has_moved & ~starting)),
        ]
        with m.If(next_at_source):
            m.d.sync += position.eq(command.src_offset)
        with m.Elif(is_move):
            m.d.sync += position.eq(0)
        with m.Elif(is_mvcl):
            m.d.sync += position.eq(command.dst_offset)
        with m.Elif(under_grant):
            m.d.sync += position.eq(Mux(has_moved, moved_position, grant.position))
        with m.Elif(lock.capture):
            m.d.sync += position.eq(lock.position)
        in_bytes = Const(0, ENTRY_UNIT_BYTES.bit_length() - 1)
        limited = Signal()      # under a grant, when its limit is there
        m.d.sync += limited.eq(under_grant & ~starting)
        m.d.comb += [
            bounds.en.eq(~at_decision),
            bounds.limit.eq(Mux(limited, self.grant_limit, Cat(in_bytes, entry.length))),
            bounds.used.eq(used),
            bounds.count.eq(count),
            bounds.offset.eq(position),
            bounds.length.eq(entry.length),
        ]
        with m.If(is_move):
            m.d.comb += bounds.base.eq(Mux(at_source, self.raw_source, self.raw_destination))
        with m.Elif(is_mvxl & at_source):
            m.d.comb += bounds.base.eq(grant.src_address)
        with m.Else():
            m.d.comb += bounds.base.eq(Cat(in_bytes, entry.base))

        # Where a range goes round, and where the next one begins: by the position that the checker
        # was given in the cycle before.
        over = Signal(OFFSET_BITS + 1)      # bytes behind the entry's end; bit 32: it is reached
        beyond = Signal(OFFSET_BITS + 1)    # one less; bit 32: the range goes round
        goes_round = Signal()
        next_position = Signal(OFFSET_BITS)
        m.d.comb += [
            over.eq(count + ~bounds.to_last),
            beyond.eq(count_less_1 + ~bounds.to_last),
            goes_round.eq(beyond[-1] & ~is_move),
            next_position.eq(Mux(entry.ring & over[-1], over, position + count)),
        ]
        with m.If(moving_on):
            m.d.sync += moved_position.eq(next_position)

        def single(last: Signal) -> Value:
            return ~last[config.block_log2:].any()

        source_checked = Signal()   # the checker's answer is the source's
        src_unusable = Signal()
        src_address = Signal(config.address_bits)
        src_last = Signal(OFFSET_BITS + 1)
        m.d.sync += source_checked.eq(at_source)
        with m.If(at_source):
            m.d.sync += src_unusable.eq(Mux(
                is_mvxl, ~own_live,
                ~entry.valid | ~entry.may_send | (entry.owner != partition)
                | (command.src_id >> config.id_bits).any()))
        with m.If(source_checked):
            m.d.sync += [
                src_address.eq(bounds.address),
                src_last.eq(bounds.address[:config.block_log2] + count_less_1),
            ]

        dst_unusable = Signal()
        known = Signal()
        receiver = Signal(config.partition_bits)
        never_fits = Signal()
        in_table = Signal()     # the ID of the cycle before, which is still there
        m.d.comb += [
            dst_unusable.eq(~is_mvxl & (
                ~entry.valid | ~entry.may_receive | ~in_table
                | Mux(is_mvcl, entry.owner != partition,
                      ~entry.senders.bit_select(partition, 1)))),
        ]
        m.d.sync += [
            in_table.eq(~(dst_id >> config.id_bits).any()),
            known.eq(entry.valid & in_table),
            receiver.eq(entry.owner),
            never_fits.eq(count > Cat(in_bytes, entry.length)),
        ]

        # What a decision depends on besides the destination's bounds is put together in the cycle
        # before it.
        now = self.circumstances
        has_lock = Signal()     # the command is to hold its destination
        lock_granted = Signal()
        lock_own = Signal()
        m.d.comb += [
            self.quota_receiver.eq(entry.owner),
            self.quota_sender.eq(partition),
            has_lock.eq(is_send | is_mvcl | is_grant),
            lock_granted.eq(lock.held & lock.by_grant
                            & (self.live | self.expired).bit_select(lock.holder, 1)),
            lock_own.eq(lock.holder == partition),
        ]

        max_count = Signal(OFFSET_BITS)
        is_empty = Signal()
        is_too_long = Signal()
        bad_count = Signal()
        m.d.comb += max_counts.read_row[0].eq(self.requests.payload.partition)
        m.d.sync += [
            max_count.eq(max_counts.read_data[0]),
            is_empty.eq(count == 0),
            is_too_long.eq(count > max_count),
        ]
        m.d.comb += bad_count.eq(is_empty | is_too_long)

        # Refused for what the partition is, for the command itself or its source, for its
        # destination: with `refusal`, the first of these in the order of the checks.
        halts = Signal()
        hopeless = Signal()
        src_outside = Signal()
        refused = Signal()
        refusal = Signal(Status)
        m.d.comb += [
            halts.eq(now.resetting | self.down | now.halted | ~now.permitted | now.cancelled),
            hopeless.eq(unlawful | bad_count | src_unusable),
            src_outside.eq(~bounds.fits),   # as long as the checker's answer is the source's
        ]
        m.d.sync += refused.eq(halts | hopeless | dst_unusable | src_outside)
        for first, (condition, status) in enumerate((
                (self.down, Status.TIMEOUT),
                (now.halted, Status.ABORTED),
                (~now.permitted, Status.NOT_PERMITTED),
                (now.cancelled, Status.CANCELLED),
                (unlawful, Status.BAD_OP),
                (bad_count, Status.BAD_COUNT),
                (src_unusable & is_mvxl, Status.STALE),
                (src_unusable, Status.SRC_FAULT),
                (dst_unusable, Status.DST_FAULT))):
            with m.If(condition) if first == 0 else m.Elif(condition):
                m.d.sync += refusal.eq(status)
        with m.Else():
            m.d.sync += refusal.eq(Status.SRC_BOUNDS)

        at = Signal(Circumstances())
        fenced = Signal()
        own_locked = Signal()   # the destination is held by the partition's own grant
        locked = Signal()       # ... by that of another
        stuck = Signal()        # the destination is not the partition's to place in
        no_room = Signal()
        second_grant = Signal()
        before = {name: Signal(name=f"{name}_before") for name in ("fenced", "second_grant")}
        closed = Signal()       # own_locked, locked or stuck, a cycle before
        m.d.comb += [
            before["fenced"].eq((command.fence | is_grant) & ~now.idle),
            closed.eq(has_lock & Mux(
                lock.held,
                ~lock_own | lock.by_grant | is_grant | (now.contended & lock.turn.all()),
                now.overtaken)),
            before["second_grant"].eq(
                is_grant & (self.live | self.expired | self.ending).bit_select(partition, 1)),
        ]
        m.d.sync += [
            at.eq(now),
            at.waited.eq(Mux(ordering, 0, now.waited)),
            fenced.eq(before["fenced"]),
            own_locked.eq(has_lock & lock_granted & lock_own),
            locked.eq(has_lock & lock_granted & ~lock_own),
            stuck.eq(closed & ~lock_granted),
            no_room.eq(has_lock & command.notify & ~self.quota_room),
            second_grant.eq(before["second_grant"]),
        ]
        # In the decision's cycle: if the destination's bounds and the receiver's room allow it.
        # Several flops, because much hangs on them.
        open_now = Signal()
        fits = Signal()
        may_move = Signal()
        may_place = Signal()
        may_send = Signal()
        may_grant = Signal()
        raw_moves = Signal()
        m.d.comb += [
            open_now.eq(before_decision & ~ordering & ~halts & ~hopeless & ~dst_unusable
                        & ~src_outside & ~closed & ~Cat(before.values()).any()),
            fits.eq(bounds.fits & ~no_room),
        ]
        m.d.sync += [
            may_move.eq(open_now & ~is_grant),
            may_place.eq(open_now & ~is_mvxl),
            may_send.eq(open_now & is_send),
            may_grant.eq(open_now & is_grant),
            raw_moves.eq(before_decision & is_move),
        ]

        # The decision.
        dst_outside = Signal()
        blocked = Signal()
        verdict = Signal(Verdict(config))
        patient = Signal()
        m.d.comb += [
            dst_outside.eq(is_given & ~bounds.fits),
            blocked.eq(stuck | (is_send & ~locked & lock.held & ~bounds.fits)),
            verdict.partition.eq(partition),
            patient.eq(command.wait & ~at.expired),
        ]
        with m.If(refused | dst_outside | second_grant | own_locked):
            m.d.comb += [
                verdict.accepted.eq(1), verdict.dropped.eq(at.resetting),
                verdict.status.eq(Mux(refused, refusal, Mux(
                    dst_outside, Status.DST_BOUNDS, Mux(
                        second_grant, Status.BUSY, Status.LOCKED)))),
            ]
        with m.Elif(fenced | blocked):
            # Earlier messages will end this; a limit that has passed does not wait for them.
            m.d.comb += [
                verdict.accepted.eq(at.expired),
                verdict.blocked.eq(~fenced),
                verdict.status.eq(at.waits_on),
            ]
        with m.Elif(locked):
            m.d.comb += [
                verdict.waits.eq(patient),
                verdict.blocked.eq(patient),
                verdict.accepted.eq(~patient),
                verdict.status.eq(Status.LOCKED),
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
        m.d.comb += self.requests.ready.eq(deciding)
        m.d.sync += [self.verdicts.valid.eq(deciding), self.verdicts.payload.eq(verdict)]

        # Orders. What one does is known in the cycle before it is served.
        order_status = Signal(Status)
        serving = Signal()
        before_serving = Signal()
        owned = Signal()
        overdrawn = Signal()
        allowed = Signal()
        ends_grant = Signal()
        moving = Signal()
        m.d.comb += [
            serving.eq(at_decision & ordering),
            before_serving.eq(before_decision & ordering),
            owned.eq(known & (receiver == partition)),
            allowed.eq(owned & Mux(
                order.kind == OrderKind.CONSUME, entry.ring & ~overdrawn,
                ~entry.ring & ~lock.held)),
        ]
        with m.Switch(order.kind):
            with m.Case(OrderKind.REWIND, OrderKind.CONSUME):
                m.d.comb += order_status.eq(Mux(allowed, Status.OK, Status.BUSY))
            with m.Case(OrderKind.RELEASE):
                with m.If(~own_live):
                    m.d.comb += order_status.eq(Status.STALE)
                with m.Elif(moving):
                    m.d.comb += order_status.eq(Status.BUSY)
                with m.Elif(~bounds.fits):
                    m.d.comb += order_status.eq(Status.BAD_COUNT)
        m.d.sync += [
            moving.eq(self.moving),
            overdrawn.eq(count > used),
            table.write_en.eq(before_serving & ((order.kind == OrderKind.INVALIDATE)
                                                | (order.kind == OrderKind.WRITE))),
            lock.clear.eq(before_serving & ((order.kind == OrderKind.WRITE)
                                            | (order.kind == OrderKind.REWIND) & allowed)),
            lock.consume.eq(before_serving & (order.kind == OrderKind.CONSUME) & allowed),
            ends_grant.eq(before_serving & is_ending
                          & ((order.kind == OrderKind.END) | (own_live & ~moving & bounds.fits))),
        ]
        with m.If(before_serving):
            m.d.sync += self.order_status.eq(order_status)
        m.d.comb += [
            self.orders.ready.eq(serving),
            table.write_id.eq(dst_id),
            table.write_entry.eq(self.new_entry),
            table.write_entry.valid.eq(self.new_entry.valid & (order.kind == OrderKind.WRITE)),
            lock.consumed.eq(count),
            self.leave.en.eq(ends_grant),
            self.leave.partition.eq(partition),
        ]

        # What an acceptance sets going.
        placed = Signal()
        moves = Signal()
        record = self.proposed.payload
        m.d.comb += [
            placed.eq(may_place & fits),
            moves.eq((may_move & fits) | raw_moves),
            lock.place.eq(placed),
            lock.place_cursor.eq(may_send & fits),
            lock.place_grant.eq(is_grant),
            lock.partition.eq(partition),
            lock.next_cursor.eq(lock.cursor + count),
            lock.next_position.eq(next_position),
            lock.next_turn.eq(Mux(lock.held & at.contended, lock.turn + 1, 0)),
            self.reserve.eq(placed & command.notify),
            self.reads.valid.eq(moves),
            self.reads.payload.agent.eq(Mux(is_move, config.manager, partition)),
            self.reads.payload.address.eq(src_address),
            self.reads.payload.last.eq(src_last),
            self.reads.payload.single.eq(single(src_last)),
            self.reads.payload.other_lane.eq(bounds.address[:config.size_log2]),
            self.proposed.valid.eq(at_decision),
            record.partition.eq(partition),
            record.tag.eq(Mux(is_ending, grant.tag, command.tag)),
            record.event.eq(command.event),
            record.notify.eq(Mux(is_ending, grant.notify, command.notify)),
            record.dst_id.eq(Mux(is_mvxl & src_unusable, 0, dst_id)),
            record.receiver.eq(Mux(is_ending, grant.receiver, receiver)),
            record.known.eq(Mux(is_mvxl, ~src_unusable, known)),
            # MVXL tells its offset in the grant.
            record.offset.eq(Mux(is_mvxl, command.dst_offset, position)),
            record.count.eq(count),
            record.waited.eq(at.waited),
            self.mvxl_started.en.eq(is_mvxl & may_move & fits),
            self.mvxl_started.partition.eq(partition),
        ]

        # In the cycle after the decision, its operands are still there.
        granted = Signal()
        ended_other = Signal()      # an order has its place in the order of completion
        kind = self.accepted.payload.kind
        m.d.sync += [
            granted.eq(fits & (may_move | may_grant)),
            ended_other.eq(ends_grant | raw_moves),
            self.accepted.payload.next_position.eq(next_position),
        ]
        m.d.comb += [
            self.accepted.valid.eq(ended_other | (
                self.verdicts.valid & self.verdicts.payload.accepted
                & ~self.verdicts.payload.dropped)),
            self.accepted.payload.status.eq(
                Mux(ended_other, Status.OK, self.verdicts.payload.status)),
        ]
        with m.If(is_ending):
            m.d.comb += kind.eq(Kind.RELEASE)
        with m.Elif(is_move):
            m.d.comb += kind.eq(Kind.RAW)
        with m.Elif(~granted):
            m.d.comb += kind.eq(Kind.REFUSAL)
        for taken, value in ((is_send, Kind.SEND), (is_mvcl, Kind.MVCL),
                             (is_grant, Kind.GRANT), (is_mvxl, Kind.MVXL)):
            with m.Elif(taken):
                m.d.comb += kind.eq(value)

        # The destination's pieces, in the cycle after the decision and, of a ring's message that
        # goes round, in the next one: the second piece is at the entry's start.
        first = Signal()            # it is the first piece's cycle
        second = Signal()
        went_round = Signal()
        agent = Signal(config.user_bits)
        piece_less_1 = Signal(OFFSET_BITS)          # its bytes, less 1
        in_block = Signal(config.block_log2 + 1)    # its last byte, if it is short
        source_lane = Signal(config.size_log2)
        destination_lane = Signal(config.size_log2)
        start = Signal(config.base_bits)
        start_byte = Signal(config.block_log2)     # of the piece, in its block
        span = self.writes.payload
        m.d.sync += [
            first.eq(moves),
            second.eq(first & went_round),
            went_round.eq(goes_round),
            destination_lane.eq(bounds.address[:config.size_log2]),
        ]
        with m.If(at_decision):
            m.d.sync += [
                agent.eq(self.reads.payload.agent),
                source_lane.eq(src_address[:config.size_log2]),
                start.eq(entry.base),
                piece_less_1.eq(Mux(goes_round, bounds.to_last, count_less_1)),
                start_byte.eq(bounds.address),
            ]
        with m.Else():
            m.d.sync += [piece_less_1.eq(beyond), start_byte.eq(Cat(in_bytes, start))]
        m.d.comb += [
            self.writes.valid.eq(first | second),
            span.agent.eq(agent),
            # Not from `last`, which takes its time.
            in_block.eq(start_byte + piece_less_1[:config.block_log2]),
            span.single.eq(~in_block[-1] & ~piece_less_1[config.block_log2:].any()),
            span.last.eq(start_byte + piece_less_1),
        ]
        with m.If(second):
            m.d.comb += [
                span.address.eq(Cat(in_bytes, start)),
                span.other_lane.eq(source_lane - destination_lane),
                span.more.eq(0),
            ]
        with m.Else():
            m.d.comb += [
                span.address.eq(bounds.address),
                span.other_lane.eq(source_lane),
                span.more.eq(went_round),
            ]

        # A new grant, and then where a processor may write.
        m.d.comb += [
            self.give.en.eq(may_grant & fits),
            self.give.partition.eq(partition),
            self.give.grant.kind.eq(command.dst_offset[0]),
            self.give.grant.tag.eq(command.tag),
            self.give.grant.notify.eq(command.notify),
            self.give.grant.src_id.eq(command.src_id),
            self.give.grant.dst_id.eq(command.dst_id),
            self.give.grant.receiver.eq(receiver),
            self.give.grant.src_address.eq(src_address),
            self.give.grant.position.eq(position),
            self.give.grant.count.eq(count),
            self.target.address.eq(bounds.address),
            self.target.first.eq(piece_less_1 + 1),
            self.target.next.eq(Mux(went_round, Cat(in_bytes, start), 0)),
        ]
        return m
