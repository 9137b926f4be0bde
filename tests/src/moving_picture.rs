//! A video file for Chromium's fake camera that takes an encoder as many bits as a real camera does. The
//! built-in test picture takes less than half of what a 720p encoder may send, and has 20 frames a second.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use anyhow::Result;

const WIDTH: usize = 1280;
const HEIGHT: usize = 720;
/// Chromium repeats the file; the texture repeats after as many frames, so nothing jumps.
const FRAMES: usize = 64;
/// The texture's side, pixels. It moves by `TILE / FRAMES` pixels a frame.
const TILE: usize = 256;
/// Luma of the noise of each frame, like that of a camera's sensor.
const NOISE: u64 = 8;

/// Writes a YUV4MPEG2 file of 1280x720 at 30 frames a second: a texture that moves sideways, a bright
/// square that moves up and down, and noise that differs in each frame.
///
/// # Errors
/// When it cannot be written: it has 88 MB.
pub fn write(file: &Path) -> Result<()> {
    let mut out = BufWriter::new(File::create(file)?);
    writeln!(out, "YUV4MPEG2 W{WIDTH} H{HEIGHT} F30:1 Ip A1:1 C420jpeg")?;
    let tile = texture();
    let mut random = Random(1);
    let mut luma = vec![0; WIDTH * HEIGHT];
    for frame in 0..FRAMES {
        let shift = frame * TILE / FRAMES;
        // Up and down once in the file.
        let top = 8 * frame.min(FRAMES - frame);
        for (row, line) in luma.chunks_exact_mut(WIDTH).enumerate() {
            let source = &tile[row % TILE];
            let in_square = (top..top + 200).contains(&row);
            for (column, pixel) in line.iter_mut().enumerate() {
                let square = if in_square && (540..740).contains(&column) { 60 } else { 0 };
                *pixel = source[(column + shift) % TILE] + square + (random.next() % NOISE) as u8;
            }
        }
        writeln!(out, "FRAME")?;
        out.write_all(&luma)?;
        out.write_all(&[110; WIDTH * HEIGHT / 4])?;
        out.write_all(&[150; WIDTH * HEIGHT / 4])?;
    }
    Ok(out.flush()?)
}

/// Noise at several scales, which repeats in both directions; luma 40 to 160.
fn texture() -> Vec<Vec<u8>> {
    let mut random = Random(2);
    let mut sums = vec![vec![0_u64; TILE]; TILE];
    for (cell, weight) in [(64, 40), (16, 40), (4, 40)] {
        let cells: Vec<u64> = (0..(TILE / cell).pow(2)).map(|_| random.next() % weight).collect();
        for (row, line) in sums.iter_mut().enumerate() {
            for (column, sum) in line.iter_mut().enumerate() {
                *sum += cells[row / cell * (TILE / cell) + column / cell];
            }
        }
    }
    sums.into_iter().map(|line| line.into_iter().map(|sum| 40 + sum as u8).collect()).collect()
}

/// A linear congruential generator: the same file each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 40
    }
}
