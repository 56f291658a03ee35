"""Checkpoints in the Hugging Face layout: read with suspicion, averaged in a stream, written whole.

``merge`` averages the weights of model folders without holding a model in memory. Nothing here is
unpickled, nothing is fetched, and no code of a model runs. Needs numpy, which does the arithmetic
in blocks; never loads torch, whose import alone costs more memory than a merge.
"""

from cuvee.errors import MissingExtraError

try:
    from cuvee.checkpoints.compat import check_compatible as check_compatible
    from cuvee.checkpoints.folder import ModelFolder as ModelFolder
    from cuvee.checkpoints.folder import open_folder as open_folder
    from cuvee.checkpoints.header import Header as Header
    from cuvee.checkpoints.header import TensorEntry as TensorEntry
    from cuvee.checkpoints.header import parse_header as parse_header
    from cuvee.checkpoints.header import read_header as read_header
    from cuvee.checkpoints.merge import Merged as Merged
    from cuvee.checkpoints.merge import merge as merge
except ModuleNotFoundError as error:
    if (error.name or "").startswith("cuvee"):
        raise
    raise MissingExtraError(
        f"cuvee.checkpoints needs {error.name}: pip install 'cuvee[merge]'", extra="merge"
    ) from error

__all__ = [
    "Header",
    "Merged",
    "ModelFolder",
    "TensorEntry",
    "check_compatible",
    "merge",
    "open_folder",
    "parse_header",
    "read_header",
]
