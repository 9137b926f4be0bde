"""Cartoon faces: drawn at twice the size of the largest layer, so that edges are smooth."""

import math
import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

SIZE = (1280, 720)


@dataclass
class Face:
    seed: int
    wall: str
    shirt: str
    skin: str
    hair: str
    long_hair: bool = False
    glasses: bool = False
    beard: bool = False


def shade(colour, factor):
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return tuple(min(int(part * factor), 255) for part in (red, green, blue))


def blinks(seed, seconds):
    """Times at which the eyes close."""
    rand = random.Random(seed)
    times, at = [], rand.uniform(0.6, 1.5)
    while at < seconds - 0.4:
        times.append(at)
        at += rand.uniform(1.4, 3.2)
    return times


def draw(face, time, mouth, rounded, speaking, closed):
    """One frame. `mouth` is 0 for closed to 1 for wide open; `closed` likewise for the eyelids."""
    image = Image.new("RGB", SIZE, face.wall)
    pen = ImageDraw.Draw(image)
    dark = shade(face.wall, 0.88)
    pen.rectangle((0, 560, SIZE[0], SIZE[1]), fill=dark)
    pen.rectangle((80, 90, 330, 290), fill=shade(face.wall, 1.12), outline=shade(face.wall, 0.75), width=8)
    pen.polygon(((100, 270), (190, 150), (260, 270)), fill=dark)

    # The head sways while the speaker speaks.
    sway = 1.0 if speaking else 0.35
    x = 640 + round(8 * sway * math.sin(2 * math.pi * time / 4.0)) * 1
    y = 330 + round(5 * sway * math.sin(2 * math.pi * time / 2.0)) * 1
    skin, line = face.skin, shade(face.skin, 0.7)

    if face.long_hair:
        pen.rounded_rectangle((x - 190, y - 170, x + 190, y + 300), 150, fill=face.hair)
    pen.ellipse((340, 590, 940, 1010), fill=face.shirt)
    pen.rounded_rectangle((x - 62, y + 120, x + 62, 650), 50, fill=shade(skin, 0.88))
    for side in (-1, 1):
        pen.ellipse((x + side * 165 - 28, y - 30, x + side * 165 + 28, y + 50), fill=skin)
    pen.ellipse((x - 165, y - 210, x + 165, y + 215), fill=skin)
    if face.beard:
        pen.chord((x - 163, y - 200, x + 163, y + 218), 12, 168, fill=face.hair)
        pen.ellipse((x - 85, y + 62, x + 85, y + 165), fill=skin)
    pen.chord((x - 178, y - 240, x + 178, y + 150), 197, 343, fill=face.hair)

    brow = -10 * mouth if speaking else 0
    for side in (-1, 1):
        eye = x + side * 70
        pen.ellipse((eye - 34, y - 52, eye + 34, y + 8), fill="white")
        look = round(6 * math.sin(2 * math.pi * time / 4.0))
        pen.ellipse((eye - 16 + look, y - 38, eye + 16 + look, y - 6), fill="#2b2b33")
        if closed > 0:
            pen.rectangle((eye - 36, y - 56, eye + 36, y - 56 + 66 * closed), fill=skin)
            pen.line((eye - 32, y - 56 + 62 * closed, eye + 32, y - 56 + 62 * closed), fill=line, width=7)
        pen.line((eye - 36, y - 76 + brow, eye + 36, y - 76 + brow), fill=face.hair, width=13)
        if face.glasses:
            pen.rounded_rectangle((eye - 52, y - 68, eye + 52, y + 26), 30, outline="#30343c", width=9)
    if face.glasses:
        pen.line((x - 20, y - 28, x + 20, y - 28), fill="#30343c", width=9)
    pen.arc((x - 26, y + 10, x + 26, y + 66), 20, 160, fill=line, width=8)

    wide, high = 62 - 28 * rounded * min(mouth * 2, 1), 46 * mouth
    if high < 5:
        pen.arc((x - 62, y + 70, x + 62, y + 130), 25, 155, fill="#8c3b3f", width=10)
    else:
        middle = y + 116
        pen.ellipse((x - wide, middle - high, x + wide, middle + high), fill="#6e2430")
        pen.chord((x - wide + 12, middle - high + 4, x + wide - 12, middle + high), 200, 340, fill="#f4efe8")
        pen.chord((x - wide + 18, middle, x + wide - 18, middle + high * 1.6), 200, 340, fill="#c8626a")
        pen.ellipse((x - wide, middle - high, x + wide, middle + high), outline="#8c3b3f", width=8)
    return image
