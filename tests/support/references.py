"""What the NumPy references of the cells share: their form, the functions of several papers, and derivatives.

A reference is a step `(params, state, x) -> (state, y)` on column vectors, as papers write it, together with the
state in which a sequence begins. It handles one sequence at a time. Each cell's reference is in its own test file.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from tests.support.inputs import INPUT


class Reference(NamedTuple):
    """A cell again in NumPy.

    step: `(params, state, x) -> (state, y)`; the state is a tuple of arrays.
    initial: `params -> state` in which a sequence begins.
    input_size: the number of features of one step, or the shape of one step's input if it has several axes.
    analytic: whether the step accepts complex numbers and is analytic in them. Then derivatives are computed by
      complex steps, which are exact; otherwise by extrapolated central differences.
    """

    step: Callable[[Any, tuple, np.ndarray], tuple[tuple, np.ndarray]]
    initial: Callable[[Any], tuple]
    input_size: Any = INPUT
    analytic: bool = True


@dataclass(frozen=True)
class Case:
    """A cell, the reference that it must equal, and what the battery needs to know.

    frozen: names of the parameters that the cell does not train; their gradient must be zero.
    reads_symbols: whether symbols are read as one-hot vectors; otherwise the cell must refuse them by its name.
    variants: cells of the same class with other arguments, under names that say which.
    """

    cell: Any
    reference: Reference
    frozen: tuple[str, ...] = ()
    reads_symbols: bool = True
    variants: Mapping[str, Case] = field(default_factory=dict)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def hard_sigmoid(x):
    return np.minimum(1, np.maximum(0, 0.2 * x + 0.5))


def silu(x):
    return x * sigmoid(x)


def softplus(x):
    return np.log(1 + np.exp(x))


def relu(x):
    return np.where(x > 0, x, 0)


def parts(array, number):
    """Splits a parameter into its gates: matrices that multiply column vectors from the left, or vectors."""
    return [part.T for part in np.split(array, number, axis=-1)]


def zero_state(*sizes):
    return lambda params: tuple(np.zeros(size) for size in sizes)


def of_hidden(hidden, *, analytic=True):
    """Makes a reference of a step `(params, h, x) -> h`, for cells whose state and output are one vector h."""

    def wrap(function):
        def step(params, state, x):
            h = function(params, *state, x)
            return (h,), h

        return Reference(step, zero_state(hidden), analytic=analytic)

    return wrap


def of_state(*sizes):
    """Makes a reference of a step `(params, *state, x) -> state`, for cells that output the first array of it."""

    def wrap(function):
        def step(params, state, x):
            state = function(params, *state, x)
            return state, state[0]

        return Reference(step, zero_state(*sizes))

    return wrap


def typed(params, before, x):
    """The strongly-typed gates before their nonlinearities; `before` is V times the previous input."""
    return [
        v + w @ x + b for v, w, b in zip(np.split(before, 3), parts(params.w_x, 3), np.split(params.b, 3), strict=True)
    ]


def integrated(w, u, alpha, beta_1, beta_2, b, x, h):
    """Wu et al. 2016, the general form: alpha * Wx * Uh + beta_1 * Uh + beta_2 * Wx + b."""
    return alpha * (w @ x) * (u @ h) + beta_1 * (u @ h) + beta_2 * (w @ x) + b


def deep_transition(depth, *, shortcut=False, output=None):
    """Pascanu et al. 2014, eq. 6, and the deep output of eq. 7 without its last layer."""

    def step(params, state, x):
        (before,) = state
        h = np.tanh(params.w_x.T @ x + params.w_h.T @ before + params.b)
        for layer in range(2, depth + 1):
            past = params.w_s.T @ before if shortcut and layer == depth else 0
            h = np.tanh(params.w_u[layer - 2].T @ h + params.b_u[layer - 2] + past)
        return (h,), np.tanh(params.w_y.T @ h + params.b_y) if output else h

    return Reference(step, zero_state(4))


def mod_relu(z, b):
    """Arjovsky et al. 2016, eq. 8."""
    y = np.zeros_like(z)
    for i in np.flatnonzero(z):
        if abs(z[i]) + b[i] >= 0:
            y[i] = (abs(z[i]) + b[i]) * z[i] / abs(z[i])
    return y


def skew(params):
    """The skew-symmetric matrix of the entries above the diagonal."""
    a = np.zeros_like(params.a)
    for i, j in zip(*np.triu_indices(len(a), 1), strict=True):
        a[i, j], a[j, i] = params.a[i, j], -params.a[i, j]
    return a


def heads_of(vector, number):
    return np.split(vector, number)


def unit(vector):
    """The vector divided by its norm, which has a small constant under the root."""
    return vector / np.sqrt(vector @ vector + 1e-6)


def convolve(kernel, image):
    """A convolution as a loop over places and kernel positions, each of which adds a matrix times a pixel."""
    extent, positions = image.shape[:-1], kernel.shape[:-2]
    out = np.zeros((*extent, kernel.shape[-1]), np.result_type(kernel, image))
    for place in np.ndindex(*extent):
        for position in np.ndindex(*positions):
            # The kernel's middle is at the place; of an even number of positions, it is the first of the middle two.
            seen = tuple(p + k - (size - 1) // 2 for p, k, size in zip(place, position, positions, strict=True))
            if all(0 <= n < size for n, size in zip(seen, extent, strict=True)):  # zeros beyond
                out[place] += kernel[position].T @ image[seen]
    return out


def gates(array, number):
    """Splits kernels or biases, whose last axis has the channels of all gates."""
    return np.split(array, number, axis=-1)


def run(reference, params, xs, state=None, *, lengths=None, resets=None, reverse=False):
    """`unroll` again: each sequence alone and only its own steps. Returns (state, ys), the state as a tuple.

    Between two steps that are read one after the other, the state restarts if the later one in time has a reset.
    """
    features = len(np.atleast_1d(reference.input_size))  # axes of one step's input
    time, *batch = xs.shape[: xs.ndim - features]
    begin = reference.initial(params)
    silence = 0 * reference.step(params, begin, np.zeros(xs.shape[xs.ndim - features :]))[1]
    ys = np.empty((time, *batch), object)
    last = np.empty(batch, object)
    for n in np.ndindex(*batch):
        s = begin if state is None else tuple(leaf[n] for leaf in state)
        length = time if lengths is None else int(lengths[n])
        for t in range(time):
            ys[(t, *n)] = silence
        for t in reversed(range(length)) if reverse else range(length):
            later = t + 1 if reverse else t
            if resets is not None and later < length and resets[(later, *n)]:
                s = begin
            s, ys[(t, *n)] = reference.step(params, s, xs[(t, *n)])
        last[n] = s
    shapes = [(*batch, -1)[: len(batch) + np.ndim(leaf)] for leaf in begin]  # numbers have no axis
    leaves = [np.array([s[i] for s in last.flat]).reshape(shape) for i, shape in enumerate(shapes)]
    return tuple(leaves), np.array(list(ys.flat)).reshape(time, *batch, *silence.shape)


def gradient(function, arrays):
    """The exact gradient of a real analytic function of a list of arrays, entry by entry, by complex steps."""
    grads = [np.zeros(np.shape(array)) for array in arrays]
    for k, array in enumerate(arrays):
        for n in np.ndindex(*np.shape(array)):
            moved = np.array(array, complex)
            moved[n] += 1e-30j
            grads[k][n] = function([*arrays[:k], moved, *arrays[k + 1 :]]).imag / 1e-30
    return grads


def derivative(function, array, direction, *, analytic):
    """The derivative of a real function at `array` along `direction`.

    By a complex step, exact to rounding, if the function is analytic. Otherwise by central differences with steps of
    h, h / 2 and h / 4, extrapolated twice to h = 0; rounding makes up most of the error, about 1e-11 of the value.
    """
    if analytic:
        return function(array + 1e-30j * direction).imag / 1e-30
    h = 1e-4
    steps = [h, h / 2, h / 4]
    values = [(function(array + t * direction) - function(array - t * direction)) / (2 * t) for t in steps]
    for factor in (4, 16):
        values = [(factor * fine - coarse) / (factor - 1) for coarse, fine in itertools.pairwise(values)]
    return values[0]
