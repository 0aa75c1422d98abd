//! What has been opened in the text and is not closed yet.

use super::lex::Read;

/// A place in a text: which line of those that were read, and the column.
pub(super) type Place = (usize, usize);

/// An open `.ifdef` (`present`) or its `.else`; `item` is its [`crate::bpf_link::Item::If`].
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Block {
    pub(super) field: u16,
    pub(super) present: bool,
    pub(super) item: usize,
}

/// A condition that is open.
pub(super) struct Open {
    pub(super) place: Place,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// `.ifdef`: [`Parser::blocks`] has it.
    Host,
    /// `.if`: whether it is read now, and whether this is its second part.
    Here { read: bool, other: bool },
    /// Either, within what is passed over.
    Skipped,
}

impl Open {
    /// What opened it, for messages.
    pub(super) fn directive(&self) -> &'static str {
        match self.kind {
            Kind::Host => ".ifdef",
            Kind::Here { .. } | Kind::Skipped => ".if",
        }
    }
}

/// An open `.struct`.
pub(super) struct Structure {
    pub(super) name: String,
    /// Where it stands: what is added to the places of its members.
    pub(super) base: i128,
    /// Where the next member is, from its start.
    pub(super) next: u16,
    pub(super) place: Place,
}

impl Structure {
    /// Where it ends with so many bytes more.
    pub(super) fn grown(&self, bytes: u16, col: usize) -> Read<u16> {
        let end = self.next.checked_add(bytes);
        end.ok_or((col, "the structure is too long".into()))
    }
}
