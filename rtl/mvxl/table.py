# SPDX-License-Identifier: Apache-2.0
"""The translation table: network ID → owner, base, length, rights, senders."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .config import AdapterConfig
from .memory import ScrubbedMemory
from .messages import Entry

__all__ = ["TranslationTable"]


class TranslationTable(wiring.Component):
    """Rows of the table, with one port for decisions and one that only tells the owner.

    Parameters
    ----------
    config : AdapterConfig

    Members
    -------
    ready : Out(1)
        After reset no entry is valid; this rises when that is so.
    id : In(config.id_bits)
        Row to look up, in every cycle.
    entry : Out(Entry)
        The row, a cycle later.
    query_id : In(config.id_bits)
    query_owner : Out(config.partition_bits)
    query_valid : Out(1)
        Owner and validity of the row, a cycle later.
    write_en : In(1)
    write_id : In(config.id_bits)
    write_entry : In(Entry)
        Replaces a whole row in one cycle; lookups see it from the next cycle on.
    """

    def __init__(self, config: AdapterConfig) -> None:
        self.config = config
        super().__init__({
            "ready": Out(1),
            "id": In(config.id_bits),
            "entry": Out(Entry(config)),
            "query_id": In(config.id_bits),
            "query_owner": Out(config.partition_bits),
            "query_valid": Out(1),
            "write_en": In(1),
            "write_id": In(config.id_bits),
            "write_entry": In(Entry(config)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        m.submodules.rows = rows = ScrubbedMemory(
            Entry(config), depth=config.entries, zeroed=True, registered=True)
        # The owners a second time: a second port to whole rows would double them all.
        m.submodules.owners = owners = ScrubbedMemory(
            config.partition_bits + 1, depth=config.entries, registered=True)
        for memory in (rows, owners):
            m.d.comb += [
                memory.write_en.eq(self.write_en),
                memory.write_row.eq(self.write_id),
            ]
        written = Signal(Entry(config))
        m.d.comb += [
            written.eq(self.write_entry),
            # Of a row that is not valid nothing else matters.
            written.valid.eq(self.write_entry.valid & rows.ready),
            rows.write_data.eq(written),
            owners.write_data.eq((written.owner << 1) | written.valid),
            rows.read_row[0].eq(self.id),
            owners.read_row[0].eq(self.query_id),
            self.ready.eq(rows.ready & owners.ready),
            self.entry.eq(rows.read_data[0]),
            self.query_valid.eq(owners.read_data[0][0]),
            self.query_owner.eq(owners.read_data[0][1:]),
        ]
        return m
