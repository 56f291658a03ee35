"""How a run was chosen, in words: the methods that explanations name."""

from __future__ import annotations

from cuvee.records import Explanation

__all__ = ["foresight_words", "method_words"]

_WORDS = {
    "design": "part of the design that opens the search, spread over the allowed mixtures",
    "best": "the best mixture by what is known, to be measured at the target",
    "probe": "tells most of the differences between the best candidates",
    "improvement": "promised the most improvement for its cost",
    "information": "a cheaper run that pays, for what it tells the next run at the target",
    "bridge": "a bridge: ties the ranking of a cheaper rung to the target's",
    "entropy": "tells most of where the least objective is, for its cost",
    "reference": "a mixture that the answer is compared with",
    "anchor": "repeated at both ends of the ladder, to examine the objective before the search",
    "verify": "verifies the answer, paired by its seed",
    "mixing_law": "chosen by the mixing laws fitted so far",
    "olmix": "the best of the cheapest rung's laws that is not run yet, or a draw for them",
    "regmix": "among the best that gradient-boosted trees predict, or a draw for them",
    "single_fidelity_bo": "promised the most improvement by target runs alone",
    "admire": "drawn to start the search",
    "dirichlet": "drawn around natural proportions",
    "random": "drawn at random from the allowed mixtures",
    "enumeration": "one of the few mixtures that the constraints allow, not run at this rung yet",
    "repeat": "one of the few mixtures that the constraints allow, again with another seed",
}
_BLIND = {"olmix", "regmix", "dirichlet", "random"}


def method_words(method: str) -> str:
    """What a method does; a method that is not known is told by its name."""
    return _WORDS.get(method, method)


def foresight_words(found: Explanation) -> str:
    """Why a run promised no gain, where its strategy could not tell; empty where it could."""
    if found.predicted_gain is not None or found.method not in _BLIND:
        return ""
    return f"not predicted: {found.method} has no posterior"
