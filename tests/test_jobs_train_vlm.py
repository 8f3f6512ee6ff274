"""jobs.train_vlm: subjects, questions, the closed form, learning and measuring, on a model of 0.1 M random weights."""

from __future__ import annotations

import io
import json
import random
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from jobs.train_vlm import main
from jobs.vlm.card import BEGIN, END, figure_rows, update_card
from jobs.vlm.instructions import compact_prompt, instruction, reply_of, word_instruction
from jobs.vlm.subjects import Subject, read_subjects, value_of
from lore_mm.attribute import NOT_APPLICABLE, NOT_STATED
from lore_mm.console import command_app
from lore_mm.datasets.luma import test_parent as kept_for_testing
from lore_mm.errors import InputError, PlanError
from lore_mm.knowledge import load_knowledge
from lore_mm.schema import check_value, load_schemas

needs_train = pytest.mark.skipif(
    any(find_spec(m) is None for m in ("torch", "transformers", "peft", "num2words")), reason="needs hf and train"
)


def jpeg(color: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), color).save(file, "JPEG")
    return file.getvalue()


def write_clothing(folder: Path) -> Path:
    folder.mkdir()
    rows = [
        {"sender_id": str(i), "label": label, "kids": kids, "image_bytes": jpeg((6 * i, 10, 25 * len(label)))}
        for i in range(40)
        for label, kids in (("T-Shirt", "False"), ("Pants", "True"), ("Not sure", "False"))
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "items.parquet")
    return folder


def write_luma(folder: Path) -> Path:
    folder.mkdir()
    (folder / "attribute_schema.json").write_text("{}")
    rows = []
    for i in range(30):
        for color in ("Red", "Blue"):
            (folder / f"{i}{color}.jpg").write_bytes(jpeg((200 if color == "Red" else 0, 5 * i, 50)))
            rows.append(
                {
                    "item_id": f"P{i}-{color}",
                    "parent": f"P{i}",
                    "title": f"Ida {i} Hoodie",
                    "description": "Soft wool.\n- Machine wash.",
                    "category": "Women/Tops/Hoodies & Sweatshirts",
                    "gender": "Women",
                    "attributes": {
                        "color": [color],
                        "material": ["Wool", "Lycra&reg;"],
                        "pattern": ["Solid-Highlight"],
                    },
                    "image": f"{i}{color}.jpg",
                }
            )
    (folder / "items.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return folder


# subjects


def test_a_garment_means_what_its_label_means(tmp_path: Path) -> None:
    subjects = read_subjects(write_clothing(tmp_path / "clothing"))
    assert len(subjects) == 80  # "Not sure" is left out
    shirt, pants = subjects[:2]
    assert shirt.shown == {"category": "t_shirt", "sleeve_length": "short sleeve", "audience": "adults"}
    assert pants.shown == {"category": "trousers", "sleeve_length": NOT_APPLICABLE, "audience": "kids"}
    assert not shirt.told


def test_a_sender_is_never_parted(tmp_path: Path) -> None:
    subjects = read_subjects(write_clothing(tmp_path / "clothing"))
    parts: dict[str, set[str]] = {}
    for subject in subjects:
        parts.setdefault(subject.group, set()).add(subject.part)
    assert all(len(found) == 1 for found in parts.values())
    assert {part for found in parts.values() for part in found} == {"train", "validation", "test"}


def test_luma_tells_materials_only_where_its_words_do(tmp_path: Path) -> None:
    subjects = read_subjects(write_luma(tmp_path / "luma"))
    one = subjects[0]
    assert one.shown["color"] == ("red",)
    assert one.shown["pattern"] == "solid"
    assert one.shown["neckline"] == "hooded"
    assert one.told == {"category": "hoodie", "material": ("wool",)}  # no word of the Lycra in its record
    assert one.text == "Soft wool. Machine wash."
    for subject in subjects:
        assert (subject.part == "test") == kept_for_testing(subject.group)


def test_groceries_keep_the_late_photos_of_a_shelf(tmp_path: Path) -> None:
    rows = [
        {"photo": f"train/Kiwi/Kiwi_{i:03d}.jpg", "fine": "Kiwi", "coarse": "Kiwi", "image_bytes": jpeg((i, 90, 20))}
        for i in range(1, 21)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    rows = [{"photo": "val/Kiwi/Kiwi_001.jpg", "fine": "Kiwi", "coarse": "Kiwi", "image_bytes": jpeg((1, 2, 3))}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "val.parquet")
    (tmp_path / "items.jsonl").write_text('{"item_id": "Kiwi", "title": "Kiwi"}')
    subjects = read_subjects(tmp_path)
    assert [s.part for s in subjects] == ["train"] * 18 + ["validation"] * 2 + ["test"]
    assert subjects[0].shown["category"] == "kiwi"
    assert subjects[0].shown["color"] == ("brown",)
    assert subjects[0].title == "Kiwi"


def test_a_folder_of_something_else_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is none of: clothing"):
        read_subjects(tmp_path)


def test_a_word_has_one_legal_value() -> None:
    assert value_of("category", "tee shirt") == "t_shirt"
    assert value_of("category", "no such thing") is None


# questions


def test_the_compact_form_is_these_lines() -> None:
    assert compact_prompt(["color"]) == "Give as JSON: color"
    full = compact_prompt(["category", "color"], "Red mug", "Big.", "MUG")
    assert full == "Title: Red mug\nText: Big.\nOn the pack: MUG\nGive as JSON: category, color"
    assert reply_of({"color": ("red", "blue"), "brand": "Café"}) == '{"color": ["red", "blue"], "brand": "Café"}'


def subject(**settings: Any) -> Subject:
    known: dict[str, Any] = {
        "source": "luma", "picture": b"", "label": "hoodie", "group": "P1", "part": "train",
        "shown": {"category": "hoodie", "color": ("red",)},
        "told": {"category": "hoodie", "material": ("wool",)}, "title": "Ida Hoodie", "text": "Soft wool.",
    }  # fmt: skip
    return Subject(**known | settings)


def test_an_answer_says_no_more_than_what_is_to_be_seen() -> None:
    chance = random.Random(0)
    kinds = set()
    for _ in range(400):
        one = instruction(subject(), chance)
        said = json.loads(one.reply)
        asked = one.prompt.rpartition("Give as JSON: ")[2].split(", ")
        assert list(said) == asked
        if "material" in said:
            assert said["material"] == (["wool"] if "Text: Soft wool." in one.prompt else NOT_STATED)
        if "color" in said:
            assert said["color"] == (["red"] if one.pictured else NOT_STATED)
        if "price" in said:
            assert said["price"] == NOT_STATED
        kinds.add((one.pictured, "Title:" in one.prompt, "Text:" in one.prompt))
    assert kinds == {
        (True, False, False),
        (True, True, False),
        (True, True, True),
        (False, True, False),
        (False, True, True),
    }


def test_made_up_titles_have_legal_answers() -> None:
    knowledge, chance = load_knowledge(), random.Random(1)
    common = load_schemas().for_category(None, knowledge).specs
    for _ in range(200):
        one = word_instruction(chance)
        assert not one.pictured
        for name, value in json.loads(one.reply).items():
            for said in value if isinstance(value, list) else [value]:
                if said != NOT_STATED:
                    assert check_value(common[name], said) == said


def test_the_same_seed_asks_the_same() -> None:
    assert word_instruction(random.Random(7)) == word_instruction(random.Random(7))


# the closed form


@needs_train
def test_the_closed_form_finds_a_linear_map() -> None:
    import torch

    from jobs.vlm.closed_form import Moments, connector_of

    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(size=(40, 3, 5)), np.ones((40, 3, 1))], axis=2).astype(np.float16)
    features[:, 1:] = features[:, :1]  # the tokens of a picture alike, so that all can be right
    truth = torch.from_numpy(rng.normal(size=(6, 4)).astype(np.float32))
    targets = torch.from_numpy(features[:, 0].astype(np.float32)) @ truth
    moments = Moments.empty(6, 4)
    moments.add(features, targets)
    deviations = targets - targets.mean(dim=0)
    weight = connector_of(moments, targets, 1e-6, float((deviations**2).sum(dim=1).mean().sqrt()))
    assert torch.allclose(weight.T, truth, atol=0.01)
    doubled = connector_of(moments, targets, 1e-6, 2 * float((deviations**2).sum(dim=1).mean().sqrt()))
    out = torch.from_numpy(features[:, 0].astype(np.float32)) @ doubled.T
    assert torch.allclose(out - targets.mean(dim=0), 2 * deviations, atol=0.05)


@needs_train
def test_targets_are_the_words_weighted() -> None:
    import torch

    from jobs.vlm.closed_form import word_targets

    embeddings = torch.eye(3)

    def tokenizer(text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [{" t shirt": 0, " red": 1}[text]]}

    rows = word_targets([{"category": "t_shirt", "color": ("red",), "brand": NOT_STATED}], tokenizer, embeddings)
    assert torch.allclose(rows, torch.tensor([[1 / 1.6, 0.6 / 1.6, 0]]))


# learning


def tiny_model() -> tuple[Any, Any]:
    """SmolVLM as small as it goes, with 16 tokens a picture and every printable letter a token."""
    from lore_mm.models.torchvision_cpu import install

    install()
    import torch
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, SmolVLMConfig, SmolVLMForConditionalGeneration

    from lore_mm.models.vlm_tiny import _build_processor

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<global-img>", "<fake_token_around_image>"]
    letters = ["\n", *(chr(i) for i in range(32, 127))]
    words = Tokenizer(models.WordLevel({t: i for i, t in enumerate([*special, *letters])}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.Split(Regex("[\\s\\S]"), "isolated")
    names = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, additional_special_tokens=special[3:], **names)
    torch.manual_seed(0)
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text |= {"num_key_value_heads": 1, "vocab_size": 102, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    seen = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    seen |= {"image_size": 224, "patch_size": 14}
    config = SmolVLMConfig(text_config={"model_type": "llama", **text}, vision_config=seen, scale_factor=4,
                           image_token_id=3, pad_token_id=0, tie_word_embeddings=True)  # fmt: skip
    return SmolVLMForConditionalGeneration(config).float().eval(), _build_processor(tokenizer)


@pytest.fixture
def learner() -> Any:
    from jobs.vlm.learner import Learner

    return Learner(*tiny_model())


def seen_of(model: Any, processor: Any, folder: Path, kept: Path) -> Any:
    from jobs.vlm.features import Tower
    from jobs.vlm.fit import Seen

    subjects = read_subjects(folder)
    return Seen(subjects, Tower(model, processor, kept).pictures("them", [s.picture for s in subjects]))


@needs_train
def test_features_are_made_once_and_damaged_ones_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from jobs.vlm.features import Tower

    monkeypatch.setattr("jobs.vlm.features._PIECE", 4)
    tower = Tower(*tiny_model(), tmp_path)
    pictures = [jpeg((40 * i, 0, 0)) for i in range(6)]
    made = tower.pictures("them", pictures)
    assert made.shape == (6, 16, 128)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 2
    files[0].write_bytes(b"half")
    files[1].touch()
    again = tower.pictures("them", pictures, backwards=True)
    assert np.array_equal(made, again)
    single = tower.pictures("one", pictures[3:4])
    assert np.allclose(single[0].astype(float), made[3].astype(float), atol=2e-3)


@needs_train
def test_the_loss_is_of_the_reply_alone(learner: Any) -> None:
    import torch

    from jobs.vlm.instructions import Instruction

    features = np.random.default_rng(0).normal(size=(16, 128)).astype(np.float16)
    long = learner.encode(Instruction(True, "Give as JSON: a", '{"a": "b"}'), features)
    short = learner.encode(Instruction(False, "Give as JSON: a", '{"a": "b"}'), None)
    assert len(long.ids) - long.start == len('{"a": "b"}') + 1  # and the end of the turn
    assert len(long.ids) - len(short.ids) == 16 + 3
    together = learner.loss([long, short])
    apart = (learner.loss([long]) + learner.loss([short])) / 2
    assert torch.allclose(together, apart, atol=1e-5)  # padding and neighbours change nothing
    other = learner.encode(Instruction(True, "Give as JSON: a", '{"a": "b"}'), features + 1)
    assert not torch.allclose(learner.loss([long]), learner.loss([other]))  # the picture does


@needs_train
def test_a_held_choice_is_the_likeliest_token_by_token(learner: Any) -> None:
    import torch

    from jobs.vlm.instructions import Instruction

    replies = ['{"a": "xy"}', '{"a": "xz"}', '{"a": "b"}', '{"a": "not_stated"}']
    example = learner.encode(Instruction(False, "Give as JSON: a", replies[0]), None)
    alive, said = replies, '{"a": "'
    while len(alive) > 1:  # the slow way: no cache, one forward a letter
        one = learner.encode(Instruction(False, "Give as JSON: a", said), None)
        with torch.inference_mode():
            logits = learner.logits([one])[0][len(said)]
        legal = sorted({text[len(said)] for text in alive})
        best = max(legal, key=lambda letter: float(logits[learner.tokenizer.convert_tokens_to_ids(letter)]))
        said += best
        alive = [text for text in alive if text.startswith(said)]
    assert [replies[i] for i in learner.choose([example, example], replies)] == alive * 2


@needs_train
@pytest.mark.filterwarnings("ignore:Could not find a config file:UserWarning")
def test_what_is_kept_is_taken_up_again(learner: Any, tmp_path: Path) -> None:
    import torch

    from jobs.vlm.learner import Learner

    with torch.no_grad():
        for _, parameter in learner.trained():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    learner.save(tmp_path, torch.float32)
    other = Learner(*tiny_model())
    other.load(tmp_path)
    for (name, mine), (same, theirs) in zip(learner.trained(), other.trained(), strict=True):
        assert name == same
        assert torch.equal(mine, theirs)
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (settings["r"], settings["lora_alpha"]) == (16, 32)


@needs_train
@pytest.mark.filterwarnings("ignore:Could not find a config file:UserWarning")
def test_training_goes_on_and_refuses_other_settings(tmp_path: Path) -> None:
    from jobs.vlm.fit import Recipe, fit
    from jobs.vlm.learner import Learner

    model, processor = tiny_model()
    seen = seen_of(model, processor, write_clothing(tmp_path / "clothing"), tmp_path / "kept")
    recipe = Recipe(minutes=0.05, batch=4, pool=2, warm_up=2, connector_rate=3e-3, lora_rate=1e-2, words=0.0)
    made = fit(Learner(model, processor), seen, recipe, tmp_path / "checkpoint")
    assert made["steps"] > 2
    assert made["examples"] == 4 * made["steps"]
    state = json.loads((tmp_path / "checkpoint" / "state.json").read_text())
    assert state["step"] == made["steps"]
    assert not (tmp_path / "checkpoint.partial").exists()
    again = fit(Learner(*tiny_model()), seen, recipe, tmp_path / "checkpoint")
    assert again["steps"] == made["steps"]  # its time was used up already
    longer = fit(Learner(*tiny_model()), seen, replace(recipe, minutes=0.08), tmp_path / "checkpoint")
    assert longer["steps"] > made["steps"]
    with pytest.raises(PlanError, match="a training with other settings"):
        fit(Learner(*tiny_model()), seen, replace(recipe, seed=1), tmp_path / "checkpoint")
    (tmp_path / "checkpoint").rename(tmp_path / "checkpoint.partial")  # killed between the two renames
    again = fit(Learner(*tiny_model()), seen, replace(recipe, minutes=0.08), tmp_path / "checkpoint")
    assert again["steps"] == longer["steps"]


@needs_train
def test_steps_move_the_connector_first_then_both(learner: Any, tmp_path: Path) -> None:
    import torch

    from jobs.vlm.fit import Recipe, _State
    from jobs.vlm.instructions import Instruction

    features = np.random.default_rng(0).normal(size=(16, 128)).astype(np.float16)
    batch = [learner.encode(Instruction(True, "Give as JSON: a", '{"a": "b"}'), features)]
    settings = Recipe(warm_up=1, connector_alone=0.1, connector_rate=3e-3, lora_rate=3e-2)
    state = _State(learner, settings, tmp_path / "checkpoint")
    start = {name: p.detach().clone() for name, p in learner.trained()}
    state.learn(batch, 0.05)
    moved = {name for name, p in state.named if not torch.equal(p, start[name])}
    assert moved == {"connector.weight"}
    before = float(learner.loss(batch).detach())
    for _ in range(40):
        state.learn(batch, 0.5)
    moved = {name for name, p in state.named if not torch.equal(p, start[name])}
    assert moved == set(start)
    assert float(learner.loss(batch).detach()) < before - 0.2  # tied random embeddings allow no more


@needs_train
def test_a_model_that_knows_is_told_from_one_that_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures are right where the choices are known: the truth by the picture, the commonest without it."""
    from jobs.vlm.learner import Learner
    from jobs.vlm.measure import measure

    model, processor = tiny_model()
    seen = seen_of(model, processor, write_clothing(tmp_path / "clothing"), tmp_path / "kept")
    known = {f.tobytes(): s for s, f in zip(seen.subjects, seen.features, strict=True)}

    class Knows(Learner):
        def choose(self, questions: Any, replies: Any, size: int = 16) -> list[int]:
            name = next(iter(json.loads(replies[0])))
            return [replies.index(reply_of({name: known[q.features.tobytes()].shown[name]})) for q in questions]

        def right_replies(self, examples: Any, size: int = 16) -> Any:
            return np.zeros(len(examples), dtype=np.bool_)

    monkeypatch.setattr("jobs.vlm.measure._LEAST", 2)
    row = measure(Knows(model, processor), seen, None, limit=100)["clothing"]["category"]
    test = [s.shown["category"] for s in seen.subjects if s.part == "test"]
    assert row["n"] == len(test)
    assert row["systems"]["picture"]["value"] == 1.0
    assert row["systems"]["picture, free"]["value"] == 0.0
    assert row["systems"]["shuffled"]["value"] < 1.0
    common = [s.shown["category"] for s in seen.subjects if s.part == "train"]
    most = max(sorted(set(common)), key=common.count)
    assert row["systems"]["majority"]["value"] == pytest.approx(test.count(most) / len(test), abs=1e-4)
    assert "title only" not in row["systems"]


# the card and the command


def test_the_card_keeps_its_words(tmp_path: Path) -> None:
    figure = {"value": 0.5, "low": 0.25, "high": 0.75, "n": 8}
    metrics = {"luma": {"color": {"n": 8, "options": 3, "systems": {"picture": figure}}}}
    card = tmp_path / "README.md"
    card.write_text(f"# Card\n{BEGIN}\nold\n{END}\nafter\n")
    update_card(card, metrics)
    text = card.read_text()
    assert "old" not in text
    assert text.startswith("# Card\n")
    assert text.endswith("after\n")
    assert "| luma | color | 8 | 3 | 0.50 [0.25, 0.75] | – |" in text
    assert len(list(figure_rows(metrics))) == 1


def test_wrong_starts_are_one_line(tmp_path: Path) -> None:
    app = command_app(main, "python -m jobs.train_vlm")
    result = CliRunner().invoke(app, ["--data", str(tmp_path), "--start", str(tmp_path)])
    assert isinstance(result.exception, InputError)
    assert "no folder of trained weights" in str(result.exception)
