# SPDX-License-Identifier: Apache-2.0
"""An AXI4 memory for simulation, with exact timing, and its control from a testbench.

Timing, as the adapter's performance is specified: the first beat of a read burst is offered
`latency_cycles` cycles after the AR handshake or right after the last beat of the burst before,
whatever is later, and then one beat a cycle; a write response is offered `latency_cycles` cycles
after the later of the AW and the last W handshake; the directions are independent; up to 256
bursts are queued in each; everything is answered in order. (AR handshake in cycle c, latency 10:
RVALID in cycle c + 10.) A write takes effect in the storage with the handshake of its data, or of
its address if that is later; a read takes its data from the storage when the beat is offered.

Bursts are INCR with beats of the full width; anything else ends the simulation with an error. An
address is taken without the bits inside a beat. A beat lies in an error window if its address
(of its lowest byte) does, whatever its strobes; it is answered SLVERR, beyond the memory DECERR.
Bytes of a refused write beat are not stored, the other beats of its burst are; the burst's
response is the worst of its beats'. Data of a refused read beat are all ones.

A second port serves another bus manager: the processor of the partitions, which moves data itself
with loads and stores (sim/processor.py). It has the same storage, error windows, log and rules for
bursts, and a timing of its own: one burst at a time in each direction, the first beat of a read
right after its address, then one a cycle; a write's data is accepted from after its address, its
response comes right after its last beat. Neither port waits for the other. At a clock edge at
which both reach the storage, writes come before reads, and the adapter's before the processor's.
Latency, stalls and stopped channels are the first port's alone. The second port is dead until
`MemoryControl.enable_processor()`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from amaranth.hdl import ClockSignal, Elaboratable, Instance, ResetSignal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from mvxl.axi import AXI4Signature

__all__ = ["AXI4Memory", "CHANNELS", "MEMORY_SOURCE", "PROCESSOR", "Access", "Kind",
           "MemoryControl", "read_log"]

#: The Verilog that every simulator of an `AXI4Memory` needs among its `sources`.
MEMORY_SOURCE = Path(__file__).with_name("axi4_memory.sv")

CHANNELS = ("aw", "w", "b", "ar", "r")

#: Set in `Access.user` of the processor's accesses, beside their AxUSER; more than any AxUSER.
PROCESSOR = 1 << 31

_WINDOWS = 4
_LARGEST_BYTES = 1 << 30


class AXI4Memory(wiring.Component):
    """The memory, as a component to be put into a simulated design.

    Parameters
    ----------
    address_bits, data_bits, user_bits, id_bits : int
        Widths of the buses, in bits, as for `AXI4Signature`; `user_bits` is 31 at most.
    size_bytes : int
        The memory's addresses are 0 to `size_bytes` − 1. A multiple of a beat's bytes, up to 1 GiB.

    Members
    -------
    bus : In(AXI4Signature(...))
        The adapter's.
    cpu_bus : In(AXI4Signature(...))
        The processor's; it may be left unconnected.

    Raises
    ------
    ValueError
        `size_bytes` or `user_bits` is outside its range.
    """

    def __init__(self, *, address_bits: int, data_bits: int, user_bits: int, size_bytes: int,
                 id_bits: int = 1) -> None:
        if not 0 < size_bytes <= _LARGEST_BYTES or size_bytes % (data_bits // 8):
            raise ValueError(f"size_bytes must be a multiple of {data_bits // 8} up to "
                             f"{_LARGEST_BYTES}, not {size_bytes!r}")
        if user_bits >= PROCESSOR.bit_length():
            raise ValueError(f"user_bits must be at most {PROCESSOR.bit_length() - 1}, "
                             f"not {user_bits!r}")
        self.size_bytes = size_bytes
        bus = AXI4Signature(address_bits=address_bits, data_bits=data_bits, user_bits=user_bits,
                            id_bits=id_bits)
        super().__init__({"bus": In(bus), "cpu_bus": In(bus)})

    def elaborate(self, platform: Any) -> Elaboratable:
        signature = self.bus.signature
        # Attributes that a memory has no use for.
        unused = {f"{channel}{name}" for channel in ("aw", "ar")
                  for name in ("lock", "cache", "prot", "qos")}
        ports = {}
        for name, member in signature.members.items():
            if name not in unused:
                # The signature is the manager's; this is its other end, flipped already.
                direction = "i" if member.flow is wiring.In else "o"
                ports[f"{direction}_{name}"] = getattr(self.bus, name)
                ports[f"{direction}_cpu_{name}"] = getattr(self.cpu_bus, name)
        return Instance(
            "axi4_memory",
            p_DATA_BITS=signature.data_bits, p_ADDRESS_BITS=signature.address_bits,
            p_USER_BITS=signature.user_bits, p_ID_BITS=signature.id_bits,
            p_SIZE_BYTES=self.size_bytes,
            i_clk=ClockSignal(), i_rst=ResetSignal(), **ports)


class MemoryControl:
    """A testbench's hand on an `AXI4Memory`: timing, errors, contents, log. For cocotb.

    Changes act from the next clock edge on; contents at once. Call `settle` methods (`load`,
    `dump`, `flush`) only outside of cocotb's ReadOnly phase.

    Parameters
    ----------
    handle
        Cocotb's handle of the instance, such as `dut.memory`.
    data_bits : int
        As the component's.
    folder : Path
        The simulation's folder; that of a cocotb test by default.
    """

    def __init__(self, handle: Any, *, data_bits: int, folder: Path = Path(".")) -> None:
        self._handle = handle
        self._data_bytes = data_bits // 8
        self._folder = folder

    def set_latency(self, cycles: int) -> None:
        """Latency of both directions, 1 to 255 cycles.

        Raises
        ------
        ValueError
            It is outside its range.
        """
        if not 1 <= cycles <= 255:
            raise ValueError(f"latency must be between 1 and 255 cycles, not {cycles!r}")
        self._handle.latency_cycles.value = cycles

    def set_stalls(self, seed: int = 1, **probabilities: float) -> None:
        """Stall channels at random: keywords `aw`, `w`, `b`, `ar`, `r`, each a probability.

        A stalled cycle is one without READY (aw, w, ar), or one in which VALID is not raised for
        the next transfer (b, r); VALID never drops without a handshake. Channels that are not
        given do not stall. Probabilities are rounded to 1/256.

        Raises
        ------
        ValueError
            There is no such channel, or a probability is not in [0, 1).
        """
        for channel, probability in probabilities.items():
            _check_channel(channel)
            if not 0 <= round(probability * 256) <= 255:
                raise ValueError(f"probability of stalls must be in [0, 1), not {probability!r}")
        self._handle.seed.value = seed
        for channel in CHANNELS:
            level = round(probabilities.get(channel, 0) * 256)
            getattr(self._handle, f"stall_{channel}").value = level

    def stop(self, channel: str) -> None:
        """Stop a channel (`aw`, `w`, `b`, `ar` or `r`): no transfer in it until `go`.

        READY of aw, w, ar is low from the next clock edge on. VALID of b, r is not raised any
        more; if it is high it stays so until its handshake (AXI4, section A3.2.1), which is the
        channel's last transfer. The other channels go on for as long as their queues allow, and
        everything that is accepted is answered after `go`. A stopped channel stays so in a reset.

        Raises
        ------
        ValueError
            There is no such channel.
        """
        self._set_stop(channel, True)

    def go(self, channel: str) -> None:
        """Let a channel that was stopped go on from the next clock edge; raises as `stop`."""
        self._set_stop(channel, False)

    def _set_stop(self, channel: str, stopped: bool) -> None:
        _check_channel(channel)
        getattr(self._handle, f"stop_{channel}").value = stopped

    def enable_processor(self) -> None:
        """Let the second port take part; from then on something must drive its wires."""
        self._handle.cpu_enable.value = 1

    def set_errors(self, *windows: tuple[int, int, str]) -> None:
        """Answer SLVERR in up to 4 windows (start, end, "r", "w" or "rw"), end exclusive.

        Replaces the windows that were set before.

        Raises
        ------
        ValueError
            There are too many windows, or one is not as above.
        """
        if len(windows) > _WINDOWS:
            raise ValueError(f"there can be at most {_WINDOWS} error windows, not {len(windows)}")
        for start, end, kinds in windows:
            if not 0 <= start <= end or kinds not in ("r", "w", "rw"):
                raise ValueError("error window must be (start, end, 'r', 'w' or 'rw') with "
                                 f"start ≤ end, not {(start, end, kinds)!r}")
        for kind, name in (("r", "window_read"), ("w", "window_write")):
            mask = sum(1 << i for i, window in enumerate(windows) if kind in window[2])
            getattr(self._handle, name).value = mask
        for i, (start, end, _) in enumerate(windows):
            getattr(self._handle, f"window{i}_start").value = start
            getattr(self._handle, f"window{i}_end").value = end

    @property
    def cycle(self) -> int:
        """Number of clock edges that the memory has seen: the cycle that the log tells."""
        return self._handle.cycle.value.to_unsigned()

    async def load(self, address: int, content: bytes) -> None:
        """Write bytes into the storage, of any number, in no simulated time."""
        (self._folder / "load.bin").write_bytes(content)
        self._handle.backdoor_address.value = address
        await self._toggle("load_toggle")

    async def dump(self, address: int, count_bytes: int) -> bytes:
        """Read bytes out of the storage, of any number, in no simulated time."""
        self._handle.backdoor_address.value = address
        self._handle.backdoor_bytes.value = count_bytes
        await self._toggle("dump_toggle")
        content = (self._folder / "dump.bin").read_bytes()
        skipped = address % self._data_bytes
        return content[skipped:skipped + count_bytes]

    async def flip(self, address: int, bit: int) -> None:
        """Invert one bit (0 to 7) of the byte at `address`."""
        byte = (await self.dump(address, 1))[0]
        await self.load(address, bytes([byte ^ 1 << bit]))

    async def flush(self) -> None:
        """Write what is buffered of the log."""
        await self._toggle("flush_toggle")

    def enable_log(self, enabled: bool) -> None:
        """Go on with the log, or pause it. It is on at the start."""
        self._handle.log_enable.value = enabled

    async def _toggle(self, name: str) -> None:
        # Imported here, because it works only inside of a simulation.
        from cocotb.triggers import ReadWrite, Timer

        await ReadWrite()
        toggle = getattr(self._handle, name)
        toggle.value = 1 - int(toggle.value)
        await Timer(1, "step")


def _check_channel(channel: str) -> None:
    if channel not in CHANNELS:
        raise ValueError(f"channel must be one of {', '.join(CHANNELS)}, not {channel!r}")


class Kind(IntEnum):
    """What an `Access` of the log is."""

    READ_BEAT = 0
    WRITE_BEAT = 1
    READ_BURST = 2
    WRITE_BURST = 3


@dataclass(frozen=True)
class Access:
    """One line of the log, in the order in which the storage saw them.

    `cycle`: of the handshake of a burst's address, in which a read beat is first offered, or of
    the handshake that lets a write beat take effect. `info`: AxLEN of a burst, the response of a
    beat. `address`: as on the bus for a burst, of its lowest byte for a beat. `strobes` has a bit
    per byte lane; `data` is in memory order. Both are 0 where there is nothing to tell. `user`:
    AxUSER of the burst, with the bit `PROCESSOR` set for an access of the second port.
    """

    kind: Kind
    cycle: int
    address: int
    user: int
    info: int
    strobes: int
    data: bytes

    @property
    def by_processor(self) -> bool:
        """It was made through the second port."""
        return bool(self.user & PROCESSOR)


def read_log(path: Path, *, data_bits: int, processor: bool = False) -> Iterator[Access]:
    """The accesses in a log: the file named by the plusarg `+memory_log=FILE`.

    Those of the adapter alone, or with `processor` those of the processor among them. Flush the
    log first if the simulation is still running. `data_bits` must be the memory's.
    """
    record = struct.Struct(f"<BBxxIQQQ{data_bits // 8}s")
    for kind, info, user, cycle, address, strobes, data in record.iter_unpack(path.read_bytes()):
        access = Access(kind=Kind(kind), cycle=cycle, address=address, user=user, info=info,
                        strobes=strobes, data=data)
        if processor or not access.by_processor:
            yield access
