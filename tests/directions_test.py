import keras
import numpy as np
import pytest

from keras_debias import Directions


def test_they_are_made_orthonormal_with_a_warning():
    vectors = np.random.default_rng(0).standard_normal((6, 2))
    with pytest.warns(UserWarning, match="not orthonormal"):
        directions = Directions(vectors)
    v = directions.vectors
    np.testing.assert_allclose(v.T @ v, np.eye(2), atol=1e-6)
    # The same span.
    np.testing.assert_allclose(v @ (v.T @ vectors), vectors, atol=1e-5)


@pytest.mark.parametrize(
    "vectors",
    [
        np.ones(4),
        np.ones((4, 2)),
        np.eye(2, 3),
        np.full((4, 1), np.nan),
        {},
        {"query": np.zeros((3, 1))},
    ],
    ids=str,
)
def test_vectors_that_are_no_directions(vectors):
    with pytest.raises(ValueError, match="Expected .* Received: "):
        Directions(vectors)


def test_roles_go_by_names():
    both = Directions(np.eye(4)[:, :1], side="both")
    assert both.role_of("layer_0/self_attention/query") == "read"
    assert both.role_of("layer_0/feedforward_output_dense") == "write"
    assert both.role_of("hidden") == "read"
    assert both.role_of("hidden", adapted=False) is None
    write = Directions(np.eye(4)[:, :1], side="write", writers="hidden*")
    assert write.role_of("hidden_1") == "write"
    assert write.role_of("query") is None


def test_first_random_and_overlap():
    directions = Directions(np.eye(200)[:, :4])
    assert directions.first(2).rank == 2
    assert directions.overlap(np.eye(200)[0]) == pytest.approx(1.0)
    assert directions.first(1).overlap(np.eye(200)[1]) == 0.0
    random = directions.random(seed=3)
    assert random.rank == 4 and random == directions.random(seed=3)
    # About the root of 4 of 200.
    assert random.overlap(np.eye(200)[0]) < 0.4
    with pytest.raises(ValueError, match="from 1 to 4"):
        directions.first(5)


@pytest.mark.parametrize("shared", [True, False])
def test_config(shared):
    vectors = np.eye(4)[:, :1]
    directions = Directions(vectors if shared else {"query": vectors})
    config = keras.saving.serialize_keras_object(directions)
    again = keras.saving.deserialize_keras_object(config)
    assert again == directions
    assert config["registered_name"].startswith("keras_debias>")
