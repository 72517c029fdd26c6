"""Tasks that are written for `from_preset`, tokenizer included."""

import keras
import keras_hub
import numpy as np
import pytest
from keras import ops

import keras_debias as kd
from tests.presets_test import shipped  # noqa: F401


def tuned(causal_lm):
    """Adapters that change the outputs, merged."""
    kd.adapters.apply(causal_lm, kd.adapters.LoRA(rank=2))
    rng = np.random.default_rng(0)
    for variable in causal_lm.trainable_variables:
        variable.assign(0.02 * rng.normal(size=variable.shape))
    return kd.adapters.merge(causal_lm)


def inputs(causal_lm, text):
    found = causal_lm.preprocessor.generate_preprocess(
        [text], sequence_length=10
    )
    return {k: np.array(ops.convert_to_numpy(v)) for k, v in found.items()}


def check(source, folder, text):
    causal_lm = tuned(keras_hub.models.CausalLM.from_preset(source))
    kd.presets.save(causal_lm, folder)
    loaded = keras_hub.models.CausalLM.from_preset(str(folder))
    tokens = inputs(causal_lm, text)
    for name, value in inputs(loaded, text).items():
        np.testing.assert_array_equal(value, tokens[name])
    expected = ops.convert_to_numpy(causal_lm(tokens))
    np.testing.assert_allclose(
        ops.convert_to_numpy(loaded(tokens)), expected, atol=1e-5
    )
    start = keras_hub.models.CausalLM.from_preset(source)
    change = ops.convert_to_numpy(start(tokens)) - expected
    assert np.abs(change).max() > 1e-3
    mine, theirs = (x.preprocessor.tokenizer for x in (causal_lm, loaded))
    assert theirs.start_token_id == mine.start_token_id
    assert theirs.end_token_id == mine.end_token_id
    return causal_lm


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize`")
def test_a_small_one(shipped, tmp_path):  # noqa: F811
    source = kd.presets.smollm2(tmp_path / "cache")
    causal_lm = check(source, tmp_path / "tuned", "ab a")
    # What is there stays; what has adapters or is quantized is refused.
    with pytest.raises(ValueError, match="nothing yet"):
        kd.presets.save(causal_lm, tmp_path / "tuned")
    kd.adapters.apply(causal_lm, kd.adapters.LoRA(rank=2))
    with pytest.raises(ValueError, match="without adapters"):
        kd.presets.save(causal_lm, tmp_path / "other")
    kd.adapters.merge(causal_lm).quantize("int8")
    with pytest.raises(ValueError, match="not quantized"):
        kd.presets.save(causal_lm, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_one_that_a_preset_holds(tmp_path):
    """As `save_to_preset`, in KerasHub's own files."""
    keras.utils.set_random_seed(0)
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"]
    preprocessor = keras_hub.models.BertTextClassifierPreprocessor(
        keras_hub.models.BertTokenizer(tokens), sequence_length=6
    )
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=7,
        num_layers=1,
        num_heads=1,
        hidden_dim=4,
        intermediate_dim=4,
        max_sequence_length=6,
    )
    task = keras_hub.models.BertTextClassifier(
        backbone, num_classes=2, preprocessor=preprocessor
    )
    kd.presets.save(task, tmp_path / "task")
    assert (tmp_path / "task" / "task.json").is_file()
    loaded = keras_hub.models.TextClassifier.from_preset(str(tmp_path / "task"))
    np.testing.assert_array_equal(
        loaded.predict(["a b"], verbose=0), task.predict(["a b"], verbose=0)
    )


def test_the_real_one(tmp_path):
    check(kd.presets.smollm2(), tmp_path / "tuned", "The capital of France is")
