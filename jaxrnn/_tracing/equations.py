"""A traced function as a flat list of equations, parts of which can be run separately."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxpr_as_fun

JITTED = ("jit", "pjit")
WITH_DERIVATIVES = ("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr", "checkpoint", "remat2")


class DependsOn(enum.IntEnum):
    """What a value of a traced step depends on. A value made of several has the highest of theirs."""

    NOTHING = 0
    PARAMETERS = 1
    INPUT = 2
    STATE = 3

    @property
    def varies(self) -> bool:
        """Whether the value may differ from step to step."""
        return self > DependsOn.PARAMETERS


class Equation(NamedTuple):
    """`outs = run(ins)`. Values are identified by their places, which are integers."""

    run: Callable[..., list[Any]]
    ins: tuple[int, ...]
    outs: tuple[int, ...]
    primitive: str
    params: dict[str, Any]
    effects: bool
    grows: bool  # whether the outputs have more elements than the inputs


class Equations:
    """The equations of `function(*args)`, including those of nested calls of `jit`. Only avals of `args` are used.

    With `inline`, functions with custom derivatives are replaced by the equations that they consist of.

    Attributes:
      equations: In an order in which they can be run.
      ins: For each argument, the places of its leaves.
      outs: The places of the leaves of the result.
      out_tree: The structure of the result.
      constants: Values by place.
      avals: The shape and dtype of each place.
    """

    def __init__(self, function: Callable[..., Any], *args: Any, inline: bool = False):
        self._inlined = (*JITTED, *WITH_DERIVATIVES) if inline else JITTED
        closed, out = jax.make_jaxpr(function, return_shape=True)(*args)
        self.equations: list[Equation] = []
        self.constants: dict[int, Any] = {}
        self.avals: list[Any] = []
        self.out_tree = jax.tree.structure(out)
        places = iter([self.new_place(var.aval) for var in closed.jaxpr.invars])
        self.ins = [[next(places) for _ in jax.tree.leaves(arg)] for arg in args]
        self.outs = self._inline(closed, [place for places in self.ins for place in places])

    def new_place(self, aval: Any) -> int:
        """Adds a place for a value of this shape and dtype."""
        self.avals.append(aval)
        return len(self.avals) - 1

    def dependencies(
        self,
        of_args: Iterable[DependsOn],
        adjust: Callable[[Equation, DependsOn], DependsOn] = lambda _, depends_on: depends_on,
        equations: list[Equation] | None = None,
    ) -> tuple[list[DependsOn], list[DependsOn]]:
        """Returns what each place and each equation depends on.

        Args:
          of_args: What each argument of the function counts as.
          adjust: May raise what an equation depends on.
          equations: Replaces `self.equations`, for instance after rewriting.
        """
        of_places = [DependsOn.NOTHING] * len(self.avals)
        of_equations = []
        for depends_on, places in zip(of_args, self.ins, strict=True):
            for place in places:
                of_places[place] = depends_on
        for e in self.equations if equations is None else equations:
            depends_on = adjust(e, max((of_places[p] for p in e.ins), default=DependsOn.NOTHING))
            of_equations.append(depends_on)
            for place in e.outs:
                of_places[place] = depends_on
        return of_places, of_equations

    def _constant(self, value: Any, aval: Any) -> int:
        place = self.new_place(aval)
        self.constants[place] = value
        return place

    def _inline(self, closed: ClosedJaxpr, ins: list[int]) -> list[int]:
        jaxpr = closed.jaxpr
        places = dict(zip(jaxpr.invars, ins, strict=True))
        for var, value in zip(jaxpr.constvars, closed.consts, strict=True):
            places[var] = self._constant(value, var.aval)

        def place_of(atom: Any) -> int:
            return self._constant(atom.val, atom.aval) if isinstance(atom, Literal) else places[atom]

        for eqn in jaxpr.eqns:
            read = [place_of(atom) for atom in eqn.invars]
            if eqn.primitive.name in self._inlined:
                outs = self._inline(_called(eqn), read)
            else:
                outs = [self.new_place(var.aval) for var in eqn.outvars]
                self.equations.append(_equation(eqn, read, outs, jaxpr.debug_info.with_unknown_names()))
            places |= dict(zip(eqn.outvars, outs, strict=True))
        return [place_of(atom) for atom in jaxpr.outvars]


def _called(eqn: Any) -> ClosedJaxpr:
    """Returns the function that an equation calls."""
    called = next(eqn.params[name] for name in ("jaxpr", "call_jaxpr", "fun_jaxpr") if name in eqn.params)
    return called if isinstance(called, ClosedJaxpr) else ClosedJaxpr(called, [])


def evaluate(equations: Iterable[Equation], values: dict[int, Any]) -> None:
    """Runs equations and adds their results to `values`, which maps places to arrays."""
    for e in equations:
        values.update(zip(e.outs, e.run(*(values[p] for p in e.ins)), strict=True))


def _equation(eqn: Any, read: list[int], outs: list[int], debug_info: Any) -> Equation:
    def num_elements(atoms: Any) -> int:  # symbolic sizes, from `jax.export`, are not counted
        return sum(size for atom in atoms if isinstance(size := getattr(atom.aval, "size", 0), int))

    return Equation(
        run=_function(eqn, debug_info),
        ins=tuple(read),
        outs=tuple(outs),
        primitive=eqn.primitive.name,
        params=eqn.params,
        effects=bool(eqn.effects),
        grows=num_elements(eqn.outvars) > num_elements(eqn.invars),
    )


def _function(eqn: Any, debug_info: Any) -> Callable[..., list[Any]]:
    """Returns one equation as a function of the values that it reads, literals included."""
    atoms = {n: atom for n, atom in enumerate(eqn.invars) if not isinstance(atom, Literal)}
    variables = list(dict.fromkeys(atoms.values()))
    if len(variables) < len(atoms) == len(eqn.invars) and not eqn.primitive.multiple_results:  # such as x @ x
        return lambda *operands: [eqn.primitive.bind(*operands, **eqn.params)]
    first = [next(n for n, atom in atoms.items() if atom is var) for var in variables]
    run = jaxpr_as_fun(ClosedJaxpr(Jaxpr([], variables, eqn.outvars, [eqn], eqn.effects, debug_info), []))
    return lambda *operands: run(*(operands[n] for n in first))
