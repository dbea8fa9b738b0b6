# SPDX-License-Identifier: Apache-2.0
"""The manager's fault log: a record per partition; the first fault wins, others are counted."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .config import AdapterConfig
from .engine import fault_signature
from .memory import ScrubbedMemory
from .messages import Status

__all__ = ["LOST_BITS", "FaultLog"]

#: Bits of the count of lost faults, which stays at its largest value.
LOST_BITS = 16


class FaultLog(wiring.Component):
    """Records bus errors for the manager; partitions are never told of addresses.

    Parameters
    ----------
    config : AdapterConfig

    Members
    -------
    ready : Out(1)
    read_fault : In(struct {en, partition, address})
        A beat came with an error. It becomes a record when its command fails.
    fault : In(struct {en, partition, status, write, address})
        A command failed. The address counts for writes; for reads it is that of `read_fault`.
    clear : In(config.partitions)
        Bit p: drop partition p's record.
    valid : Out(config.partitions)
        Bit p: partition p has a record.
    partition : In(config.partition_bits)
        Whose record is read, combinational:
    write, status, lost, address : Out
        Direction (1: write), status, faults since, bus address (bytes) of the beat (reads) or
        burst (writes). The address means something only if the record is valid.
    """

    def __init__(self, config: AdapterConfig) -> None:
        self.config = config
        super().__init__({
            "ready": Out(1),
            "read_fault": In(fault_signature(config)),
            "fault": In(data.StructLayout({
                "en": 1, "partition": config.partition_bits, "status": Status, "write": 1,
                "address": config.address_bits})),
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
        m.submodules.records = records = ScrubbedMemory(record, depth=config.partitions, reads=2)
        # Addresses need no scrubbing: each is written before its record becomes valid.
        m.submodules.addresses = addresses = self._address_memory()
        m.submodules.pending = pending = self._address_memory()
        write_address, read_address = addresses.write_port(), addresses.read_port(domain="comb")
        write_pending, read_pending = pending.write_port(), pending.read_port(domain="comb")

        known = Signal()
        old = Signal(record)
        new = Signal(record)
        m.d.comb += [
            self.ready.eq(records.ready),
            write_pending.en.eq(self.read_fault.en),
            write_pending.addr.eq(self.read_fault.partition),
            write_pending.data.eq(self.read_fault.address),
            read_pending.addr.eq(self.fault.partition),
            known.eq((self.valid & ~self.clear).bit_select(self.fault.partition, 1)),
            records.read_row[0].eq(self.fault.partition),
            old.eq(records.read_data[0]),
            records.write_en.eq(self.fault.en),
            records.write_row.eq(self.fault.partition),
            records.write_data.eq(new),
            write_address.en.eq(self.fault.en & ~known),
            write_address.addr.eq(self.fault.partition),
            write_address.data.eq(
                Mux(self.fault.write, self.fault.address, read_pending.data)),
        ]
        with m.If(known):
            m.d.comb += [new.eq(old), new.lost.eq(Mux(old.lost.all(), old.lost, old.lost + 1))]
        with m.Else():
            m.d.comb += [new.write.eq(self.fault.write), new.status.eq(self.fault.status)]
        m.d.sync += self.valid.eq(
            (self.valid & ~self.clear) | (self.fault.en << self.fault.partition))

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
