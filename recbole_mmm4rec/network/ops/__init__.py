"""How the network is made fast: operators that give what :mod:`.plain` gives.

The layers see a :class:`~.layouts.Layout`: how the batch is packed, which tokens are computed, and by which scan.
"""
