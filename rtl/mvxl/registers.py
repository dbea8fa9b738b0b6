# SPDX-License-Identifier: Apache-2.0
"""The register map, compiled from `registers.rdl`, and the bank of registers made from it.

`register_map(config)` is the map: pages, registers, fields. `RegisterBank(config)` is the AXI4-Lite
subordinate in front of it. No register and no field is named in this file.

Usage::

    bank = RegisterBank(config)
    command = bank.map.partition["command"]
    with m.If(bank.partition_write.strobe.command):
        m.d.sync += op.eq(command.view(bank.partition_write.data).op)
    m.d.comb += bank.partition_value.status.ready.eq(ready)

`mvxl.docs` writes the C header and the register reference.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import or_
from pathlib import Path
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, ValueLike
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory, ReadPort, WritePort
from amaranth.lib.wiring import In, Out
from systemrdl import RDLCompiler
from systemrdl.node import AddressableNode, AddrmapNode, FieldNode, Node, RegfileNode, RegNode

from .axi import AXI4LiteSignature, Response
from .config import AdapterConfig

__all__ = ["Field", "Kind", "Page", "Register", "RegisterBank", "RegisterMap", "RegisterMapError",
           "WORD_BITS", "WORD_BYTES", "WriteSignature", "compile_map", "is_privileged",
           "register_map", "violation_layout"]

#: The only source of the register map.
SOURCE = Path(__file__).with_name("registers.rdl")

WORD_BITS = 32
WORD_BYTES = WORD_BITS // 8
_LANE_BITS = (WORD_BYTES - 1).bit_length()

#: Early words that share a flop.
_EARLY_WORDS = 4

#: Properties that may be given to a component. The bank would ignore any other, so it is refused.
_SUPPORTED = {
    "field": {"name", "desc", "sw", "hw", "reset", "encode", "onwrite", "woclr"},
    "reg": {"name", "desc", "regwidth", "accesswidth", "privileged", "source", "early"},
    "regfile": {"name", "desc"},
    "addrmap": {"name", "desc"},
}


class RegisterMapError(ValueError):
    """The RDL source asks for something that the bank does not do."""


class Kind(enum.Enum):
    """What a field is, as its access in the RDL says."""

    CONSTANT = "sw=r hw=na"             #: Reads as its reset value.
    STATUS = "sw=r hw=w"                #: Reads as what hardware supplies.
    CLEAR = "sw=rw hw=w onwrite=woclr"  #: The same; hardware is told each write, and clears.
    STORAGE = "sw=rw hw=r"              #: Kept by the bank; hardware is told each write.
    ACTION = "sw=w hw=r"                #: Hardware is told each write; cannot be read.


#: The kinds that the fields of one register may have.
_TOGETHER = ({Kind.CONSTANT}, {Kind.STATUS, Kind.CLEAR}, {Kind.STORAGE}, {Kind.ACTION})


@dataclass(frozen=True)
class Field:
    """A field: bits `lsb` to `lsb + width - 1` of its register's word.

    `reset` is 0 where the RDL gives none. `encoding` has the numbers of its enumeration by name.
    """

    name: str
    lsb: int
    width: int
    kind: Kind
    reset: int
    encoding: Mapping[str, int]

    @property
    def largest(self) -> int:
        return (1 << self.width) - 1

    @property
    def mask(self) -> int:
        """Its bits, in the register's word."""
        return self.largest << self.lsb


@dataclass(frozen=True)
class Array:
    """A repeated group of registers: element i starts at `offset + i * stride`, in bytes."""

    name: str
    offset: int
    stride: int
    count: int


@dataclass(frozen=True)
class Register:
    """A 32-bit register. `name` is in lower case; with its array's name before it, if it has one.

    `offset` is its distance from the start of its page (from its array's element 0), in bytes.
    `privileged`: it answers only accesses with AxPROT[0] = 1, wherever it is. `source`: the word
    of the page's `values` that it reads as, its own name if it shares that with no other register.
    `early`: that word is sampled a cycle before others.
    """

    name: str
    offset: int
    fields: Mapping[str, Field]
    array: Array | None
    source: str
    privileged: bool = False
    early: bool = False

    def __getitem__(self, field: str) -> Field:
        return self.fields[field]

    @property
    def kinds(self) -> set[Kind]:
        return {field.kind for field in self.fields.values()}

    @property
    def is_readable(self) -> bool:
        return Kind.ACTION not in self.kinds

    @property
    def is_writable(self) -> bool:
        return bool(self.kinds & {Kind.CLEAR, Kind.STORAGE, Kind.ACTION})

    @property
    def is_supplied(self) -> bool:
        """Its value is supplied by hardware."""
        return bool(self.kinds & {Kind.STATUS, Kind.CLEAR})

    @property
    def is_stored(self) -> bool:
        return Kind.STORAGE in self.kinds

    @property
    def mask(self) -> int:
        """The bits of its word that belong to a field."""
        return sum(field.mask for field in self.fields.values())

    @property
    def reset(self) -> int:
        """Its word of reset values."""
        return sum(field.reset << field.lsb for field in self.fields.values())

    @property
    def layout(self) -> data.FlexibleLayout:
        """Its 32-bit word, with its fields (unsigned) by name."""
        return data.FlexibleLayout(WORD_BITS, {
            field.name: data.Field(field.width, field.lsb) for field in self.fields.values()})

    def view(self, word: ValueLike) -> data.View:
        """The fields of `word`, a 32-bit value."""
        return data.View(self.layout, word)

    def pack(self, **values: int) -> int:
        """The word in which the named fields have these values, and the others 0.

        Raises
        ------
        ValueError
            There is no such field, or a value does not fit in it.
        """
        word = 0
        for name, value in values.items():
            if name not in self.fields:
                raise ValueError(f"{self.name} has no field {name!r}, only "
                                 f"{', '.join(self.fields)}")
            field = self.fields[name]
            if not 0 <= value <= field.largest:
                raise ValueError(f"{self.name}.{name} must be between 0 and {field.largest}, "
                                 f"not {value!r}")
            word |= int(value) << field.lsb
        return word

    def unpack(self, word: int) -> dict[str, int]:
        """The values of all fields in `word`, by name."""
        return {field.name: word >> field.lsb & field.largest for field in self.fields.values()}


@dataclass(frozen=True)
class Page:
    """The registers of a page, by name (lower case), in order of offset."""

    registers: Mapping[str, Register]
    array: Array | None

    def __getitem__(self, register: str) -> Register:
        return self.registers[register]

    def __iter__(self) -> Iterator[Register]:
        return iter(self.registers.values())

    @property
    def word_bits(self) -> int:
        """Bits of the number of a word, enough for every register of the page."""
        end = max(register.offset for register in self)
        if self.array is not None:
            end = max(end, self.array.offset + self.array.count * self.array.stride - 1)
        return (end // WORD_BYTES).bit_length()

    @property
    def offset_bits(self) -> int:
        """Bits of a byte offset, enough for every register of the page."""
        return self.word_bits + _LANE_BITS

    @property
    def index_bits(self) -> int:
        """Bits of the number of an element of the page's array, at least 1."""
        return max(1, (self.array.count - 1).bit_length()) if self.array is not None else 1

    @property
    def strobes(self) -> data.StructLayout:
        """A bit for each register that can be written."""
        return data.StructLayout({r.name: 1 for r in self if r.is_writable})

    @property
    def values(self) -> data.StructLayout:
        """The words that hardware supplies, by `source`."""
        return data.StructLayout({r.source: r.layout for r in self if r.is_supplied})

    @property
    def flags(self) -> data.StructLayout:
        """A bit for each early word that hardware supplies, by `source`."""
        return data.StructLayout({r.source: 1 for r in self if r.is_supplied and r.early})


@dataclass(frozen=True)
class RegisterMap:
    """The register map of one configuration."""

    partition: Page
    manager: Page
    partitions: int
    page_bytes: int
    manager_page: int

    def partition_address(self, partition: int, register: str) -> int:
        """Address of a register in the page of `partition`, in bytes.

        Raises
        ------
        ValueError
            There is no such partition or register.
        """
        if not 0 <= partition < self.partitions:
            raise ValueError(f"partition must be between 0 and {self.partitions - 1}, "
                             f"not {partition!r}")
        return partition * self.page_bytes + self._offset(self.partition, register, 0)

    def manager_address(self, register: str, index: int = 0) -> int:
        """Address of a register in the manager's page, in bytes.

        `index` is the element, for a register of an array.

        Raises
        ------
        ValueError
            There is no such register or element.
        """
        return self.manager_page * self.page_bytes + self._offset(self.manager, register, index)

    @staticmethod
    def _offset(page: Page, name: str, index: int) -> int:
        if name not in page.registers:
            raise ValueError(f"register must be one of {', '.join(page.registers)}, not {name!r}")
        register = page[name]
        count = 1 if register.array is None else register.array.count
        if not 0 <= index < count:
            raise ValueError(f"index of {name} must be between 0 and {count - 1}, not {index!r}")
        return register.offset + (index * register.array.stride if register.array else 0)


def elaborate(config: AdapterConfig, source: Path = SOURCE) -> AddrmapNode:
    """The root of the RDL source's register model, for the sizes of `config`.

    Raises
    ------
    systemrdl.RDLCompileError
        The source is not legal SystemRDL.
    """
    compiler = RDLCompiler()
    compiler.compile_file(str(source))
    return compiler.elaborate(top_def_name="mvxl_adapter", parameters={
        "PARTITIONS": config.partitions,
        "PAGE_BYTES": config.page_bytes,
        "MANAGER_PAGE": config.manager_page,
    }).top


def compile_map(config: AdapterConfig, source: Path = SOURCE) -> RegisterMap:
    """Compile the register map for the sizes of `config`.

    Raises
    ------
    RegisterMapError
        The source asks for something that the bank does not do.
    systemrdl.RDLCompileError
        The source is not legal SystemRDL.
    """
    top = elaborate(config, source)
    _check_component(top)
    pages = {child.inst_name: child for child in top.children()}
    expected = {
        "page": (0, config.partitions, config.page_bytes),
        "manager": (config.manager_page * config.page_bytes, 1, config.page_bytes),
    }
    if set(pages) != set(expected):
        raise RegisterMapError(f"{top.inst_name} must have the pages {sorted(expected)}, "
                               f"not {sorted(pages)}")
    for name, (offset, count, stride) in expected.items():
        page = pages[name]
        place = (page.raw_address_offset, page.n_elements,
                 page.array_stride if page.is_array else stride)
        if place != (offset, count, stride):
            raise RegisterMapError(f"{page.get_path()}: (offset, count, stride) must be "
                                   f"{(offset, count, stride)}, not {place}")
        if page.size > stride:
            raise RegisterMapError(f"{page.get_path()}: must fit in {stride} bytes, "
                                   f"not {page.size}")
    return RegisterMap(
        partition=_compile_page(pages["page"]), manager=_compile_page(pages["manager"]),
        partitions=config.partitions, page_bytes=config.page_bytes,
        manager_page=config.manager_page)


@lru_cache
def register_map(config: AdapterConfig) -> RegisterMap:
    """The register map for the sizes of `config`, compiled once."""
    return compile_map(config)


def is_privileged(node: RegNode) -> bool:
    """The RDL gives this register the property `privileged`."""
    return bool(node.get_property("privileged", default=False))


def _check_component(node: Node) -> None:
    """Refuse a component or property that the bank would ignore."""
    path = node.get_path()
    kind = node.component_type_name
    if kind not in _SUPPORTED:
        raise RegisterMapError(f"{path}: a {kind} is not supported by the register bank")
    if isinstance(node, (RegNode, RegfileNode)) and node.external:
        raise RegisterMapError(f"{path}: property external is not supported by the register bank")
    if isinstance(node, RegNode) and node.is_alias:
        raise RegisterMapError(f"{path}: an alias is not supported by the register bank")
    for name in node.list_properties():
        if name not in _SUPPORTED[kind]:
            raise RegisterMapError(
                f"{path}: property {name} is not supported by the register bank")
    for signal in node.signals():
        raise RegisterMapError(
            f"{signal.get_path()}: a signal is not supported by the register bank")


def _compile_page(page: AddressableNode) -> Page:
    _check_component(page)
    registers: list[Register] = []
    array = None
    for child in page.children():
        _check_component(child)
        if isinstance(child, RegNode):
            registers.append(_compile_register(child, None))
        elif isinstance(child, RegfileNode):
            if array is not None:
                raise RegisterMapError(f"{child.get_path()}: a page must have at most one "
                                       f"array, and has {array.name} already")
            array = _compile_array(child)
            for member in child.children():
                _check_component(member)
                registers.append(_compile_register(member, array))
        else:
            raise RegisterMapError(f"{child.get_path()}: a page must hold registers and register "
                                   f"files, not a {child.component_type_name}")
    return Page({register.name: register for register in registers}, array)


def _compile_array(node: RegfileNode) -> Array:
    path = node.get_path()
    dimensions = node.array_dimensions or []
    if len(dimensions) != 1:
        raise RegisterMapError(f"{path}: a register file must be an array of one dimension, "
                               f"not of {len(dimensions)}")
    stride = node.array_stride or 0
    if stride & (stride - 1) or stride < WORD_BYTES:
        raise RegisterMapError(f"{path}: the stride must be a power of two, not {stride}")
    if node.raw_address_offset % stride:
        raise RegisterMapError(f"{path}: the offset must be a multiple of the stride "
                               f"{stride:#x}, not {node.raw_address_offset:#x}")
    return Array(node.inst_name.lower(), node.raw_address_offset, stride, dimensions[0])


def _compile_register(node: Node, array: Array | None) -> Register:
    path = node.get_path()
    if not isinstance(node, RegNode) or node.is_array:
        raise RegisterMapError(f"{path}: must be a single register")
    if node.get_property("regwidth") != WORD_BITS:
        raise RegisterMapError(f"{path}: property regwidth must be {WORD_BITS}, "
                               f"not {node.get_property('regwidth')}")
    name = node.inst_name.lower()
    register = Register(
        name=name if array is None else f"{array.name}_{name}",
        offset=node.raw_address_offset + (0 if array is None else array.offset),
        fields={field.inst_name: _compile_field(field) for field in node.fields()},
        array=array, source=node.get_property("source", default=None) or (
            name if array is None else f"{array.name}_{name}"),
        privileged=is_privileged(node),
        early=bool(node.get_property("early", default=False)))
    if not any(register.kinds <= together for together in _TOGETHER):
        kinds = ", ".join(sorted(kind.name for kind in register.kinds))
        raise RegisterMapError(f"{path}: fields of the kinds {kinds} cannot be in one register")
    return register


def _compile_field(node: FieldNode) -> Field:
    _check_component(node)
    path = node.get_path()
    access = f"sw={node.get_property('sw').name} hw={node.get_property('hw').name}"
    onwrite = node.get_property("onwrite")
    if onwrite is not None:
        access += f" onwrite={onwrite.name}"
    if access not in {kind.value for kind in Kind}:
        supported = "; ".join(kind.value for kind in Kind)
        raise RegisterMapError(f"{path}: access must be one of {supported}, not {access}")
    kind = Kind(access)
    reset = node.get_property("reset")
    if kind in (Kind.CONSTANT, Kind.STORAGE):
        if not isinstance(reset, int):
            raise RegisterMapError(f"{path}: property reset must be a number for a "
                                   f"{kind.name.lower()}, not {reset!r}")
    elif reset is not None:
        raise RegisterMapError(f"{path}: property reset is not supported by the register bank "
                               f"for access {access}: the bank does not keep the value")
    encoding = node.get_property("encode")
    return Field(
        name=node.inst_name, lsb=node.low, width=node.high - node.low + 1, kind=kind,
        reset=reset or 0,
        encoding={} if encoding is None else {item.name: item.value for item in encoding})


class WriteSignature(wiring.Signature):
    """Writes to one kind of page, as the bank tells them.

    Parameters
    ----------
    page : Page
        The registers of the page.
    number : str
        Name of the member that tells which of the equal registers was written.
    number_bits : int
        Width of this member, in bits.

    Members
    -------
    some : Out(1)
        High in every cycle in which a bit of `strobe` is.
    oncoming : Out(struct {en, word})
        What `word` was in the last cycle with `en` is the number (byte offset / 4) of the word that
        is written, in the cycle of `strobe` and in the next one.
    strobe : Out(page.strobes)
        A bit for each writable register, high for one cycle: the one after the later of the
        handshakes on AW and W. At most one bit is high.
    <number> : Out(number_bits)
        Valid with `strobe`, and in the cycle after it.
    data : Out(32)
        The word written, valid in the same cycles. Bits without a field are as software wrote them.
    """

    def __init__(self, page: Page, number: str, number_bits: int) -> None:
        super().__init__({
            "some": Out(1),
            "oncoming": Out(data.StructLayout({"en": 1, "word": page.word_bits})),
            "strobe": Out(page.strobes),
            number: Out(number_bits),
            "data": Out(WORD_BITS),
        })


@dataclass(frozen=True)
class _Target:
    """An address on the bus, decoded.

    `is_partition`, `is_manager`: the access may be to a register of such a page. `in_manager`,
    `partition`: the page, for an address that has a register. `word`: number of the word in it.
    `is_privileged`: the access has the privilege that a `privileged` register asks for.
    """

    is_privileged: Value
    is_partition: Value
    is_manager: Value
    in_manager: Value
    partition: Value
    word: Value


def _any_of(values: Iterable[Value]) -> Value:
    """Bitwise OR of all; 0 if there is none."""
    # A balanced tree: Amaranth takes time that grows with the square of an expression's depth.
    level = list(values) or [Const(0, 1)]
    while len(level) > 1:
        level = [reduce(or_, level[i:i + 2]) for i in range(0, len(level), 2)]
    return level[0]


def violation_layout(config: AdapterConfig) -> data.StructLayout:
    """An access without privilege: whose page, and the register's offset in it, in bytes."""
    return data.StructLayout({"en": 1, "partition": config.partition_bits,
                              "address": register_map(config).partition.offset_bits})


class RegisterBank(wiring.Component):
    """AXI4-Lite subordinate for all register pages.

    Keeps what software can read back (in one RAM of 32-bit words), tells hardware each write, and
    reads what hardware supplies.

    A response comes one cycle after the later of AW and W, and 4 cycles after AR. A manager that
    takes responses at once can write every 2 cycles, and read every 5. One write and one read are
    outstanding at a time.

    An access to an address that has no register or is not a multiple of 4, a read of a register
    that cannot be read, a write of one that cannot be written or without all four strobes, any
    access to the manager's page, or to a `privileged` register, without AxPROT[0] = 1 (for the
    manager's page also without AxPROT[1] = 0 if `config.manager_secure`), and every write while
    `ready` is 0, gets SLVERR (AXI4, section A3.4.4), reads as 0 and changes nothing; with
    `config.silent_faults` it gets OKAY instead.

    A page is cleared in cycles in which nothing else uses the RAM: in at most
    10 * (2^w // 3 + 1) + 2 cycles, whatever the traffic, where 2^w is the number of words of a
    partition's page (w = `map.partition.word_bits`; 222 cycles for 64 words). In any ten cycles
    there are at most five writes and two reads.

    Parameters
    ----------
    config : AdapterConfig
        Sizes.

    Members
    -------
    bus : In(AXI4LiteSignature)
        The register port.
    ready : Out(1)
        The RAM holds the reset values. Until then storage reads as 0.
    partition_write : Out(WriteSignature)
        Writes to partition pages. `partition` tells whose.
    manager_write : Out(WriteSignature)
        Writes to the manager's page. `index` tells which element of the page's array.
    write_violation : Out(struct {en, partition, address})
        `en`, for one cycle, the one after the later of the handshakes on AW and W: a write to a
        `privileged` register of this partition's page had no privilege. Whatever else was wrong
        with it, but only while `ready`. `address` is the register's offset in the page, in bytes.
    read_violation : Out(struct {en, partition, address})
        The same of a read, three cycles after the handshake on AR.
    frozen : In(config.partitions)
        Bit p: page p keeps what it has. A legal write to it whose later handshake is in such a
        cycle gets OKAY, but no strobe, and is not stored. Reads go on.
    clear : In(struct {en, partition})
        Sets all storage of this partition's page to its reset values. Both are held until
        `cleared`, and so is the page's bit of `frozen`.
    cleared : Out(1)
        High for one cycle when that is done. `clear.en` in the next cycle asks for another.
    fetching : Out(1)
        High in the first of these three cycles. What a flop takes in the second one is sampled.
    read_word : Out
        Number of the word in its page that is read: byte offset / 4. Valid as `read_partition`.
    read_partition : Out(config.partition_bits)
        Whose page is read. Valid from the cycle after AR's handshake, and stable for three
        cycles, at the end of which the values below are sampled. Any number, even beyond the
        partitions, if the read is not of a partition's page.
    read_index : Out
        The same for the element of the array in the manager's page.
    read_ahead : Out(config.partition_bits)
        In the cycle of AR's handshake: what `read_index` will be if it is the manager's page that
        is read, and otherwise `read_partition`.
    partition_value : In(map.partition.values)
        Words of the registers that hardware supplies, for `read_partition`. Those of `early`
        registers are sampled at the end of the second of these cycles.
    manager_value : In(map.manager.values)
        The same of the manager's page; words in its array are for `read_index`.
    partition_shown, manager_shown : In(map.partition.flags), In(map.manager.flags)
        Early words with 0 here read as 0; sampled with them.

    Attributes
    ----------
    map : RegisterMap
        Names, layouts, field positions.
    """

    bus: Any
    ready: Signal
    partition_write: Any
    manager_write: Any
    write_violation: Any
    read_violation: Any
    frozen: Signal
    clear: Any
    cleared: Signal
    fetching: Signal
    read_word: Signal
    read_partition: Signal
    read_index: Signal
    read_ahead: Signal
    partition_value: data.View
    manager_value: data.View
    partition_shown: data.View
    manager_shown: data.View

    def __init__(self, config: AdapterConfig) -> None:
        self.config = config
        self.map = register_map(config)
        index_bits = self.map.manager.index_bits
        super().__init__({
            "bus": In(AXI4LiteSignature(address_bits=config.register_address_bits)),
            "ready": Out(1),
            "partition_write": Out(
                WriteSignature(self.map.partition, "partition", config.partition_bits)),
            "manager_write": Out(WriteSignature(self.map.manager, "index", index_bits)),
            "write_violation": Out(violation_layout(config)),
            "read_violation": Out(violation_layout(config)),
            "frozen": In(config.partitions),
            "clear": In(data.StructLayout({"en": 1, "partition": config.partition_bits})),
            "cleared": Out(1),
            "fetching": Out(1),
            "read_word": Out(max(self.map.partition.word_bits, self.map.manager.word_bits)),
            "read_partition": Out(config.partition_bits),
            "read_index": Out(index_bits),
            "read_ahead": Out(config.partition_bits),
            "partition_value": In(self.map.partition.values),
            "manager_value": In(self.map.manager.values),
            "partition_shown": In(self.map.partition.flags),
            "manager_shown": In(self.map.manager.flags),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.storage = storage = Memory(
            shape=WORD_BITS, depth=1 << self._row_bits, init=[])
        reading = Signal()
        self._write_side(m, storage.write_port(), reading)
        self._read_side(m, storage.read_port(domain="comb"), reading)
        return m

    def _write_side(self, m: Module, port: WritePort, reading: Signal) -> None:
        """AW, W and B, the strobes, and the RAM's contents. `reading`: it is read in this cycle."""
        bus = self.bus
        address_held = Signal()
        word_held = Signal()
        both = Signal()
        m.d.comb += both.eq((address_held | bus.awvalid & bus.awready)
                            & (word_held | bus.wvalid & bus.wready))

        # READY is a flop that looks one cycle ahead: free unless something is held or a response
        # waits then.
        responding = Signal()
        address_waits = Signal()
        word_waits = Signal()
        m.d.comb += [
            responding.eq(both | bus.bvalid & ~bus.bready),
            address_waits.eq(~both & (address_held | bus.awvalid & bus.awready)),
            word_waits.eq(~both & (word_held | bus.wvalid & bus.wready)),
        ]
        m.d.sync += [
            bus.bvalid.eq(responding),
            address_held.eq(address_waits),
            word_held.eq(word_waits),
            bus.awready.eq(~responding & ~address_waits),
            bus.wready.eq(~responding & ~word_waits),
        ]

        # What was taken last, on each channel. READY is low in the cycle after the later
        # handshake, so both belong to the same write then and in the next cycle.
        taken_address = Signal.like(bus.awaddr)
        taken_prot = Signal.like(bus.awprot)
        taken_word = Signal(WORD_BITS)
        taken_whole = Signal()
        taken_index = Signal.like(self.manager_write.index)
        with m.If(bus.awready):
            m.d.sync += [
                taken_address.eq(bus.awaddr),
                taken_prot.eq(bus.awprot),
                taken_index.eq(self._index(self._word(bus.awaddr))),
            ]
        with m.If(bus.wready):
            m.d.sync += [
                taken_word.eq(Mux(self.ready, bus.wdata, 0)),
                taken_whole.eq(bus.wstrb.all()),
            ]
        taken = self._decode(taken_address, taken_prot)
        oncoming_word = self._decode(bus.awaddr, bus.awprot).word
        m.d.comb += [
            self.partition_write.partition.eq(taken.partition),
            self.partition_write.oncoming.word.eq(oncoming_word),
            self.manager_write.oncoming.word.eq(oncoming_word),
            self.partition_write.oncoming.en.eq(bus.awready),
            self.manager_write.oncoming.en.eq(bus.awready),
            self.partition_write.data.eq(taken_word),
            self.manager_write.index.eq(taken_index),
            self.manager_write.data.eq(taken_word),
            self.write_violation.partition.eq(taken.partition),
            self.write_violation.address.eq(taken_address[:self.map.partition.offset_bits]),
        ]

        address = Signal.like(bus.awaddr)
        prot = Signal.like(bus.awprot)
        whole = Signal()
        m.d.comb += [
            address.eq(Mux(address_held, taken_address, bus.awaddr)),
            prot.eq(Mux(address_held, taken_prot, bus.awprot)),
            whole.eq(Mux(word_held, taken_whole, bus.wstrb.all())),
        ]
        target = self._decode(address, prot)
        m.d.sync += self.write_violation.en.eq(both & self.ready & self._violates(target))
        accepted = both & whole & self.ready
        frozen = self.frozen.bit_select(target.partition, 1)
        legal: list[Value] = []
        stored: list[Value] = []
        for page, here, keeps, write in (
                (self.map.partition, target.is_partition, frozen, self.partition_write),
                (self.map.manager, target.is_manager, Const(0, 1), self.manager_write)):
            matches = {register.name: self._answers(page, register, target)
                       for register in page if register.is_writable}
            legal.append(here & _any_of(matches.values()))
            stored.append(here & ~keeps & _any_of(matches[r.name] for r in page if r.is_stored))
            m.d.sync += write.some.eq(accepted & here)
            for name, match in matches.items():
                m.d.sync += write.strobe[name].eq(accepted & here & ~keeps & match)
        store = Signal()
        m.d.sync += store.eq(accepted & _any_of(stored))
        with m.If(both):
            m.d.sync += bus.bresp.eq(
                Mux(_any_of(legal) & whole & self.ready, Response.OKAY, self._refusal))

        # Never written in a cycle in which it is read, and visibly so: block RAM leaves open what
        # a read would return then, and synthesis would build logic to settle it. If it is read in
        # the strobe's cycle it is not in the next one.
        delayed = Signal()
        m.d.sync += delayed.eq(store & reading)

        # After reset all rows are swept; later those of a page, whose number is their upper bits.
        # A page is cleared from the cycle after the one in which it was seen frozen on: what was
        # stored before goes first.
        storing = Signal()
        clearing = Signal()
        page_bits = self.map.partition.word_bits
        sweep = Signal(page_bits)
        sweep_page = Signal(self._row_bits - page_bits + 1)
        swept = Signal()
        row = Signal(self._row_bits)
        m.d.comb += [
            self.ready.eq(sweep_page[-1]),
            storing.eq(store | delayed),
            clearing.eq(self.ready & self.clear.en & ~self.cleared & ~storing & ~reading),
            swept.eq(sweep.all()),
            row.eq(Cat(sweep, Mux(self.ready, self._page_number(self.clear.partition),
                                  sweep_page[:-1]))),
            port.addr.eq(Mux(storing, self._row(taken), row)),
            port.data.eq(Mux(storing, taken_word, self._reset_word(m, row))),
            port.en.eq(~self.ready | storing & ~reading | clearing),
        ]
        m.d.sync += self.cleared.eq(clearing & swept)
        with m.If(~self.ready | clearing):
            m.d.sync += sweep.eq(sweep + 1)
        with m.If(~self.ready & swept):
            m.d.sync += sweep_page.eq(sweep_page + 1)

    def _read_side(self, m: Module, port: ReadPort, reading: Signal) -> None:
        """AR and R. Cycle 0: AR's handshake; 1: RAM address; 2: RAM, early words; 3: sample; 4: R.

        What a word of a page is stands in a ROM, which is read in cycle 0. Drives `reading`. While
        the RAM is scrubbed it is not read.
        """
        bus = self.bus
        taken = Signal()
        steps = Signal(3)
        responding = Signal()
        m.d.comb += [
            taken.eq(bus.arvalid & bus.arready),
            responding.eq(steps[2] | bus.rvalid & ~bus.rready),
        ]
        m.d.sync += [
            steps.eq(Cat(taken, steps[:2])),
            bus.rvalid.eq(responding),
            bus.arready.eq(~taken & ~steps[:2].any() & ~responding),
        ]

        address = Signal.like(bus.araddr)
        prot = Signal.like(bus.arprot)
        here_next = self._decode(bus.araddr, bus.arprot)
        index_next = self._index(here_next.word)
        m.d.comb += self.read_ahead.eq(
            Mux(here_next.in_manager, index_next, here_next.partition))
        with m.If(bus.arready):
            m.d.sync += [
                address.eq(bus.araddr),
                prot.eq(bus.arprot),
                self.read_index.eq(index_next),
            ]
        target = self._decode(address, prot)
        m.d.comb += [
            self.read_partition.eq(target.partition),
            self.read_word.eq(target.word),
            port.addr.eq(self._row(target)),
            self.fetching.eq(steps[0]),
            reading.eq(steps[0] & self.ready),
        ]
        # The RAM's own output flops (a block RAM has them inside), and a second row behind them,
        # because block RAM is slow from clock to output.
        ram_word = Signal(WORD_BITS, reset_less=True)
        stored_word = Signal(WORD_BITS)
        with m.If(reading):
            m.d.sync += ram_word.eq(port.data)
        m.d.sync += stored_word.eq(ram_word)
        words, early_words, flags, bit_kinds, rows = self._shown_words()
        m.submodules.rom = rom = Memory(
            shape=rows[0].shape(), depth=len(rows), init=rows, attrs={"rom_style": "block"})
        row = rom.read_port()
        m.d.comb += [
            row.en.eq(bus.arready),
            row.addr.eq(Cat(here_next.word[:len(self.read_word)], here_next.in_manager)),
        ]
        what = Signal(row.data.shape(), reset_less=True)    # block RAM is slow here, too
        here = Signal()             # it may be a register of the page
        was_reading = Signal()
        is_privileged = Signal()
        answers = Signal()
        is_readable = Signal()
        is_shown = Signal()
        stored = Signal.like(what.stored)
        # A few early words to a flop: no more logic than that fits behind a memory.
        caught = []
        hidden = []
        for group, chosen in enumerate(what.early_group):
            some = slice(group * _EARLY_WORDS, (group + 1) * _EARLY_WORDS)
            word = Signal(WORD_BITS, name=f"caught_{group}")
            m.d.sync += word.eq(Mux(chosen, _any_of(
                Mux(place, early, 0) for place, early in zip(what.early_place, early_words[some])),
                0))
            caught.append(word)
            hidden.append(chosen & _any_of(
                place & ~flag for place, flag in zip(what.early_place, flags[some])))
        m.d.comb += answers.eq(what.readable & here & (is_privileged | ~what.privileged))
        m.d.sync += [
            what.eq(row.data),
            here.eq(Mux(target.in_manager, target.is_manager, target.is_partition)),
            was_reading.eq(reading),
            is_privileged.eq(target.is_privileged),
            is_readable.eq(answers),
            is_shown.eq(answers & ~_any_of(hidden)),
            # All 0 while the RAM is scrubbed: it is not read then, and `ram_word` is an old one.
            stored.eq(Mux(self.ready, what.stored, 0)),
            self.read_violation.en.eq(was_reading & here & ~is_privileged & what.privileged),
            self.read_violation.partition.eq(target.partition),
            self.read_violation.address.eq(address[:self.map.partition.offset_bits]),
        ]
        with m.If(steps[2]):
            m.d.sync += [
                bus.rdata.eq(Mux(is_shown, _any_of([
                    *(Mux(chosen, word, 0) for chosen, word in zip(what.shown, words)), *caught])
                    | stored_word & Cat(stored[kind] for kind in bit_kinds), 0)),
                bus.rresp.eq(Mux(is_readable, Response.OKAY, self._refusal)),
            ]

    def _shown_words(self) -> tuple[
            list[Value], list[Value], list[Value], list[int], list[data.Const]]:
        """The words that are not in the RAM, those of them that are early, whether these are to be
        shown, the kinds of bits, and the ROM: what the words of the pages read as.

        Rows of the ROM are words of a partition's page, and behind them those of the manager's.
        `shown` has a bit for each of the words that are not in the RAM and not early, `early_group`
        one for each group of `_EARLY_WORDS` early words, `early_place` one for each place in it.
        `stored` has one for each kind of bits, where bits are of one kind if they are in the RAM in
        the same words. `privileged`: it asks for privilege, whether it is readable or not.
        """
        words: dict[tuple[bool, str], Value] = {}
        early_words: dict[tuple[bool, str], Value] = {}
        flags: dict[tuple[bool, str], Value] = {}
        found: dict[int, dict[str, int]] = {}
        half = 1 << len(self.read_word)
        for page, values, page_flags in (
                (self.map.partition, self.partition_value, self.partition_shown),
                (self.map.manager, self.manager_value, self.manager_shown)):
            in_manager = page is self.map.manager
            for register in page:
                chosen = {"shown": 0, "early_group": 0, "early_place": 0}
                if register.is_readable and not register.is_stored:
                    key = (in_manager, register.source)
                    known = early_words if register.early else words
                    known.setdefault(key, Value.cast(values[register.source]) & register.mask
                                     if register.is_supplied else Const(register.reset))
                    number = list(known).index(key)
                    if register.early:
                        flags[key] = (page_flags[register.source] if register.is_supplied
                                      else Const(1))
                        chosen["early_group"] = 1 << number // _EARLY_WORDS
                        chosen["early_place"] = 1 << number % _EARLY_WORDS
                    else:
                        chosen["shown"] = 1 << number
                array = register.array
                offsets = ([register.offset] if array is None else
                           [register.offset + i * array.stride for i in range(array.count)])
                for offset in offsets:
                    found[in_manager * half + offset // WORD_BYTES] = {
                        "readable": register.is_readable,
                        "privileged": register.privileged,
                        "stored": register.mask if register.is_stored else 0,
                        **chosen,
                    }
        # A narrow ROM needs fewer block RAMs.
        masks = [row["stored"] for row in found.values()]
        columns = [tuple(mask >> bit & 1 for mask in masks) for bit in range(WORD_BITS)]
        kinds = sorted(set(columns))
        for row in found.values():
            row["stored"] = sum((row["stored"] >> columns.index(kind) & 1) << number
                                for number, kind in enumerate(kinds))
        layout = data.StructLayout({
            "readable": 1, "privileged": 1, "stored": len(kinds),
            "shown": len(words), "early_place": _EARLY_WORDS,
            "early_group": -(-len(early_words) // _EARLY_WORDS)})
        return (list(words.values()), list(early_words.values()), list(flags.values()),
                [kinds.index(column) for column in columns],
                [layout.const(found.get(i)) for i in range(2 * half)])

    @property
    def _refusal(self) -> Response:
        return Response.OKAY if self.config.silent_faults else Response.SLVERR

    # Addresses.

    @staticmethod
    def _word(address: Value) -> Value:
        return address[_LANE_BITS:]

    def _decode(self, address: Value, prot: Value) -> _Target:
        config = self.config
        number = address[config.page_log2:]
        word = self._word(address[:config.page_log2])
        aligned = address[:_LANE_BITS] == 0
        allowed = prot[0] & ~prot[1] if config.manager_secure else prot[0]
        return _Target(
            is_privileged=prot[0],
            is_partition=(aligned & (number < config.partitions)
                          & (word[self.map.partition.word_bits:] == 0)),
            is_manager=(aligned & (number == config.manager_page) & allowed
                        & (word[self.map.manager.word_bits:] == 0)),
            in_manager=number[-1],
            partition=number[:config.partition_bits],
            word=word)

    @staticmethod
    def _matches(page: Page, register: Register, word: Value) -> Value:
        """`word`, a number within `page.word_bits`, is that of a word of this register."""
        low_word = word[:page.word_bits]
        if register.array is None:
            return low_word == register.offset // WORD_BYTES
        array = register.array
        stride_words = array.stride // WORD_BYTES
        member_bits = (stride_words - 1).bit_length()
        element = (low_word - array.offset // WORD_BYTES)[:page.word_bits] >> member_bits
        return ((element < array.count)
                & (low_word[:member_bits] == register.offset % array.stride // WORD_BYTES))

    def _answers(self, page: Page, register: Register, target: _Target) -> Value:
        """The access, within `page`, is to this register, with the privilege that it asks for."""
        match = self._matches(page, register, target.word)
        return match & target.is_privileged if register.privileged else match

    def _violates(self, target: _Target) -> Value:
        """The access is to a `privileged` register of a partition's page, without privilege."""
        page = self.map.partition
        return target.is_partition & ~target.is_privileged & _any_of(
            self._matches(page, register, target.word) for register in page if register.privileged)

    def _index(self, word: Value) -> Value:
        """Number of the element of the array in the manager's page."""
        array = self.map.manager.array
        if array is None:
            return Const(0, 1)
        index = (word - array.offset // WORD_BYTES) >> (array.stride // WORD_BYTES - 1).bit_length()
        return index[:self.map.manager.index_bits]

    # Rows of the RAM: partition pages in one half, the manager's page in the other.

    @property
    def _row_bits(self) -> int:
        number_bits = (self.config.partitions - 1).bit_length()
        return 1 + max(self.map.partition.word_bits + number_bits, self.map.manager.word_bits)

    def _row(self, target: _Target) -> Value:
        """Number of the row for an address that has a register."""
        partition_row = Cat(target.word[:self.map.partition.word_bits],
                            self._page_number(target.partition))
        manager_row = target.word[:self.map.manager.word_bits]
        return Cat(Mux(target.in_manager, manager_row, partition_row), target.in_manager)

    def _page_number(self, partition: Value) -> Value:
        """The upper bits of the rows of a partition's page; those above are 0."""
        return partition[:(self.config.partitions - 1).bit_length()]

    def _reset_word(self, m: Module, row: Value) -> Value:
        """The word that a row has after reset."""
        word = Signal(WORD_BITS, name="reset_word")
        with m.Switch(row[:self._row_bits]):
            for page, copies, base in (
                    (self.map.partition, self.config.partitions, 0),
                    (self.map.manager, 1, 1 << self._row_bits - 1)):
                for register in page:
                    if not (register.is_stored and register.reset):
                        continue
                    array = register.array
                    offsets = ([register.offset] if array is None else
                               [register.offset + i * array.stride for i in range(array.count)])
                    rows = [base + (copy << page.word_bits) + offset // WORD_BYTES
                            for copy in range(copies) for offset in offsets]
                    with m.Case(*rows):
                        m.d.comb += word.eq(register.reset)
        return word
