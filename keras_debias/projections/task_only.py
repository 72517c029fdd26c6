import keras

from keras_debias.projections.projection import Projection


@keras.saving.register_keras_serializable(package="keras_debias")
class TaskOnly(Projection):
    """Plain fine-tuning: the task's gradient as it is.

    The baseline to compare with: the same step, data order and budget as
    every other projection.

    Example:

    ```python
    model = kd.DebiasedModel(classifier, projection=kd.projections.TaskOnly())
    ```
    """

    def project(self, gradients, variables):
        return gradients["task"]
