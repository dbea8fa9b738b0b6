# SPDX-License-Identifier: Apache-2.0
"""Simulation: the tool chain, the memory, the reference model, scenarios and their runners."""
