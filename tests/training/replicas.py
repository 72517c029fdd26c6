"""Short trainings as a process of its own: see `distributed_test.py`.

    python -m tests.training.replicas FOLDER [MEETING RANK SIZE]    # torch
    python -m tests.training.replicas FOLDER data|model             # jax

writes weights and logs after each training to `FOLDER/CASE.npz`.
"""

import pathlib
import sys

import keras
import numpy as np
from keras import ops

import keras_debias as kd
from tests.architectures import ARCHITECTURES
from tests.training.step_test import logits_loss
from tests.training.step_test import network

# On three processes: parts of 3, 3 and 2 rows, and at last of 1, 1 and none.
BATCH_SIZE = 8
ROWS = 18 if keras.config.backend() == "torch" else 16


def classifier():
    model = network()
    first, last = model.layers[1], model.layers[-1]
    kd.adapters.apply(
        model,
        kd.adapters.PiSSA(rank=2, targets=(first.name,)),
        also_train=(last.name,),
    )
    generator = np.random.default_rng(0)
    x = generator.standard_normal((ROWS, 5)).astype("float32")
    y = generator.integers(0, 3, ROWS).astype("int32")
    weights = generator.uniform(0.5, 2.0, ROWS).astype("float32")
    return model, x, y, weights


def language_model():
    architecture = {a.name: a for a in ARCHITECTURES}["llama"]
    model = architecture.build()
    # Factors drawn by NumPy: the same in every process.
    kd.adapters.apply(model, kd.adapters.PiSSA(rank=2))
    x, y = architecture.data()
    return model, x, y, x["padding_mask"].astype("float32")


CASES = {
    "classifier": classifier,
    "groups": classifier,
    "language_model": language_model,
}


def train(case, files=None):
    """Trains one case; all processes write to the folder `files`, if any."""
    regularizers = kd.regularizers
    model, x, y, weights = CASES[case]()
    split = kd.data.Split(x, y, sample_weight=weights)
    if case == "groups":
        split = split.with_groups({"parity": np.arange(ROWS) % 2})
    debiased = kd.DebiasedModel(
        model,
        projection=kd.projections.EDGE(alpha=1.0),
        regularizers=[
            regularizers.Consistency(0.5),
            regularizers.Diversity(0.5)
            if case != "language_model"
            else regularizers.TopKEntropy(0.5, k=3),
            regularizers.SpectralConcentration(0.5, k=1),
        ],
        objective=kd.losses.GroupDRO(len(split.groups.names), 0.1)
        if case == "groups"
        else None,
        seed=5,
    )
    debiased.compile(
        keras.optimizers.Adam(0.02), loss=logits_loss(), metrics=["accuracy"]
    )
    callbacks = [kd.callbacks.GradientCosine()]
    if files is not None:
        files = pathlib.Path(files) / case
        callbacks += [
            keras.callbacks.ModelCheckpoint(
                files / "last.weights.h5", save_weights_only=True
            ),
            kd.callbacks.BackupAndRestore(files / "backup"),
        ]
    history = debiased.fit(
        split,
        batch_size=BATCH_SIZE,
        epochs=2,
        verbose=0,
        callbacks=callbacks,
    )
    if files is not None:
        # One has written, and the others have waited for it.
        trained = [np.array(v) for v in debiased.get_weights()]
        debiased.load_weights(files / "last.weights.h5")
        for one, other in zip(trained, debiased.get_weights()):
            np.testing.assert_array_equal(one, other)
        if (files / "backup").exists():
            raise AssertionError("the backup of an ended run is left")
    return debiased, history.history


def write(folder, case, files=None):
    debiased, logs = train(case, files)
    weights = {
        f"weight_{i}": np.array(ops.convert_to_numpy(v))
        for i, v in enumerate(debiased.trainable_variables)
    }
    logs = {f"log_{k}": v for k, v in logs.items()}
    np.savez(pathlib.Path(folder) / f"{case}.npz", **weights, **logs)


def meet(meeting, rank, size):
    """Joins the processes of torch."""
    from torch import distributed

    distributed.init_process_group(
        "gloo",
        init_method=f"file://{meeting}",
        rank=int(rank),
        world_size=int(size),
    )


def spread(kind):
    """Spreads over the devices of jax."""
    distribution = keras.distribution
    if kind == "data":
        distribution.set_distribution(distribution.DataParallel())
        return
    mesh = distribution.DeviceMesh((1, 2), ("batch", "model"))
    layout = distribution.LayoutMap(mesh)
    layout[".*query.*kernel"] = (None, "model", None)
    layout[".*query.*lora_b"] = (None, "model")
    distribution.set_distribution(
        distribution.ModelParallel(layout_map=layout, batch_dim_name="batch")
    )


def main(folder, meeting="data", *rank_and_size):
    if rank_and_size:
        meet(meeting, *rank_and_size)
    else:
        spread(meeting)
    for case in CASES:
        # Every process starts elsewhere: what the first one has is to win.
        keras.utils.set_random_seed(int((*rank_and_size, 0)[0]))
        folder = pathlib.Path(folder)
        shared = folder.parent if rank_and_size else folder
        write(folder, case, shared / "files")


if __name__ == "__main__":
    main(*sys.argv[1:])
