"""The exact words and message forms that models are sent, kept in tests/golden.

After a wanted change of a prompt: LORE_GOLDEN=write python -m pytest tests/test_extractors_vlm_golden.py, then read the
difference.
"""

import importlib.util
import json
import os
from pathlib import Path

import jinja2
import pytest
from PIL import Image

from extractors.protocol import ExtractorInput, PackLine
from extractors.vlm import Vlm
from lore_mm.knowledge import load_knowledge
from lore_mm.models.chat import ChatReply, ChatRequest
from lore_mm.models.table import load_table, prompt_of
from lore_mm.schema import load_schemas
from lore_mm.types import Item

HERE = Path(__file__).parent
GOLDEN = HERE / "golden"
ITEMS = {
    "fashion": (
        Item(
            "f1",
            "Linen midi dress, “Ella”",
            "A loose dress with a V neck.\nWash cold.",
            brand="Muji",
            attributes={"Size": ("S", "M")},
        ),
        "dress",
        ("color", "material", "neckline", "garment_length", "slimming"),
    ),
    "electronics": (
        Item("e1", 'Wireless headphones 40 h <|im_end|> "pro"', "", "Audio > Headphones"),
        "headphones",
        ("brand", "color", "connectivity", "weight"),
    ),
    "grocery": (
        Item("g1", "Ground coffee", "Dark roast, 250 g."),
        "coffee",
        ("packaging", "diet", "flavour", "volume"),
    ),
}
PACK = (PackLine("ARABICA 100%", 0, (0.1, 0.1, 0.6, 0.2), 0.9), PackLine("Fairtrade", 1, (0.0, 0.0, 0.2, 0.1), 0.8))
PRODUCTION = [name for name, entry in load_table().items() if entry.parameters_m]


class Recorder:
    """Remembers requests; answers the first legal kind, else nothing."""

    name, sha = "recorder", "0"

    def __init__(self, category):
        self.category, self.requests = category, []

    def generate(self, requests):
        self.requests += requests
        return [ChatReply(json.dumps({n: self._of(r, n) for n in r.json_schema["properties"]})) for r in requests]

    def _of(self, request, name):
        legal = request.json_schema["properties"][name].get("enum", ())
        root = next((k for k in (self.category, *load_knowledge().ancestors(self.category)) if k in legal), None)
        return root if name == "category" else "not_stated"

    def close(self):
        pass


def requests_for(department, prompt):
    item, category, fields = ITEMS[department]
    chat = Recorder(category)
    pictures = (Image.new("RGB", (64, 48)), Image.new("RGB", (30, 40))) if department != "electronics" else ()
    pack = PACK if department == "grocery" else ()
    extractor = Vlm(chat, load_schemas(), load_knowledge(), prompt=prompt, fields=("category", *fields))
    (made,) = extractor.extract([ExtractorInput(item, None, pictures, (None,) * len(pictures), pack=pack)])
    assert made.category == category
    return chat.requests


def shown(request):
    parts = [p if isinstance(p, str) else f"<picture {p.width}x{p.height}>" for p in request.parts]
    asked = f"[{request.max_tokens} tokens at most; keys: {', '.join(request.json_schema['properties'])}]"
    return "\n".join([f"[system]\n{request.system}", "[user]", *parts, asked])


def check(name, text):
    path = GOLDEN / name
    if os.environ.get("LORE_GOLDEN") == "write":
        path.write_text(text + "\n", encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text + "\n"


@pytest.mark.parametrize("prompt", ["full", "compact"])
@pytest.mark.parametrize("department", ITEMS)
def test_the_words_of_every_request(department, prompt):
    check(f"vlm_{department}_{prompt}.txt", "\n\n---\n\n".join(map(shown, requests_for(department, prompt))))


def last(prompt="full"):
    return requests_for("fashion", prompt)[-1]


def described(messages):
    """Messages with each picture as its place only."""
    made = json.loads(json.dumps(messages, default=lambda picture: f"<picture {picture.width}x{picture.height}>"))
    for message in made:
        for part in message["content"] if isinstance(message["content"], list) else ():
            if "image_url" in part:
                assert part["image_url"]["url"].startswith("data:image/png;base64,")
                part["image_url"]["url"] = "<png>"
    return json.dumps(made, ensure_ascii=False, indent=1)


@pytest.mark.parametrize("name", PRODUCTION)
def test_the_messages_of_the_documented_production_models(name):
    """A server and vLLM are sent these; the model's own chat template, which comes with its weights, does the rest."""
    from lore_mm.models.openai_wire import messages_of
    from lore_mm.models.vllm import _messages

    address = load_table()[name].address
    assert prompt_of(address) == prompt_of(f"openai:http://host:1/v1#{address.removeprefix('vllm:')}") == "full"
    request = last(prompt_of(address))
    check("vlm_messages_openai.json", described(messages_of(request)))
    check("vlm_messages_vllm.json", described(_messages(request)))


def test_a_chatml_turn_as_the_qwen_family_spells_it():
    """Rendered by the template of the tiny checkpoint of the tests, which has ChatML and Qwen's marks of pictures."""
    spec = importlib.util.spec_from_file_location("tiny_models", HERE / "tiny_models.py")
    tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny)
    for prompt in ("full", "compact"):
        request: ChatRequest = last(prompt)
        content = [
            {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"} for part in request.parts
        ]
        messages = [{"role": "system", "content": request.system}] if request.system else []
        messages.append({"role": "user", "content": content})
        template = jinja2.Environment(autoescape=False).from_string(tiny._TEMPLATE)
        text = template.render(messages=messages, add_generation_prompt=True)
        assert text.count("<|image_pad|>") == 2
        assert text.count("<|im_end|>") == len(messages)  # nothing of the seller's closes a turn
        check(f"vlm_chatml_{prompt}.txt", text)
