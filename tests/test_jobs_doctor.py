"""pytest tests/test_jobs_doctor.py"""

import json

import pytest

from jobs import doctor
from jobs.doctor import Finding, diagnose, main
from lore_mm import __version__
from lore_mm.console import command_app
from stores.features import open_store


def by_name(findings):
    return {f.name: f for f in findings}


def test_it_names_versions_and_every_extra_with_its_command():
    found = by_name(diagnose())
    assert found["lore-mm"].detail == __version__
    assert found["polars"].state == "ok"
    for extra in ("cpu", "hf", "vllm", "faiss-gpu", "train", "ray", "serve", "dev"):
        assert found[extra].state == "ok" or found[extra].fix == f"pip install 'lore-mm[{extra}]'"


def test_a_missing_module_of_the_embedded_default_is_missing_another_only_absent(monkeypatch):
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    found = by_name(diagnose())
    assert found["cpu"].state == "missing"
    assert "not there: torch, torchvision, open_clip, transformers, faiss" in found["cpu"].detail
    assert (found["vllm"].state, found["cuda"].detail) == ("absent", "torch is not installed")


def test_missing_weights_come_with_the_command_that_gets_them(tmp_path, monkeypatch):
    monkeypatch.setenv("LORE_CACHE", str(tmp_path))
    tower = by_name(diagnose())["all-minilm-l6-v2"]
    assert tower == Finding(
        "weights", "all-minilm-l6-v2", "missing", f"not in {tmp_path}", "lore weights get all-minilm-l6-v2"
    )


def test_the_store_is_looked_at_and_not_made(tmp_path):
    where = tmp_path / "store"
    assert diagnose(str(where))[-1].state == "absent"
    assert not where.exists()
    open_store(where, create=True)
    assert diagnose(str(where))[-1].fix == "lore demo"


def test_the_exit_code_says_whether_the_embedded_default_can_run(monkeypatch, capsys):
    fine = [Finding("python", "python", "ok", "3.11")]
    broken = [*fine, Finding("base", "polars", "missing", "not installed", "pip install polars")]
    for findings, code in ((fine, 0), (broken, 1)):
        monkeypatch.setattr(doctor, "diagnose", lambda store, findings=findings: findings)
        with pytest.raises(SystemExit) as stop:
            command_app(main, "doctor")(["--json"])
        assert stop.value.code == code
    out, err = capsys.readouterr()
    assert json.loads(out.splitlines()[-1])["name"] == "polars"
    assert err == "missing: polars: pip install polars\n"
