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
        own = torch.tensor([_own_rows(inputs)], device=device)
        counts = [torch.zeros_like(own) for _ in range(self.size)]
        distributed.all_gather(counts, own)
        counts = [int(count) for count in counts]

        def whole(leaf):
            if leaf is None:
                return None
            result = self._gather(leaf, counts)
            mask = _keras_internals.get_keras_mask(leaf)
            if mask is not None:
                mask = self._gather(mask, counts)
                _keras_internals.set_keras_mask(result, mask)
            return result

        return keras.tree.map_structure(whole, structures)

    def _gather(self, tensor, counts):
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


def _own_rows(inputs) -> int:
    """How many rows of a batch count, without the filler of an empty one."""
    if isinstance(inputs, dict) and INDEX in inputs:
        return int((inputs[INDEX] >= 0).sum())
    return len(keras.tree.flatten(inputs)[0])
