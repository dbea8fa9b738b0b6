# SPDX-License-Identifier: Apache-2.0
"""What every test needs: the tools of this Python's environment, callable by name."""

from sim import toolchain

toolchain.setup()
