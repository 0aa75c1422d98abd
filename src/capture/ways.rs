//! Which way it is, for what is asked for each event.
//!
//! Contract: a [`Way`], without a call by table for an event.

use super::programs::Programs;
use super::samples::Sampler;
use super::way::Way;
use std::ops::{Deref, DerefMut};

/// One of the ways.
#[derive(Debug)]
pub(super) enum Ways {
    /// Programs.
    Programs(Box<Programs>),
    /// Samples of tracepoints.
    Samples(Box<Sampler>),
}

impl Deref for Ways {
    type Target = dyn Way;

    fn deref(&self) -> &(dyn Way + 'static) {
        match self {
            Ways::Programs(way) => &**way,
            Ways::Samples(way) => &**way,
        }
    }
}

impl DerefMut for Ways {
    fn deref_mut(&mut self) -> &mut (dyn Way + 'static) {
        match self {
            Ways::Programs(way) => &mut **way,
            Ways::Samples(way) => &mut **way,
        }
    }
}
