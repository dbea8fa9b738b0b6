# SPDX-License-Identifier: Apache-2.0
"""Loads a bitstream into a board: until it is switched off, or into its flash memory."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mvxl.config import CONFIGS
from sim.toolchain import ToolError, launcher

from .build import BOARDS, bitstream_path, board_named

__all__ = ["load"]

#: What the loader says if it cannot reach the board's USB chip.
_NO_BOARD = re.compile(r"unable to open ftdi|device not found|no cable|JTAG init failed"
                       r"|unable to open USB|usb_open", re.IGNORECASE)


def load(bitstream: Path, board: str, *, flash: bool = False) -> None:
    """Load a bitstream. The loader's own words go to the terminal.

    Raises
    ------
    ToolError
        There is no bitstream, no loader, or a library of it is missing; no board answers; or the
        loader failed for another reason.
    ValueError
        There is no such board.
    """
    kind = board_named(board)
    if not bitstream.is_file():
        raise ToolError(f"there is no bitstream {bitstream}: run `make bitstream`, or "
                        "python -m boards.build with the same options")
    process = subprocess.Popen(
        [launcher("openFPGALoader"), "-b", kind.loader, *(["-f"] if flash else []), bitstream],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0)
    said = bytearray()
    # As it comes, because it draws progress bars.
    while piece := process.stdout.read(256):  # type: ignore[union-attr]
        said += piece
        sys.stdout.write(piece.decode(errors="replace"))
        sys.stdout.flush()
    process.stdout.close()  # type: ignore[union-attr]
    status = process.wait()
    words = said.decode(errors="replace")
    if library := re.search(r"error while loading shared libraries: (\S+):", words):
        raise ToolError(f"openFPGALoader needs {library[1]}; on Debian: "
                        "apt-get install libusb-1.0-0 libftdi1-2")
    if status and _NO_BOARD.search(words):
        raise ToolError(f"no {board} found: it must be connected by {kind.port}, and you must "
                        "be allowed to use it (a udev rule, or root)")
    if status:
        raise ToolError(f"openFPGALoader failed with status {status} (see above)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m boards.flash", description=__doc__)
    parser.add_argument("--board", default="ulx3s", metavar="NAME",
                        help=f"{', '.join(BOARDS)} (default: %(default)s)")
    parser.add_argument("--device", metavar="NAME",
                        help="as of the build (default: the board's largest)")
    parser.add_argument("--config", choices=CONFIGS,
                        help="default: that of the device")
    parser.add_argument("--bitstream", type=Path, metavar="FILE",
                        help="default: what boards.build wrote for board, device and config")
    parser.add_argument("--flash", action="store_true",
                        help="into the flash memory: stays when the board is switched off")
    options = parser.parse_args(arguments)
    try:
        path = bitstream_path(options.board, options.device, options.config)
        load(options.bitstream or path, options.board, flash=options.flash)
    except (OSError, ToolError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
