"""What `keras-debias compare` does once the arguments are read."""

import pathlib

from keras_debias.cli.methods import recipe_of
from keras_debias.cli.networks import builder
from keras_debias.cli.networks import outputs_of
from keras_debias.cli.tables import written
from keras_debias.cli.training import train_and_test
from keras_debias.comparison.compare import compare
from keras_debias.recipes import Budget


def compare_methods(options) -> None:
    """Compares methods, and writes the report.

    Args:
        options: the arguments of the command.

    Raises:
        ValueError: If every run is broken; else see `kd.compare`.
    """
    folder = pathlib.Path(options.output)
    train, test = train_and_test(options)
    chosen = dict.fromkeys(options.methods)
    comparison = compare(
        {name: recipe_of(name, options.kind_is_task) for name in chosen},
        train,
        {"test": test},
        options.seeds,
        builder(options, outputs_of(train)),
        Budget(epochs=options.epochs, batch_size=options.batch_size),
        folder=folder / "runs",
        batch_size=options.batch_size,
        verbose=0 if options.quiet else 1,
    )
    if not comparison.runs:
        (method, seed), error = next(iter(comparison.errors.items()))
        raise ValueError(
            f"Every run is broken. {method}, seed {seed}: "
            f"{error.strip().splitlines()[-1]}"
        )
    if not options.quiet:
        print(comparison)
    name = pathlib.Path(options.data).name
    comparison.report(
        folder / "report.html",
        title=f"{name}: methods for {options.label}",
    )
    comparison.to_csv(folder / "summary.csv")
    comparison.to_json(folder / "comparison.json")
    written(folder)
