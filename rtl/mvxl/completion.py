# SPDX-License-Identifier: Apache-2.0
"""The completion unit: ends what was accepted, in the order in which it was accepted."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, ShapeLike, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .config import OFFSET_BITS, AdapterConfig
from .messages import (
    ID_BITS,
    Acceptance,
    Completion,
    InFlight,
    Kind,
    Proposal,
    Release,
    Status,
    WriteEnd,
)
from .stream import Queue

__all__ = ["CompletionUnit"]


class InFlightList(wiring.Component):
    """The list of what was accepted: a queue in block RAM, with a registered output.

    One entry every 2 cycles.

    A proposal is written when it is made, and counts if it is accepted in the next cycle. An entry
    shows at the output 3 cycles after that.

    Parameters
    ----------
    config : AdapterConfig
    depth : int
        Entries, a power of two; the list must never get more.

    Members
    -------
    proposed : In(stream.Signature(Proposal, always_ready=True))
        Not in neighbouring cycles.
    accepted : In(stream.Signature(Acceptance, always_ready=True))
        In the cycle after: what was proposed is accepted.
    o : Out(stream.Signature(InFlight))
    """

    proposed: stream.Interface
    accepted: stream.Interface
    o: stream.Interface

    def __init__(self, config: AdapterConfig, *, depth: int) -> None:
        self.config = config
        self._depth = depth
        super().__init__({
            "proposed": In(stream.Signature(Proposal(config), always_ready=True)),
            "accepted": In(stream.Signature(Acceptance(), always_ready=True)),
            "o": Out(stream.Signature(InFlight(config))),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        index_bits = self._depth.bit_length() - 1
        written = Signal(index_bits + 1)
        read = Signal(index_bits + 1)
        fetched = Signal()      # the memories' output registers hold an entry
        pop = Signal()
        drained = Signal()      # the output register takes an entry in this cycle

        def column(name: str, shape: ShapeLike, write_en: Signal, value: object) -> data.View:
            # A row is read only when it has been written, so that a read in a cycle of a write of
            # the same row does not matter; Yosys looks at the attribute.
            m.submodules[name] = memory = Memory(
                shape=shape, depth=self._depth, init=[],
                attrs={"ram_style": "block", "no_rw_check": 1})
            write, row = memory.write_port(), memory.read_port(domain="comb")
            out = Signal(shape, name=name)
            m.d.comb += [
                write.en.eq(write_en), write.addr.eq(written), write.data.eq(value),
                row.addr.eq(read),
            ]
            with m.If(pop):
                m.d.sync += out.eq(row.data)
            return out

        # A refusal has a status, all else a position: together they fit into one block RAM.
        accepted = self.accepted.payload
        outcome = data.StructLayout({"kind": Kind, "word": OFFSET_BITS})
        packed = Signal(outcome)
        m.d.comb += [
            packed.kind.eq(accepted.kind),
            packed.word.eq(Mux(accepted.kind == Kind.REFUSAL,
                               accepted.status, accepted.next_position)),
        ]
        proposal = column(
            "proposal", Proposal(self.config), self.proposed.valid, self.proposed.payload)
        acceptance = column("acceptance", outcome, self.accepted.valid, packed)
        m.d.comb += [
            drained.eq(~self.o.valid | self.o.ready),
            # Not in the cycle in which `fetched` is passed on: no path comes from `o.ready`.
            pop.eq((written != read) & ~fetched),
        ]
        m.d.sync += written.eq(written + self.accepted.valid)
        m.d.sync += fetched.eq(pop | (fetched & ~drained))
        with m.If(pop):
            m.d.sync += read.eq(read + 1)
        with m.If(drained):
            m.d.sync += self.o.valid.eq(fetched)
            for name in proposal.shape().members:
                m.d.sync += self.o.payload[name].eq(proposal[name])
            m.d.sync += [
                self.o.payload.kind.eq(acceptance.kind),
                self.o.payload.next_position.eq(acceptance.word),
            ]
        m.d.comb += self.o.payload.status.eq(Mux(
            self.o.payload.kind == Kind.REFUSAL, self.o.payload.next_position, Status.OK.value))
        return m


class CompletionUnit(wiring.Component):
    """Waits for a message's last write response, and only then publishes it.

    In this order: the cursor advances and the lock is released (`releases`), then the rest of the
    adapter is told (`completions`). A command of a halted partition ends ABORTED, whatever it
    would have been. One of a partition in reset releases its lock, and nobody is told.

    While the memory port is down, every command ends TIMEOUT at once. Those that move are kept as
    *orphans* until their responses have come after all; their locks are released then. The end of
    a grant behind orphans becomes one, too, and its cursor does not move.

    Parameters
    ----------
    config : AdapterConfig

    Members
    -------
    proposed : In(stream.Signature(Proposal, always_ready=True))
    accepted : In(stream.Signature(Acceptance, always_ready=True))
        As of `InFlightList`. At most `messages_in_flight` commands that have not completed, an end
        of a grant for each partition, and one of the manager's moves.
    ends : In(stream.Signature(WriteEnd))
    responses : In(stream.Signature(1))
        Write responses; 1: an error.
    halted : In(config.partitions)
        Bit p: an earlier command of partition p failed. Shows a failure in the cycle after
        `completed` told it.
    resetting : In(config.partitions)
        Bit p: partition p is in reset.
    down : In(1)
        The memory port is down.
    releases : Out(stream.Signature(Release))
    completions : Out(stream.Signature(Completion))
        All but the manager's moves. Not to be taken in the first cycle: by the second one it shows
        in `halted`.
    oncoming : Out(config.partition_bits)
        Partition of a completion, in the cycle before it shows.
    completed : Out(struct {en, partition, kind, command, failed, dropped})
        The oldest of what was accepted has ended, in the cycle before. `command`: it is a command
        of the partition; `failed`: with a bus error or a timeout; `dropped`: its partition is in
        reset. `completions` tells the rest of it in this cycle (the status of a move of the
        manager, too).
    retired : Out(struct {en, partition, kind})
        It is through with its lock as well: in the same cycle, unless it became an orphan.
    moved : Out(struct {en, partition, first, good, offset, count})
        As of `GrantUnit`.
    settled : Out(1)
        There are no orphans.
    write_error : Out(config.agents)
        Bit a: a write of agent a was answered with an error, in the cycle before.
    fault : Out(struct {en, partition, status, write, address})
        For the manager's log: the failure, and for writes the address of the first failed burst.
    """

    proposed: stream.Interface
    accepted: stream.Interface
    ends: stream.Interface
    responses: stream.Interface
    releases: stream.Interface
    completions: stream.Interface

    def __init__(self, config: AdapterConfig) -> None:
        self.config = config
        bits = config.partition_bits
        super().__init__({
            "proposed": In(stream.Signature(Proposal(config), always_ready=True)),
            "accepted": In(stream.Signature(Acceptance(), always_ready=True)),
            "ends": In(stream.Signature(WriteEnd(config))),
            "responses": In(stream.Signature(1)),
            "halted": In(config.partitions),
            "resetting": In(config.partitions),
            "down": In(1),
            "releases": Out(stream.Signature(Release(config))),
            "completions": Out(stream.Signature(Completion(config))),
            "oncoming": Out(bits),
            "completed": Out(data.StructLayout({
                "en": 1, "partition": bits, "kind": Kind, "command": 1, "failed": 1,
                "dropped": 1})),
            "retired": Out(data.StructLayout({"en": 1, "partition": bits, "kind": Kind})),
            "moved": Out(data.StructLayout({
                "en": 1, "partition": bits, "first": 1, "good": 1,
                "offset": OFFSET_BITS, "count": OFFSET_BITS})),
            "settled": Out(1),
            "write_error": Out(config.agents),
            "fault": Out(data.StructLayout({
                "en": 1, "partition": bits, "status": Status, "write": 1,
                "address": config.address_bits})),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        # A power of two that is enough for commands and ends of grants; the manager's move has the
        # place of the queue's output register.
        depth = 2 << (max(config.messages_in_flight, config.partitions) - 1).bit_length()
        m.submodules.in_flight = in_flight = InFlightList(config, depth=depth)
        head = in_flight.o.payload
        end = self.ends.payload
        wiring.connect(m, wiring.flipped(self.proposed), in_flight.proposed)
        wiring.connect(m, wiring.flipped(self.accepted), in_flight.accepted)

        # What the oldest one is, and a cycle later, when it is used.
        is_mover = Signal()
        is_holder = Signal()
        is_raw = Signal()
        is_release = Signal()
        is_command = Signal()
        moves = Signal()
        held = Signal()         # a lock goes with it
        agent = Signal(range(config.agents))
        m.d.comb += [
            is_mover.eq((head.kind == Kind.SEND) | (head.kind == Kind.MVCL)
                        | (head.kind == Kind.MVXL) | (head.kind == Kind.RAW)),
            is_holder.eq((head.kind == Kind.SEND) | (head.kind == Kind.MVCL)
                         | (head.kind == Kind.RELEASE)),
            agent.eq(Mux(is_raw, config.manager, head.partition)),
        ]
        m.d.sync += [
            is_raw.eq(head.kind == Kind.RAW),
            is_release.eq(head.kind == Kind.RELEASE),
            is_command.eq((head.kind != Kind.RAW) & (head.kind != Kind.RELEASE)),
            moves.eq(is_mover),
            held.eq(is_holder),
        ]

        # How it ends.
        read_failed = Signal()
        write_failed = Signal()
        fault_address = Signal(config.address_bits)
        late = Signal()         # its responses have not come
        dropped = Signal()
        halted = Signal()
        timed_out = Signal()
        refused = Signal()
        status = Signal(Status)
        good = Signal()         # status is OK
        half = OFFSET_BITS // 2
        some_bytes = Signal(2)  # in the halves of its count
        advances = Signal()     # its cursor, if it ends well; of a release, a cycle later
        published = Signal()
        bus_failed = Signal()
        failed = Signal()
        m.d.comb += [
            timed_out.eq(self.down & (late | ~is_release)),
            good.eq(~timed_out & ~halted & ~write_failed & ~read_failed & ~refused),
            published.eq(good & ~dropped & advances),
            bus_failed.eq(is_command & ~dropped & ~halted & (status != Status.TIMEOUT)
                          & (read_failed | write_failed)),
            failed.eq(bus_failed | (is_command & ~dropped & (status == Status.TIMEOUT))),
        ]
        # As of the cycle before, in which it was the oldest, too. A failure halts its partition
        # before the next one can end.
        m.d.sync += [
            dropped.eq(self.resetting.bit_select(head.partition, 1) & (head.kind != Kind.RAW)),
            halted.eq(self.halted.bit_select(head.partition, 1) & (head.kind != Kind.RAW)
                      & (head.kind != Kind.RELEASE)),
            refused.eq(head.status != Status.OK),
            some_bytes.eq(Cat(head.count[:half].any(), head.count[half:].any())),
            advances.eq((head.kind == Kind.SEND)
                        | ((head.kind == Kind.RELEASE) & some_bytes.any())),
        ]
        with m.If(timed_out):
            m.d.comb += status.eq(Status.TIMEOUT)
        with m.Elif(halted):
            m.d.comb += status.eq(Status.ABORTED)
        # A write error wins: whether it came does not depend on how far the reads got.
        with m.Elif(write_failed):
            m.d.comb += status.eq(Status.WRITE_ERROR)
        with m.Elif(read_failed):
            m.d.comb += status.eq(Status.READ_ERROR)
        with m.Else():
            m.d.comb += status.eq(head.status)

        done = Signal()
        report = self.completions.payload
        m.d.comb += [in_flight.o.ready.eq(done), self.oncoming.eq(head.partition)]
        m.d.sync += [
            self.completed.en.eq(done),
            self.completed.kind.eq(head.kind),
            self.completed.failed.eq(failed),
            self.moved.en.eq(done & ((head.kind == Kind.GRANT) | (head.kind == Kind.MVXL))),
            self.moved.first.eq(head.kind == Kind.GRANT),
            self.moved.good.eq(good & ~dropped),
            self.fault.en.eq(done & bus_failed),
            self.fault.write.eq(write_failed),
        ]
        # The rest is in the report, which stays for two cycles at least.
        m.d.comb += [
            self.completed.partition.eq(report.partition),
            self.completed.command.eq(report.command),
            self.completed.dropped.eq(report.dropped),
            self.moved.partition.eq(report.partition),
            self.moved.offset.eq(report.offset),
            self.moved.count.eq(report.count),
            self.fault.partition.eq(report.partition),
            self.fault.status.eq(report.status),
        ]
        # Nothing overwrites the address before the record is made.
        m.d.comb += self.fault.address.eq(fault_address)
        with m.If(self.completions.ready):
            m.d.sync += self.completions.valid.eq(0)
        with m.If(done):
            m.d.sync += [
                self.completions.valid.eq(~is_raw),
                report.partition.eq(head.partition),
                report.tag.eq(head.tag),
                report.event.eq(head.event | ~good),
                report.command.eq(is_command),
                report.reserved.eq(head.notify & held),
                report.arrived.eq(published | ((head.kind == Kind.MVCL) & ~dropped & good)),
                report.sent.eq(published | ((head.kind == Kind.MVCL) & good)),
                report.dropped.eq(dropped),
                report.status.eq(status),
                report.dst_id.eq(head.dst_id),
                report.receiver.eq(head.receiver),
                report.known.eq(head.known),
                report.offset.eq(head.offset),
                report.count.eq(head.count),
                report.waited.eq(head.waited),
                read_failed.eq(0),
                write_failed.eq(0),
            ]

        # Orphans, which are ahead of all that is in flight.
        orphan = data.StructLayout({
            "partition": config.partition_bits, "kind": Kind, "moves": 1, "holds": 1,
            "dst_id": ID_BITS})
        m.submodules.orphans = orphans = Queue(
            orphan, depth=depth, block=True, leisurely=True)
        oldest = orphans.o.payload
        orphan_count = Signal(range(depth + 2))
        has_orphans = Signal()
        orphaned = Signal()
        absorbed = Signal()
        m.d.comb += [
            self.settled.eq(~has_orphans),
            orphans.i.valid.eq(orphaned),
            orphans.i.payload.partition.eq(head.partition),
            orphans.i.payload.kind.eq(head.kind),
            orphans.i.payload.moves.eq(moves),
            orphans.i.payload.holds.eq(held),
            orphans.i.payload.dst_id.eq(head.dst_id),
            orphans.o.ready.eq(absorbed),
        ]
        # A cycle later: nothing hurries here.
        orphan_there = Signal()
        orphan_moves = Signal()
        orphan_holds = Signal()
        m.d.sync += [
            orphan_there.eq(orphans.o.valid & ~absorbed),
            orphan_moves.eq(oldest.moves),
            orphan_holds.eq(oldest.holds),
        ]
        with m.If(orphaned):
            m.d.sync += [orphan_count.eq(orphan_count + 1), has_orphans.eq(1)]
        with m.Elif(absorbed):
            m.d.sync += [orphan_count.eq(orphan_count - 1), has_orphans.eq(orphan_count != 1)]

        # Releases: of the oldest orphan, or of what has just ended. It is known in the cycle before
        # which of them: nothing in flight releases its lock while there are orphans.
        releasing_orphan = Signal()
        ripe = Signal()             # the oldest one was it in the cycle before, too
        m.d.sync += ripe.eq(in_flight.o.valid & ~done & ~has_orphans)
        m.d.comb += [
            self.releases.payload.count.eq(head.count),
            self.releases.payload.position.eq(head.next_position),
        ]
        with m.If(has_orphans):
            m.d.comb += [
                self.releases.valid.eq(releasing_orphan & orphan_holds),
                self.releases.payload.dst_id.eq(oldest.dst_id),
            ]
        with m.Else():
            m.d.comb += [
                self.releases.payload.dst_id.eq(head.dst_id),
                self.releases.payload.advance.eq(published),
            ]

        end_there = Signal()
        m.d.comb += end_there.eq(self.ends.valid & (~end.responds | self.responses.valid))

        def take_end() -> None:
            m.d.comb += [self.ends.ready.eq(1), self.responses.ready.eq(end.responds)]

        retiring = Signal()
        retired = Signal.like(self.retired)
        m.d.comb += [
            retiring.eq((done & ~orphaned) | absorbed),
            retired.partition.eq(Mux(absorbed, oldest.partition, head.partition)),
            retired.kind.eq(Mux(absorbed, oldest.kind, head.kind)),
        ]
        m.d.sync += [
            self.retired.en.eq(retiring),
            self.retired.partition.eq(retired.partition),
            self.retired.kind.eq(retired.kind),
        ]

        m.d.sync += self.write_error.eq(0)
        with m.FSM():
            with m.State("WAIT"):
                with m.If(has_orphans):
                    # Their ends come first. What is in flight behind them waits, or times out.
                    with m.If(orphan_there & ~orphan_moves):
                        m.next = "ABSORB"
                    with m.Elif(orphan_there & end_there):
                        take_end()
                        with m.If(end.last):
                            m.next = "ABSORB"
                    with m.Elif(in_flight.o.valid):
                        m.d.sync += late.eq(is_mover | is_holder)
                        m.next = "PUBLISH"
                with m.Elif(ripe & moves):
                    with m.If(end_there):
                        take_end()
                        m.d.sync += read_failed.eq(read_failed | end.read_error)
                        with m.If(end.responds & self.responses.payload):
                            m.d.sync += write_failed.eq(1)
                            m.d.sync += self.write_error.eq(1 << agent)
                            with m.If(~write_failed):
                                m.d.sync += fault_address.eq(end.address)
                        with m.If(end.last):
                            m.d.sync += late.eq(0)
                            m.next = "PUBLISH"
                    with m.Elif(self.down):
                        m.d.sync += late.eq(1)
                        m.next = "PUBLISH"
                # A refusal ends at once. What is released has to be there for two cycles before.
                with m.Elif(in_flight.o.valid & (ripe | (head.kind == Kind.REFUSAL))):
                    m.d.sync += late.eq(0)
                    m.next = "PUBLISH"
            with m.State("PUBLISH"):
                with m.If(~self.completions.valid):
                    m.d.comb += self.releases.valid.eq(held & ~late)
                    with m.If(~held | late | self.releases.ready):
                        m.d.comb += [done.eq(1), orphaned.eq(late)]
                        m.next = "WAIT"
            with m.State("ABSORB"):
                m.d.comb += releasing_orphan.eq(1)
                with m.If(~orphan_holds | self.releases.ready):
                    m.d.comb += absorbed.eq(1)
                    m.next = "WAIT"
        return m
