"""Log-mel frames are those of transformers, and WAV files those of scipy."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from mmcontrast.data.pictures import FLOOR, log_mel, mel_bands, read_wav
from mmcontrast.errors import DataError

audio_utils = pytest.importorskip("transformers.audio_utils")


@pytest.mark.parametrize(("rate", "bands"), [(16000, 40), (8000, 24), (44100, 64)])
def test_frames_are_those_of_a_well_known_library(rate: int, bands: int) -> None:
    samples = np.random.default_rng(0).normal(size=rate // 2)
    length, hop = round(0.025 * rate), round(0.010 * rate)
    reference = audio_utils.mel_filter_bank(
        length // 2 + 1, bands, 0, rate / 2, rate, norm="slaney", mel_scale="slaney"
    )
    np.testing.assert_allclose(mel_bands(rate, length, bands).T, reference, atol=1e-12)
    expected = audio_utils.spectrogram(
        samples,
        np.hanning(length + 1)[:-1],
        length,
        hop,
        fft_length=length,
        power=2,
        center=False,
        mel_filters=reference,
        log_mel="log",
        mel_floor=FLOOR,
        dtype=np.float64,
    ).T
    got = log_mel(samples, rate, bands)
    assert got.shape == (1 + (len(samples) - length) // hop, bands)
    np.testing.assert_allclose(got, expected, atol=1e-5)  # the library transforms in single precision


def test_silence_is_finite_and_a_short_sound_has_no_frame() -> None:
    assert (log_mel(np.zeros(500), 16000, 8) == np.log(FLOOR)).all()
    assert log_mel(np.zeros(399), 16000, 8).shape == (0, 8)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32])
@pytest.mark.parametrize("channels", [1, 2])
def test_samples_are_those_of_a_well_known_library(tmp_path: Path, kind: type, channels: int) -> None:
    limits = np.iinfo(kind)
    given = np.random.default_rng(0).integers(limits.min, limits.max, (50, channels), dtype=kind, endpoint=True)
    wavfile.write(tmp_path / "a.wav", 8000, given)
    samples, rate = read_wav(tmp_path / "a.wav")
    middle = 128 if kind is np.uint8 else 0
    np.testing.assert_allclose(samples, ((given.astype(np.float64) - middle) / (limits.max - middle + 1)).mean(axis=1))
    assert rate == 8000


def test_three_bytes_have_a_sign(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 3, 8000, 0, "NONE", "NONE"))
        file.writeframes(b"".join(int(v).to_bytes(3, "little", signed=True) for v in (-(2**23), -1, 0, 2**22)))
    assert read_wav(tmp_path / "a.wav")[0].tolist() == [-1, -(2.0**-23), 0, 0.5]


def test_what_is_no_sound(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.wav: no such sound"):
        read_wav(tmp_path / "a.wav")
    wavfile.write(tmp_path / "a.wav", 8000, np.zeros(9, np.float32))
    with pytest.raises(DataError, match=r"a\.wav: not a WAV file of whole numbers \(unknown format"):
        read_wav(tmp_path / "a.wav")
    (tmp_path / "a.wav").write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.wav: not a WAV file of whole numbers \(it is cut short\)"):
        read_wav(tmp_path / "a.wav")
