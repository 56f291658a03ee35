"""Text in: readers, census, tokenizer, packing, and the sampler that draws from the result.

``prepare`` turns a ``CorpusSpec`` into a content-addressed folder, ``open_corpus`` maps it into
memory, ``MixtureSampler`` draws batches from it in a mixture's proportions. Needs the ``proxy``
extra's readers and numpy; never loads torch.
"""

from cuvee.errors import MissingExtraError

try:
    from cuvee.corpus.prepare import prepare as prepare
    from cuvee.corpus.prepared import HeldOut as HeldOut
    from cuvee.corpus.prepared import HeldOutText as HeldOutText
    from cuvee.corpus.prepared import PreparedCorpus as PreparedCorpus
    from cuvee.corpus.prepared import open_corpus as open_corpus
    from cuvee.corpus.sampler import MixtureSampler as MixtureSampler
    from cuvee.corpus.sampler import matched_pools as matched_pools
except ModuleNotFoundError as error:
    if (error.name or "").startswith("cuvee"):
        raise
    raise MissingExtraError(
        f"cuvee.corpus needs {error.name}: pip install 'cuvee[proxy]'", extra="proxy"
    ) from error

__all__ = [
    "HeldOut",
    "HeldOutText",
    "MixtureSampler",
    "PreparedCorpus",
    "matched_pools",
    "open_corpus",
    "prepare",
]
