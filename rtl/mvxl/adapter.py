# SPDX-License-Identifier: Apache-2.0
"""The adapter: its units in the order in which a message travels, and the wires between them."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .axi import AXI4LiteSignature, AXI4Signature
from .completion import CompletionUnit
from .config import AdapterConfig
from .control import Control
from .engine import Engine
from .events import EventUnit
from .faults import FaultLog
from .front import FrontEnd
from .messages import ChangeKind
from .queues import CommandQueues

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
        Reserved for the reset of single partitions, so that the module's ports are final. Nothing
        looks at it yet: tie it to 0.
    """

    def __init__(self, config: AdapterConfig) -> None:
        self.config = config
        self.control = Control(config)
        self.queues = CommandQueues(config)
        self.front = FrontEnd(config)
        self.engine = Engine(config)
        self.completion = CompletionUnit(config)
        self.events = EventUnit(config)
        self.faults = FaultLog(config)
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
        control, queues, front = self.control, self.queues, self.front
        engine, completion, events, faults = (
            self.engine, self.completion, self.events, self.faults)
        m.submodules.control = control
        m.submodules.queues = queues
        m.submodules.front = front
        m.submodules.engine = engine
        m.submodules.completion = completion
        m.submodules.events = events
        m.submodules.faults = faults

        # Ports.
        wiring.connect(m, wiring.flipped(self.s_axil), control.bus)
        wiring.connect(m, engine.bus, wiring.flipped(self.m_axi))
        m.d.comb += [
            self.irq.eq(control.irq),
            self.irq_manager.eq(control.irq_manager),
            control.ready.eq(front.ready & queues.ready & events.ready & faults.ready),
        ]

        # Control → queues.
        m.d.comb += [
            queues.push.eq(control.push),
            queues.cancel.eq(control.cancel),
            queues.resume.eq(control.resume),
            queues.nudge.eq(control.nudge),
            queues.wake_all.eq(control.wake_all),
            queues.settings.eq(control.settings),
            control.full.eq(queues.full),
            control.idle.eq(queues.idle),
            control.empty.eq(queues.empty),
            control.halted.eq(queues.halted),
            control.waiting.eq(queues.waiting),
        ]
        for p in range(self.config.partitions):
            m.d.comb += control.room[p].eq(queues.room[p])

        # Queues → front end.
        wiring.connect(m, queues.requests, front.requests)
        wiring.connect(m, front.verdicts, queues.verdicts)
        m.d.comb += [
            front.circumstances.eq(queues.circumstances),
            queues.looking.eq(front.looking),
            queues.event_room.eq(events.event_room),
            queues.crowded.eq(engine.crowded),
        ]

        # Control → front end.
        wiring.connect(m, control.changes, front.changes)
        m.d.comb += [
            front.max_count.eq(control.max_count),
            front.query_id.eq(control.query_id),
            control.query_owner.eq(front.query_owner),
            control.query_valid.eq(front.query_valid),
            control.query_cursor.eq(front.query_cursor),
            control.changed.eq(front.changed),
            queues.wake_changed.en.eq(
                front.changed & (control.changes.payload.kind == ChangeKind.REWIND)),
            queues.wake_changed.id.eq(control.changes.payload.id),
        ]

        # Front end → engine, completion, events.
        accepted = Signal()
        m.d.comb += accepted.eq(front.verdicts.valid & front.verdicts.payload.accepted)
        wiring.connect(m, front.reads, engine.reads)
        wiring.connect(m, front.writes, engine.writes)
        wiring.connect(m, front.accepted, completion.accepted)
        m.d.comb += [
            events.started.en.eq(accepted),
            events.started.partition.eq(front.verdicts.payload.partition),
            events.quota_receiver.eq(front.quota_receiver),
            events.quota_sender.eq(front.quota_sender),
            events.reserve.eq(front.reserve),
            front.quota_room.eq(events.quota_room),
        ]

        # Engine → completion.
        wiring.connect(m, engine.ends, completion.ends)
        wiring.connect(m, engine.responses, completion.responses)
        m.d.comb += [
            engine.write_error.eq(completion.write_error),
            engine.idle.eq(queues.idle),
            completion.halted.eq(queues.halted),
        ]

        # Completion → lock, queues, events, fault log, control.
        wiring.connect(m, completion.releases, front.releases)
        wiring.connect(m, completion.completions, events.completions)
        m.d.comb += [
            queues.wake_freed.en.eq(front.freed),
            queues.wake_freed.id.eq(front.freed_id),
            queues.completed.eq(completion.completed),
            control.accepted.eq(accepted),
            control.completed.eq(completion.completed.en),
            control.room_freed.eq(events.room_freed),
            events.pop.eq(control.pop),
            events.compare.eq(control.compare),
            events.partition.eq(control.read_partition),
            control.reached.eq(events.reached),
            control.event.eq(events.event),
            control.completed_count.eq(events.completed),
            faults.read_fault.eq(engine.read_fault),
            faults.fault.eq(completion.fault),
            faults.clear.eq(control.fault_clear),
            faults.partition.eq(control.read_index),
            control.fault_valid.eq(faults.valid),
            control.fault_write.eq(faults.write),
            control.fault_status.eq(faults.status),
            control.fault_lost.eq(faults.lost),
            control.fault_address.eq(faults.address),
        ]
        for p in range(self.config.partitions):
            m.d.comb += control.events_waiting[p].eq(events.waiting[p])
        return m
