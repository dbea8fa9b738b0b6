# SPDX-License-Identifier: Apache-2.0
"""Figures 11 and 12, once each, for the pictures of docs/figures.md: every signal in every cycle.

A driver of partition 0 moves bytes into an inbox of partition 1 that has some already, whose
driver then takes the notification. What happens on the ports goes to `walk.json`, in the cycles of
the trace; sim/figures.py reads both.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge

from mvxl.driver import Event
from mvxl.messages import GrantKind

from .common import INBOX, SOURCE, Bench, case, notification

SENDER, RECEIVER, OTHER = range(3)
SRC_ID, DST_ID = SOURCE + SENDER, INBOX + RECEIVER

#: Where the bytes are taken from, how many there are, and how many a grant is asked for.
SRC_OFFSET, COUNT, GRANTED = 0x40, 96, 128

#: Bytes that partition 2 sent to the inbox before.
FILLED = 200

LATENCY_CYCLES = 10

TAG = 7


@dataclass
class Access:
    """An access to the register port: from its VALID, over the last of its handshakes (AW and W,
    or AR), to that of its response. Cycles."""

    write: bool
    address: int
    first: int
    accepted: int = 0
    answered: int = 0
    word: int = 0


class Recorder:
    """Looks at the ports in the middle of every cycle, from when it is made."""

    PORTS = ("seen", "cpu")     # the adapter's memory port, and the processor's
    CHANNELS = ("ar", "r", "aw", "w", "b")

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.marks: dict[str, int] = {}
        self.accesses: list[Access] = []
        self.transfers: dict[str, dict[str, list[int]]] = {
            port: {channel: [] for channel in self.CHANNELS} for port in self.PORTS}
        self.bursts: dict[str, dict[str, list[tuple[int, int, int]]]] = {
            port: {"ar": [], "aw": []} for port in self.PORTS}
        self.irq: list[tuple[int, int]] = []
        self._writes: list[Access] = []
        self._reads: list[Access] = []
        cocotb.start_soon(self._run())

    def mark(self, name: str) -> None:
        """The software has come so far."""
        self.marks[name] = self._bench.cycle

    def save(self) -> None:
        """Write walk.json."""
        Path("walk.json").write_text(json.dumps({
            "marks": self.marks,
            "accesses": [asdict(access) for access in self.accesses],
            "transfers": self.transfers,
            "bursts": self.bursts,
            "irq": self.irq,
            "latency_cycles": LATENCY_CYCLES,
            "dst_id": DST_ID,
            "filled": FILLED,
            "entries": {network_id: asdict(entry) | {"senders": sorted(entry.senders)}
                        for network_id, entry in self._bench.entries.items()},
        }), encoding="utf-8")

    async def _run(self) -> None:
        dut = self._bench.dut
        while True:
            await FallingEdge(dut.clk)
            cycle = self._bench.cycle
            self._look_at_registers(dut, cycle)
            for port in self.PORTS:
                self._look_at_memory(dut, port, cycle)
            level = int(dut.irq.value)
            if not self.irq or self.irq[-1][1] != level:
                self.irq.append((cycle, level))

    @staticmethod
    def _both(handle: Any, channel: str) -> bool:
        """VALID and READY."""
        return bool(int(getattr(handle, f"{channel}valid").value)
                    and int(getattr(handle, f"{channel}ready").value))

    def _look_at_memory(self, dut: Any, port: str, cycle: int) -> None:
        for channel, cycles in self.transfers[port].items():
            if self._both(dut, f"{port}_{channel}"):
                cycles.append(cycle)
                if channel in self.bursts[port]:
                    address = int(getattr(dut, f"{port}_{channel}addr").value)
                    beats = int(getattr(dut, f"{port}_{channel}len").value) + 1
                    self.bursts[port][channel].append((cycle, address, beats))

    def _look_at_registers(self, dut: Any, cycle: int) -> None:
        """One access after the other in each direction: that is how this bus manager works."""
        for write, waiting, address, response in (
                (True, self._writes, "s_axil_aw", "s_axil_b"),
                (False, self._reads, "s_axil_ar", "s_axil_r")):
            if int(getattr(dut, f"{address}valid").value) and not waiting:
                access = Access(write, int(getattr(dut, f"{address}addr").value), cycle)
                waiting.append(access)
                self.accesses.append(access)
            if waiting and self._both(dut, address):
                waiting[0].accepted = cycle
            if write and waiting and self._both(dut, "s_axil_w"):
                waiting[0].accepted = max(waiting[0].accepted, cycle)
                waiting[0].word = int(dut.s_axil_wdata.value)
            if waiting and self._both(dut, response):
                waiting[0].answered = cycle
                if not write:
                    waiting[0].word = int(dut.s_axil_rdata.value)
                waiting.clear()


async def start(dut: Any) -> tuple[Bench, Recorder]:
    """A system in which the inbox is filled to `FILLED`, and its owner awaits an event."""
    bench = await Bench.start(dut, grants=True, latency_cycles=LATENCY_CYCLES)
    number = await bench.partitions[OTHER].send(SOURCE + OTHER, 0, DST_ID, FILLED)
    await bench.completed(OTHER, number)
    bench.expect(OTHER, SOURCE + OTHER, 0, DST_ID, 0, FILLED)
    await bench.check()
    await bench.write(RECEIVER, "irq_enable", event=1)
    await bench.idle_cycles(20)
    recorder = Recorder(bench)
    await bench.idle_cycles(5)
    recorder.mark("called")
    return bench, recorder


async def receive(bench: Bench, recorder: Recorder) -> None:
    """The receiver's driver handles its interrupt; then all is compared, and saved."""
    recorder.mark("returned")
    await bench.ports[RECEIVER].interrupt()
    assert await bench.partitions[RECEIVER].pop_event() == expected_event()
    assert await bench.partitions[RECEIVER].receive_cursor(DST_ID) == FILLED + COUNT
    recorder.mark("over")
    await bench.idle_cycles(5)
    await bench.check()
    recorder.save()


def expected_event() -> Event:
    return notification(tag=TAG, dst_id=DST_ID, count=COUNT, peer=SENDER, offset=FILLED)


@case
async def fig11_send(dut: Any) -> None:
    """SEND: the adapter moves."""
    bench, recorder = await start(dut)
    driver = bench.partitions[SENDER]
    number = await driver.send(SRC_ID, SRC_OFFSET, DST_ID, COUNT, notify=True, tag=TAG)
    await driver.wait_completed(number)
    assert await driver.pop_event() is None
    bench.expect(SENDER, SRC_ID, SRC_OFFSET, DST_ID, FILLED, COUNT)
    await receive(bench, recorder)


@case
async def fig12_engine(dut: Any) -> None:
    """GRANT, MVXL, RELEASE: the driver moves with the adapter's engine."""
    bench, recorder = await start(dut)
    driver = bench.partitions[SENDER]
    number = await driver.grant(SRC_ID, SRC_OFFSET, DST_ID, GRANTED, kind=GrantKind.ENGINE,
                                notify=True, tag=TAG)
    await driver.wait_completed(number)
    grant = await driver.grant_state()
    assert grant.live
    recorder.mark("granted")
    number = await driver.mvxl(grant.token, src=0, dst=0, count=COUNT)
    await driver.wait_completed(number)
    assert (await driver.grant_state()).acknowledged == COUNT
    recorder.mark("moved")
    bench.expect(SENDER, SRC_ID, SRC_OFFSET, DST_ID, FILLED, COUNT)
    await driver.release(grant.token, moved=COUNT)
    await receive(bench, recorder)


@case
async def fig12_processor(dut: Any) -> None:
    """GRANT, loads and stores, RELEASE: the driver moves with its processor."""
    bench, recorder = await start(dut)
    driver, processor = bench.partitions[SENDER], bench.processor
    number = await driver.grant(SRC_ID, SRC_OFFSET, DST_ID, GRANTED, kind=GrantKind.CPU,
                                notify=True, tag=TAG)
    await driver.wait_completed(number)
    grant = await driver.grant_state()
    assert grant.live
    told = await driver.grant_addresses(GRANTED)
    recorder.mark("granted")
    (target, _), = told.pieces
    await processor.copy([(told.source, target, COUNT)], user=SENDER)
    recorder.mark("moved")
    bench.expect_content(SRC_ID, SRC_OFFSET, DST_ID, FILLED, COUNT)
    await driver.release(grant.token, moved=COUNT)
    await receive(bench, recorder)
