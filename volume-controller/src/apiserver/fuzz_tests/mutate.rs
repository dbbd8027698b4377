//! Inputs made of others.

use rand::RngExt;
use rand::rngs::StdRng;

use super::structure;

/// The largest input, in bytes.
const LARGEST: usize = 16 * 1024;

/// One of the pool with one to eight changes: as often as not of what it says, which its decoder reads to the end, else of
/// its bytes.
pub(super) fn change(pool: &[Vec<u8>], words: &[&str], random: &mut StdRng) -> Vec<u8> {
    let mut input = pick(pool, random).clone();
    if random.random_ratio(1, 2)
        && let Some(changed) = structure::change(&input, words, random)
    {
        return changed;
    }
    for _ in 0..random.random_range(1..=8) {
        let start = random.random_range(0..=input.len());
        let end = (start + random.random_range(0..=12)).min(input.len());
        match random.random_range(0..8) {
            0 => drop(input.drain(start..end)),
            1 => drop(input.splice(start..start, [random.random::<u8>()])),
            2 => {
                if let Some(byte) = input.get_mut(start) {
                    *byte ^= 1 << random.random_range(0..8);
                }
            }
            3 | 4 => drop(input.splice(start..end, pick(words, random).bytes())),
            5 => drop(input.splice(start..start, pick(words, random).bytes())),
            // A piece of the same input again, as often as makes it deep or long.
            6 => {
                let piece = input[start..end].repeat(1 << random.random_range(0..8));
                drop(input.splice(start..start, piece));
            }
            _ => {
                let other = pick(pool, random);
                let from = random.random_range(0..=other.len());
                drop(input.splice(start..end, other[from..].iter().take(200).copied()));
            }
        }
        input.truncate(LARGEST);
    }
    input
}

pub(super) fn pick<'a, T>(all: &'a [T], random: &mut StdRng) -> &'a T {
    &all[random.random_range(0..all.len())]
}
