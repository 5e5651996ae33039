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


def hard_sigmoid(x):
    return np.minimum(1, np.maximum(0, 0.2 * x + 0.5))


def ugrnn(phi=np.tanh):
    @of_hidden(4)
    def reference(params, h, x):
        """Collins et al. 2017, the UGRNN."""
        w_g, w_c = parts(params.w_x, 2)
        u_g, u_c = parts(params.w_h, 2)
        b_g, b_c = parts(params.b, 2)
        c = phi(u_c @ h + w_c @ x + b_c)
        g = sigmoid(u_g @ h + w_g @ x + b_g)
        return g * h + (1 - g) * c

    return reference


def intersection_rnn(hidden, inputs, phi=np.tanh):
    """Collins et al. 2017, the +RNN, with ReLU for the output."""

    def step(params, state, x):
        h, _ = state
        w_gh, w_hin = parts(params.w_x, 2)
        u_gh, u_hin = parts(params.w_h, 2)
        b_gh, b_hin = parts(params.b, 2)
        w_gy, w_yin = parts(params.w_xy, 2)
        u_gy, u_yin = parts(params.w_hy, 2)
        b_gy, b_yin = parts(params.b_y, 2)
        y_in = relu(u_yin @ h + w_yin @ x + b_yin)
        h_in = phi(u_hin @ h + w_hin @ x + b_hin)
        g_y = sigmoid(u_gy @ h + w_gy @ x + b_gy)
        g_h = sigmoid(u_gh @ h + w_gh @ x + b_gh)
        y = g_y * x + (1 - g_y) * y_in
        h = g_h * h + (1 - g_h) * h_in
        return (h, y), y

    return Reference(step, zero_state(hidden, inputs))


@of_hidden(4)
def sgrn(params, h, x):
    """Zu & Wei 2021: the input gate is one minus the forget gate, all of one product with the input."""
    wx = params.w_x.T @ x
    forget = sigmoid(wx + params.w_h.T @ h + params.b)
    return np.tanh((1 - forget) * wx + forget * h)


@of_hidden(4)
def sgu(params, h, x):
    """Gao & Glowacka 2016, the simple gated unit."""
    w_z, w_g = parts(params.w_x, 2)
    b_z, b_g = parts(params.b, 2)
    x_g = w_g @ x + b_g
    z_g = np.tanh(params.w_g.T @ (x_g * h))
    z_out = np.log(1 + np.exp(z_g * h))
    z = hard_sigmoid(w_z @ x + params.w_h.T @ h + b_z)
    return (1 - z) * h + z * z_out


@of_hidden(4)
def dsgu(params, h, x):
    """Gao & Glowacka 2016, the deep simple gated unit."""
    w_z, w_g = parts(params.w_x, 2)
    b_z, b_g = parts(params.b, 2)
    x_g = w_g @ x + b_g
    z_g = np.tanh(params.w_g.T @ (x_g * h))
    z_out = sigmoid(params.w_o.T @ (z_g * h))
    z = hard_sigmoid(w_z @ x + params.w_h.T @ h + b_z)
    return (1 - z) * h + z * z_out


@of_hidden(4)
def minimal_rnn(params, h, x):
    """Chen 2017, with one tanh layer for the latent input."""
    z = np.tanh(params.w_x.T @ x + params.b_x)
    u = sigmoid(params.w_h.T @ h + params.w_z.T @ z + params.b)
    return u * h + (1 - u) * z


@of_hidden(4)
def brc(params, h, x):
    """Vecoven et al. 2021, BRC: recurrence of each unit with itself."""
    u_a, u_c, u = parts(params.w_x, 3)
    b_a, b_c, b = parts(params.b, 3)
    w_a, w_c = (np.diag(row) for row in params.w_h)
    a = 1 + np.tanh(u_a @ x + w_a @ h + b_a)
    c = sigmoid(u_c @ x + w_c @ h + b_c)
    return c * h + (1 - c) * np.tanh(u @ x + a * h + b)


@of_hidden(4)
def nbrc(params, h, x):
    """Vecoven et al. 2021, nBRC: the gates see all units."""
    u_a, u_c, u = parts(params.w_x, 3)
    b_a, b_c, b = parts(params.b, 3)
    w_a, w_c = parts(params.w_h, 2)
    a = 1 + np.tanh(u_a @ x + w_a @ h + b_a)
    c = sigmoid(u_c @ x + w_c @ h + b_c)
    return c * h + (1 - c) * np.tanh(u @ x + a * h + b)


@of_hidden(4)
def star(params, h, x):
    """Turkoglu et al. 2021."""
    w_k, w_z = parts(params.w_x, 2)
    b_k, b_z = parts(params.b, 2)
    z = np.tanh(w_z @ x + b_z)
    k = sigmoid(w_k @ x + params.w_h.T @ h + b_k)
    return np.tanh((1 - k) * h + k * z)


def fast_rnn(phi=np.tanh):
    @of_hidden(4)
    def reference(params, h, x):
        """Kusupati et al. 2018, FastRNN; alpha and beta lie between 0 and 1 by sigmoids, as in their code."""
        candidate = phi(params.w_x.T @ x + params.w_h.T @ h + params.b)
        return sigmoid(params.alpha) * candidate + sigmoid(params.beta) * h

    return reference


@of_hidden(4)
def fast_grnn(params, h, x):
    """Kusupati et al. 2018, FastGRNN: sigmoid in the gate."""
    b_z, b_h = parts(params.b, 2)
    w, u = params.w_x.T, params.w_h.T
    z = sigmoid(w @ x + u @ h + b_z)
    candidate = np.tanh(w @ x + u @ h + b_h)
    return (sigmoid(params.zeta) * (1 - z) + sigmoid(params.nu)) * candidate + z * h


def standardized(a, epsilon):
    return (a - a.mean()) / np.sqrt(((a - a.mean()) ** 2).mean() + epsilon)


@of_hidden(4)
def layer_norm_gru(params, h, x):
    """Ba et al. 2016, supplementary material: one normalization over both gates, one for the candidate."""
    w, w_c = np.split(params.w_x.T, [8])
    u, u_c = np.split(params.w_h.T, [8])
    b, b_c = np.split(params.b, [8])
    gain_x, gain_xc = np.split(params.gain_x, [8])
    gain_h, gain_hc = np.split(params.gain_h, [8])
    z, r = np.split(gain_h * standardized(u @ h, 1e-6) + gain_x * standardized(w @ x, 1e-6) + b, 2)
    inner = gain_hc * standardized(u_c @ h, 1e-6) + params.b_a
    candidate = np.tanh(gain_xc * standardized(w_c @ x, 1e-6) + b_c + sigmoid(r) * inner)
    return (1 - sigmoid(z)) * h + sigmoid(z) * candidate


def tau_gru(hidden, delay):
    """Erichson et al. 2022: the state of `delay` steps before the last one beside the last one."""

    def step(params, state, x):
        h, past = state
        u_u, u_g, u_a, u_z = parts(params.w_x, 4)
        w_u, w_g, w_a = parts(params.w_h, 3)
        b_u, b_g, b_a, b_z = parts(params.b, 4)
        old = past[0]
        u = np.tanh(w_u @ h + u_u @ x + b_u)
        z = np.tanh(params.w_d.T @ old + u_z @ x + b_z)
        g = sigmoid(w_g @ h + u_g @ x + b_g)
        a = sigmoid(w_a @ h + u_a @ x + b_a)
        new = (1 - g) * h + g * (u + a * z)
        return (new, np.array([*past[1:], h])), new

    return Reference(step, lambda params: (np.zeros(hidden), np.zeros((delay, hidden))))


def recurrent_highway_network(depth):
    @of_hidden(4)
    def reference(params, h, x):
        """Zilly et al. 2017, eqs. 6 to 9, with c = 1 - t."""
        w_h, w_t = parts(params.w_x, 2)
        for layer in range(depth):
            r_h, r_t = parts(params.w_h[layer], 2)
            b_h, b_t = parts(params.b[layer], 2)
            first = 1 if layer == 0 else 0
            new = np.tanh(first * (w_h @ x) + r_h @ h + b_h)
            transform = sigmoid(first * (w_t @ x) + r_t @ h + b_t)
            h = new * transform + h * (1 - transform)
        return h

    return reference


def gru_d(hidden):
    """Che et al. 2018, eqs. of GRU-D; the time since the last observation as in the paper's definition of delta."""

    def step(params, state, x):
        h, last, age = state
        size = len(last)
        x, m, gap = x[:size], x[size : 2 * size], x[2 * size]
        w_r, w_z, w = parts(params.w_x, 3)
        v_r, v_z, v = parts(params.w_m, 3)
        u_r, u_z = parts(params.w_h, 2)
        b_r, b_z, b = parts(params.b, 3)
        delta = gap + age  # age is 0 for what the step before observed
        gamma_x = np.exp(-np.maximum(0, np.diag(params.w_dx) @ delta + params.b_dx))
        gamma_h = np.exp(-np.maximum(0, params.w_dh.T @ delta + params.b_dh))
        x_hat = m * x + (1 - m) * (gamma_x * last + (1 - gamma_x) * params.mean)
        h_hat = gamma_h * h
        r = sigmoid(w_r @ x_hat + u_r @ h_hat + v_r @ m + b_r)
        z = sigmoid(w_z @ x_hat + u_z @ h_hat + v_z @ m + b_z)
        candidate = np.tanh(w @ x_hat + params.w_a.T @ (r * h_hat) + v @ m + b)
        h = (1 - z) * h_hat + z * candidate
        return (h, m * x + (1 - m) * last, (1 - m) * delta), h

    return Reference(step, lambda params: (np.zeros(hidden), params.mean, np.zeros_like(params.mean)))


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
    "UGRNN": Case(jaxrnn.UGRNN(4), ugrnn()),
    "IntersectionRNN": Case(jaxrnn.IntersectionRNN(4), intersection_rnn(4, 3)),
    "SGRN": Case(jaxrnn.SGRN(4), sgrn),
    "SGU": Case(jaxrnn.SGU(4), sgu),
    "DSGU": Case(jaxrnn.DSGU(4), dsgu),
    "MinimalRNN": Case(jaxrnn.MinimalRNN(4), minimal_rnn),
    "BRC": Case(jaxrnn.BRC(4), brc),
    "NBRC": Case(jaxrnn.NBRC(4), nbrc),
    "STAR": Case(jaxrnn.STAR(4), star),
    "FastRNN": Case(jaxrnn.FastRNN(4), fast_rnn()),
    "FastGRNN": Case(jaxrnn.FastGRNN(4), fast_grnn),
    "LayerNormGRU": Case(jaxrnn.LayerNormGRU(4), layer_norm_gru),
    "TauGRU": Case(jaxrnn.TauGRU(4, 2), tau_gru(4, 2)),
    "RecurrentHighwayNetwork": Case(jaxrnn.RecurrentHighwayNetwork(4, 3), recurrent_highway_network(3)),
    "GRUD": Case(jaxrnn.GRUD(4), gru_d(4)),
}
