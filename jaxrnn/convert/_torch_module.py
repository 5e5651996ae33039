"""What PyTorch's recurrent modules are made of: names, shapes and gates, of which `torch.py` makes layers."""

from __future__ import annotations

import re
from collections.abc import Mapping
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
from jaxrnn.convert._common import array
from jaxrnn.layer import Cell, Params

ACTIVATIONS = {"tanh": jnp.tanh, "relu": jax.nn.relu}
GATES = {1: "RNN", 3: "GRU", 4: "LSTM"}
PARTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
NAME = re.compile(rf"({'|'.join(PARTS)})(?:_l(\d+)(_reverse)?)?")

Place = tuple[int | None, bool]  # which layer, None if it is a cell; whether in the other direction
Weights = dict[str, np.ndarray]  # one layer's in one direction, by the names of `PARTS`


class Module(NamedTuple):
    """What tells PyTorch's modules apart. Their layers are alike, but for the size of the input."""

    gates: int
    hidden_size: int
    proj_size: int  # 0: there is no projection
    activation: Any

    @staticmethod
    def of_cell(cell: Any) -> Module:
        activation = getattr(cell, "activation", jnp.tanh)
        if not any(activation is known for known in ACTIVATIONS.values()):
            raise ValueError(f"PyTorch's nn.RNN has tanh or jax.nn.relu as its activation, but this is {cell}")
        gates = {Elman: 1, GRU: 3}.get(type(cell), 4)
        return Module(gates, cell.hidden_size, getattr(cell, "projection_size", 0), activation)

    @staticmethod
    def of_weights(weights: Weights, nonlinearity: str) -> Module:
        shapes = {name: w.shape for name, w in weights.items() if "weight" in name}
        if any(len(shape) != 2 or 0 in shape for shape in shapes.values()):
            raise ValueError(f"weights must be matrices [rows, columns], but their shapes are {shapes}")
        projection, hidden = shapes.get("weight_hr", (0, shapes["weight_hh"][1]))
        gates, rest = divmod(shapes["weight_hh"][0], hidden)
        if rest or gates not in ((4,) if projection else GATES):
            raise ValueError(
                "weight_hh must have a row for each unit and gate, 1 gate of an RNN, 3 of a GRU, 4 of an LSTM and of "
                f"whatever has weight_hr [projection, units], but the shapes are {shapes}"
            )
        if nonlinearity != "tanh" and gates != 1:
            raise ValueError(f"only an RNN has a nonlinearity, but the shapes {shapes} are those of a {GATES[gates]}")
        return Module(gates, hidden, projection, ACTIVATIONS[nonlinearity])

    @property
    def output_size(self) -> int:
        return self.proj_size or self.hidden_size

    def read(self, weights: Weights, input_size: int, place: Place) -> tuple[Cell, Params]:
        """The cell of one layer in one direction, and its parameters."""
        n, rows = self.hidden_size, self.gates * self.hidden_size
        for name, shape in {
            "weight_ih": (rows, input_size),
            "weight_hh": (rows, self.output_size),
            "bias_ih": (rows,),
            "bias_hh": (rows,),
            "weight_hr": (self.proj_size, n),
        }.items():
            if name in weights and weights[name].shape != shape:
                raise ValueError(f"{name_of(name, *place)} must have the shape {shape}, not {weights[name].shape}")
        w = {name: array(weights[name].T) for name in weights if "weight" in name}
        nothing = np.zeros(rows, w["weight_ih"].dtype)
        b_x, b_h = weights.get("bias_ih", nothing), weights.get("bias_hh", nothing)
        if self.gates == 3:
            b = np.concatenate([(b_x + b_h)[: 2 * n], b_x[2 * n :]])
            return GRU(n), GRUParams(w["weight_ih"], w["weight_hh"], array(b), array(b_h[2 * n :]))
        shared = w["weight_ih"], w["weight_hh"], array(b_x + b_h)
        if self.gates == 1:
            return Elman(n, self.activation), ElmanParams(*shared)
        if self.proj_size:
            return ProjectedLSTM(n, self.proj_size), ProjectedLSTMParams(*shared, w["weight_hr"])
        return LSTM(n), LSTMParams(*shared)

    def write(self, params: Any, bias: bool) -> Weights:
        """The arrays of one layer in one direction, of a cell's parameters."""
        p = jax.tree.map(np.asarray, params)
        b_h = np.concatenate([0 * p.b[: 2 * self.hidden_size], p.b_n]) if self.gates == 3 else np.zeros_like(p.b)
        if not bias and (p.b.any() or b_h.any()):
            raise ValueError("bias=False is for biases that are all zero, but these are not: leave it out")
        written = {"weight_ih": p.w_x.T, "weight_hh": p.w_h.T}
        written |= {"bias_ih": p.b, "bias_hh": b_h} if bias else {}
        written |= {"weight_hr": p.w_p.T} if self.proj_size else {}
        return {name: np.array(array, order="C") for name, array in written.items()}


def check_nonlinearity(name: Any) -> None:
    if name not in ACTIVATIONS:
        raise ValueError(f'nonlinearity must be "tanh" or "relu", but it is {name!r}')


def name_of(part: str, layer: int | None, reverse: bool) -> str:
    return part if layer is None else f"{part}_l{layer}{'_reverse' * reverse}"


def find(state_dict: Mapping[str, Any], prefix: str) -> dict[Place, Weights]:
    """The arrays under the prefix, by the places that their names tell."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"state_dict must be a mapping of names to arrays, but it is {type(state_dict).__name__}")
    found: dict[Place, Weights] = {}
    names = [name for name in state_dict if name.startswith(prefix)]
    matches = [NAME.fullmatch(name, len(prefix)) for name in names]
    if not names or not all(matches) or len({match[2] is None for match in matches if match}) > 1:
        ends = ((name, re.search(rf"{NAME.pattern}$", name)) for name in state_dict)
        prefixes = sorted({name[: match.start()] for name, match in ends if match})
        raise ValueError(
            f"state_dict must hold the weights of one recurrent layer and nothing else below the prefix {prefix!r}, "
            f"but it holds {names[:8]}: there are such weights below the prefixes {prefixes}"
        )
    for name, match in zip(names, matches, strict=True):
        part, layer, reverse = match.groups()  # type: ignore[union-attr]
        place = (None if layer is None else int(layer), reverse is not None)
        found.setdefault(place, {})[part] = _numpy(name, state_dict[name])
    return found


def _numpy(name: str, value: Any) -> np.ndarray:
    if hasattr(value, "detach"):  # a tensor
        value = value.detach().cpu()
    if str(getattr(value, "dtype", None)) == "torch.bfloat16":  # which PyTorch gives NumPy as float32 alone
        value = np.asarray(value.float()).astype(jnp.bfloat16)
    value = np.asarray(value)
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(f"weights must be arrays of floating-point numbers, but {name} is of {value.dtype}")
    return value


def check_names(found: dict[Place, Weights], places: list[Place]) -> None:
    """All layers in all directions have the same arrays."""
    has = set[str]().union(*found.values(), PARTS[:2])
    wanted = [part for part in PARTS if part in has or ("bias" in part and has & set(PARTS[2:4]))]
    if missing := [name_of(part, *place) for place in places for part in wanted if part not in found.get(place, ())]:
        there = [name_of(part, *place) for place, weights in found.items() for part in weights]
        raise ValueError(f"state_dict lacks {', '.join(missing)}, which belong to {', '.join(there)}")
