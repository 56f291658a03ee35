"""Rungs that cost little: the byte n-gram model and the Llama-style proxy.

The package itself imports nothing, because the two rungs weigh differently: ``ngram`` needs numpy
alone, everything else loads torch. Import what you use::

    from cuvee.proxy.ngram import ngram_losses
    from cuvee.proxy.train import train

Importing any module here starts no thread and touches no GPU, so a fork server may preload them.
"""
