# SPDX-License-Identifier: Apache-2.0
"""The register map against the contract, and the bank against a model in plain Python."""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from amaranth.hdl import ClockDomain, Module, Signal, Value
from amaranth.lib.memory import WritePort
from amaranth.sim import Simulator

from formal.mutants import mutated
from mvxl import docs, registers
from mvxl.config import CONFIGS, AdapterConfig
from mvxl.messages import EventKind, GrantKind, Op, Status
from mvxl.docs import export_docs
from mvxl.registers import RegisterMapError, compile_map, register_map

SLVERR = 2
PRIVILEGED = 0b001
NONSECURE = 0b010

#: The contract: offset, access ("constant", "value" from hardware, "clear": value, told when
#: written, "stored", "action") and fields as name → (msb, lsb).
IRQ_FIELDS = {"event": (0, 0), "completed": (1, 1)}
MANAGER_IRQ_FIELDS = {"fault": (0, 0), "commit": (1, 1), "down": (2, 2), "expired": (3, 3)}
ID, OFFSET, COUNT, ADDRESS, TOKEN = (
    {"id": (15, 0)}, {"offset": (31, 0)}, {"count": (31, 0)}, {"address": (31, 0)},
    {"token": (31, 0)})
LOCK_FIELDS = {"held": (0, 0), "live": (1, 1), "kind": (2, 2), "busy": (3, 3)}
MOVE_STATUS_FIELDS = {"busy": (0, 0), "done": (1, 1), "status": (8, 4)}
COMMON = {
    "version": (0x00, "constant", {"minor": (7, 0), "major": (15, 8), "magic": (31, 16)}),
    "config": (0x04, "value", {
        "partition": (4, 0), "partitions_minus_1": (9, 5), "entries_log2": (14, 10),
        "data_bytes_log2": (17, 15), "queue_log2": (21, 18), "in_flight_log2": (25, 22)}),
}
PARTITION = COMMON | {
    "status": (0x08, "clear", {
        "ready": (0, 0), "idle": (1, 1), "halted": (2, 2), "waiting": (3, 3), "rejected": (4, 4),
        "room": (15, 8), "events": (31, 16)}),
    "completed": (0x0C, "value", {"count": (31, 0)}),
    "rejected": (0x10, "value", {"count": (31, 0)}),
    "src_id": (0x20, "stored", {"id": (15, 0)}),
    "src_offset": (0x24, "stored", {"offset": (31, 0)}),
    "dst_id": (0x28, "stored", {"id": (15, 0)}),
    "dst_offset": (0x2C, "stored", {"offset": (31, 0)}),
    "count": (0x30, "stored", {"count": (31, 0)}),
    "command": (0x34, "action", {
        "op": (3, 0), "wait": (4, 4), "fence": (5, 5), "event": (6, 6), "notify": (7, 7),
        "tag": (15, 8)}),
    "cancel": (0x38, "action", {"cancel": (0, 0)}),
    "resume": (0x3C, "action", {"resume": (0, 0)}),
    "event_info": (0x40, "value", {
        "kind": (1, 0), "status": (8, 4), "tag": (19, 12), "peer": (28, 24)}),
    "event_id": (0x44, "value", {"id": (15, 0)}),
    "event_offset": (0x48, "value", {"offset": (31, 0)}),
    "event_count": (0x4C, "value", {"count": (31, 0)}),
    "event_pop": (0x50, "action", {"pop": (0, 0)}),
    "rewind": (0x54, "action", ID),
    "consume_id": (0x58, "stored", ID),
    "consume": (0x5C, "action", COUNT),
    "receive_id": (0x60, "stored", ID),
    "receive_cursor": (0x64, "value", {"cursor": (31, 0)}),
    "receive_head": (0x68, "value", {"head": (31, 0)}),
    "receive_status": (0x6C, "value", {"busy": (0, 0), "done": (1, 1), "refused": (2, 2)}),
    "receive2_id": (0x70, "stored", ID),
    "receive2_cursor": (0x74, "value", {"cursor": (31, 0)}),
    "receive2_head": (0x78, "value", {"head": (31, 0)}),
    "irq_state": (0x80, "value", IRQ_FIELDS),
    "irq_enable": (0x84, "stored", IRQ_FIELDS),
    "irq_test": (0x88, "stored", IRQ_FIELDS),
    "completed_compare": (0x8C, "stored", {"count": (31, 0)}),
    "grant_src_id": (0xA0, "stored", ID),
    "grant_src_offset": (0xA4, "stored", OFFSET),
    "grant_dst_id": (0xA8, "stored", ID),
    "grant_count": (0xAC, "stored", COUNT),
    "grant_command": (0xB0, "action", {
        "kind": (0, 0), "wait": (4, 4), "event": (6, 6), "notify": (7, 7), "tag": (15, 8)}),
    "grant_state": (0xB4, "value", LOCK_FIELDS),
    "grant_token": (0xB8, "value", TOKEN),
    "grant_acknowledged": (0xBC, "value", COUNT),
    "grant_src_lo": (0xC0, "value", ADDRESS),
    "grant_src_hi": (0xC4, "value", ADDRESS),
    "grant_dst_lo": (0xC8, "value", ADDRESS),
    "grant_dst_hi": (0xCC, "value", ADDRESS),
    "grant_first": (0xD0, "value", COUNT),
    "grant_next_lo": (0xD4, "value", ADDRESS),
    "grant_next_hi": (0xD8, "value", ADDRESS),
    "release_token": (0xDC, "stored", TOKEN),
    "release": (0xE0, "action", COUNT),
    "release_status": (0xE4, "value", MOVE_STATUS_FIELDS),
    "mvxl_token": (0xE8, "stored", TOKEN),
    "mvxl_src": (0xEC, "stored", OFFSET),
    "mvxl_dst": (0xF0, "stored", OFFSET),
    "mvxl_count": (0xF4, "stored", COUNT),
    "mvxl_command": (0xF8, "action", {"fence": (5, 5), "event": (6, 6), "tag": (15, 8)}),
}
#: In a partition's page, registers from here on answer privileged accesses only.
PRIVILEGED_OFFSET = 0xA0
ARRAY_OFFSET, ARRAY_STRIDE = 0x100, 0x20


def manager_contract(partitions: int) -> dict[str, tuple[int, str, dict[str, tuple[int, int]]]]:
    return COMMON | {
        "status": (0x08, "value", {
            "ready": (0, 0), "idle": (1, 1), "down": (2, 2), "snapshot": (3, 3)}),
        "entry_id": (0x20, "stored", {"id": (15, 0)}),
        "entry_base_lo": (0x24, "stored", {"base": (31, 0)}),
        "entry_base_hi": (0x28, "stored", {"base": (31, 0)}),
        "entry_length": (0x2C, "stored", {"length": (31, 0)}),
        "entry_access": (0x30, "stored", {
            "valid": (0, 0), "may_send": (1, 1), "may_receive": (2, 2), "ring": (3, 3),
            "owner": (12, 8)}),
        "entry_senders": (0x34, "stored", {"senders": (partitions - 1, 0)}),
        "entry_commit": (0x38, "action", {"commit": (0, 0)}),
        "entry_status": (0x3C, "value", {
            "busy": (0, 0), "done": (1, 1), "refused": (2, 2), "reason": (6, 4)}),
        "fault_pending": (0x40, "value", {"partitions": (partitions - 1, 0)}),
        "fault_clear": (0x44, "action", {"partitions": (partitions - 1, 0)}),
        "entry_revoke": (0x48, "action", ID),
        "lease": (0x4C, "stored", {"cycles": (31, 0)}),
        "lock_release": (0x50, "action", {"partitions": (partitions - 1, 0)}),
        "partition_reset": (0x54, "action", {"partitions": (partitions - 1, 0)}),
        "resetting": (0x58, "value", {"partitions": (partitions - 1, 0)}),
        "memory_timeout": (0x5C, "stored", {"cycles": (31, 0)}),
        "memory_state": (0x60, "value", {
            "down": (0, 0), "settled": (1, 1), "channel": (6, 4)}),
        "memory_up": (0x64, "action", {"up": (0, 0)}),
        "counter_snapshot": (0x68, "action", {"snapshot": (0, 0)}),
        "counter_select": (0x6C, "stored", {
            "sender": (4, 0), "receiver": (12, 8), "none": (16, 16)}),
        "irq_state": (0x80, "value", MANAGER_IRQ_FIELDS),
        "irq_enable": (0x84, "stored", MANAGER_IRQ_FIELDS),
        "irq_test": (0x88, "stored", MANAGER_IRQ_FIELDS),
        "counter_messages_lo": (0xA0, "value", COUNT),
        "counter_messages_hi": (0xA4, "value", COUNT),
        "counter_bytes_lo": (0xA8, "value", COUNT),
        "counter_bytes_hi": (0xAC, "value", COUNT),
        "counter_refused_lo": (0xB0, "value", COUNT),
        "counter_refused_hi": (0xB4, "value", COUNT),
        "counter_waited_lo": (0xB8, "value", COUNT),
        "counter_waited_hi": (0xBC, "value", COUNT),
        "mvxl_src_lo": (0xC0, "stored", ADDRESS),
        "mvxl_src_hi": (0xC4, "stored", ADDRESS),
        "mvxl_dst_lo": (0xC8, "stored", ADDRESS),
        "mvxl_dst_hi": (0xCC, "stored", ADDRESS),
        "mvxl_count": (0xD0, "stored", COUNT),
        "mvxl_command": (0xD4, "action", {"start": (0, 0)}),
        "mvxl_status": (0xD8, "value", MOVE_STATUS_FIELDS),
        "partition_control": (0x100, "stored", {
            "enabled": (0, 0), "grant_engine": (1, 1), "grant_cpu": (2, 2), "weight": (11, 8)}),
        "partition_max_count": (0x104, "stored", {"count": (31, 0)}),
        "partition_wait_limit": (0x108, "stored", {"cycles": (31, 0)}),
        "partition_fault_info": (0x10C, "value", {
            "valid": (0, 0), "direction": (1, 1), "status": (8, 4), "lost": (31, 16)}),
        "partition_fault_address_lo": (0x110, "value", {"address": (31, 0)}),
        "partition_fault_address_hi": (0x114, "value", {"address": (31, 0)}),
        "partition_lock": (0x118, "value", LOCK_FIELDS | {"id": (31, 16)}),
    }


ACCESS = {
    frozenset({registers.Kind.CONSTANT}): "constant",
    frozenset({registers.Kind.STATUS}): "value",
    frozenset({registers.Kind.STATUS, registers.Kind.CLEAR}): "clear",
    frozenset({registers.Kind.STORAGE}): "stored",
    frozenset({registers.Kind.ACTION}): "action",
}

VERSION_WORD = 0x4D56_0001


def mask_of(fields: dict[str, tuple[int, int]]) -> int:
    return sum((1 << msb + 1) - (1 << lsb) for msb, lsb in fields.values())


@pytest.mark.parametrize("partitions", [1, 3, 4, 32])
def test_map_is_the_contract(partitions: int) -> None:
    compiled = register_map(AdapterConfig(partitions=partitions))
    for page, contract in ((compiled.partition, PARTITION),
                           (compiled.manager, manager_contract(partitions))):
        assert {register.name: (
                    register.offset, ACCESS[frozenset(register.kinds)],
                    {name: (f.lsb + f.width - 1, f.lsb) for name, f in register.fields.items()})
                for register in page} == contract
        assert [register.name for register in page if register.privileged] == [
            name for name, (offset, _, _) in contract.items()
            if page is compiled.partition and offset >= PRIVILEGED_OFFSET]
    assert compiled.manager.array is not None
    assert (compiled.manager.array.offset, compiled.manager.array.stride,
            compiled.manager.array.count) == (ARRAY_OFFSET, ARRAY_STRIDE, partitions)


@pytest.mark.parametrize("name", CONFIGS)
def test_addresses(name: str) -> None:
    config = CONFIGS[name]
    compiled = register_map(config)
    last = config.partitions - 1
    assert compiled.partition_address(last, "command") == last * config.page_bytes + 0x34
    assert (compiled.manager_address("partition_wait_limit", last)
            == config.manager_page * config.page_bytes + 0x108 + 0x20 * last)
    assert compiled.manager_address("partition_control", last) < 1 << config.register_address_bits


def test_addresses_wrong() -> None:
    compiled = register_map(AdapterConfig())
    with pytest.raises(ValueError, match=r"^partition must be between 0 and 3, not 4$"):
        compiled.partition_address(4, "command")
    with pytest.raises(ValueError, match=r"^index of entry_id must be between 0 and 0, not 1$"):
        compiled.manager_address("entry_id", 1)
    with pytest.raises(ValueError, match=r"^register must be one of version, .*, not 'nothing'$"):
        compiled.partition_address(0, "nothing")


def test_pack() -> None:
    command = register_map(AdapterConfig()).partition["command"]
    word = command.pack(op=1, fence=1, tag=0xA5)
    assert word == 0xA521
    assert command.unpack(word) == {
        "op": 1, "wait": 0, "fence": 1, "event": 0, "notify": 0, "tag": 0xA5}
    with pytest.raises(ValueError, match=r"^command\.tag must be between 0 and 255, not 256$"):
        command.pack(tag=256)
    with pytest.raises(ValueError, match=r"^command\.tag must be between 0 and 255, not -1$"):
        command.pack(tag=-1)
    with pytest.raises(ValueError, match=r"^command has no field 'size', only op, wait"):
        command.pack(size=1)


def test_enumerations_are_those_of_messages() -> None:
    compiled = register_map(AdapterConfig())
    info = compiled.partition["event_info"]
    fault = compiled.manager["partition_fault_info"]
    grant, release, raw = (compiled.partition["grant_command"],
                           compiled.partition["release_status"], compiled.manager["mvxl_status"])
    for number, numbers in (
            (info["status"], Status), (fault["status"], Status), (release["status"], Status),
            (raw["status"], Status), (info["kind"], EventKind), (grant["kind"], GrantKind),
            (compiled.partition["command"]["op"], (Op.SEND, Op.MVCL))):
        assert number.encoding == {member.name: member.value for member in numbers}


# What the bank does not do is refused.

def _after(anchor: str, text: str) -> Callable[[str], str]:
    def edit(source: str) -> str:
        assert anchor in source
        return source.replace(anchor, anchor + text, 1)
    return edit


def _instead(old: str, new: str) -> Callable[[str], str]:
    def edit(source: str) -> str:
        assert old in source
        return source.replace(old, new, 1)
    return edit


SRC_ID = "mvxl_adapter.page[].SRC_ID"
SRC_ID_BODY = """        name = "Source";\n"""
SRC_ID_FIELD = """            sw = rw; hw = r;
            desc = "Network ID of the entry to send from; the partition must own it.";
        } id[15:0] = 0;"""
STATUS_BODY = """        name = "Status of the partition";\n"""


def _field(properties: str, reset: str = " = 0") -> Callable[[str], str]:
    return _instead(SRC_ID_FIELD, f"            {properties}\n        }} id[15:0]{reset};")


REFUSED = {
    "rclr": (_field("sw = rw; hw = r; rclr;"), f"{SRC_ID}.id: property rclr is not supported"),
    "onread": (_field("sw = rw; hw = r; onread = rset;"),
               f"{SRC_ID}.id: property onread is not supported"),
    "singlepulse": (_after("happens if STATUS.waiting is 0.\";", " singlepulse; reset = 0;"),
                    "page[].CANCEL.cancel: property singlepulse is not supported"),
    "counter": (_field("sw = rw; hw = r; counter;"),
                f"{SRC_ID}.id: property counter is not supported"),
    "swmod": (_field("sw = rw; hw = r; swmod;"), f"{SRC_ID}.id: property swmod is not supported"),
    "swacc": (_field("sw = rw; hw = r; swacc;"), f"{SRC_ID}.id: property swacc is not supported"),
    "hwclr": (_field("sw = rw; hw = r; hwclr;"), f"{SRC_ID}.id: property hwclr is not supported"),
    "we": (_field("sw = rw; hw = rw; we;"), f"{SRC_ID}.id: property we is not supported"),
    "default": (_after(SRC_ID_BODY, "        default swmod = true;\n"),
                f"{SRC_ID}.id: property swmod is not supported"),
    "assigned_later": (
        _after("} SRC_ID @ 0x20;", "\n    SRC_ID.id->hwset = true;"),
        f"{SRC_ID}.id: property hwset is not supported"),
    "onwrite_other": (_field("sw = rw; hw = w; onwrite = woset;", ""),
                      f"{SRC_ID}.id: access must be one of .*, not sw=rw hw=w onwrite=woset"),
    "access_defaults": (_field(""), f"{SRC_ID}.id: access must be one of .*, not sw=rw hw=rw"),
    "access_rw1": (_field("sw = rw1; hw = r;"),
                   f"{SRC_ID}.id: access must be one of .*, not sw=rw1 hw=r"),
    "storage_without_reset": (
        _field("sw = rw; hw = r;", ""),
        f"{SRC_ID}.id: property reset must be a number for a storage, not None"),
    "status_with_reset": (
        _field("sw = r; hw = w;"),
        f"{SRC_ID}.id: property reset is not supported by the register bank for access "
        "sw=r hw=w"),
    "mixed_register": (
        _after(SRC_ID_FIELD, "\n        field { sw = w; hw = r; } go[16:16];"),
        f"{SRC_ID}: fields of the kinds ACTION, STORAGE cannot be in one register"),
    "regwidth": (_after(SRC_ID_BODY, "        regwidth = 16;\n"),
                 f"{SRC_ID}: property regwidth must be 32, not 16"),
    "shared": (_after(SRC_ID_BODY, "        shared;\n"),
               f"{SRC_ID}: property shared is not supported"),
    "external": (_instead("    reg {\n        early;\n" + STATUS_BODY,
                          "    external reg {\n        early;\n" + STATUS_BODY),
                 "page[].STATUS: property external is not supported"),
    "signal": (_after(SRC_ID_BODY, "        signal { activehigh; } wire;\n"),
               f"{SRC_ID}.wire: a signal is not supported"),
    "memory": (_after("    partition_control partition[PARTITIONS] @ 0x100 += 0x20;",
                      "\n    external mem { mementries = 4; memwidth = 32; } ram @ 0x600;"),
               "manager.ram: a mem is not supported"),
    "register_array": (_instead("} SRC_ID @ 0x20;", "} SRC_ID[1] @ 0x20 += 4;"),
                       "must be a single register"),
    "array_stride": (_instead("@ 0x100 += 0x20", "@ 0x100 += 0x28"),
                     "manager.partition[]: the stride must be a power of two, not 40"),
    "array_offset": (_instead("@ 0x100 += 0x20", "@ 0x110 += 0x20"),
                     "manager.partition[]: the offset must be a multiple of the stride 0x20, "
                     "not 0x110"),
    "array_dimensions": (_instead("partition[PARTITIONS] @", "partition[PARTITIONS][2] @"),
                         "manager.partition[][]: a register file must be an array of one "
                         "dimension, not of 2"),
    "two_arrays": (_after("partition_control partition[PARTITIONS] @ 0x100 += 0x20;",
                          "\n    partition_control other[2] @ 0x600 += 0x20;"),
                   "manager.other[]: a page must have at most one array, and has partition"),
    "page_missing": (_instead("    partition_page page[PARTITIONS]",
                              "    partition_page sheet[PARTITIONS]"),
                     "mvxl_adapter must have the pages ['manager', 'page'], "
                     "not ['manager', 'sheet']"),
    "page_place": (_instead("manager @ MANAGER_PAGE * PAGE_BYTES", "manager @ 0x8000"),
                   "mvxl_adapter.manager: (offset, count, stride) must be (16384, 1, 4096), "
                   "not (32768, 1, 4096)"),
    "page_size": (_after("partition_control partition[PARTITIONS] @ 0x100 += 0x20;",
                         "\n    version_r BEYOND @ 0x1000;"),
                  "mvxl_adapter.manager: must fit in 4096 bytes, not 4100"),
}


@pytest.mark.parametrize(("edit", "message"), REFUSED.values(), ids=REFUSED)
def test_unsupported_rdl_is_refused(
        tmp_path: Path, edit: Callable[[str], str], message: str) -> None:
    source = tmp_path / "registers.rdl"
    source.write_text(edit(registers.SOURCE.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(RegisterMapError) as refusal:
        compile_map(AdapterConfig(), source)
    for part in message.split(".*"):
        assert part in str(refusal.value)


# The bank, cycle by cycle.

@dataclass
class Write:
    """A write, and what became of it. Cycles are counted from the end of reset."""

    address: int
    word: int
    strobes: int = 0b1111
    prot: int = PRIVILEGED
    address_cycle: int = 0      #: earliest cycle of AWVALID
    word_cycle: int = 0         #: earliest cycle of WVALID
    response_delay: int = 0     #: cycles for which BREADY stays low
    addressed: int = -1         #: cycle of AW's handshake
    given: int = -1             #: cycle of W's handshake
    responded: int = -1         #: first cycle of BVALID
    ended: int = -1             #: cycle of B's handshake
    response: int = -1


@dataclass
class Read:
    """A read, and what became of it."""

    address: int
    prot: int = PRIVILEGED
    address_cycle: int = 0
    response_delay: int = 0
    addressed: int = -1
    responded: int = -1
    ended: int = -1
    response: int = -1
    word: int = -1


@dataclass
class Told:
    """A strobe: what hardware was told."""

    cycle: int
    manager: bool
    name: str
    number: int
    word: int
    place: int              #: the number of the word in its page


@dataclass
class Clear:
    """A request to clear a page, and what became of it."""

    partition: int
    cycle: int              #: earliest cycle of `clear.en`
    asked: int = -1         #: first cycle of `clear.en`
    done: int = -1          #: the cycle of `cleared`


@dataclass(frozen=True, order=True)
class Violation:
    """What was said of an access without privilege."""

    cycle: int
    write: bool
    partition: int
    address: int


@dataclass
class Trace:
    """What was seen, and what was set: a vector of frozen pages, for which (partition, index,
    word) hardware supplied values, and early ones, and whose it was told ahead, in each cycle."""

    told: list[Told] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    supplied_for: list[tuple[int, int, int]] = field(default_factory=list)
    early_supplied_for: list[tuple[int, int, int]] = field(default_factory=list)
    ahead: list[int] = field(default_factory=list)
    frozen: list[int] = field(default_factory=list)


def _supplied(seed: int, manager: bool, number: int, word: int, cycle: int, bits: int) -> int:
    """What hardware supplies for all registers of a page: another number in every cycle."""
    return random.Random(f"{seed}/{manager}/{number}/{word}/{cycle}").getrandbits(bits)


def never(cycle: int) -> int:
    """No page is frozen."""
    return 0


def watched(module: ModuleType) -> type:
    """The bank of `module`, with what its RAM is used for as `ram_written` and `ram_read`."""

    class Watched(module.RegisterBank):
        def _write_side(self, m: Module, port: WritePort, reading: Signal) -> None:
            self.ram_written, self.ram_read = port.en, reading
            super()._write_side(m, port, reading)

    return Watched


class Bench:
    """Plays writes and reads on a bank's bus, each channel in order, as its manager would.

    The hardware behind the bank takes two cycles for its values, and one for those of early
    registers. It is told apart from any other by values that change in every cycle.
    """

    def __init__(self, config: AdapterConfig, seed: int = 0,
                 module: ModuleType = registers) -> None:
        self.config = config
        self.seed = seed
        self.bank = watched(module)(config)
        self.pages = {False: self.bank.map.partition, True: self.bank.map.manager}
        # Of the page whose strobe was high in the cycle before: its number, word and data.
        self._told_before: dict[bool, tuple[int, int, int]] = {}
        self._oncoming = {False: 0, True: 0}
        self._early_masks = {manager: self._early_mask(manager) for manager in (False, True)}

    def _early_mask(self, manager: bool) -> int:
        """Ones where early registers have their words in the page's values."""
        shape = self._values(manager).shape()
        words = {register.source for register in self.pages[manager]
                 if register.early and register.is_supplied}
        return sum(((1 << shape[word].width) - 1) << shape[word].offset for word in words)

    def _values(self, manager: bool) -> Any:
        return self.bank.manager_value if manager else self.bank.partition_value

    def run(self, writes: list[Write], reads: list[Read], *, after_ready: bool = True,
            reset_cycles: tuple[int, ...] = (), frozen: Callable[[int], int] = never,
            clears: Sequence[Clear] = ()) -> Trace:
        """Returns when all accesses and clears are over.

        `frozen` gives the vector of a cycle; a page that is being cleared is frozen besides.
        """
        trace = Trace()
        top = Module()
        domain = ClockDomain("sync")
        top.domains += domain
        top.submodules.bank = self.bank
        simulator = Simulator(top)
        simulator.add_clock(1e-8)

        async def play(ctx: Any) -> None:
            if after_ready:
                while not ctx.get(self.bank.ready):
                    await ctx.tick()
            await self._play(
                ctx, domain, trace, writes, reads, reset_cycles, frozen, list(clears))

        simulator.add_testbench(play)
        simulator.run()
        return trace

    async def _play(self, ctx: Any, domain: ClockDomain, trace: Trace, writes: list[Write],
                    reads: list[Read], reset_cycles: tuple[int, ...],
                    frozen: Callable[[int], int], clears: list[Clear]) -> None:
        bus, bank = self.bank.bus, self.bank
        addressed = given = answered = 0
        read_addressed = read_answered = 0
        asked = [(0, 0, 0)] * 2
        self._told_before = {}
        junk = random.Random(self.seed)
        cycle = 0
        while answered < len(writes) or read_answered < len(reads) or clears:
            assert cycle < 100_000, "the bank does not answer"
            aw = writes[addressed] if addressed < len(writes) else None
            w = writes[given] if given < len(writes) else None
            ar = reads[read_addressed] if read_addressed < len(reads) else None
            aw_valid = aw is not None and cycle >= aw.address_cycle
            w_valid = w is not None and cycle >= w.word_cycle
            ar_valid = ar is not None and cycle >= ar.address_cycle
            ctx.set(bus.awvalid, aw_valid)
            ctx.set(bus.wvalid, w_valid)
            ctx.set(bus.arvalid, ar_valid)
            # Without VALID the rest is anything.
            ctx.set(bus.awaddr, aw.address if aw_valid else junk.getrandbits(len(bus.awaddr)))
            ctx.set(bus.awprot, aw.prot if aw_valid else junk.getrandbits(3))
            ctx.set(bus.wdata, w.word if w_valid else junk.getrandbits(32))
            ctx.set(bus.wstrb, w.strobes if w_valid else junk.getrandbits(4))
            ctx.set(bus.araddr, ar.address if ar_valid else junk.getrandbits(len(bus.araddr)))
            ctx.set(bus.arprot, ar.prot if ar_valid else junk.getrandbits(3))
            ctx.set(domain.rst, cycle in reset_cycles)

            clearing = clears[0] if clears and cycle >= clears[0].cycle else None
            held = frozen(cycle) | (0 if clearing is None else 1 << clearing.partition)
            trace.frozen.append(held)
            ctx.set(bank.frozen, held)
            ctx.set(bank.clear.en, clearing is not None)
            ctx.set(bank.clear.partition, junk.randrange(self.config.partitions)
                    if clearing is None else clearing.partition)
            if ctx.get(bank.cleared):
                assert clearing is not None and clearing.asked >= 0, "cleared, and nobody asked"
                clearing.done = cycle
                clears.pop(0)
            elif clearing is not None and clearing.asked < 0:
                clearing.asked = cycle

            trace.supplied_for.append(asked[0])
            trace.early_supplied_for.append(asked[1])
            for manager in (False, True):
                ctx.set(Value.cast(self._values(manager)), self._supplies(manager, asked, cycle))
                flags = Value.cast(self._flags(manager))
                if len(flags):
                    ctx.set(flags, self._are_shown(manager, cycle))
            asked.pop(0)
            asked.append((ctx.get(bank.read_partition), ctx.get(bank.read_index),
                          ctx.get(bank.read_word)))
            trace.ahead.append(ctx.get(bank.read_ahead))

            b = writes[answered] if answered < len(writes) else None
            r = reads[read_answered] if read_answered < len(reads) else None
            b_valid, r_valid = ctx.get(bus.bvalid), ctx.get(bus.rvalid)
            b_ready = r_ready = 0
            if b_valid:
                assert b is not None and b.addressed >= 0 and b.given >= 0, "B before AW and W"
                if b.responded < 0:
                    b.responded, b.response = cycle, ctx.get(bus.bresp)
                assert ctx.get(bus.bresp) == b.response, "BRESP changed under BVALID"
                b_ready = cycle - b.responded >= b.response_delay
            if r_valid:
                assert r is not None and r.addressed >= 0, "R before AR"
                if r.responded < 0:
                    r.responded = cycle
                    r.response, r.word = ctx.get(bus.rresp), ctx.get(bus.rdata)
                assert (ctx.get(bus.rresp), ctx.get(bus.rdata)) == (r.response, r.word), \
                    "R changed under RVALID"
                r_ready = cycle - r.responded >= r.response_delay
            ctx.set(bus.bready, b_ready)
            ctx.set(bus.rready, r_ready)
            if not b_valid and b is not None and b.responded >= 0 or \
                    not r_valid and r is not None and r.responded >= 0:
                assert reset_cycles, "VALID fell before READY"

            assert not (ctx.get(bank.ram_written) and ctx.get(bank.ram_read)), \
                "the RAM is written while it is read"
            self._record_strobes(ctx, trace, cycle)
            if cycle in reset_cycles:
                self._told_before = {}
            if aw_valid and ctx.get(bus.awready):
                aw.addressed = cycle
                addressed += 1
            if w_valid and ctx.get(bus.wready):
                w.given = cycle
                given += 1
            if ar_valid and ctx.get(bus.arready):
                ar.addressed = cycle
                read_addressed += 1
            if b_valid and b_ready:
                b.ended = cycle
                answered += 1
            if r_valid and r_ready:
                r.ended = cycle
                read_answered += 1
            await ctx.tick()
            cycle += 1
        for channel in (bus.awvalid, bus.wvalid, bus.arvalid, bank.clear.en):
            ctx.set(channel, 0)
        for _ in range(4):
            assert not ctx.get(bank.cleared), "cleared twice"
            assert not ctx.get(bus.bvalid | bus.rvalid), "a response that nobody asked for"
            self._record_strobes(ctx, trace, cycle)
            await ctx.tick()
            cycle += 1

    def _record_strobes(self, ctx: Any, trace: Trace, cycle: int) -> None:
        for manager, write, number in (
                (False, self.bank.partition_write, "partition"),
                (True, self.bank.manager_write, "index")):
            bits = ctx.get(Value.cast(write.strobe))
            place = self._oncoming[manager]
            told = (ctx.get(getattr(write, number)), place, ctx.get(write.data))
            oncoming = ctx.get(write.oncoming)
            if oncoming.en:
                self._oncoming[manager] = oncoming.word
            assert self._told_before.get(manager, told) == told, "what is written does not stay"
            self._told_before.pop(manager, None)
            if bits:
                self._told_before[manager] = told
            for position, name in enumerate(dict(write.strobe.shape())):
                if bits >> position & 1:
                    trace.told.append(Told(cycle, manager, name, ctx.get(getattr(write, number)),
                                           ctx.get(write.data), place))
        for is_write, violation in ((True, self.bank.write_violation),
                                    (False, self.bank.read_violation)):
            if ctx.get(violation.en):
                trace.violations.append(Violation(
                    cycle, is_write, ctx.get(violation.partition), ctx.get(violation.address)))

    def _flags(self, manager: bool) -> Any:
        return self.bank.manager_shown if manager else self.bank.partition_shown

    def _are_shown(self, manager: bool, cycle: int) -> int:
        """Which early words are shown in that cycle: half of them."""
        bits = len(Value.cast(self._flags(manager)))
        return random.Random(f"{self.seed}/shown/{manager}/{cycle}").getrandbits(bits)

    def is_shown(self, manager: bool, name: str, cycle: int) -> bool:
        """An early register's word counted in `cycle`."""
        place = self._flags(manager).shape()[SHARED.get(name, name)].offset
        return bool(self._are_shown(manager, cycle) >> place & 1)

    def _supplies(self, manager: bool, asked: list[tuple[int, int, int]], cycle: int) -> int:
        """All values of a page, for what was asked two cycles before and in the cycle before."""
        size = self._values(manager).shape().size
        late, early = (_supplied(self.seed, manager, which[manager], which[2], cycle, size)
                       for which in asked)
        mask = self._early_masks[manager]
        return late & ~mask | early & mask

    def value(self, manager: bool, number: int, word: int, name: str, cycle: int) -> int:
        """What hardware supplied for a register in `cycle`."""
        name = SHARED.get(name, name)
        shape = self._values(manager).shape()
        row = _supplied(self.seed, manager, number, word, cycle, shape.size)
        return row >> shape[name].offset & 0xFFFF_FFFF


#: Registers that read as the same word, and the name of that.
SHARED = {
    "receive2_cursor": "receive_cursor", "receive2_head": "receive_head",
    **{f"counter_{what}_{half}": f"counter_{half}"
       for what in ("messages", "bytes", "refused", "waited") for half in ("lo", "hi")},
}


@dataclass(frozen=True)
class Place:
    """What is at an address, as the contract has it."""

    manager: bool
    number: int
    name: str
    access: str
    mask: int
    offset: int         #: in the page, in bytes
    in_array: bool
    privileged: bool


class Model:
    """The contract of the bank, in whole accesses."""

    def __init__(self, config: AdapterConfig) -> None:
        self.config = config
        self.places: dict[int, Place] = {}
        for partition in range(config.partitions):
            self._add(False, partition, partition * config.page_bytes, PARTITION, 0)
        manager = manager_contract(config.partitions)
        base = 1 << (config.partitions - 1).bit_length()
        single = {n: r for n, r in manager.items() if r[0] < ARRAY_OFFSET}
        array = {n: r for n, r in manager.items() if r[0] >= ARRAY_OFFSET}
        self._add(True, 0, base * config.page_bytes, single, 0)
        for index in range(config.partitions):
            self._add(True, index, base * config.page_bytes, array, index * ARRAY_STRIDE)

    def _add(self, manager: bool, number: int, page: int, contract: dict[str, Any],
             element: int) -> None:
        for name, (offset, access, fields) in contract.items():
            self.places[page + element + offset] = Place(
                manager, number, name, access, mask_of(fields), element + offset,
                manager and offset >= ARRAY_OFFSET,
                not manager and offset >= PRIVILEGED_OFFSET)

    @property
    def refusal(self) -> int:
        return 0 if self.config.silent_faults else SLVERR

    def _place(self, access: Write | Read) -> Place | None:
        """What is at its address, if its privilege is enough."""
        place = self.places.get(access.address)
        if place is not None and place.manager and (
                not access.prot & PRIVILEGED
                or self.config.manager_secure and access.prot & NONSECURE):
            return None
        return None if self.violates(access) else place

    def violates(self, access: Write | Read) -> bool:
        """It is to a privileged register of a partition's page, and has no privilege."""
        place = self.places.get(access.address)
        return place is not None and place.privileged and not access.prot & PRIVILEGED

    def write(self, write: Write) -> Place | None:
        """The place that is told of it; None if the write is refused."""
        place = self._place(write)
        if write.strobes != 0b1111 or place is None:
            return None
        return place if place.access in ("clear", "stored", "action") else None

    def read(self, read: Read) -> Place | None:
        """The place whose value is read; None if the read is refused."""
        place = self._place(read)
        return place if place is not None and place.access != "action" else None


def check(bench: Bench, model: Model, writes: list[Write], reads: list[Read],
          trace: Trace, clears: Sequence[Clear] = ()) -> None:
    """Every access did what the model says, in the time that the contract gives."""
    told = iter(trace.told)
    violations = []
    # (first cycle, the cycle from which on every read sees it, place or page, word)
    changes: list[tuple[int, int, Place | int, int]] = [
        (clear.asked, clear.done, clear.partition, 0) for clear in clears]
    for write in writes:
        later = max(write.addressed, write.given)
        place = model.write(write)
        assert write.responded == later + 1, f"{write}: responded late"
        assert write.response == (model.refusal if place is None else 0), write
        if model.violates(write):
            violations.append(Violation(later + 1, True, model.places[write.address].number,
                                        model.places[write.address].offset))
        if place is None or not place.manager and trace.frozen[later] >> place.number & 1:
            continue
        changes.append((later, later + 2, place, write.word))
        strobe = next(told, None)
        assert strobe == Told(later + 1, place.manager, place.name, strobe.number, write.word,
                              place.offset // 4)
        if not place.manager or place.in_array:
            assert strobe.number == place.number, write
    assert next(told, None) is None, "a strobe without a write"
    changes.sort(key=lambda change: change[0])
    for read in reads:
        assert read.responded == read.addressed + 4, f"{read}: not 4 cycles after AR"
        place = model.read(read)
        if model.violates(read):
            violations.append(Violation(read.addressed + 3, False,
                                        model.places[read.address].number,
                                        model.places[read.address].offset))
        if place is None:
            assert (read.response, read.word) == (model.refusal, 0), read
            continue
        assert read.response == 0, read
        if place.access == "stored":
            page = None if place.manager else place.number
            before = [change for change in changes if change[2] in (place, page)]
            # A change that is not over at AR's handshake may or may not be seen.
            sure = [word for _, over, _, word in before if over <= read.addressed]
            unsure = [word for begun, over, _, word in before
                      if over > read.addressed and begun < read.responded]
            seen = {word & place.mask for word in (sure[-1:] or [0]) + unsure}
            assert read.word in seen, (read, place, seen)
        else:
            early = bench.pages[place.manager][place.name].early
            sampled = read.addressed + (2 if early else 3)
            asked = (trace.early_supplied_for if early else trace.supplied_for)[sampled]
            number = place.number
            if place.manager and not place.in_array:
                number = asked[1]
            assert trace.ahead[read.addressed] == number, (read, "told ahead of another")
            expected = (VERSION_WORD if place.access == "constant" else
                        bench.value(place.manager, number, place.offset // 4, place.name, sampled)
                        & place.mask)
            if early and place.access != "constant" and not bench.is_shown(
                    place.manager, place.name, sampled):
                expected = 0
            assert read.word == expected, (read, place)
    assert sorted(trace.violations) == sorted(violations), "accesses without privilege"


SIZES = {
    "one": AdapterConfig(partitions=1),
    "three": AdapterConfig(partitions=3),
    "default": AdapterConfig(),
    "most": AdapterConfig(partitions=32),
    "far": AdapterConfig(page_bytes=65_536),
    "secure": AdapterConfig(manager_secure=True),
    "silent": AdapterConfig(silent_faults=True),
}


def interesting_addresses(config: AdapterConfig, rng: random.Random, count: int) -> list[int]:
    """Addresses of registers, near them, and anywhere."""
    places = list(Model(config).places)
    result = []
    for _ in range(count):
        address = rng.choice(places)
        match rng.randrange(10):
            case 0:
                address = rng.getrandbits(config.register_address_bits)
            case 1:
                address ^= 1 << rng.randrange(config.register_address_bits)
            case 2:
                address ^= 4 << rng.randrange(8)
        result.append(address)
    return result


def random_accesses(config: AdapterConfig, *, seed: str, count: int,
                    module: ModuleType = registers) -> None:
    """Any order and distance of AW and W, held responses, reads beside writes; pages frozen and
    cleared meanwhile."""
    rng = random.Random(seed)
    writes: list[Write] = []
    reads: list[Read] = []
    cycle = 0
    for address in interesting_addresses(config, rng, count):
        cycle += rng.choice((0, 0, 2, 7, 12))
        writes.append(Write(
            address, rng.getrandbits(32), strobes=rng.choice((15, 15, 15, 15, rng.randrange(16))),
            prot=rng.choice((PRIVILEGED, PRIVILEGED, rng.randrange(8))),
            address_cycle=cycle + rng.choice((0, 0, 3, rng.randrange(9))),
            word_cycle=cycle + rng.choice((0, 0, 3, rng.randrange(9))),
            response_delay=rng.choice((0, 0, 1, 5))))
    cycle = 0
    for address in interesting_addresses(config, rng, count):
        cycle += rng.choice((0, 0, 1, 2, 7))
        reads.append(Read(address, prot=rng.choice((PRIVILEGED, PRIVILEGED, rng.randrange(8))),
                          address_cycle=cycle, response_delay=rng.choice((0, 0, 1, 5))))
    clears = [Clear(rng.randrange(config.partitions), cycle)
              for cycle in sorted(rng.randrange(6 * count) for _ in range(count // 40))]

    def frozen(cycle: int) -> int:
        """Long and short times of any pages, and times of none."""
        dice = random.Random(f"{seed}/{cycle // 16}")
        short = random.Random(f"{seed}/{cycle // 2}").getrandbits(config.partitions)
        return dice.choice((0, 0, dice.getrandbits(config.partitions), short))

    bench = Bench(config, seed=len(seed), module=module)
    trace = bench.run(writes, reads, frozen=frozen, clears=clears)
    check(bench, Model(config), writes, reads, trace, clears)


@pytest.mark.parametrize("name", SIZES)
def test_random_accesses(name: str) -> None:
    random_accesses(SIZES[name], seed=name, count=400)


#: How many registers are early, as a change of the RDL.
EARLY: dict[str, Callable[[str], str]] = {
    "none": lambda text: _early(text, 0),
    "first": lambda text: _early(text, 1),
    "two": lambda text: _early(text, 2),
    "seven": lambda text: _early(text, 7),
    "all": lambda text: re.sub(r"^( *reg(?: \w+)? \{\n)", r"\1early;\n", _early(text, 0),
                               flags=re.MULTILINE),
}


def _early(text: str, number: int) -> str:
    """Only the first components that are early stay so."""
    head, *rest = text.split(" early;\n")
    assert len(rest) > number
    return head + "".join(
        (" early;\n" if n < number else "\n") + part for n, part in enumerate(rest))


def some_early(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, which: str,
               module: ModuleType = registers) -> None:
    """Random accesses, and reads of each register, of a bank in which others are early."""
    source = tmp_path / f"{which}.rdl"
    source.write_text(EARLY[which](registers.SOURCE.read_text(encoding="utf-8")), encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(module, "register_map", lambda config: compile_map(config, source))
        config = AdapterConfig(partitions=2)
        random_accesses(config, seed=which, count=250, module=module)
        bench = Bench(config, seed=2, module=module)
        reads = [Read(address) for _ in range(3) for address in Model(config).places]
        check(bench, Model(config), [], reads, bench.run([], reads))


@pytest.mark.parametrize("which", EARLY)
def test_early_registers(which: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """None, less than a few and more, an odd and an even number; and all: what is stored or
    constant is as ever."""
    source = tmp_path / "registers.rdl"
    source.write_text(EARLY[which](registers.SOURCE.read_text(encoding="utf-8")), encoding="utf-8")
    compiled = compile_map(AdapterConfig(), source)
    every = [register for page in (compiled.partition, compiled.manager) for register in page]
    early = [register.name for register in every if register.early]
    assert early == {
        "none": [], "first": ["status"], "two": ["status", "completed"],
        "seven": ["status", "completed", "rejected", "event_info", "event_id", "event_offset",
                  "event_count"],
        "all": [register.name for register in every]}[which]
    some_early(monkeypatch, tmp_path, which)


@pytest.mark.parametrize("name", ["three", "silent"])
def test_every_address(name: str) -> None:
    """Each word near the registers, of every page: response, time, strobe, value."""
    config = SIZES[name]
    addresses = [page * config.page_bytes + word
                 for page, end in ((0, 0x110), (2, 0x110), (3, 0x40), (4, 0x1A0), (5, 0x40))
                 for word in range(0, end, 4)]
    addresses += [offset << shift for offset in (0x20, 0x24) for shift in range(1, 9)]
    addresses += [0x21, 0x22, 0x23, 0x4021]
    bench = Bench(config)
    writes = [Write(address, 0xA5A5_0000 ^ 0xFFFF_FFFF * (address >> 3 & 1) ^ address)
              for address in addresses]
    trace = bench.run(writes, [])
    model = Model(config)
    check(bench, model, writes, [], trace)
    assert len(trace.told) == sum(
        model.places[a].access in ("clear", "stored", "action")
        for a in addresses if a in model.places)
    bench = Bench(config)
    reads = [Read(address) for address in addresses]
    check(bench, Model(config), [], reads, bench.run([], reads))


@pytest.mark.parametrize("name", ["default", "most"])
def test_storage_keeps_all(name: str) -> None:
    """Every stored register of every page, each with its own word: none is a copy of another."""
    config = SIZES[name]
    model = Model(config)
    stored = [address for address, place in model.places.items() if place.access == "stored"]
    rng = random.Random(1)
    writes = [Write(address, rng.getrandbits(32)) for address in stored]
    start = 2 * len(stored) + 8
    reads = [Read(address, address_cycle=start) for address in stored]
    bench = Bench(config)
    check(bench, model, writes, reads, bench.run(writes, reads))
    assert all(read.word == write.word & model.places[read.address].mask
               for read, write in zip(reads, writes, strict=True))


def test_a_write_every_two_cycles() -> None:
    """A manager that keeps AW and W valid, and B ready, writes every 2 cycles, beside reads."""
    bench = Bench(AdapterConfig())
    writes = [Write((i % 4) * 0x1000 + (0x20 if i & 1 else 0x34), i) for i in range(300)]
    reads = [Read(0x20) for _ in range(100)]
    trace = bench.run(writes, reads)
    assert [write.given for write in writes] == list(range(0, 600, 2))
    assert [told.cycle for told in trace.told] == list(range(1, 601, 2))
    assert [told.word for told in trace.told] == list(range(300))
    assert reads[-1].responded - reads[0].responded == 5 * 99


def test_a_write_next_to_a_read_of_the_same_row() -> None:
    """The RAM's write gives way to a read, and is in time for the next one."""
    for distance in range(-6, 7):
        bench = Bench(AdapterConfig())
        writes = [Write(0x24, 0x1111_1111), Write(0x24, 0x2222_2222, address_cycle=20,
                                                 word_cycle=20)]
        reads = [Read(0x24, address_cycle=20 + distance), Read(0x24, address_cycle=22)]
        check(bench, Model(AdapterConfig()), writes, reads, bench.run(writes, reads))
        assert reads[1].word == 0x2222_2222


def test_a_held_response_holds_its_channel_only() -> None:
    bench = Bench(AdapterConfig())
    writes = [Write(0x20, 1, response_delay=50), Write(0x20, 2)]
    reads = [Read(0x24) for _ in range(8)]
    bench.run(writes, reads)
    assert writes[0].ended == writes[0].responded + 50
    assert writes[1].given > writes[0].ended
    assert reads[-1].ended < writes[0].ended


def test_writes_are_refused_until_ready() -> None:
    """While the RAM is scrubbed: no strobe, an error response, in the same time."""
    config = AdapterConfig()
    bench = Bench(config)
    writes = [Write(address, 0xFFFF_FFFF) for address in (0x20, 0x34, 0x4024, 0x4100)]
    reads = [Read(0x20), Read(0x00), Read(0x4024)]
    refused = Write(0xA0, 0, prot=0), Read(0xA0, prot=0)
    trace = bench.run([*writes, refused[0]], [*reads, refused[1]], after_ready=False)
    assert trace.told == []
    assert trace.violations == [] and [access.response for access in refused] == [SLVERR] * 2
    assert [write.response for write in writes] == [SLVERR] * 4
    assert [(read.response, read.word) for read in reads] == [(0, 0), (0, VERSION_WORD), (0, 0)]
    assert all(read.responded == read.addressed + 4 for read in reads)


def test_reset_clears_the_storage() -> None:
    """What was kept is gone after a reset: not shown while the RAM is scrubbed, nor after."""
    bench = Bench(AdapterConfig())
    stored = [address for address, place in Model(AdapterConfig()).places.items()
              if place.access == "stored"]
    writes = [Write(address, 0xFFFF_FFFF) for address in stored]
    end = 2 * len(stored) + 10
    before = Read(0x24, address_cycle=end - 6)
    early = [Read(address, address_cycle=end + 2) for address in stored]
    late = [Read(address, address_cycle=end + 600) for address in stored]
    late_write = Write(0x24, 0x1234_5678, address_cycle=end + 590, word_cycle=end + 590)
    bench.run([*writes, late_write], [before, *early, *late], reset_cycles=(end, end + 1))
    assert before.word == 0xFFFF_FFFF
    assert all((read.response, read.word) == (0, 0) for read in early)
    assert {read.word for read in late if read.address != 0x24} == {0}
    assert [read.word for read in late if read.address == 0x24] == [0x1234_5678]


def test_reset_values_are_those_of_the_rdl(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edited_bank(monkeypatch, tmp_path, registers)
    config = AdapterConfig(partitions=3)
    reads = [Read(address) for address in (
        0x20, 0x24, 0x1024, 0x2024, 0x402C, 0x404C, 0x4108, 0x4128, 0x4148, 0x4104)]
    Bench(config).run([], reads)
    assert [read.word for read in reads] == [
        0, 0x5678, 0x5678, 0x5678, 0x40, 0, 0x1234, 0x1234, 0x1234, 0]


@pytest.mark.parametrize(("secure", "prot", "allowed"), [
    (False, 0b000, False), (False, 0b001, True), (False, 0b010, False), (False, 0b011, True),
    (False, 0b101, True), (True, 0b000, False), (True, 0b001, True), (True, 0b010, False),
    (True, 0b011, False), (True, 0b101, True)])
def test_the_managers_page_asks_for_privilege(secure: bool, prot: int, allowed: bool) -> None:
    bench = Bench(AdapterConfig(manager_secure=secure))
    writes = [Write(0x4020, 7, prot=prot), Write(0x1020, 8, prot=prot)]
    reads = [Read(0x4020, prot=prot, address_cycle=20), Read(0x1020, prot=prot),
             Read(0x4020, prot=PRIVILEGED)]
    trace = bench.run(writes, reads)
    assert writes[0].response == (0 if allowed else SLVERR)
    assert (reads[0].response, reads[0].word) == ((0, 7) if allowed else (SLVERR, 0))
    assert (reads[2].response, reads[2].word) == (0, 7 if allowed else 0)
    assert [told.name for told in trace.told] == (["entry_id"] if allowed else []) + ["src_id"]
    assert (writes[1].response, reads[1].response, reads[1].word) == (0, 0, 8)


@pytest.mark.parametrize("prot", range(8))
def test_privileged_registers_ask_for_privilege(prot: int) -> None:
    """For reading and for writing; a refusal changes nothing, and is told."""
    bench = Bench(AdapterConfig(manager_secure=True))
    allowed = bool(prot & PRIVILEGED)
    writes = [Write(0x20A8, 7, prot=prot), Write(0x20B0, 8, prot=prot)]
    reads = [Read(0x20A8, address_cycle=20), Read(0x20A8, prot=prot), Read(0x20B4, prot=prot)]
    trace = bench.run(writes, reads)
    check(bench, Model(bench.config), writes, reads, trace)
    assert reads[0].word == (7 if allowed else 0)
    assert [told.name for told in trace.told] == (
        ["grant_dst_id", "grant_command"] if allowed else [])
    assert [(v.write, v.partition, v.address) for v in trace.violations] == ([] if allowed else [
        (True, 2, 0xA8), (True, 2, 0xB0), (False, 2, 0xA8), (False, 2, 0xB4)])


def violate(module: ModuleType = registers) -> None:
    """Only part of the word, of a register that cannot be written; a read of one that cannot be
    read; and with privilege these are none. One of each kind can come in the same cycle."""
    bench = Bench(AdapterConfig(silent_faults=True), module=module)
    writes = [Write(0x10B4, 0, strobes=0b0110, prot=prot, address_cycle=11, word_cycle=11)
              for prot in (0, PRIVILEGED)]
    reads = [Read(0x30E0, prot=prot, address_cycle=9) for prot in (0, PRIVILEGED)]
    trace = bench.run(writes, reads)
    check(bench, Model(bench.config), writes, reads, trace)
    assert trace.violations == [Violation(12, True, 1, 0xB4), Violation(12, False, 3, 0xE0)]
    assert [access.response for access in (*writes, *reads)] == [0] * 4


def test_a_violation_is_told_whatever_else_is_wrong() -> None:
    violate()


def freeze(firsts: Sequence[int], module: ModuleType = registers) -> None:
    """A page is frozen for some cycles; what counts is the cycle of the write's handshake."""
    config = AdapterConfig()
    for first in firsts:
        bench = Bench(config, module=module)
        writes = [Write(0x1024, 1), Write(0x1024, 2, address_cycle=22, word_cycle=22),
                  Write(0x2024, 3), Write(0x1034, 4), Write(0x1021, 5),
                  Write(0x1024, 6, address_cycle=40, word_cycle=40)]
        reads = [Read(0x1024, address_cycle=35), Read(0x1024, address_cycle=45),
                 Read(0x2024), Read(0x1008)]
        trace = bench.run(writes, reads,
                          frozen=lambda cycle, first=first: 0b0010 * (first <= cycle < 40))
        check(bench, Model(config), writes, reads, trace)
        before = first > 22
        assert [write.response for write in writes] == [0, 0, 0, 0, SLVERR, 0]
        assert [told.word for told in trace.told] == [1, *[2] * before, 3, 6]
        assert [read.word for read in reads[:3]] == [2 if before else 1, 6, 3]


def test_a_frozen_page_keeps_what_it_has() -> None:
    freeze(range(20, 24))


def stored_addresses(config: AdapterConfig) -> list[int]:
    return [address for address, place in Model(config).places.items()
            if place.access == "stored"]


def clear_under_load(config: AdapterConfig, *, shift: int, load: int = 150,
                     module: ModuleType = registers) -> None:
    """A page that is full is cleared while the bus is busy with the others, as much as it can be.

    `shift` moves the reads against the writes, in cycles.
    """
    bench = Bench(config, module=module)
    stored = stored_addresses(config)
    fill = [Write(address, 0xFFFF_FFFF) for address in stored]
    start = 2 * len(stored) + 10
    last = config.partitions - 1
    busy = [Write((i % last) * config.page_bytes + 0x24, i, address_cycle=start, word_cycle=start)
            for i in range(load)]
    busy_reads = [Read((i % last) * config.page_bytes + 0x24, address_cycle=start + shift)
                  for i in range(2 * load // 5)]
    clear = Clear(last, start + 2)
    second = Clear(last, start + 3)
    reads = [*busy_reads, *(Read(address, address_cycle=start + 600) for address in stored)]
    trace = bench.run([*fill, *busy], reads, clears=[clear, second])
    check(bench, Model(config), [*fill, *busy], reads, trace, [clear, second])
    page_words = 1 << bench.bank.map.partition.word_bits
    bound = 10 * (page_words // 3 + 1) + 2
    assert page_words <= clear.done - clear.asked <= bound, "cycles of a clear"
    assert load or clear.done - clear.asked == second.done - second.asked == page_words, \
        "cycles of a clear on a quiet bus"
    assert all((read.word == 0) == (Model(config).places[read.address].number == last
                                    and not Model(config).places[read.address].manager)
               for read in reads[len(busy_reads):] if read.address & 0xFFFF != 0x24), "all cleared"


@pytest.mark.parametrize("shift", [*range(10)])
def test_a_page_is_cleared_in_time_whatever_the_load(shift: int) -> None:
    clear_under_load(AdapterConfig(), shift=shift)


def test_a_page_is_cleared_on_a_quiet_bus() -> None:
    clear_under_load(AdapterConfig(partitions=3), shift=0, load=0)


def test_a_write_just_before_a_clear_is_cleared() -> None:
    """Even if a read delays it. The page is frozen from the cycle of the request on."""
    config = AdapterConfig()
    for distance in range(-3, 4):
        bench = Bench(config)
        writes = [Write(0x1020, 7, address_cycle=19, word_cycle=19)]
        reads = [Read(0x2020, address_cycle=20 + distance), Read(0x1020, address_cycle=140)]
        clears = [Clear(1, 20)]
        trace = bench.run(writes, reads, clears=clears)
        check(bench, Model(config), writes, reads, trace, clears)
        assert [told.word for told in trace.told] == [7]
        assert reads[1].word == 0


def test_a_reset_in_a_clear_starts_over() -> None:
    config = AdapterConfig(partitions=1)
    bench = Bench(config)
    clear = Clear(0, 10)
    reads = [Read(0x24, address_cycle=400)]
    bench.run([Write(0x24, 1)], reads, clears=[clear], reset_cycles=(40,))
    assert clear.done == 41 + 256 + 64
    assert reads[0].word == 0


def edited_bank(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: ModuleType) -> None:
    """From now on `module` makes banks of an RDL with a few reset values that are not 0."""
    source = tmp_path / "registers.rdl"
    text = registers.SOURCE.read_text(encoding="utf-8")
    for old, new in (("cycles[31:0] = 0;", "cycles[31:0] = 0x1234;"),
                     ("offset[31:0] = 0;", "offset[31:0] = 0x5678;"),
                     ("length[31:0] = 0;", "length[31:0] = 0x40;")):
        assert old in text
        text = text.replace(old, new, 1)
    source.write_text(text, encoding="utf-8")
    monkeypatch.setattr(module, "register_map", lambda config: compile_map(config, source))


def clear_to_reset_values(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                          module: ModuleType = registers) -> None:
    edited_bank(monkeypatch, tmp_path, module)
    config = AdapterConfig(partitions=3)
    reads = [Read(page + 0x24, address_cycle=120) for page in (0, 0x1000, 0x2000)]
    reads.append(Read(0x2028, address_cycle=120))
    writes = [Write(address, 9) for address in (0x24, 0x1024, 0x2024, 0x2028)]
    Bench(config, module=module).run(writes, reads, clears=[Clear(2, 20)])
    assert [read.word for read in reads] == [9, 9, 0x5678, 0], "reset values"


def test_a_clear_gives_the_reset_values_of_the_rdl(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clear_to_reset_values(monkeypatch, tmp_path)


PLANTED = [
    ("no-privilege-needed", "return match & target.is_privileged if register.privileged else match",
     "return match", "Write|Read"),
    ("another-bit-is-privilege", "is_privileged=prot[0]", "is_privileged=prot[2]",
     "Write|Read|accesses without privilege"),
    ("violations-only-of-whole-words", "self.write_violation.en.eq(both &",
     "self.write_violation.en.eq(both & whole &", "accesses without privilege"),
    ("violation-of-a-read-again-and-again", "was_reading & here & ~is_privileged",
     "here & ~is_privileged", "accesses without privilege"),
    ("read-without-privilege", " & (is_privileged | ~what.privileged))", ")", "Read"),
    ("shown-without-privilege", "is_shown.eq(answers &", "is_shown.eq(what.readable & here &",
     "Read"),
    ("word-of-another-page", "Mux(target.in_manager, target.is_manager, target.is_partition)",
     "target.is_manager | target.is_partition | target.in_manager", "Read"),
    ("violation-of-another", "self.write_violation.partition.eq(taken.partition)",
     "self.write_violation.partition.eq(self.read_partition)", "accesses without privilege"),
    ("violation-elsewhere", "self.read_violation.address.eq(address[",
     "self.read_violation.address.eq(4 + address[", "accesses without privilege"),
    ("violation-everywhere", "return target.is_partition & ~target.is_privileged &",
     "return ~target.is_privileged &", "accesses without privilege"),
    ("frozen-page-is-told", "accepted & here & ~keeps & match", "accepted & here & match", "Told"),
    ("frozen-page-stores", "stored.append(here & ~keeps & ", "stored.append(here & ", "Read"),
    ("frozen-page-refuses", "legal.append(here & ", "legal.append(here & ~keeps & ", "Write"),
    ("another-is-frozen", "self.frozen.bit_select(target.partition, 1)",
     "self.frozen.bit_select(taken.partition, 1)", "Told|strobe"),
    ("the-managers-page-freezes", "target.is_manager, Const(0, 1),", "target.is_manager, frozen,",
     "Told|strobe"),
    ("clears-another", "self._page_number(self.clear.partition)",
     "self._page_number(self.read_partition)", "Read|all cleared"),
    ("skips-what-is-stored-meanwhile", "~self.cleared & ~storing & ~reading",
     "~self.cleared & ~reading", "all cleared|Read"),
    ("clears-while-it-is-read", "~self.cleared & ~storing & ~reading", "~self.cleared & ~storing",
     "while it is read"),
    ("stores-while-it-is-read", "| storing & ~reading |", "| storing |", "while it is read"),
    ("waits-for-a-quiet-bus", "~self.cleared & ~storing & ~reading",
     "~self.cleared & ~storing & ~reading & ~self.bus.bvalid & ~self.bus.awvalid",
     "cycles of a clear"),
    ("done-early", "self.cleared.eq(clearing & swept)", "self.cleared.eq(clearing & sweep[-1])",
     "cycles of a clear|Read"),
    ("starts-over-when-done", "self.clear.en & ~self.cleared &", "self.clear.en &",
     "cycles of a clear on a quiet bus"),
    ("word-of-the-read", "self.read_word.eq(target.word)", "self.read_word.eq(target.word >> 1)",
     "Read"),
    ("ahead-of-the-other-kind", "Mux(here_next.in_manager, index_next, here_next.partition)",
     "Mux(here_next.in_manager, here_next.partition, index_next)", "told ahead of another"),
    ("ahead-only-of-partitions", "Mux(here_next.in_manager, index_next, here_next.partition)",
     "here_next.partition", "told ahead of another"),
    ("ahead-a-cycle-late", "        here_next = self._decode(bus.araddr, bus.arprot)\n"
     "        index_next = self._index(here_next.word)\n"
     "        m.d.comb += self.read_ahead.eq(\n"
     "            Mux(here_next.in_manager, index_next, here_next.partition))",
     "        here_next = self._decode(bus.araddr, bus.arprot)\n"
     "        index_next = self._index(here_next.word)\n"
     "        m.d.comb += self.read_ahead.eq(Mux(\n"
     "            self._decode(address, prot).in_manager, self.read_index,\n"
     "            self._decode(address, prot).partition))", "told ahead of another"),
    ("number-goes-with-the-strobe", "with m.If(bus.awready):\n            m.d.sync += [\n"
     "                taken_address", "with m.If(bus.awready | bus.bvalid):\n"
     "            m.d.sync += [\n                taken_address", "does not stay"),
    ("oncoming-by-the-data", "self.partition_write.oncoming.en.eq(bus.awready)",
     "self.partition_write.oncoming.en.eq(bus.wready)", "Told"),
    ("oncoming-a-cycle-late", "self.manager_write.oncoming.en.eq(bus.awready)",
     "self.manager_write.oncoming.en.eq(bus.bvalid)", "Told|does not stay"),
    ("oncoming-goes-with-the-strobe", "self.manager_write.oncoming.en.eq(bus.awready)",
     "self.manager_write.oncoming.en.eq(bus.awready | bus.bvalid)", "does not stay"),
    ("oncoming-of-the-one-before", "oncoming_word = self._decode(bus.awaddr, bus.awprot).word",
     "oncoming_word = taken.word", "Told"),
    ("data-goes-with-the-strobe", "with m.If(bus.wready):", "with m.If(bus.wready | bus.bvalid):",
     "does not stay"),
    ("cleared-to-zero", "self._reset_word(m, row))", "0)", "reset values"),
    ("no-word-is-early", "known = early_words if register.early else words", "known = words",
     "Read"),
    ("one-of-a-few-is-lost", "early_words[some]))", "early_words[some][:-1]))", "Read"),
    ("all-of-a-few-at-once", "Mux(place, early, 0) for place", "Mux(1, early, 0) for place",
     "Read"),
    ("of-every-few-one", "word.eq(Mux(chosen, _any_of(", "word.eq(Mux(1, _any_of(", "Read"),
    ("early-and-others-are-mixed-up", 'chosen["shown"] = 1 << number',
     'chosen["early_place"] = 1 << number % _EARLY_WORDS', "Read"),
    ("shown-nevertheless", "place & ~flag for place, flag", "0 & place for place, flag", "Read"),
    ("shown-if-all-are", "place & ~flag for place, flag", "~flag for place, flag", "Read"),
    ("shown-as-those-of-other-places", "hidden.append(chosen & _any_of(", "hidden.append(_any_of(",
     "Read"),
    ("flag-of-a-cycle-later", "bus.rdata.eq(Mux(is_shown,",
     "bus.rdata.eq(Mux(is_readable & ~_any_of(hidden),", "Read"),
    ("refused-if-not-shown", "bus.rresp.eq(Mux(is_readable,", "bus.rresp.eq(Mux(is_shown,", "Read"),
    ("stored-as-the-next-bit", "Cat(stored[kind] for kind in bit_kinds)",
     "Cat(stored[kind] for kind in bit_kinds[::-1])", "Read|all cleared"),
    ("row-of-the-next-read", "row.en.eq(bus.arready)", "row.en.eq(1)", "Read"),
]


@pytest.mark.parametrize(("old", "new", "expected"), [fault[1:] for fault in PLANTED],
                         ids=[fault[0] for fault in PLANTED])
def test_planted_fault(old: str, new: str, expected: str, tmp_path: Path,
                       monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by one of the tests that can be run on a copy of the module."""
    # A dataclass looks its module up.
    monkeypatch.setitem(sys.modules, f"{registers.__name__}_mutant", ModuleType("mutant"))
    module = mutated(registers, old, new)
    with pytest.raises(AssertionError, match=expected):
        violate(module)
        freeze((22, 23), module)
        clear_under_load(AdapterConfig(partitions=2), shift=0, load=0, module=module)
        clear_under_load(AdapterConfig(partitions=2), shift=1, module=module)
        random_accesses(AdapterConfig(partitions=2), seed="planted", count=150, module=module)
        clear_to_reset_values(monkeypatch, tmp_path, module)
        some_early(monkeypatch, tmp_path, "first", module)


# Exports.

def test_committed_exports_are_fresh(tmp_path: Path) -> None:
    docs = Path(__file__).parents[1] / "docs"
    for path in export_docs(tmp_path):
        assert (docs / path.name).read_text(encoding="utf-8") == path.read_text(encoding="utf-8"), \
            f"docs/{path.name} is stale: run `python -m mvxl.docs docs`"


def test_main_writes_the_exports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    docs.main([str(tmp_path / "new")])
    assert capsys.readouterr().out.splitlines() == [
        str(tmp_path / "new" / name) for name in ("mvxl_adapter.h", "registers.md")]
    header = (tmp_path / "new" / "mvxl_adapter.h").read_text(encoding="utf-8")
    assert "#define STATUS_E__WRITE_ERROR 13\n" in header
    reference = (tmp_path / "new" / "registers.md").read_text(encoding="utf-8")
    assert "|13|WRITE_ERROR|The bus reported an error for a write.|" in reference
    assert reference.count("### COMMAND register") == 1
