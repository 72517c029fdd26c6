import abc

from keras_debias.losses.identity import identity
from keras_debias.utils.configurable import Configurable


class Projection(Configurable, abc.ABC):
    """Base class of all projections: turns gradients into the update.

    A subclass overrides one method, `project`, a pure function in `keras.ops`.
    A projection that needs more than the task's gradient also declares its
    objectives. Every objective is a function of the per-sample losses. All
    objectives share one forward pass, and equal objectives share one backward
    pass.

    Example:

    ```python
    class Halved(kd.projections.Projection):
        def project(self, gradients, variables):
            return [0.5 * g for g in gradients["task"]]
    ```
    """

    @property
    def objectives(self) -> dict:
        """Objectives by name; `"task"` is the compiled loss itself."""
        return {"task": identity}

    @abc.abstractmethod
    def project(self, gradients: dict, variables: list) -> list:
        """The update to hand to the optimizer.

        Args:
            gradients: dict from objective to a list of tensors, one for each
                variable; dense, zeros where an objective does not reach.
                `gradients["task"]` is the result of the previous projection,
                if there is one.
            variables: list of `keras.Variable`, in the same order.

        Returns:
            A list of tensors in the same order.
        """
