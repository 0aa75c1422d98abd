//! What stock tools show beside a program's instructions: its function, and the line of text that each comes from.
//!
//! Contract: it is BTF as Linux 5.0 and later take it (v6.12 include/uapi/linux/btf.h; kernel/bpf/verifier.c,
//! check_btf_func and check_btf_line): a function without arguments, and lines in the order of the instructions, none at
//! the second half of one, the first at the start. Numbers are as the host orders them.

use crate::bpf_link::{Linked, Template};

/// Types by their numbers (enum btf_kind), at their place in the second word of struct btf_type.
const INT: u32 = 1 << 24;
const FUNC: u32 = 12 << 24;
const FUNC_PROTO: u32 = 13 << 24;
/// The number of the function among the types made here.
const FUNCTION: u32 = 3;
/// struct btf_header, in bytes, and how it starts.
const HEADER: u32 = 24;
const MAGIC: u16 = 0xeb9f;
/// A function that only its own object knows, and one that others do: Linux 5.6 and later (enum btf_func_linkage).
const LOCAL: u32 = 0;
pub(crate) const GLOBAL: u32 = 1;
/// A line's number stands above its column, which is not told.
const COLUMN: u32 = 10;

/// A line: the slot of its first instruction, where its file and its text stand among the strings, and its number
/// (struct bpf_line_info).
pub(crate) type Line = [u32; 4];

/// What is told of a program.
#[derive(Debug)]
pub(crate) struct Debug {
    /// The BTF.
    pub(crate) btf: Vec<u8>,
    /// The function: its first slot, and its type (struct bpf_func_info).
    pub(crate) function: [u32; 2],
    /// The lines.
    pub(crate) lines: Vec<Line>,
}

/// Adds a string; where it stands.
pub(crate) fn add(strings: &mut Vec<u8>, text: &str) -> u32 {
    let at = strings.len() as u32;
    strings.extend_from_slice(text.as_bytes());
    strings.push(0);
    at
}

/// What is told besides, by who writes an object: it adds strings and types, the first of which has the number
/// [`NEXT`].
pub(crate) type Besides<'a> = &'a mut dyn FnMut(&mut Vec<u8>, &mut Vec<u32>);

/// The number of the first type that is told besides.
pub(crate) const NEXT: u32 = FUNCTION + 1;

impl Debug {
    /// What there is to tell of a program; `None` if it isn't known where it comes from.
    pub(crate) fn of(template: &Template, linked: &Linked) -> Option<Debug> {
        Debug::with(template, linked, LOCAL, &mut |_, _| ())
    }

    /// The same of a function that others can see (`linkage`), and what is told besides.
    pub(crate) fn with(
        template: &Template,
        linked: &Linked,
        linkage: u32,
        besides: Besides<'_>,
    ) -> Option<Debug> {
        let mut strings = vec![0];
        let (int, function) = (add(&mut strings, "int"), add(&mut strings, &template.name));
        let mut files: Vec<(&str, u32)> = Vec::new();
        let mut lines: Vec<Line> = Vec::new();
        let mut last = None;
        let mut at = 0;
        while let Some(insn) = linked.insns.get(at) {
            let line = *template.lines.get(*linked.items.get(at)? as usize)?;
            if last != Some(line) {
                last = Some(line);
                let place = template.text.get(line)?;
                let known = files.iter().find(|(name, _)| *name == place.file);
                let file = known.map_or_else(|| add(&mut strings, place.file), |(_, at)| *at);
                if known.is_none() {
                    files.push((place.file, file));
                }
                let text = add(&mut strings, place.text);
                lines.push([at as u32, file, text, place.number << COLUMN]);
            }
            at += if insn.is_wide() { 2 } else { 1 };
        }
        let mut types = [
            // 1: an int of 32 bits with a sign.
            [int, INT, 4, 1 << 24 | 32].as_slice(),
            // 2: what takes nothing and returns it.
            &[0, FUNC_PROTO, 1],
            // 3: the function that is such.
            &[function, FUNC | linkage, 2],
        ]
        .concat();
        besides(&mut strings, &mut types);
        let len = 4 * types.len() as u32;
        let header = [HEADER, 0, len, len, strings.len() as u32];
        let words = header.iter().chain(&types);
        let mut btf = [MAGIC.to_ne_bytes(), [1, 0]].concat();
        btf.extend(words.flat_map(|word| word.to_ne_bytes()));
        btf.extend_from_slice(&strings);
        Some(Debug {
            btf,
            function: [0, FUNCTION],
            lines,
        })
    }
}
