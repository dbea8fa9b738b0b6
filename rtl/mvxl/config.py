# SPDX-License-Identifier: Apache-2.0
"""Sizes of an adapter: one frozen object, every rule checked when it is made.

Widths that several units need are derived here, once; no unit computes them again.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

__all__ = ["AdapterConfig", "CONFIGS", "ENTRY_UNIT_BYTES", "LENGTH_BITS", "OFFSET_BITS",
           "WAIT_BITS"]

#: Bases and lengths of table entries are multiples of this many bytes (the widest beat),
#: so that a whole beat never touches a neighbour.
ENTRY_UNIT_BYTES = 64

#: Bits of an offset, of a count and of a cursor (bytes). Their sums have one bit more.
OFFSET_BITS = 32

#: Bits of WAIT_LIMIT, of the lease and of the clocks that they are measured with (cycles).
WAIT_BITS = 32

#: Bits of an entry's length, counted in `ENTRY_UNIT_BYTES` (length ≤ 2³² − 64 bytes).
LENGTH_BITS = OFFSET_BITS - ENTRY_UNIT_BYTES.bit_length() + 1

#: AXI4, section A3.4.1: a burst must not cross a 4 KiB boundary.
AXI_BOUNDARY_BYTES = 4096


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """Configuration of one adapter.

    Parameters
    ----------
    partitions : int
        Number of partitions, each with a register page. 1 to 32.
    entries : int
        Rows of the translation table, that is, network IDs. 2 to 65,536, a power of two.
    data_bits : int
        Width of the memory port's data, in bits: 32, 64, 128, 256 or 512.
    address_bits : int
        Width of the memory port's addresses, in bits. 32 to 64.
    page_bytes : int
        Distance between register pages: 4096, 16384 or 65536 bytes.
    burst_beats : int
        Longest burst, in beats. A power of two, 2 to 256, whose bytes divide 4 KiB. Bursts are
        split on blocks aligned to this size.
    reads_in_flight : int
        Read bursts between ARVALID's handshake and RLAST. A power of two, 2 to 256.
    writes_in_flight : int
        Write bursts between AWVALID's handshake and the write response. A power of two, 2 to 256.
    messages_in_flight : int
        Commands between their decision (lock, space and event room taken) and their completion,
        and so the number of completion events that every partition has room for. A power of two,
        4 to 256.
    command_queue_depth : int
        Commands that a partition can queue before a COMMAND write is rejected. A power of two,
        2 to 64.
    notification_slots : int
        Notifications that one sender can have pending at one receiver. 1 to 64.
    data_queue_beats : int
        Beats between the read and the write side. A power of two, at least `4 * burst_beats`,
        up to 4096. A burst is read only when it has room here.
    cache : int
        AxCACHE of every burst. 0 to 15.
    prot : int
        AxPROT of every burst. 0 to 7.
    manager_secure : bool
        The manager page answers only secure accesses (AxPROT[1] = 0), besides privileged ones.
    silent_faults : bool
        Forbidden and unmapped register accesses read as zero and write nothing with an OKAY
        response, instead of an error response.

    Raises
    ------
    TypeError
        A parameter is not of its kind.
    ValueError
        A parameter is outside its range.
    """

    partitions: int = 4
    entries: int = 16
    data_bits: int = 64
    address_bits: int = 32
    page_bytes: int = 4096
    burst_beats: int = 64
    reads_in_flight: int = 16
    writes_in_flight: int = 32
    messages_in_flight: int = 32
    command_queue_depth: int = 32
    notification_slots: int = 8
    data_queue_beats: int = 512
    cache: int = 0b0011
    prot: int = 0b000
    manager_secure: bool = False
    silent_faults: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            kind = bool if field.type == "bool" else int
            if type(value) is not kind:
                name = "a bool" if kind is bool else "an integer"
                raise TypeError(f"{field.name} must be {name}, not {value!r}")
        self._in_range("partitions", 1, 32)
        self._power_of_two("entries", 2, 65_536)
        self._one_of("data_bits", (32, 64, 128, 256, 512))
        self._in_range("address_bits", 32, 64)
        self._one_of("page_bytes", (4096, 16_384, 65_536))
        self._power_of_two("burst_beats", 2, 256)
        if self.block_bytes > AXI_BOUNDARY_BYTES:
            raise ValueError(
                f"burst_beats × data_bits / 8 must be at most {AXI_BOUNDARY_BYTES} bytes "
                f"(a burst must not cross a 4 KiB boundary), not {self.block_bytes}")
        for name in ("reads_in_flight", "writes_in_flight"):
            self._power_of_two(name, 2, 256)
        self._power_of_two("messages_in_flight", 4, 256)
        self._power_of_two("command_queue_depth", 2, 64)
        self._in_range("notification_slots", 1, 64)
        self._power_of_two("data_queue_beats", 4, 4096)
        if self.data_queue_beats < 4 * self.burst_beats:
            raise ValueError(f"data_queue_beats must be at least 4 × burst_beats = "
                             f"{4 * self.burst_beats}, not {self.data_queue_beats}")
        self._in_range("cache", 0, 15)
        self._in_range("prot", 0, 7)

    def _in_range(self, name: str, low: int, high: int) -> None:
        value = getattr(self, name)
        if not low <= value <= high:
            raise ValueError(f"{name} must be between {low} and {high}, not {value!r}")

    def _power_of_two(self, name: str, low: int, high: int) -> None:
        value = getattr(self, name)
        if not low <= value <= high or value & (value - 1):
            raise ValueError(
                f"{name} must be a power of two between {low} and {high}, not {value!r}")

    def _one_of(self, name: str, choices: tuple[int, ...]) -> None:
        value = getattr(self, name)
        if value not in choices:
            listed = ", ".join(map(str, choices))
            raise ValueError(f"{name} must be one of {listed}, not {value!r}")

    # Derived sizes. `_log2` and `_bits` are bit counts.

    @property
    def data_bytes(self) -> int:
        """Bytes of a beat."""
        return self.data_bits // 8

    @property
    def size_log2(self) -> int:
        """AxSIZE of every burst: log2 of the bytes of a beat."""
        return self.data_bytes.bit_length() - 1

    @property
    def block_bytes(self) -> int:
        """Bytes of the aligned blocks on which bursts are split."""
        return self.burst_beats * self.data_bytes

    @property
    def block_log2(self) -> int:
        return self.block_bytes.bit_length() - 1

    @property
    def partition_bits(self) -> int:
        """Bits of a partition number, at least 1."""
        return max(1, (self.partitions - 1).bit_length())

    @property
    def id_bits(self) -> int:
        """Bits of a network ID that can name an entry; higher bits of an ID must be 0."""
        return (self.entries - 1).bit_length()

    @property
    def base_bits(self) -> int:
        """Bits of an entry's base address, counted in `ENTRY_UNIT_BYTES`."""
        return self.address_bits - ENTRY_UNIT_BYTES.bit_length() + 1

    @property
    def message_count_bits(self) -> int:
        """Bits of a free-running counter of messages, one more than an index needs."""
        return self.messages_in_flight.bit_length()

    @property
    def page_log2(self) -> int:
        return self.page_bytes.bit_length() - 1

    @property
    def manager_page(self) -> int:
        """Index of the manager's page: the first power of two that is ≥ `partitions`."""
        return 1 << (self.partitions - 1).bit_length()

    @property
    def register_address_bits(self) -> int:
        """Bits of an address on the register port."""
        return self.page_log2 + self.manager_page.bit_length()

    @property
    def user_bits(self) -> int:
        """Bits of AxUSER: the partition, and above it one bit that is set for the manager."""
        return self.partition_bits + 1

    @property
    def manager(self) -> int:
        """The manager as an agent on the memory port, where partitions are their numbers."""
        return 1 << self.partition_bits

    @property
    def agents(self) -> int:
        """Length of a vector with a bit for each agent."""
        return self.manager + 1

    @property
    def own_event_slots(self) -> int:
        """Events of a partition's queue that only its own completions use.

        Three more than `messages_in_flight`, because room is looked at while up to three commands
        that may take it are being decided.
        """
        return self.messages_in_flight + 3

    @property
    def event_slots(self) -> int:
        """Events of a partition's queue: its own completions, and a quota for each sender."""
        slots = self.own_event_slots + self.partitions * self.notification_slots
        return 1 << (slots - 1).bit_length()

    @classmethod
    def named(cls, name: str) -> AdapterConfig:
        """The configuration called `name`: one of the keys of `CONFIGS`.

        Raises
        ------
        ValueError
            There is no such configuration.
        """
        if name not in CONFIGS:
            raise ValueError(f"configuration must be one of {', '.join(CONFIGS)}, not {name!r}")
        return CONFIGS[name]

    def describe(self) -> dict[str, Any]:
        """Every parameter by name, for files written beside an export."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


#: The configurations that are built and tested.
CONFIGS: dict[str, AdapterConfig] = {
    "tiny": AdapterConfig(
        partitions=2, entries=4, data_bits=32, burst_beats=16, reads_in_flight=4,
        writes_in_flight=8, messages_in_flight=8, command_queue_depth=4, notification_slots=4,
        data_queue_beats=64),
    "default": AdapterConfig(),
    # As many beats in flight as `default`, where a message of 64 bytes has half as many.
    "large": AdapterConfig(
        partitions=16, entries=1024, data_bits=128, address_bits=40, reads_in_flight=32,
        writes_in_flight=64, messages_in_flight=64),
}
