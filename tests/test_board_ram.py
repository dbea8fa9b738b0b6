# SPDX-License-Identifier: Apache-2.0
"""The on-chip RAM: a beat a cycle both ways, in order, under the AXI4 rules; bytes beside it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
from amaranth.hdl import Module
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from boards import ram
from boards.ram import AXI4Ram
from formal.axi4_checker import AXI4Checker
from formal.mutants import mutated
from mvxl.axi import AXI4Signature, Burst, Response

SIZE_BYTES = 4096
SIZES = {"address_bits": 32, "data_bits": 64, "user_bits": 3, "id_bits": 2}
BEAT_BYTES = 8

#: Most bursts that the bench has under way in a direction: more than the RAM takes in.
IN_FLIGHT = 40


@dataclass(frozen=True, kw_only=True)
class Write:
    """A write burst: each beat's data and strobes."""

    address: int
    beats: list[tuple[int, int]]
    burst: int = Burst.INCR.value


@dataclass(frozen=True, kw_only=True)
class Read:
    """A read burst."""

    address: int
    beats: int
    burst: int = Burst.INCR.value


@dataclass
class Bench:
    """An AXI4Ram, its bus, and somebody at its byte port.

    Everything is offered as early as possible, or with `seed` at random; so is what is taken.
    """

    module: Any = ram
    seed: int | None = None
    writes: list[Write] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    reads_after_writes: bool = True
    #: Nothing is taken from the RAM before this cycle.
    taken_from_cycle: int = 0
    #: Byte accesses, one after the other: (address, value to write or None to read).
    byte_accesses: list[tuple[int, int | None]] = field(default_factory=list)

    responses: list[int] = field(default_factory=list)
    #: Data and response of each beat.
    beats: list[tuple[int, int]] = field(default_factory=list)
    bytes_read: list[int] = field(default_factory=list)
    byte_cycles: list[int] = field(default_factory=list)
    #: Cycles of the handshakes.
    cycles: dict[str, list[int]] = field(
        default_factory=lambda: {name: [] for name in ("aw", "w", "b", "ar", "r")})
    broken: list[str] = field(default_factory=list)
    timed_out: bool = False

    def run(self) -> "Bench":
        m = Module()
        m.submodules.dut = self.dut = self.module.AXI4Ram(size_bytes=SIZE_BYTES, **SIZES)
        m.submodules.checker = self.checker = AXI4Checker(
            AXI4Signature(**SIZES), reads_in_flight=IN_FLIGHT, writes_in_flight=IN_FLIGHT,
            data_ahead_bursts=2, read_id=1, write_id=2, manager="report", subordinate="report")
        m.d.comb += self.checker.watch(self.dut.bus)
        self._chance = random.Random(self.seed)
        self._limit = 2000 + 40 * (sum(len(write.beats) for write in self.writes)
                                   + sum(read.beats for read in self.reads)
                                   + len(self.byte_accesses))
        sim = Simulator(m)
        sim.add_clock(1e-6)
        sim.add_testbench(self._bus)
        if self.byte_accesses:
            sim.add_testbench(self._bytes)
        sim.run()
        return self

    def _willing(self) -> bool:
        return self.seed is None or self._chance.random() < .6

    async def _bus(self, ctx: Any) -> None:
        bus, cycles = self.dut.bus, self.cycles
        offers: dict[str, list[dict[str, int]]] = {
            "aw": [self._address(write.address, len(write.beats), write.burst, 2)
                   for write in self.writes],
            "w": [{"data": data, "strb": strobes, "last": index == len(write.beats)}
                  for write in self.writes
                  for index, (data, strobes) in enumerate(write.beats, start=1)],
            "ar": [self._address(read.address, read.beats, read.burst, 1) for read in self.reads],
        }
        ends_of = [len(write.beats) for write in self.writes]
        last_beats = {sum(ends_of[:index + 1]) for index in range(len(ends_of))}
        wanted_beats = sum(read.beats for read in self.reads)
        sent = dict.fromkeys(offers, 0)
        ended = 0
        cycle = 0
        rlasts = 0
        while (len(self.responses) < len(self.writes) or len(self.beats) < wanted_beats):
            for name, offer in offers.items():
                valid = getattr(bus, f"{name}valid")
                if ctx.get(valid) or sent[name] == len(offer) or not self._willing():
                    continue
                if name == "aw" and sent["aw"] - len(self.responses) >= IN_FLIGHT:
                    continue
                if name == "w" and ended - sent["aw"] >= 1:
                    continue
                if name == "ar" and (sent["ar"] - rlasts >= IN_FLIGHT or (
                        self.reads_after_writes and len(self.responses) < len(self.writes))):
                    continue
                for member, value in offer[sent[name]].items():
                    ctx.set(getattr(bus, f"{name}{member}"), value)
                ctx.set(valid, 1)
            for name in ("b", "r"):
                ctx.set(getattr(bus, f"{name}ready"),
                        cycle >= self.taken_from_cycle and self._willing())
            names = ("aw", "w", "b", "ar", "r")
            values = (await ctx.tick().sample(
                *(getattr(bus, f"{name}valid") & getattr(bus, f"{name}ready") for name in names),
                bus.bresp, bus.rdata, bus.rresp, bus.rlast))[2:]
            transfers = dict(zip(names, values, strict=False))
            bresp, rdata, rresp, rlast = values[len(names):]
            for name, transfer in transfers.items():
                if transfer:
                    cycles[name].append(cycle)
                    if name in offers:
                        sent[name] += 1
                        ctx.set(getattr(bus, f"{name}valid"), 0)
            ended += transfers["w"] and sent["w"] in last_beats
            if transfers["b"]:
                self.responses.append(bresp)
            if transfers["r"]:
                self.beats.append((rdata, rresp))
                rlasts += rlast
            cycle += 1
            if cycle > self._limit:
                self.timed_out = True
                break
        await ctx.tick().repeat(4)
        self.broken = self.checker.told(ctx.get(self.checker.failed))

    @staticmethod
    def _address(address: int, beats: int, burst: int, transaction_id: int) -> dict[str, int]:
        return {"addr": address, "len": beats - 1, "size": 3, "burst": burst, "cache": 3,
                "id": transaction_id}

    async def _bytes(self, ctx: Any) -> None:
        port = self.dut.byte
        for address, value in self.byte_accesses:
            ctx.set(port.address, address)
            ctx.set(port.write, value is not None)
            ctx.set(port.wdata, value or 0)
            ctx.set(port.valid, 1)
            for cycle in range(20):
                _, _, done, rdata = await ctx.tick().sample(port.done, port.rdata)
                if done:
                    break
            self.byte_cycles.append(cycle)
            if value is None:
                self.bytes_read.append(rdata)
            ctx.set(port.valid, 0)
            await ctx.tick()


def whole_writes(data: bytes, burst_beats: int) -> list[Write]:
    """Bursts from address 0 on that write all of `data`."""
    step = BEAT_BYTES * burst_beats
    return [Write(address=start, beats=[
        (int.from_bytes(data[at:at + BEAT_BYTES], "little"), 0xFF)
        for at in range(start, min(start + step, len(data)), BEAT_BYTES)])
        for start in range(0, len(data), step)]


def whole_reads(size_bytes: int, burst_beats: int) -> list[Read]:
    step = BEAT_BYTES * burst_beats
    return [Read(address=start, beats=burst_beats) for start in range(0, size_bytes, step)]


def contents(bench: Bench) -> bytes:
    return b"".join(data.to_bytes(BEAT_BYTES, "little") for data, _ in bench.beats)


def fine(bench: Bench) -> bool:
    """Nothing was broken, everything answered OKAY."""
    return (not bench.broken and not bench.timed_out and not any(bench.responses)
            and not any(response for _, response in bench.beats))


@pytest.mark.parametrize("seed", [None, 1, 2])
@pytest.mark.parametrize("burst_beats", [1, 2, 16, 256])
def test_whole_memory(burst_beats: int, seed: int | None) -> None:
    data = random.Random(3).randbytes(SIZE_BYTES)
    bench = Bench(seed=seed, writes=whole_writes(data, burst_beats),
                  reads=whole_reads(SIZE_BYTES, burst_beats)).run()
    assert fine(bench), bench.broken
    assert contents(bench) == data


def pace(bench: Bench) -> set[int]:
    """Distances in cycles between beats on W and R."""
    return {after - before for name in ("w", "r")
            for before, after in zip(bench.cycles[name], bench.cycles[name][1:])}


def streams(module: Any, burst_beats: int = 4) -> bool:
    """Both directions at the same time, a beat a cycle, bursts back to back."""
    data = random.Random(4).randbytes(2048)
    bench = Bench(module=module, reads_after_writes=False, writes=whole_writes(data, burst_beats),
                  reads=whole_reads(2048, burst_beats)).run()
    overlap = set(bench.cycles["w"]) & set(bench.cycles["r"])
    return (fine(bench) and pace(bench) == {1} and len(overlap) > 240
            and len(bench.responses) == 256 // burst_beats)


@pytest.mark.parametrize("burst_beats", [1, 2, 3, 4, 16, 256])
def test_a_beat_a_cycle(burst_beats: int) -> None:
    if 256 % burst_beats:
        data = bytes(BEAT_BYTES * 84 * burst_beats)
        bench = Bench(reads_after_writes=False, writes=whole_writes(data, burst_beats),
                      reads=whole_reads(len(data), burst_beats)).run()
        assert fine(bench), bench.broken
        assert pace(bench) == {1}
    else:
        assert streams(ram, burst_beats)


def test_latency() -> None:
    """Cycles from the address to the first beat, from the last beat to the response."""
    bench = Bench(writes=[Write(address=0, beats=[(1, 0xFF)])], reads=[Read(address=0, beats=1)])
    bench.run()
    assert bench.cycles["r"][0] - bench.cycles["ar"][0] == 11
    assert bench.cycles["b"][0] - bench.cycles["w"][0] == 3


def test_several_addresses_are_taken() -> None:
    """Before the first read beat is taken."""
    bench = Bench(reads=[Read(address=0, beats=256)] * 11).run()
    assert fine(bench)
    assert sum(cycle < bench.cycles["r"][255] for cycle in bench.cycles["ar"]) >= 10


def writes_right_strobes(module: Any) -> bool:
    data = bytes(range(1, 65))
    writes = whole_writes(data, 8)
    strobes = [0x01, 0x80, 0x00, 0xFF, 0x3C, 0xA5, 0x7F, 0xFE]
    writes.append(Write(address=0, beats=[(0, strobe) for strobe in strobes]))
    bench = Bench(module=module, writes=writes, reads=[Read(address=0, beats=8)]).run()
    expected = bytes(0 if strobes[at // 8] >> at % 8 & 1 else byte
                     for at, byte in enumerate(data))
    return fine(bench) and contents(bench) == expected


def test_strobes() -> None:
    assert writes_right_strobes(ram)


def refuses(module: Any) -> bool:
    """Bursts outside, or of another kind, change nothing and are told in order."""
    data = bytes([0x11]) * 64
    bad = [(0, 0xFF)] * 2
    bench = Bench(
        module=module,
        writes=[*whole_writes(data, 8), Write(address=SIZE_BYTES, beats=bad),
                Write(address=1 << 31, beats=bad), Write(address=0, beats=bad, burst=0),
                Write(address=32, beats=[(0x22, 0x01)])],
        reads=[Read(address=SIZE_BYTES, beats=2), Read(address=0, beats=2, burst=2),
               Read(address=0, beats=8), Read(address=1 << 31, beats=1)]).run()
    decerr, slverr = Response.DECERR.value, Response.SLVERR.value
    unchanged = int.from_bytes(data[:8], "little")
    changed = unchanged & ~0xFF | 0x22
    only_the_kinds = all(rule.split()[0] in ("aw_burst", "ar_burst") for rule in bench.broken)
    return (only_the_kinds and not bench.timed_out
            and bench.responses == [0, decerr, decerr, slverr, 0]
            and [response for _, response in bench.beats]
            == [decerr, decerr, slverr, slverr, *[0] * 8, decerr]
            and [data for data, _ in bench.beats[4:12]]
            == [changed if beat == 4 else unchanged for beat in range(8)])


def test_refused_bursts() -> None:
    assert refuses(ram)


def serves_bytes(module: Any) -> bool:
    """Bytes are read and written while the bus is busy both ways without a pause."""
    addresses = random.Random(5).sample(range(2048, SIZE_BYTES), 30)
    accesses: list[tuple[int, int | None]] = []
    for index, address in enumerate(addresses):
        accesses += [(address, index + 1), (address, None)]
    accesses += [(address, None) for address in addresses]
    # Writes to the second quarter of the memory, reads of the first, which holds zeros.
    traffic = [Write(address=1024, beats=[(1, 0xFF)] * 128)] * 5
    bench = Bench(module=module, reads_after_writes=False, writes=traffic,
                  reads=whole_reads(1024, 16) * 5, byte_accesses=accesses).run()
    return (fine(bench) and not any(contents(bench))
            and bench.bytes_read == [*range(1, 31), *range(1, 31)]
            and max(bench.byte_cycles) <= 9)


def test_bytes_beside_full_traffic() -> None:
    assert serves_bytes(ram)


def test_a_byte_takes_few_cycles_of_the_bus() -> None:
    """Three bytes each way cost R six cycles at most, and W none."""
    data = bytes(2048)
    bench = Bench(reads_after_writes=False, writes=whole_writes(data, 16),
                  reads=whole_reads(2048, 16),
                  byte_accesses=[(4000, None), (4001, 1)] * 3).run()
    assert fine(bench)
    assert bench.cycles["w"][-1] - bench.cycles["w"][0] == 255
    assert 255 < bench.cycles["r"][-1] - bench.cycles["r"][0] <= 255 + 6


def agrees(module: Any) -> bool:
    """The bus and the byte port see the same bytes."""
    data = bytes(range(64))
    accesses: list[tuple[int, int | None]] = [(at, 255 - at) for at in range(64)]
    first = Bench(module=module, byte_accesses=accesses + [(at, None) for at in range(64)],
                  reads=[Read(address=0, beats=8)] * 120).run()
    return (fine(first) and first.bytes_read == [255 - at for at in range(64)]
            and contents(first)[-64:] == bytes(255 - at for at in data))


def test_bus_sees_bytes() -> None:
    assert agrees(ram)


BURSTS = st.tuples(st.integers(0, 511), st.integers(1, 40), st.integers(0, 255))


@settings(max_examples=25, deadline=None)
@given(writes=st.lists(BURSTS, max_size=12), reads=st.lists(BURSTS, max_size=12),
       seed=st.integers(0, 9999))
def test_random_bursts(writes: list[tuple[int, int, int]], reads: list[tuple[int, int, int]],
                       seed: int) -> None:
    """Against a bytearray; reads begin when the writes are through."""
    chance = random.Random(seed)
    model = bytearray(SIZE_BYTES)
    bursts = []
    for row, length, strobes in writes:
        beats = [(chance.getrandbits(64), strobes) for _ in range(min(length, 512 - row))]
        bursts.append(Write(address=row * BEAT_BYTES, beats=beats))
        for index, (value, strobe) in enumerate(beats):
            for lane in range(BEAT_BYTES):
                if strobe >> lane & 1:
                    model[(row + index) * BEAT_BYTES + lane] = value >> 8 * lane & 0xFF
    asked = [Read(address=row * BEAT_BYTES, beats=min(length, 512 - row))
             for row, length, _ in reads]
    bench = Bench(seed=seed, writes=bursts, reads=asked).run()
    assert fine(bench), bench.broken
    assert contents(bench) == b"".join(
        model[read.address:read.address + BEAT_BYTES * read.beats] for read in asked)


@pytest.mark.parametrize(("options", "message"), [
    ({"size_bytes": 2048}, "size_bytes must be a power of two from 4096, not 2048"),
    ({"size_bytes": 12288}, "size_bytes must be a power of two from 4096, not 12288"),
    ({"size_bytes": 1 << 17, "address_bits": 16},
     "size_bytes must be at most 2^address_bits = 65536, not 131072"),
])
def test_init_wrong_size_bytes(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError) as told:
        AXI4Ram(**SIZES | options)
    assert str(told.value) == message


def stands_stalls(module: Any) -> bool:
    data = random.Random(7).randbytes(1024)
    return all(
        fine(bench) and contents(bench) == data for bench in (
            Bench(module=module, seed=seed, taken_from_cycle=taken_from_cycle,
                  writes=whole_writes(data, burst_beats),
                  reads=whole_reads(1024, burst_beats)).run()
            for seed, burst_beats, taken_from_cycle in ((1, 1, 0), (2, 16, 0), (None, 1, 200)))
    ) and fine(Bench(module=module, taken_from_cycle=200, reads_after_writes=False,
                     reads=whole_reads(1024, 1)).run())


#: Name: what must fail, and the change.
FAULTS: dict[str, tuple[Callable[[Any], bool], str, str]] = {
    "bubble-between-writes": (streams, "ending.eq(taking & bus.wlast),\n"
                              "            addresses.o.ready.eq(~busy | ending)",
                              "ending.eq(taking & bus.wlast),\n"
                              "            addresses.o.ready.eq(~busy)"),
    "bubble-between-reads": (streams, "ending.eq(issue & is_last),\n"
                             "            addresses.o.ready.eq(~busy | ending)",
                             "ending.eq(issue & is_last),\n"
                             "            addresses.o.ready.eq(~busy)"),
    "burst-a-beat-too-long": (stands_stalls, "is_last.eq(burst.len == 1)",
                              "is_last.eq(burst.len == 0)"),
    "single-beat-too-long": (stands_stalls, "is_last.eq(addresses.o.payload.len == 0)",
                             "is_last.eq(0)"),
    "reads-not-held": (stands_stalls, "issue.eq(busy & beats.roomy", "issue.eq(busy"),
    "responses-not-held": (stands_stalls, " & responses.roomy)", ")"),
    "too-small-margin": (stands_stalls, "_MARGIN = 7", "_MARGIN = 6"),
    "response-of-the-next": (refuses, "responses.i.payload.response.eq(burst.response)",
                             "responses.i.payload.response.eq(addresses.o.payload.response)"),
    "refused-writes-written": (refuses, "(burst.response == Response.OKAY.value) & taking",
                               "taking"),
    "no-end": (refuses, "address[(self.size_bytes - 1).bit_length():].any()", "0"),
    "no-kind": (refuses, "burst != Burst.INCR.value", "0"),
    "strobes-forgotten": (writes_right_strobes, "Mux(accepted, bus.wstrb, 0)",
                          "accepted.replicate(len(bus.wstrb))"),
    "byte-not-written": (serves_bytes, "byte_write.eq(byte_starts & byte.write)",
                         "byte_write.eq(0)"),
    "byte-reads-write": (serves_bytes, "byte_write.eq(byte_starts & byte.write)",
                         "byte_write.eq(byte_starts)"),
    "byte-written-with-its-neighbours": (agrees, "1 << byte_lane, -1", "255, -1"),
    "byte-reads-wait": (serves_bytes, "issue.eq(busy & beats.roomy & ~byte_starts)",
                        "issue.eq(busy & beats.roomy)"),
    "write-row-of-the-next": (writes_right_strobes, "row.eq(burst.row),",
                                   "row.eq(burst.row + taking),"),
    "lane-keeps-its-read-row": (writes_right_strobes, "with m.If(self.en):",
                                "with m.If(self.byte_write):"),
    "lane-keeps-its-write-row": (writes_right_strobes, "with m.If(self.write_en):",
                                 "with m.If(self.write_en & ~write.en):"),
    "byte-lane": (agrees, "word_select(byte_lane, 8)", "word_select(0, 8)"),
    "byte-row": (agrees, "byte_starts, byte.address[self._lane_log2:], burst.row",
                 "byte_starts, burst.row, burst.row"),
}


@cache
def sound(passes: Callable[[Any], bool]) -> bool:
    """Whether it passes without a fault."""
    return passes(ram)


@pytest.mark.parametrize("name", FAULTS)
def test_finds_a_planted_fault(name: str) -> None:
    passes, old, new = FAULTS[name]
    assert sound(passes)
    assert not passes(mutated(ram, old, new))
