"""Next frames without learning: the last frame again, and constant motion; and how frames are compared."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy import ndimage
from scipy.special import entr, xlogy
from sklearn.isotonic import IsotonicRegression

from data.moving_digits import bounced

TOGETHER = 16  # parts of frames
MOST = 16  # parts of a frame that move on their own
LEAST = 1e-6  # smallest distance of a probability from 0 and 1


def last_frame(read: np.ndarray, steps: int) -> np.ndarray:
    """Repeats the last of the frames [time, number, height, width] that were read."""
    return np.repeat(read[-1:], steps, axis=0)


def constant_motion(read: np.ndarray, steps: int) -> np.ndarray:
    """Moves each connected part of the last frame with its velocity.

    A part is a group of adjacent pixels above 0, diagonally adjacent ones included. (If a frame has more than `MOST`
    parts, they move together.) Its velocity is the one that best explains the two frames before, in squared error: up
    to an eighth of the frame's extent per frame, to an eighth of a pixel. Parts moved by fractions of a pixel are
    interpolated linearly. Where parts overlap, the brighter pixel is visible.

    This cannot know that touching digits are two, what is hidden behind a digit, or where a digit goes after it has
    just hit an edge. Without knowing the edges, parts leave the frame; otherwise their bounding boxes bounce off them.

    Args:
      read: Frames [time, number, height, width], at least three.
      steps: Number of frames to predict.

    Returns:
      Predictions [2, steps, number, height, width], without and with knowing the edges.
    """
    last, before = read[-1], read[-3:-1][::-1]
    parts, boxes, videos = [], [], []
    for video, frame in enumerate(last):
        labels, number = ndimage.label(frame > 0, np.ones((3, 3)))  # type: ignore
        if number > MOST:
            labels = (frame > 0).astype(int)
        for label, box in enumerate(ndimage.find_objects(labels), 1):
            parts.append(np.where(labels == label, frame, 0))
            boxes.append([(axis.start, axis.stop) for axis in box])
            videos.append(video)
    for _ in range(-len(parts) % TOGETHER):  # so that one compiled program is enough
        parts.append(np.zeros_like(last[0]))
        boxes.append([(0, 1), (0, 1)])
        videos.append(0)
    predicted = np.zeros((2, steps, *last.shape), np.float32)
    for first in range(0, len(parts), TOGETHER):
        some = slice(first, first + TOGETHER)
        moved = continued(np.array(parts[some]), before[:, videos[some]], np.array(boxes[some]), steps)
        for video, frames in zip(videos[some], np.asarray(moved), strict=True):
            np.maximum(predicted[:, :, video], frames, out=predicted[:, :, video])
    return predicted


@partial(jax.jit, static_argnames="steps")
@partial(jax.vmap, in_axes=(0, 1, 0, None))
def continued(part: Array, before: Array, box: Array, steps: int) -> Array:
    """Returns the next frames [2, steps, height, width] of a part, given one or more frames before, the latest first.

    `box` has the first and the last row and column of the part, each last one plus 1.
    """
    velocity = jnp.zeros(2)
    for reach, parts_of_pixel in ((max(part.shape) // 8, 1), (4, 4), (1, 8)):  # in whole pixels, then finer
        grid = velocity[:, None] + jnp.arange(-reach, reach + 1) / parts_of_pixel
        errors = mismatch(part, before, grid)
        row, column = jnp.unravel_index(errors.argmin(), errors.shape)
        velocity = jnp.stack([grid[0, row], grid[1, column]])
    moves = velocity * jnp.arange(1, steps + 1)[:, None]
    room = jnp.maximum(jnp.array(part.shape) - (box[:, 1] - box[:, 0]), 1e-3)
    both = jnp.concatenate([moves, bounced(box[:, 0] + moves, room) - box[:, 0]])
    rows, columns = (shifts(size, both[:, axis]) for axis, size in enumerate(part.shape))
    return jnp.einsum("tpi,ij,tqj->tpq", rows, part, columns).reshape(2, steps, *part.shape)


def mismatch(part: Array, before: Array, velocities: Array) -> Array:
    """Returns squared errors [rows, columns] of a part at its earlier places, for velocities [2, n] along both axes.

    An error is the sum over the pixels of the moved part. Those that were outside of the frame count as if it had been
    dark there.
    """
    errors = jnp.zeros((velocities.shape[1],) * 2)
    for lag, frame in enumerate(before, 1):
        rows, columns = (shifts(size, -lag * velocities[axis]) for axis, size in enumerate(part.shape))
        moved, mask = (jnp.einsum("api,ij,bqj->abpq", rows, image, columns) for image in (part, jnp.sign(part)))
        errors += jnp.sum((moved - frame) ** 2, where=mask > 1e-6, axis=(2, 3))
        errors += jnp.sum(part**2) - jnp.einsum("api,ij,bqj->ab", rows, part**2, columns)
    return errors


def shifts(size: int, distances: Array) -> Array:
    """Returns matrices [distances, size, size] that move an axis by each of the distances, with interpolation."""
    places = jnp.arange(size)
    return jnp.maximum(0, 1 - jnp.abs(places[:, None] - places - distances[:, None, None]))


class Calibration:
    """Turns the pixels of a prediction into probabilities, as well as possible with an increasing function.

    A sharp prediction has a high loss wherever it is wrong. For a fair comparison, an isotonic regression for each
    frame ahead replaces each predicted pixel by the mean of the true pixels where training videos have that prediction.

    Args:
      predicted: Predicted frames [steps, number, height, width] of training videos.
      true: The true frames.
    """

    def __init__(self, predicted: np.ndarray, true: np.ndarray):
        self.fits = [
            IsotonicRegression(y_min=LEAST, y_max=1 - LEAST, out_of_bounds="clip").fit(x.ravel(), y.ravel())
            for x, y in zip(predicted, true, strict=True)
        ]

    def __call__(self, predicted: np.ndarray) -> np.ndarray:
        found = [fit.predict(x.ravel()).reshape(x.shape) for fit, x in zip(self.fits, predicted, strict=True)]
        return np.stack(found).astype(np.float32)


class Baselines:
    """The predictions without learning, each calibrated for training videos.

    Args:
      train: Training videos [time, number, height, width].
      read: Number of frames to read. The others are predicted.
    """

    def __init__(self, train: np.ndarray, read: int):
        self.steps = len(train) - read
        found = self._predict(train[:read])
        self.calibrations = {name: Calibration(predicted, train[read:]) for name, predicted in found.items()}

    def __call__(self, read: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the predictions [steps, number, height, width] after frames that were read, by their names."""
        return {name: self.calibrations[name](predicted) for name, predicted in self._predict(read).items()}

    def _predict(self, read: np.ndarray) -> dict[str, np.ndarray]:
        free, bouncing = constant_motion(read, self.steps)
        return {
            "constant motion": free,
            "constant motion, edges known": bouncing,
            "last frame": last_frame(read, self.steps),
        }


def nats(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Returns the binary cross-entropy of each frame ahead [steps]: summed over pixels, averaged over videos."""
    p = predicted.astype(float)
    return -(xlogy(true, p) + xlogy(1 - true, 1 - p)).sum((2, 3)).mean(1)


def squared_error(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Returns the squared error of each frame ahead [steps]: summed over pixels, averaged over videos."""
    return ((predicted.astype(float) - true) ** 2).sum((2, 3)).mean(1)


def lowest_nats(true: np.ndarray) -> np.ndarray:
    """Returns the binary cross-entropy of the true frames themselves [steps], above 0 because pixels are gray."""
    true = true.astype(float)
    return (entr(true) + entr(1 - true)).sum((2, 3)).mean(1)
