//! From the bytes that a terminal sends to the keys that were pressed.
//!
//! Contract: a key may come in pieces; what isn't known is nothing.

/// A key, by what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// Another view: its number.
    View(usize),
    /// The next one.
    NextView,
    /// Sort by the column to the right, or the left.
    Sort(bool),
    /// The other way round.
    Reverse,
    Pause,
    Help,
    /// So many lines down, or up; the number of lines of the screen is [`Key::PAGE`].
    Scroll(isize),
    /// Draws everything again.
    Repaint,
    /// Stops the program, as a shell wants it.
    Suspend,
    Quit,
}

impl Key {
    /// A page, as lines to scroll.
    pub(super) const PAGE: isize = 1 << 16;
    /// All of them.
    const ALL: isize = 1 << 32;
}

/// How far a sequence of bytes has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Keys {
    #[default]
    Ground,
    Escape,
    /// Its first number.
    Sequence(u8),
}

impl Keys {
    /// Takes a byte; the key that it ends.
    pub(super) fn take(&mut self, byte: u8) -> Option<Key> {
        match std::mem::take(self) {
            Keys::Escape if matches!(byte, b'[' | b'O') => {
                *self = Keys::Sequence(0);
                None
            }
            Keys::Sequence(number) => match byte {
                b'0'..=b'9' => {
                    let digit = byte - b'0';
                    *self = Keys::Sequence(number.saturating_mul(10).saturating_add(digit));
                    None
                }
                b' '..=b'?' => {
                    *self = Keys::Sequence(number);
                    None
                }
                b'A' => Some(Key::Scroll(-1)),
                b'B' => Some(Key::Scroll(1)),
                b'H' => Some(Key::Scroll(-Key::ALL)),
                b'F' => Some(Key::Scroll(Key::ALL)),
                b'D' => Some(Key::Sort(false)),
                b'C' => Some(Key::Sort(true)),
                b'~' => match number {
                    1 | 7 => Some(Key::Scroll(-Key::ALL)),
                    4 | 8 => Some(Key::Scroll(Key::ALL)),
                    5 => Some(Key::Scroll(-Key::PAGE)),
                    6 => Some(Key::Scroll(Key::PAGE)),
                    _ => None,
                },
                _ => None,
            },
            _ => self.single(byte),
        }
    }

    fn single(&mut self, byte: u8) -> Option<Key> {
        Some(match byte {
            0x1b => {
                *self = Keys::Escape;
                return None;
            }
            b'1'..=b'4' => Key::View(usize::from(byte - b'1')),
            b'\t' => Key::NextView,
            b's' | b'>' | b'.' => Key::Sort(true),
            b'<' | b',' => Key::Sort(false),
            b'r' | b'R' => Key::Reverse,
            b' ' | b'p' | b'P' => Key::Pause,
            b'h' | b'H' | b'?' => Key::Help,
            b'j' => Key::Scroll(1),
            b'k' => Key::Scroll(-1),
            b'g' => Key::Scroll(-Key::ALL),
            b'G' => Key::Scroll(Key::ALL),
            // Ctrl with L, Z, and with C, D and \.
            0x0c => Key::Repaint,
            0x1a => Key::Suspend,
            b'q' | b'Q' | 3 | 4 | 0x1c => Key::Quit,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut keys = Keys::default();
        bytes.iter().filter_map(|byte| keys.take(*byte)).collect()
    }

    #[test]
    fn what_terminals_send_is_understood() {
        use Key::*;
        for (bytes, wanted) in [
            (&b"14\t"[..], vec![View(0), View(3), NextView]),
            (
                b"s<>r ",
                vec![Sort(true), Sort(false), Sort(true), Reverse, Pause],
            ),
            // A VT100 in both modes of its cursor keys, and with modifiers.
            (
                b"\x1b[A\x1bOB\x1b[1;5A",
                vec![Scroll(-1), Scroll(1), Scroll(-1)],
            ),
            (
                b"\x1b[5~\x1b[6~",
                vec![Scroll(-Key::PAGE), Scroll(Key::PAGE)],
            ),
            (b"\x1b[H\x1b[4~", vec![Scroll(-Key::ALL), Scroll(Key::ALL)]),
            // A key alone, then another one; what is not known, and its end.
            (b"\x1bq", vec![Quit]),
            (b"\x1b[99999;7~x\x1b[200~h", vec![Help]),
            (b"\x03\x1a\x0c", vec![Quit, Suspend, Repaint]),
        ] {
            assert_eq!(keys(bytes), wanted, "{}", bytes.escape_ascii());
        }
    }
}
