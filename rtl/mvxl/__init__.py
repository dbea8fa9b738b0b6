# SPDX-License-Identifier: Apache-2.0
"""The MVXL adapter: moves messages between isolated partitions."""
