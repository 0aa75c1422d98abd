//! The kernel's own BTF, as it lies in its memory.
//!
//! Contract: what is handed out never changes, to the end of the mapping.
#![allow(unsafe_code, reason = "owns a mapping")]

use super::mapping::Mapping;
use super::{Errno, Result};
use nix::sys::statfs::{SYSFS_MAGIC, fstatfs};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

/// The bytes that BTF starts with, in the order of this host.
const MAGIC: [u8; 2] = 0xeb9fu16.to_ne_bytes();

/// The mapped file.
#[derive(Debug)]
pub(crate) struct Mapped(Mapping);

impl Mapped {
    /// Maps the first `len` bytes of a file of BTF in sysfs. Before Linux 6.16 such
    /// can only be read: ENODEV. EINVAL: it is none, or has another length.
    pub(crate) fn new(file: &File, len: usize) -> Result<Mapped> {
        let mut magic = [0; 2];
        let is_sysfs = fstatfs(file)?.filesystem_type() == SYSFS_MAGIC;
        if !is_sysfs || file.read_at(&mut magic, 0).is_err() || magic != MAGIC {
            return Err(Errno::EINVAL);
        }
        Mapping::of_private(file.as_fd(), len).map(Mapped)
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping has that length, is read-only and of pages that the
        // kernel keeps for good and changes never (v6.16 kernel/bpf/sysfs_btf.c,
        // btf_sysfs_vmlinux_mmap): no other file of sysfs with these first bytes can
        // be mapped.
        unsafe { std::slice::from_raw_parts(self.0.base(), self.0.len()) }
    }
}
