# SPDX-License-Identifier: Apache-2.0
"""The adapter: its units in the order in which a message travels, and the wires between them."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .axi import AXI4LiteSignature, AXI4Signature
from .completion import CompletionUnit
from .config import AdapterConfig
from .control import Control
from .counters import CounterUnit
from .engine import Engine
from .events import EventUnit
from .faults import FaultLog
from .front import FrontEnd
from .grants import GrantUnit
from .messages import Kind
from .queues import CommandQueues
from .watchdog import Watchdog

__all__ = ["Adapter"]


class Adapter(wiring.Component):
    """The MVXL adapter.

    Parameters
    ----------
    config : AdapterConfig

    Members
    -------
    s_axil : In(AXI4LiteSignature)
        The register pages.
    m_axi : Out(AXI4Signature)
        The memory.
    irq : Out(config.partitions)
        Bit p: level interrupt of partition p.
    irq_manager : Out(1)
        Level interrupt of the manager.
    partition_reset : In(config.partitions)
        Bit p, a level: partition p is in reset.
    """

    def __init__(self, config: AdapterConfig) -> None:
        self.config = config
        self.control = Control(config)
        self.queues = CommandQueues(config)
        self.front = FrontEnd(config)
        self.engine = Engine(config)
        self.completion = CompletionUnit(config)
        self.events = EventUnit(config)
        self.grants = GrantUnit(config)
        self.counters = CounterUnit(config)
        self.faults = FaultLog(config)
        self.watchdog = Watchdog(config)
        super().__init__({
            "s_axil": In(AXI4LiteSignature(address_bits=config.register_address_bits)),
            "m_axi": Out(AXI4Signature(
                address_bits=config.address_bits, data_bits=config.data_bits,
                user_bits=config.user_bits)),
            "irq": Out(config.partitions),
            "irq_manager": Out(1),
            "partition_reset": In(config.partitions),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        control, queues, front, grants = self.control, self.queues, self.front, self.grants
        engine, watchdog, completion = self.engine, self.watchdog, self.completion
        events, counters, faults = self.events, self.counters, self.faults
        m.submodules.control = control
        m.submodules.queues = queues
        m.submodules.front = front
        m.submodules.grants = grants
        m.submodules.engine = engine
        m.submodules.watchdog = watchdog
        m.submodules.completion = completion
        m.submodules.events = events
        m.submodules.counters = counters
        m.submodules.faults = faults
        down = watchdog.down

        # Ports.
        wiring.connect(m, wiring.flipped(self.s_axil), control.bus)
        wiring.connect(m, engine.bus, wiring.flipped(self.m_axi))
        m.d.comb += [
            self.irq.eq(control.irq),
            self.irq_manager.eq(control.irq_manager),
            control.partition_reset.eq(self.partition_reset),
            control.ready.eq(front.ready & queues.ready & events.ready & counters.ready),
        ]

        # Control → queues.
        m.d.comb += [
            queues.push.eq(control.push),
            queues.cancel.eq(control.cancel),
            queues.resume.eq(control.resume),
            queues.nudge.eq(control.nudge),
            queues.wake_all.eq(control.wake_all),
            queues.wake_changed.eq(control.wake_changed),
            queues.settings.eq(control.settings),
            queues.resetting.eq(control.resetting),
            control.full.eq(queues.full),
            control.idle.eq(queues.idle),
            control.empty.eq(queues.empty),
            control.halted.eq(queues.halted),
            control.waiting.eq(queues.waiting),
        ]
        m.d.comb += [queues.asker.eq(control.read_partition), control.room.eq(queues.room)]

        # Queues → front end.
        wiring.connect(m, queues.requests, front.requests)
        wiring.connect(m, front.verdicts, queues.verdicts)
        m.d.comb += [
            front.circumstances.eq(queues.circumstances),
            front.down.eq(down),
            queues.looking.eq(front.looking),
            queues.event_room.eq(events.event_room),
            # Nothing moves while the memory port is down, and every command is to end.
            queues.crowded.eq(engine.crowded & ~down),
        ]

        # Control → front end.
        wiring.connect(m, control.orders, front.orders)
        m.d.comb += [
            front.hold.eq(control.hold),
            front.new_entry.eq(control.new_entry),
            front.raw_source.eq(control.raw_source),
            front.raw_destination.eq(control.raw_destination),
            front.max_count.eq(control.max_count),
            front.query_id.eq(control.query_id),
            control.query_owner.eq(front.query_owner),
            control.query_valid.eq(front.query_valid),
            control.query_cursor.eq(front.query_cursor),
            control.query_head.eq(front.query_head),
            control.order_status.eq(front.order_status),
        ]

        # Front end ↔ grants.
        m.d.comb += [
            grants.partition.eq(front.grant_partition),
            front.grant.eq(grants.grant),
            grants.releasing.eq(front.releasing),
            front.grant_limit.eq(grants.limit),
            front.live.eq(grants.live),
            front.expired.eq(grants.expired),
            front.ending.eq(grants.ending),
            front.moving.eq(grants.moving),
            grants.give.eq(front.give),
            grants.target.eq(front.target),
            grants.leave.eq(front.leave),
            grants.started.eq(front.mvxl_started),
            queues.ends_grant.eq(front.leave),
        ]

        # Control ↔ grants.
        m.d.comb += [
            grants.revoke.eq(control.revoke),
            grants.force.eq(control.force | control.resetting),
            grants.lease.eq(control.lease),
            grants.reader.eq(control.read_ahead),
            control.revoked.eq(grants.revoked),
            control.live.eq(grants.live),
            control.expired.eq(grants.expired),
            control.ending.eq(grants.ending),
            control.held.eq(grants.held),
            control.busy.eq(grants.busy),
            control.for_cpu.eq(grants.for_cpu),
            control.hidden.eq(grants.hidden),
            control.fresh.eq(grants.fresh),
            control.grant.eq(grants.shown),
            control.grant_target.eq(grants.shown_target),
            control.grant_acknowledged.eq(grants.shown_acknowledged),
        ]

        # Front end → engine, completion, events.
        verdict = front.verdicts.payload
        wiring.connect(m, front.reads, engine.reads)
        wiring.connect(m, front.writes, engine.writes)
        wiring.connect(m, front.proposed, completion.proposed)
        wiring.connect(m, front.accepted, completion.accepted)
        m.d.comb += [
            control.accepted.eq(front.accepted.valid),
            events.started.en.eq(front.verdicts.valid & verdict.accepted & ~verdict.dropped),
            events.started.partition.eq(verdict.partition),
            events.quota_receiver.eq(front.quota_receiver),
            events.quota_sender.eq(front.quota_sender),
            events.reserve.eq(front.reserve),
            front.quota_room.eq(events.quota_room),
        ]

        # Engine ↔ watchdog.
        m.d.comb += [
            watchdog.due.eq(engine.due),
            watchdog.moved.eq(engine.moved),
            watchdog.timeout.eq(control.timeout),
            watchdog.up.eq(control.up),
            control.down.eq(down),
            control.channel.eq(watchdog.channel),
        ]

        # Engine → completion. The manager's move is an agent beside the partitions.
        manager_moves = Signal()
        retired = completion.retired
        with m.If(front.accepted.valid & (front.accepted.payload.kind == Kind.RAW)):
            m.d.sync += manager_moves.eq(1)
        with m.Elif(retired.en & (retired.kind == Kind.RAW)):
            m.d.sync += manager_moves.eq(0)
        all_idle = Signal()
        idle = Signal(config.agents)
        halt = Signal(config.agents)
        m.d.comb += [
            idle.eq(queues.idle),
            idle[config.manager].eq(~manager_moves),
            halt.eq(Mux(down, -1, control.resetting)),
        ]
        wiring.connect(m, engine.ends, completion.ends)
        wiring.connect(m, engine.responses, completion.responses)
        m.d.comb += [
            engine.write_error.eq(completion.write_error),
            engine.idle.eq(idle),
            engine.halt.eq(halt),
            engine.down.eq(down),
            completion.halted.eq(queues.halted),
            completion.resetting.eq(control.resetting),
            completion.down.eq(down),
            control.settled.eq(completion.settled & (~down | all_idle)),
        ]
        # The port does not go down unless something has been in flight for long.
        m.d.sync += all_idle.eq(queues.idle.all() & ~manager_moves)

        # Completion → lock, queues, grants.
        wiring.connect(m, completion.releases, front.releases)
        m.d.comb += [
            queues.wake_freed.en.eq(front.freed),
            queues.wake_freed.id.eq(front.freed_id),
            queues.completed.en.eq(completion.completed.en & completion.completed.command),
            queues.completed.partition.eq(completion.completed.partition),
            queues.completed.failed.eq(completion.completed.failed),
            queues.retired.en.eq(retired.en & (retired.kind != Kind.RAW)),
            queues.retired.partition.eq(retired.partition),
            grants.left.en.eq(retired.en & (retired.kind == Kind.RELEASE)),
            grants.left.partition.eq(retired.partition),
            grants.moved.eq(completion.moved),
        ]

        # Completion → events and counters, each at its own pace.
        takers = (events.completions, counters.completions)
        taken = Signal(len(takers))
        ready = Signal(len(takers))
        for i, taker in enumerate(takers):
            m.d.comb += [
                taker.valid.eq(completion.completions.valid & ~taken[i]),
                taker.payload.eq(completion.completions.payload),
                ready[i].eq(taken[i] | taker.ready),
            ]
        m.d.comb += [
            completion.completions.ready.eq(ready.all()),
            events.oncoming.eq(completion.oncoming),
        ]
        with m.If(completion.completions.valid):
            m.d.sync += taken.eq(Mux(ready.all(), 0, ready))

        # Completion, events, counters, fault log → control.
        m.d.comb += [
            control.retired.eq(retired.en),
            control.completed.en.eq(completion.completed.en),
            control.completed.partition.eq(completion.completed.partition),
            control.completed.kind.eq(completion.completed.kind),
            control.completed_status.eq(completion.completions.payload.status),
            control.room_freed.eq(events.room_freed),
            events.pop.eq(control.pop),
            events.compare.eq(control.compare),
            events.partition.eq(control.read_ahead),
            events.resetting.eq(control.resetting),
            events.clear.eq(control.events_clear),
            control.events_cleared.eq(events.cleared),
            control.reached.eq(events.reached),
            control.events_there.eq(events.some_waiting),
            control.event.eq(events.event),
            control.event_there.eq(events.event_there),
            control.completed_count.eq(events.completed),
            counters.snapshot.eq(control.snapshot),
            counters.sender.eq(control.counter_sender),
            counters.receiver.eq(control.counter_receiver),
            counters.none.eq(control.counter_none),
            counters.which.eq(control.counter_which),
            control.counter_value.eq(counters.value),
            control.snapshot_pending.eq(counters.pending),
            faults.read_fault.eq(engine.read_fault),
            faults.fault.eq(completion.fault),
            faults.write_violation.eq(control.write_violation),
            faults.read_violation.eq(control.read_violation),
            faults.clear.eq(control.fault_clear),
            faults.partition.eq(control.read_index),
            control.fault_valid.eq(faults.valid),
            control.fault_write.eq(faults.write),
            control.fault_status.eq(faults.status),
            control.fault_lost.eq(faults.lost),
            control.fault_address.eq(faults.address),
        ]
        for p in range(config.partitions):
            m.d.comb += control.events_waiting[p].eq(events.waiting[p])
        return m
