"""lore sft: config, lessons, the curriculum on tiny random models, what is left out, what is refused, going on."""

import json
import math
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from lore_mm.console import command_app
from lore_mm.errors import ConfigError, InputError, ModelError, PlanError
from lore_mm.types import Judgment, MatchPath
from relevance.chain import read_chain
from relevance.training.config import Lora, SftConfig, Step, load_config
from relevance.training.rows import chain_at, chains_table, completion, depths_of
from tests.chain_rows import many

if any(find_spec(name) is None for name in ("torch", "transformers", "trl", "peft", "datasets", "accelerate")):
    pytest.skip("needs the extra train", allow_module_level=True)

EXAMPLE = Path("relevance/training/configs/smollm2-sft.toml")


def chains(count, **others):
    """Rows with a chain at every depth; the first four are dev."""
    made = []
    for place, row in enumerate(many(count)):
        chain = chain_at(row)
        depths = depths_of(Judgment("", "", chain.grade, path=MatchPath("", "", chain.legs)))
        made.append(replace(row, split="dev" if place < 4 else "train", **depths, **others))
    return made


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory):
    from tests.tiny_models import tiny_text

    return tiny_text(tmp_path_factory.mktemp("models") / "tiny-qwen3")


@pytest.fixture(scope="module")
def opened(text_folder):
    from relevance.training.model import open_model

    return open_model(str(text_folder), lora=Lora(r=4, alpha=8))


def config(model, out, **others):
    settings = {
        "model": str(model),
        "rows": ["rows.parquet"],
        "out": str(out),
        "lora": {"r": 4, "alpha": 8},
        "batch": 4,
        "learning_rate": 1e-2,
        "warmup": 0.0,
        "log_every": 1,
        "save_every": 2,
        "max_length": 512,
        "device": "cpu",
        "dev": {"rows": 2, "samples": 2, "max_tokens": 8, "resamples": 10},
    }
    if others.get("full"):
        del settings["lora"]
    return SftConfig.model_validate(settings | others)


def run(*arguments):
    from relevance.training.sft_run import run_sft

    return run_sft(*arguments)


# --------------------------------------------------------------------------------------------------------- the config


def test_the_example_is_legal_and_can_be_set_over():
    found = load_config(SftConfig, EXAMPLE, ["lora.r=8", "steps=['rules']", "order=answer_first"], "elsewhere")
    assert (found.model, found.lora.r, found.out, found.order) == ("smollm2-135m", 8, "elsewhere", "answer_first")
    assert found.steps == (Step(depth="rules"),)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("learning_rat=1", "no setting 'learning_rat', did you mean 'learning_rate'?"),
        ("lora.rank=3", "no setting 'lora.rank'; legal: r, alpha, dropout, targets"),
        ("lora.r=0", "lora.r: Input should be greater than or equal to 1"),
        ("steps=['rule']", "'knowledge', 'multimodal' or 'rules'"),
        ("steps=['rules', 'rules']", "every step stands once"),
        ("full=true", "give one of them"),
        ("order=first", "'think_first' or 'answer_first'"),
        ("batch", "legal is KEY=VALUE"),
        ("model.name=x", "model is no table"),
        ("out=''", "nothing says where to write"),
    ],
)
def test_a_setting_that_is_wrong_is_told_with_what_is_right(setting, said):
    with pytest.raises(ConfigError) as error:
        load_config(SftConfig, EXAMPLE, [setting])
    assert said in str(error.value)


def test_a_config_that_cannot_be_read(tmp_path):
    (tmp_path / "bad.toml").write_text("model = ")
    for name, said in (("none.toml", "cannot be read"), ("bad.toml", "not TOML")):
        with pytest.raises(ConfigError, match=said):
            load_config(SftConfig, tmp_path / name)


# --------------------------------------------------------------------------------------------------------- the lessons


def test_a_lesson_is_the_prompt_a_judge_would_send_and_the_answer_it_would_read(opened, tmp_path):
    from lore_mm.models.chat import ChatRequest
    from lore_mm.models.hf_checkpoint import Checkpoint
    from relevance.training.lessons import IGNORED, Teller, make_lessons

    row, settings = chains(8)[6], config(opened.name, tmp_path)
    teller = Teller(opened, settings)
    lessons = make_lessons([row], "multimodal", teller, settings)
    (lesson,) = lessons.dataset
    asked = [token for token, label in zip(lesson["input_ids"], lesson["labels"], strict=True) if label == IGNORED]
    learned = [label for label in lesson["labels"] if label != IGNORED]
    assert learned == lesson["input_ids"][len(asked) :]
    assert len(lesson["input_ids"]) == lessons.lengths[0]
    request = ChatRequest((row.prompt,), row.system)
    with_as = Checkpoint.written.__get__(_Written(opened.tokenizer))(request)
    assert opened.tokenizer.decode(asked) == with_as
    text = opened.tokenizer.decode(learned)
    assert text == completion(row, "multimodal") + "<|im_end|>"
    assert read_chain(text.removesuffix("<|im_end|>")).depth == "multimodal"


class _Written:
    """As much of a checkpoint as writes a request."""

    def __init__(self, tokenizer):
        self.tokenizer, self.processor, self._template = tokenizer, None, tokenizer.chat_template

    def _content(self, parts):
        return "\n".join(parts)


def test_an_answer_may_stand_before_the_thinking(opened, tmp_path):
    from relevance.training.lessons import Teller

    settings = config(opened.name, tmp_path, order="answer_first", cite=True)
    said = Teller(opened, settings).answer(chains(3)[2], "rules", settings)
    assert said.startswith("grade L2 [color]\n<think>") and "color.other\n</think><|im_end|>" in said


def test_the_end_of_a_turn_is_the_templates(opened):
    from relevance.training.lessons import turn_end

    assert turn_end(opened.tokenizer) == "<|im_end|>"
    other = (
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] }}{% if loop.last %}<|pad|>{% endif %}{% endfor %}"
    )
    assert turn_end(opened.tokenizer, other) == "<|pad|>"
    bare = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    assert turn_end(opened.tokenizer, bare) == "<|im_end|>"  # the tokenizer's own


def test_rows_that_cannot_be_taught_are_left_out_and_told(opened, tmp_path):
    from relevance.training.lessons import Teller, make_lessons

    good, long, bare, failed = chains(4)
    long = replace(long, prompt=long.prompt + "\nwhite" * 300)
    rows = [good, long, replace(bare, rules=""), replace(failed, status="failed", error="no reply")]
    settings = config(opened.name, tmp_path)
    lessons = make_lessons(rows, "rules", Teller(opened, settings), settings)
    assert lessons.rows == (good,)
    assert lessons.told() == {"length": 1, "chain": 2}
    tokens = len(opened.tokenizer(completion(long), add_special_tokens=False)["input_ids"])
    assert tokens < 512 and [one.why for one in lessons.left_out][1:] == ["the row has no chain", "no reply"]
    assert lessons.left_out[0].why.endswith("tokens, max_length is 512")
    with pytest.raises(InputError, match=r"q0 – navy1: .* tokens, max_length is 512"):
        make_lessons(rows, "rules", Teller(opened, settings), config(opened.name, tmp_path, strict=True))
    with pytest.raises(InputError, match=r"of 1 rows none can be taught, the first because: .* tokens"):
        make_lessons([long], "rules", Teller(opened, settings), settings)


# ------------------------------------------------------------------------------------------------------ the curriculum


@pytest.fixture(scope="module")
def trained(text_folder, tmp_path_factory):
    """A whole run: its config, rows, folder and metrics."""
    out = tmp_path_factory.mktemp("sft") / "out"
    rows = [*chains(24), replace(chains(25)[24], rules="", query_id="empty")]
    settings = config(text_folder, out, dev={"rows": 2, "samples": 2, "max_tokens": 8, "resamples": 10, "every": 2})
    return settings, rows, out, run(settings, rows)


def lines(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_every_stage_of_the_curriculum_is_kept(trained):
    from safetensors.torch import load_file

    settings, _, out, metrics = trained
    assert list(metrics["stages"]) == ["knowledge", "multimodal", "rules"]
    assert all((s["steps"], s["rows"], s["left_out"]) == (5, 20, {"chain": 1}) for s in metrics["stages"].values())
    assert metrics["rows"] == {"train": 21, "dev": 2}
    assert metrics == json.loads((out / "metrics.json").read_text())
    kept = [load_file(out / name / "adapter_model.safetensors") for name in (*metrics["stages"], ".")]
    assert all((kept[0][name] != kept[1][name]).any() and (kept[1][name] != kept[2][name]).any() for name in kept[0])
    assert all((kept[2][name] == kept[3][name]).all() for name in kept[2])
    assert not (out / "checkpoints").exists()
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == settings.model
    left = [json.loads(line) for line in (out / "left-out.jsonl").read_text().splitlines()]
    assert [(one["stage"], one["query_id"], one["kind"]) for one in left] == [
        (depth, "empty", "chain") for depth in metrics["stages"]
    ]


def test_the_manifest_says_what_was_trained_on_what(trained):
    settings, _, out, metrics = trained
    said = json.loads((out / "multimodal" / "manifest.json").read_text())
    assert (said["kind"], said["base"], said["base_sha"]) == ("adapter", settings.model, metrics["base_sha"])
    assert (said["depth"], said["order"], said["cite"], said["grammar"]) == ("multimodal", "think_first", False, 1)
    assert said["settings"]["learning_rate"] == 0.01


def test_the_log_has_every_step_and_what_was_measured(trained):
    _, _, out, metrics = trained
    found = lines(out)
    steps = [(one["stage"], one["step"]) for one in found if "loss" in one]
    assert steps == [(depth, n) for depth in metrics["stages"] for n in range(1, 6)]
    assert {one["step"] for one in found if "acc_4" in one} == {2, 4, 5}
    losses = [one["loss"] for one in found if one.get("stage") == "knowledge" and "loss" in one]
    assert losses[0] > 6 > losses[-1]  # from no knowledge at all: the logarithm of 380 tokens
    for one in found:
        if "loss" in one:
            assert one["tokens_per_s"] > 0 and one["learning_rate"] <= 0.01 and 0 <= one["token_accuracy"] <= 1
        else:
            low, high = one["intervals"]["acc_4"]
            assert 0 <= low <= one["acc_4"] <= high <= 1 and one["dev_rows"] == 2 and "macro_f1" in one
    assert metrics["stages"]["rules"]["loss"] == [one["loss"] for one in found if "loss" in one][-1]


def test_the_same_command_has_nothing_left_to_do(trained):
    settings, rows, out, metrics = trained
    before = (out / "log.jsonl").read_text()
    again = run(settings, rows)
    assert again["stages"] == metrics["stages"]
    assert (out / "log.jsonl").read_text() == before


def test_another_run_is_refused_by_name(trained, tiny_vlm_folder):
    settings, rows, out, _ = trained
    others = {
        "learning_rate: 0.01 there, 0.5 now": (settings.model_copy(update={"learning_rate": 0.5}), rows),
        "rows_sha": (settings, rows[:-2]),
        "model_sha": (settings.model_copy(update={"model": str(tiny_vlm_folder)}), rows),
        'order: "think_first" there, "answer_first" now': (settings.model_copy(update={"order": "answer_first"}), rows),
    }
    for said, (other, its) in others.items():
        with pytest.raises(PlanError) as error:
            run(other, its)
        assert said in str(error.value) and str(out) in str(error.value)
    run(settings.model_copy(update={"log_every": 3, "device": "auto"}), rows)  # what moves no weight may change


def test_an_adapter_is_gone_on_from_or_merged(trained, text_folder):
    import torch

    from relevance.training.model import as_chat, model_sha, open_model

    _, rows, out, _ = trained
    adapted, merged, base = (
        open_model(str(out)),
        open_model(str(out), full=True),
        open_model(str(text_folder), full=True),
    )
    assert adapted.base == str(text_folder) and adapted.sha == model_sha(str(out)) != adapted.base_sha
    assert adapted.base_sha == model_sha(str(text_folder)) == base.sha
    assert sum(p.numel() for p in adapted.model.parameters() if p.requires_grad) < 20_000
    assert all(p.requires_grad for p in merged.model.parameters())
    ids = torch.tensor([adapted.tokenizer(rows[4].prompt)["input_ids"]])
    with torch.no_grad():
        one, two, three = (m.model(input_ids=ids).logits for m in (adapted, merged, base))
    assert torch.allclose(one, two, atol=1e-4) and not torch.allclose(one, three, atol=1e-1)
    with as_chat(adapted) as chat:
        assert chat.name == "training"


def test_an_adapter_of_another_base_is_refused(trained, tmp_path):
    from relevance.training.model import open_model

    _, _, out, _ = trained
    other = tmp_path / "other"
    other.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (other / name).write_bytes((out / name).read_bytes())
    said = json.loads((out / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps(said | {"base_sha": "0" * 64}))
    with pytest.raises(ModelError, match=r"was trained on .* 000000000000, and"):
        open_model(str(other))
    (other / "manifest.json").write_text("{}")
    with pytest.raises(ModelError, match="does not say what it was trained on"):
        open_model(str(other))


def test_measuring_leaves_the_model_as_it_was(opened):
    from lore_mm.models.chat import ChatRequest
    from relevance.training.model import as_chat

    base = opened.model.get_base_model()
    opened.model.train()
    before = base.generation_config, opened.tokenizer.padding_side, opened.tokenizer.model_max_length
    with as_chat(opened) as chat:
        reply = chat.generate([ChatRequest(("blue",), max_tokens=4)])[0]
        assert not base.training and reply.error is None
    assert (base.generation_config, opened.tokenizer.padding_side, opened.tokenizer.model_max_length) == before
    assert opened.model.training


def test_a_killed_run_goes_on_and_ends_the_same(trained, text_folder, tmp_path, monkeypatch):
    from safetensors.torch import load_file

    from relevance.training.log import Telling

    settings, rows, out, _ = trained
    other = settings.model_copy(update={"out": str(tmp_path / "out")})
    step_end = Telling.on_step_end

    def killed(self, args, state, control, **named):
        step_end(self, args, state, control, **named)
        if self._stage == "multimodal" and state.global_step == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Telling, "on_step_end", killed)
    with pytest.raises(KeyboardInterrupt):
        run(other, rows)
    assert (tmp_path / "out" / "checkpoints" / "multimodal" / "checkpoint-2").is_dir()
    assert not list((tmp_path / "out" / "checkpoints").rglob("*.bin"))
    monkeypatch.setattr(Telling, "on_step_end", step_end)
    run(other, rows)
    for depth in ("multimodal", "rules"):
        one, two = (load_file(place / depth / "adapter_model.safetensors") for place in (out, tmp_path / "out"))
        assert all(abs(one[name] - two[name]).max() < 1e-5 for name in one)
    assert [(one["stage"], one["step"]) for one in lines(tmp_path / "out")] == [
        (one["stage"], one["step"]) for one in lines(out)
    ]


def test_every_weight_may_learn_and_chains_are_learned_by_heart(text_folder, tmp_path):
    rows = [replace(row, split=split) for row in chains(4) for split in ("train", "dev")]
    settings = config(
        text_folder,
        tmp_path / "out",
        full=True,
        steps=["rules"],
        learning_rate=4e-3,
        schedule="constant",
        log_every=10,
        save_every=1000,
        dev={"rows": 4, "samples": 2, "max_tokens": 256, "temperature": 0.1, "resamples": 10},
    )
    settings = settings.model_copy(update={"steps": (Step(depth="rules", epochs=60),)})
    found = run(settings, rows)["stages"]["rules"]["dev"]
    assert {name: found[name] for name in ("acc_4", "macro_f1", "pass_1", "format")} == {
        "acc_4": 1.0, "macro_f1": 1.0, "pass_1": 1.0, "format": 1.0,
    }  # fmt: skip
    assert (tmp_path / "out" / "model.safetensors").is_file() and (tmp_path / "out" / "tokenizer.json").is_file()


# ----------------------------------------------------------------------------------------------- what stands in batches


def first_batches(settings, trained_model, rows, depth="rules"):
    """The trainer of a stage, and its first batch."""
    from relevance.training.lessons import Teller, make_lessons
    from relevance.training.model import quiet
    from relevance.training.sft_run import make_trainer

    with quiet():
        lessons = make_lessons(rows, depth, Teller(trained_model, settings), settings)
        out = Path(settings.out)
        trainer = make_trainer(settings, Step(depth=depth), trained_model, lessons, out / "checkpoints")
        trainer.bad = out / "nan-batch.json"
        return trainer, next(iter(trainer.get_train_dataloader()))


def test_the_head_works_for_answers_alone_and_the_loss_is_the_same(opened, tmp_path):
    import torch

    from relevance.training.guards import answers_only

    trainer, batch = first_batches(config(opened.name, tmp_path), opened, chains(8))
    seen = []
    head = opened.model.get_base_model().get_output_embeddings()
    losses = []
    for frugal in (False, True):
        opened.model.zero_grad()
        inputs = dict(batch)
        if frugal:
            with answers_only(torch.device("cpu")):
                loss = trainer.compute_loss(trainer.model, inputs)
        else:
            loss = trainer.compute_loss(trainer.model, inputs)
        loss.backward()
        losses.append(loss.item())
        seen.append([p.grad.clone() for p in opened.model.parameters() if p.grad is not None])
    assert head is not None and math.isclose(*losses, rel_tol=1e-5)
    assert all(torch.allclose(one, two, atol=1e-6) for one, two in zip(*seen, strict=True))


def test_packed_rows_do_not_see_each_other(opened, tmp_path):
    rows = chains(8)
    _, alone = first_batches(config(opened.name, tmp_path, batch=8), opened, rows)
    trainer, packed = first_batches(config(opened.name, tmp_path, batch=8, packing=True, max_length=1024), opened, rows)
    assert packed["input_ids"].shape[0] == 1 and packed["input_ids"].numel() == alone["attention_mask"].sum()
    one, two = (trainer.compute_loss(trainer.model, dict(batch)).item() for batch in (alone, packed))
    assert math.isclose(one, two, rel_tol=1e-4)


def spoilt(settings, model, rows):
    import torch

    trainer, _ = first_batches(settings, model, rows)
    weight = next(p for p in model.model.parameters() if p.requires_grad)
    before = weight.detach().clone()
    with torch.no_grad():
        weight.fill_(math.nan)
    try:
        from relevance.training.model import quiet

        with quiet(), pytest.raises(ModelError) as error:
            trainer.train()
    finally:
        with torch.no_grad():
            weight.copy_(before)
    return str(error.value), json.loads(Path(trainer.bad).read_text())


@pytest.mark.parametrize("packing", [False, True])
def test_a_loss_that_is_no_number_stops_the_run_and_saves_the_batch(opened, tmp_path, packing):
    rows = chains(3)
    settings = config(opened.name, tmp_path, packing=packing, max_length=1024)
    said, batch = spoilt(settings, opened, rows)
    assert "step 1: the loss is nan" in said and "nan-batch.json" in said and "learning_rate" in said
    assert sorted(one["item_id"] for one in batch["rows"]) == ["black2", "blue0", "navy1"]
    assert any(rows[0].prompt in text and completion(rows[0]) in text for text in batch["texts"])


def test_a_gradient_that_is_no_number_stops_the_run_too(opened, tmp_path):
    trainer, _ = first_batches(config(opened.name, tmp_path, clip=1.0), opened, chains(4))
    weight = next(p for p in opened.model.parameters() if p.requires_grad)
    hook = weight.register_hook(lambda gradient: gradient * math.inf)
    before = weight.detach().clone()
    try:
        from relevance.training.model import quiet

        with quiet(), pytest.raises(ModelError, match=r"step 1: the gradient's length is (nan|inf)"):
            trainer.train()
    finally:
        hook.remove()
    assert (weight == before).all()  # not a step was made of it


# ------------------------------------------------------------------------------------------------------ models that see


@pytest.fixture(scope="module")
def pictured(tmp_path_factory):
    """Rows with pictures: of one the file is broken, one has none, one looks outside."""
    root = tmp_path_factory.mktemp("pictures")
    for place in range(10):
        Image.new("RGB", (60 + place, 80), (20 * place, 90, 200)).save(root / f"{place}.png")
    (root / "broken.png").write_bytes((root / "1.png").read_bytes()[:60])
    rows = [replace(row, pictures=(f"{n}.png",), picture_root=str(root)) for n, row in enumerate(chains(10))]
    rows[6] = replace(rows[6], pictures=())
    rows[7] = replace(rows[7], pictures=("7.png", "broken.png"))
    rows[8] = replace(rows[8], pictures=("../secret.png",))
    return rows


def test_a_model_that_sees_learns_with_pictures(tiny_vlm_folder, pictured, tmp_path):
    settings = config(tiny_vlm_folder, tmp_path / "out", steps=["rules"], batch=2)
    metrics = run(settings, pictured)
    stage = metrics["stages"]["rules"]
    assert (stage["rows"], stage["left_out"], stage["steps"]) == (4, {"picture": 2}, 2)
    left = [json.loads(line) for line in (tmp_path / "out" / "left-out.jsonl").read_text().splitlines()]
    assert "broken.png" in left[0]["why"] and "cut off" in left[0]["why"] and "'..'" in left[1]["why"]
    targets = json.loads((tmp_path / "out" / "adapter_config.json").read_text())["target_modules"]
    assert targets.startswith("model\\.language_model")
    with pytest.raises(InputError, match=r"q1 – sofa7: picture 'broken.png': "):
        run(settings.model_copy(update={"strict": True, "out": str(tmp_path / "strict")}), pictured)


def test_a_picture_stands_behind_the_words_and_counts(tiny_vlm_folder, pictured, tmp_path):
    from relevance.training.model import open_model

    trained = open_model(str(tiny_vlm_folder), lora=Lora(r=2, alpha=4))
    settings = config(tiny_vlm_folder, tmp_path, batch=3)
    trainer, batch = first_batches(settings, trained, pictured[4:7])
    picture = trained.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    shown = {
        row: int((ids == picture).sum()) for row, ids in zip(batch["row"].tolist(), batch["input_ids"], strict=True)
    }
    assert shown[2] == 0 and all(4 <= shown[row] <= 16 for row in (0, 1))
    widths = {row: int(mask.sum()) for row, mask in zip(batch["row"].tolist(), batch["attention_mask"], strict=True)}
    assert [widths[row] for row in range(3)] == list(trainer.lengths)
    text = trained.tokenizer.decode(batch["input_ids"][batch["row"].tolist().index(0)])
    assert text.index(pictured[4].prompt) < text.index("<|vision_start|>") < text.index("<think>")
    learned = [label for label in batch["labels"][batch["row"].tolist().index(1)].tolist() if label != -100]
    assert trained.tokenizer.decode(learned) == completion(pictured[5]) + "<|im_end|>"
    said, saved = spoilt(settings, trained, pictured[4:7])
    assert "the loss is nan" in said and {one["item_id"] for one in saved["rows"]} == {"blue4", "navy5", "black6"}
    with pytest.raises(ConfigError, match="packing is for models that read text alone"):
        first_batches(config(tiny_vlm_folder, tmp_path, packing=True), trained, pictured[4:7])


# --------------------------------------------------------------------------------------------------------- the command


def invoke(*arguments):
    from relevance.sft import main

    return CliRunner().invoke(command_app(main, "lore sft"), [str(one) for one in arguments])


@pytest.fixture
def written(text_folder, tmp_path):
    rows = tmp_path / "rows.parquet"
    pq.write_table(chains_table(chains(12)), rows)
    path = tmp_path / "sft.toml"
    path.write_text(
        f'model = "{text_folder}"\nrows = "{rows}"\nout = "{tmp_path / "out"}"\nbatch = 4\ndevice = "cpu"\n'
        'steps = ["rules"]\nmax_length = 512\n[lora]\nr = 2\n[dev]\nrows = 0\n'
    )
    return path


def test_a_dry_run_tells_and_writes_nothing(written):
    done = invoke("--config", written, "--dry-run", "--set", "max_length=230", "--set", "steps=['knowledge', 'rules']")
    assert done.exit_code == 0, done.output
    plan = json.loads(done.stdout)
    assert plan["stages"]["knowledge"]["rows"] == 8 and plan["stages"]["knowledge"]["steps"] == 2
    assert plan["stages"]["rules"]["tokens"]["longest"] <= 230
    assert plan["labels"] == {"1": 2, "2": 2, "3": 2, "4": 2} and plan["splits"] == {"dev": 4, "train": 8}
    assert plan["config"]["lora"]["r"] == 2 and not (written.parent / "out").exists()


def test_the_command_trains(written):
    done = invoke("--config", written, "--json", "--out", written.parent / "there")
    assert done.exit_code == 0, done.output
    metrics = json.loads(done.stdout)
    assert metrics["stages"]["rules"]["steps"] == 2 and "dev" not in metrics["stages"]["rules"]
    assert (written.parent / "there" / "adapter_model.safetensors").is_file()


def test_labels_outside_the_scale_are_refused(written):
    table = chains_table([replace(chains(5)[4], label=5)])
    pq.write_table(table, written.parent / "rows.parquet")
    done = invoke("--config", written)
    assert isinstance(done.exception, InputError)
    assert "rows.parquet, row 0, column 'label': 5 is no level; legal: 1 to 4" in str(done.exception)


def test_a_model_that_cannot_be_had(written, tmp_path):
    done = invoke("--config", written, "--set", f"model={tmp_path / 'none'}")
    assert isinstance(done.exception, ModelError) and "no such folder" in str(done.exception)
    done = invoke("--config", written, "--set", "lora.targets=['nothing']", "--out", tmp_path / "o2")
    assert isinstance(done.exception, ConfigError) and "lora.targets" in str(done.exception)
