"""Run: pytest tests/test_lore_mm_models_cpu_decoding.py

What is decoded without copying is what transformers decodes.
"""

from importlib.util import find_spec

import pytest

if find_spec("torch") is None or find_spec("transformers") is None:
    pytest.skip("needs the extra hf", allow_module_level=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from tests.tiny_models import tiny_text

    folder = tiny_text(tmp_path_factory.mktemp("models") / "tiny")
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder).eval()


def prompts(model, rows):
    """Left-padded prompts of unequal length, some of them equal."""
    import torch

    longest, pad = max(map(len, rows)), model.config.pad_token_id
    ids = torch.tensor([[pad] * (longest - len(one)) + one for one in rows])
    mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in rows])
    return ids, mask


@pytest.mark.parametrize("rows", [
    [[40, 41, 42, 43]] * 3,
    [list(range(40, 60)), [70, 71, 72], list(range(40, 60)), [90] * 11, [70, 71, 72]],
    [[50]],
    [[50], [51]],
])  # fmt: skip
def test_greedy_replies_and_their_logits_are_those_of_transformers(model, rows):
    import torch
    from transformers import GenerationConfig

    from lore_mm.models.cpu_decoding import generate

    ids, mask = prompts(model, rows)
    given = {
        "generation_config": GenerationConfig(max_new_tokens=24, do_sample=False, pad_token_id=0),
        "output_scores": True,
        "return_dict_in_generate": True,
    }
    with torch.inference_mode():
        ours = generate(model, ids, mask, 24, **given)
        plain = model.generate(input_ids=ids, attention_mask=mask, **given)
    assert ours.sequences.tolist() == plain.sequences.tolist()
    assert ours.sequences.shape[1] > ids.shape[1]
    for one, other in zip(ours.scores, plain.scores, strict=True):
        assert torch.allclose(one, other, atol=1e-4)
    assert model.config._attn_implementation == "sdpa"  # as before


def test_more_is_written_than_there_was_room_for(model):
    """The room is a guess: beyond it more is made."""
    import torch
    from transformers import GenerationConfig

    from lore_mm.models.cpu_decoding import generate

    ids, mask = prompts(model, [[40, 41], [42, 43, 44]])
    settings = GenerationConfig(max_new_tokens=20, do_sample=False, pad_token_id=0)
    with torch.inference_mode():
        tight, wide = (generate(model, ids, mask, room, generation_config=settings) for room in (3, 100))
    assert tight.tolist() == wide.tolist()


def test_a_gradient_goes_through_what_is_remembered(model):
    from transformers import DynamicCache

    from lore_mm.models.cpu_decoding import distinct, remember

    ids, mask = prompts(model, [[40, 41, 42], [43, 44, 45], [40, 41, 42]])
    rows, place = distinct(ids)
    assert ids[rows][place].tolist() == ids.tolist()
    cache = DynamicCache(config=model.config)
    remember(model, ids[rows], mask[rows], cache)
    cache.batch_select_indices(place)
    assert cache.get_seq_length() == 3
    cache.layers[0].keys.sum().backward()
    assert model.model.layers[0].self_attn.k_proj.weight.grad.abs().max() > 0
    model.zero_grad()
