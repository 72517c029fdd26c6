"""Registered names, and parts of Keras' files."""

from collections.abc import Callable

import keras
from keras.src.saving.keras_saveable import KerasSaveable


def register_as(alias: type, original: type) -> None:
    """Makes objects of a class go by the registered name of another.

    `GLOBAL_CUSTOM_NAMES`: the decorator would give the name to the class.
    """
    from keras.src.saving import object_registration

    name = keras.saving.get_registered_name(original)
    object_registration.GLOBAL_CUSTOM_NAMES[alias] = name


class FilePart(KerasSaveable):
    """A group of its own beside a layer's in Keras' weights files.

    `KerasSaveable`: Keras asks its objects alone; a layer's own group must
    hold exactly what the plain layer has. `_obj_type`: one of its kinds, for
    the attributes it leaves out of its search.

    Args:
        save: function of a store to write into.
        load: function of a store to read from, empty where a file has none.
    """

    def __init__(self, save: Callable, load: Callable):
        self._save = save
        self._load = load

    def _obj_type(self):
        return "Loss"

    def save_own_variables(self, store):
        self._save(store)

    def load_own_variables(self, store):
        self._load(store)
