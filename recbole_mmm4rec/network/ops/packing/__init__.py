"""How a batch is packed: layouts, and which tokens of them a layer computes."""
