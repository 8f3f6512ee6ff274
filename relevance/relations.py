"""The closed vocabulary of relations: how what an item is relates to what a query demands.

The follower names relations, the rulebook gives levels to them, and neither may use a word that is not here. This
module knows nothing of levels, items or knowledge.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["ANY", "DIMENSIONS", "LEGAL", "RELATIONS"]

ANY = "any"  # in a rulebook: the rules of relations that mean the same in every dimension

RELATIONS: Mapping[str, str] = MappingProxyType(
    {
        # any dimension
        "exact": "the item has the very value that is demanded",
        "synonym": "the item has it under another name",
        "unstated": "nothing about the item speaks to the demand",
        "contradicts": "the item has a value that excludes the demanded one",
        "satisfied_negation": "the item has something else in the place of what must not be",
        "negation_unstated": "nothing says that the item has what must not be",
        "violated_negation": "the item has what must not be",
        "words_all": "the demand is not in the knowledge tables; all its words stand in the item's text",
        "words_beside": "its unknown words stand in the text, but the item is not called so",
        "words_some": "the demand is not in the knowledge tables; some of its words stand in the item's text",
        "words_none": "the demand is not in the knowledge tables; none of its words stands in the item's text",
        "impossible": "the query asks for this and for what excludes it",
        "words_everyday": "everyday words that say nothing in particular, and do not stand in the item's text",
        # category, along the tree
        "hyponym": "a kind below a broad demanded kind",
        "hyponym_precise": "a kind below a demanded kind that by itself already names an everyday thing",
        "hypernym": "the item is known only as a broader kind than the demanded one",
        "sibling": "another form of the same everyday thing",
        "co_hyponym": "another kind under the same broad kind",
        "named": "filed as another kind near it, but its text calls it the demanded kind",
        "similar": "another kind that serves the same purpose",
        "related": "a kind from the same corner of the shop",
        "distant": "a kind from the same wide department",
        "accessory": "an accessory or part of the demanded thing",
        "main_of_accessory": "the main thing, where its accessory is demanded",
        "whole": "a thing that contains the demanded part",
        "processed": "made from the demanded thing, or after it: dried, brewed, artificial",
        "patterned": "another thing with the demanded one drawn on it or shown by it",
        "likeness": "a toy or figure of the demanded thing",
        "ingredient": "another thing that holds the demanded one",
        "raw": "what the demanded thing grows from",
        "unrelated": "a kind that has nothing to do with the demanded one",
        # brand and model
        "brand_child": "a daughter brand of the demanded brand",
        "brand_parent": "the parent of the demanded brand",
        "brand_other": "another maker's brand",
        "brand_other_trade": "another maker's brand, in a trade that the demanded brand is not in",
        "genericized": "another maker's, where the demanded brand's name has become the thing's own",
        "imitation": "names the demanded brand only as what it is made to look like",
        "compatible": "another maker's accessory that is made for the demanded brand",
        "series_variant": "a variant of the demanded series",
        "other_model": "another model",
        "model_accessory": "an accessory for the demanded model",
        # terms
        "covers": "the item has a wider value that includes the demanded one",
        "narrower": "the item has a narrower value that the demanded one includes",
        "near": "the item has a neighbouring value",
        "other": "the item has another value, which does not exclude the demanded one",
        # colour and material
        "member": "the item has a value of the demanded family or umbrella word, or is one of a collection",
        "base": "the item is known only by the family or umbrella word of the demanded value",
        "family": "the item has another value of the demanded value's family",
        "pure": "the item has the demanded material, which is demanded pure",
        "pure_small": "the same on socks and the like, which are not made without some other thread",
        "on_a_piece": "one piece of the set is in the demanded colour",
        "kin": "the item has a related material",
        # numbers
        "within": "the number is inside what is demanded",
        "deviates": "the number misses what is demanded, by the given share of it",
        "other_currency": "the price is in another currency than the demanded one",
        "other_year": "another year, on a thing that is not dated by its year",
        "other_model_year": "another year, on a thing whose year is part of what it is",
        "unstated_model_year": "no year stated, on a thing whose year is part of what it is",
        "one_step": "the neighbouring one of a series of sizes",
        "multiple": "sold in smaller packs, several of which make the demanded number",
        "other_count": "a set of another number of pieces",
        "part_of_set": "a single piece, where a set is demanded",
        "set_of_single": "a set, where a single piece is demanded",
        # audience, store and what nobody asked for
        "near_stage": "made for a neighbouring age",
        "far_stage": "made for another age",
        "plain": "made for nobody in particular, where things are made for the demanded group",
        "sizes_reach": "made for children, in sizes that reach the grown-ups asked for",
        "niche": "made for a special group, where the query names none",
        "brand_store": "a shop that carries the demanded shop's name beside its own",
        "second_rate": "used, flawed, a sample or the like, where the query does not ask for that",
    }
)

_WORDS = ("words_all", "words_some", "words_none", "words_everyday")
_NEGATIONS = ("satisfied_negation", "negation_unstated", "violated_negation")
_ALWAYS = ("exact", "unstated", "impossible", *_NEGATIONS)
_COMMON = (*_ALWAYS, "synonym", *_WORDS)
_TERM = (*_COMMON, "covers", "narrower", "near", "contradicts", "other")
_TREE = (
    "hyponym",
    "hyponym_precise",
    "hypernym",
    "named",
    "sibling",
    "co_hyponym",
    "similar",
    "related",
    "distant",
    "accessory",
    "main_of_accessory",
    "whole",
    "processed",
    "patterned",
    "likeness",
    "ingredient",
    "raw",
    "unrelated",
)
_BRAND = ("brand_child", "brand_parent", "brand_other", "brand_other_trade", "genericized", "imitation", "compatible")

# dimension → the relations that its legs may have; the keys are the 18 dimensions in the order paths are read
LEGAL: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "category": (*_COMMON, "words_beside", *_TREE),
        "brand": (*_COMMON, *_BRAND),
        "model": (*_COMMON, "words_beside", "series_variant", "other_model", "model_accessory"),
        "ip": _TERM,
        "component": _TERM,
        "bundle": (*_TERM, "member", "multiple", "other_count", "part_of_set", "set_of_single"),
        "style_detail": _TERM,
        "style": _TERM,
        "color": (*_ALWAYS, *_WORDS, "on_a_piece", "member", "base", "near", "family", "other"),
        "material": (*_ALWAYS, *_WORDS, "pure", "pure_small", "within", "deviates", "member", "base", "kin", "other"),
        "spec": (*_TERM, "within", "one_step", "multiple", "deviates"),
        "function": _TERM,
        "audience": (*_TERM, "plain", "sizes_reach", "near_stage", "far_stage", "niche"),
        "season": _TERM,
        "year": (*_ALWAYS, "within", "other_year", "other_model_year", "unstated_model_year"),
        "price": (*_ALWAYS, "within", "deviates", "other_currency"),
        "store": (*_COMMON, "brand_store", "other"),
        "special": (*_TERM, "second_rate"),
    }
)
DIMENSIONS: tuple[str, ...] = tuple(LEGAL)
