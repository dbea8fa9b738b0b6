# SPDX-License-Identifier: Apache-2.0
"""Who is next: the round robin of the queues, the order of those that wait, and WAIT_LIMIT."""

from __future__ import annotations

from amaranth.hdl import Array, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .config import WAIT_BITS, AdapterConfig
from .memory import ScrubbedMemory

__all__ = ["WEIGHT_BITS", "RoundRobin", "Seniority", "WaitTimer"]

#: Bits of a partition's weight.
WEIGHT_BITS = 4


class RoundRobin(wiring.Component):
    """A weighted round robin: a partition's turn is weight + 1 requests, if it has as many.

    Parameters
    ----------
    config : AdapterConfig

    Members
    -------
    eligible : In(config.partitions)
        Who may be chosen.
    any, chosen : Out(1), Out(config.partition_bits)
        Whether one may, and which: a cycle after `eligible`.
    issued : In(struct {en, partition})
        A request was issued; the choice takes account of it from the next but one cycle on.
    weight : In(struct {en, partition, weight})
        Sets a weight.
    """

    def __init__(self, config: AdapterConfig) -> None:
        self.config = config
        bits = config.partition_bits
        super().__init__({
            "eligible": In(config.partitions),
            "any": Out(1),
            "chosen": Out(bits),
            "issued": In(data.StructLayout({"en": 1, "partition": bits})),
            "weight": In(data.StructLayout({"en": 1, "partition": bits, "weight": WEIGHT_BITS})),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        partitions = self.config.partitions
        weights = Array(Signal(WEIGHT_BITS, name=f"weight_{p}") for p in range(partitions))
        with m.If(self.weight.en):
            m.d.sync += weights[self.weight.partition].eq(self.weight.weight)

        first = Signal(self.config.partition_bits)      # who is looked at first
        in_turn = Signal(partitions)                    # those from `first` on
        m.d.comb += in_turn.eq(self.eligible & (Const((1 << partitions) - 1) << first))
        m.d.sync += self.any.eq(self.eligible.any())
        for candidates in (self.eligible, in_turn):
            for p in reversed(range(partitions)):
                with m.If(candidates[p]):
                    m.d.sync += self.chosen.eq(p)

        issued = Signal.like(self.issued)
        left = Signal(WEIGHT_BITS)                      # requests left of the turn of `first`
        left_now = Signal(WEIGHT_BITS)
        m.d.sync += issued.eq(self.issued)
        m.d.comb += left_now.eq(
            Mux((issued.partition == first) & (left != 0), left - 1, weights[issued.partition]))
        with m.If(issued.en):
            m.d.sync += [left.eq(left_now), first.eq(issued.partition)]
            with m.If(left_now == 0):
                m.d.sync += first.eq(
                    Mux(issued.partition == partitions - 1, 0, issued.partition + 1))
        return m


class Seniority(wiring.Component):
    """Knows which of two partitions was served less recently, for every pair.

    Parameters
    ----------
    config : AdapterConfig

    Members
    -------
    served : In(config.partitions)
        Bit p: a command of partition p was accepted. At most one bit.
    partition : In(config.partition_bits)
    seniors : Out(config.partitions)
        Bit q: partition q was served before `partition`; combinational.
    """

    def __init__(self, config: AdapterConfig) -> None:
        self.config = config
        super().__init__({
            "served": In(config.partitions),
            "partition": In(config.partition_bits),
            "seniors": Out(config.partitions),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        everyone = range(self.config.partitions)
        # For i < j: i was served before j.
        before = {(i, j): Signal(name=f"before_{i}_{j}")
                  for i in everyone for j in everyone if i < j}
        for (i, j), i_first in before.items():
            with m.If(self.served[i]):
                m.d.sync += i_first.eq(0)
            with m.If(self.served[j]):
                m.d.sync += i_first.eq(1)
        for q in everyone:
            q_before = Array(
                0 if p == q else before[q, p] if q < p else ~before[p, q] for p in everyone)
            m.d.comb += self.seniors[q].eq(q_before[self.partition])
        return m


class WaitTimer(wiring.Component):
    """Measures how long heads have waited, and compares it with WAIT_LIMIT.

    One comparator serves all: the partition whose request is being decided when `looking` is high,
    the others in turn. A look takes three cycles: fetch, subtract, compare.

    Parameters
    ----------
    config : AdapterConfig

    Members
    -------
    ready : Out(1)
    limit : In(struct {en, partition, cycles})
        Sets WAIT_LIMIT (0: none). 0 before `ready`.
    looking : In(1)
        In this and the next two cycles `partition` is being decided; not again before these are
        over.
    partition : In(config.partition_bits)
    waiting : In(config.partitions)
        Bit p: the head of partition p waits, since the first look at it that found it not waiting.
    expired : Out(1)
        Two cycles after `looking`: the partition's limit has passed. From the decision that began
        the wait to this one there are at least as many cycles as the limit says.
    waited : Out(WAIT_BITS)
        Two cycles after `looking`: the cycles between these decisions; 0 if it does not wait.
    overdue : Out(config.partitions)
        Bit p: the limit of partition p has passed; high for a cycle once in a while.
    """

    def __init__(self, config: AdapterConfig) -> None:
        self.config = config
        bits = config.partition_bits
        super().__init__({
            "ready": Out(1),
            "limit": In(data.StructLayout({"en": 1, "partition": bits, "cycles": WAIT_BITS})),
            "looking": In(1),
            "partition": In(bits),
            "waiting": In(config.partitions),
            "expired": Out(1),
            "waited": Out(WAIT_BITS),
            "overdue": Out(config.partitions),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        m.submodules.limits = limits = ScrubbedMemory(
            WAIT_BITS, depth=config.partitions, zeroed=True)
        m.submodules.starts = starts = Memory(
            shape=WAIT_BITS, depth=config.partitions, init=[], attrs={"ram_style": "distributed"})
        read_start = starts.read_port(domain="comb")
        write_start = starts.write_port()
        now = Signal(WAIT_BITS)
        turn = Signal(config.partition_bits)
        m.d.sync += [
            now.eq(now + 1),
            turn.eq(Mux(turn == config.partitions - 1, 0, turn + 1)),
        ]
        m.d.comb += [
            self.ready.eq(limits.ready),
            limits.write_en.eq(self.limit.en),
            limits.write_row.eq(self.limit.partition),
            limits.write_data.eq(self.limit.cycles),
        ]

        # Fetch.
        fetched = Signal(config.partition_bits)
        m.d.comb += [
            fetched.eq(Mux(self.looking, self.partition, turn)),
            limits.read_row[0].eq(fetched),
            read_start.addr.eq(fetched),
        ]
        # Subtract.
        start = Signal(WAIT_BITS)
        limit = Signal(WAIT_BITS)
        subtracted = Signal(config.partition_bits)
        looked = Signal()
        m.d.sync += [
            start.eq(read_start.data),
            limit.eq(limits.read_data[0]),
            subtracted.eq(fetched),
            looked.eq(self.looking),
        ]
        # As long as it does not wait, each look may turn out to be the start.
        m.d.comb += [
            write_start.en.eq(looked & ~self.waiting.bit_select(self.partition, 1)),
            write_start.addr.eq(self.partition),
            write_start.data.eq(now),
        ]
        # Compare.
        elapsed = Signal(WAIT_BITS)
        compared_limit = Signal(WAIT_BITS)
        compared = Signal(config.partition_bits)
        over = Signal()
        m.d.sync += [
            elapsed.eq(now - start), compared_limit.eq(limit), compared.eq(subtracted)]
        m.d.comb += [
            over.eq((compared_limit != 0) & (elapsed >= compared_limit)),
            self.expired.eq(over & self.waiting.bit_select(self.partition, 1)),
            self.waited.eq(Mux(self.waiting.bit_select(self.partition, 1), elapsed, 0)),
        ]
        was_over = Signal()
        over_of = Signal(config.partition_bits)
        m.d.sync += [was_over.eq(over), over_of.eq(compared)]
        for p in range(config.partitions):
            m.d.sync += self.overdue[p].eq(was_over & self.waiting[p] & (over_of == p))
        return m
