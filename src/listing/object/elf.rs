//! An ELF relocatable for the kernel's BPF machine.
//!
//! Contract: sections stand in the order in which they are added, the first with
//! the number 1; numbers are as this host orders them. `object` gives the
//! structures; its own writer would be 35 KiB of the binary.

use object::Endianness;
use object::elf::*;
use object::endian::{U16, U32, U64};
use object::pod::bytes_of;

#[cfg(target_endian = "little")]
const ENDIAN: Endianness = Endianness::Little;
#[cfg(target_endian = "big")]
const ENDIAN: Endianness = Endianness::Big;

/// A section.
#[derive(Default)]
pub(super) struct Section {
    /// SHT_…
    pub(super) kind: u32,
    /// SHF_…
    pub(super) flags: u64,
    /// What its start is a multiple of.
    pub(super) align: u64,
    /// What it holds.
    pub(super) bytes: Vec<u8>,
    pub(super) link: u32,
    pub(super) info: u32,
    pub(super) entry: u64,
}

/// A symbol: its name, its section, its type (STT_…), its place there, its bytes.
pub(super) type Symbol<'a> = (&'a str, u16, u8, usize, usize);

/// The file.
#[derive(Default)]
pub(super) struct Elf {
    names: Vec<u8>,
    sections: Vec<(u32, Section)>,
}

fn u16(value: u16) -> U16<Endianness> {
    U16::new(ENDIAN, value)
}

fn u32(value: u32) -> U32<Endianness> {
    U32::new(ENDIAN, value)
}

fn u64(value: u64) -> U64<Endianness> {
    U64::new(ENDIAN, value)
}

/// Adds a string; where it stands.
fn add(strings: &mut Vec<u8>, text: &str) -> u32 {
    if strings.is_empty() {
        strings.push(0);
    }
    let at = strings.len() as u32;
    strings.extend_from_slice(text.as_bytes());
    strings.push(0);
    at
}

impl Elf {
    /// Adds a section.
    pub(super) fn section(&mut self, name: &str, section: Section) {
        let name = add(&mut self.names, name);
        self.sections.push((name, section));
    }

    /// Adds the relocations of a section: where each is, and the number of the
    /// symbol. The symbols come next.
    pub(super) fn relocations(&mut self, name: &str, of: u16, all: &[(usize, u32)]) {
        let mut bytes = Vec::new();
        for (at, symbol) in all {
            bytes.extend_from_slice(bytes_of(&Rel64 {
                r_offset: u64(*at as u64),
                r_info: u64(u64::from(*symbol) << 32 | u64::from(R_BPF_64_64)),
            }));
        }
        let symbols = self.sections.len() as u32 + 2;
        let section = Section {
            kind: SHT_REL,
            flags: SHF_INFO_LINK.into(),
            align: 8,
            bytes,
            link: symbols,
            info: of.into(),
            entry: size_of::<Rel64<Endianness>>() as u64,
        };
        self.section(&format!(".rel{name}"), section);
    }

    /// Adds the symbols, all of which others can see, and their names.
    pub(super) fn symbols(&mut self, all: &[Symbol<'_>]) {
        let mut names = Vec::new();
        let mut bytes = vec![0; size_of::<Sym64<Endianness>>()];
        for (name, section, kind, at, len) in all {
            bytes.extend_from_slice(bytes_of(&Sym64 {
                st_name: u32(add(&mut names, name)),
                st_info: STB_GLOBAL << 4 | kind,
                st_other: STV_DEFAULT,
                st_shndx: u16(*section),
                st_value: u64(*at as u64),
                st_size: u64(*len as u64),
            }));
        }
        let section = Section {
            kind: SHT_SYMTAB,
            align: 8,
            bytes,
            link: self.sections.len() as u32 + 2,
            info: 1,
            entry: size_of::<Sym64<Endianness>>() as u64,
            ..Section::default()
        };
        self.section(".symtab", section);
        self.strings(".strtab", names);
    }

    fn strings(&mut self, name: &str, bytes: Vec<u8>) {
        let section = Section {
            kind: SHT_STRTAB,
            align: 1,
            bytes,
            ..Section::default()
        };
        self.section(name, section);
    }

    /// The file.
    pub(super) fn bytes(mut self) -> Vec<u8> {
        // Their own name is among them.
        self.strings(".shstrtab", Vec::new());
        let names = self.names;
        if let Some((_, last)) = self.sections.last_mut() {
            last.bytes = names;
        }
        let header = size_of::<FileHeader64<Endianness>>();
        let mut out = vec![0; header];
        let mut table = vec![0; size_of::<SectionHeader64<Endianness>>()];
        for (name, section) in &self.sections {
            out.resize(out.len().next_multiple_of(section.align as usize), 0);
            table.extend_from_slice(bytes_of(&SectionHeader64 {
                sh_name: u32(*name),
                sh_type: u32(section.kind),
                sh_flags: u64(section.flags),
                sh_addr: u64(0),
                sh_offset: u64(out.len() as u64),
                sh_size: u64(section.bytes.len() as u64),
                sh_link: u32(section.link),
                sh_info: u32(section.info),
                sh_addralign: u64(section.align),
                sh_entsize: u64(section.entry),
            }));
            out.extend_from_slice(&section.bytes);
        }
        out.resize(out.len().next_multiple_of(8), 0);
        let sections = self.sections.len() as u16;
        let start = FileHeader64 {
            e_ident: Ident {
                magic: ELFMAG,
                class: ELFCLASS64,
                data: if cfg!(target_endian = "big") {
                    ELFDATA2MSB
                } else {
                    ELFDATA2LSB
                },
                version: EV_CURRENT,
                os_abi: ELFOSABI_NONE,
                abi_version: 0,
                padding: [0; 7],
            },
            e_type: u16(ET_REL),
            e_machine: u16(EM_BPF),
            e_version: u32(EV_CURRENT.into()),
            e_entry: u64(0),
            e_phoff: u64(0),
            e_shoff: u64(out.len() as u64),
            e_flags: u32(0),
            e_ehsize: u16(header as u16),
            e_phentsize: u16(0),
            e_phnum: u16(0),
            e_shentsize: u16(size_of::<SectionHeader64<Endianness>>() as u16),
            e_shnum: u16(sections + 1),
            e_shstrndx: u16(sections),
        };
        out[..header].copy_from_slice(bytes_of(&start));
        out.extend_from_slice(&table);
        out
    }
}
