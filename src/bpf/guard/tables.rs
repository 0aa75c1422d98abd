//! The sets that are looked up in maps. A private part of the guard.
//!
//! Contract: sets that are alike are one.

use crate::filter::tree::Prefix;
use crate::order::{Order, Value};

/// What sets are looked up in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tables {
    ports: Vec<Vec<(u32, u32)>>,
    nets: Vec<Vec<Prefix>>,
}

fn once<T: PartialEq + Clone>(all: &mut Vec<Vec<T>>, set: &[T]) -> i32 {
    let known = all.iter().position(|one| one == set);
    let known = known.unwrap_or_else(|| {
        all.push(set.to_vec());
        all.len() - 1
    });
    known as i32
}

impl Tables {
    /// The number of these ports' table.
    pub(super) fn ports(&mut self, ranges: &[(u32, u32)]) -> i32 {
        once(&mut self.ports, ranges)
    }

    /// The number of this set of prefixes.
    pub(super) fn nets(&mut self, nets: &[Prefix]) -> i32 {
        once(&mut self.nets, nets)
    }

    /// How many tables of ports there are, and prefixes.
    pub(super) fn sizes(&self) -> (u32, u32) {
        let nets: usize = self.nets.iter().map(Vec::len).sum();
        (self.ports.len() as u32, nets as u32)
    }

    /// What the maps `ports` and `nets` hold: keys and values.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'static str, Vec<u8>, Vec<u8>)> + '_ {
        let ports = self.ports.iter().zip(0u32..);
        let ports = ports.map(|(ranges, set)| {
            let key = set.to_ne_bytes().to_vec();
            ("ports", key, table(ranges))
        });
        let nets = self.nets.iter().zip(0u32..);
        let nets = nets.flat_map(|(nets, set)| {
            let key = move |net| key(set, net).to_vec();
            nets.iter().map(move |net| ("nets", key(net), vec![0]))
        });
        ports.chain(nets)
    }
}

/// Ports as a table has them: a bit for each, in words of the host.
fn table(ranges: &[(u32, u32)]) -> Vec<u8> {
    let mut words = vec![0u64; 1024];
    for (first, last) in ranges {
        for port in *first..=(*last).min(65535) {
            if let Some(word) = words.get_mut(port as usize / 64) {
                *word |= 1 << (port % 64);
            }
        }
    }
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// The key of a prefix of a set: struct bpf_lpm_trie_key (include/uapi/linux/bpf.h), whose data is the set and the address.
fn key(set: u32, net: &Prefix) -> [u8; 24] {
    let mut key = [0; 24];
    (32 + u32::from(net.len)).write(&mut key[..], Order::NATIVE);
    set.write(&mut key[4..], Order::NATIVE);
    key[8..].copy_from_slice(&net.first.to_be_bytes());
    key
}
