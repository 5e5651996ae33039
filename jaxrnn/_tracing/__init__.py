"""Opens a traced step, so that loops, wrappers and `adopt` can treat its parts differently.

A cell says what one step computes, and nothing about how to run it fast. Everything that a fast loop must know is found
by tracing the step once and sorting its equations by what they depend on (`DependsOn`): nothing, parameters, the
input, or the state. As an example, take a GRU whose step is ::

    def step(params, state, x):
        x_r, x_z, x_n = split(x @ w_x + b)             # depends on the input
        h_r, h_z, h_n = split(state.h @ w_h)           # depends on the state: a product with a parameter
        r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
        n = tanh(x_n + r * (h_n + b_n))
        h = (1 - z) * n + z * state.h
        return GRUState(h), h

Its equations fall into four groups:

* **Projected.** `x @ w_x + b` needs no state. `StepParts` (used by `adopt` for a step that is not split yet) computes
  it for all time steps as one large product before the loop. jaxrnn's own cells do this by hand in `project`. The
  output `h` is part of the new state, so that `readout` needs no equation at all.
* **In the loop.** Everything that depends on the state: the product `state.h @ w_h` and the elementwise rest. `adopt`
  first rewrites products such as `concatenate([x, h]) @ w` so that as little as possible ends up here (`rewriting`).
* **Saved.** The backward pass runs the step again, without its products. For that it is enough to save the values that
  nonlinear operations read: here `x_r + h_r`, `x_z + h_z`, `x_n`, `h_n + b_n` and `state.h`, which is kept as the
  output anyway. `TracedStep` finds these values (`saved`), returns them to the forward loop, and replaces them when the
  step is replayed.
* **Deferred.** The gradient of `w_h` is a sum over time of small products. The backward loop returns the cotangent of
  each product instead (`Product.pull_a` gives the cotangent of `state.h`, which the loop needs at once), and after the
  loop `Product.pull_w` computes the gradient as a single large product. The gradient of `b_n`, which is not multiplied
  but added, is accumulated in the loop (`other_weights`).
"""

from jaxrnn._tracing.equations import DependsOn, Equation, Equations, evaluate
from jaxrnn._tracing.parts import StepParts, split_step
from jaxrnn._tracing.precision import is_narrow, widen
from jaxrnn._tracing.product import Product
from jaxrnn._tracing.traced_step import TracedStep
from jaxrnn._tracing.unused_rows import ignoring_unused

__all__ = [
    "DependsOn",
    "Equation",
    "Equations",
    "Product",
    "StepParts",
    "TracedStep",
    "evaluate",
    "ignoring_unused",
    "is_narrow",
    "split_step",
    "widen",
]
