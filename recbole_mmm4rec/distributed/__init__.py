"""One training on several processes and machines, for any RecBole model.

``train_batch_size`` is the joint batch, as in RecBole: each process computes its part of it, and loss, gradient and
candidates are those of one process with the whole. In validation and test each user belongs to one process.
"""
