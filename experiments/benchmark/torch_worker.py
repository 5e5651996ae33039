"""PyTorch's part of the benchmark. It runs in a process of its own, with its own threads and settings.

It reads pickled requests from stdin and writes answers to stdout. `serve` lists the requests: to set up a task, to
return its results, and to time it.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import rnn


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def make_rnn(name: str, layers: list[dict[str, Any]], device: str, bidirectional: bool = False) -> nn.RNNBase:
    """Makes a module with our weights, given for each layer, and for the two directions of each bidirectional layer."""
    kinds = {"LSTM": nn.LSTM, "GRU": nn.GRU, "Elman": nn.RNN, "ReluElman": nn.RNN}
    options: dict[str, Any] = {"nonlinearity": "relu"} if name == "ReluElman" else {}
    size, hidden = len(layers[0]["w_x"]), len(layers[0]["w_h"])
    directions = 2 if bidirectional else 1
    module = kinds[name](size, hidden, len(layers) // directions, bidirectional=bidirectional, **options)
    for n, p in enumerate(layers):
        b_h = torch.zeros(len(p["b"]))
        if name == "GRU":
            b_h[-hidden:] = torch.tensor(p["b_n"])
        where = f"l{n // directions}" + ("_reverse" if n % directions else "")
        for weight, value in {"weight_ih": p["w_x"].T, "weight_hh": p["w_h"].T, "bias_ih": p["b"]}.items():
            getattr(module, f"{weight}_{where}").data.copy_(torch.tensor(value))
        getattr(module, f"bias_hh_{where}").data.copy_(b_h)
    return module.to(device)


def make_layers(case: dict[str, Any], mode: str, device: str) -> Callable[[], list[Any]]:
    """Returns a function that computes the outputs, or the gradient with respect to inputs and parameters."""
    dtype = getattr(torch, case["dtype"])
    module = make_rnn(case["name"], case["params"], device, case["bidirectional"]).to(dtype)
    xs, weights = (torch.tensor(case[name], device=device).to(dtype) for name in ("xs", "weights"))
    lengths = None if case["lengths"] is None else torch.tensor(case["lengths"]).long()
    xs.requires_grad_(mode == "gradient")

    def run() -> Any:
        if lengths is None:
            return module(xs)[0]
        ys, _ = module(rnn.pack_padded_sequence(xs, lengths, enforce_sorted=False))
        return rnn.pad_packed_sequence(ys, total_length=len(xs))[0]

    def forward() -> list[Any]:
        with torch.inference_mode():
            return [run()]

    def gradient() -> list[Any]:
        return list(torch.autograd.grad((run() * weights).sum(), [xs, *module.parameters()]))

    return forward if mode == "forward" else gradient


def make_mlstm(case: dict[str, Any], mode: str, device: str, heads: int, own_backward: bool) -> Callable[[], list[Any]]:
    """Like `make_layers`, for an mLSTM of mlstm-kernels, in chunks of 64 steps as by default.

    Its own backward pass treats the denominator of the outputs as a constant.
    """
    from mlstm_kernels.torch.chunkwise.native import mlstm_chunkwise__native_autograd, mlstm_chunkwise__native_custbw

    kernel: Any = mlstm_chunkwise__native_custbw if own_backward else mlstm_chunkwise__native_autograd
    dtype = getattr(torch, case["dtype"])
    (given,) = case["params"]
    xs, weights, *parameters = (
        torch.tensor(array, device=device).to(dtype) for array in (case["xs"], case["weights"], *given.values())
    )
    leaves = [xs, *parameters]
    for leaf in leaves:
        leaf.requires_grad_(mode == "gradient")
    w_x, b, w_gates, b_gates = parameters
    size = w_x.shape[1] // 4 // heads
    scale = torch.tensor([1, size**0.5, 1, 1], device=device).repeat_interleave(heads * size).to(dtype)

    def run() -> Any:
        x = xs.transpose(0, 1)
        # The kernel divides by the root of the size, and jaxrnn's keys are divided before their bias is added.
        q, k, v, o = torch.addmm(scale * b, x.flatten(0, 1), w_x).unflatten(0, x.shape[:2]).chunk(4, -1)
        q, k, v = (part.unflatten(-1, (heads, size)).transpose(1, 2) for part in (q, k, v))
        i, f = (x @ w_gates + b_gates).transpose(1, 2).chunk(2, 1)
        chunk_size = x.shape[1] if x.shape[1] % 64 else 64  # the length must be a multiple of it
        h = kernel(q, k, v, i, f, chunk_size=chunk_size)
        return (torch.sigmoid(o) * h.transpose(1, 2).flatten(2)).transpose(0, 1)

    def forward() -> list[Any]:
        with torch.inference_mode():
            return [run()]

    def gradient() -> list[Any]:
        return list(torch.autograd.grad((run() * weights).sum(), leaves))

    return forward if mode == "forward" else gradient


def make_model(case: dict[str, Any], device: str, clip: float, rate: float, compiled: bool) -> Callable[[], list[Any]]:
    """Returns a function that makes one training step per call and returns its loss."""
    module = make_rnn(case["name"], case["params"], device)
    head = nn.Linear(*case["weights"].shape).to(device)
    head.weight.data.copy_(torch.tensor(case["weights"].T))
    head.bias.data.zero_()
    symbols = torch.tensor(case["xs"], device=device).long()
    xs, targets = symbols[:-1], symbols[1:]
    parameters = [*module.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, rate, fused=True)

    def loss() -> Any:
        ys, _ = module(functional.one_hot(xs, head.out_features).float())
        return functional.cross_entropy(head(ys).flatten(0, 1), targets.flatten())

    if compiled:
        loss = torch.compile(loss)
        loss().backward()

    def update() -> list[Any]:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        nn.utils.clip_grad_norm_(parameters, clip)
        optimizer.step()
        return [value]

    return update


def make_words(
    case: dict[str, Any], device: str, dropout: float, clip: float, rate: float, steps: int
) -> Callable[[], list[Any]]:
    """Returns a function that makes `steps` plain gradient steps of a word model and returns their mean loss."""
    module = make_rnn(case["name"], case["params"], device)
    module.dropout = dropout  # between its layers
    # jaxrnn has one bias. Training both of PyTorch's would move their sum twice as far.
    for name, parameter in module.named_parameters():
        parameter.requires_grad_("bias_hh" not in name)
    embedding = nn.Embedding(*case["embedding"].shape)
    embedding.weight.data.copy_(torch.tensor(case["embedding"]))
    head = nn.Linear(*case["dense"]["w"].shape)
    head.weight.data.copy_(torch.tensor(case["dense"]["w"].T))
    head.bias.data.copy_(torch.tensor(case["dense"]["b"]))
    embedding, head, drop = embedding.to(device), head.to(device), nn.Dropout(dropout)
    windows = torch.tensor(case["windows"], device=device).long()
    parameters = [*embedding.parameters(), *module.parameters(), *head.parameters()]
    parameters = [parameter for parameter in parameters if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, rate, fused=True)
    state, place = None, 0

    def update() -> Any:
        nonlocal state, place
        window = windows[place % len(windows)]
        optimizer.zero_grad()
        ys, state = module(drop(embedding(window[:-1])), state)
        state = tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()
        value = functional.cross_entropy(head(drop(ys)).flatten(0, 1), window[1:].flatten())
        value.backward()
        nn.utils.clip_grad_norm_(parameters, clip)
        optimizer.step()
        place += 1
        return value.detach()

    return lambda: [torch.stack([update() for _ in range(steps)]).mean()]


def make_product(a: Any, dtype: str, device: str) -> Callable[[], list[Any]]:
    b = torch.tensor(a, device=device).to(getattr(torch, dtype))
    return lambda: [b @ b]


def serve(requests: Any, answers: Any) -> None:
    """Answers `("make", tf32, device, maker, arguments)`, `("results",)` and `("milliseconds",)`."""
    makers: dict[str, Any] = {
        "layers": make_layers,
        "mlstm": make_mlstm,
        "model": make_model,
        "words": make_words,
        "product": make_product,
    }
    call, device = list, "cpu"
    while True:
        try:
            what, *arguments = pickle.load(requests)
        except EOFError:
            return
        try:
            answer: Any = None
            if what == "make":
                tf32, device, maker, options = arguments
                torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
                call = makers[maker](device=device, **options)
            elif what == "results":
                answer = [array.detach().float().cpu().numpy() for array in call()]
            else:
                started = time.perf_counter()
                call()
                wait(device)
                answer = 1e3 * (time.perf_counter() - started)
        except Exception as error:  # such as no compiler, no CUDA: the benchmark reports it
            answer = RuntimeError(str(error).strip().splitlines()[0] if str(error).strip() else repr(error))
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)  # prints must not mix with the answers
        serve(sys.stdin.buffer, answers)
