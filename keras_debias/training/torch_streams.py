"""Streams of torch, of unknown length, through a KerasHub preprocessor."""

from torch.utils import data

from keras_debias.data.batches import preprocessed


class _Preprocessed(data.IterableDataset):
    def __init__(self, batches, preprocess):
        self.batches = batches
        self.preprocess = preprocess

    def __iter__(self):
        return preprocessed(self.batches, self.preprocess)


def stream(loader: data.DataLoader, preprocess) -> data.DataLoader:
    """A loader of the batches of another, each preprocessed as a whole."""
    return data.DataLoader(_Preprocessed(loader, preprocess), batch_size=None)
