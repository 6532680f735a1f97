"""Pictures and sounds in files, as they are stored: pictures cut and resized once, sounds as log-mel frames.

S samples, T frames, M mel bands. The mel scale is Slaney's, as in librosa and Whisper: linear below 1 kHz, logarithmic
above; a band is a triangle of area 1 over Hz.
"""

import io
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, UnidentifiedImageError

from mmcontrast.config import Dataset
from mmcontrast.errors import ConfigError, DataError, first_line

FORMATS = ("JPEG", "PNG")
MODES = {1: "L", 3: "RGB"}
QUALITY = 95
FLOOR = 1e-10
LINEAR_HZ, LOG_STEP = 200 / 3, np.log(6.4) / 27


def check_modalities(name: str, dataset: Dataset) -> None:
    """Raise ConfigError unless the dataset has `image` and `text`, both multifold."""
    found = {m: (s.kind, s.multifold) for m, s in dataset.modalities.items()}
    if found != {"image": ("image", True), "text": ("text", True)} or dataset.modalities["image"].shape[0] != 3:
        raise ConfigError(
            f"params/datasets/{name}.yaml: modalities: give `image` of kind image with 3 channels and `text` of kind "
            "text, both with `multifold: true`"
        )


def resized(path: Path | IO[bytes], shape: Sequence[int]) -> Image.Image:
    """A picture's largest centred part with the proportions of `shape` ([C, H, W]), resized; grey with one channel.

    Raises DataError: it is missing, or no picture.
    """
    channels, height, width = shape
    try:
        with Image.open(path) as image:
            whole = image.convert(MODES[channels])
    except FileNotFoundError:
        raise DataError(f"{path}: no such picture") from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as e:
        what = path if isinstance(path, Path) else "its bytes"
        raise DataError(f"{what}: not a picture that can be read ({e})") from None
    scale = min(whole.width / width, whole.height / height)
    cut = (round(width * scale), round(height * scale))
    left, top = (whole.width - cut[0]) // 2, (whole.height - cut[1]) // 2
    return whole.resize((width, height), Image.Resampling.BICUBIC, (left, top, left + cut[0], top + cut[1]))


def pixels(image: Image.Image) -> np.ndarray:
    """(C, H, W) uint8."""
    values = np.asarray(image)
    return np.ascontiguousarray(values[None] if values.ndim == 2 else values.transpose(2, 0, 1))


def jpeg(image: Image.Image) -> bytes:
    """The bytes of a JPEG file."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def decode(data: bytes, shape: Sequence[int]) -> np.ndarray:
    """(C, H, W) uint8 of a picture's bytes, made grey or colour; ValueError: no whole JPEG or PNG of that size."""
    channels, height, width = shape
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            # before the pixels are: a few bytes can say that there are any number of them
            if image.size != (width, height):
                raise ValueError(f"{image.height} x {image.width} pixels in place of {height} x {width}")
            return pixels(image.convert(MODES[channels]))
    except Exception as e:  # a broken file raises errors of a dozen kinds
        raise ValueError(first_line(e)) from None


def read_wav(path: Path) -> tuple[np.ndarray, int]:
    """(S,) float64 in [-1, 1], mean of the channels, and the rate. DataError: no WAV of 8, 16, 24, 32 bit integers."""
    try:
        with wave.open(str(path), "rb") as file:
            width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
            raw = np.frombuffer(file.readframes(file.getnframes()), np.uint8)
    except FileNotFoundError:
        raise DataError(f"{path}: no such sound") from None
    except (wave.Error, EOFError, RuntimeError, MemoryError) as e:
        raise DataError(f"{path}: not a WAV file of whole numbers ({str(e) or 'it is cut short'})") from None
    bytes_Sb = raw[: len(raw) - len(raw) % (width * channels)].reshape(-1, width).astype(np.int64)
    values = (bytes_Sb << (8 * np.arange(width))).sum(axis=1)
    half = 1 << (8 * width - 1)
    # one byte counts from 0, more have a sign
    values = values - half if width == 1 else np.where(values >= half, values - 2 * half, values)
    return values.reshape(-1, channels).mean(axis=1) / half, rate


def log_mel(samples_S: np.ndarray, rate: int, bands: int, window: float = 0.025, step: float = 0.010) -> np.ndarray:
    """(T, M) natural logarithms of the power in mel bands, of frames that lie within the sound whole; T may be 0.

    `rate`: samples in a second. `bands`: M. `window`, `step`: seconds of a frame, and from one to the next.
    """
    length, hop = round(window * rate), round(step * rate)
    if len(samples_S) < length:
        return np.zeros((0, bands))
    frames_TL = np.lib.stride_tricks.sliding_window_view(samples_S, length)[::hop]
    hann_L = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    power_TF = np.abs(np.fft.rfft(frames_TL * hann_L, axis=1)) ** 2
    return np.log(np.maximum(power_TF @ mel_bands(rate, length, bands).T, FLOOR))


def mel_bands(rate: int, length: int, bands: int) -> np.ndarray:
    """(M, length // 2 + 1) weights of the frequencies of a frame of `length` samples."""
    edges = _hertz(np.linspace(0, _mel(np.array(rate / 2)), bands + 2))
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    hertz_F = np.fft.rfftfreq(length, 1 / rate)
    rising, falling = (hertz_F - low) / (centre - low), (high - hertz_F) / (high - centre)
    return np.maximum(0, np.minimum(rising, falling)) * 2 / (high - low)


def _mel(hertz: np.ndarray) -> np.ndarray:
    return np.where(hertz < 1000, hertz / LINEAR_HZ, 15 + np.log(np.maximum(hertz, 1000) / 1000) / LOG_STEP)


def _hertz(mel: np.ndarray) -> np.ndarray:
    return np.where(mel < 15, mel * LINEAR_HZ, 1000 * np.exp((np.maximum(mel, 15) - 15) * LOG_STEP))
