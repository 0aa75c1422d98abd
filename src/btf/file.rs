//! The bytes of a BTF file: held, mapped, or read where they are wanted.
//!
//! Contract: what lies outside of the file is `None`, as is what the kernel
//! fails to read; the last such failure is kept for the error. Nothing is read
//! ahead by more than a [`WINDOW`], and no more held than what is asked for at once.

use crate::order::{Order, Value};
use crate::sys::Errno;
use crate::sys::btf::Mapped;
use std::cell::Cell;
use std::fmt;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;

/// The longest file that is read, in bytes.
const LIMIT: u64 = 64 << 20;

/// What is read at once, in bytes. The kernel gives no more than a page of a
/// file in sysfs at a time (v6.12 fs/kernfs/file.c, `kernfs_file_read_iter`).
const WINDOW: usize = 4096;

/// Why bytes are no BTF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BtfError {
    /// The header is none, or of another version or byte order.
    Header,
    /// A section or type reaches beyond its end.
    Short,
    /// A kind of type that this program doesn't know: what follows it can't be
    /// found.
    Kind(u32),
    /// The kernel failed to read it.
    Read(Errno),
    /// It is an ELF file without a section of BTF.
    Section,
}

impl fmt::Display for BtfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BtfError::Header => f.write_str("its header can't be read"),
            BtfError::Short => f.write_str("it ends too soon"),
            BtfError::Kind(n) => write!(f, "it has types of an unknown kind ({n})"),
            BtfError::Read(errno) => write!(f, "it can't be read: {errno}"),
            BtfError::Section => f.write_str("it is an ELF file without BTF"),
        }
    }
}

/// A file, or its bytes.
pub(super) struct Reader {
    bytes: Bytes,
    /// Where it starts in the file.
    start: u64,
    len: usize,
    order: Cell<Order>,
    failure: Cell<Option<Errno>>,
}

enum Bytes {
    Held(Vec<u8>),
    Mapped(Mapped),
    File(File),
}

/// A piece of the file, which moves with what is read.
pub(super) struct Window {
    start: usize,
    len: usize,
    bytes: Vec<u8>,
}

impl Window {
    pub(super) fn new() -> Window {
        Window {
            start: 0,
            len: 0,
            bytes: Vec::new(),
        }
    }
}

impl Reader {
    /// The bytes of a file.
    pub(super) fn of(bytes: Vec<u8>) -> Reader {
        Reader {
            len: bytes.len(),
            start: 0,
            bytes: Bytes::Held(bytes),
            order: Cell::default(),
            failure: Cell::new(None),
        }
    }

    /// A file, from its start.
    pub(super) fn of_file(file: File) -> Result<Reader, Errno> {
        let len = file.metadata().map_err(|e| Errno::from_io(&e))?.len();
        Ok(Reader {
            len: len.min(LIMIT) as usize,
            start: 0,
            bytes: Bytes::File(file),
            order: Cell::default(),
            failure: Cell::new(None),
        })
    }

    /// The running kernel's own file: from Linux 6.16 on it is mapped, which saves
    /// thousands of reads.
    pub(super) fn of_kernel(file: File) -> Result<Reader, Errno> {
        let mut reader = Reader::of_file(file)?;
        if let Bytes::File(file) = &reader.bytes {
            if let Ok(mapped) = Mapped::new(file, reader.len) {
                reader.bytes = Bytes::Mapped(mapped);
            }
        }
        Ok(reader)
    }

    /// A part of a file.
    pub(super) fn of_part(file: File, start: u64, len: u64) -> Reader {
        Reader {
            len: len.min(LIMIT) as usize,
            start,
            bytes: Bytes::File(file),
            order: Cell::default(),
            failure: Cell::new(None),
        }
    }

    /// Bytes in all.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Which byte of its numbers comes first; until it is said, as on this host.
    pub(super) fn set_order(&self, order: Order) {
        self.order.set(order);
    }

    /// That order.
    pub(super) fn order(&self) -> Order {
        self.order.get()
    }

    /// What has been read at once, from `from` to `to`.
    pub(super) fn held<'a>(&'a self, window: &'a Window, from: usize, to: usize) -> &'a [u8] {
        let (bytes, start) = match &self.bytes {
            Bytes::Held(bytes) => (&bytes[..], 0),
            Bytes::Mapped(mapped) => (mapped.bytes(), 0),
            Bytes::File(_) => (&window.bytes[..], window.start),
        };
        let from = from.saturating_sub(start);
        bytes
            .get(from..to.saturating_sub(start))
            .unwrap_or_default()
    }

    /// Why something could not be had: the kernel failed to read it, or `what`.
    pub(super) fn why(&self, what: BtfError) -> BtfError {
        self.failure.get().map_or(what, BtfError::Read)
    }

    /// The bytes from `at` on, at least `want` of them.
    #[inline]
    pub(super) fn slice<'a>(
        &'a self,
        window: &'a mut Window,
        at: usize,
        want: usize,
    ) -> Option<&'a [u8]> {
        if at.checked_add(want)? > self.len {
            return None;
        }
        let file = match &self.bytes {
            Bytes::Held(bytes) => return bytes.get(at..),
            Bytes::Mapped(mapped) => return mapped.bytes().get(at..),
            Bytes::File(file) => file,
        };
        if at < window.start || at + want > window.start + window.len {
            self.refill(file, window, at, want)?;
        }
        window.bytes.get(at - window.start..window.len)
    }

    /// Moves the window to `at`, with at least `want` bytes.
    #[cold]
    fn refill(&self, file: &File, window: &mut Window, at: usize, want: usize) -> Option<()> {
        window.bytes.resize(WINDOW.max(want), 0);
        (window.start, window.len) = (at, 0);
        while window.len < want {
            let to = window.bytes.get_mut(window.len..)?;
            match file.read_at(to, self.start.saturating_add((at + window.len) as u64)) {
                Ok(0) => return None,
                Ok(count) => window.len += count,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => {
                    self.failure.set(Some(Errno::from_io(&e)));
                    return None;
                }
            }
        }
        Some(())
    }

    /// `N` numbers of 32 bits from `at` on.
    #[inline]
    pub(super) fn words<const N: usize>(&self, window: &mut Window, at: usize) -> Option<[u32; N]> {
        let bytes = self.slice(window, at, 4 * N)?;
        let mut words = [0; N];
        for (word, four) in words.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::read(four, self.order.get());
        }
        Some(words)
    }
}

/// Whether the string that stands at this place among them is this one.
pub(super) fn is(strings: &[u8], at: u32, text: &str) -> bool {
    let rest = strings.get(at as usize..);
    let rest = rest.and_then(|rest| rest.strip_prefix(text.as_bytes()));
    rest.is_some_and(|rest| rest.first() == Some(&0))
}

/// The string that stands at this place among them, if it has no more than
/// `most` bytes.
pub(super) fn string(strings: &[u8], at: u32, most: usize) -> Option<&[u8]> {
    let rest = strings.get(at as usize..)?;
    let len = rest.iter().take(most + 1).position(|byte| *byte == 0)?;
    rest.get(..len)
}
