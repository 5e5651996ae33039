"""ExpRNN: its equations in NumPy and its own tests."""

import scipy.linalg

import jaxrnn
from tests.support.references import Case, mod_relu, of_hidden, skew


@of_hidden(3, analytic=False)
def exprnn(params, h, x):
    """Lezcano-Casado & Martinez-Rubio 2019."""
    return mod_relu(scipy.linalg.expm(skew(params)) @ h + params.w_x.T @ x, params.b)


CASE = Case(jaxrnn.ExpRNN(3), exprnn)
