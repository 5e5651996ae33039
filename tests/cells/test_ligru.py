"""LiGRU: its equations in NumPy and its own tests."""

import jaxrnn
from tests.support.references import Case, of_hidden, parts, relu, sigmoid


@of_hidden(4)
def ligru(params, h, x):
    """Ravanelli et al. 2018, the model without reset gate and with ReLU; biases for batch normalization."""
    w_z, w_h = parts(params.w_x, 2)
    u_z, u_h = parts(params.w_h, 2)
    b_z, b_h = parts(params.b, 2)
    update = sigmoid(w_z @ x + b_z + u_z @ h)
    candidate = relu(w_h @ x + b_h + u_h @ h)
    return update * h + (1 - update) * candidate


CASE = Case(jaxrnn.LiGRU(4), ligru)
