"""Cells made for parallel training, again in NumPy."""

import numpy as np
from references import Case, Reference, parts, sigmoid, zero_state

import jaxrnn


def silu(x):
    return x * sigmoid(x)


def softplus(x):
    return np.log(1 + np.exp(x))


def qrnn(hidden):
    """Bradbury et al. 2017, section 2: eq. 1 with filters one step wide, and fo-pooling, eq. 4."""

    def step(params, state, x):
        (c,) = state
        w_z, w_f, w_o = parts(params.w_x, 3)
        b_z, b_f, b_o = parts(params.b, 3)
        z, f, o = np.tanh(w_z @ x + b_z), sigmoid(w_f @ x + b_f), sigmoid(w_o @ x + b_o)
        c = f * c + (1 - f) * z
        return (c,), o * c

    return Reference(step, zero_state(hidden))


def sru(hidden, highway_bias):
    """Lei et al. 2018, eqs. 1 to 4 and section 3.2."""

    def step(params, state, x):
        _, c = state
        w, w_f, w_r, *w_highway = parts(params.w_x, params.w_x.shape[-1] // hidden)
        v_f, v_r = params.w_c
        b_f, b_r = parts(params.b, 2)
        f = sigmoid(w_f @ x + v_f * c + b_f)
        r = sigmoid(w_r @ x + v_r * c + b_r)
        c = f * c + (1 - f) * (w @ x)
        carried = w_highway[0] @ x if w_highway else x
        h = r * c + (1 - r) * carried * np.sqrt(1 + np.exp(highway_bias) * 2)
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden))


def s5(params, state, u):
    """Smith et al. 2023, eqs. 2, 3 and 6, with the conjugates of all that is kept."""
    (s,) = state
    eigenvalues = params.a_re + 1j * params.a_im
    b_re, b_im = parts(params.w_x, 2)
    c_re, c_im = (c.T for c in np.split(params.w_s, 2))
    discrete = np.exp(eigenvalues * np.exp(params.log_delta))
    s = discrete * s + (discrete - 1) / eigenvalues * ((b_re + 1j * b_im) @ u)
    both, c = np.concatenate([s, s.conj()]), np.concatenate([c_re + 1j * c_im, c_re - 1j * c_im], axis=1)
    y = c @ both
    assert np.abs(y.imag).max() < 1e-12
    return (s,), y.real + params.w_d.T @ u


def heads_of(vector, number):
    return np.split(vector, number)


def unit(vector):
    return vector / np.sqrt(vector @ vector + 1e-6)


def delta_net(hidden, heads):
    """Schlag et al. 2021, eqs. 23 to 25, with the feature map of Yang et al. 2024, section 3.3."""
    d = hidden // heads

    def step(params, state, x):
        s = np.array(state[0]).reshape(heads, d, d)
        q, k, v = (heads_of(w @ x, heads) for w in parts(params.w_x, 3))
        beta, y = sigmoid(params.w_beta.T @ x), []
        for n in range(heads):
            key = unit(silu(k[n]))
            old = s[n] @ key
            new = beta[n] * v[n] + (1 - beta[n]) * old
            s[n] = s[n] - np.outer(old, key) + np.outer(new, key)
            y.append(s[n] @ unit(silu(q[n])))
        return (s.ravel(),), np.concatenate(y)

    return Reference(step, zero_state(heads * d * d))


def gated_delta_net(hidden, heads):
    """Yang et al. 2025, eq. 10, with the gate of Mamba2."""
    d = hidden // heads

    def step(params, state, x):
        s = np.array(state[0]).reshape(heads, d, d)
        q, k, v = (heads_of(silu(w @ x), heads) for w in parts(params.w_x, 3))
        alpha, beta = (w @ x for w in parts(params.w_gates, 2))
        alpha = np.exp(-np.exp(params.a) * softplus(alpha + params.b_alpha))
        beta, y = sigmoid(beta), []
        for n in range(heads):
            key = unit(k[n])
            s[n] = s[n] @ (alpha[n] * (np.eye(d) - beta[n] * np.outer(key, key))) + beta[n] * np.outer(v[n], key)
            y.append(s[n] @ unit(q[n]))
        return (s.ravel(),), np.concatenate(y)

    return Reference(step, zero_state(heads * d * d))


def para_gru(hidden):
    """Danieli et al. 2025: the GRU with diagonal matrices A."""

    def step(params, state, x):
        (h,) = state
        a_z, a_r, a_c = (np.diag(row) for row in params.w_h)
        w_z, w_r, w_c = parts(params.w_x, 3)
        b_z, b_r, b_c = parts(params.b, 3)
        z = sigmoid(a_z @ h + w_z @ x + b_z)
        r = sigmoid(a_r @ h + w_r @ x + b_r)
        c = np.tanh(a_c @ (h * r) + w_c @ x + b_c)
        h = (1 - z) * h + z * c
        return (h,), h

    return Reference(step, zero_state(hidden))


def para_lstm(hidden):
    """Danieli et al. 2025: the coupled LSTM with peepholes and diagonal matrices A and C."""

    def step(params, state, x):
        h, c = state
        a_f, a_z, a_o = (np.diag(row) for row in params.w_h)
        c_f, c_o = (np.diag(row) for row in params.w_c)
        w_f, w_z, w_o = parts(params.w_x, 3)
        b_f, b_z, b_o = parts(params.b, 3)
        f = sigmoid(a_f @ h + w_f @ x + c_f @ c + b_f)
        z = np.tanh(a_z @ h + w_z @ x + b_z)
        c = f * c + (1 - f) * z
        o = sigmoid(a_o @ h + w_o @ x + c_o @ c + b_o)
        h = o * np.tanh(c)
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden))


def gated_linear_attention(hidden, heads, tau):
    """Yang et al. 2024, eqs. 3 and 4."""
    d = hidden // heads

    def step(params, state, x):
        s, y = np.array(state[0]).reshape(heads, d, d), []
        q, k, v = (heads_of(w @ x, heads) for w in parts(params.w_x, 3))
        alpha = heads_of(sigmoid(params.w_alpha.T @ (params.w_rank.T @ x) + params.b_alpha) ** (1 / tau), heads)
        for n in range(heads):
            s[n] = np.diag(alpha[n]) @ s[n] + np.outer(k[n], v[n])
            y.append(s[n].T @ q[n])
        return (s.ravel(),), np.concatenate(y)

    return Reference(step, zero_state(heads * d * d))


def retention(hidden, heads):
    """Sun et al. 2023, eqs. 3 to 6, with matrices that turn pairs in the place of complex numbers."""
    d = hidden // heads

    def step(params, state, x):
        s, y = np.array(state[0]).reshape(heads, d // 2, d), []
        q, k, v = (heads_of(w @ x, heads) for w in parts(params.w_x, 3))
        for n in range(heads):
            for j in range(d // 2):
                pair = [j, j + d // 2]
                angle = 10000 ** (-2 * j / d)
                turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
                rows = np.stack([s[n, j].real, -s[n, j].imag])  # of the real memory, as many as there are keys
                rows = (1 - 2.0 ** (-5 - n)) * turn.T @ rows + np.outer(k[n][pair], v[n])
                s[n, j] = rows[0] - 1j * rows[1]
            memory = np.concatenate([s[n].real, -s[n].imag])
            y.append(memory.T @ q[n])
        return (s.ravel(),), np.concatenate(y)

    return Reference(step, lambda params: (np.zeros(heads * d * d // 2, complex),))


def rwkv(hidden):
    """Peng et al. 2023, eqs. 11 to 16, and appendix D for the state."""

    def step(params, state, x):
        _, a, b, p, before = state
        r, k, v = np.split(before, 3)
        w_r, w_k, w_v = parts(params.w_x, 3)
        mu_r, mu_k, mu_v = params.mu
        r, k, v = r + w_r @ (mu_r * x), k + w_k @ (mu_k * x), v + w_v @ (mu_v * x)
        largest = np.maximum(p, params.u + k)
        over, under = np.exp(p - largest) * a, np.exp(p - largest) * b
        new = np.exp(params.u + k - largest)
        wkv = (over + new * v) / (under + new)
        largest = np.maximum(p - np.exp(params.decay), k)
        keep, new = np.exp(p - np.exp(params.decay) - largest), np.exp(k - largest)
        before = np.concatenate([w_r @ ((1 - mu_r) * x), w_k @ ((1 - mu_k) * x), w_v @ ((1 - mu_v) * x)])
        h = sigmoid(r) * wkv
        return (h, keep * a + new * v, keep * b + new, largest, before), params.w_o.T @ h

    nothing = np.finfo(float).min / 2
    return Reference(step, lambda params: (*np.zeros((3, hidden)), np.full(hidden, nothing), np.zeros(3 * hidden)))


def hgrn(hidden, bound):
    """Qin et al. 2023, section 3.2."""

    def step(params, state, x):
        (h,) = state
        w_re, w_im, w_f = parts(params.w_x, 3)
        b_re, b_im, b_f = parts(params.b, 3)
        c = silu(w_re @ x + b_re) + 1j * silu(w_im @ x + b_im)
        decay = bound + (1 - bound) * sigmoid(w_f @ x + b_f)
        h = decay * (np.cos(params.theta) + 1j * np.sin(params.theta)) * h + (1 - decay) * c
        return (h,), np.concatenate([h.real, h.imag])

    return Reference(step, lambda params: (np.zeros(hidden, complex),))


def damped_ema(params, state, x):
    """Ma et al. 2023, eqs. 6 to 8, one input after the other."""
    h, y = np.array(state[0]).reshape(params.alpha.shape), np.empty_like(x)
    for j in range(len(x)):
        alpha, delta = sigmoid(params.alpha[j]), sigmoid(params.delta[j])
        u = params.beta[j] * x[j]
        h[j] = alpha * u + (1 - alpha * delta) * h[j]
        y[j] = params.eta[j] @ h[j]
    return (h.ravel(),), y


CELLS = {
    "QRNN": Case(jaxrnn.QRNN(4), qrnn(4)),
    "SRU": Case(jaxrnn.SRU(4, highway_bias=-1.0), sru(4, -1)),
    "S5": Case(jaxrnn.S5(4, 2), Reference(s5, lambda params: (np.zeros(len(params.a_re), complex),))),
    "DeltaNet": Case(jaxrnn.DeltaNet(4, 2), delta_net(4, 2)),
    "GatedDeltaNet": Case(jaxrnn.GatedDeltaNet(4, 2), gated_delta_net(4, 2)),
    "ParaGRU": Case(jaxrnn.ParaGRU(4), para_gru(4)),
    "ParaLSTM": Case(jaxrnn.ParaLSTM(4), para_lstm(4)),
    "GatedLinearAttention": Case(
        jaxrnn.GatedLinearAttention(4, 2, rank_size=2, temperature=4.0), gated_linear_attention(4, 2, 4)
    ),
    "Retention": Case(jaxrnn.Retention(8, 2), retention(8, 2)),
    "RWKV": Case(jaxrnn.RWKV(4), rwkv(4)),
    "HGRN": Case(jaxrnn.HGRN(4, lower_rate=0.3), hgrn(4, 0.3)),
    "DampedEMA": Case(jaxrnn.DampedEMA(4), Reference(damped_ema, lambda params: (np.zeros(params.alpha.size),))),
}
