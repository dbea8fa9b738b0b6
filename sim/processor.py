# SPDX-License-Identifier: Apache-2.0
"""The processor of the partitions as a bus manager of its own, for cocotb simulations.

Under a grant of the kind CPU a driver moves its data itself, with loads and stores to the
addresses that it was granted. These reach the simulated memory through its second port, not
through the adapter. One `Processor` stands for the processors of all partitions; AxUSER tells
whose software runs, and so do the accesses in the memory's log.

Usage::

    processor = Processor(dut, MemoryControl(dut.memory, data_bits=64))
    await processor.copy([(source, first, first_bytes), (source + first_bytes, next, rest_bytes)],
                         user=partition)
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from cocotbext.axi import AxiBus, AxiMaster, AxiResp

from .memory import MemoryControl
from .transport import BusError

__all__ = ["Processor"]


class Processor:
    """Loads and stores through the memory's second port. Make one for a simulation.

    Accesses may be of any size, at any address: they become INCR bursts of whole beats that do not
    cross 4 KiB, the stores with strobes for just their bytes. Those that are made at the same time
    by different tasks run in turn.

    Parameters
    ----------
    dut
        Has the port, `clk` and `rst`.
    memory : MemoryControl
        That of the memory behind the port, which gets enabled.
    port : str
        Prefix of the port's wires: `cpu` for `cpu_awaddr`.
    """

    def __init__(self, dut: Any, memory: MemoryControl, *, port: str = "cpu") -> None:
        self._manager = AxiMaster(AxiBus.from_prefix(dut, port), dut.clk, dut.rst)
        # Otherwise each access writes lines into the simulation's log.
        for half in (self._manager.write_if, self._manager.read_if):
            half.log.setLevel(logging.WARNING)
        memory.enable_processor()

    async def load(self, address: int, count_bytes: int, *, user: int = 0) -> bytes:
        """The `count_bytes` bytes (1 or more) at `address`.

        Raises
        ------
        BusError
            A beat got an error response.
        ValueError
            `count_bytes` is less than 1.
        """
        _check_count(count_bytes)
        answer = await self._manager.read(address, count_bytes, user=user)
        if answer.resp != AxiResp.OKAY:
            raise BusError("load", address, AxiResp(answer.resp).name)
        return bytes(answer.data)

    async def store(self, address: int, data: bytes, *, user: int = 0) -> None:
        """Write bytes (1 or more) at `address`; return when they are in the memory.

        Raises
        ------
        BusError
            A burst got an error response; its other beats may have been stored.
        ValueError
            There are no bytes.
        """
        _check_count(len(data))
        answer = await self._manager.write(address, data, user=user)
        if answer.resp != AxiResp.OKAY:
            raise BusError("store", address, AxiResp(answer.resp).name)

    async def copy(self, pieces: Iterable[tuple[int, int, int]], *, user: int = 0) -> None:
        """Move pieces, each (source address, destination address, count in bytes), one by one.

        Pieces of no bytes are left out, such as the second one of a grant that does not wrap. All
        of it is in the memory on return. Raises as `load` and `store`.
        """
        for source, destination, count_bytes in pieces:
            if count_bytes:
                await self.store(destination, await self.load(source, count_bytes, user=user),
                                 user=user)


def _check_count(count_bytes: int) -> None:
    if count_bytes < 1:
        raise ValueError(f"count_bytes must be at least 1, not {count_bytes}")
