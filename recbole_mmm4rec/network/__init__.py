"""The network in pure PyTorch: no RecBole, no files."""

from recbole_mmm4rec.network.config import NetworkConfig
from recbole_mmm4rec.network.network import MMM4RecNetwork

__all__ = ["MMM4RecNetwork", "NetworkConfig"]
