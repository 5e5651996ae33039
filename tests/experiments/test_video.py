"""Next frames: that the networks learn, what the videos and the baselines are, how bad files are reported."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import video
from data import extrapolation, moving_digits
from data.videos import Videos, as_floats
from matplotlib.image import imread
from scipy import ndimage
from support.options import RunFolder

import jaxrnn
from tests.support.scripts import call_script, error_line, read_metrics, stop_after

pytestmark = pytest.mark.usefixtures("quick")
SMALL = ("--size", "16", "--read", "4", "--predict", "3", "--hidden-size", "4", "--batch", "2")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(video, "NUMBERS", (20, 5, 6))
    return tmp_path


def call(monkeypatch, *options: str) -> int:
    """Runs the script in this process and returns its exit code."""
    return call_script(monkeypatch, "video.py", options, video.main, video.Options, RunFolder)


def nats_of(out: str, name: str) -> float:
    return float(re.search(rf"^  {name} +(\d+\.\d\d) \(", out, re.MULTILINE)[1])


def squares(time: int, number: int, size: int = 12) -> np.ndarray:
    """Returns videos of a white square [time, number, size, size] that moves one pixel per frame, round and round."""
    frames = np.zeros((time, number, size, size), np.uint8)
    for t in range(time):
        for n in range(number):
            frames[t, n, np.arange(n, n + 3) % size, (np.arange(t, t + 3) % size)[:, None]] = 255
    return frames


def test_it_runs(here, monkeypatch, capsys):
    assert call(monkeypatch, *SMALL, "--steps", "3", "--run-dir", "run") == 0
    out = capsys.readouterr().out
    names = ("ConvLSTM", "constant motion", "constant motion, edges known", "last frame", "without error")
    losses = [nats_of(out, name) for name in names]
    assert min(losses) == losses[-1] > 0
    assert all(Path("run", name).read_bytes().startswith(b"\x89PNG") for name in ("frames.png", "errors.png"))
    assert Path("run/curves.png").exists()


@pytest.mark.slow
def test_it_learns_and_resumes(here, monkeypatch, capsys):
    monkeypatch.setattr(video, "NUMBERS", (200, 40, 60))
    options = ("--size", "12", "--digits", "1", "--read", "5", "--predict", "5", "--hidden-size", "32")
    options += ("--steps", "240", "--learning-rate", "0.01")
    assert call(monkeypatch, *options, "--run-dir", "whole") == 0
    out = capsys.readouterr().out
    names = ("constant motion", "constant motion, edges known", "last frame")
    assert nats_of(out, "ConvLSTM") < 0.95 * min(nats_of(out, name) for name in names)

    # Stopped half-way and resumed, it ends in the same parameters.
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 120)
        assert call(monkeypatch, *options, "--run-dir", "halves") == 130
    assert call(monkeypatch, "--run-dir", "halves", "--resume") == 0
    assert [row["valid_loss"] for row in read_metrics("halves")] == [row["valid_loss"] for row in read_metrics("whole")]
    assert (
        capsys.readouterr().out.split("test videos")[1].split("time")[0].replace("halves", "whole")
        == (out.split("test videos")[1].split("time")[0])
    )


@pytest.mark.slow
def test_videos_of_a_file(here, monkeypatch, capsys):
    np.save("squares.npy", squares(12, 30))
    options = ("--data", "squares.npy", "--read", "4", "--predict", "4", "--layers", "2", "--cell", "convgru")
    options += ("--patch", "3", "--hidden-size", "16", "--batch", "8", "--steps", "100", "--learning-rate", "0.02")
    assert call(monkeypatch, *options, "--run-dir", "whole") == 0
    out = capsys.readouterr().out
    assert nats_of(out, "ConvGRU") < 0.5 * nats_of(out, "last frame")
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 50)
        assert call(monkeypatch, *options, "--run-dir", "halves") == 130
    assert call(monkeypatch, "--run-dir", "halves", "--resume") == 0
    assert [row["valid_loss"] for row in read_metrics("halves")] == [row["valid_loss"] for row in read_metrics("whole")]
    capsys.readouterr()
    np.save("squares.npy", squares(12, 31))
    assert call(monkeypatch, "--run-dir", "halves", "--resume") == 2
    assert "has another configuration: data is" in error_line(capsys)


# --- Model ---


def test_patches_hold_the_pixels_of_a_square():
    frames = jnp.arange(2 * 6 * 9).reshape(2, 6, 9)
    patches = video.to_patches(frames, 3)
    assert patches.shape == (2, 2, 3, 9)
    np.testing.assert_array_equal(patches[1, 0, 2], frames[1, :3, 6:].ravel())
    np.testing.assert_array_equal(video.to_frames(patches, 3), frames)


def test_the_forecaster_continues_from_the_encoder():
    options = video.Options(hidden_size=3, layers=2, patch=2)
    model = video.make_model(options, (2, 3))
    params = model.init(jax.random.key(0), (2, 3))
    read = jax.random.uniform(jax.random.key(1), (4, 5, 4, 6))

    encoder, forecaster, head = params
    stack = jaxrnn.Stack(*model.layers)
    state = stack.initial_state(encoder, (5,))
    for frame in video.to_patches(read, 2):
        state, _ = jaxrnn.step(stack, encoder, state, frame)
    expected = []
    for _ in range(3):
        state, _ = jaxrnn.step(stack, forecaster, state, jnp.zeros((5, 2, 3, 1)))
        hidden = np.concatenate([layer.h for layer in state], axis=-1)
        expected.append(video.to_frames(hidden @ head.w + head.b, 2))
    np.testing.assert_allclose(jax.jit(model, static_argnums=2)(params, read, 3), expected, rtol=1e-4, atol=1e-5)


def test_forecasts_do_not_depend_on_the_chunks(monkeypatch):
    options = video.Options(hidden_size=3, patch=2)
    model = video.make_model(options, (2, 2))
    params = model.init(jax.random.key(0), (2, 2))
    read = np.random.default_rng(0).random((3, 5, 4, 4), np.float32)
    whole = video.forecast(model, params, read, 2)
    assert whole.shape == (2, 5, 4, 4)
    monkeypatch.setattr(video, "TOGETHER", 2)
    np.testing.assert_allclose(video.forecast(model, params, read, 2), whole, rtol=1e-5)


@pytest.mark.parametrize("logit", [-200.0, 30.0])
def test_wrong_certainty_has_a_finite_loss(logit):
    options = video.Options(hidden_size=3, patch=2)
    model = video.make_model(options, (2, 2))
    *layers, head = model.init(jax.random.key(0), (2, 2))
    certain = *layers, head._replace(w=0 * head.w, b=0 * head.b + logit)
    frames = video.forecast(model, certain, np.zeros((3, 1, 4, 4), np.float32), 2)
    for true in (0.5, float(logit < 0)):
        loss = extrapolation.nats(frames, np.full(frames.shape, true))
        np.testing.assert_allclose(loss, 16 * (1 if true in (0, 1) else 0.5) * -np.log(1e-6), rtol=0.01)


# --- Moving digits ---


def test_no_image_is_in_two_splits():
    images = moving_digits.Images.load()
    assert [len(split) for split in images] == [1200, 297, 300]
    together = np.concatenate(images)
    assert together.min() == 0
    assert together.max() == 1
    assert len(np.unique(together.reshape(len(together), -1), axis=0)) == len(together)


def test_positions_bounce_like_a_ball():
    rng = np.random.default_rng(0)
    for _ in range(20):
        start, velocity, room = rng.uniform(0, 5), rng.uniform(-2, 2), 5.0
        found = moving_digits.bounced(jnp.float32(start + velocity * np.arange(40)), room)
        position, expected = start, []
        for _ in range(40):
            expected.append(position)
            position += velocity
            if position < 0 or position > room:
                position = -position if position < 0 else 2 * room - position
                velocity = -velocity
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_digit_is_interpolated_linearly():
    images = moving_digits.Images.load().train[:2]
    positions = np.array([[3.0, 4.0], [2.25, 5.5], [7.9, 0.3]], np.float32)
    frames = moving_digits.render(images[:1, None], positions[:, None, None], 16)
    padded = np.pad(images[0], ((0, 8), (0, 8)))
    for frame, position in zip(frames[:, 0], positions, strict=True):
        np.testing.assert_allclose(frame, ndimage.shift(padded, position, order=1, mode="grid-constant"), atol=1e-6)

    both = np.stack([positions, positions[::-1] + 0.1], axis=1)[:, None]
    alone = [moving_digits.render(images[None, n : n + 1], both[:, :, n : n + 1], 16) for n in range(2)]
    np.testing.assert_allclose(moving_digits.render(images[None], both, 16), np.maximum(*alone))


def test_digits_move_at_constant_velocity_and_stay_in_the_frame():
    images = moving_digits.Images.load().train[:50]
    videos = np.asarray(moving_digits.moving_digits(jax.random.key(0), jnp.asarray(images), 40, 1, 12, 20), float)
    sums = images.sum((1, 2))
    speeds = []
    for n in range(40):
        mass = videos[:, n].sum((1, 2))
        np.testing.assert_allclose(mass, mass[0], rtol=1e-5)  # nothing leaves the frame
        assert np.abs(sums - mass[0]).min() < 1e-3  # and it is one of the images
        moves = np.diff([ndimage.center_of_mass(frame) for frame in videos[:, n]], axis=0)
        velocity = np.abs(moves).max(0)  # smaller where it bounces
        steady = np.isclose(np.abs(moves), velocity, atol=1e-4).mean(0)
        assert (steady > 0.6).all()
        speeds.append(np.hypot(*velocity))
    assert 0.999 < min(speeds) < 1.2
    assert 1.8 < max(speeds) < 2.001
    assert np.abs(videos[:, 0] - videos[:, 1]).max() > 0.5


# --- Baselines ---


def moved_squares(velocities: np.ndarray, starts: np.ndarray, times: np.ndarray, bounce: bool) -> np.ndarray:
    """Returns frames [time, 1, 32, 32] of gray squares at their positions at some times."""
    squares = np.random.default_rng(0).uniform(0.2, 1, (1, len(starts), 8, 8)).astype(np.float32)
    positions = starts + velocities * times[:, None, None, None]
    positions = moving_digits.bounced(positions, 24.0) if bounce else positions
    return np.asarray(moving_digits.render(squares, positions, 32))


@pytest.mark.parametrize("bounce", [False, True])
def test_constant_motion_is_exact_where_it_applies(bounce):
    """Squares that are between pixels only before and after the last frame, and that do not meet."""
    velocities = np.array([[1.25, -0.5], [-1.0, 1.75]], np.float32)
    starts = np.array([[14.0, 7.0], [4.0, 20.0]], np.float32)
    read = moved_squares(velocities, starts, np.arange(-3, 1), bounce)
    true = moved_squares(velocities, starts, np.arange(1, 9), bounce)
    assert ndimage.label(read[-1, 0])[1] == 2
    np.testing.assert_allclose(extrapolation.constant_motion(read, 8)[int(bounce)], true, atol=1e-5)
    if bounce:
        assert np.abs(extrapolation.constant_motion(read, 8)[0] - true).max() > 0.2
    assert np.abs(extrapolation.last_frame(read, 8) - true).max(axis=(1, 2, 3)).min() > 0.2


def test_constant_motion_of_frames_with_many_parts_or_none():
    frame = np.zeros((1, 12, 12), np.float32)
    assert not extrapolation.constant_motion(np.stack([frame] * 3), 2).any()
    frame[:, ::2, :10:2] = np.random.default_rng(0).uniform(0.5, 1, (6, 5))  # 30 parts that move together
    read = np.stack([np.roll(frame, n, axis=2) for n in range(3)])
    np.testing.assert_allclose(extrapolation.constant_motion(read, 1)[0, 0, 0, :, 3:], frame[0, :, :9], atol=1e-5)


def test_the_mismatch_is_that_of_parts_at_their_earlier_places():
    rng = np.random.default_rng(0)
    part, before = np.zeros((10, 11), np.float32), rng.random((2, 10, 11), np.float32)
    part[3:6, 6:10] = rng.uniform(0.1, 1, (3, 4))
    velocities = np.array([[-1.0, 0.0, 2.0], [-3.0, 0.0, 1.0]], np.float32)
    found = extrapolation.mismatch(part, before, velocities)
    for a, row in enumerate(velocities[0]):
        for b, column in enumerate(velocities[1]):
            expected = 0.0
            for lag, frame in enumerate(before, 1):
                for i, j in np.argwhere(part):
                    earlier = int(i - lag * row), int(j - lag * column)
                    inside = 0 <= earlier[0] < 10 and 0 <= earlier[1] < 11
                    expected += (part[i, j] - (frame[earlier] if inside else 0.0)) ** 2
            np.testing.assert_allclose(found[a, b], expected, rtol=1e-4)


def test_calibration_finds_what_pixels_mean():
    rng = np.random.default_rng(0)
    predicted = rng.integers(0, 3, (2, 30, 5, 4)) / 2
    chances = np.array([[0.1, 0.3, 0.8], [0.2, 0.25, 0.5]])  # of each frame ahead
    true = (
        rng.random(predicted.shape)
        < np.take_along_axis(chances, (2 * predicted.reshape(2, -1)).astype(int), 1).reshape(predicted.shape)
    ).astype(float)
    calibrated = extrapolation.Calibration(predicted, true)(predicted)
    for n in range(2):
        for value in (0, 0.5, 1):
            there = predicted[n] == value
            np.testing.assert_allclose(calibrated[n][there], true[n][there].mean(), rtol=1e-5)
    for error in (extrapolation.nats, extrapolation.squared_error):
        for other in (predicted.clip(1e-6, 1 - 1e-6), np.full_like(predicted, true.mean())):
            assert (error(calibrated, true) < error(other, true)).all()


def test_errors_are_sums_over_pixels_and_means_over_videos():
    rng = np.random.default_rng(0)
    logits, true = rng.normal(size=(3, 4, 5, 6)), rng.random((3, 4, 5, 6))
    true[:, :, 0] = rng.integers(0, 2, (3, 4, 6))
    p = 1 / (1 + np.exp(-logits))
    with jax.enable_x64(True):
        losses = optax.sigmoid_binary_cross_entropy(jnp.asarray(logits), jnp.asarray(true))
    np.testing.assert_allclose(extrapolation.nats(p, true), np.asarray(losses).sum((2, 3)).mean(1), rtol=1e-6)
    np.testing.assert_allclose(extrapolation.squared_error(p, true), np.mean(30 * np.mean((p - true) ** 2, (2, 3)), 1))
    np.testing.assert_allclose(extrapolation.lowest_nats(true), extrapolation.nats(true, true))
    assert (extrapolation.lowest_nats(true) < extrapolation.nats(true.clip(0.01, 0.98), true)).all()


# --- Files ---


def test_files_are_read_as_written(here):
    frames = np.random.default_rng(0).integers(0, 256, (7, 25, 4, 6), np.uint8)
    np.save("a.npy", np.asfortranarray(frames))
    np.savez_compressed("a.npz", frames)
    np.save("floats.npy", frames / 255)
    np.save("bools.npy", frames > 99)
    videos = [Videos.of(Path(name), 5, 2) for name in ("a.npy", "a.npz", "floats.npy", "bools.npy")]
    assert isinstance(videos[0].frames, np.memmap)
    assert videos[0].digest == videos[1].digest != videos[2].digest
    for found, expected in zip(videos, (frames / 255, frames / 255, frames / 255, frames > 99), strict=True):
        assert [found.train.shape[1], found.valid.shape[1], found.test.shape[1]] == [20, 2, 3]
        parts = np.concatenate([as_floats(part) for part in (found.train, found.valid, found.test)], axis=1)
        np.testing.assert_allclose(parts, expected, rtol=1e-6)
        batches = [found.draw(3, 5, 8, step) for step in (0, 1, 0)]
        np.testing.assert_array_equal(batches[0], batches[2])
        assert not np.array_equal(batches[0], batches[1])
        for n in range(8):  # each is a part of a training video
            cuts = [as_floats(found.train)[start : start + 5, v] for start in range(3) for v in range(20)]
            assert any(np.array_equal(as_floats(batches[0])[:, n], cut) for cut in cuts)


def test_swapped_axes_are_doubted(here):
    np.save("good.npy", squares(12, 30))
    np.save("swapped.npy", squares(12, 30).swapaxes(0, 1))
    assert "; 12 frames of 12x12; sha256" in str(Videos.of(Path("good.npy"), 5, 2))
    doubted = "; 30 frames of 12x12, if the axes are [time, number, height, width]; sha256"
    assert doubted in str(Videos.of(Path("swapped.npy"), 5, 2))


def test_only_some_frames_of_long_videos_are_drawn(here):
    frames = np.zeros((1000, 1, 4, 4), np.float32)
    video.plot_strips(here / "frames.png", frames, frames, {"method": frames})
    assert imread(here / "frames.png").shape[1] == (0.6 * video.DRAWN + 3) * 160


def test_each_step_of_training_has_its_videos(here):
    np.save("squares.npy", squares(12, 30))
    options = video.Options(seed=2, read=3, predict=4, batch=5)
    videos = Videos.of(Path("squares.npy"), options.length, options.patch)
    block = video.make_feed(options, videos)(3, 2)
    for step in (3, 4):
        np.testing.assert_array_equal(block.at(step), videos.draw(2, 7, 5, step))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--data", "missing.npy"], "cannot read .*missing.npy: No such file"),
        (["--data", "."], "cannot read .*: Is a directory"),
        (["--data", "empty.npy"], "empty.npy is not a .npy or .npz file of numbers, or it is damaged"),
        (["--data", "text.npy"], "text.npy is not a .npy or .npz file of numbers, or it is damaged"),
        (["--data", "objects.npy"], "objects.npy is not a .npy or .npz file of numbers, or it is damaged"),
        (["--data", "short.npy"], "short.npy is not a .npy or .npz file of numbers, or it is damaged"),
        (["--data", "short.npz"], "short.npz is not a .npy or .npz file of numbers, or it is damaged"),
        (["--data", "text.npz"], "text.npz is not a .npy or .npz file of numbers, or it is damaged"),
        (["--data", "two.npz"], r"two.npz must hold one array \[time, .*\], but it holds 2: a, b"),
        (
            ["--data", "flat.npy"],
            r"must have the axes \[time, number, height, width\], but its shape is \(20, 30, 144\)",
        ),
        (["--data", "complex.npy"], "must hold uint8, bool or floats, but it holds complex128"),
        (
            ["--data", "few.npy"],
            r"few.npy has 9 videos, but at least 10 are needed: .* shape \(20, 9, 12, 12\) are \[t",
        ),
        (["--data", "brief.npy"], "brief.npy has 19 frames per video, but --read and --predict need 20"),
        (
            ["--data", "good.npy", "--patch", "5"],
            r"--patch must divide height and width, but it is 5, and .*\(20, 10, 12",
        ),
        (["--data", "nan.npy"], "nan.npy must hold floats from 0 to 1, but frame 3 of video 7 has other values"),
        (["--data", "high.npy"], "high.npy must hold floats from 0 to 1, but frame 0 of video 0 has other values"),
        (["--data", "ones.npy"], "ones.npy is black: its highest pixel is 1, but white is 255"),
        (["--data", "narrow.npy"], "--patch must divide height and width"),
        (["--data", "good.npy", "--digits", "3"], "--digits has no effect with --data: give one of them"),
        (["--data", "good.npy", "--size", "64"], "--size has no effect with --data: give one of them"),
        (["--hidden-size", "99999999999"], "--hidden-size must be at most 2147483647, but it is 99999999999"),
        (["--size", "4000000000"], "--size must be at most 2147483647, but it is 4000000000"),
        (["--cell", "LSMT"], "no cell named 'LSMT'"),
        (["--cell", "lstm"], "--cell must be convolutional, such as ConvLSTM or ConvGRU, but it is LSTM"),
        (["--patch", "5"], "--patch must divide --size, which is 24, but it is 5"),
        (["--size", "8"], "--size must be above 8"),
        (["--read", "2"], "--read must be at least 3"),
        (["--digits", "0"], "--digits must be at least 1"),
        (["--predict", "0"], "--predict must be at least 1"),
        (["--kernel", "0"], "--kernel must be at least 1"),
        (["--learning-rate", "nan"], "--learning-rate must be above 0"),
        (["--resume"], "there is no run in runs/video"),
    ],
)
def test_bad_input_is_reported_in_one_line(here, monkeypatch, capsys, options, complaint):
    good = squares(20, 10)
    np.save("good.npy", good)
    for name in ("empty.npy", "text.npy", "short.npy", "short.npz"):
        Path(name).write_bytes(b"" if name == "empty.npy" else b"not an array\n" * 9)
    Path("short.npy").write_bytes(Path("good.npy").read_bytes()[:-1])
    np.savez_compressed("two.npz", a=good, b=good)
    Path("short.npz").write_bytes(Path("two.npz").read_bytes()[:-99])
    with zipfile.ZipFile("text.npz", "w") as archive:
        archive.writestr("read me.txt", "not an array")
    floats = good / 255
    floats[3, 7, 2, 2] = np.nan
    arrays = {
        "objects": np.array([{}, []], object),
        "flat": good.reshape(20, 10, 144).repeat(3, axis=1),
        "complex": good * 1j,
        "few": good[:, :9],
        "brief": good[:19],
        "nan": floats,
        "high": good.astype(np.float32),
        "ones": good // 255,
        "narrow": good[..., :0],
    }
    for name, array in arrays.items():
        np.save(f"{name}.npy", array, allow_pickle=True)
    assert call(monkeypatch, *options) == 2
    line = error_line(capsys)
    assert re.search(complaint, line), line
    assert not Path("runs").exists()
