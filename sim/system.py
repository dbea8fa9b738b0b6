# SPDX-License-Identifier: Apache-2.0
"""What is simulated: an adapter with a memory, protocol checkers on both ports, and a trace.

The trace tells the order in which things reached the lock: requests that were decided, commands
that ended, changes of the table; and the cycles of register writes. Its clock is the memory log's.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from amaranth.hdl import Cat, ClockSignal, Instance, Module, ResetSignal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from formal.axi4_checker import AXI4Checker
from formal.axil_checker import AXI4LiteChecker
from mvxl.adapter import Adapter
from mvxl.axi import AXI4LiteSignature
from mvxl.config import AdapterConfig
from mvxl.messages import ChangeKind, Status
from mvxl.registers import register_map

from .memory import MEMORY_SOURCE, AXI4Memory

__all__ = ["SOURCES", "Record", "RecordKind", "System", "port_checkers", "read_trace"]

#: Verilog that a simulator of `System` needs among its `sources`.
SOURCES = (MEMORY_SOURCE, Path(__file__).with_name("adapter_trace.sv"))


def port_checkers(adapter: Adapter) -> tuple[AXI4Checker, AXI4LiteChecker]:
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

    Members
    -------
    s_axil : In(AXI4LiteSignature)
    irq : Out(config.partitions)
    irq_manager : Out(1)
    memory_port_broken, register_port_broken : Out
        A bit for each rule of the checkers, set from when it was broken; `memory_port_rules` and
        `register_port_rules` name them.
    """

    def __init__(self, config: AdapterConfig, *, memory_bytes: int) -> None:
        self.config = config
        self.adapter = Adapter(config)
        self.memory = AXI4Memory(
            address_bits=config.address_bits, data_bits=config.data_bits,
            user_bits=config.user_bits, size_bytes=memory_bytes)
        lite = AXI4LiteSignature(address_bits=config.register_address_bits)
        self.memory_checker, self.register_checker = port_checkers(self.adapter)
        self.memory_port_rules = self.memory_checker.rules
        self.register_port_rules = self.register_checker.rules
        super().__init__({
            "s_axil": In(lite),
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
        m.d.comb += [
            self.memory_checker.watch(adapter.m_axi),
            self.register_checker.watch(adapter.s_axil),
            self.memory_port_broken.eq(self.memory_checker.failed),
            self.register_port_broken.eq(self.register_checker.failed),
            self.irq.eq(adapter.irq),
            self.irq_manager.eq(adapter.irq_manager),
        ]
        m.submodules.trace = self._trace()
        return m

    def _trace(self) -> Instance:
        control, front, completion = (
            self.adapter.control, self.adapter.front, self.adapter.completion)
        write, manager = control.bank.partition_write, control.bank.manager_write
        verdict = front.verdicts.payload
        report, outcome = completion.completed, completion.completions.payload
        change = control.changes.payload
        return Instance(
            "adapter_trace", i_clk=ClockSignal(), i_rst=ResetSignal(),
            i_write_en=write.strobe.as_value().any(),
            i_write_partition=write.partition,
            i_write_strobe=write.strobe.as_value(),
            i_write_data=write.data,
            i_manager_en=manager.strobe.as_value().any(),
            i_manager_index=manager.index,
            i_manager_strobe=manager.strobe.as_value(),
            i_manager_data=manager.data,
            i_attempt_en=front.verdicts.valid,
            i_attempt_partition=verdict.partition,
            i_attempt_verdict=Cat(verdict.status, verdict.accepted, verdict.waits,
                                  verdict.blocked),
            i_complete_en=report.en,
            i_complete_partition=report.partition,
            i_complete_outcome=Cat(outcome.status, outcome.tag),
            i_change_en=control.changes.valid & control.changes.ready,
            i_change_partition=change.partition,
            i_change_done=Cat(change.kind, front.changed),
            i_change_id=change.id)


class RecordKind(IntEnum):
    """What a record of the trace tells."""

    WRITE = 0
    MANAGER_WRITE = 1
    COMPLETE = 2
    ATTEMPT = 3
    CHANGE = 4


@dataclass(frozen=True, kw_only=True)
class Record:
    """A line of the trace; what does not belong to its kind is 0, "" or None.

    `partition` is the array index for MANAGER_WRITE. `done`: a change was carried out (a rewind
    may be refused). `register` and `data` are those of writes.
    """

    kind: RecordKind
    cycle: int
    partition: int = 0
    register: str = ""
    data: int = 0
    status: Status | None = None
    accepted: bool = False
    waits: bool = False
    blocked: bool = False
    tag: int = 0
    change: ChangeKind | None = None
    id: int = 0
    done: bool = False


def read_trace(path: Path, config: AdapterConfig) -> Iterator[Record]:
    """The records of a trace, in order."""
    pages = register_map(config)
    names = {kind: list(page.strobes.members) for kind, page in (
        (RecordKind.WRITE, pages.partition), (RecordKind.MANAGER_WRITE, pages.manager))}
    for cycle, number, partition, info, word in struct.iter_unpack("<5I", path.read_bytes()):
        kind = RecordKind(number)
        details: dict[str, Any] = {}
        if kind in names:
            details = {"register": names[kind][info.bit_length() - 1], "data": word}
        elif kind is RecordKind.COMPLETE:
            details = {"status": Status(info & 31), "tag": info >> 5}
        elif kind is RecordKind.ATTEMPT:
            details = {"status": Status(info & 31), "accepted": bool(info >> 5 & 1),
                       "waits": bool(info >> 6 & 1), "blocked": bool(info >> 7 & 1)}
        else:
            details = {"change": ChangeKind(info & 3), "done": bool(info >> 2 & 1), "id": word}
        yield Record(kind=kind, cycle=cycle, partition=partition, **details)
