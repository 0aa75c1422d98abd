//! The tracepoints' formats of many kernels, and records made up for them.

use crate::programs::program;
use socket_snoop::capture::decoder::Decoder;
use socket_snoop::order::Order;
use socket_snoop::programs::{Name, RESET_RECEIVED, RESET_SENT, RETRANSMIT, STATE, SYNACK};
use socket_snoop::tracepoint::{Format, Tracepoint};
use std::fs;
use std::path::PathBuf;

/// The programs whose fields are wanted, in the order of [`Kernel::formats`].
pub const PROGRAMS: [Name; 5] = [STATE, RETRANSMIT, SYNACK, RESET_SENT, RESET_RECEIVED];
pub const IDS: [u32; 5] = [1293, 2281, 2287, 2280, 2279];

/// The format files of a kernel's tracepoints.
#[derive(Clone)]
pub struct Kernel {
    pub name: String,
    pub formats: [String; 5],
}

impl Kernel {
    /// A record of one of the tracepoints; every byte that is no field of ours
    /// is garbage.
    pub fn record(&self, which: usize) -> Record<'_> {
        self.record_in(Order::NATIVE, which)
    }

    /// One of a host with this byte order.
    pub fn record_in(&self, order: Order, which: usize) -> Record<'_> {
        Record::new(order, &self.formats[which], IDS[which])
    }
}

pub fn kernels() -> Vec<Kernel> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/formats");
    let all: Vec<Kernel> = fs::read_dir(root)
        .expect("tests/data/formats")
        .map(|folder| {
            let folder = folder.expect("a folder").path();
            let read = |name| {
                let program = program(name);
                let file = format!("{}/{}.format", program.group, program.event);
                fs::read_to_string(folder.join(&file)).expect(&file)
            };
            Kernel {
                name: folder.display().to_string(),
                formats: PROGRAMS.map(read),
            }
        })
        .collect();
    assert!(all.len() >= 14, "{} kernels", all.len());
    all
}

pub fn tracepoint(kernel: &Kernel, which: usize) -> Tracepoint {
    Tracepoint {
        group: program(PROGRAMS[which]).group.clone(),
        name: program(PROGRAMS[which]).event.clone(),
        id: IDS[which],
        format: Format::parse(kernel.formats[which].as_bytes()).expect("a format"),
    }
}

pub fn decoder(kernel: &Kernel) -> Result<Decoder, String> {
    decoder_in(Order::NATIVE, kernel)
}

pub fn decoder_in(order: Order, kernel: &Kernel) -> Result<Decoder, String> {
    let mut decoder = Decoder::of(order);
    for (which, name) in PROGRAMS.iter().enumerate() {
        let tracepoint = tracepoint(kernel, which);
        let added = decoder.add(&tracepoint, program(*name));
        added.map_err(|e| e.to_string())?;
    }
    Ok(decoder)
}

/// Where a field lies, read by words, not by position.
pub fn place(format: &str, name: &str) -> Option<(usize, usize)> {
    let line = format.lines().find(|line| {
        let declaration = line.split(';').next().unwrap_or("");
        let word = declaration.rsplit([' ', '*']).next().unwrap_or("");
        line.contains("field:") && word.split('[').next() == Some(name)
    })?;
    let number = |key: &str| {
        let rest = &line[line.find(key)? + key.len()..];
        rest.split(';').next()?.parse().ok()
    };
    Some((number("offset:")?, number("size:")?))
}

pub struct Record<'a> {
    pub format: &'a str,
    pub bytes: Vec<u8>,
    order: Order,
}

impl Record<'_> {
    pub fn new(order: Order, format: &str, id: u32) -> Record<'_> {
        let bytes = vec![0xa5; 120];
        Record {
            format,
            bytes,
            order,
        }
        .with("common_type", id.into())
        .with("common_flags", 0)
        .with("common_pid", 4242)
    }

    /// The first bytes of it.
    pub fn cut(&self, len: usize) -> Self {
        Record {
            bytes: self.bytes[..len].to_vec(),
            ..*self
        }
    }

    pub fn has(&self, name: &str) -> bool {
        place(self.format, name).is_some()
    }

    /// A number, as wide as the field is; passed over where there is no field.
    pub fn with(self, name: &str, value: u64) -> Self {
        match place(self.format, name) {
            Some((_, size)) if self.order == Order::Little => {
                self.put(name, &value.to_le_bytes()[..size])
            }
            Some((_, size)) => self.put(name, &value.to_be_bytes()[8 - size..]),
            None => self,
        }
    }

    pub fn put(mut self, name: &str, bytes: &[u8]) -> Self {
        let (at, size) = place(self.format, name).expect(name);
        assert_eq!(size, bytes.len(), "{name}");
        self.bytes[at..at + size].copy_from_slice(bytes);
        self
    }

    pub fn ends(self) -> Self {
        let v6 = |last| [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
        self.with("skaddr", 0xffff_8880_1234_5678)
            .with("sport", 40_000)
            .with("dport", 443)
            .with("family", libc::AF_INET6 as u64)
            .put("saddr_v6", &v6(1))
            .put("daddr_v6", &v6(2))
    }
}
