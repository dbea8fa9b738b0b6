# SPDX-License-Identifier: Apache-2.0
"""The manager's fault log: a record per partition; the first fault wins, others are counted.

Faults are bus errors of commands, and accesses to privileged registers without privilege
(violations).
"""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .config import AdapterConfig
from .engine import fault_signature
from .memory import RowMemory
from .messages import Status
from .registers import violation_layout

__all__ = ["LOST_BITS", "FaultLog", "read_violations_waiting"]

#: Bits of the count of lost faults, which stays at its largest value.
LOST_BITS = 16


def read_violations_waiting(config: AdapterConfig) -> int:
    """Rows for read violations that wait, a power of two; there are always fewer.

    With F messages in flight, faults can come every 2 cycles for 4 * F + 4 cycles, and with write
    violations take every cycle of these; a read violation comes in every fifth.
    """
    return max(16, config.messages_in_flight)


class FaultLog(wiring.Component):
    """Records bus errors and violations for the manager; partitions are never told of addresses.

    One is taken in a cycle: a command's failure at once; a write violation in the first later
    cycle without a failure; read violations, in their order, in later cycles with neither. Which
    is the first one is a matter of when they are taken. It is recorded in the cycle behind that.

    None is missed if failures are at least 2 cycles apart, and at most
    n / 4 + `config.messages_in_flight` + 1 in any n cycles (the decisions of commands are at least
    4 cycles apart), write violations at least 2 cycles apart, and read violations 5.

    Parameters
    ----------
    config : AdapterConfig

    Members
    -------
    read_fault : In(struct {en, partition, address})
        A beat came with an error. It becomes a record when its command fails.
    fault : In(struct {en, partition, status, write, address})
        A command failed. The address counts for writes; for reads it is that of `read_fault`.
    write_violation, read_violation : In(struct {en, partition, address})
        An access was refused: as `registers.RegisterBank` tells it. It becomes a record with
        status NOT_PERMITTED and the register's offset in the page as address.
    clear : In(config.partitions)
        Bit p: drop partition p's record.
    valid : Out(config.partitions)
        Bit p: partition p has a record.
    partition : In(config.partition_bits)
        Whose record is read, combinational:
    write, status, lost, address : Out
        Direction (1: write), status, faults since, bus address (bytes) of the beat (reads) or
        burst (writes), or offset of the register. The address means something only if the record
        is valid.
    """

    def __init__(self, config: AdapterConfig) -> None:
        self.config = config
        super().__init__({
            "read_fault": In(fault_signature(config)),
            "fault": In(data.StructLayout({
                "en": 1, "partition": config.partition_bits, "status": Status, "write": 1,
                "address": config.address_bits})),
            "write_violation": In(violation_layout(config)),
            "read_violation": In(violation_layout(config)),
            "clear": In(config.partitions),
            "valid": Out(config.partitions),
            "partition": In(config.partition_bits),
            "write": Out(1),
            "status": Out(Status),
            "lost": Out(LOST_BITS),
            "address": Out(config.address_bits),
        })

    def _address_memory(self) -> Memory:
        return Memory(shape=self.config.address_bits, depth=self.config.partitions, init=[],
                      attrs={"ram_style": "distributed"})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        record = data.StructLayout({"write": 1, "status": Status, "lost": LOST_BITS})
        # Nothing here needs scrubbing: it is written before its record becomes valid.
        m.submodules.records = records = RowMemory(record, depth=config.partitions, reads=2)
        m.submodules.addresses = addresses = self._address_memory()
        m.submodules.pending = pending = self._address_memory()
        write_address, read_address = addresses.write_port(), addresses.read_port(domain="comb")
        write_pending, read_pending = pending.write_port(), pending.read_port(domain="comb")

        fault = Signal(self.fault.shape())
        m.d.sync += fault.eq(self._take(m, read_pending.data))
        known = Signal()
        old = Signal(record)
        new = Signal(record)
        m.d.comb += [
            write_pending.en.eq(self.read_fault.en),
            write_pending.addr.eq(self.read_fault.partition),
            write_pending.data.eq(self.read_fault.address),
            read_pending.addr.eq(self.fault.partition),
            known.eq((self.valid & ~self.clear).bit_select(fault.partition, 1)),
            records.read_row[0].eq(fault.partition),
            old.eq(records.read_data[0]),
            records.write_en.eq(fault.en),
            records.write_row.eq(fault.partition),
            records.write_data.eq(new),
            write_address.en.eq(fault.en & ~known),
            write_address.addr.eq(fault.partition),
            write_address.data.eq(fault.address),
        ]
        with m.If(known):
            m.d.comb += [new.eq(old), new.lost.eq(Mux(old.lost.all(), old.lost, old.lost + 1))]
        with m.Else():
            m.d.comb += [new.write.eq(fault.write), new.status.eq(fault.status)]
        m.d.sync += self.valid.eq(
            (self.valid & ~self.clear) | (fault.en << fault.partition))

        shown = Signal(record)
        m.d.comb += [
            records.read_row[1].eq(self.partition),
            read_address.addr.eq(self.partition),
            shown.eq(records.read_data[1]),
            self.write.eq(shown.write),
            self.status.eq(shown.status),
            self.lost.eq(shown.lost),
            self.address.eq(read_address.data),
        ]
        return m

    def _take(self, m: Module, read_address: Value) -> data.View:
        """What is taken in this cycle. `read_address`: of the read error of `fault.partition`."""
        place = data.StructLayout({
            name: shape for name, shape in violation_layout(self.config).members.items()
            if name != "en"})
        written = Signal(place)
        write_waits = Signal()
        rows = read_violations_waiting(self.config)
        m.submodules.reads = reads = Memory(
            shape=place, depth=rows, init=[], attrs={"ram_style": "distributed"})
        put, oldest = reads.write_port(), reads.read_port(domain="comb")
        read_waits = Signal()
        taken = Signal(self.fault.shape())
        m.d.comb += [
            put.en.eq(self.read_violation.en),
            put.data.partition.eq(self.read_violation.partition),
            put.data.address.eq(self.read_violation.address),
            # All rows never wait at once, so equal numbers mean that none does.
            read_waits.eq(put.addr != oldest.addr),
        ]
        m.d.sync += [
            put.addr.eq(put.addr + self.read_violation.en),
            oldest.addr.eq(oldest.addr + (read_waits & ~write_waits & ~self.fault.en)),
            write_waits.eq(self.write_violation.en | write_waits & self.fault.en),
        ]
        with m.If(self.write_violation.en):
            m.d.sync += [
                written.partition.eq(self.write_violation.partition),
                written.address.eq(self.write_violation.address),
            ]

        violation = Signal(place)
        m.d.comb += violation.eq(Mux(write_waits, written, oldest.data))
        with m.If(self.fault.en):
            m.d.comb += [
                taken.eq(self.fault),
                taken.address.eq(Mux(self.fault.write, self.fault.address, read_address)),
            ]
        with m.Else():
            m.d.comb += [
                taken.en.eq(write_waits | read_waits),
                taken.partition.eq(violation.partition),
                taken.status.eq(Status.NOT_PERMITTED),
                taken.write.eq(write_waits),
                taken.address.eq(violation.address),
            ]
        return taken
