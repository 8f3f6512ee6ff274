"""lore-vlm-tiny: a SmolVLM checkpoint put together from pinned weights and what this project trained.

The picture tower is DINOv2 ViT-S/14 in the shape of SmolVLM's SigLIP tower: without its class token (the shape has no
place for one), each layer's scale folded into the linear map before it, the position table resized to 16×16 patches.
The language model is SmolLM2-135M-Instruct out of its 4-bit file, in float32. Between them stands the connector: four
by four patches side by side, one linear map, 16 tokens a picture. The shipped connector and LoRA are merged in, so that
the checkpoint is a plain one, which transformers and vLLM load by their own means.

It knows nothing of requests, batches or devices, nor of how connector and LoRA were trained: jobs.train_vlm.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lore_mm.errors import MissingExtraError, ModelError
from lore_mm.fingerprint import sha_of
from lore_mm.models.adapted import add_lora, read_adapter
from lore_mm.models.smollm2 import kept, read_smollm2
from lore_mm.models.weights import get_weights, weights_sha

__all__ = ["CHAT_TEMPLATE", "FOLDER", "PICTURE_TOKENS", "SIDE", "assembled", "build_base", "merge_trained"]

FOLDER = Path(__file__).parent / "lore-vlm-tiny"
NAME = "lore-vlm-tiny"
SIDE, PATCH, SCALE = 224, 14, 4  # pixels, pixels, patches joined along each side
PICTURE_TOKENS = (SIDE // PATCH // SCALE) ** 2
_VERSION = 1  # of the assembly below: part of the checkpoint's name
_WIDTH, _LAYERS, _HEADS = 384, 12, 6
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # what DINOv2 was trained with
_PAD, _FAKE, _GLOBAL, _IMAGE = 0, 5, 6, 16
# SmolLM2 keeps these tokens for source code it was pretrained on; nothing in a shop uses them.
_RENAMED = {_FAKE: "<fake_token_around_image>", _GLOBAL: "<global-img>", _IMAGE: "<image>"}

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<image>' }}{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{{ '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def assembled() -> Path:
    """The folder of the whole checkpoint in the cache, made there first where it is not (half a minute, once).

    Raises:
        ModelError: the pinned weights cannot be had, or the trained ones are not in this package.
        MissingExtraError: torch, transformers, onnx or gguf is not installed.
    """

    def write(folder: Path) -> None:
        get_weights(NAME)
        model, processor = build_base()
        merge_trained(model, FOLDER)
        model.save_pretrained(folder)
        processor.save_pretrained(folder)

    return kept(NAME, sha_of([weights_sha(NAME), _VERSION])[:12], write)


def build_base() -> tuple[Any, Any]:
    """The model (float32, on the CPU) with the pinned weights and an untrained connector, and its processor.

    Raises:
        ModelError, MissingExtraError: as `assembled`.
    """
    for module in ("torch", "transformers", "onnx", "gguf", "num2words"):
        if find_spec(module) is None:
            raise MissingExtraError(module, "hf")
    from lore_mm.models.torchvision_cpu import install

    install()
    import torch
    from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration

    language, tokenizer = read_smollm2(get_weights("smollm2-135m"), _RENAMED)
    tokenizer.chat_template = CHAT_TEMPLATE
    text_config = language.config.to_dict() | {"pad_token_id": _PAD, "bos_token_id": 1, "eos_token_id": 2}
    config = SmolVLMConfig(
        text_config=text_config,
        vision_config={
            "hidden_size": _WIDTH,
            "intermediate_size": 4 * _WIDTH,
            "num_hidden_layers": _LAYERS,
            "num_attention_heads": _HEADS,
            "image_size": SIDE,
            "patch_size": PATCH,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-6,
        },
        scale_factor=SCALE,
        image_token_id=_IMAGE,
        pad_token_id=_PAD,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    model: Any = SmolVLMForConditionalGeneration(config)
    model = model.float().eval()
    model.model.text_model.load_state_dict(language.model.state_dict())
    model.tie_weights()
    model.model.vision_model.load_state_dict(_read_tower(get_weights("dinov2-small-focus") / "vit_s_focus.onnx"))
    model.generation_config.update(bos_token_id=1, eos_token_id=2, pad_token_id=_PAD, do_sample=False)
    return model, _build_processor(tokenizer)


def merge_trained(model: Any, folder: Path) -> None:
    """Put a trained connector in, and add a trained LoRA to the language model's weights.

    Raises:
        ModelError: the folder does not hold the trained tensors of this model.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        connector = load_file(folder / "connector.safetensors")["connector.weight"]
        with torch.no_grad():
            model.model.connector.modality_projection.proj.weight.copy_(connector.float())
        add_lora(model.model.text_model.state_dict(), read_adapter(folder))
    except (OSError, KeyError, RuntimeError, SafetensorError, ModelError) as error:
        raise ModelError(f"{folder}: not the trained part of {NAME} ({type(error).__name__}: {error})") from None


def _build_processor(tokenizer: Any) -> Any:
    from transformers import SmolVLMImageProcessor, SmolVLMProcessor, SmolVLMVideoProcessor

    # Squashed to a square, not cropped: a shop's picture has its product from edge to edge.
    pictures = SmolVLMImageProcessor(
        size={"height": SIDE, "width": SIDE},
        max_image_size={"longest_edge": SIDE},
        do_image_splitting=False,
        image_mean=list(_MEAN),
        image_std=list(_STD),
        resample=3,  # bicubic
    )
    return SmolVLMProcessor(
        pictures, tokenizer, SmolVLMVideoProcessor(), image_seq_len=PICTURE_TOKENS, chat_template=CHAT_TEMPLATE
    )


def _read_tower(path: Path) -> dict[str, Any]:
    """The ONNX graph's backbone as the state of SmolVLM's picture tower."""
    import onnx
    import torch
    from onnx import numpy_helper
    from torch.nn.functional import interpolate

    graph = onnx.load(path).graph
    arrays = {one.name: torch.from_numpy(numpy_helper.to_array(one).copy()) for one in graph.initializer}
    # The exporter names the matrices of linear maps by number; the node that uses one tells where it belongs.
    inputs = {node.name: node.input for node in graph.node}
    state = {
        "embeddings.patch_embedding.weight": arrays["backbone.embeddings.patch_embeddings.projection.weight"],
        "embeddings.patch_embedding.bias": arrays["backbone.embeddings.patch_embeddings.projection.bias"],
        "post_layernorm.weight": arrays["backbone.layernorm.weight"],
        "post_layernorm.bias": arrays["backbone.layernorm.bias"],
    }
    table = next(a for a in arrays.values() if a.ndim == 3 and a.shape[1] > 1)  # (1, 37 · 37, 384)
    edge = round(table.shape[1] ** 0.5)
    grid = table.reshape(1, edge, edge, _WIDTH).permute(0, 3, 1, 2)
    size = (SIDE // PATCH, SIDE // PATCH)
    grid = interpolate(grid, size=size, mode="bicubic", align_corners=False)
    state["embeddings.position_embedding.weight"] = grid.permute(0, 2, 3, 1).reshape(-1, _WIDTH)
    for layer in range(_LAYERS):
        ours, theirs = f"encoder.layers.{layer}", f"backbone.encoder.layer.{layer}"
        scales = {
            "self_attn.out_proj": arrays[f"{theirs}.layer_scale1.lambda1"],
            "mlp.fc2": arrays[f"{theirs}.layer_scale2.lambda1"],
        }
        for name, other in _LINEAR.items():
            node = inputs[f"/backbone/encoder/layer.{layer}/{other.replace('.', '/')}/MatMul"]
            weight = arrays[node[1]].T
            bias = arrays[f"{theirs}.{other}.bias"]
            scale = scales.get(name, torch.ones(()))
            state[f"{ours}.{name}.weight"] = (weight * scale.reshape(-1, 1)).contiguous()
            state[f"{ours}.{name}.bias"] = bias * scale
        for number in (1, 2):
            state[f"{ours}.layer_norm{number}.weight"] = arrays[f"{theirs}.norm{number}.weight"]
            state[f"{ours}.layer_norm{number}.bias"] = arrays[f"{theirs}.norm{number}.bias"]
    return state


_LINEAR = {  # SmolVLM's name → DINOv2's
    "self_attn.q_proj": "attention.attention.query",
    "self_attn.k_proj": "attention.attention.key",
    "self_attn.v_proj": "attention.attention.value",
    "self_attn.out_proj": "attention.output.dense",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
