# SPDX-License-Identifier: Apache-2.0
"""Cocotb testbenches: they run inside a simulator, started by a test of the same name."""
