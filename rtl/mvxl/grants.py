# SPDX-License-Identifier: Apache-2.0
"""The grants: destinations whose locks drivers hold, with their tokens and leases.

A partition has at most one grant. It is *live* from its decision on: its token is valid. It ends in
one of three ways: RELEASE, its lease, or an outside cause (the manager, a revoke, a reset). Then it
is *ending* until an order for its end is served, and held until that has come through the list of
what is in flight. A grant of kind CPU whose lease has passed is *expired* instead: its token is
not valid, but nobody can know that the processor stopped, so it stays held until the manager ends
it.
"""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .config import OFFSET_BITS, WAIT_BITS, AdapterConfig
from .memory import BlockMemory, RowMemory
from .messages import Grant, GrantKind

__all__ = ["GrantUnit", "Target"]


class Target(data.StructLayout):
    """Where a processor may write: `first` bytes at `address`, the rest (of a ring) at `next`."""

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__({
            "address": config.address_bits,
            "first": OFFSET_BITS,
            "next": config.address_bits,
        })


class GrantUnit(wiring.Component):
    """Keeps every partition's grant.

    Parameters
    ----------
    config : AdapterConfig

    Members
    -------
    partition : In(config.partition_bits)
        Whose grant the front end looks at.
    grant : Out(Grant)
        Two cycles later: its grant, or the last one it had. Without `kind` and `src_id`. Anything
        if one was given in the cycle before the look, or in the same one.
    releasing : In(1)
        The front end looks at it for a RELEASE.
    limit : Out(32)
        Three cycles later: bytes that an MVXL, or a RELEASE, may name. All of the grant; but for a
        RELEASE of kind ENGINE those that were moved and acknowledged, from its start and without a
        gap: anything, then, if `moving`.
    moving : Out(1)
        Its GRANT, or an MVXL under it, is in flight, or was until now.
    live, expired, ending, held : Out(config.partitions)
        Bit p: partition p's grant is so; `held` is all that a grant can be.
    busy : Out(config.partitions)
        Bit p: the GRANT, or an MVXL, of partition p is in flight.
    for_cpu : Out(config.partitions)
        Bit p: the last grant of partition p is of kind CPU.
    hidden : Out(config.partitions)
        Bit p: what would be shown of partition p's grant may be another one's.
    give : In(struct {en, partition, grant})
        Partition p, which has none, gets a grant. The token in `grant` does not count: it is one
        more than that of the last grant, which is looked at. Its `receiver` and `src_address` stay
        for a second cycle.
    target : In(Target)
        Of the grant that was given in the cycle before.
    leave : In(struct {en, partition})
        The grant has been ended; it stays held until `left`.
    started, left : In(struct {en, partition})
        An MVXL was accepted; the end of a grant is through.
    moved : In(struct {en, partition, first, good, offset, count})
        A GRANT (`first`) or an MVXL of the partition is through; `good`: it ended OK. A grant whose
        GRANT did not ends. At most every third cycle; `offset` stays for a second one.
    revoke : In(struct {en, id})
        Entry `id` was made invalid: grants on it end.
    revoked : Out(1)
        No revoke is still being carried out.
    force : In(config.partitions)
        Bit p: end partition p's grant.
    lease : In(32)
        Cycles after which a grant expires; 0: never.
    lapsed : Out(struct {en, partition})
        A grant was found to have passed its lease.
    reader : In(config.partition_bits)
        Whose grant is shown.
    shown, shown_target : Out
        Two cycles later. Anything, if it was hidden in the cycle between. Of `shown` only `token`,
        `src_address`, `dst_id`.
    shown_acknowledged : Out(32)
        Two cycles later; anything if its grant was `fresh` in the cycle between.
    fresh : Out(config.partitions)
        Bit p: the GRANT of partition p is not through, so that nothing is acknowledged.
    """

    def __init__(self, config: AdapterConfig) -> None:
        self.config = config
        bits = config.partition_bits
        everyone = config.partitions
        event = data.StructLayout({"en": 1, "partition": bits})
        super().__init__({
            "partition": In(bits),
            "grant": Out(Grant(config)),
            "releasing": In(1),
            "limit": Out(OFFSET_BITS),
            "moving": Out(1),
            "live": Out(everyone),
            "expired": Out(everyone),
            "ending": Out(everyone),
            "held": Out(everyone),
            "busy": Out(everyone),
            "for_cpu": Out(everyone),
            "hidden": Out(everyone),
            "give": In(data.StructLayout(
                {"en": 1, "partition": bits, "grant": Grant(config)})),
            "target": In(Target(config)),
            "leave": In(event),
            "started": In(event),
            "left": In(event),
            "moved": In(data.StructLayout({
                "en": 1, "partition": bits, "first": 1, "good": 1,
                "offset": OFFSET_BITS, "count": OFFSET_BITS})),
            "revoke": In(data.StructLayout({"en": 1, "id": config.id_bits})),
            "revoked": Out(1),
            "force": In(everyone),
            "lease": In(WAIT_BITS),
            "lapsed": Out(event),
            "reader": In(bits),
            "shown": Out(Grant(config)),
            "shown_target": Out(Target(config)),
            "shown_acknowledged": Out(OFFSET_BITS),
            "fresh": Out(everyone),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        everyone = range(config.partitions)

        # What a partition had last stays, so that its next token is another one: after a reset,
        # too, and whatever it was. Every read has a second row of flops behind it, which block RAM
        # has inside: it is slow from clock to output.
        place = Grant(config)
        record = data.StructLayout({name: place.members[name] for name in (
            "token", "src_address", "dst_id", "receiver", "notify")})
        extent = data.StructLayout({name: place.members[name] for name in (
            "position", "count", "tag")})
        # Wide enough for block RAM, however few they are.
        depth = max(4, config.partitions)
        m.submodules.records = records = BlockMemory(record, depth=depth, reads=2)
        m.submodules.extents = extents = BlockMemory(extent, depth=depth)
        m.submodules.targets = targets = BlockMemory(Target(config), depth=config.partitions)
        given = self.give.grant
        given_before = Signal(data.StructLayout({
            "en": 1, "partition": config.partition_bits, "dst_id": config.id_bits, "notify": 1}))
        given_earlier = Signal(config.partitions)
        reader_before = Signal(config.partition_bits)
        reader_earlier = Signal(config.partition_bits)
        m.d.sync += [
            given_before.en.eq(self.give.en), given_before.partition.eq(self.give.partition),
            given_before.dst_id.eq(given.dst_id), given_before.notify.eq(given.notify),
            given_earlier.eq(given_before.en << given_before.partition),
            reader_before.eq(self.reader), reader_earlier.eq(reader_before),
        ]
        # The extent goes first: its tag is there for one cycle only. The token is one more than the
        # last one, which is looked at.
        m.d.comb += [
            self.hidden.eq((given_before.en << given_before.partition) | given_earlier),
            extents.write_en.eq(self.give.en),
            extents.write_row.eq(self.give.partition),
            *(extents.write_data[name].eq(given[name]) for name in extent.members),
            records.write_en.eq(given_before.en),
            records.write_row.eq(given_before.partition),
            records.write_data.token.eq(self.grant.token + 1),
            records.write_data.src_address.eq(given.src_address),
            records.write_data.dst_id.eq(given_before.dst_id),
            records.write_data.receiver.eq(given.receiver),
            records.write_data.notify.eq(given_before.notify),
            targets.write_en.eq(given_before.en),
            targets.write_row.eq(given_before.partition),
            targets.write_data.eq(self.target),
            extents.read_row[0].eq(self.partition),
            records.read_row[0].eq(self.partition),
            records.read_row[1].eq(self.reader),
            targets.read_row[0].eq(self.reader),
        ]
        m.d.sync += [
            *(self.grant[name].eq(extents.read_data[0][name]) for name in extent.members),
            *(self.grant[name].eq(records.read_data[0][name]) for name in record.members),
            *(self.shown[name].eq(records.read_data[1][name])
              for name in ("token", "src_address", "dst_id")),
            self.shown_target.eq(targets.read_data[0]),
        ]

        # Acknowledged bytes: written when a GRANT or an MVXL is through, in three steps: sum,
        # compare, write. The front end looks when neither is under way, so that it never reads what
        # is being written.
        m.submodules.acknowledged = acknowledged = RowMemory(
            OFFSET_BITS, depth=config.partitions, reads=2)
        m.submodules.decided_on = decided_on = BlockMemory(OFFSET_BITS, depth=config.partitions)
        summed = Signal(data.StructLayout(
            {"en": 1, "partition": config.partition_bits, "first": 1, "good": 1}))
        moved_end = Signal(OFFSET_BITS + 1)
        known = Signal(OFFSET_BITS)
        through = Signal.like(summed)
        reaches = Signal()      # no gap before it
        exceeds = Signal()      # not all of it is known already
        tells = Signal()
        was_moving = Signal(2)      # in the two cycles before
        known_then = Signal(OFFSET_BITS)
        by_known = Signal()
        m.d.comb += [
            tells.eq(through.first | (through.good & reaches & exceeds)),
            acknowledged.read_row[0].eq(self.moved.partition),
            acknowledged.read_row[1].eq(reader_earlier),
            decided_on.read_row[0].eq(self.partition),
            self.shown_acknowledged.eq(acknowledged.read_data[1]),
        ]
        m.d.sync += [
            *(summed[name].eq(self.moved[name]) for name in summed.shape().members),
            through.eq(summed),
            known.eq(acknowledged.read_data[0]),
            reaches.eq(self.moved.offset <= known),
            exceeds.eq(moved_end > known),
            # Both as of the same time; and a cycle longer, because what is read while it is written
            # is anything.
            known_then.eq(decided_on.read_data[0]),
            self.limit.eq(Mux(by_known, known_then, self.grant.count)),
            by_known.eq(self.releasing & ~self.for_cpu.bit_select(self.partition, 1)),
            was_moving.eq(Cat(self.busy.bit_select(self.partition, 1), was_moving)),
            self.moving.eq(was_moving.any() | self.busy.bit_select(self.partition, 1)),
        ]
        with m.If(self.moved.en):
            m.d.sync += moved_end.eq(
                Mux(self.moved.first, 0, self.moved.offset + self.moved.count))
        for memory in (acknowledged, decided_on):
            m.d.comb += [
                memory.write_row.eq(through.partition),
                memory.write_data.eq(moved_end),
                memory.write_en.eq(through.en & tells),
            ]

        # Leases and revokes: a record a cycle is looked at, in turn. Fetch in two cycles, subtract,
        # compare, judge. The destinations are apart, because one block RAM holds the rest then.
        lease = data.StructLayout({"start": WAIT_BITS, "src_id": config.id_bits})
        lookup = data.StructLayout({**lease.members, "dst_id": config.id_bits})
        m.submodules.leases = leases = BlockMemory(lease, depth=config.partitions)
        m.submodules.destinations = destinations = RowMemory(
            config.id_bits, depth=config.partitions, registered=True)
        now = Signal(WAIT_BITS)
        turn = Signal(config.partition_bits)
        fetched_for = Signal(config.partition_bits)
        fetched_anew = Signal()     # it is not one that a new grant was about to replace
        fetched = Signal(lookup)
        fetched_at = Signal(config.partition_bits)
        fetched_still = Signal()
        looked = Signal(lookup)
        looked_at = Signal(config.partition_bits)
        looked_anew = Signal()
        elapsed = Signal(WAIT_BITS)

        def is_given(partition: Value) -> Value:
            return self.give.en & (self.give.partition == partition)

        m.d.comb += [
            leases.write_en.eq(self.give.en),
            leases.write_row.eq(self.give.partition),
            leases.write_data.start.eq(now),
            leases.write_data.src_id.eq(self.give.grant.src_id),
            leases.read_row[0].eq(turn),
            destinations.write_en.eq(self.give.en),
            destinations.write_row.eq(self.give.partition),
            destinations.write_data.eq(self.give.grant.dst_id),
            destinations.read_row[0].eq(turn),
        ]
        m.d.sync += [
            now.eq(now + 1),
            turn.eq(Mux(turn == config.partitions - 1, 0, turn + 1)),
            fetched_for.eq(turn),
            fetched_anew.eq(~is_given(turn)),
            fetched.start.eq(leases.read_data[0].start),
            fetched.src_id.eq(leases.read_data[0].src_id),
            fetched.dst_id.eq(destinations.read_data[0]),
            fetched_at.eq(fetched_for),
            fetched_still.eq(fetched_anew & ~is_given(fetched_for)),
            looked.eq(fetched),
            looked_at.eq(fetched_at),
            looked_anew.eq(fetched_still & ~is_given(fetched_at)),
            elapsed.eq(now - fetched.start),
        ]

        revoking = Signal(config.id_bits)
        records_left = Signal(range(config.partitions + 5))     # for the revoke to look at
        m.d.comb += self.revoked.eq((records_left == 0) & ~self.revoke.en)
        with m.If(self.revoke.en):
            # Four more: those that have been fetched already do not count, and the last is judged.
            m.d.sync += [revoking.eq(self.revoke.id), records_left.eq(config.partitions + 4)]
        with m.Elif(records_left != 0):
            m.d.sync += records_left.eq(records_left - 1)

        is_engine = Signal()
        passed = Signal()
        lost_source = Signal()
        lost_destination = Signal()
        judged_at = Signal(config.partition_bits)
        judged_anew = Signal()
        m.d.sync += [
            is_engine.eq(~self.for_cpu.bit_select(looked_at, 1)),
            passed.eq((self.lease != 0) & (elapsed >= self.lease)),
            lost_source.eq((records_left != 0) & (looked.src_id == revoking)),
            lost_destination.eq((records_left != 0) & (looked.dst_id == revoking)),
            judged_at.eq(looked_at),
            judged_anew.eq(looked_anew & ~is_given(looked_at)),
        ]

        # States.
        leaving = Signal(config.partitions)
        counts = Array(
            Signal(config.message_count_bits, name=f"moving_{p}") for p in everyone)
        m.d.comb += self.held.eq(self.live | self.expired | self.ending | leaving)
        for p in everyone:
            started = Signal(name=f"started_{p}")
            ends = Signal(name=f"through_{p}")
            mine = Signal(name=f"judged_{p}")
            ended = Signal(name=f"ended_{p}")
            lapses = Signal(name=f"lapses_{p}")
            has_one = Signal(name=f"has_one_{p}")
            failed = Signal(name=f"failed_{p}")
            m.d.comb += [
                mine.eq((judged_at == p) & judged_anew),
                ended.eq(self.force[p] | (self.leave.en & (self.leave.partition == p))),
                lapses.eq(mine & passed & self.live[p] & ~self.busy[p] & ~ended),
                has_one.eq(self.live[p] | self.expired[p]),
                failed.eq(ends & through.first & ~through.good),
            ]
            with m.If(lapses):
                m.d.comb += [self.lapsed.en.eq(1), self.lapsed.partition.eq(p)]
            with m.If(self.give.en & (self.give.partition == p)):
                m.d.sync += [
                    self.fresh[p].eq(1), self.for_cpu[p].eq(self.give.grant.kind == GrantKind.CPU)]
            with m.Elif(ends & through.first):
                m.d.sync += self.fresh[p].eq(0)
            with m.If(self.left.en & (self.left.partition == p)):
                m.d.sync += leaving[p].eq(0)
            with m.If(self.leave.en & (self.leave.partition == p)):
                m.d.sync += [
                    self.live[p].eq(0), self.expired[p].eq(0), self.ending[p].eq(0),
                    leaving[p].eq(1)]
            with m.Elif(self.give.en & (self.give.partition == p)):
                m.d.sync += self.live[p].eq(1)
            with m.Elif(has_one & (self.force[p] | failed | (mine & (
                    lost_destination | (is_engine & lost_source))) | (lapses & is_engine))):
                m.d.sync += [self.live[p].eq(0), self.expired[p].eq(0), self.ending[p].eq(1)]
            with m.Elif(self.live[p] & (lapses | (mine & lost_source))):
                m.d.sync += [self.live[p].eq(0), self.expired[p].eq(1)]

            m.d.comb += [
                started.eq((self.started.en & (self.started.partition == p))
                           | (self.give.en & (self.give.partition == p))),
                ends.eq(through.en & (through.partition == p)),
                self.busy[p].eq(counts[p] != 0),
            ]
            with m.If(started ^ ends):
                m.d.sync += counts[p].eq(counts[p] + Mux(ends, -1, 1))
        return m
