//! What somebody asks to be shown: any text.

use super::verifier;
use socket_snoop::bpf::guard::Guard;
use socket_snoop::bpf::layout::{EV_SIZE, EVENT};
use socket_snoop::bpf_insn::{FP, Insn, Operand, Size};
use socket_snoop::bpf_link::{Host, HostField, Item, Template};
use socket_snoop::filter::{Names, parse};

/// A host on which names can't be told, and maps are as in tests/common/layouts.rs.
struct Nowhere;

impl Names for Nowhere {
    fn user(&self, _: &str) -> Result<u32, String> {
        Err("no such user".into())
    }
    fn cgroup(&self, _: &str) -> Result<u64, String> {
        Ok(7)
    }
    fn netns(&self, _: &str) -> Result<u32, String> {
        Ok(4_026_531_840)
    }
}

impl Host for Nowhere {
    fn field(&self, _: &str) -> Option<HostField> {
        None
    }
    fn map_fd(&self, name: &str) -> Option<i32> {
        Some(if name == "ports" { 7 } else { 8 })
    }
}

/// What is made of an expression for the kernel is a program that its verifier
/// takes.
pub fn guard(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let Ok(expr) = parse::parse(text, &Nowhere) else {
        return;
    };
    let Some(guard) = Guard::compile(&expr) else {
        return;
    };
    let entries: Vec<_> = guard.entries().collect();
    let mut keys: Vec<_> = entries.iter().map(|(map, key, _)| (map, key)).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), entries.len());
    for part in [0, 1] {
        let store = |at| Insn::store(Size::W, FP, EVENT + at, Operand::Imm(0));
        let event = (0..EV_SIZE as i16).step_by(4).map(store);
        let mut items: Vec<Item> = event.map(Item::Insn).collect();
        items.extend([Item::Filter { part }, Item::Insn(Insn::exit())]);
        let template = Template {
            lines: vec![0; items.len()],
            items,
            ..Template::default()
        };
        let whole = template.with(guard.parts()).expect("all its parts");
        let insns = whole.link(&Nowhere).unwrap_or_else(|e| panic!("{e}"));
        // What is too long is refused before it comes to the kernel.
        if insns.len() <= 4096 {
            verifier::check(&insns);
        }
    }
}
