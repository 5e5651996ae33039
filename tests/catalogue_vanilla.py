"""The vanilla network's relatives again in NumPy, step by step, from their papers."""

import numpy as np
from references import Case, Reference, sigmoid, zero_state

import jaxrnn


def of_hidden(hidden):
    """For cells whose state and output are one vector h: a reference of a step `(params, h, x) -> h`."""

    def wrap(function):
        def step(params, state, x):
            h = function(params, *state, x)
            return (h,), h

        return Reference(step, zero_state(hidden))

    return wrap


def of_state(*sizes):
    """For cells whose output is the first part of their state: a reference of a step `(params, *state, x) -> state`."""

    def wrap(function):
        def step(params, state, x):
            state = function(params, *state, x)
            return state, state[0]

        return Reference(step, zero_state(*sizes))

    return wrap


def relu(x):
    return np.where(x > 0, x, 0)


def jordan(decay):
    @of_state(2, 2)
    def reference(params, y, s, x):
        """Jordan 1986: state units with a connection to themselves, of weight mu."""
        s = decay * s + y
        h = np.tanh(params.w_x.T @ x + params.w_s.T @ s + params.b)
        return np.tanh(params.w_h.T @ h + params.b_y), s

    return reference


@of_hidden(4)
def ind_rnn(params, h, x):
    """Li et al. 2018, eq. 2."""
    return relu(params.w_x.T @ x + np.diag(params.w_h) @ h + params.b)


@of_hidden(4)
def layer_norm_elman(params, h, x):
    """Ba et al. 2016, eq. 4."""
    a = params.w_h.T @ h + params.w_x.T @ x
    mean = sum(a) / len(a)
    variance = sum((a - mean) ** 2) / len(a)
    return np.tanh(params.gain / np.sqrt(variance + 1e-5) * (a - mean) + params.b)


@of_hidden(4)
def residual_elman(params, h, x):
    """Hu et al. 2018: the identity beside the recurrent matrix."""
    return relu(params.w_x.T @ x + (params.w_h.T + np.eye(4)) @ h + params.b)


def clockwork_rnn(hidden, periods):
    """Koutnik et al. 2014, module by module."""
    size = hidden // len(periods)
    modules = [slice(i * size, (i + 1) * size) for i in range(len(periods))]

    def step(params, state, x):
        h, t = state
        new = np.array(h)
        for i, of_i in enumerate(modules):
            if int(t) % periods[i] == 0:
                a = params.w_x[:, of_i].T @ x + params.b[of_i]
                for of_j in modules[i:]:  # the slower ones and itself
                    a = a + params.w_h[of_j, of_i].T @ h[of_j]
                new[of_i] = np.tanh(a)
        return (new, (t + 1) % np.lcm.reduce(periods)), new

    return Reference(step, lambda params: (np.zeros(hidden), 0))


def scrn(hidden, context, alpha):
    def step(params, state, x):
        """Mikolov et al. 2014, eqs. 4 to 6 without the output layer."""
        h, s = state
        s = (1 - alpha) * (params.w_x[:, :context].T @ x) + alpha * s
        h = sigmoid(params.w_s.T @ s + params.w_x[:, context:].T @ x + params.w_h.T @ h)
        return (h, s), np.concatenate([h, s])

    return Reference(step, zero_state(hidden, context))


CELLS = {
    "Jordan": Case(jaxrnn.Jordan(4, 2, 0.3), jordan(0.3)),
    "IndRNN": Case(jaxrnn.IndRNN(4), ind_rnn),
    "LayerNormElman": Case(jaxrnn.LayerNormElman(4), layer_norm_elman),
    "ResidualElman": Case(jaxrnn.ResidualElman(4), residual_elman),
    "ClockworkRNN": Case(jaxrnn.ClockworkRNN(6, (1, 2, 3)), clockwork_rnn(6, (1, 2, 3))),
    "SCRN": Case(jaxrnn.SCRN(4, 2, 0.7), scrn(4, 2, 0.7)),
}
