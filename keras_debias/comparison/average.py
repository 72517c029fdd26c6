import keras

from keras_debias.comparison.criterion import Criterion


@keras.saving.register_keras_serializable(package="keras_debias")
class Average(Criterion):
    """Accuracy over all validation rows.

    Needs no groups. If the validation data has the shortcut too, this
    criterion prefers models that use it.

    Example:

    >>> predictions = pd.DataFrame(
    ...     {
    ...         "label": ["no", "no", "yes", "yes"],
    ...         "prediction": ["no", "yes", "yes", "yes"],
    ...         "group": ["a", "b", "a", "b"],
    ...     }
    ... )
    >>> Average().score(predictions, None)
    0.75
    """
