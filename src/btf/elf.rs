//! The section of BTF in an ELF file, such as vmlinux. A private part of `btf`.
//!
//! Contract: of the file only its headers and the names of its sections are
//! read, and no more of them than a file can have that is none of a fuzzer's.

use super::file::BtfError;
use crate::sys::Errno;
use object::elf::{ELFMAG, FileHeader64};
use object::read::elf::{FileHeader, SectionHeader};
use object::{Endianness, ReadCache};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// The most sections: 64 bytes are read of each.
const SECTIONS: usize = 1 << 16;

/// Where the section of BTF starts in the file, and its bytes; `None` if this is
/// no ELF file.
pub(super) fn section(file: &File) -> Result<Option<(u64, u64)>, BtfError> {
    let mut magic = [0; ELFMAG.len()];
    if file.read_exact_at(&mut magic, 0).is_err() || magic != ELFMAG {
        return Ok(None);
    }
    let (start, len) = find(file).ok_or(BtfError::Section)?;
    let whole = file
        .metadata()
        .map_err(|e| BtfError::Read(Errno::from_io(&e)))?
        .len();
    match start.checked_add(len) {
        Some(end) if end <= whole => Ok(Some((start, len))),
        _ => Err(BtfError::Short),
    }
}

fn find(file: &File) -> Option<(u64, u64)> {
    let cache = &ReadCache::new(file);
    let header = FileHeader64::<Endianness>::parse(cache).ok()?;
    let endian = header.endian().ok()?;
    header
        .shnum(endian, cache)
        .ok()
        .filter(|count| *count < SECTIONS)?;
    let sections = header.sections(endian, cache).ok()?;
    let (_, section) = sections.section_by_name(endian, b".BTF")?;
    section.file_range(endian)
}
