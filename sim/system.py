# SPDX-License-Identifier: Apache-2.0
"""What is simulated: an adapter with a memory, protocol checkers on both ports, and a trace.

The trace tells the order in which things reached the lock: requests that were decided, commands
that ended, changes of the table, of heads and of grants; and the cycles of register writes, resets
and leases that passed. Its clock is the memory log's.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

from amaranth.hdl import Array, Cat, ClockSignal, Instance, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from formal.axi4_checker import AXI4Checker
from formal.axil_checker import AXI4LiteChecker
from mvxl.adapter import Adapter
from mvxl.axi import AXI4LiteSignature, AXI4Signature
from mvxl.config import AdapterConfig
from mvxl.messages import Kind, OrderKind, Status
from mvxl.registers import register_map

from .memory import MEMORY_SOURCE, AXI4Memory

__all__ = ["SOURCES", "Record", "RecordKind", "System", "port_checkers", "read_trace"]

STROBE_BITS = 31    # of a record's word, beside one for `waiting`

#: Verilog that a simulator of `System` needs among its `sources`.
SOURCES = (MEMORY_SOURCE, Path(__file__).with_name("adapter_trace.sv"))


def port_checkers(adapter: Any) -> tuple[AXI4Checker, AXI4LiteChecker]:
    """Checkers of the adapter's memory port and register port, which report what is broken."""
    config = adapter.config
    return (
        AXI4Checker(
            adapter.m_axi.signature, reads_in_flight=config.reads_in_flight,
            writes_in_flight=config.writes_in_flight, burst_beats=config.burst_beats,
            data_ahead_bursts=2, manager="report", subordinate="report"),
        AXI4LiteChecker(
            AXI4LiteSignature(address_bits=config.register_address_bits), response_cycles=4,
            requests_in_flight=4, manager="report", subordinate="report"))


class System(wiring.Component):
    """Adapter, memory, checkers and trace.

    Parameters
    ----------
    config : AdapterConfig
    memory_bytes : int
        Size of the memory, which begins at address 0.
    adapter : wiring.Component, optional
        Another component with the ports of an `Adapter` in its place, and no trace of it.

    Members
    -------
    s_axil : In(AXI4LiteSignature)
    cpu : In(AXI4Signature)
        A processor's way to the memory, beside the adapter's.
    partition_reset : In(config.partitions)
    irq : Out(config.partitions)
    irq_manager : Out(1)
    memory_port_broken, register_port_broken : Out
        A bit for each rule of the checkers, set from when it was broken; `memory_port_rules` and
        `register_port_rules` name them.
    """

    def __init__(self, config: AdapterConfig, *, memory_bytes: int,
                 adapter: wiring.Component | None = None) -> None:
        self.config = config
        self.adapter: Any = Adapter(config) if adapter is None else adapter
        self.memory = AXI4Memory(
            address_bits=config.address_bits, data_bits=config.data_bits,
            user_bits=config.user_bits, size_bytes=memory_bytes)
        lite = AXI4LiteSignature(address_bits=config.register_address_bits)
        self.memory_checker, self.register_checker = port_checkers(self.adapter)
        self.memory_port_rules = self.memory_checker.rules
        self.register_port_rules = self.register_checker.rules
        super().__init__({
            "s_axil": In(lite),
            "cpu": In(AXI4Signature(
                address_bits=config.address_bits, data_bits=config.data_bits,
                user_bits=config.user_bits)),
            "partition_reset": In(config.partitions),
            "irq": Out(config.partitions),
            "irq_manager": Out(1),
            "memory_port_broken": Out(len(self.memory_port_rules)),
            "register_port_broken": Out(len(self.register_port_rules)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        adapter = self.adapter
        m.submodules.adapter = adapter
        m.submodules.memory = self.memory
        m.submodules.memory_checker = self.memory_checker
        m.submodules.register_checker = self.register_checker
        wiring.connect(m, wiring.flipped(self.s_axil), adapter.s_axil)
        wiring.connect(m, adapter.m_axi, self.memory.bus)
        wiring.connect(m, wiring.flipped(self.cpu), self.memory.cpu_bus)
        m.d.comb += [
            adapter.partition_reset.eq(self.partition_reset),
            self.memory_checker.watch(adapter.m_axi),
            self.register_checker.watch(adapter.s_axil),
            self.memory_port_broken.eq(self.memory_checker.failed),
            self.register_port_broken.eq(self.register_checker.failed),
            self.irq.eq(adapter.irq),
            self.irq_manager.eq(adapter.irq_manager),
        ]
        if isinstance(adapter, Adapter):
            # What asked for an order sees a cycle later that it is done; its payload stays as long.
            order_seen = Signal()
            orders = adapter.control.orders
            m.d.sync += order_seen.eq(orders.valid & orders.ready)
            m.submodules.trace = self._trace(adapter, order_seen)
        return m

    def _trace(self, adapter: Adapter, order_seen: Signal) -> Instance:
        control, front, completion = adapter.control, adapter.front, adapter.completion
        write, manager = control.bank.partition_write, control.bank.manager_write
        denied_write, denied_read = control.bank.write_violation, control.bank.read_violation
        verdict = front.verdicts.payload
        report, outcome = completion.completed, completion.completions.payload
        order = control.orders.payload
        events_waiting = Array(adapter.events.waiting)
        for page in (write, manager):
            strobes = len(page.strobe.as_value())
            if strobes > STROBE_BITS:
                raise ValueError(f"strobes of a page must fit into {STROBE_BITS} bits of the "
                                 f"trace, not {strobes}")
        return Instance(
            "adapter_trace", i_clk=ClockSignal(), i_rst=ResetSignal(),
            i_reset_pins=self.partition_reset,
            i_resetting=control.resetting,
            i_down=adapter.engine.down,
            i_denied_write_en=denied_write.en,
            i_denied_write_partition=denied_write.partition,
            i_denied_write_address=denied_write.address,
            i_denied_read_en=denied_read.en,
            i_denied_read_partition=denied_read.partition,
            i_denied_read_address=denied_read.address,
            i_write_en=write.strobe.as_value().any(),
            i_write_partition=write.partition,
            i_write_strobe=write.strobe.as_value(),
            i_write_waiting=events_waiting[write.partition] != 0,
            i_write_data=write.data,
            i_manager_en=manager.strobe.as_value().any(),
            i_manager_index=manager.index,
            i_manager_strobe=manager.strobe.as_value(),
            i_manager_data=manager.data,
            i_complete_en=report.en,
            i_complete_partition=report.partition,
            i_complete_outcome=Cat(outcome.status, outcome.tag, report.kind, report.dropped),
            i_retire_en=completion.retired.en,
            i_retire_partition=completion.retired.partition,
            i_retire_kind=completion.retired.kind,
            i_expired_en=adapter.grants.lapsed.en,
            i_expired_partition=adapter.grants.lapsed.partition,
            i_attempt_en=front.verdicts.valid,
            i_attempt_partition=verdict.partition,
            i_attempt_verdict=Cat(verdict.status, verdict.accepted, verdict.waits,
                                  verdict.blocked, verdict.dropped),
            i_order_en=order_seen,
            i_order_partition=order.partition,
            i_order_outcome=Cat(order.kind, front.order_status, order.id),
            i_order_count=order.count)


class RecordKind(IntEnum):
    """What a record of the trace tells. The numbers are those of sim/adapter_trace.sv."""

    WRITE = 0
    MANAGER_WRITE = 1
    COMPLETE = 2        #: The oldest of what was accepted has ended.
    ATTEMPT = 3         #: The head of a queue was decided.
    ORDER = 4           #: The table, a cursor, a head or a grant was changed, or was not.
    RETIRE = 5          #: The oldest of what was accepted is through with its lock.
    RESET_PINS = 6      #: partition_reset changed to `data`.
    RESETTING = 7       #: The partitions in reset changed to `data`.
    DOWN = 8            #: The memory port went down (`data` 1) or was taken up again (0).
    EXPIRED = 9         #: The lease of `partition`'s grant was found to have passed.
    DENIED = 10         #: A privileged register of `partition` was accessed without privilege.


class Record(NamedTuple):
    """A line of the trace; what does not belong to its kind is 0, "" or None.

    `partition` is the array index for MANAGER_WRITE. `register` and `data` are those of writes;
    `waiting`: an event of the partition waited when a register of it was written.
    `data` is the levels for RESET_PINS, RESETTING and DOWN, the count for ORDER, and the register's
    offset in its page for DENIED, where `write` tells the direction. `status` of an order is OK if
    it was carried out.
    """

    kind: RecordKind
    cycle: int
    partition: int = 0
    register: str = ""
    data: int = 0
    waiting: bool = False
    status: Status | None = None
    accepted: bool = False
    waits: bool = False
    blocked: bool = False
    dropped: bool = False
    tag: int = 0
    ended: Kind | None = None       # of COMPLETE and RETIRE
    order: OrderKind | None = None
    id: int = 0
    write: bool = False


_STATUSES = {status.value: status for status in Status}
_KINDS = {kind.value: kind for kind in Kind}
_ORDERS = {kind.value: kind for kind in OrderKind}


def read_trace(path: Path, config: AdapterConfig) -> Iterator[Record]:
    """The records of a trace, in order."""
    pages = register_map(config)
    written = list(pages.partition.strobes.members)
    managed = list(pages.manager.strobes.members)
    for cycle, number, partition, info, word in struct.iter_unpack("<5I", path.read_bytes()):
        match kind := RecordKind(number):
            case RecordKind.WRITE:
                strobe = info & (1 << STROBE_BITS) - 1
                yield Record(kind, cycle, partition, written[strobe.bit_length() - 1], word,
                             waiting=bool(info >> STROBE_BITS))
            case RecordKind.MANAGER_WRITE:
                yield Record(kind, cycle, partition, managed[info.bit_length() - 1], word)
            case RecordKind.COMPLETE:
                yield Record(kind, cycle, partition, status=_STATUSES[info & 31],
                             tag=info >> 5 & 255, ended=_KINDS[info >> 13 & 7],
                             dropped=bool(info >> 16 & 1))
            case RecordKind.ATTEMPT:
                yield Record(kind, cycle, partition, status=_STATUSES[info & 31],
                             accepted=bool(info >> 5 & 1), waits=bool(info >> 6 & 1),
                             blocked=bool(info >> 7 & 1), dropped=bool(info >> 8 & 1))
            case RecordKind.ORDER:
                yield Record(kind, cycle, partition, order=_ORDERS[info & 7], data=word,
                             status=_STATUSES[info >> 3 & 31], id=info >> 8)
            case RecordKind.RETIRE:
                yield Record(kind, cycle, partition, ended=_KINDS[info])
            case RecordKind.DENIED:
                yield Record(kind, cycle, partition, data=word, write=bool(info))
            case _:
                yield Record(kind, cycle, partition, data=word)
