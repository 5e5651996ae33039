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


def on_lstm(hidden, chunk):
    """Shen et al. 2019, eqs. 6 to 14: cumax master gates, each entry for a chunk of memories."""

    def cumax(a):
        weights = np.exp(a) / np.exp(a).sum()
        return np.array([weights[: k // chunk + 1].sum() for k in range(hidden)])

    def step(params, state, x):
        h, c = state
        w_i, w_f, w_g, w_o = parts(params.w_x, 4)
        r_i, r_f, r_g, r_o = parts(params.w_h, 4)
        b_i, b_f, b_g, b_o = parts(params.b, 4)
        w_mi, w_mf = parts(params.w_x_master, 2)
        r_mi, r_mf = parts(params.w_h_master, 2)
        b_mi, b_mf = parts(params.b_master, 2)
        master_forget = cumax(w_mf @ x + r_mf @ h + b_mf)
        master_input = 1 - cumax(w_mi @ x + r_mi @ h + b_mi)
        overlap = master_forget * master_input
        forget_gate = sigmoid(w_f @ x + r_f @ h + b_f) * overlap + (master_forget - overlap)
        input_gate = sigmoid(w_i @ x + r_i @ h + b_i) * overlap + (master_input - overlap)
        c = forget_gate * c + input_gate * np.tanh(w_g @ x + r_g @ h + b_g)
        h = sigmoid(w_o @ x + r_o @ h + b_o) * np.tanh(c)
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden))


def hyper_lstm(hidden, hyper, embedding):
    """Ha et al. 2016, appendix A.2: gate by gate, the small LSTM reading the large one's state and the input."""

    def step(params, state, x):
        h, c, h_hat, c_hat = state
        x_hat = np.concatenate([h, h_hat])
        w = parts(params.hyper_w_x, 4)
        r = parts(params.hyper_w_h, 4)
        i, f, g, o = (w[k] @ x + r[k] @ x_hat + np.split(params.hyper_b, 4)[k] for k in range(4))
        c_hat = sigmoid(f) * c_hat + sigmoid(i) * np.tanh(g)
        h_hat = sigmoid(o) * np.tanh(c_hat)
        gate = []
        for k in range(4):
            z = [parts(params.w_z, 12)[4 * kind + k] @ h_hat for kind in range(3)]  # of h, x, b
            z[0] = z[0] + params.b_z[k * embedding : (k + 1) * embedding]
            z[1] = z[1] + params.b_z[(4 + k) * embedding : (5 + k) * embedding]
            d_h, d_x, d_b = (params.w_d[4 * kind + k].T @ z[kind] for kind in range(3))
            rows = slice(k * hidden, (k + 1) * hidden)
            scaled_h, scaled_x = np.diag(d_h) @ params.w_h.T[rows], np.diag(d_x) @ params.w_x.T[rows]
            gate.append(scaled_h @ h + scaled_x @ x + d_b + params.b[rows])
        c = sigmoid(gate[1]) * c + sigmoid(gate[0]) * np.tanh(gate[2])
        h = sigmoid(gate[3]) * np.tanh(c)
        return (h, c, h_hat, c_hat), h

    return Reference(step, zero_state(hidden, hidden, hyper, hyper))


def slstm(hidden, heads):
    """Beck et al. 2024, eqs. 8 to 14 without a stabilizer: the state's true c and n are exp(m) times those kept."""

    def step(params, state, x):
        h, c, n, m = state
        size = hidden // heads
        pre = []
        for k, (w, b) in enumerate(zip(parts(params.w_x, 4), np.split(params.b, 4), strict=True)):
            r = np.zeros((hidden, hidden))
            for head in range(heads):
                block = slice(head * size, (head + 1) * size)
                r[block, block] = params.w_h[head][:, k * size : (k + 1) * size].T
            pre.append(w @ x + r @ h + b)
        i, f, z, o = np.exp(pre[0]), sigmoid(pre[1]), np.tanh(pre[2]), sigmoid(pre[3])
        m_new = np.log(np.where(n == 0, i, np.maximum(f * np.exp(m), i)))
        c, n = f * (np.exp(m) * c) + i * z, f * (np.exp(m) * n) + i
        h = o * c / n
        return (h, c * np.exp(-m_new), n * np.exp(-m_new), m_new), h

    return Reference(step, zero_state(hidden, hidden, hidden, hidden))


def mlstm(hidden, heads):
    """Beck et al. 2024, eqs. 19 to 27 without a stabilizer: the true C and n are exp(m) times those kept."""
    d = hidden // heads

    def step(params, state, x):
        c, n, m = (np.reshape(leaf, (heads, *shape)) for leaf, shape in zip(state, [(d, d), (d,), ()], strict=True))
        w_q, w_k, w_v, w_o = parts(params.w_x, 4)
        b_q, b_k, b_v, b_o = parts(params.b, 4)
        q, k, v = w_q @ x + b_q, w_k @ x / np.sqrt(d) + b_k, w_v @ x + b_v
        i, f = np.split(params.w_gates.T @ x + params.b_gates, 2)
        i, f = np.exp(i), sigmoid(f)
        new, out = [], []
        for head in range(heads):
            block = slice(head * d, (head + 1) * d)
            scale = np.exp(m[head])
            memory = f[head] * scale * c[head] + i[head] * np.outer(v[block], k[block])
            norm = f[head] * scale * n[head] + i[head] * k[block]
            out.append(memory @ q[block] / max(abs(norm @ q[block]), 1))
            kept = max(f[head] * scale, i[head])
            new.append((memory / kept, norm / kept, np.log(kept)))
        h = sigmoid(w_o @ x + b_o) * np.concatenate(out)
        return tuple(np.array(leaf) for leaf in zip(*new, strict=True)), h

    return Reference(step, lambda params: (np.zeros((heads, d, d)), np.zeros((heads, d)), np.zeros(heads)))


def memory_controller_lstm(hidden):
    """MC-LSTM 2017: one output gate for the outside, one for the controller."""

    def step(params, state, x):
        _, v, c = state
        w_i, w_f, w_n, w_o, w_m = parts(params.w_x, 5)
        r_i, r_f, r_n, r_o, r_m = parts(params.w_v, 5)
        b_i, b_f, b_n, b_o, b_m = parts(params.b, 5)
        c = sigmoid(w_f @ x + r_f @ v + b_f) * c + sigmoid(w_i @ x + r_i @ v + b_i) * np.tanh(w_n @ x + r_n @ v + b_n)
        h = sigmoid(w_o @ x + r_o @ v + b_o) * np.tanh(c)
        v = sigmoid(w_m @ x + r_m @ v + b_m) * np.tanh(c)
        return (h, v, c), h

    return Reference(step, zero_state(hidden, hidden, hidden))


def janet(hidden, beta):
    """Van der Westhuizen & Lasenby 2018: the memory is the state."""

    def step(params, state, x):
        (c,) = state
        w_f, w_g = parts(params.w_x, 2)
        r_f, r_g = parts(params.w_h, 2)
        b_f, b_g = parts(params.b, 2)
        s = w_f @ x + r_f @ c + b_f
        c = sigmoid(s) * c + (1 - sigmoid(s - beta)) * np.tanh(w_g @ x + r_g @ c + b_g)
        return (c,), c

    return Reference(step, zero_state(hidden))


def nas_cell(hidden):
    """Zoph & Le 2017: three layers of a tree, and the memory enters at the second."""

    def relu(a):
        return np.maximum(a, 0)

    def step(params, state, x):
        h, c = state
        from_x = [w @ x for w in parts(params.w_x, 8)]
        from_h = [r @ h + b for r, b in zip(parts(params.w_h, 8), np.split(params.b, 8), strict=True)]
        both = [a + b for a, b in zip(from_x, from_h, strict=True)]
        first = [
            sigmoid(both[0]),
            relu(both[1]),
            sigmoid(both[2]),
            relu(from_x[3] * from_h[3]),
            np.tanh(both[4]),
            sigmoid(both[5]),
            np.tanh(both[6]),
            sigmoid(both[7]),
        ]
        second = [
            np.tanh(first[0] * first[1]),
            np.tanh(first[2] + first[3]),
            np.tanh(first[4] * first[5]),
            sigmoid(first[6] + first[7]),
        ]
        c = np.tanh(second[0] + c) * second[1]
        h = np.tanh(c * np.tanh(second[2] + second[3]))
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden))


def ran(hidden, g=np.tanh):
    """Lee et al. 2017, eqs. 1."""

    def step(params, state, x):
        h, c = state
        w_c, w_i, w_f = parts(params.w_x, 3)
        r_i, r_f = parts(params.w_h, 2)
        b_i, b_f = parts(params.b, 2)
        content = w_c @ x
        c = sigmoid(w_i @ x + r_i @ h + b_i) * content + sigmoid(w_f @ x + r_f @ h + b_f) * c
        h = g(c)
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden))


def phased_lstm(hidden, ratio, leak):
    """Neil et al. 2016: a peephole LSTM behind a time gate, unit by unit."""

    def openness(time, period, shift):
        phase = (time - shift) / period
        phase -= np.floor(phase)
        if phase < ratio / 2:
            return 2 * phase / ratio
        return 2 - 2 * phase / ratio if phase < ratio else leak * phase

    def step(params, state, x):
        h, c = state
        x, time = x[:-1], x[-1]
        w_i, w_f, w_g, w_o = parts(params.w_x, 4)
        r_i, r_f, r_g, r_o = parts(params.w_h, 4)
        b_i, b_f, b_g, b_o = parts(params.b, 4)
        p_i, p_f, p_o = (np.diag(row) for row in params.w_c)
        k = np.array([openness(time, p, s) for p, s in zip(params.period, params.shift, strict=True)])
        input_gate = sigmoid(w_i @ x + r_i @ h + p_i @ c + b_i)
        forget_gate = sigmoid(w_f @ x + r_f @ h + p_f @ c + b_f)
        proposed_c = forget_gate * c + input_gate * np.tanh(w_g @ x + r_g @ h + b_g)
        output_gate = sigmoid(w_o @ x + r_o @ h + p_o @ proposed_c + b_o)
        proposed_h = output_gate * np.tanh(proposed_c)
        c = k * proposed_c + (1 - k) * c
        h = k * proposed_h + (1 - k) * h
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden))


def time_aware_lstm(hidden):
    """Baytas et al. 2017: the memory is decomposed and its short-term part discounted."""

    def step(params, state, x):
        h, c = state
        x, gap = x[:-1], x[-1]
        w_i, w_f, w_g, w_o = parts(params.w_x, 4)
        r_i, r_f, r_g, r_o = parts(params.w_h, 4)
        b_i, b_f, b_g, b_o = parts(params.b, 4)
        short = np.tanh(params.w_s.T @ c + params.b_s)
        long = c - short
        adjusted = long + short / np.log(np.e + gap)
        input_gate = sigmoid(w_i @ x + r_i @ h + b_i)
        forget_gate = sigmoid(w_f @ x + r_f @ h + b_f)
        c = forget_gate * adjusted + input_gate * np.tanh(w_g @ x + r_g @ h + b_g)
        h = sigmoid(w_o @ x + r_o @ h + b_o) * np.tanh(c)
        return (h, c), h

    return Reference(step, zero_state(hidden, hidden))


def trnn(hidden):
    """Balduzzi & Ghifary 2016, T-RNN."""

    def step(params, state, x):
        (h,) = state
        w, v = parts(params.w_x, 2)
        forget_gate = sigmoid(v @ x + params.b)
        h = forget_gate * h + (1 - forget_gate) * (w @ x)
        return (h,), h

    return Reference(step, zero_state(hidden))


def typed(params, before, x):
    """The values of the strongly-typed gates, before any squashing; `before` is V times the last input."""
    return [
        v + w @ x + b for v, w, b in zip(np.split(before, 3), parts(params.w_x, 3), np.split(params.b, 3), strict=True)
    ]


def tgru(hidden):
    """Balduzzi & Ghifary 2016, T-GRU."""

    def step(params, state, x):
        h, before = state
        z, f, o = typed(params, before, x)
        h = sigmoid(f) * h + z * np.tanh(o)
        return (h, params.v_x.T @ x), h

    return Reference(step, zero_state(hidden, 3 * hidden))


def tlstm(hidden):
    """Balduzzi & Ghifary 2016, T-LSTM."""

    def step(params, state, x):
        _, c, before = state
        z, f, o = typed(params, before, x)
        c = sigmoid(f) * c + sigmoid(-f) * z
        h = c * np.tanh(o)
        return (h, c, params.v_x.T @ x), h

    return Reference(step, zero_state(hidden, hidden, 3 * hidden))


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
    "ONLSTM": Case(jaxrnn.ONLSTM(4, chunk_size=2), on_lstm(4, 2)),
    "HyperLSTM": Case(jaxrnn.HyperLSTM(4, 3, 2), hyper_lstm(4, 3, 2)),
    "SLSTM": Case(jaxrnn.SLSTM(4, num_heads=2), slstm(4, 2)),
    "MLSTM": Case(jaxrnn.MLSTM(6, num_heads=2), mlstm(6, 2)),
    "MemoryControllerLSTM": Case(jaxrnn.MemoryControllerLSTM(4), memory_controller_lstm(4)),
    "JANET": Case(jaxrnn.JANET(4), janet(4, 1.0)),
    "NASCell": Case(jaxrnn.NASCell(4), nas_cell(4)),
    "RAN": Case(jaxrnn.RAN(4), ran(4)),
    "PhasedLSTM": Case(jaxrnn.PhasedLSTM(4, open_ratio=0.6), phased_lstm(4, 0.6, 0.001)),
    "TimeAwareLSTM": Case(jaxrnn.TimeAwareLSTM(4), time_aware_lstm(4)),
    "TRNN": Case(jaxrnn.TRNN(4), trnn(4)),
    "TGRU": Case(jaxrnn.TGRU(4), tgru(4)),
    "TLSTM": Case(jaxrnn.TLSTM(4), tlstm(4)),
}
