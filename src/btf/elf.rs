//! The section of BTF in an ELF file, such as vmlinux. A private part of `btf`.
//!
//! Contract: of the file only its headers and the names of its sections are
//! read: of at most 65,535 sections, 64 bytes each.

use super::file::BtfError;
use crate::sys::Errno;
use object::Endianness;
use object::elf::{ELFMAG, FileHeader64, SectionHeader64};
use object::pod::{bytes_of_slice, bytes_of_slice_mut, from_bytes, slice_from_bytes};
use object::read::elf::{FileHeader, SectionHeader};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// The section's name, to its end.
const NAME: [u8; 5] = *b".BTF\0";

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
    let mut header = [0u64; size_of::<FileHeader64<Endianness>>() / 8];
    read(file, &mut header, 0)?;
    let (header, _) = from_bytes::<FileHeader64<Endianness>>(bytes_of_slice(&header)).ok()?;
    let endian = header.endian().ok()?;
    let size = size_of::<SectionHeader64<Endianness>>();
    if usize::from(header.e_shentsize(endian)) != size {
        return None;
    }
    let count = usize::from(header.e_shnum(endian));
    let mut sections = vec![0u64; count * size / 8];
    read(file, &mut sections, header.e_shoff(endian))?;
    let sections = bytes_of_slice(&sections);
    let (sections, _) = slice_from_bytes::<SectionHeader64<Endianness>>(sections, count).ok()?;
    let names = sections.get(usize::from(header.e_shstrndx(endian)))?;
    let names = names.sh_offset(endian);
    let is_btf = |section: &&SectionHeader64<Endianness>| {
        let mut name = [0; NAME.len()];
        let at = names.checked_add(section.sh_name(endian).into());
        at.is_some_and(|at| file.read_exact_at(&mut name, at).is_ok()) && name == NAME
    };
    sections.iter().find(is_btf)?.file_range(endian)
}

/// Fills the words with the file's bytes from there on.
fn read(file: &File, words: &mut [u64], at: u64) -> Option<()> {
    file.read_exact_at(bytes_of_slice_mut(words), at).ok()
}
