"""The vanilla network's relatives again in NumPy, step by step, from their papers."""

import numpy as np
import scipy.linalg
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


@of_hidden(4)
def antisymmetric_rnn(params, h, x):
    """Chang et al. 2019, eq. 14."""
    w = params.w_h.T
    return h + 0.2 * np.tanh((w - w.T - 0.05 * np.eye(4)) @ h + params.w_x.T @ x + params.b)


@of_hidden(4)
def gated_antisymmetric_rnn(params, h, x):
    """Chang et al. 2019, eqs. 16 and 17."""
    w = params.w_h.T
    v_z, v_h = parts(params.w_x, 2)
    b_z, b_h = parts(params.b, 2)
    z = sigmoid((w - w.T - 0.05 * np.eye(4)) @ h + v_z @ x + b_z)
    return h + 0.2 * z * np.tanh((w - w.T - 0.05 * np.eye(4)) @ h + v_h @ x + b_h)


@of_state(4, 4)
def cornn(params, y, z, x):
    """Rusch & Mishra 2021, eq. 3 with the damping of the step before; dt, gamma, epsilon are 0.3, 1.2, 0.7."""
    w_y, w_z = params.w_h[:4].T, params.w_h[4:].T
    new_z = z + 0.3 * np.tanh(w_y @ y + w_z @ z + params.w_x.T @ x + params.b) - 0.3 * 1.2 * y - 0.3 * 0.7 * z
    return y + 0.3 * new_z, new_z


@of_state(4, 4)
def unicornn(params, y, z, x):
    """Rusch & Mishra 2021, eq. 4, with their sigma-hat; dt, alpha are 0.3, 0.7."""
    dt = 0.3 * (0.5 + 0.5 * np.tanh(params.c / 2))
    z = z - dt * (np.tanh(params.w_h * y + params.w_x.T @ x + params.b) + 0.7 * y)
    return y + dt * z, z


@of_state(4, 4)
def lem(params, y, z, x):
    """Rusch et al. 2022, eq. 3, with their sigma-hat; dt is 0.7."""
    v_1, v_2, v_z, v_y = parts(params.w_x, 4)
    w_1, w_2, w_z = parts(params.w_y, 3)
    b_1, b_2, b_z, b_y = parts(params.b, 4)
    dt_1 = 0.7 * (0.5 + 0.5 * np.tanh((w_1 @ y + v_1 @ x + b_1) / 2))
    dt_2 = 0.7 * (0.5 + 0.5 * np.tanh((w_2 @ y + v_2 @ x + b_2) / 2))
    z = (1 - dt_1) * z + dt_1 * np.tanh(w_z @ y + v_z @ x + b_z)
    y = (1 - dt_2) * y + dt_2 * np.tanh(params.w_z.T @ z + v_y @ x + b_y)  # of the new z
    return y, z


def deep_transition(depth, *, shortcut=False, output=None):
    """Pascanu et al. 2014, eq. 6, and the deep output of eq. 7 but its last layer."""

    def step(params, state, x):
        (before,) = state
        h = np.tanh(params.w_x.T @ x + params.w_h.T @ before + params.b)
        for layer in range(2, depth + 1):
            past = params.w_s.T @ before if shortcut and layer == depth else 0
            h = np.tanh(params.w_u[layer - 2].T @ h + params.b_u[layer - 2] + past)
        return (h,), np.tanh(params.w_y.T @ h + params.b_y) if output else h

    return Reference(step, zero_state(4))


def lmu(hidden, memory, theta):
    """Voelker et al. 2019, eqs. 1, 2, 4 to 7; held constant over a step, as SciPy discretizes it."""
    a, b = np.zeros((memory, memory)), np.zeros((memory, 1))
    for i in range(memory):
        b[i] = (2 * i + 1) * (-1) ** i
        for j in range(memory):
            a[i, j] = (2 * i + 1) * (-1 if i < j else (-1) ** (i - j + 1))
    both = np.zeros((memory + 1, memory + 1))
    both[:memory] = np.hstack([a, b]) / theta
    both = scipy.linalg.expm(both)
    a, b = both[:memory, :memory], both[:memory, memory]

    def step(params, state, x):
        h, m = state
        e_x, w_x = params.w_x[:, 0], params.w_x[:, 1:].T
        e_h, w_h = params.w_h[:, 0], params.w_h[:, 1:].T
        m = a @ m + b * (e_x @ x + e_h @ h + params.e_m[:, 0] @ m)
        h = np.tanh(w_x @ x + w_h @ h + params.w_m.T @ m)
        return (h, m), h

    return Reference(step, zero_state(hidden, memory))


def mod_relu(z, b):
    """Arjovsky et al. 2016, eq. 8."""
    y = np.zeros_like(z)
    for i in np.flatnonzero(z):
        if abs(z[i]) + b[i] >= 0:
            y[i] = (abs(z[i]) + b[i]) * z[i] / abs(z[i])
    return y


def skew(params):
    a = np.zeros_like(params.a)
    for i, j in zip(*np.triu_indices(len(a), 1), strict=True):
        a[i, j], a[j, i] = params.a[i, j], -params.a[i, j]
    return a


@of_hidden(4)
def scornn(params, h, x):
    """Helfrich et al. 2018, with two entries of D negative."""
    a = skew(params)
    w = np.linalg.inv(np.eye(4) + a) @ (np.eye(4) - a) @ np.diag([-1, -1, 1, 1])
    return mod_relu(w @ h + params.w_x.T @ x, params.b)


@of_hidden(3)
def exprnn(params, h, x):
    """Lezcano-Casado & Martinez-Rubio 2019."""
    return mod_relu(scipy.linalg.expm(skew(params)) @ h + params.w_x.T @ x, params.b)


def urnn(n, seed):
    """Arjovsky et al. 2016, eqs. 6 to 8, the factors as matrices."""
    order = np.arange(n)
    f = np.exp(-2j * np.pi * np.outer(order, order) / n) / np.sqrt(n)
    pi = np.eye(n)[np.random.RandomState(seed).permutation(n)]

    def step(params, state, x):
        (h,) = state
        d_1, d_2, d_3 = (np.diag(np.cos(d) + 1j * np.sin(d)) for d in params.d)
        v_1, v_2 = (r[:n] + 1j * r[n:] for r in params.r)
        r_1, r_2 = (np.eye(n) - 2 * np.outer(v, v.conj()) / np.vdot(v, v) for v in (v_1, v_2))
        w = d_3 @ r_2 @ np.linalg.inv(f) @ d_2 @ pi @ r_1 @ f @ d_1
        v = params.w_x[:, :n] + 1j * params.w_x[:, n:]
        h = mod_relu(w @ h + v.T @ x, params.b)
        return (h,), np.concatenate([h.real, h.imag])

    return Reference(step, lambda params: (np.zeros(n, complex),))


def fast_weights(hidden, decay, rate, inner):
    """Ba et al. 2016, eqs. 1 and 2, with the layer normalization of section 3.2."""

    def step(params, state, x):
        h, a = state
        a = decay * a + rate * np.outer(h, h)
        slow = params.w_h.T @ h + params.w_x.T @ x
        h = relu(slow)
        for _ in range(inner):
            total = slow + a @ h
            mean = sum(total) / hidden
            variance = sum((total - mean) ** 2) / hidden
            h = relu(params.gain * (total - mean) / np.sqrt(variance + 1e-5) + params.b)
        return (h, a), h

    return Reference(step, lambda params: (np.zeros(hidden), np.zeros((hidden, hidden))))


@of_hidden(4)
def echo_state(params, h, x):
    """Jaeger et al. 2007, a leaky reservoir with a bias as a constant input; the leak is 0.3."""
    return (1 - 0.3) * h + 0.3 * np.tanh(params.w_x.T @ x + params.w_h.T @ h + params.b)


@of_hidden(4)
def cfc(params, h, x):
    """Hasani et al. 2022, eq. 10."""
    x, time = x[:-1], x[-1]
    u = np.tanh(params.w_x.T @ x + params.w_h.T @ h + params.b)
    w_f, w_g, w_k = parts(params.w_u, 3)
    b_f, b_g, b_k = parts(params.b_u, 3)
    gate = sigmoid(-(w_f @ u + b_f) * time)
    return gate * np.tanh(w_g @ u + b_g) + (1 - gate) * np.tanh(w_k @ u + b_k)


@of_hidden(4)
def ltc(params, h, x):
    """Hasani et al. 2021, algorithm 1 with three steps of 0.2."""
    tau = np.log(1 + np.exp(params.tau))
    for _ in range(3):
        f = sigmoid(params.w_h.T @ h + params.w_x.T @ x + params.b)
        h = (h + 0.2 * f * params.a) / (1 + 0.2 * (1 / tau + f))
    return h


CELLS = {
    "Jordan": Case(jaxrnn.Jordan(4, 2, 0.3), jordan(0.3)),
    "IndRNN": Case(jaxrnn.IndRNN(4), ind_rnn),
    "LayerNormElman": Case(jaxrnn.LayerNormElman(4), layer_norm_elman),
    "ResidualElman": Case(jaxrnn.ResidualElman(4), residual_elman),
    "ClockworkRNN": Case(jaxrnn.ClockworkRNN(6, (1, 2, 3)), clockwork_rnn(6, (1, 2, 3))),
    "SCRN": Case(jaxrnn.SCRN(4, 2, 0.7), scrn(4, 2, 0.7)),
    "AntisymmetricRNN": Case(jaxrnn.AntisymmetricRNN(4, 0.2, 0.05), antisymmetric_rnn),
    "GatedAntisymmetricRNN": Case(jaxrnn.GatedAntisymmetricRNN(4, 0.2, 0.05), gated_antisymmetric_rnn),
    "CoRNN": Case(jaxrnn.CoRNN(4, 0.3, 1.2, 0.7), cornn),
    "UnICORNN": Case(jaxrnn.UnICORNN(4, 0.3, 0.7), unicornn),
    "LEM": Case(jaxrnn.LEM(4, 0.7), lem),
    "LMU": Case(jaxrnn.LMU(4, 5, 6.0), lmu(4, 5, 6.0)),
    "ScoRNN": Case(jaxrnn.ScoRNN(4, 2), scornn),
    "ExpRNN": Case(jaxrnn.ExpRNN(3), exprnn),
    "URNN": Case(jaxrnn.URNN(4, 1), urnn(4, 1)),
    "FastWeights": Case(jaxrnn.FastWeights(4, 0.8, 0.3, 2), fast_weights(4, 0.8, 0.3, 2)),
    "EchoState": Case(jaxrnn.EchoState(4, 0.3, connectivity=0.8), echo_state),
    "CfC": Case(jaxrnn.CfC(4, 5), cfc),
    "LTC": Case(jaxrnn.LTC(4, 0.2, 3), ltc),
    "DTRNN": Case(jaxrnn.DTRNN(4, 3), deep_transition(3)),
    "DTSRNN": Case(jaxrnn.DTSRNN(4, 3), deep_transition(3, shortcut=True)),
    "DOTRNN": Case(jaxrnn.DOTRNN(4, 2, 3), deep_transition(3, output=2)),
}

FROZEN = {"EchoState": ("w_x", "w_h", "b")}
