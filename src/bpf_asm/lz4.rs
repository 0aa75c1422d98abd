//! Packs bytes as an LZ4 block, about as small as it can be made: of the ways to write each end of the input the shortest
//! is taken (the usual fast one is a quarter longer on the programs).
//!
//! Rules: lz4 1.10, doc/lz4_Block_format.md.

use std::collections::HashMap;

/// The shortest match.
const LEAST: usize = 4;
/// The farthest.
const FAR: usize = 65535;
/// The last sequence is literals alone: these many at least.
const LAST: usize = 5;
/// And no match starts later than this before the end.
const MARGIN: usize = 12;

/// Where there is much to choose from, only so much is tried.
const ENOUGH: usize = 300;

/// Bytes that a length takes beyond its four bits.
fn more(len: usize) -> usize {
    match len {
        0..15 => 0,
        _ => 1 + (len - 15) / 255,
    }
}

fn push_more(out: &mut Vec<u8>, len: usize) {
    if len >= 15 {
        let rest = len - 15;
        out.extend(std::iter::repeat_n(255, rest / 255));
        out.push((rest % 255) as u8);
    }
}

fn sequence(out: &mut Vec<u8>, literals: &[u8], found: Option<(usize, usize)>) {
    let len = found.map_or(0, |(_, len)| len - LEAST);
    out.push((literals.len().min(15) << 4 | len.min(15)) as u8);
    push_more(out, literals.len());
    out.extend_from_slice(literals);
    if let Some((distance, _)) = found {
        out.extend_from_slice(&(distance as u16).to_le_bytes());
        push_more(out, len);
    }
}

/// The longest match at each place, as distance and length.
fn matches(input: &[u8]) -> Vec<Option<(usize, usize)>> {
    let mut seen: HashMap<&[u8], Vec<usize>> = HashMap::new();
    let mut all = vec![None; input.len()];
    for at in 0..input.len().saturating_sub(MARGIN) {
        let end = input.len() - LAST;
        // One that goes on is as good as any.
        if let Some((distance, len)) = at.checked_sub(1).and_then(|at| all[at]) {
            if len > ENOUGH {
                all[at] = Some((distance, len - 1));
            }
        }
        let before = seen.entry(&input[at..at + LEAST]).or_default();
        for from in before.iter().rev().take_while(|from| at - **from <= FAR) {
            if all[at].is_some_and(|(_, best)| best >= ENOUGH.min(end - at)) {
                break;
            }
            let len = (at..end).take_while(|n| input[*n] == input[n - at + from]);
            let len = len.count();
            if all[at].is_none_or(|(_, best)| len > best) {
                all[at] = Some((at - from, len));
            }
        }
        before.push(at);
    }
    all
}

/// The shortest way from a place to the end.
#[derive(Clone, Copy)]
struct Way {
    bytes: usize,
    /// The literals, and the length of the match behind them; 0 for the end.
    literals: usize,
    len: usize,
}

/// The block.
pub fn pack(input: &[u8]) -> Vec<u8> {
    let found = matches(input);
    // From a place where a sequence starts.
    let mut ways: Vec<Way> = Vec::new();
    ways.resize(
        input.len() + 1,
        Way {
            bytes: usize::MAX,
            literals: 0,
            len: 0,
        },
    );
    // The cheapest match at each place, without its literals.
    let mut best: Vec<Option<(usize, usize)>> = vec![None; input.len()];
    for at in (0..=input.len()).rev() {
        if let Some(Some((_, longest))) = found.get(at) {
            let costs = (LEAST..=(*longest).min(ENOUGH)).chain([*longest]);
            let costs = costs.filter_map(|len| {
                let rest = ways[at + len].bytes;
                (rest < usize::MAX).then(|| (2 + more(len - LEAST) + rest, len))
            });
            best[at] = costs.min();
        }
        let literals = input.len() - at;
        let mut way = Way {
            bytes: 1 + more(literals) + literals,
            literals,
            len: 0,
        };
        for (n, best) in best[at..].iter().enumerate() {
            if n > ENOUGH && way.len > 0 {
                break;
            }
            if let Some((rest, len)) = best {
                let bytes = 1 + more(n) + n + rest;
                if bytes < way.bytes {
                    way = Way {
                        bytes,
                        literals: n,
                        len: *len,
                    };
                }
            }
        }
        ways[at] = way;
    }
    let (mut out, mut at) = (Vec::new(), 0);
    loop {
        let Way { literals, len, .. } = ways[at];
        let to = at + literals;
        if len == 0 {
            sequence(&mut out, &input[at..to], None);
            return out;
        }
        let distance = found[to].map_or(0, |(distance, _)| distance);
        sequence(&mut out, &input[at..to], Some((distance, len)));
        at = to + len;
    }
}
