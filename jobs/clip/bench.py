"""Measure heads on what their split holds out: unseen classes, unseen photos, search by title, calibrated choices.

A figure is {value, interval (95 %), chance, n}. It knows nothing of how heads are fitted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch

from jobs.clip.data import Photo
from jobs.clip.measure import Question, calibrate, hits, ranks, share
from jobs.clip.workshop import Features, Mask, Workshop, held_out, unit
from lore_mm.models.clip_tiny import ImageHead, TextHead

__all__ = ["Bench"]

_T = TypeVar("_T", bound=str | Photo | tuple[str, ...])

_LUMA = {  # attribute → what Luma calls it
    "audience": "gender",
    "category": "leaf",
    "color": "color",
    "material": "material",
    "pattern": "pattern",
}


class Bench:
    """Heads to be measured on what their split holds out."""

    def __init__(self, shop: Workshop, image: ImageHead, text: TextHead, split: int) -> None:
        self.shop, self.split, self._image, self._text = shop, split, image, text

    def pictures(self, name: str, keep: Mask | None = None) -> Features:
        """Unit vectors of a set's pictures, whole view, (n, 384)."""
        rows = self.shop.pictures[name][:, 0]
        with torch.inference_mode():
            return unit(self._image(torch.from_numpy(rows if keep is None else rows[keep])).numpy())

    def texts(self, texts: Sequence[str]) -> Features:
        """Unit vectors of texts, (n, 384)."""
        with torch.inference_mode():
            return unit(self._text(torch.from_numpy(self.shop.towers.texts(texts))).numpy())

    def figures(self) -> dict[str, Any]:
        """Every figure that the sets at hand allow."""
        parts: dict[str, Callable[[], dict[str, Any]]] = {
            "grocery": self.groceries,
            "clothing": self.garments,
            "luma": self.luma,
            "demo": self.demo,
        }
        made = {name: part() for name, part in parts.items() if name in self.shop.sets}
        return {**made, "text_geometry": self.geometry()}

    def groceries(self) -> dict[str, Any]:
        """Held-out classes, and held-out photos of the others, each chosen among their own names and among all."""
        one = self.shop.sets["grocery"]
        by_class, by_group = held_out(one, self.split)
        labels = np.asarray([p.label for p in one.photos])
        named = self._named()
        made: dict[str, Any] = {
            "held_out_classes": sorted({str(x) for x in labels[by_class]}),
            "of_them_named_in_imagenet": sorted({str(x) for x in labels[by_class]} & named),
        }
        strange = by_class & ~np.isin(labels, sorted(named))
        for kind in ("name", "name and kind"):
            words = one.captions(kind)
            all_words, unseen = sorted(set(words)), sorted(set(_kept(words, by_class)))
            seen = sorted(set(words) - set(unseen))
            key = kind.replace(" ", "_")
            made[f"unseen_by_{key}"] = self._choice("grocery", by_class, words, unseen)
            made[f"unseen_not_in_imagenet_by_{key}"] = self._choice("grocery", strange, words, unseen)
            made[f"unseen_among_all_by_{key}"] = self._choice("grocery", by_class, words, all_words)
            made[f"seen_by_{key}"] = self._choice("grocery", by_group, words, seen)
            made[f"seen_among_all_by_{key}"] = self._choice("grocery", by_group, words, all_words)
        return made

    def garments(self) -> dict[str, Any]:
        """Kinds of clothing on photos of senders never seen."""
        one = self.shop.sets["clothing"]
        words = one.captions("name")
        return {"by_name": self._choice("clothing", held_out(one, self.split)[1], words, sorted(set(words)))}

    def luma(self) -> dict[str, Any]:
        """Search by text for pictures of parents never seen, and single attributes of these pictures."""
        one = self.shop.sets["luma"]
        keep = held_out(one, self.split)[1]
        pictures, photos = self.pictures("luma", keep), _kept(one.photos, keep)
        parents = [p.group for p in photos]
        titles, both = (self.texts(_kept(one.captions(kind), keep)) for kind in ("title", "color and title"))
        made: dict[str, Any] = {
            "title_to_parent": _recall(titles, pictures, parents, parents),
            "color_and_title_to_item": _recall(both, pictures, [p.label for p in photos], parents),
        }
        for question in self._luma_questions():
            found = hits(question.similarities, question.right)
            made[question.attribute] = share(found, question.groups, float(question.right.mean()))
        return made

    def demo(self) -> dict[str, Any]:
        """Search a small general shop by title: among pictures, among descriptions, among the means of both."""
        one = self.shop.sets["demo"]
        names = [p.label for p in one.photos]
        titles, described, pictures = (*map(self.texts, map(one.captions, one.kinds)), self.pictures("demo"))
        items = {"picture": pictures, "description": described, "mean_of_both": unit(pictures + described)}
        return {f"title_to_{what}": _recall(titles, vectors, names, names) for what, vectors in items.items()}

    def geometry(self) -> dict[str, float]:
        """Correlation of the cosines between the names of the 1000 classes before and after the text head."""
        texts = [names[0] for names in self.shop.class_names]
        before, after = unit(self.shop.towers.texts(texts)), self.texts(texts)
        above = np.triu_indices(len(texts), 1)
        return {"correlation": round(float(np.corrcoef((before @ before.T)[above], (after @ after.T)[above])[0, 1]), 4)}

    def calibration(self) -> dict[str, dict[str, float]]:
        """Attribute → temperature, threshold and how well they hold.

        "all" is every question together; "default", for an attribute that was not measured, is the attributes without
        the category: knowing what a thing is says little of knowing what it is like.
        """
        questions = [*self._luma_questions(), *self._category_questions()]
        by_name: dict[str, list[Question]] = {}
        for question in questions:
            by_name.setdefault(question.attribute, []).append(question)
        if not questions:
            return {}
        others = [q for q in questions if q.attribute != "category"] or questions
        by_name = {"all": questions, "default": others, **dict(sorted(by_name.items()))}
        return {name: calibrate(some) for name, some in by_name.items()}

    def _luma_questions(self) -> list[Question]:
        if "luma" not in self.shop.sets:
            return []
        one = self.shop.sets["luma"]
        keep, made = held_out(one, self.split)[1], []
        for attribute, theirs in _LUMA.items():
            values = [p.values.get(theirs, ()) for p in one.photos]
            options = sorted({v for some in values for v in some})
            asked = keep & np.asarray([bool(some) for some in values])
            right = np.asarray([[o in some for o in options] for some in _kept(values, asked)], dtype=np.bool_)
            groups = tuple(p.group for p in _kept(one.photos, asked))
            made.append(self._question(attribute, "luma", asked, options, right, groups))
        return made

    def _category_questions(self) -> list[Question]:
        made = []
        for name in ("grocery", "clothing"):
            if name not in self.shop.sets:
                continue
            one = self.shop.sets[name]
            by_class, by_group = held_out(one, self.split)
            keep = by_class | by_group
            words = [p.values["kind"][0] for p in one.photos] if name == "grocery" else one.captions("name")
            options = sorted(set(words))
            right = np.asarray(_kept(words, keep))[:, None] == np.asarray(options)[None, :]
            groups = tuple(p.group for p in _kept(one.photos, keep))
            made.append(self._question("category", name, keep, options, right, groups))
        return made

    def _question(
        self, attribute: str, name: str, keep: Mask, options: Sequence[str], right: Mask, groups: tuple[str, ...]
    ) -> Question:
        texts = unit(self.texts(options) + self.texts([f"a photo of {option}" for option in options]))
        return Question(attribute, (self.pictures(name, keep) @ texts.T).astype(np.float64), right, groups)

    def _named(self) -> set[str]:
        """The groceries whose own name, or kind, is among the names of the picture tower's 1000 classes."""
        known = {name.lower() for names in self.shop.class_names for name in names}
        one = self.shop.sets["grocery"]
        found = set()
        for photo, name in zip(one.photos, one.captions("name"), strict=True):
            same = name in known or photo.values["kind"][0] in known
            if same or any(name.endswith(f" {k}") or k.endswith(f" {name}") for k in known):
                found.add(photo.label)
        return found

    def _choice(self, name: str, keep: Mask, words: Sequence[str], options: Sequence[str]) -> dict[str, Any] | None:
        """Accuracy of choosing the right words for each kept picture; None where none is kept."""
        if not keep.any():
            return None
        right = np.asarray(_kept(words, keep))[:, None] == np.asarray(options)[None, :]
        found = hits((self.pictures(name, keep) @ self.texts(options).T).astype(np.float64), right)
        groups = [p.group for p in _kept(self.shop.sets[name].photos, keep)]
        return share(found, groups, 1 / len(options))


def _kept(rows: Sequence[_T], keep: Mask) -> list[_T]:
    return [row for row, wanted in zip(rows, keep, strict=True) if wanted]


def _recall(texts: Features, pictures: Features, answers: Sequence[str], groups: Sequence[str]) -> dict[str, Any]:
    """Recall at 1, 5, 10 of the picture(s) with a text's own answer."""
    right = np.asarray(answers)[:, None] == np.asarray(answers)[None, :]
    rank = ranks((texts @ pictures.T).astype(np.float64), right)
    n, wanted = len(right), right.sum(axis=1)

    def chance(k: int) -> float:  # that one of k pictures drawn without replacement is right
        missed = np.ones(len(wanted))
        for drawn in range(min(k, n)):
            missed *= np.maximum(n - wanted - drawn, 0) / (n - drawn)
        return float(1 - missed.mean())

    return {f"recall_at_{k}": share(rank < k, groups, chance(k)) for k in (1, 5, 10)}
