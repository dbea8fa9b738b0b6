# SPDX-License-Identifier: Apache-2.0
"""The command queues, one a partition, and the order in which their heads are decided."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .config import WAIT_BITS, AdapterConfig
from .front import Circumstances
from .messages import Command, GrantKind, Op, Request, Status, Verdict
from .turns import WEIGHT_BITS, RoundRobin, Seniority, WaitTimer

__all__ = ["CommandQueues"]


class CommandQueues(wiring.Component):
    """Queues commands and issues the heads of the queues, in turn, as requests.

    A partition has its turn for weight + 1 requests. A request that is returned goes back to the
    head of its queue and its partition sleeps until something happens that may help it; the next
    command of the partition, which may have been fetched already, is dropped from the way and
    fetched again. So a waiting partition holds nothing, and costs the others nothing.

    Parameters
    ----------
    config : AdapterConfig

    Members
    -------
    ready : Out(1)
    push : In(struct {en, partition, command})
        Queues a command; it is lost if the queue is full.
    full : Out(config.partitions)
        Bit p: a command of partition p would be lost.
    requests : Out(stream.Signature(Request))
        One cycle after a push if everything is idle.
    verdicts : In(stream.Signature(Verdict, always_ready=True))
        Of a request, in the cycle after it was taken; the next one is withdrawn in this cycle if
        it is of the same partition and this one returns.
    looking : In(1)
        In the first cycle of the current request's slot: WAIT_LIMIT is looked at, to be answered
        in `circumstances` two cycles later.
    circumstances : Out(Circumstances)
        Of the current request's partition.
    completed : In(struct {en, partition, failed})
        An accepted command has ended; if it failed, its partition is halted.
    retired : In(struct {en, partition})
        Something that the partition had in flight is through: a command, or the end of a grant.
    ends_grant : In(struct {en, partition})
        The end of the partition's grant is in flight.
    resetting : In(config.partitions)
        Bit p: partition p is in reset: its queue is emptied, and what the queues know of it is
        cleared. It pushes nothing meanwhile.
    wake_freed, wake_changed : In(struct {en, id})
        The destination with this ID was freed, or changed.
    wake_all, nudge : In(1), In(config.partitions)
        Something else that may help a waiting head was done: to any, or to those partitions.
    cancel, resume : In(config.partitions)
        Bit p: CANCEL, RESUME of partition p.
    settings : In(struct {partition, control_en, enabled, grants, weight, limit_en, limit})
        Writes of the manager; the limit is 0 before `ready`.
    event_room : In(config.partitions)
        Bit p: three more commands of partition p may start without running out of event slots.
    crowded : In(1)
        No request may be issued, because a queue behind is nearly full.
    asker, room : In(config.partition_bits), Out(range(command_queue_depth + 1))
        Free slots of the queue of partition `asker`, a cycle later.
    idle : Out(config.partitions)
        Bit p: nothing of partition p is in flight.
    empty, halted, waiting : Out(config.partitions)
        Bit p: nothing is queued; the partition is halted; its head waits, as it asked to.
    """

    requests: stream.Interface
    verdicts: stream.Interface

    def __init__(self, config: AdapterConfig) -> None:
        self.config = config
        partition = config.partition_bits
        per_partition = config.partitions
        super().__init__({
            "ready": Out(1),
            "push": In(data.StructLayout(
                {"en": 1, "partition": partition, "command": Command(config)})),
            "full": Out(per_partition),
            "requests": Out(stream.Signature(Request(config))),
            "verdicts": In(stream.Signature(Verdict(config), always_ready=True)),
            "looking": In(1),
            "circumstances": Out(Circumstances()),
            "completed": In(data.StructLayout({"en": 1, "partition": partition, "failed": 1})),
            "retired": In(data.StructLayout({"en": 1, "partition": partition})),
            "ends_grant": In(data.StructLayout({"en": 1, "partition": partition})),
            "resetting": In(per_partition),
            "wake_freed": In(data.StructLayout({"en": 1, "id": config.id_bits})),
            "wake_changed": In(data.StructLayout({"en": 1, "id": config.id_bits})),
            "wake_all": In(1),
            "nudge": In(per_partition),
            "cancel": In(per_partition),
            "resume": In(per_partition),
            "settings": In(data.StructLayout({
                "partition": partition, "control_en": 1, "enabled": 1, "grants": 2,
                "weight": WEIGHT_BITS, "limit_en": 1, "limit": WAIT_BITS})),
            "event_room": In(per_partition),
            "crowded": In(1),
            "asker": In(partition),
            "room": Out(range(config.command_queue_depth + 1)),
            "idle": Out(per_partition),
            "empty": Out(per_partition),
            "halted": Out(per_partition),
            "waiting": Out(per_partition),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        everyone = range(config.partitions)
        depth = config.command_queue_depth
        index_bits = depth.bit_length() - 1

        # A queue's pointers: commands before `done` have been accepted, those before `issued`
        # are on the way to their decision, those before `pushed` are queued.
        pushed = Array(Signal(index_bits + 1, name=f"pushed_{p}") for p in everyone)
        issued = Array(Signal(index_bits + 1, name=f"issued_{p}") for p in everyone)
        done = Array(Signal(index_bits + 1, name=f"done_{p}") for p in everyone)

        # Pushes are at least two cycles apart, so that `full` can be a flop.
        m.submodules.memory = memory = Memory(
            shape=Command(config), depth=config.partitions * depth, init=[],
            attrs={"ram_style": "block", "no_rw_check": 1})
        write = memory.write_port()
        read = memory.read_port(domain="comb")
        accepted_push = Signal()
        m.d.comb += [
            accepted_push.eq(self.push.en & ~self.full.bit_select(self.push.partition, 1)),
            write.en.eq(accepted_push),
            write.addr.eq(Cat(pushed[self.push.partition][:index_bits], self.push.partition)),
            write.data.eq(self.push.command),
        ]
        for p in everyone:
            with m.If(accepted_push & (self.push.partition == p)):
                m.d.sync += pushed[p].eq(pushed[p] + 1)
            m.d.comb += self.empty[p].eq(pushed[p] == done[p])
            m.d.sync += self.full[p].eq((pushed[p] ^ done[p]) == depth)

        m.d.sync += self.room.eq(
            depth - (pushed[self.asker] - done[self.asker])[:index_bits + 1])

        # What is known of each partition's head.
        asleep = Signal(config.partitions)
        blocked = Signal(config.partitions)      # until its destination is free
        cancelled = Signal(config.partitions)
        resuming = Signal(config.partitions)
        wait_id = Array(Signal(config.id_bits, name=f"wait_id_{p}") for p in everyone)
        waits_on = Array(Signal(Status, name=f"waits_on_{p}") for p in everyone)
        mark = Array(Signal(index_bits + 1, name=f"mark_{p}") for p in everyone)
        in_flight = Array(
            Signal(config.message_count_bits + 1, name=f"in_flight_{p}") for p in everyone)

        # The current request, and the command that is fetched behind it: in two cycles, because
        # block RAM is slow from clock to output, and has further flops there.
        current = self.requests.payload
        occupied = Signal()
        fetching = Signal()
        fetched = Signal()
        fetched_partition = Signal(config.partition_bits)
        fetched_command = Signal(Command(config))
        read_command = Signal(Command(config))
        follows_own = Signal()      # the current request is behind the one just decided
        verdict = self.verdicts.payload
        returned = Signal()
        vanished = Signal()         # the decided command ends without completion
        dropped = Signal()          # the current request is behind one that returns
        unfetched = Signal()        # ... or it would be the next one
        taken = Signal()
        advance = Signal()          # the current request's place is free for the next one
        current_dst = Signal(config.id_bits)
        m.d.comb += [
            current_dst.eq(current.command.dst_id),
            returned.eq(self.verdicts.valid & ~verdict.accepted),
            vanished.eq(self.verdicts.valid & verdict.dropped),
            dropped.eq(returned & follows_own & occupied),
            unfetched.eq(returned & fetched & ~occupied
                         & (fetched_partition == verdict.partition)),
            self.requests.valid.eq(occupied & ~dropped),
            taken.eq(occupied & self.requests.ready),
            advance.eq(~occupied | self.requests.ready),
        ]

        # The turn. All that are on the way are within messages_in_flight, so that no queue
        # behind can overflow. The choice is made a cycle ahead, and nothing is issued in the two
        # cycles in which a decision, or the issue before, has not yet had its effect on it.
        outstanding = Signal(range(config.messages_in_flight + 1))
        issuing = Signal()
        just_issued = Signal(2)
        just_issuer = Signal(config.partition_bits)
        may_issue = Signal()
        nonempty = Signal(config.partitions)
        barred = Signal(config.partitions)
        runnable = Signal(config.partitions)
        quiet = Signal(config.partitions)       # runnable, and nothing else of it is queued
        eligible = Signal(config.partitions)
        freed = Signal(config.partitions)       # what its head waits for is free now
        for p in everyone:
            m.d.comb += [
                nonempty[p].eq(pushed[p] != issued[p]),
                # Commands behind RESUME's mark are not to be aborted.
                barred[p].eq(resuming[p] & (issued[p] == mark[p])),
            ]
        m.d.comb += [
            runnable.eq(self.event_room & ~barred & ~self.resetting
                        & ~(returned << verdict.partition)),
            eligible.eq(nonempty & runnable & (freed | ~asleep)),
            may_issue.eq(
                self.ready & ~self.crowded & (outstanding != config.messages_in_flight)
                & ~just_issued.any() & ~taken & ~self.verdicts.valid),
        ]
        # What changes it counts a cycle later: nothing is issued then.
        ended_before = Signal()
        undone_before = Signal()
        dropped_before = Signal()
        m.d.sync += [
            ended_before.eq(self.completed.en),
            undone_before.eq(returned | vanished),
            dropped_before.eq(dropped | unfetched),
            outstanding.eq(outstanding + just_issued[0]
                           - (ended_before + undone_before + dropped_before)),
            just_issued.eq(Cat(issuing, just_issued[0])),
            quiet.eq(runnable & ~nonempty),
        ]
        m.submodules.turns = turns = RoundRobin(config)
        fetch = Signal()
        m.d.comb += [
            turns.eligible.eq(eligible),
            fetch.eq(may_issue & turns.any & ~fetching & ~fetched),
            read.addr.eq(Cat(issued[turns.chosen][:index_bits], turns.chosen)),
        ]

        # A command that finds everything idle becomes the request at once. Its queue has room.
        shortcut = Signal()
        m.d.comb += shortcut.eq(
            self.push.en & may_issue & ~turns.any & ~fetching & ~fetched & ~occupied
            & quiet.bit_select(self.push.partition, 1))
        issuer = Signal(config.partition_bits)
        m.d.comb += [
            issuing.eq(fetch | shortcut),
            issuer.eq(Mux(fetch, turns.chosen, self.push.partition)),
            turns.issued.en.eq(issuing),
            turns.issued.partition.eq(issuer),
        ]
        m.d.sync += just_issuer.eq(issuer)

        with m.If(advance):
            m.d.sync += [
                occupied.eq((fetched & ~unfetched) | shortcut),
                follows_own.eq(fetched & (fetched_partition == current.partition)),
                fetched.eq(0),
            ]
            with m.If(fetched):
                m.d.sync += [
                    current.partition.eq(fetched_partition),
                    current.command.eq(fetched_command),
                ]
            with m.Else():
                m.d.sync += [
                    current.partition.eq(self.push.partition),
                    current.command.eq(self.push.command),
                ]
        with m.If(dropped):
            m.d.sync += occupied.eq(0)
        m.d.sync += [fetching.eq(fetch), read_command.eq(read.data)]
        with m.If(fetch):
            m.d.sync += fetched_partition.eq(turns.chosen)
        with m.If(fetching):
            m.d.sync += [fetched.eq(1), fetched_command.eq(read_command)]

        # Waking. What happens while a request is being decided on older facts counts, too.
        decided_dst = Signal(config.id_bits)
        released = Signal()     # by a verdict or a change, `released_id` may be free for others
        released_id = Signal(config.id_bits)
        drained = Signal(config.partitions)
        overdue = Signal(config.partitions)
        nudged = Signal(config.partitions)
        woken = Signal(config.partitions)
        woken_meanwhile = Signal()
        woken_before = Signal()
        m.d.comb += [
            # Who was blocked and is no more may have held up others who wait for the same.
            released.eq(self.wake_changed.en | (
                self.verdicts.valid & blocked.bit_select(verdict.partition, 1)
                & ~(returned & verdict.blocked))),
            released_id.eq(Mux(self.wake_changed.en, self.wake_changed.id, decided_dst)),
        ]
        for p in everyone:
            # What need not be quick wakes a cycle later, when it can be seen for sure.
            m.d.sync += nudged[p].eq(self.wake_all | self.nudge[p] | self.cancel[p])
            m.d.comb += [
                freed[p].eq(self.wake_freed.en & (self.wake_freed.id == wait_id[p])),
                woken[p].eq(nudged[p] | drained[p] | overdue[p] | freed[p]
                            | (released & (released_id == wait_id[p]))),
            ]
            with m.If(woken[p]):
                m.d.sync += asleep[p].eq(0)
            with m.If(self.requests.valid & (current.partition == p)):
                m.d.sync += wait_id[p].eq(current_dst)
        woken_now = Signal()
        m.d.comb += woken_now.eq(
            woken.bit_select(current.partition, 1)
            | (self.wake_freed.en & (self.wake_freed.id == current_dst)))
        with m.If(advance):
            m.d.sync += [
                decided_dst.eq(current_dst),
                woken_before.eq(woken_meanwhile | woken_now),
                woken_meanwhile.eq(0),
            ]
        with m.Elif(woken_now):
            m.d.sync += woken_meanwhile.eq(1)

        # Verdicts.
        in_reset = Signal(config.partitions)
        with m.If(self.cancel.any()):
            m.d.sync += cancelled.eq(cancelled | (self.cancel & self.waiting))
        for p in everyone:
            mine = Signal(name=f"verdict_{p}")
            m.d.comb += mine.eq(self.verdicts.valid & (verdict.partition == p))
            with m.If(just_issued[0] & (just_issuer == p)):
                m.d.sync += issued[p].eq(issued[p] + 1)
            with m.If(mine & verdict.accepted):
                m.d.sync += [
                    done[p].eq(done[p] + 1),
                    blocked[p].eq(0),
                    self.waiting[p].eq(0),
                    cancelled[p].eq(0),
                    asleep[p].eq(0),
                ]
            with m.Elif(mine):
                m.d.sync += [
                    issued[p].eq(done[p]),
                    asleep[p].eq(~(woken_before | woken[p])),
                    blocked[p].eq(verdict.blocked),
                ]
                with m.If(verdict.waits):
                    m.d.sync += [self.waiting[p].eq(1), waits_on[p].eq(verdict.status)]

            # In flight, halted, resumed.
            ended = Signal(name=f"ended_{p}")
            left = Signal(name=f"left_{p}")
            m.d.comb += [
                ended.eq(self.completed.en & (self.completed.partition == p)),
                left.eq(self.retired.en & (self.retired.partition == p)),
                drained[p].eq(left & (in_flight[p] == 1)),
                self.idle[p].eq(in_flight[p] == 0),
            ]
            m.d.sync += in_flight[p].eq(
                in_flight[p] + (mine & verdict.accepted & ~verdict.dropped)
                + (self.ends_grant.en & (self.ends_grant.partition == p)) - left)
            with m.If(ended & self.completed.failed):
                m.d.sync += self.halted[p].eq(1)
            with m.If(self.resume[p] & self.halted[p] & ~resuming[p]):
                m.d.sync += [resuming[p].eq(1), mark[p].eq(pushed[p])]
            with m.Elif(resuming[p] & (done[p] == mark[p]) & self.idle[p]):
                m.d.sync += [resuming[p].eq(0), self.halted[p].eq(0)]

            # In reset, what is queued vanishes; what was issued comes back or is dropped first.
            # Nothing is issued from the second cycle on.
            m.d.sync += in_reset[p].eq(self.resetting[p])
            with m.If(in_reset[p] & self.resetting[p] & ~just_issued[0]
                      & (issued[p] == done[p])):
                m.d.sync += pushed[p].eq(done[p])
            with m.If(self.resetting[p]):
                m.d.sync += [
                    asleep[p].eq(0), blocked[p].eq(0), self.waiting[p].eq(0), cancelled[p].eq(0),
                    resuming[p].eq(0), self.halted[p].eq(0)]

        # WAIT_LIMIT.
        m.submodules.timer = timer = WaitTimer(config)
        m.d.comb += [
            self.ready.eq(timer.ready),
            timer.looking.eq(self.looking),
            timer.partition.eq(current.partition),
            timer.waiting.eq(self.waiting),
            overdue.eq(timer.overdue),
        ]

        # Settings.
        enabled = Signal(config.partitions)
        may_get = {kind: Signal(config.partitions, name=f"may_get_{kind.name.lower()}")
                   for kind in GrantKind}
        m.d.comb += [
            turns.weight.en.eq(self.settings.control_en),
            turns.weight.partition.eq(self.settings.partition),
            turns.weight.weight.eq(self.settings.weight),
            timer.limit.en.eq(self.settings.limit_en),
            timer.limit.partition.eq(self.settings.partition),
            timer.limit.cycles.eq(self.settings.limit),
        ]
        with m.If(self.settings.control_en):
            m.d.sync += enabled.bit_select(self.settings.partition, 1).eq(self.settings.enabled)
            for kind, allowed in may_get.items():
                m.d.sync += allowed.bit_select(self.settings.partition, 1).eq(
                    self.settings.grants[kind.value])

        # The circumstances of the current request.
        at = self.circumstances
        m.submodules.seniority = seniority = Seniority(config)
        waits_too = Signal(config.partitions)       # for the same destination
        wants_cpu = Signal()
        m.d.comb += [
            seniority.served.eq(
                (self.verdicts.valid & verdict.accepted) << verdict.partition),
            seniority.partition.eq(current.partition),
        ]
        for q in everyone:
            m.d.comb += waits_too[q].eq(
                blocked[q] & (wait_id[q] == current_dst) & (current.partition != q))
        m.d.comb += [
            wants_cpu.eq(current.command.dst_offset[0]),
            at.expired.eq(timer.expired),
            at.waited.eq(timer.waited),
            at.waits_on.eq(waits_on[current.partition]),
        ]
        # Looked at a cycle earlier. What the decision before has changed is seen then.
        m.d.sync += [
            at.resetting.eq(self.resetting.bit_select(current.partition, 1)),
            at.halted.eq(self.halted.bit_select(current.partition, 1)),
            at.idle.eq(self.idle.bit_select(current.partition, 1)),
            at.cancelled.eq(cancelled.bit_select(current.partition, 1)),
            at.permitted.eq((enabled & Mux(
                current.command.op != Op.GRANT, ~0, Mux(
                    wants_cpu, may_get[GrantKind.CPU], may_get[GrantKind.ENGINE]))
                ).bit_select(current.partition, 1)),
            at.contended.eq(waits_too.any()),
            # By one that could run, or else it would hold up others.
            at.overtaken.eq((waits_too & seniority.seniors & self.event_room).any()),
        ]
        return m
