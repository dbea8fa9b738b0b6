# SPDX-License-Identifier: Apache-2.0
"""What travels from the serial line to the buses and back, in that order."""

from amaranth.lib import data, enum

__all__ = ["FrameByte", "Header", "Operation", "Received", "Status", "Unframed"]


class Received(data.Struct):
    """What came over the line: a byte, or (`error`) notice that something here was lost."""

    byte: 8
    error: 1


class Unframed(data.Struct):
    """A byte of a frame (its FCS included), or its end (`end`), and then whether it is good."""

    byte: 8
    end: 1
    good: 1


class Operation(enum.Enum, shape=3):
    """What a request asks for."""

    HELLO = 0
    READ_REGISTERS = 1
    WRITE_REGISTERS = 2
    READ_MEMORY = 3
    WRITE_MEMORY = 4
    INTERRUPTS = 5


class Header(data.Struct):
    """A request, before its data."""

    sequence: 8
    operation: Operation
    privileged: 1
    reserved: 4
    page: 8
    count: 8
    address: 32


class Status(enum.Enum, shape=2):
    """How a request ended.

    SLVERR and DECERR are of the register port. BAD_REQUEST: an unknown operation, data of another
    length than `count` says, an address that is not aligned or outside of page or memory, or a
    page that does not exist.
    """

    OK = 0
    SLVERR = 1
    DECERR = 2
    BAD_REQUEST = 3


class FrameByte(data.Struct):
    """A byte of contents; `last` ends them."""

    byte: 8
    last: 1
