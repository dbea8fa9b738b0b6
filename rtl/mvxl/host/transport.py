# SPDX-License-Identifier: Apache-2.0
"""The register port of a board as `mvxl.driver` takes it, over a serial link.

The link blocks. So the coroutines here do their work at once and let others run in between, which
is what lets a timeout end a wait.
"""

from __future__ import annotations

import asyncio

from ..config import AdapterConfig
from .link import SerialLink

__all__ = ["MANAGER_LINE", "BoardTransport"]

#: The manager's place in the interrupt lines.
MANAGER_LINE = 31


class BoardTransport:
    """Accesses to the register port by one piece of software.

    An error response is raised as `RegisterError`, and whatever the link raises as it is.

    Parameters
    ----------
    link : SerialLink
    config : AdapterConfig
        Sizes of the board's adapter.
    privileged : bool
        AxPROT[0] of its accesses.
    line : int
        Its interrupt line: a partition, or `MANAGER_LINE`.
    """

    def __init__(self, link: SerialLink, config: AdapterConfig, *, privileged: bool = False,
                 line: int = MANAGER_LINE) -> None:
        self._link = link
        self._page_log2 = config.page_log2
        self._privileged = privileged
        self._line = line

    def _split(self, address: int) -> tuple[int, int]:
        """Page, and byte offset in it."""
        return address >> self._page_log2, address & ((1 << self._page_log2) - 1)

    async def read32(self, address: int) -> int:
        """The word at `address` (bytes)."""
        await asyncio.sleep(0)
        page, offset = self._split(address)
        return self._link.read_registers(page, offset, privileged=self._privileged)[0]

    async def write32(self, address: int, value: int) -> None:
        """Write the word at `address` (bytes)."""
        await asyncio.sleep(0)
        page, offset = self._split(address)
        self._link.write_registers(page, offset, [value], privileged=self._privileged)

    async def interrupt(self) -> None:
        """Return when its interrupt line is high; at once if it is. The board is asked for it."""
        while not self._link.read_interrupts() >> self._line & 1:
            await asyncio.sleep(0)
