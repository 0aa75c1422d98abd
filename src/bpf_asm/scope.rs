//! Labels, and from where they can be jumped to.
//!
//! Contract: a label belongs to the text it stands in: the program's file, an included file, or one use of a macro. A
//! jump finds those of its own text. Out of a macro it finds those that the macro names behind `to`, in the text that
//! uses it; out of an included file none, and into either none.

use super::lex::Read;
use super::open::{Block, Place};
use std::collections::HashMap;

/// A text that has labels of its own.
struct Scope {
    /// The one that includes or uses it.
    parent: usize,
    /// What it is, for messages.
    name: String,
    /// The labels outside that it may jump to.
    exits: Vec<String>,
}

struct Label {
    item: usize,
    blocks: Vec<Block>,
    used: bool,
    place: Place,
}

/// A jump whose label may come later.
struct Pending {
    item: usize,
    label: String,
    place: Place,
    blocks: Vec<Block>,
    scope: usize,
}

/// All labels, and the jumps to them.
pub(super) struct Labels {
    scopes: Vec<Scope>,
    now: usize,
    all: HashMap<(usize, String), Label>,
    pending: Vec<Pending>,
}

impl Labels {
    /// None yet, in the program's own file.
    pub(super) fn new() -> Labels {
        Labels {
            scopes: vec![Scope {
                parent: 0,
                name: String::new(),
                exits: Vec::new(),
            }],
            now: 0,
            all: HashMap::new(),
            pending: Vec::new(),
        }
    }

    /// What is read from now on has labels of its own.
    pub(super) fn enter(&mut self, name: &str, exits: &[String]) {
        self.scopes.push(Scope {
            parent: self.now,
            name: name.to_string(),
            exits: exits.to_vec(),
        });
        self.now = self.scopes.len() - 1;
    }

    /// That is over.
    pub(super) fn leave(&mut self) {
        self.now = self.scopes[self.now].parent;
    }

    /// Where the text that is being read has this label.
    pub(super) fn place(&self, name: &str) -> Option<Place> {
        let label = self.all.get(&(self.now, name.to_string()));
        label.map(|label| label.place)
    }

    /// Gives the text that is being read a label, which it doesn't have yet.
    pub(super) fn define(&mut self, name: &str, item: usize, blocks: &[Block], place: Place) {
        let label = Label {
            item,
            blocks: blocks.to_vec(),
            used: false,
            place,
        };
        self.all.insert((self.now, name.to_string()), label);
    }

    /// Notes the jump that `item` is going to be.
    pub(super) fn jump(&mut self, item: usize, label: &str, blocks: &[Block], place: Place) {
        self.pending.push(Pending {
            item,
            label: label.to_string(),
            place,
            blocks: blocks.to_vec(),
            scope: self.now,
        });
    }

    /// Hands over each jump with the item that it goes to; `other` says what a name is that is no label.
    pub(super) fn resolve(
        &mut self,
        other: &dyn Fn(&str) -> Option<&'static str>,
        set: &mut dyn FnMut(usize, u32),
    ) -> Result<(), (Place, String)> {
        for jump in std::mem::take(&mut self.pending) {
            let (line, col) = jump.place;
            let to = self.find(&jump, other);
            let to = to.map_err(|(col, message)| ((line, col), message))?;
            let label = self.all.get_mut(&(to, jump.label.clone()));
            let label = label.filter(|label| jump.blocks.starts_with(&label.blocks));
            let Some(label) = label else {
                let name = &jump.label;
                let message = format!("jump into the block of label '{name}' from outside of it");
                return Err(((line, col), message));
            };
            label.used = true;
            set(jump.item, label.item as u32);
        }
        Ok(())
    }

    /// The text whose label a jump means.
    fn find(&self, jump: &Pending, other: &dyn Fn(&str) -> Option<&'static str>) -> Read<usize> {
        let (name, col) = (&jump.label, jump.place.1);
        let mut at = jump.scope;
        while !self.all.contains_key(&(at, name.clone())) {
            let scope = &self.scopes[at];
            if at != 0 && scope.exits.contains(name) {
                at = scope.parent;
                continue;
            }
            if let Some(kind) = other(name) {
                return Err((col, format!("'{name}' is {kind}, not a label")));
            }
            let why = match at {
                0 => String::new(),
                _ if at != jump.scope => format!(" in {}", scope.name),
                _ => format!(" in {}, which does not name it behind 'to'", scope.name),
            };
            return Err((col, format!("unknown label '{name}'{why}")));
        }
        Ok(at)
    }

    /// The first label that no jump goes to.
    pub(super) fn unused(&self) -> Option<(Place, &str)> {
        let unused = self.all.iter().filter(|(_, label)| !label.used);
        unused
            .map(|((_, name), label)| (label.place, name.as_str()))
            .min()
    }
}
