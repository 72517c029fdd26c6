import keras


class Accelerator:
    """The GPU that a backend computes on, if there is one.

    Attributes:
        name: string, or `None` on a CPU.
    """

    def __init__(self):
        finders = {
            "torch": self._torch,
            "tensorflow": self._tensorflow,
            "jax": self._jax,
        }
        found = finders.get(keras.config.backend(), self._none)()
        self.name, self._reset, self._peak = found

    def reset_peak(self) -> None:
        """Resets the peak; on jax, the peak is that of the whole process."""
        if self._reset is not None:
            self._reset()

    def peak(self) -> int | None:
        """The most memory that was in use, in bytes; `None` on a CPU."""
        return None if self._peak is None else int(self._peak())

    def _none(self):
        return None, None, None

    def _torch(self):
        import torch

        if not torch.cuda.is_available():
            return self._none()
        return (
            torch.cuda.get_device_name(),
            torch.cuda.reset_peak_memory_stats,
            torch.cuda.max_memory_allocated,
        )

    def _tensorflow(self):
        import tensorflow as tf

        devices = tf.config.list_physical_devices("GPU")
        if not devices:
            return self._none()
        memory = tf.config.experimental
        return (
            memory.get_device_details(devices[0]).get("device_name", "GPU"),
            lambda: memory.reset_memory_stats("GPU:0"),
            lambda: memory.get_memory_info("GPU:0")["peak"],
        )

    def _jax(self):
        import jax

        device = jax.local_devices()[0]
        if device.platform != "gpu":
            return self._none()
        return (
            device.device_kind,
            None,
            lambda: device.memory_stats()["peak_bytes_in_use"],
        )
