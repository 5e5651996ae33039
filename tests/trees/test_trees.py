"""Recursive networks over trees, against recursion in NumPy from the papers' equations."""

import pickle
import random
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxrnn import trees
from jaxrnn.trees import RNTN, ChildSumTreeLSTM, NaryTreeLSTM, Node, RecursiveNet
from tests.support.messages import raises, untested

pytestmark = pytest.mark.usefixtures("x64", "quick")
N, INPUT = 5, 4
CELLS = [ChildSumTreeLSTM(N), NaryTreeLSTM(N), NaryTreeLSTM(N, arity=3), RecursiveNet(N), RNTN(N)]


unroll = jax.jit(trees.unroll, static_argnums=0)


# ---- trees -----------------------------------------------------------------------------------------------------------


def grow(inner: int, rng: random.Random, most: int, features: bool = True) -> Node:
    """A random tree of so many inner nodes, labeled by distinct numbers."""

    def value():
        drawn = [rng.gauss(0, 1) for _ in range(INPUT)] if features else rng.randrange(INPUT)
        return drawn if rng.random() < 0.8 else None

    def build(inner: int) -> Node:
        label = rng.randrange(10**9)
        if inner == 0:
            return Node(value(), label=label)
        number = rng.randint(1, most)
        cuts = sorted(rng.randrange(inner) for _ in range(number - 1))
        sizes = [b - a for a, b in zip([0, *cuts], [*cuts, inner - 1], strict=True)]
        return Node(value(), tuple(build(max(0, size)) for size in sizes), label)

    return build(inner)


def chain(length: int, features: bool = True) -> Node:
    x = np.linspace(-1, 1, INPUT) if features else 1
    tree = Node(x, label=1)
    for n in range(length):
        tree = Node(x, (tree,), label=n + 2)
    return tree


def forest(most: int = 2, features: bool = True) -> list[Node]:
    """A single node, a chain, a full tree, a tree with an empty place, and random ones."""
    x = [0.5, -1.0, 0.3, 0.8] if features else 2
    full = Node(x, label=77)
    for n in range(3):
        full = Node(None, (full,) * most, label=78 + n)
    lopsided = Node(x, (None, Node(x, (Node(x, label=3), None), label=4))[:most], label=5)
    rng = random.Random(most)
    drawn = [grow(inner, rng, most, features) for inner in (1, 2, 3, 5, 8, 13)]
    return [Node(x, label=6), chain(6, features), full, lopsided, *drawn]


def nodes_of(tree: Node) -> list[Node]:
    return [tree, *(node for child in tree.children if child is not None for node in nodes_of(child))]


def params_of(cell, key=0):
    params = cell.init(jax.random.key(key), INPUT)
    noise = iter(jax.random.split(jax.random.key(key + 1), 10))
    return jax.tree.map(lambda leaf: leaf + 0.3 * jax.random.normal(next(noise), leaf.shape), params)


# ---- the equations ---------------------------------------------------------------------------------------------------


def sigma(x):
    return 1 / (1 + np.exp(-x))


def one_hot_or_features(x):
    if x is None:
        return np.zeros(INPUT)
    return np.eye(INPUT)[x] if np.ndim(x) == 0 else np.asarray(x)


def child_sum(cell, p, x, children):
    w = dict(zip("iouf", np.split(np.asarray(p.w_x).T, 4), strict=True))
    u = dict(zip("iouf", np.split(np.asarray(p.w_h).T, 4), strict=True))
    b = dict(zip("iouf", np.split(np.asarray(p.b), 4), strict=True))
    children = [child for child in children if child is not None]
    h_sum = sum((h for h, _ in children), np.zeros(N))
    i, o = (sigma(w[g] @ x + u[g] @ h_sum + b[g]) for g in "io")
    new = np.tanh(w["u"] @ x + u["u"] @ h_sum + b["u"])
    c = i * new
    for h_k, c_k in children:
        f = sigma(w["f"] @ x + u["f"] @ h_k + b["f"])
        c = c + f * c_k
    return o * np.tanh(c), c


def nary(cell, p, x, children):
    arity = cell.arity
    w = dict(zip("iouf", np.split(np.asarray(p.w_x).T, 4), strict=True))
    b = dict(zip("iouf", np.split(np.asarray(p.b), 4), strict=True))
    u = np.asarray(p.w_h).reshape(arity, N, 3 + arity, N)  # child, its feature, gate, feature
    children = [child or (np.zeros(N), np.zeros(N)) for child in [*children, *[None] * (arity - len(children))]]

    def gate(name, block):
        return w[name] @ x + sum(u[k, :, block, :].T @ children[k][0] for k in range(arity)) + b[name]

    c = sigma(gate("i", 0)) * np.tanh(gate("u", 2))
    for k in range(arity):
        c = c + sigma(gate("f", 3 + k)) * children[k][1]
    return sigma(gate("o", 1)) * np.tanh(c), c


def recursive(cell, p, x, children):
    reads = np.asarray(p.w_x).T @ x
    if not children:
        return (reads,)
    left, right = [*(child or (np.zeros(N),) for child in children), (np.zeros(N),)][:2]
    pair = np.concatenate([left[0], right[0]])
    total = np.asarray(p.w_h).T @ pair + np.asarray(p.b) + reads
    if isinstance(cell, RNTN):
        total = total + np.array([pair @ np.asarray(p.v)[:, :, k] @ pair for k in range(N)])
    return (np.tanh(total),)


EQUATIONS = {ChildSumTreeLSTM: child_sum, NaryTreeLSTM: nary, RecursiveNet: recursive, RNTN: recursive}


def recur(cell, params, tree, found):
    """States of all nodes, by (the node's label): labels are distinct but for copies of one subtree."""
    children = [None if child is None else recur(cell, params, child, found) for child in tree.children]
    found[tree.label] = EQUATIONS[type(cell)](cell, params, one_hot_or_features(tree.x), children)
    return found[tree.label]


# ---- tests -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("features", [True, False], ids=["features", "symbols"])
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_states_are_those_of_the_recursion(cell, features):
    grown = forest(3 if cell.arity in (None, 3) else 2, features)
    params = params_of(cell)
    for width in (1, 3):
        batch = trees.pack(grown, width=width)
        states = unroll(cell, params, batch)
        roots = trees.at_roots(batch, states)
        for b, tree in enumerate(grown):
            found: dict = {}
            expected = recur(cell, params, tree, found)
            for ours, theirs in zip(roots, expected, strict=True):
                np.testing.assert_allclose(ours[b], theirs, rtol=1e-12, atol=1e-14)
            slots = np.flatnonzero(batch.valid[:, b])
            assert sorted(batch.labels[slots, b]) == sorted(node.label for node in nodes_of(tree))
            for slot in slots:
                for ours, theirs in zip(states, found[batch.labels[slot, b]], strict=True):
                    np.testing.assert_allclose(ours[slot, b], theirs, rtol=1e-12, atol=1e-14)
        for ours in states:
            assert not np.asarray(ours)[~batch.valid].any()


def test_a_child_sum_has_no_order_and_n_ary_has():
    rng = random.Random(5)
    one, other = grow(4, rng, 2), grow(2, rng, 2)
    batch = trees.pack([Node(None, (one, other)), Node(None, (other, one))])
    for cell in CELLS:
        if cell.arity in (None, 2):
            first, second = trees.at_roots(batch, unroll(cell, params_of(cell), batch)).h
            assert np.allclose(first, second) == (cell.arity is None)


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_gradients(cell):
    batch = trees.pack(forest()[:6], arity=cell.arity or 2, width=2)

    def loss(params, xs):
        states = trees.unroll(cell, params, batch, xs)
        return sum((leaf * jnp.cos(jnp.arange(leaf.size).reshape(leaf.shape))).sum() for leaf in states)

    check_grads(jax.jit(loss), (params_of(cell), batch.xs), order=1, modes=["fwd", "rev"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_padding_reaches_neither_values_nor_gradients(cell):
    alone = trees.pack(grown := forest()[4:8], arity=cell.arity or 2)
    roomy = trees.pack(grown, arity=cell.arity or 2, leaves=40, rows=20)
    params = params_of(cell)

    def loss_and_roots(params, batch, xs):
        roots = trees.at_roots(batch, unroll(cell, params, batch, xs))
        return sum(jnp.sin(leaf).sum() for leaf in roots), roots

    value = jax.jit(jax.value_and_grad(loss_and_roots, (0, 2), has_aux=True))
    (_, roots), (grads, of_xs) = value(params, alone, alone.xs)
    poisoned = np.where(roomy.reads[..., None], roomy.xs, np.nan)
    (_, roots_2), (grads_2, of_xs_2) = value(params, roomy, poisoned)
    for one, other in zip(jax.tree.leaves((roots, grads)), jax.tree.leaves((roots_2, grads_2)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)
    assert np.isfinite(of_xs_2).all()
    assert not np.asarray(of_xs_2)[~roomy.reads].any()
    np.testing.assert_allclose(np.asarray(of_xs)[alone.reads].sum(), np.asarray(of_xs_2)[roomy.reads].sum())


def test_symbols_are_their_one_hot_vectors_and_none_is_no_symbol():
    batch = trees.pack(forest(features=False))
    assert batch.xs.ndim == 2
    cell = NaryTreeLSTM(N)
    params = params_of(cell)
    ours = unroll(cell, params, batch)
    np.testing.assert_array_equal(ours.h, unroll(cell, params, batch, jax.nn.one_hot(batch.xs, INPUT)).h)
    poisoned = np.where(batch.reads, batch.xs, -7)
    np.testing.assert_array_equal(ours.h, unroll(cell, params, batch, poisoned).h)
    assert np.isnan(unroll(cell, params, batch, np.where(batch.reads, INPUT, 0)).h).any()


def test_batches_of_equal_shapes_compile_once():
    cell, count = RecursiveNet(N), 0

    @jax.jit
    def run(params, batch):
        nonlocal count
        count += 1
        return unroll(cell, params, batch).h

    rng = random.Random(0)
    for inner in (0, 1, 4, 9):
        run(params_of(cell), trees.pack([grow(inner, rng, 2)] * 3, arity=2, leaves=12, rows=9, width=2))
    assert count == 1


def test_taken_trees_are_those_trees_also_inside_jit():
    grown, which, cell = forest(), np.array([7, 0, 7, 3]), NaryTreeLSTM(N)
    params, batch = params_of(cell), trees.pack(grown)
    roots = jax.jit(lambda p, b, w: trees.at_roots(t := trees.take(b, w), unroll(cell, p, t)))
    expected = trees.at_roots(batch, unroll(cell, params, batch))
    for ours, theirs in zip(roots(params, jax.device_put(batch), which), expected, strict=True):
        np.testing.assert_allclose(ours, theirs[which], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("width", [1, 2, 4])
def test_rows_come_after_their_childrens_and_are_few(width):
    def full(depth):
        return Node(0, (full(depth - 1), full(depth - 1)) if depth else ())

    batch = trees.pack([full(5), chain(31, features=False)], width=width)
    rows, _, _, _ = batch.children.shape
    leaves, slots = len(batch.valid) - rows * width, len(batch.valid)
    for row in range(rows):
        children = batch.children[row][batch.children[row] < slots]
        assert (children < leaves + row * width).all()
    assert rows == 31  # the chain's
    alone = trees.pack([full(5)], width=width).children.shape[0]
    assert alone == {1: 31, 2: 16, 4: 9}[width]  # of 16, 8, 4, 2 and 1 nodes a level; the last of them wait


def test_trees_may_be_deeper_than_pythons_stack():
    batch = trees.pack([chain(5000)], width=1)
    assert batch.children.shape == (5000, 1, 1, 1)
    assert np.isfinite(unroll(ChildSumTreeLSTM(N), params_of(ChildSumTreeLSTM(N)), batch).h).all()


def test_labels_may_be_vectors_and_inputs_may_be_missing_everywhere():
    batch = trees.pack([Node(None, (Node(label=(1, 2)), Node(label=(3, 4))), (5, 6))])
    assert batch.labels[batch.roots[0], 0].tolist() == [5, 6]
    assert not batch.reads.any()
    cell = RNTN(N)
    np.testing.assert_allclose(
        trees.at_roots(batch, unroll(cell, params := params_of(cell), batch)).h[0], np.tanh(params.b)
    )


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_cells_are_values(cell):
    assert pickle.loads(pickle.dumps(cell)) == cell
    assert len({cell, pickle.loads(pickle.dumps(cell))}) == 1
    params = cell.init(jax.random.key(0), INPUT)
    batch = trees.pack(forest(), arity=cell.arity or 2)
    grads = jax.jit(jax.grad(lambda p: trees.unroll(cell, p, batch)[0].sum()))(params)
    for grad in jax.tree.leaves(grads):
        assert np.isfinite(grad).all()
        assert np.abs(grad).sum() > 0


def test_initial_forget_biases():
    for cell in (ChildSumTreeLSTM(N, forget_bias=2.0), NaryTreeLSTM(N, forget_bias=2.0)):
        np.testing.assert_array_equal(cell.init(jax.random.key(0), INPUT).b, np.repeat([0.0, 0, 0, 2], N))


def run_on(cell, xs=None, tree=None):
    batch = trees.pack([tree or Node([0.0] * INPUT)], arity=2)
    return trees.unroll(cell, params_of(RecursiveNet(N)), batch, xs)


ERRORS = {
    "no trees": (ValueError, "forest must have at least one tree, but it is empty$", lambda: trees.pack([])),
    "a tree": (TypeError, r"forest must be a list of trees, .*: did you mean \[tree\]\?$", lambda: trees.pack(Node(1))),
    "a node": (TypeError, "every tree must be a Node, .* but one is 3$", lambda: trees.pack([3])),
    "inputs of several shapes": (
        ValueError,
        "the inputs of all nodes must have the same shape, but they do not$",
        lambda: trees.pack([Node(children=(Node(np.zeros(2)), Node(np.zeros(3))))]),
    ),
    "not a batch": (
        TypeError,
        "trees must be a batch of trees from jaxrnn.trees.pack, but it is 3$",
        lambda: trees.at_roots(3, np.zeros(1)),
    ),
    "width": (ValueError, "width must be a positive integer, but it is 0$", lambda: trees.pack([Node(1)], width=0)),
    "cell": (
        TypeError,
        r"cell must be a cell over trees, such as NaryTreeLSTM\(64\), .* did you mean RNTN\(\.\.\.\)\?",
        lambda: run_on(RNTN),
    ),
    "arity": (
        ValueError,
        "trees must have an arity of 3 for .* is 2: call pack with arity=3",
        lambda: run_on(NaryTreeLSTM(N, arity=3)),
    ),
    "text": (
        TypeError,
        "^xs must be an array of numbers, but its dtype is <U1: cast it$",
        lambda: run_on(RecursiveNet(N), np.full((1, 1, 4), "a")),
    ),
    "booleans": (
        TypeError,
        "^xs must hold numbers or integer symbols, but its dtype is bool: cast it$",
        lambda: run_on(RecursiveNet(N), np.full((1, 1, 4), True)),
    ),
    "xs": (
        ValueError,
        r"xs must have the axes \[slots, batch\] = \(1, 1\), with .* but their shape is \(2, 1, 4\)",
        lambda: run_on(RecursiveNet(N), np.zeros((2, 1, 4))),
    ),
    "input size": (
        ValueError,
        "must have the input size of the parameters",
        lambda: run_on(RecursiveNet(N), np.zeros((1, 1, 3))),
    ),
    "size": (ValueError, "RNTN's hidden_size must be a positive integer, but it is 0", lambda: RNTN(0)),
}


@pytest.mark.parametrize("name", ERRORS)
def test_error(name):
    kind, message, call = ERRORS[name]
    with pytest.raises(kind, match=message):
        call()


def test_every_message_is_tested():
    found = list(raises(Path(trees.__file__).parent.glob("*.py")))
    assert len(found) >= 4
    missing = untested(found, (call for _, _, call in ERRORS.values()))
    assert not missing, "errors without a test:\n" + "\n".join(missing)
