"""The gated recurrent unit's relatives again in NumPy, gate by gate, from their papers."""

import numpy as np
from references import Case, Reference, parts, sigmoid, zero_state

import jaxrnn


def of_hidden(hidden):
    """For cells whose state and output are one vector h: a reference of a step `(params, h, x) -> h`."""

    def wrap(function):
        def step(params, state, x):
            h = function(params, *state, x)
            return (h,), h

        return Reference(step, zero_state(hidden))

    return wrap


def relu(x):
    return np.where(x > 0, x, 0)


@of_hidden(4)
def mgu(params, h, x):
    """Zhou et al. 2016, eqs. 8 and 9: the gate multiplies the state before the product; gate 1 writes."""
    w_f, w_h = parts(params.w_x, 2)
    b_f, b_h = parts(params.b, 2)
    forget = sigmoid(params.w_h.T @ h + w_f @ x + b_f)
    candidate = np.tanh(params.w_a.T @ (forget * h) + w_h @ x + b_h)
    return (1 - forget) * h + forget * candidate


@of_hidden(4)
def ligru(params, h, x):
    """Ravanelli et al. 2018, the model without reset gate and with ReLU; biases for batch normalization."""
    w_z, w_h = parts(params.w_x, 2)
    u_z, u_h = parts(params.w_h, 2)
    b_z, b_h = parts(params.b, 2)
    update = sigmoid(w_z @ x + b_z + u_z @ h)
    candidate = relu(w_h @ x + b_h + u_h @ h)
    return update * h + (1 - update) * candidate


@of_hidden(4)
def light_ru(params, h, x):
    """Ye et al. 2024."""
    w_f, w_h = parts(params.w_x, 2)
    candidate = np.tanh(w_h @ x)
    forget = sigmoid(w_f @ x + params.w_h.T @ h + params.b)
    return (1 - forget) * h + forget * candidate


def miru1(update):
    @of_hidden(4)
    def reference(params, h, x):
        """Zyarah & Kudithipudi 2025, MiRU-1."""
        w_r, w_h = parts(params.w_x, 2)
        b_r, b_h = parts(params.b, 2)
        reset = sigmoid(w_r @ x + params.w_h.T @ h + b_r)
        candidate = np.tanh(w_h @ x + params.w_a.T @ (reset * h) + b_h)
        return update * h + (1 - update) * candidate

    return reference


def miru2(update, reset):
    @of_hidden(4)
    def reference(params, h, x):
        """Zyarah & Kudithipudi 2025, MiRU-2."""
        candidate = np.tanh(params.w_x.T @ x + params.w_h.T @ (reset * h) + params.b)
        return update * h + (1 - update) * candidate

    return reference


@of_hidden(4)
def cfn(params, h, x):
    """Laurent & von Brecht 2017, eqs. 1 and 2."""
    v_theta, v_eta, w = parts(params.w_x, 3)
    u_theta, u_eta = parts(params.w_h, 2)
    b_theta, b_eta = parts(params.b, 2)
    theta = sigmoid(u_theta @ h + v_theta @ x + b_theta)
    eta = sigmoid(u_eta @ h + v_eta @ x + b_eta)
    return theta * np.tanh(h) + eta * np.tanh(w @ x)


@of_hidden(4)
def atr(params, h, x):
    """Zhang et al. 2018."""
    p, q = params.w_x.T @ x, params.w_h.T @ h
    input_gate, forget_gate = sigmoid(p + q), sigmoid(p - q)
    return input_gate * p + forget_gate * h


@of_hidden(3)
def mut1(params, h, x):
    """Jozefowicz et al. 2015: z of the input alone, tanh of the bare input in the candidate."""
    w_xz, w_xr = parts(params.w_x, 2)
    b_z, b_r, b_h = parts(params.b, 3)
    z = sigmoid(w_xz @ x + b_z)
    r = sigmoid(w_xr @ x + params.w_h.T @ h + b_r)
    return np.tanh(params.w_a.T @ (r * h) + np.tanh(x) + b_h) * z + h * (1 - z)


@of_hidden(3)
def mut2(params, h, x):
    """Jozefowicz et al. 2015: the bare input in r."""
    w_xz, w_xh = parts(params.w_x, 2)
    w_hz, w_hr = parts(params.w_h, 2)
    b_z, b_r, b_h = parts(params.b, 3)
    z = sigmoid(w_xz @ x + w_hz @ h + b_z)
    r = sigmoid(x + w_hr @ h + b_r)
    return np.tanh(params.w_a.T @ (r * h) + w_xh @ x + b_h) * z + h * (1 - z)


@of_hidden(4)
def mut3(params, h, x):
    """Jozefowicz et al. 2015: tanh of the state in z."""
    w_xz, w_xr, w_xh = parts(params.w_x, 3)
    w_hz, w_hr = parts(params.w_h, 2)
    b_z, b_r, b_h = parts(params.b, 3)
    z = sigmoid(w_xz @ x + w_hz @ np.tanh(h) + b_z)
    r = sigmoid(w_xr @ x + w_hr @ h + b_r)
    return np.tanh(params.w_a.T @ (r * h) + w_xh @ x + b_h) * z + h * (1 - z)


CELLS = {
    "MGU": Case(jaxrnn.MGU(4), mgu),
    "LiGRU": Case(jaxrnn.LiGRU(4), ligru),
    "LightRU": Case(jaxrnn.LightRU(4), light_ru),
    "MiRU1": Case(jaxrnn.MiRU1(4, 0.7), miru1(0.7)),
    "MiRU2": Case(jaxrnn.MiRU2(4, 0.7, 0.4), miru2(0.7, 0.4)),
    "CFN": Case(jaxrnn.CFN(4), cfn),
    "ATR": Case(jaxrnn.ATR(4), atr),
    "MUT1": Case(jaxrnn.MUT1(3), mut1),
    "MUT2": Case(jaxrnn.MUT2(3), mut2),
    "MUT3": Case(jaxrnn.MUT3(4), mut3),
}
