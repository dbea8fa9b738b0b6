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
from cocotb.triggers import FallingEdge, ReadOnly, RisingEdge
from cocotbext.axi import AxiBus, AxiMaster, AxiResp

from sim.build import parameters
from sim.memory import CHANNELS, PROCESSOR, Access, Kind, MemoryControl, read_log
from sim.processor import Processor
from sim.transport import BusError

DATA_BITS = 64
BEAT_BYTES = DATA_BITS // 8
SIZE_BYTES = 1 << 20


async def started(dut: Any) -> MemoryControl:
    """A running clock, a finished reset, idle wires of both ports."""
    Clock(dut.clk, 10, "ns").start()
    for port in ("m_axi", "cpu"):
        for name in ("awvalid", "wvalid", "bready", "arvalid", "rready"):
            getattr(dut, f"{port}_{name}").value = 0
        for channel in ("aw", "ar"):
            getattr(dut, f"{port}_{channel}size").value = 3
            getattr(dut, f"{port}_{channel}burst").value = 1
            getattr(dut, f"{port}_{channel}id").value = 0
            getattr(dut, f"{port}_{channel}user").value = 0
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

    def __init__(self, dut: Any, port: str = "m_axi") -> None:
        self.dut = dut
        self.port = port
        self.cycle = 0
        self.seen: dict[str, list[int]] = {channel: [] for channel in CHANNELS}
        self.first_valid: dict[str, list[int]] = {"r": [], "b": []}
        self.data: list[int] = []
        self.written: list[tuple[int, int]] = []  # strobes, data
        self._was_offered = {"r": False, "b": False}
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        while True:
            await ReadOnly()
            for channel in CHANNELS:
                valid = int(getattr(self.dut, f"{self.port}_{channel}valid").value)
                ready = int(getattr(self.dut, f"{self.port}_{channel}ready").value)
                if channel in self.first_valid:
                    if valid and not self._was_offered[channel]:
                        self.first_valid[channel].append(self.cycle)
                    assert valid or not self._was_offered[channel], f"{channel}valid dropped"
                    self._was_offered[channel] = bool(valid and not ready)
                if valid and ready:
                    self.seen[channel].append(self.cycle)
                    if channel == "r":
                        data = getattr(self.dut, f"{self.port}_rdata")
                        self.data.append(data.value.to_unsigned())
                    elif channel == "w":
                        strobes, data = (getattr(self.dut, f"{self.port}_{name}").value
                                         for name in ("wstrb", "wdata"))
                        self.written.append((strobes.to_unsigned(), data.to_unsigned()))
            await RisingEdge(self.dut.clk)
            self.cycle += 1


async def send(dut: Any, channel: str, *, port: str = "m_axi", **fields: int) -> None:
    """One transfer on the AW, W or AR channel, as early as it can be."""
    for name, value in fields.items():
        getattr(dut, f"{port}_{channel}{name}").value = value
    getattr(dut, f"{port}_{channel}valid").value = 1
    while True:
        await ReadOnly()
        taken = int(getattr(dut, f"{port}_{channel}ready").value)
        await RisingEdge(dut.clk)
        if taken:
            break
    getattr(dut, f"{port}_{channel}valid").value = 0


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


STOPPED_LATENCY = 10

#: Transfers that the other channels of its direction still have while a channel is stopped, at one
#: a cycle before: what is under way, and what fits into the queues (256 bursts, 1023 beats).
STILL = {
    "ar": {"r": STOPPED_LATENCY},
    "r": {"ar": 256 - STOPPED_LATENCY},
    "aw": {"w": 1023, "b": STOPPED_LATENCY},
    "w": {"aw": 256, "b": STOPPED_LATENCY},
    "b": {"aw": 256 - STOPPED_LATENCY, "w": 256 - STOPPED_LATENCY + 1023},
}


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def stopped_channel(dut: Any) -> None:
    """No transfer while a channel is stopped; all that was accepted is answered after it."""
    memory = await started(dut)
    stopped, count, pause = parameters()["channel"], 3000, 1500
    memory.set_latency(STOPPED_LATENCY)
    content = random.randbytes(count * BEAT_BYTES)
    await memory.load(0, content)
    target = SIZE_BYTES // 2
    watch = Watch(dut)
    dut.m_axi_bready.value = 1
    dut.m_axi_rready.value = 1

    async def reads() -> None:
        for burst in range(count):
            await send(dut, "ar", addr=burst * BEAT_BYTES, len=0)

    async def writes() -> None:
        for burst in range(count):
            await send(dut, "aw", addr=target + burst * BEAT_BYTES, len=0)

    async def data() -> None:
        for burst in range(count):
            await send(dut, "w", data=burst + 1, strb=255, last=1)

    tasks = [cocotb.start_soon(task()) for task in (reads, writes, data)]
    await cycles(dut, 100)
    await FallingEdge(dut.clk)
    memory.stop(stopped)
    begin = watch.cycle
    await cycles(dut, pause)
    await FallingEdge(dut.clk)
    memory.go(stopped)
    end = watch.cycle
    for task in tasks:
        await task
    await cycles(dut, count)
    # The cycle in which the channel is stopped still has its transfer.
    assert begin in watch.seen[stopped] and end + 1 in watch.seen[stopped]
    assert not set(range(begin + 1, end + 1)) & set(watch.seen[stopped])
    for channel in CHANNELS:
        times = watch.seen[channel]
        assert len(times) == count, (channel, len(times))
        if channel != stopped and channel not in STILL[stopped]:
            assert times == list(range(times[0], times[0] + count)), channel
    assert b"".join(word.to_bytes(BEAT_BYTES, "little") for word in watch.data) == content
    assert await memory.dump(target, count * BEAT_BYTES) == b"".join(
        (burst + 1).to_bytes(BEAT_BYTES, "little") for burst in range(count))
    still = {channel: len([at for at in watch.seen[channel] if begin < at <= end])
             for channel in STILL[stopped]}
    assert still == STILL[stopped]


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def stopped_while_valid(dut: Any) -> None:
    """A VALID that is high when its channel stops stays until its handshake, and is the last."""
    memory = await started(dut)
    stopped = parameters()["channel"]
    watch = Watch(dut)
    content = random.randbytes(4 * BEAT_BYTES)
    await memory.load(0, content)
    if stopped == "r":
        await send(dut, "ar", addr=0, len=3)
    else:
        for burst in range(4):
            await send(dut, "aw", addr=burst * BEAT_BYTES, len=0)
            await send(dut, "w", data=burst, strb=255, last=1)
    await cycles(dut, 5)
    memory.stop(stopped)
    for _ in range(20):
        await FallingEdge(dut.clk)
        assert int(getattr(dut, f"m_axi_{stopped}valid").value)
    await RisingEdge(dut.clk)
    getattr(dut, f"m_axi_{stopped}ready").value = 1
    await RisingEdge(dut.clk)
    for _ in range(20):
        await FallingEdge(dut.clk)
        assert not int(getattr(dut, f"m_axi_{stopped}valid").value)
    assert len(watch.seen[stopped]) == 1
    memory.go(stopped)
    await cycles(dut, 20)
    assert len(watch.seen[stopped]) == 4
    if stopped == "r":
        assert b"".join(word.to_bytes(BEAT_BYTES, "little") for word in watch.data) == content


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def no_strobes(dut: Any) -> None:
    """Beats without a strobe change nothing and are answered and logged like all others."""
    memory = await started(dut)
    watch = Watch(dut)
    dut.m_axi_bready.value = 1
    content = random.randbytes(64)
    await memory.load(128, content)
    responses = []
    for address, refused in ((128, False), (160, True), (SIZE_BYTES, True)):
        memory.set_errors((160, 168, "w"))
        await send(dut, "aw", addr=address, len=3, user=5)
        for beat in range(4):
            await send(dut, "w", data=(1 << 64) - 1, strb=0, last=beat == 3)
        while not int(dut.m_axi_bvalid.value):
            await RisingEdge(dut.clk)
        responses.append((bool(dut.m_axi_bresp.value.to_unsigned()), refused))
        await cycles(dut, 3)
    assert [got for got, _ in responses] == [refused for _, refused in responses]
    assert len(watch.seen["b"]) == 3
    assert await memory.dump(128, 64) == content
    await memory.flush()
    beats = [access for access in read_log(Path("log.bin"), data_bits=DATA_BITS)
             if access.kind is Kind.WRITE_BEAT]
    assert [(access.address, access.strobes, access.user) for access in beats] == [
        (start + beat * BEAT_BYTES, 0, 5) for start in (128, 160, SIZE_BYTES) for beat in range(4)]
    assert [access.info for access in beats] == [0] * 4 + [AxiResp.SLVERR] + [0] * 3 + [
        AxiResp.DECERR] * 4


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


def replayed(image: bytearray, accesses: list[Access]) -> None:
    """Carry the log out on `image`, of the memory's beginning; assert what the reads got."""
    for access in accesses:
        at = access.address
        if access.kind is Kind.WRITE_BEAT:
            for lane in range(BEAT_BYTES):
                if access.strobes >> lane & 1:
                    image[at + lane] = access.data[lane]
        elif access.kind is Kind.READ_BEAT:
            assert access.data == image[at:at + BEAT_BYTES], access


@cocotb.test()
async def processor_traffic(dut: Any) -> None:
    """Loads, stores and copies of any bytes, one storage with the first port, told in the log."""
    memory = await started(dut)
    master, processor = master_of(dut), Processor(dut, memory)
    image = bytearray(random.randbytes(16384))
    await memory.load(0, bytes(image))
    for _ in range(60):
        address, count = random.randrange(12288), random.randrange(1, 3000)
        content = random.randbytes(count)
        match random.randrange(4):
            case 0:
                await processor.store(address, content, user=3)
                image[address:address + count] = content
            case 1:
                assert await processor.load(address, count, user=4) == image[
                    address:address + count]
            case 2:
                assert (await master.write(address, content, user=3)).resp == AxiResp.OKAY
                image[address:address + count] = content
            case 3:
                first, to = random.randrange(count + 1), random.randrange(12288)
                await processor.copy([(address, to, first), (address + first, 0, count - first)],
                                     user=3)
                moved = bytes(image[address:address + count])
                image[to:to + first] = moved[:first]
                # A piece is read when the one before it is written.
                moved = bytes(image[address + first:address + count])
                image[:count - first] = moved
        seen = await master.read(address, count, user=4)
        assert seen.data == image[address:address + count]
    assert await memory.dump(0, len(image)) == image
    await memory.flush()
    own = list(read_log(Path("log.bin"), data_bits=DATA_BITS))
    everything = list(read_log(Path("log.bin"), data_bits=DATA_BITS, processor=True))
    assert own == [access for access in everything if not access.by_processor]
    assert {access.user for access in own} == {3, 4}
    assert {access.user for access in everything if access.by_processor} == {
        PROCESSOR | 3, PROCESSOR | 4}
    assert {access.kind for access in everything if access.by_processor} == set(Kind)


@cocotb.test()
async def processor_shares_beats(dut: Any) -> None:
    """Both ports at the same beats at the same time: the log tells what the storage saw."""
    memory = await started(dut)
    watch, processor_watch = Watch(dut), Watch(dut, "cpu")
    master, processor = master_of(dut), Processor(dut, memory)
    image = bytearray(random.randbytes(32))
    await memory.load(0, bytes(image))

    async def adapter() -> None:
        for _ in range(300):
            start = random.randrange(4)
            count = random.randrange(1, 33 - start * 8)
            if random.random() < .5:
                await master.write(start * 8, random.randbytes(count))
            else:
                await master.read(start * 8, count)

    async def software() -> None:
        for _ in range(300):
            start = random.randrange(4)
            count = random.randrange(1, 33 - start * 8)
            if random.random() < .5:
                await processor.store(start * 8, random.randbytes(count))
            else:
                await processor.load(start * 8, count)

    both = [cocotb.start_soon(adapter()), cocotb.start_soon(software())]
    for task in both:
        await task
    await memory.flush()
    accesses = list(read_log(Path("log.bin"), data_bits=DATA_BITS, processor=True))
    replayed(image, accesses)
    assert await memory.dump(0, len(image)) == image
    for by_processor, watched in ((False, watch), (True, processor_watch)):
        own = [access for access in accesses if access.by_processor is by_processor]
        assert [int.from_bytes(access.data, "little") for access in own
                if access.kind is Kind.READ_BEAT] == watched.data
        assert [(access.strobes, int.from_bytes(access.data, "little")) for access in own
                if access.kind is Kind.WRITE_BEAT] == watched.written
    # Each kind of meeting has happened: a read beat is chosen at the edge that ends a write's.
    meetings = {(one.kind, other.kind) for one, other in zip(accesses, accesses[1:], strict=False)
                if one.address == other.address and other.by_processor and not one.by_processor
                and one.cycle + (one.kind is Kind.WRITE_BEAT)
                == other.cycle + (other.kind is Kind.WRITE_BEAT)}
    assert meetings >= {(Kind.WRITE_BEAT, Kind.WRITE_BEAT), (Kind.WRITE_BEAT, Kind.READ_BEAT),
                        (Kind.READ_BEAT, Kind.READ_BEAT)}, meetings


@cocotb.test()
async def processor_timing(dut: Any) -> None:
    """A beat a cycle on the second port, and no cycle lost on the first, latency as set."""
    memory = await started(dut)
    latency, beats = 20, 16
    memory.set_latency(latency)
    memory.enable_processor()
    watches = {port: Watch(dut, port) for port in ("m_axi", "cpu")}
    for port in watches:
        getattr(dut, f"{port}_rready").value = 1
        getattr(dut, f"{port}_bready").value = 1

    async def reads(port: str) -> None:
        for burst in range(4):
            await send(dut, "ar", port=port, addr=burst * beats * BEAT_BYTES, len=beats - 1)

    async def writes(port: str) -> None:
        for burst in range(4):
            await send(dut, "aw", port=port, addr=burst * beats * BEAT_BYTES, len=beats - 1)
            for beat in range(beats):
                await send(dut, "w", port=port, data=beat, strb=255, last=beat == beats - 1)

    tasks = [cocotb.start_soon(task(port)) for task in (reads, writes) for port in watches]
    for task in tasks:
        await task
    await cycles(dut, 120)
    own, processor = watches["m_axi"].seen, watches["cpu"].seen
    start = own["ar"][0]
    assert own["ar"] == list(range(start, start + 4))
    assert own["r"] == list(range(start + latency, start + latency + 4 * beats))
    assert own["w"] == [at + 1 + beat for at in own["aw"] for beat in range(beats)]
    assert own["b"] == [last + latency for last in own["w"][beats - 1::beats]]
    assert processor["r"] == [at + 1 + beat for at in processor["ar"] for beat in range(beats)]
    assert processor["w"] == [at + 1 + beat for at in processor["aw"] for beat in range(beats)]
    assert processor["b"] == [last + 1 for last in processor["w"][beats - 1::beats]]


@cocotb.test()
async def refused_loads_and_stores(dut: Any) -> None:
    """Error windows and the end of the memory count for loads and stores too."""
    memory = await started(dut)
    processor = Processor(dut, memory)
    memory.set_errors((64, 72, "r"), (128, 136, "w"))
    await processor.store(64, b"x" * 8)
    assert await processor.load(128, 8) == bytes(8)
    for attempt, message in (
            (processor.load(60, 8), "load of 0x3c must be answered OKAY, not SLVERR"),
            (processor.store(130, b"yy"), "store of 0x82 must be answered OKAY, not SLVERR"),
            (processor.load(SIZE_BYTES, 1), "load of 0x100000 must be answered OKAY, not DECERR"),
            (processor.copy([(64, 0, 1)]), "load of 0x40 must be answered OKAY, not SLVERR")):
        try:
            await attempt
        except BusError as error:
            assert str(error) == message, error
        else:
            raise AssertionError(f"must be told: {message}")
    for wrong in (processor.load(0, 0), processor.store(0, b"")):
        try:
            await wrong
        except ValueError as error:
            assert str(error) == "count_bytes must be at least 1, not 0", error
        else:
            raise AssertionError("an access without bytes must be refused")
    assert await memory.dump(128, 8) == bytes(8)


@cocotb.test()
async def processor_not_enabled(dut: Any) -> None:
    """Whatever is on the wires of a second port that nobody enabled has no effect."""
    memory = await started(dut)
    for name in ("awvalid", "wvalid", "bready", "arvalid", "rready"):
        getattr(dut, f"cpu_{name}").value = 1
    dut.cpu_wstrb.value = 255
    dut.cpu_wdata.value = 1
    dut.cpu_awburst.value = 0
    watch, processor_watch = Watch(dut), Watch(dut, "cpu")
    dut.m_axi_rready.value = 1
    await send(dut, "ar", addr=0, len=3)
    await cycles(dut, 20)
    assert watch.seen["r"] == [watch.seen["ar"][0] + 1 + beat for beat in range(4)]
    assert not any(processor_watch.seen.values())
    assert await memory.dump(0, 64) == bytes(64)
    await memory.flush()
    assert not any(access.by_processor
                   for access in read_log(Path("log.bin"), data_bits=DATA_BITS, processor=True))


@cocotb.test(skip=not parameters().get("illegal"))
async def wrong_last_of_processor(dut: Any) -> None:
    """The rules for bursts hold on the second port as well."""
    memory = await started(dut)
    memory.enable_processor()
    await send(dut, "aw", port="cpu", addr=0, len=1)
    await send(dut, "w", port="cpu", data=0, strb=255, last=1)
    await cycles(dut, 5)


@cocotb.test(skip=not parameters().get("illegal"))
async def narrow_burst_of_processor(dut: Any) -> None:
    """Nor may a beat of the second port be narrower than the bus."""
    memory = await started(dut)
    memory.enable_processor()
    await send(dut, "ar", port="cpu", addr=0, len=1, size=2)
    await cycles(dut, 5)


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
