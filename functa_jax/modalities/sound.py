"""Vowels by many speakers, computed: one-dimensional functions of time.

The wheels among the requirements hold no speech (scipy's .wav files are tests, a tenth of a second
long at most), so that it is synthesised as by Klatt (1980): pulses of the glottis through
resonances of the vocal tract. Formants are the means of men and women in Peterson and Barney
(1952), Table II; speakers lie between and somewhat beyond them. A window begins with a pulse, as in
pitch-synchronous analysis, so that vowels of one pitch are alike from its first sample on. Values
are float32 in [0, 1], 0.5 is silence.

Coordinates, (N, 1), are samples from the middle of the window, times pi / 60: a SIREN of w0 30,
whose first layer draws weights in [-1, 1] for one input, starts with frequencies up to a quarter of
the sampling rate, 2 kHz. (Sitzmann et al. 2020 scale time up for the same reason.)
"""

import numpy as np
from scipy.signal import lfilter

from functa_jax.modalities import sets
from groundfloor.errors import UserError

RATE = 8000  # samples a second
STEP = np.pi / 2 / 30  # of a coordinate between two samples
VOWELS = {  # formants in Hz: of men, of women
    "heed": ((270, 2290, 3010), (310, 2790, 3310)),
    "hid": ((390, 1990, 2550), (430, 2480, 3070)),
    "head": ((530, 1840, 2480), (610, 2330, 2990)),
    "had": ((660, 1720, 2410), (860, 2050, 2850)),
    "hod": ((730, 1090, 2440), (850, 1220, 2810)),
    "hawed": ((570, 840, 2410), (590, 920, 2710)),
    "hood": ((440, 1020, 2240), (470, 1160, 2680)),
    "who'd": ((300, 870, 2240), (370, 950, 2670)),
    "hud": ((640, 1190, 2390), (760, 1400, 2780)),
    "heard": ((490, 1350, 1690), (500, 1640, 1960)),
}
BEFORE = 400  # samples until the filters have forgotten that there was nothing before
BANDWIDTHS = (60, 90, 150)  # of the formants, Hz
PITCHES = (110, 220)  # of a man's and a woman's voice, Hz


def load(data_dir=None, images=None, speakers=200, samples=256, seed=0):
    """A FunctionSet of ten vowels, classes VOWELS, by each of `speakers`.

    images: at most this many of each split. samples: in a window, 8,000 a second. Speakers of
    train, 70 % of them, val, 10 %, and test are different ones. data_dir is not needed.
    """
    if speakers < 10 or samples < 16:
        raise UserError(
            f"sound: {speakers} speakers, {samples} samples; at least 10 and 16 are needed"
        )
    values, labels, parts = [], [], []
    for speaker, part in enumerate(sets.stratified(np.zeros(speakers, int))):
        random = np.random.default_rng((seed, speaker))
        voice = random.uniform(-0.2, 1.2)  # 0: the average man, 1: woman
        for label, formants in enumerate(VOWELS.values()):
            values.append(vowel(formants, voice, samples, random))
            labels.append(label)
            parts.append(part)
    values = (0.5 + 0.5 * np.stack(values)[..., None]).astype(np.float32)
    return sets.gathered(
        "sound",
        "sound",
        values,
        times(samples),
        np.array(labels),
        np.array(parts),
        (samples,),
        images,
    )


def times(samples):
    """Coordinates, float32 (samples, 1), of a window."""
    from_middle = np.arange(samples) - (samples - 1) / 2
    return (STEP * from_middle[:, None]).astype(np.float32)


def vowel(formants, voice, samples, random):
    """A vowel (samples,) in [-1, 1]: its loudest sample is 0.3 to 0.9 from 0.

    formants: of a man and a woman, Hz; voice: 0 for the one, 1 for the other.
    """
    low, high = np.log(np.array(formants, float))
    frequencies = np.exp(low + voice * (high - low) + 0.04 * random.standard_normal(3))
    pitch = PITCHES[0] * (PITCHES[1] / PITCHES[0]) ** voice * random.uniform(0.9, 1.1)
    wave = glottis(pitch, samples, random)
    for frequency, bandwidth in zip(frequencies, BANDWIDTHS, strict=True):
        feedback = resonance(frequency, bandwidth * random.uniform(0.8, 1.2))
        wave = lfilter([feedback.sum()], feedback, wave)
    wave = np.diff(wave, prepend=0)[BEFORE:]  # what lips radiate is the flow's derivative
    course = np.linspace(-1, 1, samples)
    wave *= 1 - random.uniform(0, 0.5) * (course - random.uniform(-1, 1)) ** 2 / 4  # loudness
    return wave / np.abs(wave).max() * random.uniform(0.3, 0.9)


def glottis(pitch, samples, random):
    """The flow (BEFORE + samples,) of pulses at `pitch` Hz, whose periods and heights vary by 1 and
    5 %; one begins at sample BEFORE.

    A pulse is open for 0.6 of its period: flow 6.75 t^2 (1 - t), as in Klatt and Klatt (1990).
    """
    total = BEFORE + samples
    count = int(2 * total * pitch / RATE) + 3
    periods = RATE / pitch * (1 + 0.01 * random.standard_normal(count))
    starts = np.cumsum(periods)
    starts += BEFORE - starts[np.searchsorted(starts, BEFORE)]
    heights = 1 + 0.05 * random.standard_normal(count)
    now = np.arange(total)
    pulse = np.maximum(np.searchsorted(starts, now, side="right") - 1, 0)
    phase = np.clip((now - starts[pulse]) / (0.6 * periods[pulse]), 0, 1)
    return heights[pulse] * 6.75 * phase**2 * (1 - phase)


def resonance(frequency, bandwidth):
    """Feedback (3,) of a two-pole resonator, both in Hz; its gain at 0 Hz is 1 / sum."""
    radius = np.exp(-np.pi * bandwidth / RATE)
    return np.array([1, -2 * radius * np.cos(2 * np.pi * frequency / RATE), radius**2])
