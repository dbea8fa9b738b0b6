# SPDX-License-Identifier: Apache-2.0
"""The memory of the simulations, against its contract (see sim/memory.py).

The manager is cocotbext-axi's, and, where cycles are counted, one that drives the wires itself.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ReadOnly, RisingEdge
from cocotbext.axi import AxiBus, AxiMaster, AxiResp

from sim.build import parameters
from sim.memory import CHANNELS, Kind, MemoryControl, read_log

DATA_BITS = 64
BEAT_BYTES = DATA_BITS // 8
SIZE_BYTES = 1 << 20


async def started(dut: Any) -> MemoryControl:
    """A running clock, a finished reset, idle wires."""
    Clock(dut.clk, 10, "ns").start()
    for name in ("awvalid", "wvalid", "bready", "arvalid", "rready"):
        getattr(dut, f"m_axi_{name}").value = 0
    for channel in ("aw", "ar"):
        getattr(dut, f"m_axi_{channel}size").value = 3
        getattr(dut, f"m_axi_{channel}burst").value = 1
        getattr(dut, f"m_axi_{channel}id").value = 0
        getattr(dut, f"m_axi_{channel}user").value = 0
    dut.rst.value = 1
    for _ in range(3):
        await RisingEdge(dut.clk)
    dut.rst.value = 0
    for _ in range(2):
        await RisingEdge(dut.clk)
    return MemoryControl(dut.memory, data_bits=DATA_BITS)


def master_of(dut: Any) -> AxiMaster:
    """An independent AXI manager."""
    return AxiMaster(AxiBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst)


class Watch:
    """Records every handshake, with its cycle, by looking at the wires before each edge."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.cycle = 0
        self.seen: dict[str, list[int]] = {channel: [] for channel in CHANNELS}
        self.first_valid: dict[str, list[int]] = {"r": [], "b": []}
        self.data: list[int] = []
        self._was_offered = {"r": False, "b": False}
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        while True:
            await ReadOnly()
            for channel in CHANNELS:
                valid = int(getattr(self.dut, f"m_axi_{channel}valid").value)
                ready = int(getattr(self.dut, f"m_axi_{channel}ready").value)
                if channel in self.first_valid:
                    if valid and not self._was_offered[channel]:
                        self.first_valid[channel].append(self.cycle)
                    assert valid or not self._was_offered[channel], f"{channel}valid dropped"
                    self._was_offered[channel] = bool(valid and not ready)
                if valid and ready:
                    self.seen[channel].append(self.cycle)
                    if channel == "r":
                        self.data.append(self.dut.m_axi_rdata.value.to_unsigned())
            await RisingEdge(self.dut.clk)
            self.cycle += 1


async def send(dut: Any, channel: str, **fields: int) -> None:
    """One transfer on the AW, W or AR channel, as early as it can be."""
    for name, value in fields.items():
        getattr(dut, f"m_axi_{channel}{name}").value = value
    getattr(dut, f"m_axi_{channel}valid").value = 1
    while True:
        await ReadOnly()
        taken = int(getattr(dut, f"m_axi_{channel}ready").value)
        await RisingEdge(dut.clk)
        if taken:
            break
    getattr(dut, f"m_axi_{channel}valid").value = 0


async def cycles(dut: Any, count: int) -> None:
    for _ in range(count):
        await RisingEdge(dut.clk)


@cocotb.test()
async def read_latency(dut: Any) -> None:
    """First beat exactly L cycles after AR, later ones without a bubble, bursts back to back."""
    memory = await started(dut)
    latency, bursts, beats = parameters()["latency"], 8, 16
    memory.set_latency(latency)
    content = random.randbytes(bursts * beats * BEAT_BYTES)
    await memory.load(0, content)
    watch = Watch(dut)
    dut.m_axi_rready.value = 1
    for burst in range(bursts):
        await send(dut, "ar", addr=burst * beats * BEAT_BYTES, len=beats - 1)
    await cycles(dut, latency + bursts * beats + 10)
    assert len(watch.seen["ar"]) == bursts
    assert [at - watch.seen["ar"][0] for at in watch.seen["ar"]] == list(range(bursts))
    start = watch.seen["ar"][0] + latency
    assert watch.seen["r"] == list(range(start, start + bursts * beats))
    assert b"".join(word.to_bytes(BEAT_BYTES, "little") for word in watch.data) == content


@cocotb.test()
async def read_latency_single(dut: Any) -> None:
    """A burst that comes when the memory is idle waits its full latency again."""
    memory = await started(dut)
    latency = parameters()["latency"]
    memory.set_latency(latency)
    watch = Watch(dut)
    dut.m_axi_rready.value = 1
    for _ in range(3):
        await send(dut, "ar", addr=64, len=0)
        await cycles(dut, latency + 5)
    expected = [at + latency for at in watch.seen["ar"]]
    assert len(expected) == 3 and watch.seen["r"] == expected


@cocotb.test()
async def write_latency(dut: Any) -> None:
    """The response comes exactly L cycles after the later of AW and the last W."""
    memory = await started(dut)
    latency = parameters()["latency"]
    memory.set_latency(latency)
    watch = Watch(dut)
    dut.m_axi_bready.value = 1
    dut.m_axi_wstrb.value = 0xFF
    expected = []
    for address_delay, data_delay in ((0, 0), (0, 7), (9, 0)):
        async def address(delay: int = address_delay) -> None:
            await cycles(dut, delay)
            await send(dut, "aw", addr=0, len=3)

        async def data(delay: int = data_delay) -> None:
            await cycles(dut, delay)
            for beat in range(4):
                await send(dut, "w", data=beat, last=beat == 3)

        both = [cocotb.start_soon(address()), cocotb.start_soon(data())]
        for task in both:
            await task
        await cycles(dut, latency + 5)
        expected.append(max(watch.seen["aw"][-1], watch.seen["w"][-1]) + latency)
    assert watch.seen["b"] == expected
    assert await memory.dump(0, 32) == b"".join(i.to_bytes(8, "little") for i in range(4))


@cocotb.test()
async def write_back_to_back(dut: Any) -> None:
    """Bursts of one beat: an address, a beat and a response in every cycle."""
    memory = await started(dut)
    memory.set_latency(parameters()["latency"])
    watch = Watch(dut)
    dut.m_axi_bready.value = 1
    dut.m_axi_wstrb.value = 0xFF

    async def addresses() -> None:
        for burst in range(100):
            await send(dut, "aw", addr=burst * BEAT_BYTES, len=0)

    async def data() -> None:
        for burst in range(100):
            await send(dut, "w", data=burst, last=1)

    both = [cocotb.start_soon(addresses()), cocotb.start_soon(data())]
    for task in both:
        await task
    await cycles(dut, 120)
    start = watch.seen["aw"][0]
    assert watch.seen["aw"] == watch.seen["w"] == list(range(start, start + 100))
    start += parameters()["latency"]
    assert watch.seen["b"] == list(range(start, start + 100))


@cocotb.test()
async def queued_bursts(dut: Any) -> None:
    """256 bursts fit in each direction, and not one more."""
    memory = await started(dut)
    memory.set_latency(1)
    watch = Watch(dut)

    async def reads() -> None:
        for burst in range(300):
            await send(dut, "ar", addr=burst * BEAT_BYTES, len=0)

    async def writes() -> None:
        for burst in range(300):
            await send(dut, "aw", addr=burst * BEAT_BYTES, len=0)

    async def data() -> None:
        for burst in range(300):
            await send(dut, "w", data=burst, strb=255, last=1)

    tasks = [cocotb.start_soon(task()) for task in (reads, writes, data)]
    await cycles(dut, 350)
    # One read burst has left the queue: its beat is offered.
    assert len(watch.seen["ar"]) == 257
    assert len(watch.seen["aw"]) == 256
    dut.m_axi_rready.value = 1
    dut.m_axi_bready.value = 1
    for task in tasks:
        await task
    await cycles(dut, 350)
    assert len(watch.seen["r"]) == len(watch.seen["b"]) == 300
    assert await memory.dump(8 * 299, 8) == (299).to_bytes(8, "little")


@cocotb.test()
async def random_traffic(dut: Any) -> None:
    """Any lengths and offsets, byte-exact, under stalls of every channel; VALID never drops."""
    memory = await started(dut)
    memory.set_latency(parameters()["latency"])
    memory.set_stalls(seed=parameters()["latency"], **parameters().get("stalls", {}))
    Watch(dut)
    master = master_of(dut)
    image = bytearray(random.randbytes(16384))
    await memory.load(0, bytes(image))
    for _ in range(60):
        address, count = random.randrange(8192), random.randrange(1, 1500)
        if random.random() < 0.5:
            content = random.randbytes(count)
            response = await master.write(address, content)
            assert response.resp == AxiResp.OKAY
            image[address:address + count] = content
        else:
            read = await master.read(address, count)
            assert read.resp == AxiResp.OKAY
            assert read.data == image[address:address + count]
    assert await memory.dump(0, len(image)) == image


@cocotb.test()
async def stalled_channels(dut: Any) -> None:
    """Each channel stalls with its own probability, the others not at all."""
    memory = await started(dut)
    count = 2000
    for stalled in CHANNELS:
        memory.set_stalls(seed=7, **{stalled: 0.25})
        watch = Watch(dut)
        dut.m_axi_bready.value = 1
        dut.m_axi_rready.value = 1

        async def repeat(channel: str, **fields: int) -> None:
            for _ in range(count):
                await send(dut, channel, **fields)

        tasks = [cocotb.start_soon(repeat("ar", addr=0, len=0)),
                 cocotb.start_soon(repeat("aw", addr=0, len=0)),
                 cocotb.start_soon(repeat("w", data=1, strb=255, last=1))]
        for task in tasks:
            await task
        await cycles(dut, 400)
        for channel in CHANNELS:
            times = watch.seen[channel]
            took = times[-1] - times[0] + 1
            behind = {"ar": "r", "aw": "b", "w": "b"}.get(stalled)
            if channel == stalled or channel == behind:
                assert 0.70 < count / took < 0.80, (stalled, channel, took)
            elif stalled in ("r", "b"):
                # Its queue of 256 bursts holds the channels before it back in the end.
                assert took < count / 0.7, (stalled, channel, took)
            elif (stalled, channel) not in (("aw", "w"), ("w", "aw")):
                assert took == count, (stalled, channel, took)


@cocotb.test()
async def errors(dut: Any) -> None:
    """SLVERR inside a window, DECERR beyond the end; refused beats are not stored."""
    memory = await started(dut)
    master = master_of(dut)
    await memory.load(0, bytes(range(256)) * 16)
    memory.set_errors((64, 72, "r"), (128, 136, "w"), (256, 264, "rw"))
    assert (await master.read(0, 64)).resp == AxiResp.OKAY
    assert (await master.read(64, 8)).resp == AxiResp.SLVERR
    assert (await master.read(72, 8)).resp == AxiResp.OKAY
    assert (await master.read(128, 8)).resp == AxiResp.OKAY
    assert (await master.write(64, b"x" * 8)).resp == AxiResp.OKAY
    assert (await master.write(120, b"y" * 24)).resp == AxiResp.SLVERR
    assert (await master.write(256, b"z" * 8)).resp == AxiResp.SLVERR
    assert (await master.read(256, 8)).resp == AxiResp.SLVERR
    image = bytearray(bytes(range(256)) * 2)
    image[64:72] = b"x" * 8
    image[120:128] = image[136:144] = b"y" * 8
    assert await memory.dump(0, 512) == image
    memory.set_errors()
    assert (await master.read(256, 8)).resp == AxiResp.OKAY
    assert (await master.read(SIZE_BYTES - 8, 8)).resp == AxiResp.OKAY
    assert (await master.write(SIZE_BYTES, b"q" * 8)).resp == AxiResp.DECERR
    assert (await master.read(SIZE_BYTES, 8)).resp == AxiResp.DECERR


@cocotb.test()
async def backdoor_and_log(dut: Any) -> None:
    """Files in and out at any byte, a flipped bit, and what the log tells of each access."""
    memory = await started(dut)
    memory.set_latency(5)
    content = random.randbytes(1001)
    await memory.load(4093, content)
    assert await memory.dump(4093, 1001) == content
    assert await memory.dump(4096, 100) == content[3:103]
    await memory.flip(4100, 6)
    assert (await memory.dump(4100, 1))[0] == content[7] ^ 0x40
    watch = Watch(dut)
    offset = memory.cycle - watch.cycle
    dut.m_axi_bready.value = 1
    dut.m_axi_rready.value = 1
    memory.enable_log(False)
    await send(dut, "ar", addr=0, len=0)
    await cycles(dut, 10)
    memory.enable_log(True)
    await send(dut, "aw", addr=256, len=1, user=3)
    await send(dut, "w", data=0x0807060504030201, strb=0xF0, last=0)
    await send(dut, "w", data=0x1817161514131211, strb=0x01, last=1)
    await cycles(dut, 10)
    await send(dut, "ar", addr=256, len=0, user=2)
    await cycles(dut, 10)
    await memory.flush()
    seen = [(access.kind, access.cycle - offset, access.address, access.user, access.info,
             access.strobes, access.data)
            for access in read_log(Path("log.bin"), data_bits=DATA_BITS)]
    zeros = bytes(BEAT_BYTES)
    assert seen == [
        (Kind.WRITE_BURST, watch.seen["aw"][0], 256, 3, 1, 0, zeros),
        (Kind.WRITE_BEAT, watch.seen["w"][0], 256, 3, 0, 0xF0, bytes(range(1, 9))),
        (Kind.WRITE_BEAT, watch.seen["w"][1], 264, 3, 0, 0x01, bytes(range(0x11, 0x19))),
        (Kind.READ_BURST, watch.seen["ar"][1], 256, 2, 0, 0, zeros),
        (Kind.READ_BEAT, watch.seen["r"][1], 256, 2, 0, 0, bytes([0, 0, 0, 0, 5, 6, 7, 8])),
    ]


@cocotb.test(skip=not parameters().get("illegal"))
async def wrong_last(dut: Any) -> None:
    """WLAST on the wrong beat ends the simulation."""
    await started(dut)
    await send(dut, "aw", addr=0, len=1)
    await send(dut, "w", data=0, strb=255, last=1)
    await cycles(dut, 5)


@cocotb.test(skip="cycles" not in parameters())
async def speed(dut: Any) -> None:
    """Cycles that a simulation manages while nobody looks."""
    memory = await started(dut)
    before = memory.cycle
    await cocotb.triggers.Timer(parameters()["cycles"] * 10, "ns")
    assert memory.cycle - before == parameters()["cycles"]
