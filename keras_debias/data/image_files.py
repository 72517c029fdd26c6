"""`ImageFiles`: images in files, read when they are needed."""

import hashlib
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from keras_debias.data.images import check_image_size
from keras_debias.data.images import fitted
from keras_debias.data.images import pillow


class ImageFiles:
    """Images in files, which are read one batch at a time.

    Behaves like a uint8 array of shape `(n, height, width, 3)` but does not
    hold it in memory: `files[rows]` reads those rows, and `len`, `shape` and
    `dtype` are known without reading. Images are rotated by their EXIF
    orientation, converted to RGB, cut to the shape of `image_size` in the
    middle, and resized with antialiasing.

    Args:
        paths: sequence of paths of image files.
        image_size: tuple of two ints, height and width. Defaults to
            `(224, 224)`.

    Raises:
        ValueError: If there is no path, a file does not exist, or
            `image_size` is not two positive integers.
        TypeError: If `paths` is not a sequence of paths.

    Example:

    ```python
    x = kd.data.ImageFiles(["a.jpg", "b.png"], image_size=(224, 224))
    model.predict(x)  # a `DebiasedModel`; for others, `x[:]` is the array
    ```
    """

    dtype = np.dtype("uint8")
    ndim = 4

    def __init__(
        self,
        paths: Sequence[str | os.PathLike],
        image_size: tuple[int, int] = (224, 224),
    ):
        if isinstance(paths, (str, os.PathLike)) or not np.iterable(paths):
            raise TypeError(
                "Expected `paths` to be a sequence of paths. Received: "
                f"paths={paths!r}. Pass a list, also for a single image."
            )
        paths = list(paths)
        wrong = [p for p in paths if not isinstance(p, (str, os.PathLike))]
        if wrong:
            raise TypeError(
                "Expected `paths` to hold paths only. Received: "
                f"{wrong[0]!r} of type {type(wrong[0]).__name__}"
            )
        if not paths:
            raise ValueError("Expected at least one path. Received: none")
        self._size = check_image_size(image_size)
        pillow()  # before anything else is built on it
        missing = [path for path in paths if not pathlib.Path(path).is_file()]
        if missing:
            raise ValueError(
                "Expected every image file to exist. Received: "
                f"{len(missing)} of {len(paths)} that are missing, the first "
                f"{os.fspath(missing[0])!r}"
            )
        self.paths = np.array([os.fspath(path) for path in paths], object)
        self._digests = {}

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        height, width = self._size
        return f"ImageFiles({len(self)} files, image_size=({height}, {width}))"

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (len(self), *self._size, 3)

    def __getitem__(self, rows) -> np.ndarray:
        """Reads the images of some rows; of an int, that image."""
        paths = self.paths[rows]
        if isinstance(paths, str):
            return self._read(paths)
        images = np.empty((len(paths), *self.shape[1:]), "uint8")
        for row, path in enumerate(paths):
            images[row] = self._read(path)
        return images

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        images = self[:]
        return images if dtype is None else images.astype(dtype)

    def take(self, rows) -> "ImageFiles":
        """Returns the files of some rows, without reading them.

        Args:
            rows: int array, boolean mask or slice.

        Returns:
            An `ImageFiles`.
        """
        taken = object.__new__(type(self))
        taken.__dict__.update(self.__dict__, paths=self.paths[rows])
        return taken

    def digests(self) -> list[str]:
        """Returns a hash of the content of each file: equal for equal files.

        Each file is read once, however often this is called.
        """
        for path in self.paths:
            if path not in self._digests:
                with open(path, "rb") as file:
                    found = hashlib.file_digest(file, "md5").hexdigest()
                self._digests[path] = found
        return [self._digests[path] for path in self.paths]

    def _read(self, path) -> np.ndarray:
        Image, ImageOps, UnidentifiedImageError = pillow()
        try:
            with Image.open(path) as image:
                image = ImageOps.exif_transpose(image).convert("RGB")
        except (UnidentifiedImageError, OSError, SyntaxError) as error:
            raise ValueError(
                f"Expected {path!r} to be an image that can be read. "
                f"Received: {error}"
            ) from error
        return np.asarray(fitted(image, self._size))
