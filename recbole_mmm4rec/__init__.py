"""MMM4Rec, a multi-modal Mamba for sequential recommendation, as a plug-in of RecBole.

Importing this package is enough: RecBole then knows the model ``MMM4Rec`` with its data set, its trainer and its
default settings, and its known defects are repaired. The import itself is light: neither PyTorch nor RecBole is loaded.
"""

from recbole_mmm4rec.plugin.finder import register

__version__ = "0.1.0"

register()
