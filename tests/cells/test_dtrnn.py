"""DTRNN: its equations in NumPy and its own tests."""

import jaxrnn
from tests.support.references import Case, deep_transition

CASE = Case(
    jaxrnn.DTRNN(4, depth=3),
    deep_transition(3),
    variants={
        "depth 2": Case(jaxrnn.DTRNN(4, depth=2), deep_transition(2)),
        "depth 4": Case(jaxrnn.DTRNN(4, depth=4), deep_transition(4)),
    },
)
