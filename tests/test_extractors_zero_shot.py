from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from extractors.protocol import ExtractorInput
from extractors.zero_shot import ZeroShot
from lore_mm.errors import ModelError
from lore_mm.knowledge import Category, Knowledge
from lore_mm.models import open_embedder
from lore_mm.models.scripted import ScriptedEmbedder
from lore_mm.schema import load_schemas
from lore_mm.types import Item

KNOWLEDGE = Knowledge(
    categories=[
        Category(id="clothing", name="clothing", department="fashion", generic=True),
        Category(id="dress", name="dress", terms=("gown",), parent="clothing"),
        Category(id="shirt", name="shirt", parent="clothing"),
        Category(id="furniture", name="furniture", department="furniture", generic=True),
        Category(id="chair", name="chair", parent="furniture"),
        Category(id="seating", name="sofa", terms=("couch",), parent="furniture"),
    ]
)
SCHEMAS = load_schemas()


def zero_shot(embedder=None, **calibration):
    return ZeroShot(embedder or open_embedder("scripted:0"), SCHEMAS, KNOWLEDGE, calibration)


def picture(word, seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    image.info["word"] = word
    return image


def thing(*pictures, category=None, errors=()):
    return ExtractorInput(Item("a", "thing"), category, pictures, errors or (None,) * len(pictures))


def of(extraction, name):
    return next((a for a in extraction.attributes if a.name == name), None)


def test_the_value_whose_words_the_picture_is_near_to():
    extractor = zero_shot(neckline={"temperature": 0.03})
    (result,) = extractor.extract([thing(picture("turtleneck"), category="dress")])
    neckline = of(result, "neckline")
    assert (neckline.value, neckline.status, neckline.dimension) == ("turtleneck", "value", "style_detail")
    assert neckline.extractor == "zero_shot"
    assert neckline.confidence > 0.6
    (evidence,) = neckline.evidence
    assert (evidence.source, evidence.value, evidence.confidence) == ("image:0", "turtleneck", neckline.confidence)


def test_confidence_is_a_softmax_over_the_legal_values_at_the_temperature():
    extractor = zero_shot(sleeve_length={"temperature": 0.2, "threshold": 0.0})
    image = picture("sleeveless", seed=5)
    (result,) = extractor.extract([thing(image, category="dress")])
    spec = SCHEMAS.for_category("dress", KNOWLEDGE).spec("sleeve_length")
    embedder = open_embedder("scripted:0")
    logits = []
    for value, words in spec.values.items():
        texts = [p.format(thing="garment", value=w) for p in spec.prompts[:2] for w in (value, *words)[:3]]
        mean = embedder.embed_texts(texts).sum(axis=0)
        logits.append(float(embedder.embed_images([image])[0] @ mean / np.linalg.norm(mean)) / 0.2)
    shares = np.exp(logits) / np.exp(logits).sum()
    sleeves = of(result, "sleeve_length")
    assert sleeves.value == list(spec.values)[int(np.argmax(shares))] == "sleeveless"
    assert sleeves.confidence == pytest.approx(shares.max(), rel=1e-5)


def test_below_the_threshold_it_abstains_and_keeps_its_confidence():
    extractor = zero_shot(default={"threshold": 0.99})
    (result,) = extractor.extract([thing(picture("turtleneck"), category="dress")])
    neckline = of(result, "neckline")
    assert (neckline.value, neckline.status) == (None, "not_stated")
    assert 0 < neckline.confidence < 0.99
    assert neckline.evidence[0].value == "turtleneck"


def test_an_attribute_the_model_is_no_judge_of_is_not_asked():
    class Counting(ScriptedEmbedder):
        texts = 0

        def embed_texts(self, texts):
            self.texts += len(texts)
            return super().embed_texts(texts)

    embedder = Counting(0)
    (result,) = zero_shot(embedder, default={"threshold": 2}).extract([thing(picture("chair"), category="chair")])
    assert (result.status, result.attributes, embedder.texts) == ("ok", (), 0)


def test_texts_are_embedded_once():
    class Counting(ScriptedEmbedder):
        def __init__(self, seed):
            super().__init__(seed)
            self.seen = []

        def embed_texts(self, texts):
            self.seen.extend(texts)
            return super().embed_texts(texts)

    embedder = Counting(0)
    extractor = zero_shot(embedder)
    batch = [
        thing(picture("chair"), category="chair"),
        thing(picture("dress"), category="dress"),
        thing(picture("sofa")),
    ]
    first, second = extractor.extract(batch), extractor.extract(batch)
    assert first == second
    assert len(embedder.seen) == len(set(embedder.seen)) > 0


class Told:
    """An embedder whose category probabilities are told: a text's vector is the axis of the category it names, a
    picture's the logarithms of the probabilities, and at `temperature` their softmax is exactly what was told."""

    name, width, sha = "told", len(KNOWLEDGE.categories) + 1, "told"

    def __init__(self, **shares):
        self.logs = np.log(np.array([shares.get(c, 0.001) for c in KNOWLEDGE.categories] + [1e-9]))
        self.temperature = float(1 / np.linalg.norm(self.logs))

    def embed_images(self, images):
        return np.stack([self.logs * self.temperature] * len(images)).astype(np.float32)

    def embed_texts(self, texts):
        words = [(c.name, *c.terms) for c in KNOWLEDGE.categories.values()]
        place = [next((i for i, w in enumerate(words) if any(x in t for x in w)), len(words)) for t in texts]
        return np.eye(self.width, dtype=np.float32)[place]


@pytest.mark.parametrize(
    ("shares", "category", "confidence"),
    [
        ({"chair": 0.6, "seating": 0.3, "dress": 0.1}, "chair", 0.6),
        # neither chair nor sofa is sure enough, but furniture it is: 0.45 + 0.45 + 0.02
        ({"chair": 0.45, "seating": 0.45, "furniture": 0.02, "dress": 0.08}, "furniture", 0.92),
    ],
)
def test_a_missing_category_is_the_narrowest_kind_that_is_sure_enough(shares, category, confidence):
    embedder = Told(**shares)
    extractor = zero_shot(embedder, category={"temperature": embedder.temperature, "threshold": 0.5})
    (result,) = extractor.extract([thing(picture("x"))])
    assert result.category == of(result, "category").value == category
    assert of(result, "category").confidence == pytest.approx(confidence, abs=0.01)


def test_the_attributes_of_the_kind_that_was_found_are_asked():
    embedder = Told(seating=0.9, dress=0.1)
    extractor = zero_shot(embedder, category={"temperature": embedder.temperature, "threshold": 0.5})
    (result,) = extractor.extract([thing(picture("x"))])
    assert of(result, "upholstery") is not None
    assert of(result, "neckline") is None


def test_an_unsure_category_is_not_stated_and_only_common_attributes_are_asked():
    (result,) = zero_shot(category={"threshold": 0.999}).extract([thing(picture("a photo of a sofa"))])
    category = of(result, "category")
    assert (result.category, category.value, category.status) == (None, None, "not_stated")
    assert of(result, "upholstery") is None and of(result, "pattern") is not None


def test_a_given_category_is_kept_and_colour_is_left_to_the_palette():
    (result,) = zero_shot().extract([thing(picture("chair"), category="dress")])
    assert result.category == "dress"
    assert of(result, "category") is None
    assert of(result, "color") is None


def test_several_pictures_count_together_and_the_best_one_is_the_evidence():
    pictures = (picture("something else"), None, picture("turtleneck", 1), picture("turtleneck dress", 2))
    (result,) = zero_shot().extract([thing(*pictures, category="dress", errors=(None, "truncated", None, None))])
    neckline = of(result, "neckline")
    assert neckline.value or neckline.evidence[0].value == "turtleneck"
    assert neckline.evidence[0].source in ("image:2", "image:3")


def test_row_law_whatever_the_pictures():
    class Picky(ScriptedEmbedder):
        def embed_images(self, images):
            if any(image.width == 5 for image in images):
                raise ValueError("cannot read 5")
            return super().embed_images(images)

    inputs = [
        thing(picture("turtleneck"), category="dress"),
        thing(),
        thing(None, category="chair", errors=("truncated",)),
        thing(Image.new("RGB", (5, 5)), category="chair"),
        thing(picture("turtleneck", 9), category="shirt"),
    ]
    results = zero_shot(Picky(0)).extract(inputs)
    assert [(r.status, r.error, r.category) for r in results] == [
        ("ok", None, "dress"),
        ("skipped", "no picture", None),
        ("failed", "truncated", "chair"),
        ("failed", "picture 0: ValueError: cannot read 5", "chair"),
        ("ok", None, "shirt"),
    ]
    alone = zero_shot(Picky(0)).extract(inputs[4:])
    assert [a.value for a in alone[0].attributes] == [a.value for a in results[4].attributes]
    assert zero_shot().extract([]) == []


def test_a_dead_engine_is_not_one_rows_failure():
    class Dead(ScriptedEmbedder):
        def embed_images(self, images):
            raise ModelError("gone")

    with pytest.raises(ModelError):
        zero_shot(Dead(0)).extract([thing(picture("x"))])


def test_the_card_of_the_model_names_what_it_is_asked_and_the_sha_follows_it():
    embedder = open_embedder("scripted:0")
    embedder.calibration = {"default": {"threshold": 0.1}, "neckline": {"threshold": 0.0, "precision": 0.8}}
    quiet = ZeroShot(embedder, SCHEMAS, KNOWLEDGE)
    (result,) = quiet.extract([thing(picture("turtleneck"), category="dress")])
    assert [(a.name, a.value) for a in result.attributes] == [("neckline", "turtleneck")]
    assert quiet.sha != zero_shot().sha == zero_shot().sha
    assert zero_shot(open_embedder("scripted:1")).sha != zero_shot().sha


@pytest.mark.weights
def test_the_embedded_model_tells_a_few_kinds_of_real_photos_apart():
    kinds = Knowledge(categories=[Category(id=k, name=k) for k in ("shoe", "chair", "camera", "plant")])
    truth = {
        "shoe": ["freerun-running-shoe", "runx-running-shoe", "hi-top-basketball-shoe", "allstar-sneakers"],
        "chair": ["comfy-padded-chair", "black-eaves-chair", "modern-cafe-chair"],
        "camera": ["instant-camera", "twin-lens-camera", "vintage-folding-camera", "instamatic-camera"],
        "plant": ["spiky-cactus", "aloe-vera", "hanging-plant", "bonsai-tree"],
    }
    folder = Path(__file__).parent.parent / "examples" / "demo" / "images"
    photos = [
        (kind, Image.open(folder / f"{name}.jpg").convert("RGB")) for kind, names in truth.items() for name in names
    ]
    extractor = ZeroShot(open_embedder(), SCHEMAS, kinds, {"category": {"threshold": 0.0}, "default": {"threshold": 2}})
    results = extractor.extract([thing(photo) for _, photo in photos])
    right = [result.category == kind for (kind, _), result in zip(photos, results, strict=True)]
    assert sum(right) / len(right) >= 0.7  # chance: 0.27
    assert all(0.25 <= of(r, "category").confidence <= 1 for r in results)
