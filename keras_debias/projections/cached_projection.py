import abc

from keras_debias.projections.projection import Projection


class CachedProjection(Projection):
    """Base class of projections that can cache the ratio of two norms.

    Once the ratio is known, the update is a weighted sum of the gradients,
    with one weight for each objective. That is the gradient of one weighted
    sum of losses, which takes a single backward pass.

    Attributes:
        refresh: int. For how many updates a ratio is cached; `1` computes it
            in every step.
    """

    refresh = 1

    @abc.abstractmethod
    def norm_ratio(self, gradients: dict):
        """The ratio to cache: a float32 scalar.

        Args:
            gradients: dict from objective to a list of tensors.
        """

    @abc.abstractmethod
    def weights(self, norm_ratio) -> dict:
        """The weight of each objective's gradient in the update.

        Args:
            norm_ratio: scalar, as `norm_ratio` computed it, up to `refresh`
                updates ago.

        Returns:
            A dict from objective to a scalar.
        """
