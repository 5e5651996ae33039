"""One layer in one direction of a recurrent module of PyTorch: its weights as a cell with parameters, and back."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.cells import (
    GRU,
    LSTM,
    Elman,
    ElmanParams,
    GRUParams,
    LSTMParams,
    ProjectedLSTM,
    ProjectedLSTMParams,
)
from jaxrnn.convert._gates import as_array
from jaxrnn.convert._torch_names import Place, Weights, name_of
from jaxrnn.layer import Cell, Params

ACTIVATIONS = {"tanh": jnp.tanh, "relu": jax.nn.relu}
MODULES = {1: "nn.RNN", 3: "nn.GRU", 4: "nn.LSTM"}  # by their number of gates


class TorchLayer(NamedTuple):
    """The properties that all layers of a module share; only their input sizes differ."""

    num_gates: int
    hidden_size: int
    projection_size: int  # 0 if there is no projection
    activation: Any

    @staticmethod
    def of_cell(cell: Any) -> TorchLayer:
        """Returns the properties of a cell."""
        activation = cell.activation if isinstance(cell, Elman) else jnp.tanh
        if not any(activation is known for known in ACTIVATIONS.values()):
            raise ValueError(f"PyTorch's nn.RNN needs the activation jnp.tanh or jax.nn.relu, but this is {cell}")
        num_gates = {Elman: 1, GRU: 3}.get(type(cell), 4)
        return TorchLayer(num_gates, cell.hidden_size, getattr(cell, "projection_size", 0), activation)

    @staticmethod
    def of_weights(weights: Weights, nonlinearity: str) -> TorchLayer:
        """Returns the properties that follow from the shapes of weights."""
        shapes = {name: w.shape for name, w in weights.items() if "weight" in name}
        if any(len(shape) != 2 or 0 in shape for shape in shapes.values()):
            raise ValueError(f"weights must be matrices [rows, columns], but their shapes are {shapes}")
        projection_size, hidden_size = shapes.get("weight_hr", (0, shapes["weight_hh"][1]))
        num_gates, remainder = divmod(shapes["weight_hh"][0], hidden_size)
        if remainder or num_gates not in ((4,) if projection_size else MODULES):
            raise ValueError(
                "weight_hh must have one row per gate and hidden unit, with 1 gate for an RNN, 3 for a GRU, and 4 for "
                f"an LSTM and for a module with weight_hr [projection, hidden], but the shapes are {shapes}"
            )
        if nonlinearity != "tanh" and num_gates != 1:
            raise ValueError(
                f"nonlinearity is an option of nn.RNN only, but the shapes {shapes} are those of {MODULES[num_gates]}: "
                "leave it out"
            )
        return TorchLayer(num_gates, hidden_size, projection_size, ACTIVATIONS[nonlinearity])

    @property
    def output_size(self) -> int:
        return self.projection_size or self.hidden_size

    def read(self, weights: Weights, input_size: int, place: Place) -> tuple[Cell, Params]:
        """Returns the cell and the parameters of one layer in one direction, given its weights."""
        n, rows = self.hidden_size, self.num_gates * self.hidden_size
        expected_shapes = {
            "weight_ih": (rows, input_size),
            "weight_hh": (rows, self.output_size),
            "bias_ih": (rows,),
            "bias_hh": (rows,),
            "weight_hr": (self.projection_size, n),
        }
        for name, shape in expected_shapes.items():
            if name in weights and weights[name].shape != shape:
                raise ValueError(
                    f"{name_of(name, *place)} must have the shape {shape}, but it has {weights[name].shape}"
                )
        w = {name: as_array(weights[name].T) for name in weights if "weight" in name}
        zeros = np.zeros(rows, w["weight_ih"].dtype)
        b_x, b_h = weights.get("bias_ih", zeros), weights.get("bias_hh", zeros)
        if self.num_gates == 3:
            b = np.concatenate([(b_x + b_h)[: 2 * n], b_x[2 * n :]])
            return GRU(n), GRUParams(w["weight_ih"], w["weight_hh"], as_array(b), as_array(b_h[2 * n :]))
        shared = w["weight_ih"], w["weight_hh"], as_array(b_x + b_h)
        if self.num_gates == 1:
            return Elman(n, activation=self.activation), ElmanParams(*shared)
        if self.projection_size:
            return ProjectedLSTM(n, self.projection_size), ProjectedLSTMParams(*shared, w["weight_hr"])
        return LSTM(n), LSTMParams(*shared)

    def write(self, params: Any, bias: bool) -> Weights:
        """Returns the weights of one layer in one direction, given a cell's parameters."""
        p = jax.tree.map(np.asarray, params)
        b_h = np.zeros_like(p.b)
        if self.num_gates == 3:
            b_h = np.concatenate([0 * p.b[: 2 * self.hidden_size], p.b_n])
        if not bias and (p.b.any() or b_h.any()):
            raise ValueError("bias=False needs biases that are all zero, but these are not: leave it out")
        weights = {"weight_ih": p.w_x.T, "weight_hh": p.w_h.T}
        if bias:
            weights |= {"bias_ih": p.b, "bias_hh": b_h}
        if self.projection_size:
            weights["weight_hr"] = p.w_p.T
        return {name: np.array(w, order="C") for name, w in weights.items()}
