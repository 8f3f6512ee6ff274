"""The settings of a tagger's training. It knows no model."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.schedule import Schedule

__all__ = ["Recipe"]


@dataclass(frozen=True, slots=True)
class Recipe(Schedule):
    """The settings of one fit."""

    dropout: float = 0.2
    word_drop: float = 0.1  # share of pieces masked, and of words' hints hidden
    swap: float = 0.0  # share of labelled spans changed for others of their type, anew each epoch; not beside teachers
    smoothing: float = 0.0  # of labels
    agreement: float = 0.0  # weight of the divergence between two passes' dropouts (R-Drop, Liang et al. 2021)
    hints: bool = True  # the model is told what the knowledge tables know of each word
    gold: float = 0.3  # weight of the labels where teachers have read the query too
    temperature: float = 1.0  # of teachers and student in distillation
