//! The programs, unpacked once.

use socket_snoop::bpf_link::Template;
use socket_snoop::programs::{self, Assembled, Name};
use std::sync::LazyLock;

static ALL: LazyLock<Vec<(Name, Template)>> = LazyLock::new(|| {
    let all = Assembled::unpack().expect("they are whole");
    let get = |name| (name, all.get(name).expect("there"));
    programs::ALL.map(get).into()
});

/// One of them.
pub fn program(name: Name) -> &'static Template {
    let found = ALL.iter().find(|(other, _)| *other == name);
    &found.expect("there").1
}

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Template> {
    ALL.iter().map(|(_, template)| template)
}
