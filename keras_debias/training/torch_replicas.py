"""The processes that `torchrun` starts, combined within a step."""

import keras
import numpy as np
import torch
from torch import distributed

from keras_debias import _keras_internals
from keras_debias.data.batches import INDEX


class Replicas:
    """The processes of the default group of `torch.distributed`.

    Each process has its part of the rows of a batch. `gather` gives every
    process the outputs of the whole batch, so that losses, objectives,
    regularizers and metrics equal those of a single process, even if they
    couple rows. Gradients flow into the own rows only, and `mean` averages
    them.
    """

    @property
    def size(self) -> int:
        """How many processes there are; one without `torch.distributed`."""
        if distributed.is_available() and distributed.is_initialized():
            return distributed.get_world_size()
        return 1

    @property
    def rank(self) -> int:
        """The index of this process, from 0."""
        return distributed.get_rank() if self.size > 1 else 0

    def gather(self, *structures, inputs):
        """Gathers nested tensors of the rows of all processes.

        `inputs` are those of the step and say how many rows count. The own
        rows keep their gradient, `size` times as large; `mean` divides by it
        again. A `None` stays, as does a mask that Keras attached.
        """
        if self.size == 1:
            return structures
        leaves = keras.tree.flatten(structures)
        device = next(x.device for x in leaves if torch.is_tensor(x))
        counts = self._counts(inputs, device)

        def whole(leaf):
            if leaf is None:
                return None
            result = self.gather_rows(leaf, counts)
            mask = _keras_internals.get_keras_mask(leaf)
            if mask is not None:
                mask = self.gather_rows(mask, counts)
                _keras_internals.set_keras_mask(result, mask)
            return result

        return keras.tree.map_structure(whole, structures)

    def parts(self, inputs, device) -> "Parts":
        """The rows of this batch by process, for `losses.row_parts`."""
        return Parts(self, self._counts(inputs, device))

    def _counts(self, inputs, device) -> list[int]:
        """How many rows count in each of the processes."""
        own = torch.tensor([_own_rows(inputs)], device=device)
        counts = [torch.zeros_like(own) for _ in range(self.size)]
        distributed.all_gather(counts, own)
        return [int(count) for count in counts]

    def gather_rows(self, tensor, counts):
        """The rows of all processes; gradients flow into the own ones."""
        tensor = tensor[: counts[self.rank]]
        own = tensor.detach().contiguous()
        # As bytes: not every `torch.distributed` backend sends every dtype.
        sent = own.new_zeros((max(counts), *own.shape[1:]))
        sent[: len(own)] = own
        sent = sent.view(-1).view(torch.uint8)
        received = [torch.empty_like(sent) for _ in counts]
        distributed.all_gather(received, sent)
        parts = [
            part.view(own.dtype).view(max(counts), *own.shape[1:])[:count]
            for part, count in zip(received, counts)
        ]
        if tensor.requires_grad:
            extra = (self.size - 1) * (tensor - tensor.detach())
            parts[self.rank] = tensor + extra
        return torch.cat(parts)

    def mean(self, gradients: dict) -> dict:
        """Averages lists of gradients over the processes, in one message."""
        if self.size == 1:
            return gradients
        tensors = [g for found in gradients.values() for g in found]
        flat = torch.cat([g.reshape(-1).float() for g in tensors])
        distributed.all_reduce(flat)
        pieces = iter(flat.div_(self.size).split([g.numel() for g in tensors]))
        return {
            objective: [next(pieces).view_as(g).to(g.dtype) for g in found]
            for objective, found in gradients.items()
        }

    def share(self, variables: list[keras.Variable]) -> None:
        """Copies the values of the first process to all processes."""
        if self.size == 1:
            return
        for variable in variables:
            value = np.array(keras.ops.convert_to_numpy(variable))
            value = torch.as_tensor(value, device=variable.value.device)
            distributed.broadcast(value, src=0)
            variable.assign(value)

    def wait(self) -> None:
        """Waits until all processes have called it."""
        if self.size > 1:
            distributed.barrier()


class Parts:
    """The rows of one batch by process; see `losses.row_parts`."""

    def __init__(self, replicas, counts):
        self.replicas = replicas
        self.counts = counts
        self.size = replicas.size
        self.rows = sum(counts)

    def local(self, structure):
        """Nested tensors of a step without the row in place of none."""
        count = self.counts[self.replicas.rank]

        def cut(leaf):
            if leaf is None:
                return None
            result = leaf[:count]
            mask = _keras_internals.get_keras_mask(leaf)
            if mask is not None:
                _keras_internals.set_keras_mask(result, mask[:count])
            return result

        return keras.tree.map_structure(cut, structure)

    def without_logits(self, y, y_pred, sample_weight, mask, x):
        """A batch whose labels and logits are those here, the rest of all.

        The mask that Keras attached to the logits is of the losses of all
        rows, as the weights are.
        """
        kept = _keras_internals.get_keras_mask(y_pred)
        y, y_pred, mask = self.local((y, y_pred, mask))
        if kept is not None:
            _keras_internals.set_keras_mask(y_pred, self.joined(kept))
        if sample_weight is not None:
            sample_weight = self.joined(sample_weight)
        x = {name: self.joined(value) for name, value in x.items()}
        return y, y_pred, sample_weight, mask, x

    def total(self, tensor):
        """The sum over processes; its gradient is `size` times as large."""
        result = tensor.detach().clone()
        distributed.all_reduce(result)
        if tensor.requires_grad:
            result = result + self.size * (tensor - tensor.detach())
        return result

    def joined(self, tensor):
        """The rows of all processes, in their order."""
        return self.replicas.gather_rows(tensor, self.counts)

    def own(self, tensor):
        """Of the rows of all processes, those of this one."""
        start = sum(self.counts[: self.replicas.rank])
        return tensor[start : start + self.counts[self.replicas.rank]]

    def add_metrics(self, metrics: list, update) -> None:
        """Sums what an update on the rows here adds to means."""
        variables = [v for metric in metrics for v in metric.variables]
        before = [v.value.clone() for v in variables]
        for variable in variables:
            variable.assign(torch.zeros_like(variable.value))
        update()
        for variable, value in zip(variables, before):
            variable.assign(value + self.total(variable.value))


def _own_rows(inputs) -> int:
    """How many rows of a batch count, without the filler of an empty one."""
    if isinstance(inputs, dict) and INDEX in inputs:
        return int((inputs[INDEX] >= 0).sum())
    return len(keras.tree.flatten(inputs)[0])
