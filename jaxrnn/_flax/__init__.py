"""Shared by `jaxrnn.linen` and `jaxrnn.nnx`.

- `calls`: the options of a call, and `unroll` with Flax's conventions.
- `arguments`: checks of the modules' arguments, and the choice between a jaxrnn layer and a Flax cell.
- `layers`: casts to a dtype, and tests of what a layer's initial state and outputs depend on.
- `cells`: Flax cells in jaxrnn's loops; `linen_cells` and `nnx_cells` adapt the cells of each flavor.
- `directions`: two RNNs over the same sequences, one in each direction, with resets or a mask.
"""
