"""The families of cells, and what each cell is good for in a few words.

`python -m jaxrnn` and the README of this folder list the cells in this order. Every cell is in exactly one family.
"""

from __future__ import annotations

from typing import NamedTuple


class Family(NamedTuple):
    title: str
    about: str
    purposes: dict[str, str]  # of each cell, in at most 48 characters


FAMILIES = (
    Family(
        "Vanilla networks",
        "No gates: a step is one product with the state and an activation, or little more.",
        {
            "Elman": "the vanilla RNN: cheap steps, short memory",
            "LayerNormElman": "a vanilla RNN with normalized sums",
            "ResidualElman": "a vanilla RNN that starts by keeping its state",
            "MIRNN": "a vanilla RNN whose input scales the past",
            "MiRU2": "a vanilla RNN that moves part of the way",
            "FastRNN": "small devices: residual, two extra weights",
            "Jordan": "feeds its output back instead of its state",
            "SCRN": "language models: slow context units, no gates",
            "ClockworkRNN": "groups of units with periods of their own",
            "EchoState": "a fixed random reservoir: train a readout only",
            "FastWeights": "remembers recent states in an inner matrix",
        },
    ),
    Family(
        "Long short-term memory",
        "A memory cell that gates write, erase and read.",
        {
            "LSTM": "the standard choice; as in PyTorch and Keras",
            "PeepholeLSTM": "precise timing: gates see their memory cell",
            "LayerNormLSTM": "normalized products and memory",
            "CoupledLSTM": "three quarters of the weights of an LSTM",
            "CappedLSTM": "a memory that stays between -1 and 1",
            "URLSTM": "memory over many time scales, no bias to choose",
            "RAN": "memory as a weighted sum of the inputs",
            "OriginalLSTM": "the LSTM of 1997, which cannot forget",
            "MemoryControllerLSTM": "separates the output from what drives the gates",
            "WMCLSTM": "gates read the whole memory",
            "ONLSTM": "hierarchies: units ordered by how long they last",
            "MILSTM": "an LSTM whose input scales the past",
            "MultiplicativeLSTM": "a transition of its own for each input",
            "MogrifierLSTM": "language models: input and state gate each other",
            "HyperLSTM": "weights that a smaller LSTM sets at each step",
            "SLSTM": "exponential gates: can revise what it stored",
            "NASCell": "language models: found by architecture search",
        },
    ),
    Family(
        "Smaller LSTMs",
        "Fewer weights for the same number of memory cells.",
        {
            "ProjectedLSTM": "many memory cells, few recurrent weights",
            "FactorizedLSTM": "a matrix of low rank for all gates",
            "GroupLSTM": "groups that share neither inputs nor states",
        },
    ),
    Family(
        "Gated recurrent units",
        "Gates that mix the state with a candidate; no separate memory cell.",
        {
            "GRU": "three quarters of an LSTM; as in PyTorch, Keras",
            "ResetBeforeGRU": "the GRU of the original paper",
            "LayerNormGRU": "a GRU with normalized products",
            "LiGRU": "speech: no reset gate, ReLU",
            "TauGRU": "delayed effects: also reads an older state",
            "MGU": "one gate in the two roles of a GRU's gates",
            "ResetAfterMGU": "the MGU of Flax",
            "MiRU1": "a reset gate and a constant update rate",
            "MUT1": "a GRU changed by search; input as wide as state",
            "MUT2": "a GRU changed by search; input as wide as state",
            "MUT3": "a GRU changed by search; any input size",
            "SGU": "a multiplicative gate instead of a reset",
            "DSGU": "an SGU with one more matrix, between 0 and 1",
        },
    ),
    Family(
        "One gate, or gates from shared products",
        "Between a vanilla network and a GRU in size and in cost.",
        {
            "UGRNN": "a vanilla RNN with one gate: a good small cell",
            "JANET": "an LSTM's forget gate alone, half its weights",
            "STAR": "deep stacks: gradients keep their magnitude",
            "LightRU": "only the gate reads the state",
            "MinimalRNN": "state and input in the same latent space",
            "SGRN": "a gate with no weights beyond a vanilla RNN's",
            "ATR": "two gates from the same two products",
            "FastGRNN": "small devices: a gate that shares all weights",
            "CFN": "no chaos: without input the state decays",
        },
    ),
    Family(
        "Deep within a step",
        "Several layers in one cell, in time or in depth, or shortcuts for deep stacks.",
        {
            "RecurrentHighwayNetwork": "several gated layers per step",
            "DTRNN": "several vanilla layers per step",
            "DTSRNN": "several vanilla layers and a shortcut",
            "DOTRNN": "several layers per step, one before the output",
            "HighwayLSTM": "deep stacks: a gated path past the memory",
            "ResidualLSTM": "deep stacks: a shortcut inside the output gate",
            "GridLSTM": "memory along time and along depth",
            "GatedFeedbackLSTM": "layers that read all layers' last states",
            "IntersectionRNN": "deep stacks: one gate for time, one for depth",
        },
    ),
    Family(
        "Long memory by construction",
        "The recurrence itself keeps states or gradients from vanishing or exploding.",
        {
            "LMU": "a window of the past as Legendre coefficients",
            "LEM": "two learned time scales for every unit",
            "CoRNN": "coupled oscillators with bounded gradients",
            "UnICORNN": "independent oscillators, no matrix in the loop",
            "AntisymmetricRNN": "a flow that neither explodes nor forgets",
            "GatedAntisymmetricRNN": "the same with a gate",
            "LipschitzRNN": "a flow of a linear and a bounded part",
            "ExpRNN": "an orthogonal matrix, by the exponential map",
            "ScoRNN": "an orthogonal matrix, by the Cayley transform",
            "URNN": "a unitary matrix with few parameters",
            "BRC": "bistable units that hold their own state",
            "NBRC": "bistable units that modulate each other",
            "IndRNN": "units that read only themselves; stack several",
        },
    ),
    Family(
        "Continuous time and uneven steps",
        "For measurements at irregular times, or with missing values.",
        {
            "GRUD": "missing values and uneven steps",
            "TimeAwareLSTM": "uneven steps: discounts short-term memory",
            "PhasedLSTM": "events at irregular times: units open in phases",
            "CfC": "uneven steps, in closed form",
            "LTC": "time constants that depend on the input",
        },
    ),
    Family(
        "No matrix in the loop",
        "Products read the input only, so that the loop is elementwise. Where the step is also linear in the state, "
        "all steps can be computed at once.",
        {
            "MinGRU": "the smallest that runs parallel over time",
            "MinLSTM": "a MinGRU with a forget and an input gate",
            "QRNN": "fast text models, after a `Window`",
            "SRU": "fast text models, with a highway",
            "TRNN": "a gated average of the inputs",
            "TGRU": "gates from the current and the previous input",
            "TLSTM": "the same with a memory behind an output gate",
            "HGRN": "a forget gate with a lower bound, complex state",
            "RTU": "pairs that rotate, decay and are activated",
            "ParaGRU": "a GRU with diagonal recurrent matrices",
            "ParaLSTM": "a coupled LSTM with diagonal recurrent matrices",
        },
    ),
    Family(
        "State space models and linear recurrences",
        "Linear in the state, with a structured or learned decay.",
        {
            "S5": "long sequences: a diagonal state space model",
            "S4D": "a diagonal state space model for each feature",
            "LRU": "long sequences: a complex diagonal, kept stable",
            "LinearRTU": "an LRU that outputs its state, activated",
            "LinOSS": "long sequences: stable linear oscillators",
            "RGLRU": "a gated decay for each feature, as in Griffin",
            "SelectiveSSM": "a decay that depends on the input, as in Mamba",
            "Mamba2": "one decay a head: a state space and attention",
            "DampedEMA": "several moving averages of each feature",
        },
    ),
    Family(
        "Attention as a recurrence",
        "Values under keys, read by queries, in a state of constant size. `RWKV` takes a weighted mean instead.",
        {
            "LinearAttention": "attention without a softmax; never forgets",
            "Retention": "linear attention with fixed decays",
            "GatedLinearAttention": "linear attention whose decay reads the input",
            "DeltaNet": "overwrites the value stored under a key",
            "GatedDeltaNet": "a DeltaNet that also decays",
            "KimiDeltaAttention": "a DeltaNet whose keys decay at their own rates",
            "RWKV7": "removes along one key and adds along another",
            "MLSTM": "xLSTM's matrix memory with exponential gates",
            "RWKV": "a weighted mean of past values, as in RWKV-4",
        },
    ),
    Family(
        "Images",
        "Products are convolutions: for videos and other sequences of images.",
        {
            "ConvLSTM": "videos; as in Keras and Flax",
            "PeepholeConvLSTM": "videos; with the peepholes of the paper",
            "ConvGRU": "videos, with fewer weights than a ConvLSTM",
        },
    ),
)

# Where to begin, and when.
START_HERE = {
    "LSTM": "You do not know yet. With `forget_bias=Chrono(n)` it remembers over about `n` steps.",
    "GRU": "You want fewer weights than an LSTM has and much the same results.",
    "LayerNormElman": "Steps must be cheap and memory may be short; plain `Elman` is the cheapest.",
    "UGRNN": "You want a small cell: one gate, half the weights of an LSTM.",
    "S5": "Sequences are long, and all steps should be computed at once.",
    "GRUD": "Values are missing, or the time between steps varies.",
    "ConvLSTM": "The sequence consists of images.",
}
