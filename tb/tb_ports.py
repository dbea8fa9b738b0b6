# SPDX-License-Identifier: Apache-2.0
"""Both ports against cocotbext-axi: random stalls on all ten channels, and a dead memory."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge
from cocotbext.axi import AxiBus, AxiRam

from mvxl.messages import Status

from .common import INBOX, PAGE_OF_MANAGER, PARTITIONS, SOURCE, Bench, case, completion
from .harness import MEMORY_BYTES
from .traffic import Traffic, run_all

#: From the later of AW and W, or from AR, to the response.
RESPONSE_CYCLES = 4

MEMORY_INPUTS = ("awready", "wready", "arready", "bvalid", "bresp", "bid", "rvalid", "rresp", "rid",
                 "rlast", "rdata")


class OpenBench(Bench):
    """A bench whose memory is cocotbext-axi's, if there is one; without a log."""

    def __init__(self, dut: Any) -> None:
        super().__init__(dut)
        self.ram: AxiRam | None = None

    def add_ram(self) -> None:
        """Put a memory with the bench's content on the port."""
        bus = AxiBus.from_prefix(self.dut, "m_axi")
        self.ram = AxiRam(bus, self.dut.clk, self.dut.rst, size=MEMORY_BYTES)
        self.ram.write(0, bytes(self.content))

    def idle_port(self) -> None:
        """Nothing answers on the memory port."""
        for name in MEMORY_INPUTS:
            getattr(self.dut, f"m_axi_{name}").value = 0

    @classmethod
    async def start_open(cls, dut: Any, *, ram: bool) -> OpenBench:
        bench = cls(dut)
        bench.content = bytearray(bench.random.randbytes(MEMORY_BYTES))
        if ram:
            bench.add_ram()
        else:
            bench.idle_port()
        await bench.reset()
        await bench.set_up()
        return bench

    def stall(self, seed: int, probability: float) -> None:
        """Stall each channel of both ports at random, each by a generator of its own."""
        assert self.ram is not None
        ends = {"m_axi": (self.ram.write_if, self.ram.read_if),
                "s_axil": (self.master.write_if, self.master.read_if)}
        for port, (write, read) in ends.items():
            for name, end in (("aw", write), ("w", write), ("b", write), ("ar", read),
                              ("r", read)):
                rng = random.Random(f"{seed} {port} {name}")
                getattr(end, f"{name}_channel").set_pause_generator(pauses(rng, probability))

    async def check(self) -> list[Any]:
        """Every byte of the memory, and the checkers."""
        assert self.ram is not None
        found = self.ram.read(0, MEMORY_BYTES)
        wrong = [i for i in range(MEMORY_BYTES) if found[i] != self.content[i]]
        assert not wrong, f"{len(wrong)} bytes are wrong, the first one at {wrong[0]:#x}"
        self.check_ports()
        return []


def pauses(rng: random.Random, probability: float) -> Iterator[bool]:
    while True:
        yield rng.random() < probability


class LatencyWatch:
    """Measures the register port: cycles from each complete request to its response."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.cycle = 0
        self.writes: list[int] = []
        self.reads: list[int] = []
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        addresses: list[int] = []
        words: list[int] = []
        reads: list[int] = []
        while True:
            # In the middle of a cycle, when everything has settled.
            await FallingEdge(self.dut.clk)
            self.cycle += 1
            if self._transfer("b"):
                self.writes.append(self.cycle - max(addresses.pop(0), words.pop(0)))
            if self._transfer("r"):
                self.reads.append(self.cycle - reads.pop(0))
            for channel, times in (("aw", addresses), ("w", words), ("ar", reads)):
                if self._transfer(channel):
                    times.append(self.cycle)

    def _transfer(self, channel: str) -> bool:
        return all(int(getattr(self.dut, f"s_axil_{channel}{signal}").value)
                   for signal in ("valid", "ready"))


@case
async def stalls_on_ten_channels(dut: Any) -> None:
    """Traffic of four partitions, with every channel of both ports stalled at random."""
    bench = await OpenBench.start_open(dut, ram=True)
    rng = random.Random(10)
    for seed, probability in enumerate((0.1, 0.4, 0.7)):
        bench.stall(seed, probability)
        await run_all(bench, [
            Traffic(p, [(rng.randrange(0x6000), INBOX + rng.choice(PARTITIONS),
                         rng.choice((1, 7, 8, 64, 65, 300, 700))) for _ in range(10)])
            for p in PARTITIONS])
        for p in PARTITIONS:
            await bench.partitions[p].rewind(INBOX + p)


@case
async def dead_memory(dut: Any) -> None:
    """While the memory accepts nothing, the register port answers as ever; then it wakes up."""
    bench = await OpenBench.start_open(dut, ram=False)
    watch = LatencyWatch(dut)
    rng = random.Random(11)
    # Everyone's commands get stuck; then queues are full and commands are rejected.
    sent = [Traffic(p, []) for p in PARTITIONS]
    for n in range(45):
        for p in PARTITIONS:
            room = (await bench.partitions[p].status()).room
            message = (rng.randrange(0x6000), INBOX + (p + n) % 4, rng.randrange(1, 200))
            if not room:
                await bench.write(p, "command", op=1, event=1, tag=99)
                continue
            await bench.partitions[p].send(SOURCE + p, *message, event=True, tag=n)
            sent[p].messages.append(message)
    rejected = [(await bench.partitions[p].status()).rejected for p in PARTITIONS]
    assert any(rejected)
    # A commit and a rewind that have to wait or are refused, and everything that can be read.
    await bench.write(PAGE_OF_MANAGER, "entry_id", id=9)
    await bench.write(PAGE_OF_MANAGER, "entry_access", valid=0)
    await bench.write(PAGE_OF_MANAGER, "entry_commit", commit=1)
    for p in PARTITIONS:
        await bench.write(p, "rewind", id=INBOX + p)
        await bench.write(p, "cancel", cancel=1)
        await bench.write(p, "resume", resume=1)
        for name in ("completed", "event_info", "event_count", "receive_status", "irq_state"):
            await bench.read(p, name)
        assert await bench.partitions[p].completed() == 0
    assert (await bench.read(PAGE_OF_MANAGER, "entry_status"))["busy"]
    for _ in range(300):
        page = rng.choice(PARTITIONS)
        await bench.write(page, "receive_id", id=rng.randrange(16))
        await bench.read(page, "receive_cursor")
    # A manager that pipelines writes every second cycle.
    begin = watch.cycle
    posted = [bench.post(p, "receive_id", id=INBOX + p) for _ in range(50) for p in PARTITIONS]
    for write in posted:
        await write.wait()
    assert watch.cycle - begin <= 2 * len(posted) + 10
    assert len(watch.writes) > 1000 and len(watch.reads) > 500
    assert max(watch.writes) <= RESPONSE_CYCLES
    assert max(watch.reads) <= RESPONSE_CYCLES
    # The memory wakes up: every command that was accepted ends.
    bench.add_ram()
    for p in PARTITIONS:
        sent[p].events = [await bench.event(p) for _ in sent[p].messages]
        tags = [event.tag for event in sent[p].events]
        assert tags == list(range(len(tags)))
        sent[p].expect(bench)
    await bench.wait_idle()
    assert max(watch.writes) <= RESPONSE_CYCLES
    await bench.check()


@case
async def mute_memory(dut: Any) -> None:
    """The memory takes every request and answers none: the register port answers as ever."""
    bench = await OpenBench.start_open(dut, ram=False)
    watch = LatencyWatch(dut)
    for name in ("awready", "wready", "arready"):
        getattr(dut, f"m_axi_{name}").value = 1
    for n in range(33):
        for p in PARTITIONS:
            await bench.write(p, "src_id", id=SOURCE + p)
            await bench.write(p, "dst_id", id=INBOX + p)
            await bench.write(p, "count", count=4000)
            await bench.write(p, "command", op=1, tag=n)
            assert (await bench.read(p, "completed"))["count"] == 0
    assert max(watch.writes) <= RESPONSE_CYCLES
    assert max(watch.reads) <= RESPONSE_CYCLES
    # What is refused needs no memory, but waits for its turn behind what is in flight.
    await bench.idle_cycles(200)
    assert (await bench.read(PAGE_OF_MANAGER, "status"))["idle"] == 0
    bench.check_ports()


@case
async def refusals_without_memory(dut: Any) -> None:
    """Refused commands end even if the memory never answers anything."""
    bench = await OpenBench.start_open(dut, ram=False)
    for p in PARTITIONS:
        await bench.partitions[p].send(8, 0, INBOX, 64, tag=p)
        assert await bench.event(p) == completion(Status.SRC_FAULT, tag=p, dst_id=INBOX, count=64)
    for channel in ("aw", "w", "ar"):
        assert not int(getattr(dut, f"m_axi_{channel}valid").value)
    bench.check_ports()
