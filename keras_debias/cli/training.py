"""What `keras-debias train` does once the arguments are read."""

import json
import pathlib
import sys

from keras_debias import adapters
from keras_debias.cli.methods import recipe_of
from keras_debias.cli.networks import adapter_of
from keras_debias.cli.networks import builder
from keras_debias.cli.networks import outputs_of
from keras_debias.cli.networks import trained_part
from keras_debias.cli.tables import read_split
from keras_debias.cli.tables import written
from keras_debias.evaluation import page as evaluation_page
from keras_debias.evaluation.evaluate import evaluate
from keras_debias.recipes import Budget
from keras_debias.recipes import FineTuning
from keras_debias.recipes import Trainer
from keras_debias.recipes import recommendation_page
from keras_debias.recipes import recommended
from keras_debias.utils import html_page
from keras_debias.utils.files import written_folder
from keras_debias.utils.spreadsheets import write_csv

# With fewer updates a model has hardly changed.
FEW_UPDATES = 150
TRAINED = {
    "lora": "adapter lora",
    "value-bias": "adapter value-bias",
    "head": "the head alone",
    "full": "all weights",
}


def train(options) -> None:
    """Trains a classifier, measures it and saves both.

    Args:
        options: the arguments of the command.

    Raises:
        ValueError: If the folder exists, the data has no labels that can be
            learned, or the test data has others.
    """
    folder = pathlib.Path(options.output)
    check_overwrite(folder, options.overwrite)
    data, test = train_and_test(options)
    verbose = verbosity(options)
    trainer = Trainer(
        builder(options, outputs_of(data)),
        Budget(epochs=options.epochs, batch_size=options.batch_size),
        options.seed,
        verbose=verbose,
    )
    recipe = recipe_of(options.method, options.kind_is_task)
    found = None
    if options.method == "recommended":
        found = recipe = recommended(
            data.with_groups(None),
            trainer.frozen_features,
            kind_is_task=recipe.kind_is_task,
        )
        if not options.quiet:
            print(found)
    model = recipe.fit(trainer, data)
    scores = evaluate(
        model,
        {"test": test},
        train=data,
        batch_size=options.batch_size,
        verbose=verbose,
    )
    if not options.quiet:
        print(scores)
    classifier = model.model
    with written_folder(folder) as draft:
        if adapter_of(options) is not None:
            adapters.save(classifier, draft / "adapter")
            adapters.merge(classifier)
        # The optimizer is saved along, and `from_preset` makes the default
        # one to read it: another one would not fit.
        classifier.compile()
        classifier.save_to_preset(str(draft / "model"))
        if data.label_names is not None:
            labels = json.dumps(list(data.label_names), ensure_ascii=False)
            (draft / "labels.json").write_text(labels + "\n", encoding="utf-8")
        scores.to_json(draft / "scores.json")
        write_csv(scores.predictions, draft / "predictions.csv")
        (draft / "report.html").write_text(
            _page(options, data, trainer, scores, found), encoding="utf-8"
        )
    written(folder)


def check_overwrite(folder: pathlib.Path, overwrite: bool) -> None:
    """Raises where a folder exists and may not be replaced."""
    if folder.exists() and not (folder.is_dir() and overwrite):
        raise ValueError(
            f"Expected --output to be a new folder, received {str(folder)!r}, "
            "which exists. Give --overwrite to replace it."
        )


def train_and_test(options):
    """Two splits of the data, with groups of label and columns."""
    data = read_split(options, by_label=True)
    if data.label_names is None and not options.regression:
        raise ValueError(
            f"Expected {options.label!r} to hold class labels, received "
            f"numbers of dtype {data.y.dtype}. Give --regression to predict "
            "numbers."
        )
    if options.test:
        return data, read_split(
            options, options.test, data.label_names, by_label=True
        )
    test, train = data.partition(options.test_share, seed=0)
    return train, test


def verbosity(options) -> int:
    """Bars on a terminal, a line for each stage elsewhere, or nothing."""
    if options.quiet:
        return 0
    return 1 if sys.stdout.isatty() else 2


def _page(options, data, trainer, scores, found) -> str:
    method = f"Method: {options.method}."
    if found is not None:
        method = f"Method: {type(found.recipe).__name__}, as recommended."
    done = [
        f"{options.model} was fine-tuned ({TRAINED[trained_part(options)]}) "
        f"on {len(data):,} rows of {pathlib.Path(options.data).name}: "
        f"{trainer.updates:,} updates of {options.batch_size} rows, "
        f"{trainer.seconds:.0f} seconds. {method}",
    ]
    steps = []
    if trainer.updates < FEW_UPDATES:
        steps.append(
            f"Train longer with `--epochs`: {trainer.updates} updates are few."
        )
    parts = evaluation_page.parts(scores, done, steps)
    if found is not None:
        parts += [
            html_page.heading("Why this method"),
            *recommendation_page.parts(found, headed=False),
        ]
    elif not isinstance(recipe_of(options.method), FineTuning):
        parts += [
            html_page.heading("The method"),
            html_page.code(str(recipe_of(options.method))),
        ]
    parts += [
        html_page.heading("Serve the model"),
        html_page.code(_serving(options, data.label_names)),
    ]
    title = f"{pathlib.Path(options.data).name}: trained on {options.label}"
    return html_page.page(title, parts)


def _serving(options, label_names) -> str:
    """Code that predicts with the preset, without this library."""
    task = "ImageClassifier" if options.image else "TextClassifier"
    lines = ["import keras_hub", ""]
    texts = options.text or []
    inputs = '["a text"]'
    if len(texts) > 1:
        inputs = "(" + ", ".join(f"[{column!r}]" for column in texts) + ")"
    if options.image:
        lines.insert(0, "import keras")
        lines.insert(1, "import numpy as np")
        size = (options.image_size, options.image_size)
        lines.append(
            'image = keras.utils.load_img("a.jpg", '
            f"target_size={size}, keep_aspect_ratio=True)"
        )
        inputs = "np.array(image)[None]"
    lines.append(f'model = keras_hub.models.{task}.from_preset("model")')
    if label_names is None:
        return "\n".join([*lines, f"print(model.predict({inputs})[0, 0])"])
    lines.append(f"labels = {list(label_names)}")
    lines.append(f"print(labels[model.predict({inputs}).argmax()])")
    return "\n".join(lines)
