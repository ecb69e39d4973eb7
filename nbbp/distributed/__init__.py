"""Fits on several processes at once: their ranks, and what they send each other."""

from nbbp.distributed.ranks import ALONE, RankError, Ranks, is_first, launched, ranks_of

__all__ = ["ALONE", "RankError", "Ranks", "is_first", "launched", "ranks_of"]
