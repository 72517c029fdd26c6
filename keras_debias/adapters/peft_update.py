import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class PeftUpdate:
    """The update of one PEFT module: `scale * B A` on an HF weight.

    DoRA has a magnitude for each output as well.
    """

    module: str
    a: np.ndarray
    b: np.ndarray
    alpha: float
    magnitude: np.ndarray | None = None
