"""DOTRNN: its equations in NumPy and its own tests."""

import jaxrnn
from tests.support.references import Case, deep_transition

CASE = Case(
    jaxrnn.DOTRNN(4, 2, depth=3),
    deep_transition(3, output=2),
    variants={
        "depth 2": Case(jaxrnn.DOTRNN(4, 2, depth=2), deep_transition(2, output=2)),
        "depth 4": Case(jaxrnn.DOTRNN(4, 2, depth=4), deep_transition(4, output=2)),
    },
)
