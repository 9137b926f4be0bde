"""Speech-like audio: syllables of an invented language, from a formant synthesiser.

A glottal pulse train and noise pass through a cascade of resonators (the formants), after D. H. Klatt,
"Software for a cascade/parallel formant synthesizer", 1980.
"""

import math
import random
from dataclasses import dataclass

RATE = 24_000
LOUD = -18.0  # dBov
BLOCK = RATE // 200  # Filter coefficients change every 5 ms.

# Formants of an adult man in Hz, how far the mouth opens, and how round the lips are.
VOWELS = {
    "a": ((730, 1090, 2440), 1.0, 0.0),
    "e": ((530, 1840, 2480), 0.65, 0.0),
    "i": ((290, 2250, 2950), 0.4, 0.0),
    "o": ((570, 840, 2410), 0.65, 0.8),
    "u": ((320, 870, 2240), 0.35, 1.0),
}
NASAL = (270, 1150, 2200)
# Where the formants of the neighbouring vowel come from.
LIPS, TONGUE, BACK = (300, 800, 2200), (320, 1750, 2650), (300, 1900, 2300)


@dataclass
class Voice:
    """One speaker."""

    seed: int
    pitch: float  # Hz
    tract: float  # Factor of the formants: above 1 is a shorter vocal tract.
    tempo: float = 1.0


@dataclass
class Point:
    """State of the synthesiser at one time; states between two points are interpolated."""

    time: float
    formants: tuple
    voicing: float = 0.0
    noise: float = 0.0
    pitch: float = 1.0
    mouth: float = 0.0
    round: float = 0.0


def syllable(rand, at, length, pitch, stress, points):
    """Appends a consonant and a vowel. Returns the time of its end."""
    formants, mouth, rounded = VOWELS[rand.choice("aaeeiou")]
    kind = rand.choice(("nasal", "nasal", "stop", "stop", "glide", "glide", "hiss", "none"))
    locus = rand.choice((LIPS, TONGUE, BACK))
    loud = 0.75 + 0.25 * stress
    state = {"pitch": pitch}
    if kind == "nasal":
        points.append(Point(at + 0.015, NASAL, 0.3, **state))
        at += 0.065
        points.append(Point(at, NASAL, 0.3, **state))
        locus = NASAL
    elif kind == "stop":
        points.append(Point(at + 0.01, locus, 0.02, **state))
        at += 0.05
        points.append(Point(at, locus, 0.02, 0.0, **state))
        points.append(Point(at + 0.004, locus, 0.15, 0.06, **state))
        at += 0.012
    elif kind == "glide":
        points.append(Point(at + 0.02, locus, 0.4, mouth=0.15, **state))
        at += 0.05
    elif kind == "hiss":
        sharp = (1800, 2900, 4300)
        points.append(Point(at + 0.02, sharp, 0.0, 0.01, mouth=0.15, **state))
        at += 0.07
        points.append(Point(at, sharp, 0.0, 0.01, mouth=0.15, **state))
        at += 0.012
        locus = TONGUE
    points.append(Point(at, locus, 0.35, mouth=mouth * 0.3, round=rounded, **state))
    full = {"mouth": mouth * loud, "round": rounded}
    points.append(Point(at + 0.04, formants, loud, pitch=pitch * (1 + 0.1 * stress), **full))
    at += length
    points.append(Point(at - 0.03, formants, loud * 0.85, pitch=pitch, **full))
    points.append(Point(at, formants, 0.3, pitch=pitch, mouth=mouth * 0.4, round=rounded))
    return at


def score(voice, seconds):
    """Phrases of four to nine syllables with pauses between them; silence at both ends."""
    rand = random.Random(voice.seed)
    neutral = (500, 1500, 2500)
    points = [Point(0.0, neutral), Point(0.3, neutral)]
    at = 0.3
    while True:
        count = min(rand.randint(5, 10), int((seconds - 0.4 - at) / (0.26 / voice.tempo)))
        if count < 3:
            break
        question = rand.random() < 0.25
        for number in range(count):
            along = number / count
            pitch = 1.12 - 0.26 * along
            if number == count - 1:
                pitch *= 1.25 if question else 0.88
            stress = 1.0 if number % 3 == 1 or rand.random() < 0.15 else 0.0
            length = (0.11 + 0.06 * stress + 0.04 * rand.random()) / voice.tempo
            if number == count - 1:
                length *= 1.5
            at = syllable(rand, at, length, pitch, stress, points)
        points.append(Point(at + 0.05, points[-1].formants, 0.0, pitch=points[-1].pitch))
        pause = rand.uniform(0.35, 0.6)
        points.append(Point(at + pause, neutral))
        at += pause
    points.append(Point(seconds + 1.0, neutral))
    return points


class Resonator:
    def __init__(self):
        self.one = self.two = 0.0
        self.tune(1000, 100)

    def tune(self, frequency, bandwidth):
        c = -math.exp(-2 * math.pi * bandwidth / RATE)
        b = 2 * math.exp(-math.pi * bandwidth / RATE) * math.cos(2 * math.pi * frequency / RATE)
        self.a, self.b, self.c = 1 - b - c, b, c

    def run(self, value):
        value = self.a * value + self.b * self.one + self.c * self.two
        self.two, self.one = self.one, value
        return value


class Track:
    """Interpolates between points; times must not decrease."""

    def __init__(self, points):
        self.points = points
        self.next = 1

    def at(self, time):
        while self.points[self.next].time <= time and self.next < len(self.points) - 1:
            self.next += 1
        before, after = self.points[self.next - 1], self.points[self.next]
        span = max(after.time - before.time, 1e-6)
        part = min(max((time - before.time) / span, 0.0), 1.0)
        part = part * part * (3 - 2 * part)
        mix = lambda a, b: a + (b - a) * part
        formants = tuple(mix(a, b) for a, b in zip(before.formants, after.formants))
        rest = (getattr(before, name) for name in ("voicing", "noise", "pitch", "mouth", "round"))
        others = (getattr(after, name) for name in ("voicing", "noise", "pitch", "mouth", "round"))
        return Point(time, formants, *(mix(a, b) for a, b in zip(rest, others)))


def speak(voice, points, seconds):
    """Samples within -1 and 1; a quarter of what is spoken is louder than `LOUD`."""
    rand = random.Random(voice.seed + 1)
    track = Track(points)
    tract = [Resonator() for _ in range(5)]
    phase, tilted, wander, samples = 0.0, 0.0, 0.0, []
    for block in range(int(seconds * RATE) // BLOCK):
        point = track.at(block * BLOCK / RATE)
        widths = (70, 90, 130, 250, 300)
        fixed = (3500 * voice.tract, 4600 * voice.tract)
        scaled = tuple(frequency * voice.tract for frequency in point.formants)
        for resonator, frequency, width in zip(tract, scaled + fixed, widths):
            resonator.tune(min(frequency, 9000), width)
        wander = 0.9 * wander + 0.1 * rand.uniform(-1, 1)
        step = voice.pitch * point.pitch * (1 + 0.04 * wander) / RATE
        for _ in range(BLOCK):
            phase = (phase + step) % 1.0
            # Derivative of the glottal flow t^2 - t^3 while the glottis is open.
            open_ = phase / 0.6
            flow = 2 * open_ - 3 * open_ * open_ if open_ < 1 else 0.0
            tilted += 0.6 * (flow - tilted)
            breath = rand.uniform(-1, 1)
            value = point.voicing * (tilted + 0.03 * breath) + point.noise * breath
            for resonator in tract:
                value = resonator.run(value)
            samples.append(value)
    size = RATE // 50
    rms = sorted(level(samples[at : at + size]) for at in range(0, len(samples), size))
    voiced = [value for value in rms if value > rms[-1] - 40]
    gain = 10 ** ((LOUD - voiced[len(voiced) * 3 // 4]) / 20)
    # A soft limit for the few peaks.
    return [math.tanh(sample * gain) for sample in samples]


def level(samples):
    """RMS in dBov; -127 is the least that RFC 6464 has."""
    power = sum(sample * sample for sample in samples) / max(len(samples), 1)
    return max(10 * math.log10(power), -127.0) if power > 0 else -127.0
