"""Cells whose state is a matrix to which outer products are added, such as linear attention and the delta rules."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxrnn.layer import Cell, LinearCell, Params, State
from jaxrnn.ops import to_complex


class MatrixUpdate(NamedTuple):
    r"""The factors of one step of a `MatrixCell`, for each of its matrices :math:`S` [keys, values].

    .. math::
        S_t = \mathrm{diag}(e^{g_t + i \theta_t}) S_{t-1} + e_t (r_t^\top S_{t-1}) + k_t v_t^\top

    Without `erase`, :math:`e_t = -k_t`: the value replaces what :math:`r_t` reads. With `log_gain`, its exponential
    multiplies the key, and a stabilizer prevents overflow. The query :math:`q_t` reads the matrix after the step.

    In the shapes below, the batch axes include the heads. The decay, the angle and the gain may lack leading axes. A
    matrix that rotates has no delta rule, and one with a stabilizer has at most one decay for all keys.
    """

    q: Array  # [*batch, keys]
    k: Array  # [*batch, keys], complex with an angle
    v: Array  # [*batch, values]
    log_decay: Array | None = None  # g, at most 0: [*batch, 1] or [*batch, keys]; None: no decay
    angle: Array | None = None  # theta, in radians [*batch, keys]; None: no rotation
    read: Array | None = None  # r [*batch, keys]; None: no delta rule
    erase: Array | None = None  # e [*batch, keys]; None: -k
    log_gain: Array | None = None  # [*batch]; None: no stabilizer


class MatrixRead(NamedTuple):
    """The result of applying the query of a step to each matrix of a `MatrixCell`."""

    values: Array  # [*batch, values], the real part if the matrix is complex
    normalizer: Any  # [*batch]; None if the state has none
    stabilizer: Any  # [*batch]; None if the state has none


class MatrixMemory(NamedTuple):
    """The parts of the state of a `MatrixCell`."""

    s: Array  # [*batch, keys, values], or [*batch, values, keys] with `values_first`
    n: Array | None  # [*batch, keys], the sum of the keys, which decays like the matrix; None: no normalizer
    m: Array | None  # [*batch], the logarithm of the divisor of s and n; None: no stabilizer


class MatrixCell(Cell):
    """A cell that adds outer products of keys and values to a matrix, and reads the matrix with a query.

    The matrix may decay, rotate, and be corrected by a delta rule. A subclass defines two methods: `update` returns the
    factors of a step, and `output` computes the output from what the query reads. `step`, `readout` and
    `jaxrnn.loops.Chunked` use only these two.

    The state is a NamedTuple. Its fields are the matrix; the normalizer and the stabilizer, if there are any; and for a
    cell that shifts its inputs, two more: what `shift` returns, which the output needs, and what `passed_on` returns,
    which the next step needs. The initial matrix and normalizer are zero.
    """

    state_type: ClassVar[type]  # the NamedTuple
    values_first: ClassVar[bool] = False  # whether the matrix of the state is [values, keys] and not [keys, values]
    has_normalizer: ClassVar[bool] = False
    has_stabilizer: ClassVar[bool] = False
    shifts: ClassVar[bool] = False  # whether a step also reads a part of the previous step's projected input

    @abc.abstractmethod
    def update(self, params: Params, z: Any) -> MatrixUpdate:
        """Returns the factors of a step, given its projected input, which `shift` has changed if the cell shifts."""

    @abc.abstractmethod
    def output(self, params: Params, read: MatrixRead, z: Any) -> Any:
        """Returns the output of a step, given what its query reads and its projected input."""

    def shift(self, z: Any, before: Any) -> Any:
        """Combines the projected input of a step with what the previous step has passed on."""
        raise TypeError(f"{type(self).__name__} must define shift and passed_on, because its shifts is True")

    def passed_on(self, z: Any) -> Any:
        """Returns what a step passes on to the next one, which depends only on its projected input."""
        raise TypeError(f"{type(self).__name__} must define shift and passed_on, because its shifts is True")

    def factors(self, params: Params, z: Any) -> MatrixUpdate:
        """Returns the factors of a step from `update`, which must be those of a cell of this kind.

        Raises:
          ValueError: Some factors are missing, or do not fit together.
        """
        update = self.update(params, z)
        for problem in self._problems(update):
            raise ValueError(f"{type(self).__name__}.update {problem}")
        return update

    def _problems(self, update: MatrixUpdate) -> Iterator[str]:
        """Yields what is wrong with the factors of a step."""
        log_decay, angle = update.log_decay, update.angle
        if update.read is None and update.erase is not None:
            yield "must return read with erase, but it returns erase without read"
        if self.has_stabilizer and update.log_gain is None:
            yield "must return a log_gain, because has_stabilizer is True, but it returns none"
        if not self.has_stabilizer and update.log_gain is not None:
            yield "must not return a log_gain, because has_stabilizer is False: set it to True"
        if self.has_stabilizer and log_decay is not None and log_decay.shape[-1] != 1:
            yield (
                "must return one log_decay for all keys [*batch, 1], because has_stabilizer is True, but its shape is "
                f"{log_decay.shape}"
            )
        if angle is not None and update.read is not None:
            yield "must return read or an angle, but it returns both"
        if jnp.iscomplexobj(update.k) != (angle is not None):
            yield f"must return complex keys with an angle and real ones without, but their dtype is {update.k.dtype}"

    def step(self, params: Params, state: State, z: Any) -> State:
        s, n, m = self.memory(state)
        shifted = ()
        if self.shifts:
            shifted = (self.shift(z, state[-1]), self.passed_on(z))
            z = shifted[0]
        update = self.factors(params, z)
        k, log_decay = update.k, update.log_decay
        if update.log_gain is not None and m is not None:
            decayed = m if log_decay is None else log_decay[..., 0] + m
            m = jnp.maximum(decayed, update.log_gain)
            k = jnp.exp(update.log_gain - m)[..., None] * k
            log_decay = (decayed - m)[..., None]
        decay = self._decay(log_decay, update.angle)
        keys, values = self._axes
        v = to_complex(update.v) if jnp.iscomplexobj(k) else update.v
        s_after = (s if decay is None else keys(decay) * s) + keys(k) * values(v)
        n_after = None if n is None else (n if decay is None else decay * n) + k
        if update.read is not None:
            found = (keys(update.read) * s).sum(-1 if self.values_first else -2)
            erase = -k if update.erase is None else update.erase
            s_after = s_after + keys(erase) * values(found)
            if n is not None and n_after is not None:
                n_after = n_after + erase * (update.read * n).sum(-1, keepdims=True)
        return self.state_type(*(part for part in (s_after, n_after, m) if part is not None), *shifted)

    def readout(self, params: Params, state: State, z: Any) -> Any:
        s, n, m = self.memory(state)
        z = state[-2] if self.shifts else z
        q = self.update(params, z).q
        values = jnp.einsum("...vk,...k->...v" if self.values_first else "...kv,...k->...v", s, q).real
        return self.output(params, MatrixRead(values, None if n is None else (n * q).sum(-1).real, m), z)

    def memory(self, state: State) -> MatrixMemory:
        """Returns the parts of a state."""
        n = 1 if self.has_normalizer else None
        m = (2 if n else 1) if self.has_stabilizer else None
        return MatrixMemory(state[0], None if n is None else state[n], None if m is None else state[m])

    @property
    def _axes(self) -> Any:
        """Two functions that add an axis to a vector of keys, or of values, so that it broadcasts with the matrix."""
        return (_as_row, _as_column) if self.values_first else (_as_column, _as_row)

    def _decay(self, log_decay: Any, angle: Array | None) -> Array | None:
        """Returns the factors by which a step multiplies the rows of the matrix, or None if it does not."""
        if angle is None:
            return None if log_decay is None else jnp.exp(log_decay)
        turn = to_complex(jnp.cos(angle), jnp.sin(angle))
        return turn if log_decay is None else to_complex(jnp.exp(log_decay)) * turn


class LinearMatrixCell(MatrixCell, LinearCell):
    """A `MatrixCell` without a delta rule, a stabilizer or a shift. Its step is linear in the state."""

    def _problems(self, update: MatrixUpdate) -> Iterator[str]:
        if update.read is not None:
            yield "must not return read in a LinearMatrixCell: derive the cell from MatrixCell"
        yield from super()._problems(update)

    def coefficients(self, params: Params, z: Any) -> tuple[State, State]:
        update = self.factors(params, z)
        keys, values = self._axes
        k = update.k
        decay = self._decay(update.log_decay, update.angle)
        decay = jnp.ones_like(k[..., :1]) if decay is None else decay
        decay = jnp.broadcast_to(decay, (*k.shape[:-1], decay.shape[-1]))
        v = to_complex(update.v) if jnp.iscomplexobj(k) else update.v
        a, b = [keys(decay)], [keys(k) * values(v)]
        if self.has_normalizer:
            a, b = [*a, decay], [*b, k]
        return self.state_type(*a), self.state_type(*b)


def _as_column(x: Array) -> Array:
    return x[..., :, None]


def _as_row(x: Array) -> Array:
    return x[..., None, :]
