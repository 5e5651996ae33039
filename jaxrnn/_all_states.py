"""A layer that returns its states after all steps, which `states_over_time` runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
from jax import Array

from jaxrnn.layer import Layer, Params, Plan, State


@dataclass(frozen=True)
class AllStates(Layer):
    """A layer that returns the states after all steps in place of the last one."""

    layer: Layer

    def __repr__(self) -> str:
        return repr(self.layer)  # in error messages

    @property
    def num_feature_axes(self) -> int:  # type: ignore[override]
        return self.layer.num_feature_axes

    @property
    def causal(self) -> bool:
        return self.layer.causal

    def init(self, key: Array, input_size: Any) -> Params:
        return self.layer.init(key, input_size)

    def initial_state(self, params: Params, batch_shape: tuple[int, ...] = (), dtype: Any = None) -> State:
        return self.layer.initial_state(params, batch_shape, dtype)

    def run(self, params: Params, xs: Any, state: State, key: Array | None, plan: Plan) -> tuple[State, Any]:
        states, ys = self.layer.run(params, xs, state, key, plan._replace(all_states=True))
        time = jax.tree.leaves(xs)[0].shape[0]
        expected = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((time, *leaf.shape), leaf.dtype), state)
        shapes, wanted = (
            {jax.tree_util.keystr(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
            for tree in (states, expected)
        )
        wrong = [f"state{path}" for path in wanted | shapes if shapes.get(path) != wanted.get(path)]
        if wrong:
            raise TypeError(
                f"states_over_time needs layers that return the states after all steps if plan.all_states is set, but "
                f"{self.layer} returns {wrong[0]} of shape {shapes.get(wrong[0][5:])} instead of "
                f"{wanted.get(wrong[0][5:])}: run its cells with plan.run_loop, or return its states yourself"
            )
        return states, ys
