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

    /// The names of the fields of all of them.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.0.fields()
    }

    /// The events that they are for.
    pub fn events(&self) -> impl Iterator<Item = &str> {
        self.0.events()
    }
}

fn damaged() -> Error {
    let why = "the programs in this file are damaged";
    Error::new(Kind::Runtime, why).advise("get the file anew")
}
