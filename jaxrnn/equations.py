"""A traced function as a flat list of equations, parts of which can be run apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxpr_as_fun


class Equation(NamedTuple):
    """`outs = run(ins)`, of values known by their places."""

    run: Callable[..., list[Any]]
    ins: tuple[int, ...]
    outs: tuple[int, ...]
    primitive: str
    params: dict[str, Any]
    effects: bool
    grows: bool  # whether more is put out than is read


class Equations:
    """The equations of `function(*args)`, those of nested calls of `jit` among them. The arguments are not read.

    Attributes:
      equations: in an order in which they can be run.
      ins: for each argument, the places of its leaves.
      outs: the places of the leaves of the result.
      out_tree: the result's structure.
      constants: values by place.
      avals: the shape and dtype of each place; None for constants.
    """

    def __init__(self, function: Callable[..., Any], *args: Any):
        closed, out = jax.make_jaxpr(function, return_shape=True)(*args)
        self.equations: list[Equation] = []
        self.constants: dict[int, Any] = {}
        self.avals: list[Any] = []
        self.out_tree = jax.tree.structure(out)
        places = iter([self.place(var.aval) for var in closed.jaxpr.invars])
        self.ins = [[next(places) for _ in jax.tree.leaves(arg)] for arg in args]
        self.outs = self._inline(closed, [place for places in self.ins for place in places])

    def place(self, aval: Any) -> int:
        """A new place."""
        self.avals.append(aval)
        return len(self.avals) - 1

    def levels(
        self,
        kinds: Iterable[int],
        lift: Callable[[Equation, int], int] = lambda _, level: level,
        equations: list[Equation] | None = None,
    ) -> tuple[list[int], list[int]]:
        """What each place, and each equation, depends on.

        It is the highest kind, one for each argument, of all that the place is made of; of constants 0. `lift` may
        raise an equation's. `equations` are others than `self.equations`, if given.
        """
        of_places, of_equations = [0] * len(self.avals), []
        for kind, places in zip(kinds, self.ins, strict=True):
            for place in places:
                of_places[place] = kind
        for e in self.equations if equations is None else equations:
            of_equations.append(lift(e, max((of_places[p] for p in e.ins), default=0)))
            for place in e.outs:
                of_places[place] = of_equations[-1]
        return of_places, of_equations

    def _constant(self, value: Any) -> int:
        place = self.place(None)
        self.constants[place] = value
        return place

    def _inline(self, closed: ClosedJaxpr, ins: list[int]) -> list[int]:
        jaxpr = closed.jaxpr
        places = dict(zip(jaxpr.constvars, map(self._constant, closed.consts), strict=True))
        places |= dict(zip(jaxpr.invars, ins, strict=True))

        def place(atom: Any) -> int:
            return self._constant(atom.val) if isinstance(atom, Literal) else places[atom]

        for eqn in jaxpr.eqns:
            read = [place(atom) for atom in eqn.invars]
            if eqn.primitive.name in ("jit", "pjit"):
                outs = self._inline(eqn.params["jaxpr"], read)
            else:
                outs = [self.place(var.aval) for var in eqn.outvars]
                self.equations.append(_equation(eqn, read, outs, jaxpr.debug_info.with_unknown_names()))
            places |= dict(zip(eqn.outvars, outs, strict=True))
        return [place(atom) for atom in jaxpr.outvars]


def evaluate(equations: Iterable[Equation], values: dict[int, Any]) -> None:
    """Adds what the equations put out to the values by place."""
    for e in equations:
        values.update(zip(e.outs, e.run(*(values[p] for p in e.ins)), strict=True))


def _equation(eqn: Any, read: list[int], outs: list[int], about: Any) -> Equation:
    def size(atoms: Any) -> int:  # those without a number come of inputs of any shape, for `jax.export`
        return sum(size for atom in atoms if isinstance(size := getattr(atom.aval, "size", 0), int))

    grows = size(eqn.outvars) > size(eqn.invars)
    return Equation(
        _function(eqn, about), tuple(read), tuple(outs), eqn.primitive.name, eqn.params, bool(eqn.effects), grows
    )


def _function(eqn: Any, about: Any) -> Callable[..., list[Any]]:
    """One equation as a function of the values it reads, literals included."""
    atoms = {n: atom for n, atom in enumerate(eqn.invars) if not isinstance(atom, Literal)}
    variables = list(dict.fromkeys(atoms.values()))
    first = [next(n for n, atom in atoms.items() if atom is var) for var in variables]
    run = jaxpr_as_fun(ClosedJaxpr(Jaxpr([], variables, eqn.outvars, [eqn], eqn.effects, about), []))
    return lambda *operands: run(*(operands[n] for n in first))
