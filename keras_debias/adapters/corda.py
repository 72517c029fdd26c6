import contextlib

import keras
import numpy as np
from keras import ops

from keras_debias.adapters.measured_lora import MeasuredLoRA
from keras_debias.linalg import kernel_view
from keras_debias.utils.layer_roles import NAMES
from keras_debias.utils.numbers import require_flags

# Share of the mean variance that is added to each variance at first.
_DAMPING = 0.01
_SOUND = 0.05
# Of an encoder-decoder; other networks have one mask.
_SIDES = ("encoder", "decoder")


@keras.saving.register_keras_serializable(package="keras_debias")
class CorDA(MeasuredLoRA):
    """LoRA that starts from the directions that matter least, or most, to data.

    `C` is the second moment of a layer's inputs on some rows of data. With the
    singular value decomposition `C W = U S V'`, the kernel is
    `W = C^-1 U S V'`. To preserve knowledge, pass rows that show it, such as
    questions and answers: the components that matter least to these rows
    train. Otherwise pass rows of the task: the components that matter most to
    them train.

    `adapters.apply(..., data=rows)` takes the rows, without labels. A few
    hundred are enough if they have more tokens than a layer has inputs.
    Padding does not count.

    A learning rate to start from is that of `PiSSA`, `2e-4`.

    Args:
        rank: int. Rank of each update. Defaults to `128`.
        preserve_knowledge: bool. Whether the components train that matter
            least to the rows, instead of those that matter most. Defaults to
            `True`.
        batch_size: int. Rows in a forward pass. Defaults to `8`.
        **settings: `alpha`, `dropout`, `rank_stabilized`, `targets` and
            `train_bias`, as for `LoRA`.

    Raises:
        ValueError: If an argument is out of range; when applied, if `data` is
            missing or inputs of a layer are not finite.

    Example:

    ```python
    corda = kd.adapters.CorDA(rank=32, preserve_knowledge=False)
    kd.adapters.apply(classifier, corda, data=train.take(range(256)))
    ```

    Reference:
        [Yang et al., 2024](https://arxiv.org/abs/2406.05223), whose modes PEFT
        calls "kpm" (`preserve_knowledge=True`) and "ipm". As in PEFT, 0.01 of
        the mean variance is added to the diagonal of `C`, and more until its
        inverse is accurate. The base is never written to.
    """

    def __init__(
        self, rank=128, preserve_knowledge=True, batch_size=8, **settings
    ):
        super().__init__(rank, batch_size=batch_size, **settings)
        require_flags(preserve_knowledge=preserve_knowledge)
        self.preserve_knowledge = preserve_knowledge

    def measure(self, model, layers, batches):
        moments = [_Moment(path, layer) for path, layer in layers.items()]
        with contextlib.ExitStack() as stack:
            for moment in moments:
                stack.enter_context(moment.recording())
            for index in range(len(batches)):
                x, _, _ = keras.utils.unpack_x_y_sample_weight(batches[index])
                masks = {side: _padding_mask(x, side) for side in _SIDES}
                for moment in moments:
                    moment.mask = masks[moment.side]
                x = keras.tree.map_structure(ops.convert_to_tensor, x)
                model(x, training=False)
        return [moment.mean for moment in moments]

    def factors_from(self, path, matrix, measured):
        if measured is None or not np.isfinite(measured).all():
            raise ValueError(
                f"Expected finite inputs of '{path}' on `data`. Received: "
                f"{'none' if measured is None else 'NaN or infinity'}. Look "
                "for broken rows, or leave the layer out of `targets`."
            )
        moment, inverse = _invertible(measured.astype("float64"))
        u, s, vt = np.linalg.svd(
            moment @ matrix.astype("float64"), full_matrices=False
        )
        part = slice(self.rank)
        if self.preserve_knowledge:
            part = slice(len(s) - self.rank, len(s))
        root = np.sqrt(s[part] / self.scaling)
        return (
            (inverse @ u[:, part] * root).astype("float32"),
            (root[:, None] * vt[part]).astype("float32"),
        )

    def get_config(self):
        return {
            **super().get_config(),
            "preserve_knowledge": self.preserve_knowledge,
        }


class _Moment:
    """The second moment of what enters a layer."""

    def __init__(self, path, layer):
        self.side = "encoder" if _reads_encoder(path) else "decoder"
        self._layer = layer
        self._sum = 0.0
        self._count = 0
        self.mask = None

    @property
    def mean(self):
        return self._sum / self._count if self._count else None

    @contextlib.contextmanager
    def recording(self):
        layer = self._layer
        # In `__dict__`: neither Keras' tracking nor torch's modules see it.
        names = ("call", "quantized_call")
        for name in names:
            layer.__dict__[name] = self._recorded(getattr(layer, name))
        try:
            yield
        finally:
            for name in names:
                del layer.__dict__[name]

    def _recorded(self, call):
        def recorded(inputs, *args, **kwargs):
            self._add(inputs)
            return call(inputs, *args, **kwargs)

        return recorded

    def _add(self, inputs):
        rows = kernel_view(self._layer).input_rows(inputs)
        rows = np.array(
            ops.convert_to_numpy(ops.cast(rows, "float32")), "float64"
        )
        mask = self.mask
        if mask is not None and mask.shape == rows.shape[:2]:
            rows = rows[mask]
        rows = rows.reshape(-1, rows.shape[-1])
        self._sum = self._sum + rows.T @ rows
        self._count += len(rows)


def _padding_mask(x, side):
    """Which inputs are not padding, or `None` if nothing says so."""
    if not isinstance(x, dict):
        return None
    mask = x.get("padding_mask", x.get(f"{side}_padding_mask"))
    if mask is None:
        return None
    # Of label words, several sequences come with each row.
    mask = np.asarray(mask).astype(bool)
    return mask.reshape(-1, mask.shape[-1])


def _reads_encoder(path):
    """Whether a layer of an encoder-decoder reads what the encoder reads."""
    *_, name = path.split("/")
    if "cross" in path and name in (*NAMES["key"], *NAMES["value"]):
        return True
    return "decoder" not in path


def _invertible(moment):
    """The moment, damped until its inverse is accurate; and the inverse."""
    size, damping = len(moment), _DAMPING
    variance = np.mean(np.diag(moment)) or 1.0
    while True:
        damped = moment + damping * variance * np.eye(size)
        inverse = np.linalg.inv(damped)
        if np.linalg.norm(damped @ inverse - np.eye(size)) < _SOUND:
            return damped, inverse
        damping *= 2
