"""How often the picture extractors are right, how often they speak, and how fast: palette and zero_shot.

    python benchmarks/bench_extractors.py                      # the 54 demo photos
    python benchmarks/bench_extractors.py --luma PATH          # and 383 studio photos of sportswear

Right answers: for the demo, looked up by eye in the photos (below); for Luma, its own attributes. Accuracy is over all
items, precision over those where the extractor speaks, coverage is how often it speaks; intervals are Wilson's at 95 %.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from PIL import Image

from extractors.merge_colors import kin
from extractors.palette import Palette
from extractors.protocol import Extraction, ExtractorInput
from extractors.zero_shot import ZeroShot
from lore_mm.console import command_app, print_json, run, say
from lore_mm.errors import InputError
from lore_mm.knowledge import Knowledge, load_knowledge
from lore_mm.models import DEFAULT_EMBEDDER, open_embedder
from lore_mm.schema import check_value, load_schemas
from lore_mm.types import AttributeValue, Item

DEMO = Path(__file__).parent.parent / "examples" / "demo"

# item: category ids, any of which is right | the colours that cover most of the thing, any of which may come first
DEMO_TRUTH = """
laptop: laptop | black gray
tablet: tablet | black
cordless-mouse: mouse | gray brown
32-inch-monitor: monitor | black blue
curvy-monitor: monitor | black red white gray
high-performance-ram: ram | black gray
gaming-pc: desktop_computer | black green
hard-drive: hard_drive | gray green
clacky-keyboard: keyboard | white gray black
ethernet-cable: cable ethernet_cable | red
usb-cable: cable usb_cable | white
instant-camera: camera instant_camera | white
camera-lens: camera_lens | black
vintage-folding-camera: camera film_camera | black
tripod: tripod | black gray
instamatic-camera: camera film_camera | black gray
compact-digital-camera: camera compact_camera | black
nikkormat-slr-camera: camera film_camera dslr_camera | black
compact-slr-camera: camera dslr_camera | black
twin-lens-camera: camera film_camera | black
road-bike: bicycle road_bike | black
skipping-rope: skipping_rope | orange
boxing-gloves: boxing_gloves | red
tent: tent | yellow orange
cruiser-skateboard: skateboard | red
football: football ball soccer_ball | white
tennis-ball: tennis_ball ball | yellow green
basketball: basketball ball | orange brown
ultraboost-running-shoe: running_shoe sneaker shoe | blue pink
freerun-running-shoe: running_shoe sneaker shoe | black
hi-top-basketball-shoe: basketball_shoe sneaker shoe | white beige
pureboost-running-shoe: running_shoe sneaker shoe | black gray
runx-running-shoe: running_shoe sneaker shoe | black
allstar-sneakers: sneaker shoe | gray black brown
spiky-cactus: cactus plant house_plant | green brown orange
tulip-pot: flower plant plant_pot house_plant tulip | red yellow green orange
hanging-plant: hanging_plant plant house_plant | green
aloe-vera: plant house_plant succulent aloe_vera | green
fern-blechnum-gibbum: fern plant house_plant | green
assorted-succulents: succulent plant house_plant | green brown orange
orchid: orchid plant house_plant flower | pink purple red
bonsai-tree: bonsai plant house_plant | green
guardian-lion-statue: statue | gray
hand-trowel: garden_tool hand_trowel trowel | green blue
balloon-chair: chair | white pink yellow beige
grey-fabric-sofa: sofa | gray
leather-sofa: sofa | brown orange
light-shade: lamp_shade pendant_light | white
wooden-side-desk: desk side_table table console_table | brown beige
comfy-padded-chair: armchair chair | blue gray
black-eaves-chair: chair armchair | black
wooden-stool: stool bar_stool | white beige brown
bedside-table: bedside_table side_table table | white
modern-cafe-chair: cafe_chair chair | yellow gray white
"""
# the last step of Luma's category path → category ids any of which is right
LUMA_TRUTH = {
    "Hoodies & Sweatshirts": "hoodie sweatshirt sweater",
    "Bras & Tanks": "sports_bra bra tank_top crop_top",
    "Tees": "t_shirt long_sleeve_top polo_shirt",
    "Pants": "trousers joggers leggings",
    "Shorts": "shorts",
    "Jackets": "jacket windbreaker fleece_jacket track_jacket",
    "Tanks": "tank_top",
    "Watches": "watch smartwatch",
    "Bags": "bag backpack tote_bag messenger_bag gym_bag travel_bag",
}
LUMA_COLORS = {"lavender": "purple", "grey": "gray", "gray": "gray"}


@dataclass
class Case:
    """A photo with what is true of it; a category is right if it is one of `categories` or a kind above one."""

    item_id: str
    path: Path
    categories: tuple[str, ...] = ()
    colors: tuple[str, ...] = ()
    attributes: dict[str, list[str]] = field(default_factory=dict)

    def input(self, category: str | None = None) -> ExtractorInput:
        """The case without any words; nothing but the picture."""
        with Image.open(self.path) as image:
            return ExtractorInput(Item(self.item_id, ""), category, (image.convert("RGB"),), (None,))


def demo_cases() -> list[Case]:
    """The demo's photos with their truth."""
    pictures = {r["item_id"]: r for r in map(json.loads, (DEMO / "items.jsonl").read_text("utf-8").splitlines())}
    cases = []
    for line in DEMO_TRUTH.split("\n"):
        if line:
            item_id, rest = line.split(":")
            categories, colors = (tuple(part.split()) for part in rest.split("|"))
            row = pictures[item_id]
            image = row["images"][0] if row.get("images") else row["image"]
            cases.append(Case(item_id, DEMO / image, categories, colors))
    return cases


def luma_cases(folder: Path) -> list[Case]:
    """Luma's photos with their truth."""
    cases = []
    for row in map(json.loads, (folder / "items.jsonl").read_text("utf-8").splitlines()):
        categories = tuple(LUMA_TRUTH.get(row["category"].split("/")[-1], "").split())
        colors = tuple(LUMA_COLORS.get(c.lower(), c.lower()) for c in row["attributes"].get("color", ()))
        attributes = {
            "pattern": row["attributes"].get("pattern", []),
            "audience": [row["gender"]] if row["gender"] else [],
        }
        cases.append(Case(row["item_id"], folder / row["image"], categories, colors, attributes))
    return cases


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share; n is at least 1."""
    z, p = 1.959964, hits / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return ((middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n))


def show(name: str, hits: int, n: int, **more: Any) -> None:
    """One JSON line: a share with its interval."""
    if n == 0:
        print_json({"measure": name, "value": None, "low": None, "high": None, "n": 0, **more})
        return
    low, high = (round(x, 3) for x in wilson(hits, n))
    print_json({"measure": name, "value": round(hits / n, 3), "low": low, "high": high, "n": n, **more})


def bench_palette(name: str, cases: Sequence[Case], palette: Palette, knowledge: Knowledge) -> None:
    """Colour families: the largest one right, any right one found, and precision where it is confident."""
    cases = [c for c in cases if c.colors]
    inputs = [c.input(_known(c.categories, knowledge)) for c in cases]
    start = time.process_time()
    results = palette.extract(inputs)
    spent = time.process_time() - start
    first, near, anywhere, sure = 0, 0, 0, Counter[bool]()
    for case, result in zip(cases, results, strict=True):
        shares: Counter[str] = Counter()
        for a in result.attributes:
            shares[_family(a.value or "", knowledge)] += a.share or 0.0  # type: ignore[assignment]
        truth = {_family(c, knowledge) for c in case.colors}
        ranked = [family for family, _ in shares.most_common()]
        right = bool(ranked) and ranked[0] in truth
        first += right
        top = result.attributes[0].value if result.attributes else None
        near += right or any(kin(top, c, knowledge) for c in case.colors)
        anywhere += bool(truth & set(ranked))
        if result.attributes and result.attributes[0].confidence >= 0.5:
            sure[right] += 1
    show(f"{name}: palette, largest colour family right", first, len(cases))
    show(f"{name}: palette, largest colour of the family or a near one", near, len(cases))
    show(f"{name}: palette, a right colour family found", anywhere, len(cases))
    show(
        f"{name}: palette, precision at confidence 0.5",
        sure[True],
        sure.total(),
        coverage=round(sure.total() / len(cases), 3),
    )
    print_json({"measure": f"{name}: palette, pictures per second of CPU", "value": round(len(cases) / spent)})


def bench_category(name: str, cases: Sequence[Case], extractor: ZeroShot, knowledge: Knowledge) -> None:
    """Category from the picture alone, as far down the tree as the extractor dares."""
    cases = [c for c in cases if _known(c.categories, knowledge)]
    results = extractor.extract([c.input() for c in cases])
    _report(f"{name}: zero_shot category", cases, results, "category", lambda c, v: _below(c.categories, v, knowledge))


def bench_attributes(name: str, cases: Sequence[Case], extractor: ZeroShot, knowledge: Knowledge) -> None:
    """Attributes of the true category, against always saying the commonest value."""
    for attribute in sorted({a for c in cases for a in c.attributes}):
        some = [(c, _canonical(c, attribute, extractor, knowledge)) for c in cases if _known(c.categories, knowledge)]
        some = [(c, truth) for c, truth in some if truth]
        if not some:
            continue
        commonest, count = Counter(t for _, truth in some for t in truth).most_common(1)[0]
        show(f"{name}: {attribute}, always {commonest!r}", count, len(some))
        truths = {c.item_id: truth for c, truth in some}
        results = extractor.extract([c.input(_known(c.categories, knowledge)) for c, _ in some])
        right = [c for c, _ in some]
        _report(f"{name}: zero_shot {attribute}", right, results, attribute, lambda c, v: v in truths[c.item_id])  # noqa: B023


def _report(name: str, cases: Sequence[Case], results: Sequence[Extraction], attribute: str, right: Any) -> None:
    """Accuracy of the best guess, then precision and coverage where it speaks."""
    guesses = []
    for case, result in zip(cases, results, strict=True):
        found: AttributeValue | None = next((a for a in result.attributes if a.name == attribute), None)
        if found is not None:
            guess = found.value or found.evidence[0].value
            guesses.append((found.confidence, bool(right(case, guess)), found.status == "value"))
    spoken = [hit for _, hit, said in guesses if said]
    show(f"{name}, best guess right", sum(hit for _, hit, _ in guesses), len(cases))
    show(f"{name}, precision where it speaks", sum(spoken), len(spoken), coverage=round(len(spoken) / len(cases), 3))
    for share in (0.1, 0.25, 0.5):
        top = sorted(guesses, reverse=True)[: max(1, round(share * len(guesses)))]
        if top:
            hits = sum(hit for _, hit, _ in top)
            show(f"{name}, surest {share:.0%}", hits, len(top), threshold=round(top[-1][0], 3))


def _canonical(case: Case, attribute: str, extractor: ZeroShot, knowledge: Knowledge) -> set[str]:
    schema = extractor.schemas.for_category(_known(case.categories, knowledge), knowledge)
    values = set()
    for value in case.attributes.get(attribute, ()):
        try:
            values.add(str(check_value(schema.spec(attribute), value)))
        except InputError:
            continue
    return values


def _known(categories: Iterable[str], knowledge: Knowledge) -> str | None:
    return next((c for c in categories if c in knowledge.categories), None)


def _below(truth: Iterable[str], said: str | None, knowledge: Knowledge) -> bool:
    return said is not None and any(knowledge.is_a(t, said) for t in truth if t in knowledge.categories)


def _family(color: str, knowledge: Knowledge) -> str:
    entry = knowledge.colors.get(color) or knowledge.colors.get(color.replace("gray", "grey"))
    return (entry.family if entry else color).replace("grey", "gray")


def main(
    luma: Annotated[Path | None, typer.Option(help="The folder of the Luma data.")] = None,
    embedder: Annotated[str, typer.Option(help="The model of zero_shot, by address.")] = DEFAULT_EMBEDDER,
    raw: Annotated[
        bool, typer.Option("--raw", help="Let zero_shot answer every attribute, with its best guess.")
    ] = False,
) -> None:
    """Accuracy, coverage and rates of the picture extractors, as JSON lines."""
    knowledge, schemas = load_knowledge(), load_schemas()
    sets = {"demo": demo_cases()} | ({"luma": luma_cases(luma)} if luma else {})
    palette = Palette(knowledge)
    for name, cases in sets.items():
        bench_palette(name, cases, palette, knowledge)
    model = open_embedder(embedder)
    extractor = ZeroShot(model, schemas, knowledge, {"default": {"threshold": 0.0}} if raw else None)
    say(f"zero_shot: {model.name}, asked {', '.join(extractor.calibration) or 'everything'}")
    for name, cases in sets.items():
        bench_category(name, cases, extractor, knowledge)
        bench_attributes(name, cases, extractor, knowledge)
    again = [c.input(_known(c.categories, knowledge)) for c in sets["demo"]]
    start = time.process_time()
    extractor.extract(again)
    print_json(
        {"measure": "zero_shot, pictures per second of CPU", "value": round(54 / (time.process_time() - start), 1)}
    )


if __name__ == "__main__":
    run(command_app(main, "bench_extractors"))
