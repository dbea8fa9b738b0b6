# SPDX-License-Identifier: Apache-2.0
"""The protocol checkers: silent on legal traffic, and every rule seen to name what breaks it.

A trace is a list of cycles; a cycle has the values of the signals that are not 0, and `rst`.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import pytest
from amaranth.asserts import AnySeq, Initial
from amaranth.hdl import Assert, Assume, ClockDomain, Elaboratable, Module, ResetSignal
from amaranth.lib import wiring
from amaranth.sim import Simulator

from formal.axi4_checker import AXI4Checker
from formal.axil_checker import AXI4LiteChecker
from formal.mutants import broken
from formal.rules import RuleChecker
from formal.run import Job, prove
from formal.stream_checker import StreamChecker
from mvxl.axi import AXI4LiteSignature, AXI4Signature

Cycle = dict[str, int]

MEMORY_PORT = AXI4Signature(address_bits=32, data_bits=32, user_bits=2)
REGISTER_PORT = AXI4LiteSignature(address_bits=12)


def axi4(**options: Any) -> AXI4Checker:
    return AXI4Checker(MEMORY_PORT, reads_in_flight=2, writes_in_flight=2, burst_beats=256,
                       **options)


def lite(**options: Any) -> AXI4LiteChecker:
    return AXI4LiteChecker(REGISTER_PORT, requests_in_flight=3, **options)


def play(checker: RuleChecker, trace: list[Cycle]) -> set[str]:
    """Show a trace to a checker; the rules that it finds broken."""
    m = Module()
    m.domains.sync = domain = ClockDomain()
    m.submodules.checker = checker

    async def bench(ctx: Any) -> None:
        for cycle in trace:
            ctx.set(domain.rst, cycle.get("rst", 0))
            for name in checker.bus.signature.members:
                ctx.set(getattr(checker.bus, name), cycle.get(name, 0))
            await ctx.tick()
        found.append(ctx.get(checker.failed))

    found: list[int] = []
    sim = Simulator(m)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    return {told.split()[0] for told in checker.told(found[0])}


def together(*parts: Cycle) -> Cycle:
    """Several channels in one cycle."""
    return {name: value for part in parts for name, value in part.items()}


# AXI4. Without `ready`, an offer is not taken.

def address(channel: str, **fields: int) -> Cycle:
    shape = {"addr": 0, "len": 0, "size": 2, "burst": 1, "cache": 0b0011, "valid": 1, "ready": 1}
    return {f"{channel}{name}": value for name, value in (shape | fields).items()}


def aw(**fields: int) -> Cycle:
    return address("aw", **fields)


def ar(**fields: int) -> Cycle:
    return address("ar", **fields)


def w(last: int = 1, *, ready: int = 1, strb: int = 0b1111, data: int = 0) -> Cycle:
    return {"wvalid": 1, "wready": ready, "wlast": last, "wstrb": strb, "wdata": data}


def b(*, ready: int = 1, resp: int = 0, id: int = 0) -> Cycle:
    return {"bvalid": 1, "bready": ready, "bresp": resp, "bid": id}


def r(last: int = 1, *, ready: int = 1, resp: int = 0, id: int = 0, data: int = 0) -> Cycle:
    return {"rvalid": 1, "rready": ready, "rlast": last, "rresp": resp, "rid": id, "rdata": data}


#: Name of a trace: the rules that it breaks, and the trace.
AXI4_BAD: dict[str, tuple[set[str], list[Cycle]]] = {}
for _name in ("aw", "ar"):
    AXI4_BAD |= {
        f"{_name}-taken-back": ({f"{_name}_valid_stays"}, [address(_name, ready=0), {}]),
        f"{_name}-changed": ({f"{_name}_payload_stable"},
                             [address(_name, ready=0), address(_name, addr=64)]),
        f"{_name}-user-changed": ({f"{_name}_payload_stable"},
                                  [address(_name, ready=0), address(_name, user=1)]),
        f"{_name}-right-after-reset": ({f"{_name}_low_after_reset"}, [{"rst": 1}, address(_name)]),
        f"{_name}-narrow": ({f"{_name}_size"}, [address(_name, size=1)]),
        f"{_name}-wider-than-the-bus": ({f"{_name}_size"}, [address(_name, size=3)]),
        f"{_name}-fixed": ({f"{_name}_burst"}, [address(_name, burst=0)]),
        f"{_name}-wrap": ({f"{_name}_burst"}, [address(_name, burst=2)]),
        f"{_name}-not-aligned": ({f"{_name}_aligned"}, [address(_name, addr=2)]),
        f"{_name}-over-4-kib": ({f"{_name}_boundary"}, [address(_name, addr=4096 - 8, len=2)]),
        f"{_name}-longest-over-4-kib": ({f"{_name}_boundary"},
                                        [address(_name, addr=0x1000 - 1020, len=255)]),
        f"{_name}-exclusive": ({f"{_name}_lock"}, [address(_name, lock=1)]),
        f"{_name}-reserved-cache": ({f"{_name}_cache"}, [address(_name, cache=0b0100)]),
        f"{_name}-other-id": ({f"{_name}_id"}, [address(_name, id=1)]),
    }
AXI4_BAD |= {
    "w-taken-back": ({"w_valid_stays"}, [together(aw(), w(ready=0)), {}]),
    "w-changed": ({"w_payload_stable"}, [together(aw(), w(ready=0)), w(data=1)]),
    "w-strobes-changed": ({"w_payload_stable"}, [together(aw(), w(ready=0)), w(strb=1)]),
    "w-right-after-reset": ({"w_low_after_reset"}, [{"rst": 1}, w()]),
    "wlast-early": ({"w_last"}, [together(aw(len=1), w(1))]),
    "wlast-early-behind": ({"w_last"}, [aw(len=2), w(0), w(1)]),
    "wlast-missing": ({"w_last"}, [aw(), w(0)]),
    "wlast-early-in-second": ({"w_last"}, [aw(), w(1), aw(len=1), w(1)]),
    "wlast-of-the-second-in-the-first": ({"w_last"}, [aw(len=1), aw(), w(1)]),
    "wlast-early-ahead": ({"w_last"}, [w(0), w(1), aw(len=2)]),
    "wlast-late-ahead": ({"w_last"}, [w(0), w(1), aw(len=0)]),
    "too-many-beats-ahead": ({"w_last"}, [w(0), w(0), aw(len=1)]),
    "too-many-beats-ahead-and-more": ({"w_last"}, [w(0), w(0), together(aw(len=0), w(0))]),
    "wlast-missing-for-ever": ({"w_last"}, [w(0)] * 256),
    "strobe-below-the-start": ({"aw_aligned", "w_strobes"},
                               [aw(addr=2), w(strb=0b1110)]),
    "strobe-below-the-start-ahead": ({"aw_aligned", "w_strobes"},
                                     [w(strb=0b0010), aw(addr=2)]),
    "two-bursts-ahead": ({"w_ahead"}, [w(), w()]),
    "a-burst-ahead-of-a-stalled-address": ({"w_ahead"}, [together(aw(ready=0), w()),
                                                         together(aw(ready=0), w()), aw()]),
    "three-writes": ({"writes_in_flight"}, [together(aw(), w())] * 3 + [{}]),
    "three-reads": ({"reads_in_flight"}, [ar()] * 3 + [{}]),
    "b-taken-back": ({"b_valid_stays"}, [together(aw(), w()), b(ready=0), {}]),
    "b-changed": ({"b_payload_stable"}, [together(aw(), w()), b(ready=0), b(resp=2)]),
    "b-right-after-reset": ({"b_low_after_reset", "b_request"}, [{"rst": 1}, b()]),
    "b-for-nothing": ({"b_request"}, [b()]),
    "b-with-its-data": ({"b_request"}, [aw(), together(w(), b())]),
    "b-before-the-last-beat": ({"b_request"}, [aw(len=1), w(0), b()]),
    "b-before-the-address": ({"b_request"}, [w(), b()]),
    "b-twice": ({"b_request"}, [together(aw(), w()), b(), b()]),
    "b-exclusive-okay": ({"b_response"}, [together(aw(), w()), b(resp=1)]),
    "b-other-id": ({"b_id"}, [together(aw(), w()), b(id=1)]),
    "r-taken-back": ({"r_valid_stays"}, [ar(), r(ready=0), {}]),
    "r-changed": ({"r_payload_stable"}, [ar(), r(ready=0), r(data=1)]),
    "r-right-after-reset": ({"r_low_after_reset", "r_request"}, [{"rst": 1}, r()]),
    "r-for-nothing": ({"r_request"}, [r()]),
    "r-with-its-request": ({"r_request"}, [together(ar(), r())]),
    "r-twice": ({"r_request"}, [ar(), r(), r()]),
    "rlast-early": ({"r_last"}, [ar(len=1), r(1)]),
    "rlast-missing": ({"r_last"}, [ar(), r(0)]),
    "rlast-early-in-second": ({"r_last"}, [ar(), ar(len=1), r(1), r(1)]),
    "r-exclusive-okay": ({"r_response"}, [ar(), r(resp=1)]),
    "r-other-id": ({"r_id"}, [ar(), r(id=1)]),
}

#: The same where data may be two bursts ahead.
AXI4_TWO_AHEAD_BAD: dict[str, tuple[set[str], list[Cycle]]] = {
    "third-burst-ahead": ({"w_ahead"}, [w(), w(), w(ready=0)]),
    "third-burst-ahead-of-a-stalled-address": ({"w_ahead"}, [together(aw(ready=0), w())] * 3),
    "third-burst-with-the-first-address": ({"w_ahead"}, [w(), w(), together(aw(), w())]),
    "fourth-burst-behind-the-first-address": ({"w_ahead"}, [w(), w(), aw(), w(), w(ready=0)]),
    "first-shorter-than-its-address": ({"w_last"}, [w(), w(), aw(len=1)]),
    "first-longer-than-its-address": ({"w_last"}, [w(0), w(), w(), aw()]),
    "second-shorter-than-its-address": ({"w_last"}, [w(), w(), aw(), aw(len=1)]),
    "second-longer-than-its-address": ({"w_last"}, [w(), w(0), w(), aw(), aw()]),
    "swapped": ({"w_last"}, [w(0), w(), w(), aw(), aw(len=1)]),
    "first-wrong-amid-the-second": ({"w_last"}, [w(), w(0), aw(len=1)]),
    "second-goes-on-behind-its-address": ({"w_last"}, [w(), w(0), aw(), aw(), w(0)]),
    "too-many-beats-in-second": ({"w_last"}, [w(), w(0), w(0), aw(), aw(len=1)]),
    "second-ends-early-behind-its-address": ({"w_last"}, [w(), w(0), aw(), aw(len=2), w()]),
    "second-ends-with-the-first-address": ({"w_last"}, [w(), together(aw(), w()), aw(len=1)]),
    "third-shorter-than-its-address": ({"w_last"}, [w(), w(0), w(), aw(), w(0), w(),
                                                    together(aw(len=1), b()),
                                                    together(aw(len=0), b())]),
    "wlast-missing-for-ever-in-second": ({"w_last"}, [w(), *[w(0)] * 256]),
    "wlast-missing-for-ever-beside-an-offer": ({"w_last"},
                                               [together(aw(ready=0), w()),
                                                *[together(aw(ready=0), w(0))] * 256]),
    "strobe-below-the-start-of-first": ({"aw_aligned", "w_strobes"},
                                        [w(strb=0b0010), w(strb=0b1100), aw(addr=2)]),
    "strobe-below-the-start-of-second": ({"aw_aligned", "w_strobes"},
                                         [w(strb=0b1100), w(strb=0b0010), aw(), aw(addr=2)]),
    "strobe-below-the-start-amid-second": ({"aw_aligned", "w_strobes"},
                                           [w(strb=0b1100), w(0, strb=0b0010), aw(),
                                            aw(addr=2, len=1)]),
    "b-before-both-addresses": ({"b_request"}, [w(), w(), b()]),
    "b-of-second-before-its-address": ({"b_request"}, [w(), w(), aw(), b(), b()]),
}

#: Legal traces at the edges of the rules.
AXI4_GOOD: dict[str, list[Cycle]] = {
    "data-with-its-address": [together(aw(len=1), w(0)), w(1), b()],
    "data-ahead": [w(0), w(1), aw(len=1), b()],
    "data-ahead-of-a-stalled-address": [together(aw(ready=0), w()), aw(), b()],
    "next-burst-behind-the-address": [together(aw(ready=0), w()), aw(), w(), aw(), b(), b()],
    "up-to-4-kib": [together(aw(addr=4096 - 8, len=1), w(0)), w(1),
                    ar(addr=4096 - 1024, len=255)],
    "two-in-flight": [together(aw(), w()), together(aw(), w()), b(), together(aw(), w())],
    "third-with-the-response": [together(aw(), w()), together(aw(), w()),
                                together(aw(), w(), b()), b(), b()],
    "strobes-from-the-start": [together(aw(), w(strb=0b1000)), b()],
    "no-strobes": [together(aw(), w(strb=0)), b()],
    "errors": [together(aw(), w(), ar()), together(b(resp=2), r(resp=3))],
    "after-reset": [{"rst": 1}, {}, together(aw(), w(), ar()), together(b(), r())],
    "reset-amid-offers": [together(aw(ready=0), w(ready=0), ar(ready=0)),
                          {"rst": 1}, {}, together(aw(), w(), ar()), together(b(), r())],
    "longest-read": [ar(len=255), *[r(0)] * 255, r(1)],
    "longest-write-ahead": [*[w(0)] * 255, w(1), aw(len=255), b()],
}

#: The same where data may be two bursts ahead.
AXI4_TWO_AHEAD_GOOD: dict[str, list[Cycle]] = {
    "two-bursts-ahead": [w(0), w(), w(), aw(len=1), aw(), b(), b()],
    "two-bursts-ahead-shorter-first": [w(), w(0), w(), aw(), aw(len=1), b(), b()],
    "two-bursts-ahead-of-a-stalled-address": [together(aw(ready=0), w()),
                                              together(aw(ready=0), w(0)),
                                              together(aw(ready=0), w()),
                                              aw(), aw(len=1), b(), b()],
    "third-burst-behind-the-first-address": [w(), w(0), w(), aw(), w(0),
                                             together(aw(len=1), w(0)), together(b(), w()),
                                             together(aw(len=2), b()), b()],
    "second-ends-with-the-first-address": [w(), w(0), together(aw(), w()), aw(len=1), b(), b()],
    "second-begins-with-the-first-address": [w(), together(aw(), w(0)), aw(len=1), w(), b(), b()],
    "second-goes-on-behind-its-address": [w(), w(0), aw(), aw(len=2), w(0), w(), b(), b()],
    "b-between-the-addresses": [w(), w(), aw(), b(), aw(), b()],
    "strobes-from-each-start": [w(strb=0b1000), w(strb=0b0001), aw(), aw(), b(), b()],
    "longest-writes-ahead": [*[*[w(0)] * 255, w()] * 2, aw(len=255), aw(len=255), b(), b()],
    "reset-while-ahead": [w(), w(0), {"rst": 1}, {}, w(0), w(), aw(len=1), b()],
}


@pytest.mark.parametrize("name", AXI4_BAD)
def test_axi4_broken_rule_is_named(name: str) -> None:
    expected, trace = AXI4_BAD[name]
    assert play(axi4(manager="report", subordinate="report"), trace) == expected


@pytest.mark.parametrize("name", AXI4_GOOD)
def test_axi4_is_silent(name: str) -> None:
    assert play(axi4(), AXI4_GOOD[name]) == set()


@pytest.mark.parametrize("name", AXI4_TWO_AHEAD_BAD)
def test_axi4_broken_rule_is_named_two_ahead(name: str) -> None:
    expected, trace = AXI4_TWO_AHEAD_BAD[name]
    checker = axi4(data_ahead_bursts=2, manager="report", subordinate="report")
    assert play(checker, trace) == expected


@pytest.mark.parametrize("name", AXI4_GOOD | AXI4_TWO_AHEAD_GOOD)
def test_axi4_is_silent_two_ahead(name: str) -> None:
    trace = (AXI4_GOOD | AXI4_TWO_AHEAD_GOOD)[name]
    assert play(axi4(data_ahead_bursts=2), trace) == set()


def test_axi4_len() -> None:
    checker = AXI4Checker(MEMORY_PORT, reads_in_flight=2, writes_in_flight=2, burst_beats=16,
                          manager="report")
    assert play(checker, [aw(len=16), ar(len=15)]) == {"aw_len"}
    checker = AXI4Checker(MEMORY_PORT, reads_in_flight=2, writes_in_flight=2, burst_beats=16,
                          manager="report")
    assert play(checker, [aw(len=15), ar(len=16)]) == {"ar_len"}


def test_axi4_every_rule_was_seen_to_fail() -> None:
    seen = {rule for rules, _ in AXI4_BAD.values() for rule in rules} | {"aw_len", "ar_len"}
    checker = axi4()
    assert seen == set(checker.rules)
    assert len(checker.rules) == len(set(checker.rules))
    assert play(checker, []) == set()


def legal_axi4(cycles: int, seed: int, *, ahead: int = 1) -> list[Cycle]:
    """Random legal traffic on all five channels, with stalls.

    Data comes before and after its address, before it by up to `ahead` bursts.
    """
    dice = random.Random(seed)

    def some(chance: float = 0.6) -> bool:
        return dice.random() < chance

    trace: list[Cycle] = []
    lengths = [dice.choice((0, 0, 1, 2, 7)) for _ in range(cycles)]     # of all writes, in order
    offered: dict[str, Cycle] = {}
    addresses = bursts = responses = beat = furthest = 0
    reads: deque[int] = deque()
    read_beat = 0
    for _ in range(cycles):
        if "aw" not in offered and addresses - responses < 2 and some():
            length = lengths[addresses]
            offered["aw"] = aw(len=length, addr=dice.choice((0, 4096 - 4 * (length + 1))))
        if "w" not in offered and bursts < addresses + ahead and some():
            offered["w"] = w(int(beat == lengths[bursts]), data=dice.randrange(1 << 32),
                             strb=dice.randrange(16))
        if "b" not in offered and responses < min(addresses, bursts) and some(0.4):
            offered["b"] = b(resp=dice.choice((0, 2, 3)))
        if "ar" not in offered and len(reads) < 2 and some():
            offered["ar"] = ar(len=dice.choice((0, 1, 5)), addr=4096 - 24)
        if "r" not in offered and reads and some():
            offered["r"] = r(int(read_beat == reads[0]), data=dice.randrange(1 << 32))
        readies = {f"{name}ready": int(some()) for name in ("aw", "w", "b", "ar", "r")}
        trace.append(together(*offered.values(), readies))
        for name in [name for name in offered if readies[f"{name}ready"]]:
            cycle = offered.pop(name)
            if name == "aw":
                addresses += 1
            elif name == "w":
                beat = 0 if cycle["wlast"] else beat + 1
                bursts += cycle["wlast"]
            elif name == "b":
                responses += 1
            elif name == "ar":
                reads.append(cycle["arlen"])
            elif cycle["rlast"]:
                reads.popleft()
                read_beat = 0
            else:
                read_beat += 1
        furthest = max(furthest, bursts - addresses)
    assert responses > cycles // 20
    assert furthest == ahead
    return trace


@pytest.mark.parametrize("ahead", [1, 2])
@pytest.mark.parametrize("seed", range(4))
def test_axi4_is_silent_on_random_traffic(seed: int, ahead: int) -> None:
    checker = axi4(data_ahead_bursts=ahead)
    assert play(checker, legal_axi4(1500, seed, ahead=ahead)) == set()


# AXI4-Lite: the helpers of AXI4, less what it lacks.

def lite_request(channel: str, *, addr: int = 0, ready: int = 1) -> Cycle:
    return {f"{channel}valid": 1, f"{channel}ready": ready, f"{channel}addr": addr}


def lite_write(ready: int = 1) -> Cycle:
    return together(lite_request("aw", ready=ready),
                    {"wvalid": 1, "wready": ready, "wstrb": 0b1111})


LW, LAW, LAR = lite_write(), lite_request("aw"), lite_request("ar")
LDATA = {"wvalid": 1, "wready": 1, "wstrb": 0b1111}

LITE_BAD: dict[str, tuple[set[str], list[Cycle]]] = {
    "aw-taken-back": ({"aw_valid_stays"}, [lite_request("aw", ready=0), {}]),
    "aw-changed": ({"aw_payload_stable"}, [lite_request("aw", ready=0),
                                           lite_request("aw", addr=4)]),
    "aw-right-after-reset": ({"aw_low_after_reset"}, [{"rst": 1}, LAW]),
    "w-taken-back": ({"w_valid_stays"}, [LDATA | {"wready": 0}, {}]),
    "w-changed": ({"w_payload_stable"}, [LDATA | {"wready": 0}, LDATA | {"wdata": 1}]),
    "w-right-after-reset": ({"w_low_after_reset"}, [{"rst": 1}, LDATA]),
    "ar-taken-back": ({"ar_valid_stays"}, [lite_request("ar", ready=0), {}]),
    "ar-changed": ({"ar_payload_stable"}, [lite_request("ar", ready=0),
                                           lite_request("ar", addr=4), r()]),
    "ar-right-after-reset": ({"ar_low_after_reset"}, [{"rst": 1}, LAR]),
    "b-taken-back": ({"b_valid_stays"}, [LW, b(ready=0), {}]),
    "b-changed": ({"b_payload_stable"}, [LW, b(ready=0), b(resp=2)]),
    "b-right-after-reset": ({"b_low_after_reset", "b_request"}, [{"rst": 1}, b()]),
    "b-for-nothing": ({"b_request"}, [b()]),
    "b-without-data": ({"b_request"}, [LAW, b()]),
    "b-without-address": ({"b_request"}, [LDATA, b()]),
    "b-in-the-same-cycle": ({"b_request"}, [together(LW, b()), b()]),
    "b-twice": ({"b_request"}, [LW, b(), b()]),
    "b-exclusive-okay": ({"b_response"}, [LW, b(resp=1)]),
    "b-late": ({"b_in_time"}, [LW, {}, {}, {}, {}, b()]),
    "b-late-after-late-data": ({"b_in_time"}, [LAW, {}, {}, {}, {}, {}, LDATA,
                                               {}, {}, {}, {}, b()]),
    "b-of-the-second-late": ({"b_in_time"}, [LW, LW, {}, {}, b(), {}, b()]),
    "b-of-the-second-behind-the-first": ({"b_in_time"}, [LW, LW, LW, {}, b(), b(), {}, b()]),
    "b-late-after-a-hold": ({"b_in_time"}, [LW, b(ready=0), b(), LW, {}, {}, {}, {}, b()]),
    "four-writes": ({"writes_in_flight"}, [LW] * 4 + [b()] * 4),
    "four-addresses": ({"writes_in_flight"}, [LAW] * 4 + [{}]),
    "four-data": ({"writes_in_flight"}, [LDATA] * 4 + [{}]),
    "r-taken-back": ({"r_valid_stays"}, [LAR, r(ready=0), {}]),
    "r-changed": ({"r_payload_stable"}, [LAR, r(ready=0), r(data=1)]),
    "r-right-after-reset": ({"r_low_after_reset", "r_request"}, [{"rst": 1}, r()]),
    "r-for-nothing": ({"r_request"}, [r()]),
    "r-in-the-same-cycle": ({"r_request"}, [together(LAR, r()), r()]),
    "r-twice": ({"r_request"}, [LAR, r(), r()]),
    "r-exclusive-okay": ({"r_response"}, [LAR, r(resp=1)]),
    "r-late": ({"r_in_time"}, [LAR, {}, {}, {}, {}, r()]),
    "four-reads": ({"reads_in_flight"}, [LAR] * 4 + [r()] * 4),
}

LITE_GOOD: dict[str, list[Cycle]] = {
    "in-four-cycles": [together(LW, LAR), {}, {}, {}, together(b(), r())],
    "in-one-cycle": [together(LW, LAR), together(b(), r())],
    "address-long-before-data": [LAW, {}, {}, {}, {}, {}, {}, {}, LDATA, {}, {}, {}, b()],
    "data-long-before-address": [LDATA, {}, {}, {}, {}, {}, {}, {}, LAW, {}, {}, {}, b()],
    "three-in-a-row": [LW, LW, LW, {}, b(), b(), b()],
    "held-response": [LW, LW, *[b(ready=0)] * 9, b(), b()],
    "errors": [together(LW, LAR), together(b(resp=2), r(resp=3))],
    "reset-amid-offers": [lite_write(ready=0), {"rst": 1}, {}, LW, b()],
}


@pytest.mark.parametrize("name", LITE_BAD)
def test_lite_broken_rule_is_named(name: str) -> None:
    expected, trace = LITE_BAD[name]
    assert play(lite(manager="report", subordinate="report"), trace) == expected


@pytest.mark.parametrize("name", LITE_GOOD)
def test_lite_is_silent(name: str) -> None:
    assert play(lite(), LITE_GOOD[name]) == set()


def test_lite_every_rule_was_seen_to_fail() -> None:
    checker = lite()
    assert {rule for rules, _ in LITE_BAD.values() for rule in rules} == set(checker.rules)
    assert play(checker, []) == set()


@pytest.mark.parametrize(("limit", "cycles", "broken"), [
    (1, 1, False), (1, 2, True), (2, 2, False), (2, 3, True), (None, 50, False)])
def test_lite_response_cycles(limit: int | None, cycles: int, broken: bool) -> None:
    trace = [LAR, *[{}] * (cycles - 1), r()]
    assert play(lite(response_cycles=limit, subordinate="report"), trace) == (
        {"r_in_time"} if broken else set())


def legal_lite(cycles: int, seed: int) -> list[Cycle]:
    """Random legal traffic; every response is offered 1 to 4 cycles after its request."""
    dice = random.Random(seed)
    trace: list[Cycle] = []
    offered: dict[str, Cycle] = {}
    addresses = words = answers = 0
    due: dict[str, deque[int]] = {"b": deque(), "r": deque()}
    offers = {"aw": LAW, "w": LDATA, "ar": LAR, "b": b(), "r": r()}
    for now in range(cycles):
        for name in ("aw", "w", "ar"):
            if dice.random() < 0.6:
                offered.setdefault(name, offers[name])
        for name in ("b", "r"):
            if due[name] and due[name][0] <= now:
                offered.setdefault(name, offers[name])
        room = {"aw": addresses - answers < 3, "w": words - answers < 3, "ar": len(due["r"]) < 3,
                "b": True, "r": True}
        readies = {f"{name}ready": int(room[name] and dice.random() < 0.7) for name in offers}
        trace.append(together(*offered.values(), readies))
        complete = min(addresses, words)
        for name in [name for name in offered if readies[f"{name}ready"]]:
            del offered[name]
            addresses += name == "aw"
            words += name == "w"
            if name in due:
                due[name].popleft()
                answers += name == "b"
            elif name == "ar":
                due["r"].append(now + dice.randrange(1, 5))
        if min(addresses, words) > complete:
            due["b"].append(now + dice.randrange(1, 5))
    assert answers > cycles // 20
    return trace


@pytest.mark.parametrize("seed", range(4))
def test_lite_is_silent_on_random_traffic(seed: int) -> None:
    assert play(lite(response_cycles=None), legal_lite(1500, seed)) == set()


# Streams.

STREAM_BAD: dict[str, tuple[set[str], list[Cycle]]] = {
    "taken-back": ({"valid_stays"}, [{"valid": 1, "payload": 3}, {}]),
    "changed": ({"payload_stable"}, [{"valid": 1, "payload": 3},
                                     {"valid": 1, "payload": 2, "ready": 1}]),
    "changed-later": ({"payload_stable"}, [{"valid": 1, "payload": 3}] * 5
                      + [{"valid": 1, "payload": 2, "ready": 1}]),
}


@pytest.mark.parametrize("name", STREAM_BAD)
def test_stream_broken_rule_is_named(name: str) -> None:
    expected, trace = STREAM_BAD[name]
    assert play(StreamChecker(4, rules="report"), trace) == expected


def test_stream_every_rule_was_seen_to_fail() -> None:
    checker = StreamChecker(4)
    assert {rule for rules, _ in STREAM_BAD.values() for rule in rules} == set(checker.rules)
    assert play(checker, []) == set()


def test_stream_is_silent() -> None:
    taken = {"valid": 1, "payload": 5, "ready": 1}
    held = {"valid": 1, "payload": 6}
    assert play(StreamChecker(4), [
        {"ready": 1}, taken, taken | {"payload": 7}, {}, {"payload": 1}, held, held,
        held | {"ready": 1}, {"ready": 1, "payload": 2}, held, {"rst": 1}, {}]) == set()


# What is done with a broken rule.

def test_simulation_stops_at_a_broken_rule() -> None:
    with pytest.raises(AssertionError, match="ar_boundary.*AXI4 A3.4.1"):
        play(axi4(), [ar(addr=4092, len=1)])


def test_only_the_asserted_side_stops_it() -> None:
    assert play(axi4(subordinate="report"), [b()]) == {"b_request"}
    assert play(axi4(manager="report"), [ar(size=0)]) == {"ar_size"}


class AnyBus(Elaboratable):
    """A checker that sees a bus on which anything happens, and one claim about it."""

    def __init__(self, checker: RuleChecker, claim: Any = lambda bus: 1) -> None:
        self._checker = checker
        self._claim = claim

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.checker = checker = self._checker
        m.d.comb += Assume(ResetSignal() == Initial())
        for name, member in checker.bus.signature.members.items():
            m.d.comb += getattr(checker.bus, name).eq(AnySeq(wiring.Out(member.shape).shape))
        m.d.comb += Assert(ResetSignal() | self._claim(checker.bus))
        return m


def whole_beats(bus: Any) -> Any:
    return ~bus.arvalid | (bus.arsize == 2)


def proved(checker: RuleChecker, name: str) -> str:
    return prove(Job(name=name, spec=AnyBus(checker, whole_beats), mode="bmc", depth=4)).status


def test_proof_assumes_asserts_or_ignores() -> None:
    """On a free bus the claim follows from the manager's rules if they are assumed, else not."""
    assert proved(axi4(manager="assume", subordinate="assume"), "checker-assume") == "PASS"
    assert proved(axi4(manager="report", subordinate="report"), "checker-report") == "FAIL"
    assert proved(axi4(manager="assert", subordinate="assume"), "checker-assert") == "FAIL"


@pytest.mark.parametrize("mode", ["bmc", "pdr"])
def test_failed_proof_names_the_rule(mode: str) -> None:
    result = prove(Job(name=f"checker-named-{mode}", mode=mode, depth=4,
                       spec=AnyBus(StreamChecker(2))))
    assert result.status == "FAIL", result.explain()
    assert broken(result) & {"valid_stays", "payload_stable"}, result.explain()


# Parameters.

@pytest.mark.parametrize("name", ["reads_in_flight", "writes_in_flight"])
def test_wrong_in_flight(name: str) -> None:
    with pytest.raises(ValueError) as told:
        AXI4Checker(MEMORY_PORT, **({"reads_in_flight": 1, "writes_in_flight": 1} | {name: 0}))
    assert str(told.value) == f"{name} must be positive, not 0"


@pytest.mark.parametrize("value", [0, 257])
def test_wrong_burst_beats(value: int) -> None:
    with pytest.raises(ValueError) as told:
        AXI4Checker(MEMORY_PORT, reads_in_flight=1, writes_in_flight=1, burst_beats=value)
    assert str(told.value) == f"burst_beats must be between 1 and 256, not {value}"


@pytest.mark.parametrize("value", [0, 3])
def test_wrong_data_ahead_bursts(value: int) -> None:
    with pytest.raises(ValueError) as told:
        axi4(data_ahead_bursts=value)
    assert str(told.value) == f"data_ahead_bursts must be 1 or 2, not {value}"


def test_wrong_duty() -> None:
    with pytest.raises(ValueError) as told:
        axi4(subordinate="trust")
    assert str(told.value) == "subordinate must be one of assert, assume, report, not 'trust'"


def test_wrong_response_cycles() -> None:
    with pytest.raises(ValueError) as told:
        lite(response_cycles=0)
    assert str(told.value) == "response_cycles must be positive or None, not 0"


def test_wrong_requests_in_flight() -> None:
    with pytest.raises(ValueError) as told:
        AXI4LiteChecker(REGISTER_PORT, requests_in_flight=0)
    assert str(told.value) == "requests_in_flight must be positive, not 0"
