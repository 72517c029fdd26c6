"""The paper's sets on real architectures: one trajectory, real weights.

`python -m tests.training.regularizers_models_test` writes the references
anew (only after a change that is meant to move them).
"""

import pathlib

import keras
import numpy as np
import pytest
from keras import ops

import keras_debias as kd
from keras_debias.regularizers import Consistency
from keras_debias.regularizers import SpectralConcentration
from keras_debias.regularizers import SpectralNorm
from keras_debias.regularizers import TopKEntropy
from keras_debias.regularizers import TwoPhase
from keras_debias.regularizers import ba_lora
from keras_debias.testing import TestCase
from tests.architectures import ARCHITECTURES
from tests.real_models import minilm

REFERENCES = pathlib.Path(__file__).parents[1] / "reference"
TABLE = {a.name: a for a in ARCHITECTURES}
PROJECTIONS = {"plain": lambda: None, "EDGE": kd.projections.EDGE}
SETS = {
    "bert": lambda: ba_lora(scale=5.0, k=1),
    # The paper's, for a vocabulary of 32, with weights that change.
    "llama": lambda: [
        Consistency(keras.optimizers.schedules.CosineDecay(0.5, 10)),
        TopKEntropy(TwoPhase(0.1, 10), k=5),
        SpectralConcentration(
            TwoPhase(0.1, 10), k=3, norm=SpectralNorm.FROBENIUS
        ),
    ],
}


def train(name, projection):
    """Outputs and logs of ten steps."""
    architecture = TABLE[name]
    network = architecture.build()
    kd.adapters.apply(network, kd.adapters.PiSSA(rank=2))
    model = kd.DebiasedModel(
        network, PROJECTIONS[projection](), SETS[name](), seed=0
    )
    model.compile(keras.optimizers.SGD(0.05), loss=architecture.loss())
    x, y = architecture.data()
    logs = model.fit(
        x, y, batch_size=len(y), epochs=10, shuffle=False, verbose=0
    ).history
    return model.predict(x, verbose=0), logs


@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize("name", SETS)
def test_one_trajectory_on_three_backends(name, projection):
    outputs, logs = train(name, projection)
    reference = np.load(REFERENCES / f"{name}-regularized-{projection}.npy")
    TestCase().assert_close(outputs, reference, 2e-5)
    for regularizer in SETS[name]():
        assert np.isfinite(logs[regularizer.name]).all()
        assert len(logs[regularizer.name]) == 10
    # The teacher is the start itself: the first divergence is none.
    assert logs["consistency"][0] == pytest.approx(0.0, abs=1e-6)
    assert logs["consistency"][-1] > 1e-6


@pytest.mark.once
def test_a_real_encoder():
    """MiniLM on raw sentence pairs, the published set."""
    classifier = minilm()
    kd.adapters.apply(classifier, kd.adapters.PiSSA(rank=8))
    premises = ["A man plays a guitar.", "Two dogs run.", "It rains.", "No."]
    hypotheses = ["A man sleeps.", "Animals move.", "It is wet.", "Yes."]
    x, y = (premises, hypotheses), np.array([2, 0, 1, 2])
    inputs = classifier.preprocess_samples(x)

    def outputs(network):
        """Without compiling `predict`, which takes most of the time."""
        return ops.convert_to_numpy(network(inputs, training=False))

    before = outputs(classifier)
    model = kd.DebiasedModel(
        classifier, kd.projections.EDGE(), ba_lora(k=1), seed=0
    )
    model.compile(
        keras.optimizers.Adam(1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    logs = model.fit(kd.data.Split(x, y), epochs=3, verbose=0).history
    for regularizer in model.regularizers:
        assert np.isfinite(logs[regularizer.name]).all()
    # The teacher is the pretrained encoder under the present head.
    head = classifier.output_dense.get_weights()
    with keras.StatelessScope():
        (found,) = model.regularization.teacher_outputs(inputs).values()
    pretrained = minilm()
    pretrained.output_dense.set_weights(head)
    TestCase().assert_close(ops.convert_to_numpy(found), outputs(pretrained))
    assert np.abs(outputs(classifier) - before).max() > 1e-3


if __name__ == "__main__":
    for each in SETS:
        for kind in PROJECTIONS:
            found, _ = train(each, kind)
            np.save(REFERENCES / f"{each}-regularized-{kind}.npy", found)
