"""GaLore against its equations in NumPy."""

import keras
import numpy as np
import pytest
from keras import ops
from keras import optimizers

import keras_debias as kd
from keras_debias.optimizers import galore

RANK, GAP, SCALE, RATE = 2, 2, 0.5, 0.01
GENERATOR = np.random.default_rng(0)
# A wide, a tall and a kernel of attention, and what stays whole.
SHAPES = {
    "wide": ("kernel", (4, 6)),
    "tall": ("kernel", (7, 3)),
    "heads": ("kernel", (6, 2, 4)),
    "small": ("kernel", (2, 5)),
    "bias": ("bias", (6,)),
    "table": ("embeddings", (9, 5)),
}
MATRICES = {"wide": (4, 6), "tall": (7, 3), "heads": (6, 8)}
STARTS = {k: GENERATOR.normal(size=s) for k, (_, s) in SHAPES.items()}
GRADIENTS = [
    {k: GENERATOR.normal(size=s) for k, (_, s) in SHAPES.items()}
    for _ in range(4)
]


def steps(optimizer):
    variables = [
        keras.Variable(STARTS[key].astype("float32"), name=name)
        for key, (name, _) in SHAPES.items()
    ]
    optimizer.build(variables)
    for gradients in GRADIENTS:
        optimizer.apply(
            [ops.convert_to_tensor(g, "float32") for g in gradients.values()],
            variables,
        )
    return dict(zip(SHAPES, map(ops.convert_to_numpy, variables), strict=True))


class Adam:
    """A step of Adam, from its equations."""

    def __init__(self):
        self.m = self.v = 0.0
        self.count = 0

    def __call__(self, gradient):
        self.count += 1
        self.m = 0.9 * self.m + 0.1 * gradient
        self.v = 0.999 * self.v + 0.001 * gradient**2
        m = self.m / (1 - 0.9**self.count)
        v = self.v / (1 - 0.999**self.count)
        return RATE * m / (np.sqrt(v) + 1e-7)


def sgd(gradient):
    return RATE * gradient


def by_hand(key, step, decay=0.0):
    weight = STARTS[key].copy()
    for count, gradients in enumerate(GRADIENTS):
        gradient = gradients[key]
        weight -= RATE * decay * weight
        if key not in MATRICES:
            weight -= step(gradient)
            continue
        matrix = gradient.reshape(MATRICES[key])
        wide = matrix.shape[0] <= matrix.shape[1]
        if count % GAP == 0:
            u, _, vt = np.linalg.svd(matrix)
            found = u[:, :RANK] if wide else vt[:RANK].T
        if wide:
            change = found @ step(found.T @ matrix)
        else:
            change = step(matrix @ found) @ found.T
        weight -= SCALE * change.reshape(weight.shape)
    return weight


@pytest.mark.parametrize("key", SHAPES)
def test_steps_of_sgd(key):
    found = steps(galore(optimizers.SGD(RATE), RANK, GAP, SCALE))
    np.testing.assert_allclose(found[key], by_hand(key, sgd), atol=1e-5)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_steps_of_adam(decay):
    optimizer = optimizers.AdamW(RATE, weight_decay=decay)
    found = steps(galore(optimizer, RANK, GAP, SCALE))
    for key in SHAPES:
        # In other order, a singular vector's sign changes the state's: of
        # Adam, what the first vectors alone decide.
        if key in MATRICES:
            continue
        np.testing.assert_allclose(
            found[key], by_hand(key, Adam(), decay), atol=1e-5
        )


def test_excluded_from_decay():
    optimizer = optimizers.AdamW(RATE, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["kernel"])
    found = steps(galore(optimizer, RANK, GAP, SCALE))
    expected = steps(galore(optimizers.Adam(RATE), RANK, GAP, SCALE))
    for key, (name, _) in SHAPES.items():
        same = np.allclose(found[key], expected[key], rtol=1e-6)
        assert same == (name == "kernel")


def test_adam_keeps_small_state_and_moves_in_the_directions():
    optimizer = galore(optimizers.Adam(RATE), RANK, 100, SCALE)
    found = steps(optimizer)
    for key in MATRICES:
        matrix = GRADIENTS[0][key].reshape(MATRICES[key])
        wide = matrix.shape[0] <= matrix.shape[1]
        u, _, vt = np.linalg.svd(matrix)
        moved = (found[key] - STARTS[key]).reshape(matrix.shape)
        assert np.abs(moved).max() > 1e-3
        # Without the other vectors, signs of which do not matter either.
        if wide:
            projected = u[:, :RANK] @ (u[:, :RANK].T @ moved)
        else:
            projected = moved @ vt[:RANK].T @ vt[:RANK]
        np.testing.assert_allclose(moved, projected, atol=1e-5)
        step = Adam()
        total = sum(
            step(
                u[:, :RANK].T @ g[key].reshape(matrix.shape)
                if wide
                else g[key].reshape(matrix.shape) @ vt[:RANK].T
            )
            for g in GRADIENTS
        )
        expected = u[:, :RANK] @ total if wide else total @ vt[:RANK]
        np.testing.assert_allclose(moved, -SCALE * expected, atol=1e-5)
    sizes = {
        tuple(v.shape) for v in optimizer.variables if "momentum" in v.path
    }
    assert {(2, 6), (7, 2), (2, 8), (2, 5), (6,), (9, 5)} == sizes


def test_config():
    optimizer = galore(optimizers.RMSprop(RATE, clipnorm=1.0), 3, 5, 0.1)
    again = optimizers.deserialize(optimizers.serialize(optimizer))
    assert again.get_config() == optimizer.get_config()
    assert (again.rank, again.update_gap, again.scale) == (3, 5, 0.1)
    assert again.clipnorm == 1.0


def test_in_fit(tmp_path):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(5, activation="tanh")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3)(hidden))
    model = kd.DebiasedModel(model, kd.projections.EDGE(), seed=0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        galore(
            optimizers.Adam(0.05, use_ema=True, gradient_accumulation_steps=2),
            rank=2,
            update_gap=3,
        ),
        loss,
    )
    x = np.random.default_rng(0).normal(size=(8, 6)).astype("float32")
    y = np.arange(8) % 3
    history = model.fit(x, y, epochs=20, verbose=0).history["loss"]
    assert history[-1] < 0.9 * history[0]
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    for one, other in zip(
        model.optimizer.variables, again.optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(
            ops.convert_to_numpy(one), ops.convert_to_numpy(other)
        )
