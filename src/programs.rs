//! The programs of bpf-asm/, assembled and packed at build time.
//!
//! Contract: [`Assembled::unpack`] takes about a tenth of a millisecond, and what it holds some 80 KiB: who wants
//! programs unpacks them, and lets go of them when they are loaded.

use crate::bpf_link::Template;
use crate::bpf_link::packed::Packed;
use crate::error::{Error, Kind};

/// Which program: each has a constant that is named after its file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Name(usize);

include!(concat!(env!("OUT_DIR"), "/programs.rs"));

static PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/programs.bin"));

/// All programs, unpacked.
#[derive(Debug)]
pub struct Assembled(Packed);

impl Assembled {
    /// Unpacks them.
    pub fn unpack() -> Result<Assembled, Error> {
        Packed::read(PACKED).map(Assembled).ok_or_else(damaged)
    }

    /// A program.
    pub fn get(&self, name: Name) -> Result<Template, Error> {
        self.0.template(name.0).ok_or_else(damaged)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = Template> + '_ {
        ALL.iter().filter_map(|name| self.get(*name).ok())
    }
}

fn damaged() -> Error {
    let why = "the programs in this file are damaged";
    Error::new(Kind::Runtime, why).advise("get the file anew")
}
