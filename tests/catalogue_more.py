"""Further relatives of the LSTM: each from its paper, gate by gate."""

import numpy as np
from references import Case, Reference, parts, sigmoid, zero_state

import jaxrnn


def group_lstm(hidden, groups):
    """Kuchaiev & Ginsburg 2017: an LSTM for each part of x, h and c."""

    def step(params, state, x):
        new_h, new_c = [], []
        for k, (x_k, h_k, c_k) in enumerate(zip(*(np.split(leaf, groups) for leaf in (x, *state)), strict=True)):
            w_i, w_f, w_g, w_o = parts(params.w_x[k], 4)
            r_i, r_f, r_g, r_o = parts(params.w_h[k], 4)
            b_i, b_f, b_g, b_o = parts(params.b[k], 4)
            input_gate = sigmoid(w_i @ x_k + r_i @ h_k + b_i)
            forget_gate = sigmoid(w_f @ x_k + r_f @ h_k + b_f)
            candidate = np.tanh(w_g @ x_k + r_g @ h_k + b_g)
            output_gate = sigmoid(w_o @ x_k + r_o @ h_k + b_o)
            new_c.append(forget_gate * c_k + input_gate * candidate)
            new_h.append(output_gate * np.tanh(new_c[-1]))
        h, c = np.concatenate(new_h), np.concatenate(new_c)
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden))


def factorized_lstm(hidden):
    """Kuchaiev & Ginsburg 2017: T = W2 W1 [x, h] + b."""

    def step(params, state, x):
        h, c = state
        w_1 = np.concatenate([params.w_x, params.w_h]).T
        b_i, b_f, b_g, b_o = parts(params.b, 4)
        u_i, u_f, u_g, u_o = (w_2 @ w_1 for w_2 in parts(params.w_u, 4))
        xh = np.concatenate([x, h])
        c = sigmoid(u_f @ xh + b_f) * c + sigmoid(u_i @ xh + b_i) * np.tanh(u_g @ xh + b_g)
        h = sigmoid(u_o @ xh + b_o) * np.tanh(c)
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden))


def grid_lstm(hidden, depth):
    """Kalchbrenner et al. 2016, in two dimensions; the input enters the depth from below as h and m."""

    def lstm(weights, biases, hidden_vectors, memory):
        """Their LSTM(H, m, W), the gates in the order u, f, o, c."""
        stacked = np.concatenate(hidden_vectors)
        u, f, o, c = (w @ stacked + b for w, b in zip(weights, biases, strict=True))
        memory = sigmoid(f) * memory + sigmoid(u) * np.tanh(c)
        return np.tanh(sigmoid(o) * memory), memory

    def step(params, state, x):
        hs, ms, _ = (np.array(leaf) for leaf in state)
        hs, ms = hs.reshape(depth, hidden), ms.reshape(depth, hidden)
        up, up_m = (v @ x for v in parts(params.w_x, 2))
        new_h, new_m = [], []
        for layer in range(depth):
            weights = parts(np.concatenate([params.w_h[layer], params.w_u[layer]]), 8)
            biases = parts(params.b[layer], 8)
            sides = [hs[layer], up]
            in_time = lstm(weights[:4], biases[:4], sides, ms[layer])
            up, up_m = lstm(weights[4:], biases[4:], sides, up_m)
            new_h.append(in_time[0])
            new_m.append(in_time[1])
        return (np.array(new_h), np.array(new_m), up), up

    return Reference(step, lambda params: (np.zeros((depth, hidden)), np.zeros((depth, hidden)), np.zeros(hidden)))


def gated_feedback_lstm(hidden, depth):
    """Chung et al. 2015: a number decides how much of layer i's past the layer j sees."""

    def step(params, state, x):
        hs, cs = (np.reshape(leaf, (depth, hidden)) for leaf in state)
        everything = np.concatenate(list(hs))
        below, new_h, new_c = x, [], []
        for j in range(depth):
            w = (params.w_u[j - 1] if j else params.w_x).T
            w_i, w_f, w_g, w_o = np.split(w[: 4 * hidden], 4)
            u_i, u_f, u_o = parts(params.w_h[j], 3)
            b_i, b_f, b_g, b_o = parts(params.b[j], 4)
            content = w_g @ below + b_g
            for i in range(depth):
                gate = sigmoid(w[4 * hidden + i] @ below + params.w_s[j][:, i] @ everything)
                content = content + gate * (params.w_g[j][i * hidden : (i + 1) * hidden].T @ hs[i])
            forget = sigmoid(w_f @ below + u_f @ hs[j] + b_f)
            write = sigmoid(w_i @ below + u_i @ hs[j] + b_i)
            new_c.append(forget * cs[j] + write * np.tanh(content))
            new_h.append(sigmoid(w_o @ below + u_o @ hs[j] + b_o) * np.tanh(new_c[-1]))
            below = new_h[-1]
        return (np.array(new_h), np.array(new_c)), below

    return Reference(step, lambda params: (np.zeros((depth, hidden)), np.zeros((depth, hidden))))


def integrated(w, u, alpha, beta_1, beta_2, b, x, h):
    """Wu et al. 2016, the general form: alpha * Wx * Uh + beta_1 * Uh + beta_2 * Wx + b."""
    return alpha * (w @ x) * (u @ h) + beta_1 * (u @ h) + beta_2 * (w @ x) + b


def mi_rnn(hidden):
    def step(params, state, x):
        (h,) = state
        h = np.tanh(integrated(params.w_x.T, params.w_h.T, params.alpha, *params.beta, params.b, x, h))
        return (h,), h

    return Reference(step, zero_state(hidden))


def mi_lstm(hidden):
    """Wu et al. 2016: each of the LSTM's four blocks integrates so."""

    def step(params, state, x):
        h, c = state
        blocks = zip(*(parts(leaf, 4) for leaf in (params.w_x, params.w_h, params.alpha)), strict=True)
        betas = zip(*(parts(beta, 4) for beta in params.beta), strict=True)
        i, f, g, o = (
            integrated(*block, *beta, b, x, h) for block, beta, b in zip(blocks, betas, parts(params.b, 4), strict=True)
        )
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden))


CELLS = {
    "GroupLSTM": Case(jaxrnn.GroupLSTM(6, 3), group_lstm(6, 3)),
    "FactorizedLSTM": Case(jaxrnn.FactorizedLSTM(4, 2), factorized_lstm(4)),
    "GridLSTM": Case(jaxrnn.GridLSTM(4, 2), grid_lstm(4, 2)),
    "GatedFeedbackLSTM": Case(jaxrnn.GatedFeedbackLSTM(4, 2), gated_feedback_lstm(4, 2)),
    "MIRNN": Case(jaxrnn.MIRNN(4), mi_rnn(4)),
    "MILSTM": Case(jaxrnn.MILSTM(4), mi_lstm(4)),
}
