"""The next frames of a video, by an encoder and a forecaster of convolutional LSTMs.

Without --data, the videos are made while the network trains: two of scikit-learn's digits move at constant velocity and
bounce off the edges, in the manner of Moving MNIST. The videos for training, validation and testing have
different images. To predict them, a network must infer velocities from several frames, and know the edges and the
digits that are hidden behind others.

--data FILE: videos in a .npy file, uint8 from 0 to 255 or floats from 0 to 1, or in a .npz file with one such array.
The axes are [time, number, height, width], as in mnist_test_seq.npy of Moving MNIST, (20, 10000, 64, 64). A .npy file
may be larger than memory. The last tenth of the videos is for testing.

The encoder reads frames, each cut into patches that become channels. The forecaster starts from the encoder's states
and has no input; a dense layer at each position turns its outputs into the patches of the next frames. The loss is the
binary cross-entropy of a frame's pixels, in nats per frame.

Two baselines do not learn motion. One repeats the last frame; the other moves each connected part of it at constant
velocity, with or without bouncing off the edges. They cannot know that two digits overlap, nor what is hidden behind a
digit. For each frame ahead, an isotonic regression on training videos turns their pixels into the
probabilities with the lowest loss.

N. Srivastava, E. Mansimov, R. Salakhutdinov, "Unsupervised learning of video representations using LSTMs", 2015 (Moving
MNIST); X. Shi et al., "Convolutional LSTM network: a machine learning approach for precipitation nowcasting", 2015.
"""

from __future__ import annotations

if __name__ == "__main__":
    from support.early import check_command_line

    check_command_line(__file__)  # before the imports below, which take seconds

import dataclasses
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from data.extrapolation import LEAST, Baselines, lowest_nats, nats, squared_error
from data.moving_digits import EXTENT, Images, moving_digits
from data.videos import Videos, as_floats
from jax import Array
from support.cells import cell_class, count_parameters, make_cell
from support.clock import duration, process_start
from support.command_line import launch
from support.devices import make_mesh
from support.errors import BadInputError
from support.feeding import Block, Feed
from support.options import RunFolder, RunOptions, above, at_least
from support.plots import GRAY, figure
from support.progress import print_table
from support.run import Run
from support.schedule import warmup_cosine
from support.training import Steps, many_steps, step_keys, training

import jaxrnn

NUMBERS = 500, 200, 1000  # videos, at most: to calibrate the baselines, to validate, to test
TOGETHER = 50  # videos
SHOWN, DRAWN = 2, 50  # test videos in the picture; frames read, and frames predicted, at most


@dataclass(frozen=True)
class Options(RunOptions):
    steps: int | None = 1200  # Number of training steps, instead of --minutes
    data: Path | None = None  # A .npy or .npz file of videos [time, number, height, width]. None: moving digits
    digits: int = 2  # Number of digits in a video
    size: int = 24  # Height and width of the frames in which digits move
    read: int = 10  # Number of frames to read
    predict: int = 10  # Number of frames to predict
    patch: int = 4  # Height and width of the patches that become channels; it must divide those of a frame
    cell: str = "ConvLSTM"  # Name of a convolutional cell in jaxrnn
    hidden_size: int = 64  # Number of channels of each layer
    kernel: int = 3  # Height and width of the kernels, in patches
    layers: int = 1  # Number of layers of the encoder and of the forecaster
    batch: int = 16  # Number of videos in a batch
    learning_rate: float = 6e-3  # Peak learning rate
    generators: ClassVar[tuple[str, ...]] = ("digits", "size")

    def check(self) -> None:
        super().check()
        at_least(1, digits=self.digits, predict=self.predict, patch=self.patch, hidden_size=self.hidden_size)
        at_least(1, kernel=self.kernel, layers=self.layers, batch=self.batch)
        at_least(3, read=self.read)  # constant motion reads three
        above(EXTENT, size=self.size)
        above(0, learning_rate=self.learning_rate)
        kind: Any = cell_class(self.cell)
        if "kernel_shape" not in {field.name for field in dataclasses.fields(kind)}:
            raise BadInputError(f"--cell must be convolutional, such as ConvLSTM or ConvGRU, but it is {self.cell}")
        if self.data is None and self.size % self.patch:
            raise BadInputError(f"--patch must divide --size, which is {self.size}, but it is {self.patch}")

    @property
    def length(self) -> int:
        """Number of frames of a video, read and predicted."""
        return self.read + self.predict


# --- Model ---


@dataclass(frozen=True)
class Forecaster:
    """An encoder that reads frames, and a forecaster that continues from the encoder's states without inputs.

    Args:
      layers: The convolutional layers of the encoder; those of the forecaster are the same, with other parameters.
      head: The layer that turns the outputs of all layers into patches.
      patch: Height and width of the patches.
    """

    layers: tuple[jaxrnn.Cell, ...]
    head: jaxrnn.Dense
    patch: int

    def init(self, key: Array, shape: tuple[int, ...]) -> tuple[Any, ...]:
        """Draws parameters for frames cut into patches, of the shape (rows, columns)."""
        k_encoder, k_forecaster, k_head = jax.random.split(key, 3)
        channels = [cell.hidden_size for cell in self.layers]  # type: ignore
        encoder = jaxrnn.Stack(*self.layers).init(k_encoder, (*shape, self.patch**2))
        forecaster = jaxrnn.Stack(*self.layers).init(k_forecaster, (*shape, 1))
        head = self.head.init(k_head, sum(channels))
        # Most pixels are dark. Without this bias the network would first learn that, and saturate.
        return encoder, forecaster, head._replace(b=head.b - 3.0)

    def __call__(self, params: tuple[Any, ...], frames: Array, steps: int) -> Array:
        """Reads frames [time, batch, height, width] and returns the logits of the next ones."""
        encoder, forecaster, head = params
        states, _ = jaxrnn.unroll(jaxrnn.Stack(*self.layers), encoder, to_patches(frames, self.patch))
        xs = jnp.zeros((steps, *states[0].h.shape[:-1], 1))
        outputs = []
        for cell, p, state in zip(self.layers, forecaster, states, strict=True):
            _, xs = jaxrnn.unroll(cell, p, xs, state)
            outputs.append(xs)
        return to_frames(self.head(head, jnp.concatenate(outputs, axis=-1)), self.patch)


def to_patches(frames: Array, patch: int) -> Array:
    """Cuts frames [..., height, width] into patches [..., rows, columns, patch ** 2]."""
    *leading, height, width = frames.shape
    cut = frames.reshape(*leading, height // patch, patch, width // patch, patch)
    return cut.swapaxes(-3, -2).reshape(*leading, height // patch, width // patch, patch**2)


def to_frames(patches: Array, patch: int) -> Array:
    """Joins patches [..., rows, columns, patch ** 2] to frames [..., height, width]."""
    *leading, rows, columns, _ = patches.shape
    cut = patches.reshape(*leading, rows, columns, patch, patch)
    return cut.swapaxes(-3, -2).reshape(*leading, rows * patch, columns * patch)


def make_model(options: Options, shape: tuple[int, ...]) -> Forecaster:
    cell = make_cell(options.cell, options.hidden_size, shape=shape, kernel_shape=options.kernel)
    return Forecaster((cell,) * options.layers, jaxrnn.Dense(options.patch**2), options.patch)


# --- Training ---


class Train(NamedTuple):
    """Everything that training changes."""

    step: Array
    params: Any
    adam: Any


optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())


def begin(options: Options, shape: tuple[int, ...]) -> Train:
    params = make_model(options, shape).init(jax.random.key(options.seed), shape)
    return Train(jnp.int32(0), params, optimizer.init(params))


def update(
    options: Options, model: Forecaster, train: Train, data: Array | Block, key: Array, progress: Array
) -> tuple[Train, Array]:
    """Runs one training step, on new videos of the images in `data`, or on those of a file."""
    if isinstance(data, Block):
        frames = as_floats(data.at(train.step))
    else:
        frames = moving_digits(key, data, options.batch, options.digits, options.length, options.size)

    def loss_fn(params: Any) -> Array:
        logits = model(params, frames[: options.read], options.predict)
        losses = optax.sigmoid_binary_cross_entropy(logits, frames[options.read :])
        return losses.sum((-2, -1)).mean()

    loss, gradient = jax.value_and_grad(loss_fn)(train.params)
    direction, adam = optimizer.update(gradient, train.adam)
    learning_rate = options.learning_rate * warmup_cosine(train.step, progress)
    params = optax.apply_updates(train.params, optax.tree.scale(-learning_rate, direction))
    return Train(train.step + 1, params, adam), loss


def make_steps(options: Options, model: Forecaster) -> Steps:
    return many_steps(partial(update, options, model), step_keys(options.seed))


@partial(jax.jit, static_argnames=("model", "steps"))
def probabilities(model: Forecaster, params: Any, read: Array, steps: int) -> Array:
    # In float32, the sigmoid of a large logit is 1, and the loss of a gray pixel would be infinite.
    return jnp.clip(jax.nn.sigmoid(model(params, read, steps)), LEAST, 1 - LEAST)


def forecast(model: Forecaster, params: Any, read: np.ndarray, steps: int) -> np.ndarray:
    """Returns the pixels of the next frames [steps, number, height, width], computed for a few videos at a time."""
    chunks = np.array_split(read, -(-read.shape[1] // TOGETHER), axis=1)
    return np.concatenate([np.asarray(probabilities(model, params, chunk, steps)) for chunk in chunks], axis=1)


# --- Data and results ---


class Parts(NamedTuple):
    """Videos [time, number, height, width] of each split; those for training calibrate the baselines."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


def digit_videos(options: Options, images: Images) -> Parts:
    """Makes videos of moving digits, the same for all seeds."""
    draw = partial(moving_digits, digits=options.digits, frames=options.length, size=options.size)
    keys = jax.random.split(jax.random.key(0), len(NUMBERS))
    made = (draw(key, jnp.asarray(split), number) for key, split, number in zip(keys, images, NUMBERS, strict=True))
    return Parts(*map(np.asarray, made))


def file_videos(options: Options, videos: Videos) -> Parts:
    """Reads the first frames of some videos of a file."""
    splits = videos.train, videos.valid, videos.test
    return Parts(*(as_floats(split[: options.length, :number]) for split, number in zip(splits, NUMBERS, strict=True)))


def make_feed(options: Options, videos: Videos) -> Feed:
    """Returns what supplies training with videos of a file, read while the network trains."""

    def cut(step: int, steps: int, streams: range) -> np.ndarray:
        drawn = [videos.draw(options.seed, options.length, options.batch, step + n) for n in range(steps)]
        return np.stack(drawn)[:, :, streams.start : streams.stop]

    return Feed(cut, make_mesh("one", options.batch), options.batch)


def plot_strips(path: Path, read: np.ndarray, true: np.ndarray, predicted: dict[str, np.ndarray]) -> None:
    """Draws the frames of some videos [time, number, height, width]: a row for those read, below it what follows."""
    read, true = read[-DRAWN:], true[:DRAWN]
    rows = {"read": read, "true": true} | {name: frames[:DRAWN] for name, frames in predicted.items()}
    height, width = (extent + 1 for extent in true.shape[2:])  # with a line between frames
    columns, number = max(len(read), len(true)), min(SHOWN, true.shape[1])
    middles = width * np.arange(columns) + (width - 1) / 2
    size = 0.6 * columns + 3, (0.6 * len(rows) + 1) * number
    with figure(path, rows=number, figsize=size, grid=False) as (_, grid):
        for video, axes in enumerate(grid[:, 0]):
            picture = np.ones((len(rows) * height - 1, columns * width - 1))
            for row, (name, frames) in enumerate(rows.items()):
                first = columns - len(read) if name == "read" else 0
                for column, frame in enumerate(frames[:, video], first):
                    y, x = row * height, column * width
                    picture[y : y + height - 1, x : x + width - 1] = frame
            axes.imshow(picture, cmap="gray", vmin=0, vmax=1)
            axes.set_yticks(
                height * np.arange(len(rows)) + (height - 1) / 2, [name.replace(", ", ",\n") for name in rows]
            )
            axes.set_xticks(middles[: len(true)], [f"+{n + 1}" for n in range(len(true))])
            axes.set_xlabel("frame, counted from the last one read")
            top = axes.secondary_xaxis("top")
            top.set_xticks(middles[columns - len(read) :], [str(n) for n in range(1 - len(read), 1)])
            for axis in (axes, top):
                axis.tick_params(length=0)
                axis.spines[:].set_visible(False)


def summary(errors: np.ndarray) -> str:
    """Formats the mean of the errors of all frames ahead, and those of the first and the last one."""
    return f"{errors.mean():.2f} ({errors[0]:.2f}, {errors[-1]:.2f})"


def plot_errors(path: Path, errors: dict[str, tuple[np.ndarray, np.ndarray]], lowest: np.ndarray, title: str) -> None:
    """Draws both errors of each method against the number of frames ahead."""
    ahead = np.arange(1, 1 + len(lowest))
    with figure(path, columns=2, figsize=(11, 4.2)) as (drawn, grid):
        for axes, which, ylabel in zip(grid[0], (0, 1), ("nats per frame", "squared error per frame"), strict=True):
            for name, both in errors.items():
                axes.plot(ahead, both[which], marker="o", label=name)
            axes.set(xlabel="frames ahead", ylabel=ylabel, xticks=ahead[:: 1 + len(ahead) // 12])
        grid[0, 0].plot(ahead, lowest, color=GRAY, linestyle="--", label="prediction without error")
        drawn.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
        drawn.suptitle(title)


def main(options: Options, folder: RunFolder) -> None:
    if options.data is None:
        images = Images.load()
        parts, data = digit_videos(options, images), jnp.asarray(images.train)
        name, digest = f"{options.digits} moving digits", "scikit-learn's digits"
        described = f"{name}: {options.length} frames of {options.size}x{options.size}; {images}"
    else:
        videos = Videos.of(options.data, options.length, options.patch)
        parts, data = file_videos(options, videos), make_feed(options, videos)
        name, digest, described = videos.name, videos.digest, str(videos)
    shape = tuple(extent // options.patch for extent in parts.test.shape[2:])
    model = make_model(options, shape)
    train = jax.jit(partial(begin, options, shape))()
    like = jax.eval_shape(lambda: (train, 0.0))
    run = Run(folder, options, facts={"data": digest})
    print(f"data    {described}")
    size = count_parameters(train.params)
    print(f"model   encoder and forecaster of {options.layers} x {model.layers[0]}, {size:,} parameters")
    print(f"run     {run.path}", flush=True)

    baselines = Baselines(parts.train, options.read)
    read, true = np.split(parts.valid, [options.read])
    loss, strongest = min((float(nats(found, true).mean()), method) for method, found in baselines(read).items())
    line = {strongest: loss}  # in the plot of the curves
    for stage in training(run, train, make_steps(options, model), data, options.limit):
        predicted = forecast(model, stage.train.params, read, options.predict)
        loss, square = float(nats(predicted, true).mean()), float(squared_error(predicted, true).mean())
        stage.record(loss, valid_loss=loss, valid_square=square)
        run.plot(line, "nats per frame", f"{options.cell} on {name}")
        stage.say(f"validation {loss:z.2f} nats per frame, squared error {square:z.2f}")

    best, _ = run.checkpoints.best(like)
    read, true = np.split(parts.test, [options.read])
    frames = {options.cell: forecast(model, best.params, read, options.predict)} | baselines(read)
    errors = {method: (nats(found, true), squared_error(found, true)) for method, found in frames.items()}
    lowest = lowest_nats(true)
    number = true.shape[1]
    plot_strips(run.path / "frames.png", read, true, frames)
    plot_errors(run.path / "errors.png", errors, lowest, f"{name}: mean of {number:,} test videos")
    print(
        f"Mean of {options.predict} frames ahead in {number:,} test videos (in parentheses: the first, the last one):"
    )
    rows = {
        method: f"{summary(loss)} nats per frame, squared error {summary(square)}"
        for method, (loss, square) in errors.items()
    }
    rows["without error"] = f"{summary(lowest)} nats per frame, because pixels are gray"
    print_table(**rows)
    print_table(
        checkpoint=f"step {best.step:,}, the best in validation: {run.best['valid_loss']:.2f} nats per frame",
        time=duration(run.last["seconds"]),
        frames=str(run.path / "frames.png"),
        errors=str(run.path / "errors.png"),
        curves=run.curves,
    )


if __name__ == "__main__":
    launch(main, Options, RunFolder, started=process_start())
