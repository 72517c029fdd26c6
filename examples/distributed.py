"""Fine-tune on several devices as on one.

    python examples/distributed.py                                   # one
    torchrun --nproc_per_node=2 examples/distributed.py              # torch
    KERAS_BACKEND=jax python examples/distributed.py --distribute    # jax

A batch of 32 rows is one batch of 32 rows, whatever it is spread over: EDGE,
regularizers, loss and metrics are those of the whole batch, and only dropout
differs. On torch, each process that `torchrun` starts trains on its part of
the rows; on jax, Keras' `DataParallel` spreads the batch over the devices
that are there. For devices simulated on a CPU, set

    XLA_FLAGS=--xla_force_host_platform_device_count=2

The sentences come from a small grammar: nothing is downloaded.
"""

import argparse
import os
import sys
import time

import keras_debias as kd  # before Keras: it chooses the backend

import keras  # isort: skip
import keras_hub  # isort: skip

BATCH_SIZE = 32
RANK = int(os.environ.get("RANK", 0))


def start_torch():
    """Joins the processes that `torchrun` has started."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    torch.distributed.init_process_group()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=320)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--distribute", action="store_true")
    options = parser.parse_args()
    if options.distribute:
        # Before the model is made: Keras lays out its variables by it.
        keras.distribution.set_distribution(keras.distribution.DataParallel())
    if "WORLD_SIZE" in os.environ:
        start_torch()
    keras.utils.set_random_seed(0)

    train = kd.data.generated_nli(options.rows, seed=0)
    test = kd.data.generated_nli(options.rows, seed=1)
    classifier = keras_hub.models.TextClassifier.from_preset(
        kd.presets.minilm(), num_classes=3
    )
    classifier.preprocessor.sequence_length = 32
    kd.adapters.apply(classifier, kd.adapters.PiSSA(rank=8))
    model = kd.DebiasedModel(
        classifier,
        projection=kd.projections.EDGE(),
        regularizers=kd.regularizers.ba_lora(k=1),
    )
    model.compile(
        keras.optimizers.AdamW(2e-4),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    began = time.perf_counter()
    model.fit(
        train,
        batch_size=BATCH_SIZE,
        epochs=options.epochs,
        # Every process has the same logs: one prints them.
        verbose=2 if RANK == 0 else 0,
    )
    seconds = time.perf_counter() - began
    if RANK == 0:
        print(f"Trained in {seconds:.1f} s.")
        print(kd.evaluate(model, {"test": test}))
        kd.adapters.save(
            classifier, "outputs/distributed_adapter", overwrite=True
        )


if __name__ == "__main__":
    sys.exit(main())
