# SPDX-License-Identifier: Apache-2.0
"""Where the front end places a message: in one piece or, round a ring's end, in two (SPEC G3).

The front end's own equations between its lookups and its outputs are taken out of it and put
beside its bounds checker. What a lookup gives, and what a request asks for, is free if it is legal;
what is there before the lookup, or in the next slot, is anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType
from typing import Any

from amaranth.asserts import AnyConst, AnySeq, Initial
from amaranth.hdl import (
    Assert, Assume, Const, Cover, Elaboratable, Fragment, Module, Mux, ResetSignal, Signal, Value)

from mvxl import front
from mvxl.bounds import BoundsChecker
from mvxl.config import ENTRY_UNIT_BYTES, AdapterConfig
from mvxl.lock import LockUnit
from mvxl.messages import Op, OrderKind
from mvxl.table import TranslationTable

from .run import Job

__all__ = ["KINDS", "RingSpec", "jobs"]

_OPS = {"send": Op.SEND, "mvcl": Op.MVCL, "grant": Op.GRANT, "mvxl": Op.MVXL, "release": Op.SEND}

#: Local signals of the front end at which its equations are cut: they tell what a slot is for,
#: and how far it is.
_CUTS = ("step", "starting", "order_first", "at_decision", "at_source", "ordering", "is_send",
         "is_mvcl", "is_grant", "is_mvxl", "is_move", "is_ending", "is_given", "under_grant",
         "partition", "moves")

#: What places a range in an entry, and in which step of its slot it is decided.
KINDS = {"send": 3, "mvcl": 3, "grant": 3, "mvxl": 8, "release": 6}

#: Cycles from a slot's first one to the last one in which it has an effect, at most.
_CYCLES = max(KINDS.values()) + 2


class RingSpec(Elaboratable):
    """What becomes of a range in an entry, from its lookup to the spans that the engine gets.

    Parameters
    ----------
    config : AdapterConfig
    kind : str
        What the slot is for: one of `KINDS`.
    module : module
        The one whose front end it is.
    """

    def __init__(self, config: AdapterConfig, kind: str, module: ModuleType = front) -> None:
        self._config = config
        self._kind = kind
        self._module = module

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        unit = self._module.FrontEnd(config)
        inner = Fragment.get(unit, platform)
        parts: dict[type, Any] = {}
        for part, *_ in inner.subfragments:
            parts |= {type(origin): origin for origin in part.origins or ()}
            if BoundsChecker in (type(origin) for origin in part.origins or ()):
                m.submodules.bounds = part
        bounds, table, lock = (parts[kind] for kind in (BoundsChecker, TranslationTable, LockUnit))
        local = {name: _local(inner, name, lock) for name in (*_CUTS, "next_position")}
        writes = unit.writes
        m.submodules.equations = _equations(
            inner, (unit.reads.payload.as_value(), writes.valid, writes.payload.as_value(),
                    unit.target.as_value(), local["next_position"],
                    *(getattr(bounds, name) for name in
                      ("en", "limit", "used", "count", "base", "offset", "length"))),
            [local[name] for name in _CUTS])

        # A slot from its first cycle on. In the cycle after the decision the next one begins.
        kinds = {name: Const(name == self._kind, 1) for name in KINDS}
        decision = KINDS[self._kind]
        time = Signal(range(_CYCLES + 2))
        decided = Signal()
        over = Signal()         # what the slot was for is known no longer
        row, command, grant = table.entry, unit.requests.payload.command, unit.grant
        count = Signal(32)
        source_base, own_base = Signal(config.base_bits), Signal(config.base_bits)
        under_grant = kinds["mvxl"] | kinds["release"]
        # The rows of source and destination; the grant, which is looked up first, and its row.
        at_source = (time == 1) | ((time == 6) & kinds["mvxl"])
        own_row = (time >= (4 if self._kind in ("mvxl", "release") else 2)) & ~over
        m.d.sync += time.eq(Mux(time == _CYCLES + 1, time, time + 1))

        def known(there: Value, value: Value) -> Value:
            """The value where it is `there`, and anything elsewhere."""
            return Mux(there, value, AnySeq(len(value)))

        def given(signal: Signal, there: Value) -> Signal:
            """What `signal` is where it is `there`: anything, but the same in every cycle."""
            value = Signal(len(signal), name="given")
            m.d.comb += [value.eq(AnyConst(len(signal))), signal.eq(known(there, value))]
            return value

        row_length, ring = given(row.length, own_row), given(row.ring, own_row)
        dst_offset, src_offset = (
            given(signal, time <= decision) for signal in (command.dst_offset, command.src_offset))
        lock_position, filled = (       # in the cycle of the capture only
            given(signal, time == 1) for signal in (lock.position, lock.filled))
        src_address, grant_position = (
            given(signal, (time >= 3) & ~over) for signal in (grant.src_address, grant.position))
        grant_count = given(unit.grant_limit, (time >= 4) & ~over)
        m.d.comb += [
            Assume(ResetSignal() == Initial()),
            decided.eq(time == decision),
            over.eq(time > decision + 1),
            local["step"].eq(Mux(time <= decision, time,
                                 known(time == decision + 1, Const(0, len(local["step"]))))),
            local["starting"].eq(Mux(time <= decision, time == 0,
                                     known(time == decision + 1, Const(1, 1)))),
            local["order_first"].eq(known(time <= decision, kinds["release"])),
            local["ordering"].eq(known(~over, kinds["release"] & (time > 0) & (time <= decision))),
            local["at_source"].eq(known(~over, at_source)),
            local["at_decision"].eq(decided),
            local["is_move"].eq(known(~over, Const(0, 1))),
            local["is_given"].eq(known(~over, kinds["mvcl"] | kinds["mvxl"])),
            local["under_grant"].eq(known(~over, under_grant)),
            local["partition"].eq(AnySeq(len(local["partition"]))),
            local["is_ending"].eq(known(~over, kinds["release"])),
            *(local[f"is_{name}"].eq(known(~over, kinds[name]))
              for name in ("send", "mvcl", "grant", "mvxl")),
            local["moves"].eq(decided & bounds.fits & ~kinds["release"]),
            command.op.eq(known(time <= decision, Const(_OPS[self._kind].value, 4))),
            command.count.eq(known(time <= decision, count)),
            unit.orders.payload.kind.eq(OrderKind.RELEASE),
            unit.orders.payload.count.eq(known(time <= decision, count)),
            count.eq(AnyConst(32)),
            row.base.eq(known(own_row | at_source,
                              Mux(at_source & ~kinds["mvxl"], source_base, own_base))),
            source_base.eq(AnyConst(config.base_bits)),
            own_base.eq(AnyConst(config.base_bits)),
        ]

        # In bytes, as integers that never wrap.
        bits = config.address_bits + 3
        base, length, position, start, end = (
            Signal(bits, name=name) for name in ("base", "length", "position", "start", "end"))
        held = kinds["mvxl"] | kinds["release"]     # under a grant
        reached = Signal(bits)                      # behind the range, as if nothing went round
        m.d.comb += [
            base.eq(own_base * ENTRY_UNIT_BYTES),
            length.eq(row_length * ENTRY_UNIT_BYTES),
            position.eq(Mux(kinds["mvcl"], dst_offset, _round(Mux(
                held, grant_position + Mux(kinds["mvxl"], dst_offset, 0),
                lock_position), ring, length))),
            reached.eq(start + count),
            end.eq(Mux(reached > length, base + length, base + reached)),

            # A legal entry.
            Assume(length > 0),
            Assume(base + length <= 1 << config.address_bits),
            # Where a message is placed: in a ring, inside it; otherwise behind what is there.
            Assume(~ring | (lock_position < length)),
            Assume(ring | (lock_position == filled)),
            # A grant had room when it was given.
            Assume(grant_count <= length),
            Assume(Mux(ring, grant_position < length,
                       grant_position + grant_count <= length)),
            Assume(kinds["release"] | (count > 0)),
            Assume(~kinds["release"] | (count <= grant_count)),
        ]

        # What is asserted in one cycle helps in the next one: all else counts from `start`.
        limit = Mux(kinds["mvxl"], grant_count, length)
        used = Mux(kinds["mvxl"] | kinds["mvcl"], dst_offset, filled)
        room = kinds["release"] | (used + count <= limit)
        with m.If(time == decision - 1):
            m.d.sync += start.eq(bounds.offset)
            m.d.comb += [
                Assert(bounds.offset == position[:32], "it is placed at its position"),
                Assert(~room | ~ring | kinds["mvcl"] | (bounds.offset < length),
                       "in a ring, that is inside it"),
                Assert(~room | (ring & ~kinds["mvcl"]) | (bounds.offset + count <= length),
                       "otherwise all of it is inside"),
                Assert(~room | (count <= length), "no range is longer than the entry"),
            ]
        with m.If(decided & ~kinds["release"]):
            m.d.comb += Assert(bounds.fits == room, "it fits if there is room")
        with m.If(decided & (bounds.fits & (kinds["send"] | kinds["grant"]) | kinds["release"])):
            m.d.comb += Assert(local["next_position"] == _round(reached, ring, length),
                               "the next position is behind the range, round the ring")

        # The pieces, as they come out: address, and bytes.
        block = config.block_bytes
        span = writes.payload
        piece_bytes = Signal(bits)
        first_address, first_bytes = Signal(bits), Signal(bits)
        granted, goes_on = Signal(), Signal()
        first_now = time == decision + 1
        second_now = time == decision + 2
        m.d.comb += piece_bytes.eq(span.last + 1 - span.address % block)
        with m.If(decided):
            m.d.sync += granted.eq(bounds.fits & ~kinds["release"])
        with m.If(first_now):
            m.d.sync += [
                first_address.eq(span.address), first_bytes.eq(piece_bytes),
                goes_on.eq(granted & span.more)]
            m.d.comb += Assert(writes.valid == granted, "a piece if and only if it is granted")
        with m.If(second_now):
            m.d.comb += Assert(writes.valid == goes_on, "a second piece if it goes on")

        lane = config.data_bytes
        source = Signal(config.address_bits)
        source_lane = source % lane
        m.d.comb += source.eq(src_offset + Mux(
            kinds["mvxl"], src_address, source_base * ENTRY_UNIT_BYTES))
        with m.If(decided & local["moves"]):
            m.d.comb += Assert(unit.reads.payload.address == source, "the source's address")
        with m.If(writes.valid):
            m.d.comb += Assert(span.single == (span.last < block), "single: in one block")
        with m.If(first_now & granted):
            m.d.comb += [
                Assert(span.address == base + start, "it begins at its position"),
                Assert(span.address + piece_bytes == end, "it ends at its end, or the entry's"),
                Assert(piece_bytes > 0, "no piece is empty"),
                Assert(span.more == (reached > length), "it goes on if it goes round"),
                Assert(~span.more | ring, "only a ring goes round"),
                Assert((span.address - span.other_lane) % lane
                       == (span.address - source_lane) % lane, "lanes of the first piece"),
                Assert(~span.more | (end % lane == 0), "the first piece ends with a beat"),
            ]
        with m.If(second_now & goes_on):
            m.d.comb += [
                Assert(span.address == base, "it goes on at the entry's start"),
                Assert(piece_bytes == count - first_bytes, "the pieces are count bytes together"),
                Assert(piece_bytes > 0, "no piece is empty"),
                Assert(base + piece_bytes <= first_address, "the pieces are disjoint"),
                Assert(~span.more, "there are at most two pieces"),
                Assert((span.address - span.other_lane) % lane
                       == (first_address - source_lane) % lane, "lanes of the second piece"),
            ]
        with m.If(writes.valid):
            m.d.comb += [
                Assert(span.address >= base, "no byte lies before the entry"),
                Assert(span.address + piece_bytes <= base + length, "no byte lies behind it"),
            ]

        # What a processor is told.
        target = unit.target
        with m.If(first_now & kinds["grant"] & granted):
            m.d.comb += [
                Assert(target.address == base + start, "a processor is told the address"),
                Assert(target.address + target.first == end, "a processor is told where it ends"),
                Assert(target.next == Mux(reached > length, base, 0),
                       "a processor is told where it goes on"),
            ]

        through = second_now & granted
        whole = count > 1
        if self._kind in ("send", "grant", "mvxl"):
            m.d.comb += [
                Cover(through & goes_on, "in two pieces"),
                Cover(through & goes_on & (base + length == 1 << config.address_bits),
                      "round the end of the address space"),
                Cover(through & goes_on & (count == length) & (start == length - 1),
                      "a whole ring, from its last byte on"),
                Cover(through & ring & whole & (reached == length), "up to the end exactly"),
            ]
        if self._kind == "mvxl":
            m.d.comb += Cover(through & whole & (start < grant_position),
                              "begins behind the ring's end")
        if self._kind != "release":
            m.d.comb += Cover(through & ~ring & whole & (reached == length),
                              "fills an entry that does not go round")
        else:
            m.d.comb += Cover(decided & ring & whole & (reached == length),
                              "a grant that ends at the end")
        return m


def _round(position: Any, ring: Any, length: Any) -> Any:
    """`position`, which is less than twice the length, inside a ring of this length."""
    return Mux(ring & (position >= length), position - length, position)


def _local(unit: Fragment, name: str, part: Any) -> Signal:
    """The signal called `name` that the elaborated `unit` itself assigns, if not to its `part`.

    Raises
    ------
    ValueError
        There is none, or more than one.
    """
    found = {id(signal): signal for statements in unit.statements.values()
             for statement in statements for signal in statement._lhs_signals()
             if signal.name == name and signal is not getattr(part, name, None)}
    if len(found) != 1:
        raise ValueError(f"the unit must assign exactly one signal called {name!r}, not "
                         f"{len(found)}")
    return next(iter(found.values()))


def _equations(unit: Fragment, roots: Iterable[Any], cuts: Iterable[Signal]) -> Fragment:
    """The statements of `unit` on which `roots` depend; what assigns `cuts` is left out."""
    cut = {id(signal) for signal in cuts}
    todo = [signal for root in roots for signal in root._lhs_signals()]
    found = Fragment()
    done: set[int] = set()
    taken: set[int] = set()
    while todo:
        wanted = todo.pop()
        if id(wanted) in done or id(wanted) in cut:
            continue
        done.add(id(wanted))
        for domain, statements in unit.statements.items():
            for statement in statements:
                assigned = {id(signal) for signal in statement._lhs_signals()}
                if id(wanted) in assigned and id(statement) not in taken:
                    taken.add(id(statement))
                    found.add_statements(domain, statement)
                    todo += statement._rhs_signals()
    return found


def jobs() -> list[Job]:
    """Behind the cycle of the reset a slot takes so many cycles; nothing of it stays."""
    found = []
    for name, kinds in (("tiny", KINDS), ("large", ("send", "mvxl"))):
        for kind in kinds:
            def spec(name: str = name, kind: str = kind) -> RingSpec:
                return RingSpec(AdapterConfig.named(name), kind)
            covers = {"release": 1, "mvcl": 1, "mvxl": 6}.get(kind, 5)
            found += [
                Job(name=f"ring-{kind}-{name}", spec=spec, mode="bmc",
                    depth=_CYCLES + 2, min_asserts=10),
                Job(name=f"ring-{kind}-{name}-cover", spec=spec, mode="cover",
                    depth=_CYCLES + 2, min_asserts=covers),
            ]
    return found
