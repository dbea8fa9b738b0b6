# SPDX-License-Identifier: Apache-2.0
"""The front end: every verdict, in the documented order of the checks, in its exact cycle."""

from __future__ import annotations

import itertools
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import pytest
from amaranth.sim import Simulator

from formal.mutants import mutated
from mvxl import front
from mvxl.config import AdapterConfig
from mvxl.front import Circumstances
from mvxl.messages import (
    Grant,
    GrantKind,
    Kind,
    Op,
    Order,
    OrderKind,
    Release,
    Request,
    Status,
)

CONFIGS = {
    "lut": AdapterConfig(partitions=3, entries=16, data_bits=32, burst_beats=16,
                         messages_in_flight=32, data_queue_beats=64),
    "block": AdapterConfig(partitions=4, entries=128, address_bits=40, messages_in_flight=64),
}

UNIT_BYTES = 64
FULL_TURN = 31
WORD = 1 << 32

#: What of a grant is told two cycles after it was asked for, and what a cycle later.
GRANT_TOLD = ("token", "src_address", "dst_id", "receiver", "notify", "position", "count", "tag")

#: Cycles from the first one of a slot to its decision: of a request; of an MVXL; of an order; of
#: RELEASE and END.
DECISION_CYCLES, MVXL_CYCLES, ORDER_CYCLES, ENDING_CYCLES = 3, 8, 5, 6


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the table; base and length in bytes."""

    valid: bool = True
    owner: int = 0
    base: int = 0x10000
    length: int = 1024
    may_send: bool = True
    may_receive: bool = True
    ring: bool = False
    senders: int = 0b111

    def behind(self, position: int, count: int) -> int:
        """The byte position behind a range."""
        end = position + count
        return end - self.length if self.ring and end >= self.length else end


@dataclass
class Flight:
    """What holds an entry. When it is good, the cursor advances by `count`, to `position`.

    `left`: it is not a grant that goes on.
    """

    partition: int
    by_grant: bool = False
    count: int = 0
    position: int = 0
    left: bool = True


@dataclass
class Entry:
    """A row with its lock: what is in flight to it, oldest first."""

    row: Row = field(default_factory=lambda: Row(valid=False))
    in_flight: list[Flight] = field(default_factory=list)
    cursor: int = 0
    position: int = 0
    head: int = 0
    turn: int = 0
    next_cursor: int = 0
    next_position: int = 0

    @property
    def place(self) -> int:
        return self.next_position if self.in_flight else self.position

    @property
    def filled(self) -> int:
        return ((self.next_cursor if self.in_flight else self.cursor) - self.head) % WORD

    @property
    def published(self) -> int:
        return (self.cursor - self.head) % WORD


@dataclass
class Granted:
    """A partition's grant, as the grant unit keeps it. `state`: live, expired, ending, leaving."""

    token: int
    kind: GrantKind
    tag: int
    notify: bool
    src_id: int
    dst_id: int
    receiver: int
    src_address: int
    position: int
    count: int
    state: str = "live"
    moving: int = 0
    acknowledged: int = 0

    def record(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in Grant(CONFIGS["lut"]).members}


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A request, what the queues say of its partition, and whether the receiver has room.

    A GRANT's kind is bit 0 of `dst_offset`; `token` is that of an MVXL.
    """

    partition: int = 0
    op: int = Op.SEND.value
    wait: bool = False
    fence: bool = False
    event: bool = False
    notify: bool = False
    tag: int = 0
    src_id: int = 0
    src_offset: int = 0
    dst_id: int = 1
    dst_offset: int = 0
    count: int = 64
    token: int | None = None
    resetting: bool = False
    down: bool = False
    permitted: bool = True
    halted: bool = False
    idle: bool = True
    cancelled: bool = False
    expired: bool = False
    waited: int = 0
    waits_on: Status = Status.RECEIVER_BUSY
    overtaken: bool = False
    contended: bool = False
    room: bool = True

    def command(self) -> dict[str, int]:
        fields = {name: int(getattr(self, name)) for name in (
            "op", "wait", "fence", "event", "notify", "tag", "src_id", "src_offset", "dst_id",
            "dst_offset", "count")}
        if self.token is not None:
            fields |= {"dst_id": self.token & 0xFFFF, "src_id": self.token >> 16}
        return fields

    def circumstances(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in Circumstances().members}

    @property
    def takes_lock(self) -> bool:
        return self.op in (Op.SEND.value, Op.MVCL.value, Op.GRANT.value)


@dataclass(frozen=True)
class Task:
    """An order. `row` is the entry of WRITE, `source` and `destination` are those of MOVE."""

    kind: OrderKind
    id: int = 0
    partition: int = 0
    token: int = 0
    count: int = 0
    row: Row = Row()
    source: int = 0
    destination: int = 0


#: What a verdict says: the status with which it was accepted, or ("waits", status), or "blocked",
#: "fence" or "dropped".
Verdict: TypeAlias = Status | tuple[str, Status] | str


class Model:
    """The decisions, by integer arithmetic on a list of entries and of grants."""

    def __init__(self, config: AdapterConfig) -> None:
        self.config = config
        self.entries = [Entry() for _ in range(config.entries)]
        self.max_counts = [0] * config.partitions
        self.tokens = [0] * config.partitions
        self.grants: list[Granted | None] = [None] * config.partitions

    def at(self, network_id: int) -> Entry:
        return self.entries[network_id] if network_id < len(self.entries) else Entry()

    def live(self, partition: int, token: int | None = None) -> Granted | None:
        grant = self.grants[partition]
        if grant is None or grant.state != "live" or token not in (None, grant.token):
            return None
        return grant

    def destination(self, ask: Ask) -> int:
        """The entry that a command names, or its grant does."""
        if ask.op != Op.MVXL.value:
            return ask.dst_id
        grant = self.live(ask.partition, ask.token)
        return grant.dst_id if grant is not None else 0

    def judge(self, ask: Ask) -> Verdict:
        """The order of the checks: one after the other, the first hit wins."""
        src, dst = self.at(ask.src_id).row, self.at(ask.dst_id).row
        grant = self.grants[ask.partition]
        live = self.live(ask.partition, ask.token)
        checks: list[tuple[Verdict, Callable[[], bool]]] = [
            ("dropped", lambda: ask.resetting),
            (Status.TIMEOUT, lambda: ask.down),
            (Status.ABORTED, lambda: ask.halted),
            (Status.NOT_PERMITTED, lambda: not ask.permitted),
            (Status.CANCELLED, lambda: ask.cancelled),
            (Status.BAD_OP, lambda: not 1 <= ask.op <= 4),
            (Status.BAD_COUNT,
             lambda: not 0 < ask.count <= self.max_counts[ask.partition]),
        ]
        if ask.op == Op.MVXL.value:
            checks += [
                (Status.STALE, lambda: live is None),
                (Status.SRC_BOUNDS, lambda: ask.src_offset + ask.count > live.count),
                (Status.DST_BOUNDS, lambda: ask.dst_offset + ask.count > live.count),
                ("fence", lambda: ask.fence and not ask.idle and not ask.expired),
                (ask.waits_on, lambda: ask.fence and not ask.idle),
            ]
        else:
            may = (dst.owner == ask.partition if ask.op == Op.MVCL.value
                   else dst.senders >> ask.partition & 1)
            checks += [
                (Status.SRC_FAULT, lambda: not (
                    src.valid and src.may_send and src.owner == ask.partition)),
                (Status.DST_FAULT, lambda: not (dst.valid and dst.may_receive and may)),
                (Status.SRC_BOUNDS, lambda: ask.src_offset + ask.count > src.length),
                (Status.DST_BOUNDS, lambda: ask.op == Op.MVCL.value
                 and ask.dst_offset + ask.count > dst.length),
                (Status.BUSY, lambda: ask.op == Op.GRANT.value and grant is not None
                 and grant.state != "leaving"),
            ]
        for verdict, hit in checks:
            if hit():
                return verdict
        return Status.OK if ask.op == Op.MVXL.value else self._place(ask, self.at(ask.dst_id))

    def _place(self, ask: Ask, dst: Entry) -> Verdict:
        is_send, is_grant = ask.op == Op.SEND.value, ask.op == Op.GRANT.value
        fits = ask.op == Op.MVCL.value or dst.filled + ask.count <= dst.row.length
        locked = False
        if dst.in_flight:
            holder = dst.in_flight[-1]
            own = holder.partition == ask.partition
            held = self.grants[holder.partition]
            if holder.by_grant and held is not None and held.state in ("live", "expired"):
                if own:
                    return Status.LOCKED
                locked = True
            blocked = not locked and (
                not own or holder.by_grant or is_grant or (is_send and not fits)
                or (ask.contended and dst.turn == FULL_TURN))
        else:
            blocked = ask.overtaken
        fenced = (ask.fence or is_grant) and not ask.idle
        if fenced or blocked:
            return ask.waits_on if ask.expired else "fence" if fenced else "blocked"
        may_wait = ask.wait and not ask.expired
        if locked:
            return ("waits", Status.LOCKED) if may_wait else Status.LOCKED
        if not fits:
            if may_wait and ask.count <= dst.row.length:
                return ("waits", Status.DST_FULL)
            return Status.DST_FULL
        if ask.notify and not ask.room:
            return ("waits", Status.RECEIVER_BUSY) if may_wait else Status.RECEIVER_BUSY
        return Status.OK

    def look(self, ask: Ask) -> tuple[bool, int, int]:
        """Of its destination: whether it is held, where it would be placed, bytes taken."""
        dst = self.at(self.destination(ask))
        return bool(dst.in_flight), dst.place, dst.filled

    def accept(self, ask: Ask, looked: tuple[bool, int, int]) -> None:
        """Carry out what was decided OK on what `look` gave."""
        if ask.op == Op.MVXL.value:
            self.grants[ask.partition].moving += 1
            return
        dst = self.at(ask.dst_id)
        is_send = ask.op == Op.SEND.value
        held, position, filled = looked
        cursor = (filled + dst.head) % WORD
        dst.turn = dst.turn + 1 if held and ask.contended else 0
        if is_send:
            cursor, position = (cursor + ask.count) % WORD, dst.row.behind(position, ask.count)
        dst.next_cursor, dst.next_position = cursor, position
        is_grant = ask.op == Op.GRANT.value
        dst.in_flight.append(Flight(
            ask.partition, is_grant, ask.count if is_send else 0, position, left=not is_grant))
        if is_grant:
            src = self.at(ask.src_id).row
            self.tokens[ask.partition] = (self.tokens[ask.partition] + 1) % WORD
            self.grants[ask.partition] = Granted(
                self.tokens[ask.partition], GrantKind(ask.dst_offset & 1), ask.tag, ask.notify,
                ask.src_id, ask.dst_id, dst.row.owner, src.base + ask.src_offset, position,
                ask.count)

    def serve(self, task: Task) -> Status:
        """Carry out an order; how it ends."""
        entry = self.at(task.id)
        mine = entry.row.valid and entry.row.owner == task.partition
        if task.kind is OrderKind.INVALIDATE:
            entry.row = Row(valid=False, length=0, base=0, owner=0, may_send=False,
                            may_receive=False, senders=0)
        elif task.kind is OrderKind.WRITE:
            entry.row = task.row
            entry.cursor = entry.position = entry.head = 0
        elif task.kind is OrderKind.REWIND:
            if not mine or entry.row.ring or entry.in_flight:
                return Status.BUSY
            entry.cursor = entry.position = 0
        elif task.kind is OrderKind.CONSUME:
            if not mine or not entry.row.ring or task.count > entry.published:
                return Status.BUSY
            entry.head = (entry.head + task.count) % WORD
        elif task.kind is OrderKind.RELEASE:
            grant = self.live(task.partition, task.token)
            if grant is None:
                return Status.STALE
            if grant.moving:
                return Status.BUSY
            if task.count > (grant.count if grant.kind is GrantKind.CPU else grant.acknowledged):
                return Status.BAD_COUNT
            self._leave(grant, task.count)
        elif task.kind is OrderKind.END:
            self._leave(self.grants[task.partition], 0)
        return Status.OK

    def _leave(self, grant: Granted, count: int) -> None:
        grant.state = "leaving"
        entry = self.entries[grant.dst_id]
        flight = entry.in_flight[-1]
        flight.left, flight.count = True, count
        flight.position = entry.row.behind(grant.position, count)

    def release(self, network_id: int, good: bool) -> tuple[dict[str, Any], bool]:
        """End the oldest thing in flight to an entry: its `Release`, and whether it is free."""
        entry = self.entries[network_id]
        flight = entry.in_flight.pop(0)
        advance = good and flight.count != 0
        if advance:
            entry.cursor = (entry.cursor + flight.count) % WORD
            entry.position = flight.position
        grant = self.grants[flight.partition]
        # The partition may have a new one already.
        if flight.by_grant and grant is not None and grant.state == "leaving":
            self.grants[flight.partition] = None
        return ({"dst_id": network_id, "advance": advance, "count": flight.count,
                 "position": flight.position}, not entry.in_flight)


def span(config: AdapterConfig, agent: int, address: int, other: int, count: int, *,
         more: bool = False) -> dict[str, int]:
    last = address % config.block_bytes + count - 1
    return {"agent": agent, "address": address, "last": last,
            "single": last < config.block_bytes,
            "other_lane": other % config.data_bytes, "more": more}


class Driver:
    """Serves slots, and compares all outputs of the front end in every cycle with the model's.

    `due` holds, per cycle, what is expected; what is not there must not be valid. The model's
    grants are shown as the grant unit would.
    """

    def __init__(self, unit: Any, ctx: Any, dice: random.Random) -> None:
        self.unit = unit
        self.ctx = ctx
        self.dice = dice
        self.junk = random.Random(0)    # of what nobody may look at
        self.config = unit.config
        self.model = Model(unit.config)
        self.now = 0
        self.between = False    # no slot is under way
        # Of which partitions grants were asked for in the cycles before, as `show_record` has it.
        self.asked = [(0, 0)] * 2
        self.order_status: Status | None = None     # of the last order, or from the start
        self.due: dict[int, dict[str, Any]] = {}
        self.served_order = True    # the first turn is a request's
        self.verdicts: list[Verdict] = []
        self.statuses: list[Status] = []
        self.show()

    def show(self) -> None:
        """What the grant unit tells of all partitions."""
        for name in ("live", "expired", "ending"):
            self.ctx.set(getattr(self.unit, name), sum(
                1 << p for p, grant in enumerate(self.model.grants)
                if grant is not None and grant.state == name))
        self.shown = [(replace(grant) if grant is not None else None)
                      for grant in self.model.grants]

    def show_record(self, asked: int, before: tuple[int, int]) -> None:
        """What it tells of one partition, two cycles after that was asked for, and its limit, a
        cycle later.

        `before`: who was asked for then, and whether for a RELEASE.
        """
        set_, dice = self.ctx.set, self.dice
        grant = self.shown[asked] if asked < len(self.shown) else None
        told = grant.record() if grant is not None else {
            "token": dice.choice((0, self.model.tokens[0])), "count": dice.getrandbits(9)}
        set_(self.unit.grant, Grant(self.config).const(
            {name: told.get(name, 0) for name in GRANT_TOLD}
            | {"src_id": dice.randrange(self.config.entries), "kind": dice.getrandbits(1)}))
        set_(self.unit.moving, dice.getrandbits(1) if grant is None else grant.moving != 0)
        partition, releasing = before
        grant = self.shown[partition] if partition < len(self.shown) else None
        limit = dice.getrandbits(32)
        if grant is not None:
            if not releasing or grant.kind is GrantKind.CPU:
                limit = grant.count
            elif not grant.moving:
                limit = grant.acknowledged
        set_(self.unit.grant_limit, limit)

    def expect(self, cycle: int, **outputs: Any) -> None:
        self.due.setdefault(cycle, {}).update(outputs)

    async def cycle(self) -> None:
        unit = self.unit
        streams = (unit.verdicts, unit.proposed, unit.accepted, unit.reads, unit.writes)
        (_, _, looking, taken, order_taken, order_status, reserve, freed, freed_id, receiver,
         sender, asked, releasing, give, target, leave, started, *rest) = await (
             self.ctx.tick().sample(
            unit.looking, unit.requests.ready, unit.orders.ready, unit.order_status, unit.reserve,
            unit.freed, unit.freed_id, unit.quota_receiver, unit.quota_sender,
            unit.grant_partition, unit.releasing, unit.give, unit.target, unit.leave,
            unit.mvxl_started, *(one.valid for one in streams),
            *(one.payload for one in streams)))
        self.show_record(self.asked[-1][0], self.asked[0])
        self.asked = [*self.asked[1:], (asked, releasing)]
        valids, payloads = rest[:5], rest[5:]
        expected = self.due.pop(self.now, {})
        if not self.between:
            assert bool(looking) == expected.get("looking", False), "looking in its cycle"
        for name, value in (("taken", taken), ("reserve", reserve)):
            assert bool(value) == expected.get(name, False), f"{name} in its cycle"
        assert (Status(order_status) if order_taken else None) == expected.get("order"), \
            "the order's status in its cycle"
        if order_taken or self.order_status is None:
            self.order_status = order_status
        assert order_status == self.order_status, "the order's status stays"
        assert (freed_id if freed else None) == expected.get("freed"), "freed"
        if "quota" in expected:
            assert (receiver, sender) == expected["quota"], "quota of the pair"
        for name, event in (("leave", leave), ("mvxl_started", started)):
            assert (event.partition if event.en else None) == expected.get(name), \
                f"{name} in its cycle"
        assert asked == expected.get("asked", asked), "asks in its cycle"
        for name, value in expected.get("stays", {}).items():
            assert give.grant[name] == value, "the grant does not stay"
        assert bool(give.en) == ("give" in expected), "give in its cycle"
        if give.en:
            partition, grant = expected["give"]
            assert give.partition == partition, "give"
            assert {name: give.grant[name] for name in grant} == grant, "the grant"
        for name, value in expected.get("target", {}).items():
            assert target[name] == value, "the grant's target"
        for name, valid, payload in zip(("verdict", "proposed", "accepted", "reads", "writes"),
                                        valids, payloads):
            assert bool(valid) == (name in expected), f"{name} in its cycle"
            if valid:
                found = (self._verdict(payload) if name == "verdict" else
                         {key: payload[key] for key in expected[name]})
                assert found == expected[name], name
        self.now += 1

    @staticmethod
    def _verdict(payload: Any) -> tuple[int, Verdict]:
        what: Verdict
        if payload.accepted:
            assert not payload.waits, "accepted or waiting"
            what = "dropped" if payload.dropped else Status(payload.status)
        elif payload.waits:
            what = ("waits", Status(payload.status))
            assert payload.blocked == (payload.status == Status.LOCKED), "waiting or blocked"
        else:
            what = "blocked" if payload.blocked else "fence"
        return int(payload.partition), what

    def offer(self, ask: Ask | None, task: Task | None) -> None:
        set_, config = self.ctx.set, self.config
        set_(self.unit.requests.valid, ask is not None)
        set_(self.unit.orders.valid, task is not None)
        if ask is not None:
            set_(self.unit.requests.payload, Request(config).const(
                {"partition": ask.partition, "command": ask.command()}))
        else:
            shape = Request(config)
            set_(self.unit.requests.payload, shape.from_bits(self.junk.getrandbits(shape.size)))
        if task is not None:
            row = task.row
            set_(self.unit.orders.payload, Order(config).const(
                {"kind": task.kind, "id": task.id, "partition": task.partition,
                 "token": task.token, "count": task.count}))
            set_(self.unit.raw_source, task.source)
            set_(self.unit.raw_destination, task.destination)
            set_(self.unit.new_entry, {
                "valid": row.valid, "owner": row.owner, "base": row.base // UNIT_BYTES,
                "length": row.length // UNIT_BYTES, "may_send": row.may_send,
                "may_receive": row.may_receive, "ring": row.ring, "senders": row.senders})

    def surroundings(self, ask: Ask | None) -> None:
        """Circumstances and room: those of `ask`, or anything if nobody may look at them."""
        dice = self.dice
        at = ask.circumstances() if ask is not None else {
            name: dice.getrandbits(1) for name in Circumstances().members if name != "waits_on"}
        self.ctx.set(self.unit.circumstances, Circumstances().const(at))
        self.ctx.set(self.unit.down, ask.down if ask is not None else dice.getrandbits(1))
        self.ctx.set(self.unit.quota_room, ask.room if ask is not None else dice.getrandbits(1))

    async def slot(self, ask: Ask | None, task: Task | None = None,
                   release: tuple[int, bool] | None = None) -> bool:
        """One slot, in which the request or the order is served. True: the order was.

        What is not served stays offered. `release`: (ID, good) of what ends after the slot's
        lookup, and before the next one's.
        """
        serves_order = task is not None and (ask is None or not self.served_order)
        self.served_order = serves_order
        self.offer(ask, task)
        if ask is not None:
            self.expect(self.now, looking=True)
        if serves_order:
            assert task is not None
            decision = (ENDING_CYCLES if task.kind in (OrderKind.RELEASE, OrderKind.END)
                        else ORDER_CYCLES)
            self._expect_order(task, self.now + decision)
        else:
            assert ask is not None
            decision = MVXL_CYCLES if ask.op == Op.MVXL.value else DECISION_CYCLES
            self._expect_request(ask, self.now + decision)
        for step in range(1, decision + 2):
            self.expect(self.now + step, asked=(task if serves_order else ask).partition)
        freed = False
        payload: dict[str, Any] = {}
        looked = self.model.look(ask) if ask is not None else (False, 0, 0)
        if release is not None:
            payload, freed = self.model.release(*release)
        if not serves_order and self.verdicts[-1] is Status.OK:
            assert ask is not None
            self.model.accept(ask, looked)
        # An order's row is looked up a cycle later than a request's. What advances a cursor is told
        # two cycles before.
        release_step = 2 if serves_order or payload.get("advance") else 1
        for step in range(decision + 1):
            self.surroundings(ask if step == decision - 1 and not serves_order else None)
            if step in (release_step - 2, release_step - 1) and release is not None:
                self.ctx.set(self.unit.releases.payload, Release(self.config).const(
                    {"dst_id": release[0], "advance": 1, "count": payload["count"]}))
            elif step == release_step and release is not None:
                self.ctx.set(self.unit.releases.valid, 1)
                self.ctx.set(self.unit.releases.payload, Release(self.config).const(payload))
                if freed:
                    self.expect(self.now + 1, freed=release[0])
            elif step == release_step + 1:
                self.ctx.set(self.unit.releases.valid, 0)
                self.ctx.set(self.unit.releases.payload, Release(self.config).from_bits(0))
            await self.cycle()
        self.offer(ask if serves_order else None, None if serves_order else task)
        self.show()
        return serves_order

    def _expect_order(self, task: Task, decided: int) -> None:
        grant = self.model.grants[task.partition] if task.kind in (
            OrderKind.RELEASE, OrderKind.END) else None
        status = self.model.serve(task)
        self.statuses.append(status)
        self.expect(decided, order=status, proposed={})
        if grant is not None and status is Status.OK:
            count = task.count if task.kind is OrderKind.RELEASE else 0
            record: dict[str, Any] = {
                "partition": task.partition, "tag": grant.tag, "notify": grant.notify,
                "dst_id": grant.dst_id, "receiver": grant.receiver, "offset": grant.position,
                "count": count, "waited": 0}
            accepted = {"kind": Kind.RELEASE, "status": Status.OK}
            if count:
                accepted["next_position"] = self.model.entries[grant.dst_id].in_flight[-1].position
            self.expect(decided, leave=task.partition, proposed=record)
            self.expect(decided + 1, accepted=accepted)
        if task.kind is OrderKind.MOVE:
            agent = self.config.manager
            self.expect(
                decided, proposed={"count": task.count},
                reads=span(self.config, agent, task.source, task.destination, task.count))
            self.expect(
                decided + 1, accepted={"kind": Kind.RAW, "status": Status.OK},
                writes=span(self.config, agent, task.destination, task.source, task.count))

    def _expect_request(self, ask: Ask, decided: int) -> None:
        model = self.model
        verdict = model.judge(ask)
        self.verdicts.append(verdict)
        dst_id = model.destination(ask)
        dst = model.at(dst_id)
        is_mvxl = ask.op == Op.MVXL.value
        self.expect(self.now, looking=True)
        self.expect(decided, taken=True, proposed={})
        self.expect(decided + 1, verdict=(ask.partition, verdict))
        granted = verdict is Status.OK
        offset = dst.place
        if ask.op in (Op.MVCL.value, Op.MVXL.value):
            offset = ask.dst_offset
        if isinstance(verdict, Status):
            live = model.live(ask.partition, ask.token)
            known = live is not None if is_mvxl else dst.row.valid
            record: dict[str, Any] = {
                "partition": ask.partition, "tag": ask.tag, "event": ask.event,
                "notify": ask.notify, "dst_id": dst_id, "known": known,
                "count": ask.count, "waited": ask.waited}
            if known:
                record["receiver"] = dst.row.owner
            accepted: dict[str, Any] = {
                "kind": Kind[Op(ask.op).name] if granted else Kind.REFUSAL, "status": verdict}
            if granted:
                record["offset"] = offset
            if granted and ask.op == Op.SEND.value:
                accepted["next_position"] = dst.row.behind(offset, ask.count)
            self.expect(decided, proposed=record)
            self.expect(decided + 1, accepted=accepted)
        if dst.row.valid and not is_mvxl:
            self.expect(decided - 1, quota=(dst.row.owner, ask.partition))
        if granted:
            self._expect_grant_or_move(ask, decided, dst, offset)

    def _expect_grant_or_move(self, ask: Ask, decided: int, dst: Entry, offset: int) -> None:
        config = self.config
        source = self.model.at(ask.src_id).row.base + ask.src_offset
        position = offset
        if ask.op == Op.MVXL.value:
            grant = self.model.grants[ask.partition]
            source = grant.src_address + ask.src_offset
            position = dst.row.behind(grant.position, ask.dst_offset)
            self.expect(decided, mvxl_started=ask.partition)
        else:
            self.expect(decided, reserve=ask.notify)
        target = dst.row.base + position
        first = min(ask.count, dst.row.length - position)
        rest = ask.count - first
        if ask.op == Op.GRANT.value:
            self.expect(decided, give=(
                ask.partition,
                {"kind": GrantKind(ask.dst_offset & 1), "tag": ask.tag, "notify": ask.notify,
                 "src_id": ask.src_id, "dst_id": ask.dst_id, "receiver": dst.row.owner,
                 "src_address": source, "position": position, "count": ask.count}))
            self.expect(decided + 1, target={
                "address": target, "first": first, "next": dst.row.base if rest else 0},
                stays={"receiver": dst.row.owner, "src_address": source})
            return
        self.expect(decided, reads=span(config, ask.partition, source, target, ask.count))
        self.expect(decided + 1, writes=span(
            config, ask.partition, target, source, first, more=rest != 0))
        if rest:
            # Bytes stay in the lanes in which the first piece put them.
            self.expect(decided + 2, writes=span(
                config, ask.partition, dst.row.base, source - target, rest))

    async def decide(self, ask: Ask) -> Verdict:
        await self.slot(ask)
        return self.verdicts[-1]

    async def order(self, kind: OrderKind, **fields: Any) -> Status:
        await self.slot(None, Task(kind, **fields))
        return self.statuses[-1]

    async def end(self, network_id: int, good: bool = True) -> None:
        """The oldest thing in flight to an entry ends, during a slot without effect."""
        await self.slot(Ask(halted=True), release=(network_id, good))

    def moved(self, partition: int, acknowledged: int) -> None:
        """The MVXL that are in flight under a grant are through."""
        grant = self.model.grants[partition]
        grant.moving, grant.acknowledged = 0, acknowledged
        self.show()

    def grant_becomes(self, partition: int, state: str) -> None:
        self.model.grants[partition].state = state
        self.show()

    async def idle(self, cycles: int = 1) -> None:
        self.between = True
        for _ in range(cycles):
            self.surroundings(None)
            await self.cycle()
        self.between = False

    async def allow(self, partition: int, count: int) -> None:
        """Set MAX_COUNT; the next slot sees it."""
        self.ctx.set(self.unit.max_count.en, 1)
        self.ctx.set(self.unit.max_count.partition, partition)
        self.ctx.set(self.unit.max_count.count, count)
        await self.idle()
        self.ctx.set(self.unit.max_count.en, 0)
        self.ctx.set(self.unit.max_count.count, 0)
        self.model.max_counts[partition] = count

    async def commit(self, network_id: int, row: Row) -> None:
        await self.slot(None, Task(OrderKind.WRITE, network_id, row=row))

    async def query(self, network_id: int) -> tuple[bool, int, int, int]:
        """(valid, owner, cursor, head) for an owner's eyes."""
        self.ctx.set(self.unit.query_id, network_id)
        await self.idle()
        unit, get = self.unit, self.ctx.get
        return (bool(get(unit.query_valid)), get(unit.query_owner), get(unit.query_cursor),
                get(unit.query_head))


def simulate(bench: Callable[[Driver], Awaitable[None]], name: str, *, module: Any = front,
             started: bool = True, seed: int = 0) -> None:
    unit = module.FrontEnd(CONFIGS[name])

    async def testbench(ctx: Any) -> None:
        driver = Driver(unit, ctx, random.Random(seed))
        while started and not ctx.get(unit.ready):
            await driver.idle()
        await bench(driver)
        await driver.idle(3)
        assert not driver.due

    sim = Simulator(unit)
    sim.add_clock(1e-6)
    sim.add_testbench(testbench)
    sim.run()


@pytest.fixture(params=CONFIGS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_nothing_is_decided_before_the_memories_are_scrubbed(name: str) -> None:
    """And then no entry is valid, and no partition may send a byte."""
    async def bench(unit: Driver) -> None:
        unit.offer(Ask(), None)
        entries = unit.config.entries
        await unit.idle(entries)
        assert unit.ctx.get(unit.unit.ready)
        assert await unit.decide(Ask()) is Status.BAD_COUNT
        await unit.allow(0, 64)
        for entry in range(entries):
            assert await unit.decide(Ask(src_id=entry, dst_id=entry)) is Status.SRC_FAULT
        await unit.commit(0, Row())
        for entry in range(1, entries):
            assert await unit.decide(Ask(dst_id=entry)) is Status.DST_FAULT

    simulate(bench, name, started=False)


#: Entries of the scene: sources, and destinations in every state. OTHERS is held by a live grant
#: of partition 2.
SOURCE, TO, NOT_VALID, NOT_MINE, NO_SEND, NO_RECEIVE, UNLISTED, FULL, HELD, HELD_FULL, OWN, \
    OWN_FULL, OWN_TURN, OTHERS, MINE, RING = range(16)
LENGTH = 4096
MAX_COUNT = 2048


async def set_scene(unit: Driver) -> None:
    """Partition 0 sends, 1 receives, 2 holds."""
    for partition in range(3):
        await unit.allow(partition, MAX_COUNT)
    to = Row(owner=1, base=0x40000, length=LENGTH, may_send=False)
    rows = {entry: to for entry in range(16)}
    rows[SOURCE] = Row(owner=0, length=LENGTH, may_receive=False, senders=0)
    rows[NOT_MINE] = Row(owner=2, length=LENGTH)
    rows[NO_SEND] = Row(owner=0, length=LENGTH, may_send=False)
    rows[NO_RECEIVE] = replace(to, may_receive=False)
    rows[UNLISTED] = replace(to, senders=0b110)
    rows[MINE] = Row(owner=0, base=0x50000, length=LENGTH, may_send=False, senders=0)
    rows[RING] = replace(to, ring=True)
    del rows[NOT_VALID]
    for entry, row in rows.items():
        await unit.commit(entry, row)

    async def fill(entry: int, partition: int, count: int, contended: bool = False,
                   op: Op = Op.SEND) -> None:
        source = SOURCE if partition == 0 else NOT_MINE
        assert await unit.decide(Ask(partition=partition, src_id=source, dst_id=entry, count=count,
                                     contended=contended, op=op.value)) is Status.OK

    for entry, partition in ((FULL, 2), (HELD_FULL, 2), (OWN_FULL, 0)):
        await fill(entry, partition, MAX_COUNT)
        await fill(entry, partition, MAX_COUNT)
    for _ in range(2):
        await unit.end(FULL)
    await fill(HELD, 2, 1)
    await fill(OWN, 0, 1)
    for _ in range(1 + FULL_TURN):
        await fill(OWN_TURN, 0, 1, contended=True)
    await fill(OTHERS, 2, 1, op=Op.GRANT)


EVERY_OP = (Op.SEND, Op.MVCL, Op.GRANT)

#: A request of each kind that is granted, in the scene; the token is that of a grant of
#: partition 0, if it has one.
BASES: dict[Op, dict[str, Any]] = {
    Op.SEND: {},
    Op.MVCL: {"op": Op.MVCL.value, "dst_id": MINE, "dst_offset": 100},
    Op.GRANT: {"op": Op.GRANT.value, "dst_offset": 1},
    Op.MVXL: {"op": Op.MVXL.value, "token": 1, "dst_offset": 3},
}

#: The size of partition 0's own grant, in the scenes that have one.
GRANTED = 256


def reasons(op: Op, granted: bool) -> list[tuple[Verdict, list[dict[str, Any]]]]:
    """Reasons in the order of the checks, each with requests that meet it, alone.

    `granted`: partition 0 has a live grant on TO.
    """
    top = WORD - 1
    found: list[tuple[Verdict, list[dict[str, Any]]]] = [
        ("dropped", [{"resetting": True}]),
        (Status.TIMEOUT, [{"down": True}]),
        (Status.ABORTED, [{"halted": True}]),
        (Status.NOT_PERMITTED, [{"permitted": False}]),
        (Status.CANCELLED, [{"cancelled": True}]),
    ]
    if op is Op.SEND:
        found.append((Status.BAD_OP, [{"op": other} for other in (0, 5, 9, 15)]))
    found.append((Status.BAD_COUNT, [
        {"count": count} for count in (0, MAX_COUNT + 1, 1 << 31, top)]))
    if op is Op.MVXL:
        if granted:
            found += [
                (Status.STALE, [{"token": token} for token in (
                    0, 2, 0x10001, 0x80000001, 0x8001)]),
                (Status.SRC_BOUNDS, [{"src_offset": offset} for offset in (
                    GRANTED - 63, GRANTED, 1 << 31, WORD - 64, top)]),
                (Status.DST_BOUNDS, [{"dst_offset": offset} for offset in (
                    GRANTED - 63, GRANTED, 1 << 31, WORD - 64, top)]),
                ("fence", [{"fence": True, "idle": False}]),
                (Status.OK, [{}, {"fence": True}, {"idle": False}, {"overtaken": True},
                             {"contended": True}, {"src_offset": GRANTED - 64},
                             {"dst_offset": GRANTED - 64}, {"dst_offset": 0}]),
            ]
        else:
            found.append((Status.STALE, [{"token": token} for token in (0, 1, 2)]))
        return found
    found += [
        (Status.SRC_FAULT, [{"src_id": entry} for entry in (
            NOT_VALID, NOT_MINE, NO_SEND, 0x100 | SOURCE, 0x8000 | SOURCE)]),
        (Status.DST_FAULT, [{"dst_id": entry} for entry in (
            NOT_VALID, NO_RECEIVE, SOURCE, 0x100 | TO, 0x8000 | TO,
            UNLISTED if op is not Op.MVCL else TO, NOT_MINE if op is Op.MVCL else MINE)]),
        (Status.SRC_BOUNDS, [{"src_offset": offset} for offset in (
            LENGTH - 63, LENGTH, 1 << 31, WORD - 64, top)]),
    ]
    if op is Op.MVCL:
        found.append((Status.DST_BOUNDS, [{"dst_offset": offset} for offset in (
            LENGTH - 63, LENGTH, 1 << 31, WORD - 64, top)]))
    if op is Op.GRANT and granted:
        return [*found, (Status.BUSY, [{}, {"dst_id": RING}, {"idle": False}])]
    own_held = [{"dst_id": TO}] if granted and op is Op.SEND else []
    if own_held:
        found.append((Status.LOCKED, own_held))
    free: dict[str, Any] = {"dst_id": RING} if own_held else {}
    found.append(("fence", [
        {"fence": True, "idle": False, **free}] if op is not Op.GRANT else [{"idle": False}]))
    if op is Op.MVCL:
        found.append(("blocked", [{"overtaken": True}]))
    else:
        found += [
            ("blocked", [{"dst_id": HELD}, {"dst_id": HELD_FULL}, {"dst_id": OWN_FULL},
                         {"dst_id": OWN_TURN, "contended": True},
                         {"dst_id": RING, "overtaken": True},
                         {"dst_id": FULL, "overtaken": True}]
             + ([{"dst_id": OWN}] if op is Op.GRANT else [])),
            (Status.LOCKED, [{"dst_id": OTHERS}, {"dst_id": OTHERS, "overtaken": True}]),
            (Status.DST_FULL, [{"dst_id": FULL}]),
        ]
    found += [
        (Status.RECEIVER_BUSY, [{"notify": True, "room": False, **free}]),
        (Status.OK, [free, {"notify": True, **free}, {"fence": True, **free},
                     {"dst_offset": LENGTH - 64 if op is Op.MVCL else 0, **free}]
         + ([{"dst_id": OWN, "overtaken": True}, {"dst_id": OWN, "contended": True}]
            if op is Op.SEND else [])),
    ]
    return found


async def order_of_the_checks(unit: Driver, op: Op, granted: bool) -> None:
    """Each reason alone, and before every later one."""
    await set_scene(unit)
    if granted:
        assert await unit.decide(Ask(op=Op.GRANT.value, dst_id=TO, count=GRANTED)) is Status.OK
    base = BASES[op]
    table = reasons(op, granted)
    for verdict, causes in table:
        for cause in causes:
            ask = Ask(**base | cause)
            entry = unit.model.entries[unit.model.destination(ask)
                                       if op is Op.MVXL else ask.dst_id % 16]
            before = len(entry.in_flight)
            assert await unit.decide(ask) == verdict, (ask, verdict)
            if verdict is Status.OK and op is not Op.MVXL:
                if op is Op.GRANT:
                    unit.grant_becomes(0, "ending")
                    await unit.order(OrderKind.END, partition=0)
                while len(entry.in_flight) > before:
                    await unit.end(unit.model.entries.index(entry), False)
    pairs = 0
    for (first, causes), (second, others) in itertools.combinations(
            [row for row in table if row[0] is not Status.OK], 2):
        for cause, other in itertools.product(causes, others):
            if not cause.keys() & other.keys() and (first, second) != ("fence", Status.LOCKED):
                assert await unit.decide(Ask(**base | cause | other)) == first, (cause, other)
                pairs += 1
    assert pairs > 20


SCENES = [(op, granted) for op in Op for granted in (False, True)]


@pytest.mark.parametrize(("op", "granted"), SCENES,
                         ids=[f"{op.name}-{'granted' if g else 'free'}" for op, g in SCENES])
def test_order_of_the_checks(name: str, op: Op, granted: bool) -> None:
    simulate(lambda unit: order_of_the_checks(unit, op, granted), name)


def test_edges_of_the_ranges(name: str) -> None:
    """A range that ends exactly at an entry's end is granted, one byte more is not."""
    async def bench(unit: Driver) -> None:
        for partition in range(3):
            await unit.allow(partition, WORD - 1)
        top = WORD - UNIT_BYTES
        await unit.commit(0, Row(length=128))
        await unit.commit(1, Row(length=192, base=0x4000))
        decide = unit.decide
        assert await decide(Ask(count=129)) is Status.SRC_BOUNDS
        assert await decide(Ask(count=128, src_offset=1)) is Status.SRC_BOUNDS
        assert await decide(Ask(count=1, src_offset=128)) is Status.SRC_BOUNDS
        assert await decide(Ask(count=128)) is Status.OK
        assert await decide(Ask(count=1, src_offset=127)) is Status.OK
        assert await decide(Ask(count=64)) == "blocked"
        assert await decide(Ask(count=63)) is Status.OK
        assert await decide(Ask(count=1)) == "blocked"
        for _ in range(3):
            await unit.end(1)
        assert await decide(Ask(count=1)) is Status.DST_FULL
        for _ in range(3):
            assert await decide(Ask(count=1, op=Op.MVCL.value, dst_offset=191)) is Status.OK
            await unit.end(1)
        assert await decide(Ask(count=2, op=Op.MVCL.value, dst_offset=191)) is Status.DST_BOUNDS
        # The largest entry, at the lowest address: sums of 33 bits.
        await unit.commit(2, Row(length=top, base=0))
        assert await decide(Ask(src_id=2, dst_id=2, count=top + 1)) is Status.SRC_BOUNDS
        assert await decide(Ask(src_id=2, dst_id=2, count=top)) is Status.OK
        await unit.end(2)
        assert await decide(Ask(src_id=2, dst_id=2, count=1)) is Status.DST_FULL
        assert await decide(Ask(src_id=2, dst_id=2, count=top)) is Status.DST_FULL
        assert await decide(Ask(src_id=2, dst_id=2, src_offset=64, count=top)) is (
            Status.SRC_BOUNDS)

    simulate(bench, name)


async def waits(unit: Driver) -> None:
    """DST_FULL waits only if the entry could ever hold the count; an expired wait ends."""
    await set_scene(unit)
    await unit.commit(UNLISTED, Row(owner=1, length=64))
    full = Ask(dst_id=FULL, wait=True)
    busy = Ask(notify=True, room=False, wait=True)
    locked = Ask(dst_id=OTHERS, wait=True)
    tight = Ask(dst_id=UNLISTED, wait=True)
    decide = unit.decide
    assert await decide(full) == ("waits", Status.DST_FULL)
    assert await decide(replace(tight, count=65)) is Status.DST_FULL
    assert await decide(busy) == ("waits", Status.RECEIVER_BUSY)
    assert await decide(locked) == ("waits", Status.LOCKED)
    grant = Ask(op=Op.GRANT.value, wait=True)
    assert await decide(replace(grant, dst_id=OTHERS)) == ("waits", Status.LOCKED)
    assert await decide(replace(grant, dst_id=FULL)) == ("waits", Status.DST_FULL)
    assert await decide(replace(grant, notify=True, room=False)) == (
        "waits", Status.RECEIVER_BUSY)
    # A driver's grant that ends is waited for like a message.
    for state in ("ending", "expired", "live"):
        unit.grant_becomes(2, state)
        for wait in (False, True):
            assert await decide(replace(locked, wait=wait)) == (
                "blocked" if state == "ending" else ("waits", Status.LOCKED) if wait
                else Status.LOCKED)
    assert await decide(tight) is Status.OK
    await unit.end(UNLISTED)
    assert await decide(tight) == ("waits", Status.DST_FULL)
    assert await decide(replace(tight, count=65)) is Status.DST_FULL
    for waits_on in (Status.DST_FULL, Status.RECEIVER_BUSY, Status.LOCKED):
        # What stops it now counts, and what it waited on if that will end by itself.
        over: dict[str, Any] = {"expired": True, "waits_on": waits_on, "waited": 0xDEADBEEF}
        assert await decide(replace(full, **over)) is Status.DST_FULL
        assert await decide(replace(busy, **over)) is Status.RECEIVER_BUSY
        assert await decide(replace(locked, **over)) is Status.LOCKED
        for dst_id, idle in ((HELD, True), (OWN_FULL, True), (TO, False)):
            assert await decide(Ask(
                wait=True, fence=True, dst_id=dst_id, idle=idle, **over)) is waits_on
    assert await decide(Ask(wait=True, expired=True, waited=77)) is Status.OK


def test_what_waits(name: str) -> None:
    simulate(waits, name)


def test_slots_follow_each_other(name: str) -> None:
    """One request every 4 cycles, each with the cursor behind the one before."""
    async def bench(unit: Driver) -> None:
        await set_scene(unit)
        start = unit.now
        for number in range(8):
            assert await unit.decide(Ask(tag=number, count=100 + number)) is Status.OK
        assert unit.now - start == 8 * 4
        assert unit.model.entries[TO].next_cursor == sum(range(100, 108))

    simulate(bench, name)


def test_requests_and_orders_take_turns(name: str) -> None:
    """While both are there; each sees what the one before did. The first turn is a request's."""
    async def bench(unit: Driver) -> None:
        await unit.allow(0, 64)
        rows = [Task(OrderKind.WRITE, 0), Task(OrderKind.WRITE, 1),
                Task(OrderKind.INVALIDATE, 0), Task(OrderKind.WRITE, 0),
                Task(OrderKind.INVALIDATE, 1)]
        turns = []
        while rows:
            served = await unit.slot(Ask(), rows[0])
            turns.append(served)
            if served:
                rows.pop(0)
        assert turns == [False, True] * 5
        assert await unit.decide(Ask()) is Status.DST_FAULT
        assert unit.verdicts == [
            Status.SRC_FAULT, Status.DST_FAULT, Status.OK, Status.SRC_FAULT, Status.OK,
            Status.DST_FAULT]
        # Alone, each follows at once.
        start = unit.now
        for _ in range(3):
            await unit.slot(None, Task(OrderKind.INVALIDATE, 3))
        assert unit.now - start == 3 * (ORDER_CYCLES + 1)

    simulate(bench, name)


async def holds(unit: Driver) -> None:
    """While `hold` is 1 no request begins its slot, and orders go on; one that began ends."""
    await set_scene(unit)
    unit.ctx.set(unit.unit.hold, 1)
    unit.offer(Ask(), None)
    await unit.idle(12)
    for _ in range(3):
        unit.served_order = False       # it is an order's turn every time
        assert await unit.slot(Ask(), Task(OrderKind.INVALIDATE, NO_SEND))
        await unit.idle(2)
    unit.ctx.set(unit.unit.hold, 0)
    assert await unit.decide(Ask()) is Status.OK
    # From the second cycle of the slot on it is too late.
    unit.offer(Ask(), None)
    unit.expect(unit.now + 1, asked=Ask().partition)
    unit._expect_request(Ask(), unit.now + DECISION_CYCLES)
    unit.model.accept(Ask(), unit.model.look(Ask()))
    for step in range(DECISION_CYCLES + 1):
        unit.ctx.set(unit.unit.hold, step > 0)
        unit.surroundings(Ask() if step == DECISION_CYCLES - 1 else None)
        await unit.cycle()
    await unit.idle(12)


def test_hold(name: str) -> None:
    simulate(holds, name)


async def rewinds(unit: Driver) -> None:
    """Only of an entry that is valid, one's own, no ring and not held; only its cursor changes."""
    await set_scene(unit)
    rewind = Task(OrderKind.REWIND, TO, partition=1)

    async def ends(task: Task) -> Status:
        await unit.slot(None, task)
        return unit.statuses[-1]

    assert await unit.decide(Ask(count=100)) is Status.OK
    assert await unit.query(TO) == (True, 1, 0, 0)
    assert await ends(rewind) is Status.BUSY    # held
    await unit.end(TO)
    assert await unit.query(TO) == (True, 1, 100, 0)
    for refused in (replace(rewind, partition=0), replace(rewind, partition=2),
                    replace(rewind, id=0x100 | TO), replace(rewind, id=0x8000 | TO),
                    replace(rewind, id=NOT_VALID), replace(rewind, id=RING)):
        assert await ends(refused) is Status.BUSY
        assert await unit.query(TO) == (True, 1, 100, 0)
    assert await ends(replace(rewind, id=OTHERS)) is Status.BUSY    # held by a grant
    assert await ends(rewind) is Status.OK
    assert await unit.query(TO) == (True, 1, 0, 0)
    assert await unit.decide(Ask(count=5)) is Status.OK


def test_rewind(name: str) -> None:
    simulate(rewinds, name)


async def consumes(unit: Driver) -> None:
    """Only of a valid ring of one's own, held or not; at most what is published and not consumed.
    """
    await set_scene(unit)
    consume = Task(OrderKind.CONSUME, RING, partition=1)

    async def ends(count: int, **changes: Any) -> Status:
        await unit.slot(None, replace(consume, count=count, **changes))
        return unit.statuses[-1]

    assert await ends(0) is Status.OK
    assert await ends(1) is Status.BUSY
    for _ in range(2):
        assert await unit.decide(Ask(dst_id=RING, count=1000)) is Status.OK
    assert await ends(1) is Status.BUSY         # placed, not published
    await unit.end(RING)
    assert await ends(1001) is Status.BUSY
    assert await ends(WORD - 1) is Status.BUSY
    assert await ends(400) is Status.OK         # although it is held
    assert await unit.query(RING) == (True, 1, 1000, 400)
    assert await ends(601) is Status.BUSY
    assert await ends(600) is Status.OK
    for changes in ({"partition": 0}, {"id": 0x100 | RING}, {"id": NOT_VALID}, {"id": TO},
                    {"id": FULL}):
        assert await ends(0, **changes) is Status.BUSY
    await unit.end(RING)
    assert await ends(1000) is Status.OK
    assert await unit.query(RING) == (True, 1, 2000, 2000)


def test_consume(name: str) -> None:
    simulate(consumes, name)


async def goes_round(unit: Driver) -> None:
    """A ring: what is not consumed is full, pieces go round, the cursor runs on beyond 2³²."""
    for partition in range(3):
        await unit.allow(partition, WORD - 1)
    top = WORD - UNIT_BYTES
    await unit.commit(0, Row(base=0x0FFFFFC0 & ~63, length=top))
    await unit.commit(1, Row(owner=1, base=0x4000, length=192, ring=True))
    await unit.commit(2, Row(owner=1, base=0, length=top, ring=True))
    decide = unit.decide

    async def send(count: int, **fields: Any) -> None:
        assert await decide(Ask(count=count, **fields)) is Status.OK
        await unit.end(fields.get("dst_id", 1))

    async def consume(count: int, entry: int = 1) -> None:
        assert await unit.order(
            OrderKind.CONSUME, id=entry, partition=1, count=count) is Status.OK

    # Up to the end, exactly; then from the start.
    await send(192)
    assert await decide(Ask(count=1)) is Status.DST_FULL
    assert await decide(Ask(count=193, wait=True)) is Status.DST_FULL
    await consume(1)
    assert await decide(Ask(count=2, wait=True)) == ("waits", Status.DST_FULL)
    await send(1, src_offset=5)
    await consume(192)
    # Two pieces, the first of which is one byte, the second of which is one byte, and all between.
    for start, count in ((191, 64), (130, 63), (129, 192), (1, 192), (100, 92), (190, 2)):
        position = unit.model.entries[1].position
        ahead = (start - position) % 192
        if ahead:
            await send(ahead, src_offset=7)
            await consume(ahead)
        assert unit.model.entries[1].position == start
        await send(count, src_offset=count % 4)
        await consume(count)
    # Behind messages that are in flight, and one that fails takes no room.
    assert await decide(Ask(count=100)) is Status.OK
    assert await decide(Ask(count=92)) is Status.OK
    assert await decide(Ask(count=1)) == "blocked"
    await unit.end(1, False)
    await unit.end(1)
    assert (await unit.query(1))[2] == unit.model.entries[1].cursor
    # The cursor goes beyond 2³², and its position does not.
    for entry_count in (1 << 31, 1 << 31, 1 << 31, 123):
        await send(entry_count, dst_id=2)
        await consume(entry_count, 2)
    assert await unit.query(2) == (True, 1, (1 << 31) + 123, (1 << 31) + 123)
    await send(100, dst_id=2)


def test_ring(name: str) -> None:
    simulate(goes_round, name)


async def mvcls(unit: Driver) -> None:
    """They take the lock and no room: messages are placed as if they were not there."""
    await set_scene(unit)
    for ring in (False, True):
        await unit.commit(MINE, Row(base=0x50000, length=LENGTH, ring=ring))
        send = Ask(dst_id=MINE, count=1000)
        move = Ask(op=Op.MVCL.value, dst_id=MINE, dst_offset=LENGTH - 70, count=70)
        for ask in (move, send, move, send, replace(move, dst_offset=0), send, send, move):
            assert await unit.decide(ask) is Status.OK
        assert await unit.decide(send) == "blocked"
        for good in (True, True, True, False, True, True, True, True):
            await unit.end(MINE, good)
        assert (await unit.query(MINE))[2] == unit.model.entries[MINE].cursor == 3000


def test_mvcl_takes_no_room(name: str) -> None:
    simulate(mvcls, name)


async def grants(unit: Driver) -> None:
    """Grants on a ring, with moves that begin behind its end; every status of RELEASE."""
    for partition in range(3):
        await unit.allow(partition, 4096)
    await unit.commit(0, Row(owner=0, base=0x10040, length=1024))
    await unit.commit(1, Row(owner=1, base=0x4000, length=192, ring=True))
    decide = unit.decide
    grant = Ask(op=Op.GRANT.value, src_offset=10, count=100, tag=0x5A, event=True, notify=True)

    async def release(token: int, count: int) -> Status:
        return await unit.order(OrderKind.RELEASE, partition=0, token=token, count=count)

    assert await release(0, 0) is Status.STALE
    for kind, start in ((GrantKind.CPU, 0), (GrantKind.ENGINE, 150), (GrantKind.CPU, 150),
                        (GrantKind.ENGINE, 92), (GrantKind.ENGINE, 91)):
        ahead = (start - unit.model.entries[1].position) % 192
        if ahead:
            assert await decide(Ask(count=ahead)) is Status.OK
            await unit.end(1)
        filled = unit.model.entries[1].published
        assert await unit.order(
            OrderKind.CONSUME, id=1, partition=1, count=filled) is Status.OK
        assert await decide(replace(grant, dst_offset=kind.value)) is Status.OK
        token = unit.model.grants[0].token
        assert await decide(Ask(count=1)) is Status.LOCKED
        for offset, count in ((0, 100), (41, 1), (42, 1), (43, 57), (0, 42), (0, 43), (99, 1),
                              (41, 3)):
            for src_offset in (0, 100 - count):
                assert await decide(Ask(
                    op=Op.MVXL.value, token=token, src_offset=src_offset, dst_offset=offset,
                    count=count, tag=offset, notify=False)) is Status.OK
        assert await release(token, 0) is Status.BUSY
        unit.moved(0, 60)
        for wrong in (token + 1, token ^ 1 << 16, token ^ 1 << 31, 0):
            assert await release(wrong, 0) is Status.STALE
        limit = 100 if kind is GrantKind.CPU else 60
        for count in (limit + 1, 1 << 31, WORD - 1):
            assert await release(token, count) is Status.BAD_COUNT
        assert await release(token, limit) is Status.OK
        assert await release(token, 0) is Status.STALE
        assert await decide(Ask(op=Op.MVXL.value, token=token, count=1)) is Status.STALE
        assert await decide(Ask(count=1)) == "blocked"
        assert await decide(grant) == "blocked"         # as long as its end is in flight
        await unit.end(1)
        assert unit.model.entries[1].position == (start + limit) % 192
    # Expired: held, but its token is nobody's; its end is the manager's.
    assert await unit.order(OrderKind.CONSUME, id=1, partition=1, count=60) is Status.OK
    assert await decide(replace(grant, dst_offset=1)) is Status.OK
    token = unit.model.grants[0].token
    unit.grant_becomes(0, "expired")
    assert await release(token, 0) is Status.STALE
    assert await decide(Ask(op=Op.MVXL.value, token=token, count=1)) is Status.STALE
    assert await decide(Ask(count=1)) is Status.LOCKED
    assert await decide(Ask(count=1, partition=1, src_id=2)) is Status.SRC_FAULT
    assert await decide(grant) is Status.BUSY
    unit.grant_becomes(0, "ending")
    assert await decide(grant) is Status.BUSY
    assert await decide(Ask(count=1)) == "blocked"
    # An end takes nothing with it, whatever its order says of a count.
    assert await unit.order(
        OrderKind.END, partition=0, token=token, count=77) is Status.OK
    cursor = unit.model.entries[1].cursor
    await unit.end(1)
    assert (await unit.query(1))[2] == cursor
    assert await decide(grant) is Status.OK


def test_grants(name: str) -> None:
    simulate(grants, name)


async def moves(unit: Driver) -> None:
    """The manager's: between any addresses, whatever the table says of them."""
    dice = unit.dice
    await set_scene(unit)
    top = 1 << unit.config.address_bits
    for _ in range(30):
        count = dice.choice((1, 2, 63, 64, 65, 4096, 1 << 20, WORD - 1))
        source, destination = (
            dice.choice((0, top - count, dice.randrange(top - count))) for _ in range(2))
        assert await unit.order(
            OrderKind.MOVE, id=RING, partition=1, count=count, source=source,
            destination=destination) is Status.OK
        if dice.random() < 0.5:
            assert await unit.decide(Ask(count=1)) is Status.OK
            await unit.end(TO, dice.random() < 0.5)


def test_moves_of_the_manager(name: str) -> None:
    simulate(moves, name)


def test_commit_clears_the_cursor(name: str) -> None:
    async def bench(unit: Driver) -> None:
        await set_scene(unit)
        assert await unit.query(FULL) == (True, 1, LENGTH, 0)
        await unit.slot(None, Task(OrderKind.INVALIDATE, FULL))
        assert (await unit.query(FULL))[0] is False
        await unit.commit(FULL, Row(owner=2))
        assert await unit.query(FULL) == (True, 2, 0, 0)
        assert await unit.decide(Ask(dst_id=FULL)) is Status.OK
        # The head of a ring, too.
        assert await unit.decide(Ask(dst_id=RING)) is Status.OK
        await unit.end(RING)
        assert await unit.order(OrderKind.CONSUME, id=RING, partition=1, count=7) is Status.OK
        assert await unit.query(RING) == (True, 1, 64, 7)
        await unit.commit(RING, Row(owner=1))
        assert await unit.query(RING) == (True, 1, 0, 0)

    simulate(bench, name)


async def random_slots(unit: Driver, slots: int = 1500) -> None:
    """Requests, orders and ends on a few entries, most requests with few things wrong."""
    dice, config, model = unit.dice, unit.config, unit.model
    entries = [0, 1, 2, config.entries - 1]
    everyone = range(config.partitions)

    def network_id() -> int:
        return dice.choice(entries) | (1 << dice.randrange(config.id_bits, 16)
                                       if rarely() else 0)

    def rarely() -> bool:
        return dice.random() < 0.03

    def row() -> Row:
        length = UNIT_BYTES * dice.choice((1, 2, 3, 4, 70))
        room = (1 << config.address_bits) - length
        return Row(valid=not rarely(), owner=dice.choice(everyone),
                   base=dice.choice((0, room, dice.randrange(room))) // UNIT_BYTES * UNIT_BYTES,
                   length=length, may_send=not rarely(), may_receive=not rarely(),
                   ring=dice.random() < 0.5,
                   senders=dice.choice(((1 << config.partitions) - 1,) * 4
                                       + (dice.getrandbits(config.partitions),)))

    def ask() -> Ask:
        holders = [p for p in everyone if model.live(p)]
        op = dice.randrange(16) if rarely() else dice.choice(
            (Op.SEND, Op.SEND, Op.SEND, Op.MVCL, Op.GRANT)
            + (Op.MVXL,) * (3 if holders else rarely())).value
        # Mostly from an entry of the sender.
        src_id = network_id()
        partition = model.at(src_id).row.owner if dice.random() < 0.9 else dice.choice(everyone)
        if op == Op.MVXL.value and holders and not rarely():
            partition = dice.choice(holders)
        grant = model.live(partition)
        dst_id = network_id()
        if op == Op.MVCL.value and not rarely():
            dst_id = dice.choice([entry for entry in entries
                                  if model.at(entry).row.owner == partition] or entries)
        src, dst = model.at(src_id).row, model.at(dst_id)
        count = max(0, dice.choice((
            *(dice.randrange(1, 40) for _ in range(8)), src.length, dst.row.length + 1,
            dst.row.length - dst.filled + dice.choice((0, 0, 1)), 0)))
        offset = dice.choice((0, dice.randrange(64),
                              max(0, src.length - count + dice.choice((0, 0, 1)))))
        token = None
        dst_offset = dice.choice((0, dice.randrange(64),
                                  max(0, dst.row.length - count + dice.choice((0, 0, 1)))))
        if op == Op.MVXL.value:
            token = grant.token if grant and not rarely() else dice.choice(
                (model.tokens[partition], dice.getrandbits(32)))
            if grant:
                count = dice.choice((grant.count, dice.randrange(1, 40)))
                room = max(0, grant.count - count) + rarely()
                offset, dst_offset = dice.randrange(room + 1), dice.randrange(room + 1)
        return Ask(
            partition=partition, op=op, wait=dice.random() < 0.5 and token is None,
            fence=dice.random() < 0.2, event=dice.random() < 0.5,
            notify=dice.random() < 0.5 and token is None, tag=dice.getrandbits(8),
            src_id=src_id, src_offset=offset, dst_id=dst_id, dst_offset=dst_offset, count=count,
            token=token, resetting=rarely(), down=rarely(), permitted=not rarely(),
            halted=rarely(), idle=dice.random() < 0.6, cancelled=rarely(), expired=rarely(),
            waited=dice.getrandbits(32),
            waits_on=dice.choice((Status.DST_FULL, Status.RECEIVER_BUSY, Status.LOCKED)),
            overtaken=rarely(), contended=dice.random() < 0.5, room=dice.random() < 0.8)

    def task() -> Task:
        held = [p for p in everyone if model.grants[p] and model.grants[p].state != "leaving"]
        if held and dice.random() < 0.4:
            partition = dice.choice(held)
            grant = model.grants[partition]
            if grant.state == "ending":
                return Task(OrderKind.END, partition=partition, count=dice.getrandbits(32))
            return Task(
                OrderKind.RELEASE, partition=partition,
                token=grant.token ^ (rarely() and 1 << dice.randrange(32)),
                count=dice.choice((0, grant.count, grant.acknowledged, grant.acknowledged + 1,
                                   dice.randrange(grant.count + 2))))
        if rarely():
            count = dice.randrange(1, 1000)
            top = (1 << config.address_bits) - count
            return Task(OrderKind.MOVE, count=count, source=dice.randrange(top),
                        destination=dice.randrange(top))
        lost = [entry for entry in entries if not model.at(entry).row.valid]
        which = dice.choice(lost if lost and dice.random() < 0.8 else entries)
        owner = model.at(which).row.owner if dice.random() < 0.8 else dice.choice(everyone)
        kind = dice.choice((OrderKind.REWIND,) * 2 + (OrderKind.CONSUME,) * 4
                           + (OrderKind.WRITE,) * 3 + (OrderKind.INVALIDATE,))
        if kind in (OrderKind.REWIND, OrderKind.CONSUME):
            filled = model.at(which).published
            return Task(kind, network_id() if rarely() else which, owner,
                        count=dice.choice((filled, filled + rarely(),
                                           dice.randrange(filled + 1))))
        # A row is written only when nothing is in flight to it, and none of a grant is lost.
        if model.at(which).in_flight or any(
                grant and which in (grant.src_id, grant.dst_id) for grant in model.grants):
            return Task(OrderKind.REWIND, which, owner)
        return Task(kind, which, row=row())

    def release() -> tuple[int, bool] | None:
        held = [entry for entry in entries
                if model.at(entry).in_flight and model.at(entry).in_flight[0].left]
        in_flight = sum(len(model.at(entry).in_flight) for entry in held)
        if held and (dice.random() < 0.4 or in_flight > config.messages_in_flight // 2):
            return dice.choice(held), dice.random() < 0.85
        return None

    def grants_go_on() -> None:
        """Between two slots: moves come through, leases pass, and the manager ends grants."""
        for p in everyone:
            grant = model.grants[p]
            if grant is None:
                continue
            if grant.moving and dice.random() < 0.5:
                unit.moved(p, dice.randrange(grant.count + 1))
            if grant.state in ("live", "expired") and rarely():
                unit.grant_becomes(p, "ending" if grant.kind is GrantKind.ENGINE or rarely()
                                   else "expired")

    for entry in entries:
        await unit.commit(entry, row())
    for partition in everyone:
        await unit.allow(partition, 200)
    pending: Ask | None = None
    for _ in range(slots):
        grants_go_on()
        one = task() if dice.random() < 0.35 else None
        if pending is None and (one is None or dice.random() < 0.7):
            pending = ask()
        # What an order says is true when it is taken, and a request may come before it.
        if one is not None and pending is not None and one.kind not in (
                OrderKind.REWIND, OrderKind.CONSUME, OrderKind.MOVE):
            if unit.served_order:
                one = None
        if not await unit.slot(pending, one, release()):
            pending = None
            # An order that was offered and not served keeps its place for the next slot.
            if one is not None:
                await unit.slot(None, one)
        if pending is None and dice.random() < 0.2:
            await unit.idle(dice.randrange(1, 4))
        if pending is None and rarely():
            await unit.allow(dice.choice(everyone), dice.choice((30, 200, 300, WORD - 1)))
    if pending is not None:
        await unit.slot(pending)


EVERY_VERDICT: set[Verdict] = {
    verdict for op in Op for granted in (False, True) for verdict, _ in reasons(op, granted)
} | {("waits", Status.DST_FULL), ("waits", Status.RECEIVER_BUSY), ("waits", Status.LOCKED)}


def test_against_integers(name: str) -> None:
    verdicts: list[Verdict] = []
    statuses: list[Status] = []

    async def bench(unit: Driver) -> None:
        await random_slots(unit, 2000)
        verdicts.extend(unit.verdicts)
        statuses.extend(unit.statuses)

    simulate(bench, name, seed=2)
    assert EVERY_VERDICT <= set(verdicts), EVERY_VERDICT - set(verdicts)
    assert verdicts.count(Status.OK) > 200
    assert {Status.OK, Status.BUSY, Status.STALE, Status.BAD_COUNT} == set(statuses)


#: What a wrong decision breaks first: what it reserves, what it accepts, or what it tells.
DECISION = "reserve|proposed|accepted|verdict|give|mvxl_started|assert"


def checks(op: Op, granted: bool = False) -> Callable[[Driver], Awaitable[None]]:
    return lambda unit: order_of_the_checks(unit, op, granted)


FAULTS: list[tuple[str, Callable[[Driver], Awaitable[None]], str, str, str]] = [
    ("high-id-bits-of-source", checks(Op.SEND),
     "                | (command.src_id >> config.id_bits).any()))", "                | 0))",
     DECISION),
    ("high-id-bits-of-destination", checks(Op.SEND),
     "in_table.eq(~(dst_id >> config.id_bits).any())", "in_table.eq(1)", DECISION),
    ("sender-not-owner", checks(Op.SEND), " | (entry.owner != partition)", "", DECISION),
    ("senders-not-looked-at", checks(Op.SEND), "~entry.senders.bit_select(partition, 1)", "0",
     DECISION),
    ("senders-of-ones-own", checks(Op.MVCL), "Mux(is_mvcl, entry.owner != partition,",
     "Mux(0, entry.owner != partition,", DECISION),
    ("send-right-not-looked-at", checks(Op.SEND), "~entry.valid | ~entry.may_send",
     "~entry.valid", DECISION),
    ("max-count-exclusive", checks(Op.SEND),
     "is_too_long.eq(count > max_count)",
     "is_too_long.eq(count >= max_count)",
     DECISION),
    ("no-bytes", checks(Op.SEND), "is_empty.eq(count == 0)", "is_empty.eq(0)", DECISION),
    ("enabled-before-halted", checks(Op.SEND),
     "(now.halted, Status.ABORTED)",
     "(now.halted & now.permitted, Status.ABORTED)",
     DECISION),
    ("halted-before-the-memory", checks(Op.SEND),
     "(self.down, Status.TIMEOUT)",
     "(self.down & ~now.halted, Status.TIMEOUT)",
     DECISION),
    ("moves-while-down", checks(Op.MVXL, True),
     "halts.eq(now.resetting | self.down |",
     "halts.eq(now.resetting |",
     DECISION),
    ("dropped-but-accepted", checks(Op.SEND),
     "& ~self.verdicts.payload.dropped)),",
     ")),",
     DECISION),
    ("not-dropped", checks(Op.SEND),
     "halts.eq(now.resetting |",
     "halts.eq(",
     DECISION),
    ("not-held-by-others", checks(Op.SEND),
     "~lock_own | lock.by_grant | is_grant", "lock.by_grant | is_grant", DECISION),
    ("grant-into-ones-own-messages", checks(Op.GRANT),
     "~lock_own | lock.by_grant | is_grant", "~lock_own | lock.by_grant", DECISION),
    ("into-an-ending-grant", grants, "~lock_own | lock.by_grant | is_grant",
     "~lock_own | is_grant", DECISION),
    ("into-ones-own-grant", grants,
     "own_locked.eq(has_lock & lock_granted & lock_own)",
     "own_locked.eq(0)",
     DECISION),
    ("into-the-grant-of-another", checks(Op.SEND),
     " locked.eq(has_lock & lock_granted & ~lock_own)",
     " locked.eq(0)",
     DECISION),
    ("expired-does-not-hold", grants, "& (self.live | self.expired).bit_select(lock.holder, 1)",
     "& self.live.bit_select(lock.holder, 1)", DECISION),
    ("ending-locks", waits, "& (self.live | self.expired).bit_select(lock.holder, 1)", "",
     DECISION),
    ("locked-never-waits", waits, "                verdict.waits.eq(patient),\n"
     "                verdict.blocked.eq(patient),",
     "                verdict.blocked.eq(patient),", DECISION),
    ("locked-is-not-woken", waits, "                verdict.blocked.eq(patient),\n", "",
     "waiting or blocked"),
    ("second-grant", checks(Op.GRANT, True),
     "is_grant & (self.live | self.expired | self.ending)",
     "0 & (self.live | self.expired | self.ending)",
     DECISION),
    ("second-grant-while-ending", grants, "(self.live | self.expired | self.ending)",
     "(self.live | self.expired)", DECISION),
    ("grant-without-fence", checks(Op.GRANT), "(command.fence | is_grant) & ~now.idle",
     "command.fence & ~now.idle", DECISION),
    ("token-in-half", checks(Op.MVXL, True), "(token == grant.token)",
     "(token[:31] == grant.token[:31])", DECISION),
    ("stale-token", grants,
     "self.live.bit_select(partition, 1) & same_token",
     "same_token",
     DECISION + "|the order's status"),
    ("source-of-a-grant-unbounded", checks(Op.MVXL, True),
     "bounds.limit.eq(Mux(limited, self.grant_limit, Cat(in_bytes, entry.length)))",
     "bounds.limit.eq(Cat(in_bytes, entry.length))", DECISION),
    ("mvcl-behind-the-cursor", checks(Op.MVCL),
     "with m.Elif(is_given):", "with m.Elif(is_mvxl):",
     DECISION),
    ("mvxl-notifies", checks(Op.MVXL, True), "dst_outside.eq(is_given & ",
     "dst_outside.eq(is_mvcl & ", DECISION),
    ("full-behind-own", checks(Op.SEND), "stuck | (is_send & ~locked & lock.held & ~bounds.fits)",
     "stuck", DECISION),
    ("overtaken-ignored", checks(Op.SEND), "                now.overtaken)),",
     "                0)),", DECISION),
    ("fence-always", checks(Op.SEND), "(command.fence | is_grant) & ~now.idle",
     "(command.fence | is_grant)", DECISION),
    ("waits-for-ever", waits, "patient & ~never_fits", "patient", "verdict|waiting"),
    ("expired-goes-on", waits, "patient.eq(command.wait & ~at.expired)",
     "patient.eq(command.wait)", DECISION),
    ("expired-does-not-end", waits, "verdict.accepted.eq(at.expired)", "verdict.accepted.eq(0)",
     DECISION),
    ("waited-lost", waits, "at.waited.eq(Mux(ordering, 0, now.waited))",
     "at.waited.eq(0)", DECISION),
    ("notification-not-looked-at", checks(Op.SEND),
     "command.notify & ~self.quota_room", "0", DECISION),
    ("granted-without-room", checks(Op.SEND),
     "fits.eq(bounds.fits & ~no_room)",
     "fits.eq(bounds.fits)",
     DECISION),
    ("granted-though-full", checks(Op.SEND), "fits.eq(bounds.fits & ~no_room)",
     "fits.eq(~no_room)", "reads|accepted|reserve"),
    ("late-circumstances", random_slots, "        m.d.sync += [\n            at.eq(now),",
     "        m.d.comb += [\n            at.eq(now),", DECISION),
    ("reserve-unasked", random_slots,
     "self.reserve.eq(placed & command.notify)",
     "self.reserve.eq(placed)",
     "reserve"),
    ("lanes-swapped", random_slots,
     "self.reads.payload.other_lane.eq(bounds.address[:config.size_log2])",
     "self.reads.payload.other_lane.eq(src_address[:config.size_log2])", "reads"),
    ("source-of-destination", random_slots, "self.reads.payload.address.eq(src_address)",
     "self.reads.payload.address.eq(bounds.address)", "reads"),
    ("last-exclusive", random_slots,
     "bounds.address[:config.block_log2] + count_less_1",
     "bounds.address[:config.block_log2] + count",
     "reads"),
    ("whole-message-in-one-piece", goes_round,
     "goes_round, bounds.to_last, count_less_1",
     "0, bounds.to_last, count_less_1",
     "writes"),
    ("no-second-piece", goes_round,
     "second.eq(first & went_round)",
     "second.eq(0)",
     "writes"),
    ("more-always", goes_round,
     "span.more.eq(went_round)",
     "span.more.eq(1)",
     "writes"),
    ("more-never", goes_round,
     "span.more.eq(went_round)",
     "span.more.eq(0)",
     "writes"),
    ("second-piece-rotated", goes_round, "span.other_lane.eq(source_lane - destination_lane)",
     "span.other_lane.eq(source_lane)", "writes"),
    ("second-piece-too-long", goes_round,
     "piece_less_1.eq(beyond)",
     "piece_less_1.eq(over)",
     "writes"),
    ("ring-stays-at-the-end", goes_round,
     "entry.ring & over[-1], over",
     "entry.ring & beyond[-1], over",
     "accepted"),
    ("append-goes-round", random_slots,
     "entry.ring & over[-1], over",
     "over[-1], over",
     "accepted"),
    ("mvxl-not-behind-the-end", grants,
     "Mux(\n            starting, command.op == Op.MVXL, is_mvxl & (step < _MVXL_STEP - 3))",
     "0",
     "writes|reads"),
    ("mvxl-from-the-entry", grants,
     "Mux(has_moved, moved_position, grant.position)",
     "grant.position",
     "writes|reads"),
    ("release-of-all", grants,
     "with m.Elif(~bounds.fits):\n                    m.d.comb += order_status",
     "with m.Elif(0):\n                    m.d.comb += order_status", "the order's status"),
    ("release-of-what-is-granted", grants, "self.releasing.eq(is_ending)", "self.releasing.eq(0)",
     "the order's status"),
    ("release-of-one-more", grants, "Mux(limited, self.grant_limit, Cat(",
     "Mux(limited, self.grant_limit + is_ending, Cat(", "the order's status"),
    ("release-behind-what-is-filled", random_slots,
     "with m.Elif(is_ending):\n            m.d.sync += used",
     "with m.Elif(0):\n            m.d.sync += used", "the order's status"),
    ("behind-nothing", checks(Op.SEND), "used.eq(lock.filled)",
     "used.eq(0)", DECISION),
    ("grant-asked-for-late", grants, "            self.grant_partition.eq(partition),\n",
     "        ]\n        m.d.sync += self.grant_partition.eq(partition)\n        m.d.comb += [\n",
     "asks in its cycle"),
    ("grant-asked-for-too-short", grants, "self.grant_partition.eq(partition)",
     "self.grant_partition.eq(Mux(at_decision, 0, partition))", "asks in its cycle"),
    ("position-behind-is-its-own", random_slots,
     "self.accepted.payload.next_position.eq(next_position)",
     "self.accepted.payload.next_position.eq(position)", "accepted"),
    ("status-of-any-cycle", grants,
     "with m.If(before_serving):\n            m.d.sync += self.order",
     "with m.If(1):\n            m.d.sync += self.order", "the order's status stays"),
    ("release-while-moving", grants, "with m.Elif(moving):", "with m.Elif(0):",
     "the order's status"),
    ("end-with-bytes", grants, "Mux(order.kind == OrderKind.END, 0, order.count)",
     "order.count", "proposed"),
    ("end-of-another-sort", grants, "is_ending\n                          & ((order.kind == "
     "OrderKind.END) | (own_live & ~moving & bounds.fits)))", "is_ending)",
     "leave|accepted|proposed"),
    ("ends-what-is-not-its-own", grants, "(own_live & ~moving & bounds.fits)",
     "(~moving & bounds.fits)", "leave|accepted|proposed"),
    ("ends-while-moving", grants, "(own_live & ~moving & bounds.fits)",
     "(own_live & bounds.fits)", "leave|accepted|proposed"),
    ("ends-with-too-many-bytes", grants, "(own_live & ~moving & bounds.fits)",
     "(own_live & ~moving)", "leave|accepted|proposed"),
    ("ends-only-by-a-release", grants, "((order.kind == OrderKind.END) | (own_live",
     "(0 | (own_live", "leave|accepted|proposed"),
    ("tag-of-the-command", random_slots, "record.tag.eq(Mux(is_ending, grant.tag, command.tag))",
     "record.tag.eq(command.tag)", "proposed"),
    ("grant-not-remembered", random_slots, "lock.place_grant.eq(is_grant)",
     "lock.place_grant.eq(0)", DECISION),
    ("mvxl-takes-a-lock", grants,
     "may_place.eq(open_now & ~is_mvxl)",
     "may_place.eq(open_now)",
     DECISION + "|freed"),
    ("mvcl-advances", mvcls,
     "lock.place_cursor.eq(may_send & fits)",
     "lock.place_cursor.eq(placed)",
     DECISION),
    ("sends-move-no-cursor", random_slots, "lock.place_cursor.eq(may_send & fits)",
     "lock.place_cursor.eq(0)", DECISION + "|proposed"),
    ("refused-rewind-clears", rewinds, "(order.kind == OrderKind.REWIND) & allowed",
     "(order.kind == OrderKind.REWIND)", "assert|the order's status"),
    ("decided-although-not-open", checks(Op.SEND),
     "& ~src_outside & ~closed & ~Cat(before.values()).any())",
     "& ~src_outside)", DECISION),
    ("decided-although-closed", checks(Op.SEND), "& ~closed & ~Cat(", "& ~Cat(", DECISION),
    ("decided-although-fenced", checks(Op.SEND), "& ~closed & ~Cat(before.values()).any())",
     "& ~closed)", DECISION),
    ("placed-although-a-source-is-wrong", checks(Op.SEND), "& ~hopeless & ~dst_unusable\n",
     "& ~dst_unusable\n", DECISION),
    ("placed-although-outside-the-source", checks(Op.SEND), "& ~src_outside & ~closed",
     "& ~closed", DECISION),
    ("open-in-every-cycle", random_slots, "open_now.eq(before_decision & ", "open_now.eq(",
     DECISION + "|reads|writes"),
    ("managers-move-in-every-cycle", moves, "raw_moves.eq(before_decision & is_move)",
     "raw_moves.eq(is_move)", "reads|writes|accepted"),
    ("accepted-as-refused", random_slots, "granted.eq(fits & (may_move | may_grant))",
     "granted.eq(fits & may_move)", "accepted"),
    ("proposed-when-accepted-only", random_slots, "self.proposed.valid.eq(at_decision)",
     "self.proposed.valid.eq(placed | moves)", "proposed"),
    ("target-at-once", grants, "went_round.eq(goes_round)", "went_round.eq(0)",
     "the grant's target|writes"),
    ("target-without-its-last-byte", grants, "piece_less_1 + 1", "piece_less_1",
     "the grant's target"),
    ("sees-no-request-to-come", random_slots, "self.looking.eq(starting & self.requests.valid)",
     "self.looking.eq(0)", "looking"),
    ("manager-in-the-ring", moves,
     "goes_round.eq(beyond[-1] & ~is_move)",
     "goes_round.eq(beyond[-1])",
     "writes"),
    ("manager-as-a-partition", moves, "Mux(is_move, config.manager, partition)", "partition",
     "reads"),
    ("turn-kept", checks(Op.SEND), "lock.held & at.contended, lock.turn + 1, 0",
     "1, lock.turn, 0", DECISION),
    ("moves-source-for-a-cycle-only", moves, "next_at_source | (is_move & at_source & (step == 1))",
     "next_at_source", "reads|writes"),
    ("move-at-an-offset", moves, "with m.Elif(is_move):\n            m.d.sync += position.eq(0)",
     "with m.Elif(0):\n            m.d.sync += position.eq(0)", "reads|writes"),
    ("hold-ignored", holds, "self.requests.valid & ~self.hold):", "self.requests.valid):",
     "in its cycle"),
    ("hold-holds-orders", holds, "(order_next | ~self.requests.valid | self.hold)",
     "(order_next | ~self.requests.valid)", "in its cycle"),
    ("orders-never-first", random_slots, "order_next | ~self.requests.valid",
     "~self.requests.valid", "in its cycle"),
    ("orders-always-first", random_slots, "order_next | ~self.requests.valid", "1",
     "in its cycle|quota of the pair"),
    ("rewind-of-others", rewinds,
     "owned.eq(known & (receiver == partition))",
     "owned.eq(known)",
     "the order's status"),
    ("rewind-while-held", rewinds, " & ~lock.held", "", "the order's status"),
    ("rewind-of-a-ring", rewinds,
     "            ~entry.ring & ~lock.held))",
     "            ~lock.held))",
     "the order's status"),
    ("consume-of-all", consumes,
     "entry.ring & ~overdrawn",
     "~overdrawn",
     "the order's status"),
    ("consume-of-one-more", consumes,
     "overdrawn.eq(count > used)",
     "overdrawn.eq(count > used + 1)",
     "the order's status"),
    ("consume-of-what-is-placed", consumes, "lock.published.eq(ordering)",
     "lock.published.eq(0)", "the order's status"),
    ("consume-although-refused", consumes, "(order.kind == OrderKind.CONSUME) & allowed",
     "(order.kind == OrderKind.CONSUME)", "assert|the order's status"),
    ("order-of-high-id-bits", consumes, "known.eq(entry.valid & in_table)",
     "known.eq(entry.valid)", "the order's status|accepted"),
    ("commit-keeps-the-cursor", random_slots,
     "lock.clear.eq(before_serving & ((order.kind == OrderKind.WRITE)",
     "lock.clear.eq(before_serving & (0", DECISION + "|status"),
    ("invalidate-lost", random_slots,
     "table.write_en.eq(before_serving & ((order.kind == OrderKind.INVALIDATE)",
     "table.write_en.eq(before_serving & (0", DECISION),
    ("invalidate-keeps-it-valid", random_slots,
     "self.new_entry.valid & (order.kind == OrderKind.WRITE)", "self.new_entry.valid", DECISION),
]


@pytest.mark.parametrize(("bench", "old", "new", "expected"), [fault[1:] for fault in FAULTS],
                         ids=[fault[0] for fault in FAULTS])
def test_planted_fault(bench: Callable[[Driver], Awaitable[None]], old: str, new: str,
                       expected: str) -> None:
    with pytest.raises(AssertionError, match=expected):
        simulate(bench, "lut", module=mutated(front, old, new))
