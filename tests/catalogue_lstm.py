"""The LSTM's relatives: each from its paper, gate by gate."""

import numpy as np
from references import Case, Reference, parts, sigmoid, zero_state

import jaxrnn


def original_lstm(hidden):
    """Hochreiter & Schmidhuber 1997: the memory is a sum."""

    def step(params, state, x):
        h, c = state
        w_i, w_g, w_o = parts(params.w_x, 3)
        r_i, r_g, r_o = parts(params.w_h, 3)
        b_i, b_g, b_o = parts(params.b, 3)
        input_gate = sigmoid(w_i @ x + r_i @ h + b_i)
        candidate = np.tanh(w_g @ x + r_g @ h + b_g)
        output_gate = sigmoid(w_o @ x + r_o @ h + b_o)
        c = c + input_gate * candidate
        h = output_gate * np.tanh(c)
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden))


def coupled_lstm(hidden):
    """Greff et al. 2015, CIFG without peepholes: the input gate is what the forget gate leaves."""

    def step(params, state, x):
        h, c = state
        w_f, w_g, w_o = parts(params.w_x, 3)
        r_f, r_g, r_o = parts(params.w_h, 3)
        b_f, b_g, b_o = parts(params.b, 3)
        input_gate = sigmoid(-(w_f @ x + r_f @ h + b_f))
        candidate = np.tanh(w_g @ x + r_g @ h + b_g)
        output_gate = sigmoid(w_o @ x + r_o @ h + b_o)
        c = (1 - input_gate) * c + input_gate * candidate
        h = output_gate * np.tanh(c)
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden))


def capped_lstm(hidden):
    """Melis et al. 2018: the input gate is at most 1 - f."""

    def step(params, state, x):
        h, c = state
        w_i, w_f, w_g, w_o = parts(params.w_x, 4)
        r_i, r_f, r_g, r_o = parts(params.w_h, 4)
        b_i, b_f, b_g, b_o = parts(params.b, 4)
        forget_gate = sigmoid(w_f @ x + r_f @ h + b_f)
        input_gate = sigmoid(w_i @ x + r_i @ h + b_i)
        candidate = np.tanh(w_g @ x + r_g @ h + b_g)
        output_gate = sigmoid(w_o @ x + r_o @ h + b_o)
        c = forget_gate * c + np.where(input_gate + forget_gate > 1, 1 - forget_gate, input_gate) * candidate
        h = output_gate * np.tanh(c)
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden))


def layer_norm(a, gain, epsilon):
    return gain * (a - np.mean(a)) / np.sqrt(np.var(a) + epsilon)


def layer_norm_lstm(hidden, epsilon=1e-6):
    """Ba et al. 2016, supplementary material: both products, over all gates at once, and the memory put out."""

    def step(params, state, x):
        h, c = state
        from_x = layer_norm(params.w_x.T @ x, params.gain_x, epsilon)
        from_h = layer_norm(params.w_h.T @ h, params.gain_h, epsilon)
        i, f, g, o = np.split(from_x + from_h + params.b, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(layer_norm(c, params.gain_c, epsilon) + params.b_c)
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden))


def multiplicative_lstm(hidden):
    """Krause et al. 2016: the LSTM of the paper, reading m in place of the state."""

    def step(params, state, x):
        h, c = state
        w_m, w_i, w_f, w_g, w_o = parts(params.w_x, 5)
        m_i, m_f, m_g, m_o = parts(params.w_m, 4)
        b_i, b_f, b_g, b_o = parts(params.b, 4)
        m = (w_m @ x) * (params.w_h.T @ h)
        input_gate = sigmoid(w_i @ x + m_i @ m + b_i)
        forget_gate = sigmoid(w_f @ x + m_f @ m + b_f)
        candidate = w_g @ x + m_g @ m + b_g
        output_gate = sigmoid(w_o @ x + m_o @ m + b_o)
        c = forget_gate * c + input_gate * candidate
        h = np.tanh(c * output_gate)
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden))


def mogrifier_lstm(hidden, rounds):
    """Melis et al. 2020: x and h gate each other, x first, then an LSTM."""

    def product(factors, vector):
        whole = np.eye(len(vector))
        for factor in factors:
            whole = factor.T @ whole
        return whole @ vector

    def step(params, state, x):
        h, c = state
        for k in range(1, rounds + 1):
            if k % 2 == 1:
                x = 2 * sigmoid(product(params.q[(k - 1) // 2], h)) * x
            else:
                h = 2 * sigmoid(product(params.r[k // 2 - 1], x)) * h
        w_i, w_f, w_g, w_o = parts(params.w_x, 4)
        r_i, r_f, r_g, r_o = parts(params.w_h, 4)
        b_i, b_f, b_g, b_o = parts(params.b, 4)
        c_new = sigmoid(w_f @ x + r_f @ h + b_f) * c
        c_new = c_new + sigmoid(w_i @ x + r_i @ h + b_i) * np.tanh(w_g @ x + r_g @ h + b_g)
        h_new = sigmoid(w_o @ x + r_o @ h + b_o) * np.tanh(c_new)
        return (h_new, c_new), h_new

    return Reference(step, zero_state(hidden, hidden))


def wmc_lstm(hidden):
    """Landi et al. 2021: the squashed memory in each gate, the new one in the output gate's."""

    def step(params, state, x):
        h, c = state
        w_i, w_f, w_g, w_o = parts(params.w_x, 4)
        r_i, r_f, r_g, r_o = parts(params.w_h, 4)
        b_i, b_f, b_g, b_o = parts(params.b, 4)
        v_i, v_f = parts(params.w_c, 2)
        input_gate = sigmoid(w_i @ x + r_i @ h + np.tanh(v_i @ c) + b_i)
        forget_gate = sigmoid(w_f @ x + r_f @ h + np.tanh(v_f @ c) + b_f)
        candidate = np.tanh(w_g @ x + r_g @ h + b_g)
        c = forget_gate * c + input_gate * candidate
        output_gate = sigmoid(w_o @ x + r_o @ h + np.tanh(params.w_o.T @ c) + b_o)
        h = output_gate * np.tanh(c)
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden))


def residual_lstm(hidden):
    """Kim et al. 2017: peepholes, projection and shortcut, both under the output gate."""

    def step(params, state, x):
        h, c = state
        w_i, w_f, w_g, w_o, w_s = parts(params.w_x, 5)
        r_i, r_f, r_g, r_o = parts(params.w_h, 4)
        b_i, b_f, b_g, b_o = parts(params.b, 4)
        p_i, p_f, p_o = (np.diag(row) for row in params.w_c)
        input_gate = sigmoid(w_i @ x + r_i @ h + p_i @ c + b_i)
        forget_gate = sigmoid(w_f @ x + r_f @ h + p_f @ c + b_f)
        candidate = np.tanh(w_g @ x + r_g @ h + b_g)
        c = forget_gate * c + input_gate * candidate
        output_gate = sigmoid(w_o @ x + r_o @ h + p_o @ c + b_o)
        projected = params.w_p.T @ np.tanh(c)
        h = output_gate * (projected + w_s @ x)
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden))


def highway_lstm(hidden):
    """He et al. 2017, eqs. of the highway connections: r = 1 is the LSTM's output, r = 0 the input's."""

    def step(params, state, x):
        h, c = state
        w_i, w_f, w_g, w_o, w_r, w_h = parts(params.w_x, 6)
        r_i, r_f, r_g, r_o, r_r = parts(params.w_h, 5)
        b_i, b_f, b_g, b_o, b_r = parts(params.b, 5)
        input_gate = sigmoid(w_i @ x + r_i @ h + b_i)
        forget_gate = sigmoid(w_f @ x + r_f @ h + b_f)
        candidate = np.tanh(w_g @ x + r_g @ h + b_g)
        output_gate = sigmoid(w_o @ x + r_o @ h + b_o)
        transform_gate = sigmoid(w_r @ x + r_r @ h + b_r)
        c = forget_gate * c + input_gate * candidate
        h = transform_gate * (output_gate * np.tanh(c)) + (1 - transform_gate) * (w_h @ x)
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden))


def ur_lstm(hidden):
    """Gu et al. 2020, in the simplified form of the effective gate: 2 r f + (1 - 2 r) f^2."""

    def step(params, state, x):
        h, c = state
        w_f, w_r, w_u, w_o = parts(params.w_x, 4)
        r_f, r_r, r_u, r_o = parts(params.w_h, 4)
        b_u, b_o = parts(params.b, 2)
        forget_gate = sigmoid(w_f @ x + r_f @ h + params.b_f)
        refine_gate = sigmoid(w_r @ x + r_r @ h - params.b_f)
        effective_gate = 2 * refine_gate * forget_gate + (1 - 2 * refine_gate) * forget_gate**2
        c = effective_gate * c + (1 - effective_gate) * np.tanh(w_u @ x + r_u @ h + b_u)
        h = sigmoid(w_o @ x + r_o @ h + b_o) * np.tanh(c)
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden))


CELLS = {
    "OriginalLSTM": Case(jaxrnn.OriginalLSTM(4), original_lstm(4)),
    "CoupledLSTM": Case(jaxrnn.CoupledLSTM(4), coupled_lstm(4)),
    "CappedLSTM": Case(jaxrnn.CappedLSTM(4), capped_lstm(4)),
    "LayerNormLSTM": Case(jaxrnn.LayerNormLSTM(4), layer_norm_lstm(4)),
    "MultiplicativeLSTM": Case(jaxrnn.MultiplicativeLSTM(4), multiplicative_lstm(4)),
    "MogrifierLSTM": Case(jaxrnn.MogrifierLSTM(4, rank=2), mogrifier_lstm(4, 5)),
    "WMCLSTM": Case(jaxrnn.WMCLSTM(4), wmc_lstm(4)),
    "ResidualLSTM": Case(jaxrnn.ResidualLSTM(4), residual_lstm(4)),
    "HighwayLSTM": Case(jaxrnn.HighwayLSTM(4), highway_lstm(4)),
    "URLSTM": Case(jaxrnn.URLSTM(4), ur_lstm(4)),
}
