# SPDX-License-Identifier: Apache-2.0
"""The host of a board: a computer that drives an adapter on an FPGA over a serial line.

`python -m mvxl.host --help` is its program. As a library::

    with SerialLink.open("/dev/ttyUSB0") as link:
        board = await Board.find(link)
        print(await board.manager.counters())

It needs what the extra `host` of the package brings.
"""
