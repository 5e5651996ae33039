"""Trains a language model for a few steps on several devices, in one of several processes.

Its argument is a JSON object, with a list of arguments of `train`. The last line of its output is the list of results.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))


def train(script: str, options: dict[str, Any], steps: int, model: str = "", loop: str = "") -> dict[str, Any]:
    """Trains on the current devices.

    Args:
      script: char_lm or word_lm.
      options: Options of the script.
      steps: Number of training steps.
      model: An expression for the layers of the model before the last one, of names in jaxrnn. Empty: those of the
        script.
      loop: Such an expression for the loop. Empty: the default.

    Returns:
      The loss of each step, a validation loss after the last one, the bytes of the largest part of each training state
      on a device, and for each collective operation of the program, the bytes of its operands.
    """
    import char_lm
    import word_lm
    from data.text import Text
    from data.words import Corpus
    from models import language_model
    from models.language_model import validation_loss
    from support import feeding
    from support.collectives import collectives
    from support.devices import gathered, make_mesh
    from support.ensemble import Ensemble

    import jaxrnn

    module: Any = {"char_lm": char_lm, "word_lm": word_lm}[script]
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
    chosen = module.Options(**options | {"data": Path(options["data"])})
    data: Any = Text.of(chosen.data) if script == "char_lm" else Corpus.of(chosen.data, chosen.vocabulary)
    size = len(data.alphabet if script == "char_lm" else data.vocabulary)
    mesh = make_mesh(chosen.devices, chosen.batch)
    names = dict(vars(jaxrnn))
    network = jaxrnn.Stack(*eval(model, names), jaxrnn.Dense(size)) if model else module.make_model(chosen, size)
    if loop:
        with_loop = partial(language_model.loss_of_window, loop=eval(loop, names))
        char_lm.loss_of_window = word_lm.loss_of_window = with_loop
    state = module.begin_on(mesh, chosen, network, size)
    streams = module.streams_of(chosen, data)
    feeding.BYTES = 2**14  # little beside the parameters
    feed = feeding.Feed(streams.cut, mesh, chosen.batch)
    rest = () if script == "char_lm" else (streams.windows, data.valid)
    many = module.make_steps(chosen, network, mesh, *rest)
    compiled = many.lower(state, feed(0, 1), 1, (0.0, 0.01)).compile()
    held = bytes_of_device((state.params, getattr(state, "adam", None) or state.optimizer))
    losses = []
    for step in range(steps):
        state, loss = compiled(state, feed(step, 1), 1, (0.0, 0.01))
        feed.prepare(step + 1, 1)
        losses.append(float(loss))
    params = gathered(state.params, mesh)
    if script == "char_lm":
        valid_of = partial(validation_loss, network, symbols=data.symbols[:], num_train=data.num_train, mesh=mesh)
        valid = np.mean(Ensemble(len(chosen.members)).map(lambda params: valid_of(params=params))(params))
    else:
        valid = word_lm.evaluate(network, word_lm.untie(params), data.valid, mesh)
    return {
        "losses": losses,
        "valid": float(valid),
        "devices": mesh.size,
        "bytes": held,
        "parameters": sum(leaf.nbytes for leaf in jax.tree.leaves(state.params)),
        "temporary": compiled.memory_analysis().temp_size_in_bytes,
        "arguments": compiled.memory_analysis().argument_size_in_bytes,
        "collectives": collectives(compiled.as_text()),
    }


def bytes_of_device(tree: Any) -> int:
    """Returns the bytes of a pytree on the first device."""
    return sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(tree))


if __name__ == "__main__":
    how = json.loads(sys.argv[1])
    jax.config.update("jax_num_cpu_devices", how.pop("cores"))
    processes, process, port = how.pop("processes", 1), how.pop("process", 0), how.pop("port", 0)
    if processes > 1:
        jax.distributed.initialize(f"localhost:{port}", processes, process)
    jax.devices()
    print(json.dumps([train(**call) for call in how["calls"]]))
