# SPDX-License-Identifier: Apache-2.0
"""The MVXL adapter: moves messages between isolated partitions, within bounds.

`Adapter` is a `wiring.Component`, `AdapterConfig` its sizes::

    from mvxl import Adapter, AdapterConfig

    m.submodules.adapter = adapter = Adapter(AdapterConfig.named("default"))
"""

from .adapter import Adapter
from .config import CONFIGS, AdapterConfig

__all__ = ["CONFIGS", "Adapter", "AdapterConfig", "__version__"]

__version__ = "0.1.0"
