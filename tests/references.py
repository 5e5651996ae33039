"""Every cell again in plain NumPy, gate by gate, from its paper's equation, one sequence at a time.

A reference is a step `(params, state, x) -> (state, y)` on column vectors, as papers write it, and the state
that a sequence begins with. Everything is analytic, so that complex arguments give derivatives to machine precision.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

INPUT = 3  # features of one step in every test that runs over a table, unless a reference says otherwise


class Reference(NamedTuple):
    step: Callable[[Any, tuple, np.ndarray], tuple[tuple, np.ndarray]]
    initial: Callable[[Any], tuple]
    input_size: Any = INPUT  # the shape of one step's input where it has several axes


class Case(NamedTuple):
    """A cell, and what it must equal."""

    cell: Any
    reference: Reference


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def parts(array, number):
    """The gates' matrices (as in the papers: they stand to the left of a column vector) or vectors."""
    return [part.T for part in np.split(array, number, axis=-1)]


def zero_state(*sizes):
    return lambda params: tuple(np.zeros(size) for size in sizes)


def elman(hidden, phi=np.tanh):
    """Elman 1990, eq. of the hidden layer."""

    def step(params, state, x):
        (h,) = state
        h = phi(params.w_x.T @ x + params.w_h.T @ h + params.b)
        return (h,), h

    return Reference(step, zero_state(hidden))


def lstm(hidden):
    """Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000."""

    def step(params, state, x):
        h, c = state
        w_i, w_f, w_g, w_o = parts(params.w_x, 4)
        r_i, r_f, r_g, r_o = parts(params.w_h, 4)
        b_i, b_f, b_g, b_o = parts(params.b, 4)
        input_gate = sigmoid(w_i @ x + r_i @ h + b_i)
        forget_gate = sigmoid(w_f @ x + r_f @ h + b_f)
        candidate = np.tanh(w_g @ x + r_g @ h + b_g)
        output_gate = sigmoid(w_o @ x + r_o @ h + b_o)
        c = forget_gate * c + input_gate * candidate
        h = output_gate * np.tanh(c)
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden))


def peephole_lstm(hidden):
    """Gers et al. 2002, with the squashing functions of Graves 2013 (eqs. 7 to 11)."""

    def step(params, state, x):
        h, c = state
        w_i, w_f, w_g, w_o = parts(params.w_x, 4)
        r_i, r_f, r_g, r_o = parts(params.w_h, 4)
        b_i, b_f, b_g, b_o = parts(params.b, 4)
        p_i, p_f, p_o = (np.diag(row) for row in params.w_c)
        input_gate = sigmoid(w_i @ x + r_i @ h + p_i @ c + b_i)
        forget_gate = sigmoid(w_f @ x + r_f @ h + p_f @ c + b_f)
        candidate = np.tanh(w_g @ x + r_g @ h + b_g)
        c = forget_gate * c + input_gate * candidate
        output_gate = sigmoid(w_o @ x + r_o @ h + p_o @ c + b_o)  # sees the new memory
        h = output_gate * np.tanh(c)
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden))


def projected_lstm(hidden, projection):
    """Sak et al. 2014, with neither peepholes nor the non-recurrent projection."""

    def step(params, state, x):
        r, c = state
        w_i, w_f, w_g, w_o = parts(params.w_x, 4)
        r_i, r_f, r_g, r_o = parts(params.w_h, 4)
        b_i, b_f, b_g, b_o = parts(params.b, 4)
        input_gate = sigmoid(w_i @ x + r_i @ r + b_i)
        forget_gate = sigmoid(w_f @ x + r_f @ r + b_f)
        candidate = np.tanh(w_g @ x + r_g @ r + b_g)
        output_gate = sigmoid(w_o @ x + r_o @ r + b_o)
        c = forget_gate * c + input_gate * candidate
        r = params.w_p.T @ (output_gate * np.tanh(c))
        return (r, c), r

    return Reference(step, zero_state(projection, hidden))


def gru(hidden):
    """Cho et al. 2014, version 1: the reset gate multiplies the recurrent product; update gate 1 keeps."""

    def step(params, state, x):
        (h,) = state
        w_r, w_z, w_n = parts(params.w_x, 3)
        r_r, r_z, r_n = parts(params.w_h, 3)
        b_r, b_z, b_n = parts(params.b, 3)
        reset = sigmoid(w_r @ x + r_r @ h + b_r)
        update = sigmoid(w_z @ x + r_z @ h + b_z)
        new = np.tanh(w_n @ x + b_n + reset * (r_n @ h + params.b_n))
        h = (1 - update) * new + update * h
        return (h,), h

    return Reference(step, zero_state(hidden))


def reset_before_gru(hidden):
    """Cho et al. 2014, version 3: the reset gate multiplies the state; update gate 1 writes (Chung et al. 2014)."""

    def step(params, state, x):
        (h,) = state
        w_r, w_z, w_a = parts(params.w_x, 3)
        r_r, r_z = parts(params.w_h, 2)
        b_r, b_z, b_a = parts(params.b, 3)
        reset = sigmoid(w_r @ x + r_r @ h + b_r)
        update = sigmoid(w_z @ x + r_z @ h + b_z)
        candidate = np.tanh(w_a @ x + params.w_a.T @ (reset * h) + b_a)
        h = (1 - update) * h + update * candidate
        return (h,), h

    return Reference(step, zero_state(hidden))


def reset_after_mgu(hidden):
    """Zhou et al. 2016 as Flax writes it: the gate multiplies the recurrent product; gate 1 keeps."""

    def step(params, state, x):
        (h,) = state
        w_f, w_n = parts(params.w_x, 2)
        r_f, r_n = parts(params.w_h, 2)
        b_f, b_n = parts(params.b, 2)
        gate = sigmoid(w_f @ x + r_f @ h + b_f)
        new = np.tanh(w_n @ x + b_n + gate * (r_n @ h + params.b_n))
        h = (1 - gate) * new + gate * h
        return (h,), h

    return Reference(step, zero_state(hidden))


def zoneout(reference, rates):
    """Krueger et al. 2017 in evaluation: the expectation of keeping. For cells whose output is h, their first state."""

    def step(params, state, x):
        new, _ = reference.step(params, state, x)
        state = tuple(p * old + (1 - p) * s for p, old, s in zip(rates, state, new, strict=True))
        return state, state[0]

    return reference._replace(step=step)


def learned_initial_state(reference):
    return reference._replace(
        step=lambda params, state, x: reference.step(params.cell, state, x), initial=lambda params: tuple(params.state)
    )


def multiplicative(reference):
    """Krause et al. 2016, of any cell whose first state is h."""

    def step(params, state, x):
        h, *others = state
        m = (params.w_x.T @ x) * (params.w_h.T @ h)
        return reference.step(params.cell, (m, *others), x)

    return Reference(step, lambda params: reference.initial(params.cell))


def mogrifier(reference, rounds):
    """Melis et al. 2020, eqs. 1 and 2, of any cell whose first state is h."""

    def step(params, state, x):
        h, *others = state
        for k in range(1, rounds + 1):
            gate = h if k % 2 else x
            for factor in params.q[(k - 1) // 2] if k % 2 else params.r[k // 2 - 1]:
                gate = factor.T @ gate
            if k % 2:
                x = 2 * sigmoid(gate) * x
            else:
                h = 2 * sigmoid(gate) * h
        return reference.step(params.cell, (h, *others), x)

    return Reference(step, lambda params: reference.initial(params.cell))


def fast_slow(fast, slow):
    """Mujika et al. 2017, eqs. 1 to 4."""

    def step(params, state, x):
        number = len(fast[0].initial(params.fast[0]))
        now, slow_state = state[:number], state[number:]
        now, y = fast[0].step(params.fast[0], now, x)
        slow_state, y = slow.step(params.slow, slow_state, y)
        now, y = fast[1].step(params.fast[1], now, y)
        for reference, p in zip(fast[2:], params.fast[2:], strict=True):
            now, y = reference.step(p, now, np.zeros(0))
        return (*now, *slow_state), y

    return Reference(step, lambda params: (*fast[0].initial(params.fast[0]), *slow.initial(params.slow)))


def skip(reference):
    """Campos et al. 2018, eqs. 2 to 5, for cells whose output is h, their first state.

    Under complex steps u is rounded straight through: its derivative is that of what is rounded.
    """

    def step(params, state, x):
        *old, update, updates = state
        u = np.round(np.clip(update.real, 0, 1)) + 1j * update.imag if np.iscomplexobj(update) else float(update > 0.5)
        new, _ = reference.step(params.cell, tuple(old), x)
        new = tuple(u * s + (1 - u) * before for s, before in zip(new, old, strict=True))
        increment = sigmoid(params.w[:, 0] @ np.concatenate(new) + params.b[0])
        room = 1 - update
        grown = update + (increment if increment.real < room.real else room)
        return (*new, u * increment + (1 - u) * grown, updates + u), new[0]

    return Reference(step, lambda params: (*reference.initial(params.cell), np.float64(1), np.float64(0)))


def run(reference, params, xs, state=None, *, lengths=None, resets=None, reverse=False):
    """`unroll` again: every sequence by itself, only its own steps. Returns (state, ys), the state as a tuple."""
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
            if resets is not None and resets[(t, *n)]:
                s = begin
            s, ys[(t, *n)] = reference.step(params, s, xs[(t, *n)])
        last[n] = s
    shapes = [(*batch, -1)[: len(batch) + np.ndim(leaf)] for leaf in begin]  # numbers have no axis
    leaves = [np.array([s[i] for s in last.flat]).reshape(shape) for i, shape in enumerate(shapes)]
    return tuple(leaves), np.array(list(ys.flat)).reshape(time, *batch, *silence.shape)


def gradient(function, arrays):
    """The exact gradient of a real analytic function of a list of arrays, by complex steps."""
    grads = [np.zeros(np.shape(array)) for array in arrays]
    for k, array in enumerate(arrays):
        for n in np.ndindex(*np.shape(array)):
            moved = np.array(array, complex)
            moved[n] += 1e-30j
            grads[k][n] = function([*arrays[:k], moved, *arrays[k + 1 :]]).imag / 1e-30
    return grads
