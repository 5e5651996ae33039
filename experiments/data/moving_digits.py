"""Videos of digits that move at constant velocity and bounce off the edges, in the manner of Moving MNIST."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from sklearn.datasets import load_digits

EXTENT = 8  # of an image
SPEEDS = 1.0, 2.0  # lowest and highest, in pixels per frame
NUM_TRAIN, NUM_VALID = 1200, 297  # images; the last 300 are for testing


class Images(NamedTuple):
    """scikit-learn's images of digits [images, 8, 8], from 0 to 1. No image is in two splits."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray

    @staticmethod
    def load() -> Images:
        loaded: Any = load_digits()
        images = (loaded.images / 16).astype(np.float32)
        return Images(*np.split(images, [NUM_TRAIN, NUM_TRAIN + NUM_VALID]))

    def __str__(self) -> str:
        parts = f"{len(self.train):,} to train, {len(self.valid):,} to validate, {len(self.test):,} to test"
        return f"scikit-learn's images {parts}"


def moving_digits(key: Array, images: Array, number: int, digits: int, frames: int, size: int) -> Array:
    """Draws videos [frames, number, size, size], each of random digits with random positions and velocities.

    Where digits overlap, the brighter pixel is visible. A digit between two pixels is interpolated linearly.

    Args:
      key: A random key.
      images: The images to choose from, [images, 8, 8].
      number: Number of videos.
      digits: Number of digits in each video.
      frames: Number of frames.
      size: Height and width of a frame.
    """
    k_image, k_start, k_direction, k_speed = jax.random.split(key, 4)
    shape = number, digits
    chosen = images[jax.random.randint(k_image, shape, 0, len(images))]
    room = size - EXTENT
    start = jax.random.uniform(k_start, (*shape, 2), maxval=room)
    direction = jax.random.uniform(k_direction, shape, maxval=2 * jnp.pi)
    low, high = SPEEDS
    speed = jax.random.uniform(k_speed, shape, minval=low, maxval=high)
    velocity = speed[..., None] * jnp.stack([jnp.sin(direction), jnp.cos(direction)], axis=-1)
    return render(chosen, bounced(start + velocity * jnp.arange(frames)[:, None, None, None], room), size)


def bounced(position: Array, room: Any) -> Array:
    """Reflects positions at 0 and at `room`, as often as necessary."""
    return room - jnp.abs(position % (2 * room) - room)


def render(images: Array, positions: Array, size: int) -> Array:
    """Returns frames [frames, number, size, size] of images [number, digits, 8, 8].

    The positions [frames, number, digits, 2] are those of the upper left corners: row, column.
    """
    distances = jnp.arange(size)[:, None] - positions[..., None, None] - jnp.arange(EXTENT)
    rows, columns = jnp.moveaxis(jnp.maximum(0, 1 - jnp.abs(distances)), 3, 0)  # [frames, number, digits, size, 8]
    return jnp.einsum("tndpi,ndij,tndqj->tndpq", rows, images, columns).max(2)
