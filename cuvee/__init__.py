"""Cuvée finds the data mixture for training a language model, and says how sure it is.

The root exports the records that users build and read. The heavy parts are subpackages that extras
make runnable: ``cuvee.client`` (base install), ``cuvee.engine``, ``cuvee.corpus``, ``cuvee.proxy``.
"""

from cuvee.answer import Report as Report
from cuvee.errors import CuveeError as CuveeError
from cuvee.mixture import Mixture as Mixture
from cuvee.mixture import largest_remainder as largest_remainder
from cuvee.records import Corpus as Corpus
from cuvee.records import Job as Job
from cuvee.records import Observation as Observation
from cuvee.records import Run as Run
from cuvee.spec import CorpusSpec as CorpusSpec
from cuvee.spec import JobSpec as JobSpec

__version__ = "0.1.0"

__all__ = [
    "Corpus",
    "CorpusSpec",
    "CuveeError",
    "Job",
    "JobSpec",
    "Mixture",
    "Observation",
    "Report",
    "Run",
    "__version__",
    "largest_remainder",
]
