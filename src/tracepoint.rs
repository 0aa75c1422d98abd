//! Tracepoints as tracefs describes them: finding tracefs, reading an event's
//! `id` and `format`, opening and attaching.
//!
//! Contract: nothing in a record is trusted by position. Offset and size of a
//! field come from the host's `format` file; the C type text there is not
//! used (it lies at times). What the file says is checked before it is used.

use crate::bpf_link::HostField;
use crate::error::{Error, Kind};
use crate::host::lockdown;
use crate::host::symbols;
use crate::model::text::cut;
use crate::sys::{Errno, file, perf_event, tracefs};
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use nix::sys::statfs::{FsType, TRACEFS_MAGIC, fstatfs};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The longest file of tracefs that is read, in bytes. The longest `format`
/// seen is 4 KiB; the kernel itself renders them without a limit.
pub(crate) const FILE_LIMIT: usize = 256 * 1024;

/// The largest record of a tracepoint, in bytes (PERF_MAX_TRACE_SIZE,
/// include/linux/trace_events.h, is 8192; 2048 before 5.12).
const RECORD_LIMIT: u32 = 8192;

/// Where tracefs was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Mounted here already.
    Mounted(String),
    /// A mount of our own that nobody else sees.
    Private,
}

/// An open tracefs.
#[derive(Debug)]
pub struct TraceFs {
    root: OwnedFd,
    origin: Origin,
}

impl TraceFs {
    /// Opens tracefs: where it is mounted, else privately. Nothing is mounted
    /// for others, and automounts are not set off.
    pub fn open() -> Result<TraceFs, Error> {
        let mounts = file::text("/proc/self/mountinfo").unwrap_or_default();
        for place in mounted_at(&mounts)
            .into_iter()
            .chain(["/sys/kernel/tracing".into()])
        {
            if let Some(root) = open_if_tracefs(&place) {
                return Ok(TraceFs {
                    root,
                    origin: Origin::Mounted(place),
                });
            }
        }
        TraceFs::private()
    }

    /// Opens tracefs by a private mount, wherever else it may be mounted. Not
    /// under lockdown=confidentiality, where it would be empty, and to let go
    /// of it dangerous: see [`lockdown`].
    pub fn private() -> Result<TraceFs, Error> {
        if lockdown::is_confidential() {
            return Err(Error::new(
                Kind::Unsupported,
                "tracefs has no tracepoints: lockdown=confidentiality hides them",
            ));
        }
        let root = tracefs::detached().or_else(|first| match first {
            Errno::ENOSYS => tracefs::in_own_namespace(),
            other => Err(other),
        });
        match root {
            Ok(root) => Ok(TraceFs {
                root,
                origin: Origin::Private,
            }),
            Err(errno @ (Errno::EPERM | Errno::EACCES)) => Err(Error::new(
                Kind::Permission,
                format!(
                    "cannot open tracefs: it is not mounted and a private mount was refused ({errno})"
                ),
            )
            .advise("run as root, or mount it: mount -t tracefs tracefs /sys/kernel/tracing")),
            Err(errno @ Errno::ENODEV) => Err(Error::new(
                Kind::Unsupported,
                format!("cannot open tracefs: this kernel has none ({errno})"),
            )
            .advise("it takes one built with tracing (CONFIG_FTRACE)")),
            Err(errno) => Err(Error::new(
                Kind::Runtime,
                format!("cannot open tracefs: it is not mounted and no private mount ({errno})"),
            )
            .advise("mount it: mount -t tracefs tracefs /sys/kernel/tracing")
            .or_limit(errno)),
        }
    }

    /// Where this tracefs was found.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The names that a tracepoint prints for the numbers of a field; none where
    /// it has none or can't be read.
    pub fn symbols(&self, group: &str, name: &str, field: &str) -> Vec<(u32, String)> {
        let path = format!("events/{group}/{name}/format");
        let text = read_at(self.root.as_fd(), &path).unwrap_or_default();
        symbols::symbols(&text, field)
    }

    /// Reads a tracepoint's id and format.
    pub fn event(&self, group: &str, name: &str) -> Result<Tracepoint, Error> {
        let since = if name == "tcp_rcv_space_adjust" {
            18
        } else {
            16
        };
        let read = |file: &str| {
            let path = format!("events/{group}/{name}/{file}");
            read_at(self.root.as_fd(), &path).map_err(|errno| match errno {
                Errno::EACCES | Errno::EPERM => Error::new(
                    Kind::Permission,
                    format!("cannot read tracefs {path}: {errno}"),
                )
                .advise("run as root or with CAP_DAC_READ_SEARCH"),
                Errno::ENOENT => Error::new(
                    Kind::Unsupported,
                    format!("this kernel has no tracepoint {group}:{name} (tracefs has no {path})"),
                )
                .advise(format!(
                    "it needs Linux 4.{since} or later, and is hidden under lockdown=confidentiality"
                )),
                _ => Error::new(
                    Kind::Runtime,
                    format!("cannot read tracefs {path}: {errno}"),
                )
                .or_limit(errno),
            })
        };
        let bad = |what: &dyn fmt::Display| {
            Error::new(
                Kind::Unsupported,
                format!("cannot use tracepoint {group}:{name}: {what}"),
            )
            .advise("please report this kernel")
        };
        let id = read("id")?;
        let id = std::str::from_utf8(&id)
            .ok()
            .and_then(|text| text.trim().parse::<u32>().ok())
            .ok_or_else(|| bad(&"its id file holds no number"))?;
        let format = Format::parse(&read("format")?).map_err(|e| bad(&e))?;
        Ok(Tracepoint {
            group: group.into(),
            name: name.into(),
            id,
            format,
        })
    }
}

fn read_at(dir: BorrowedFd<'_>, path: &str) -> Result<Vec<u8>, Errno> {
    let fd = openat(dir, path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    file::rest(&fd, FILE_LIMIT)
}

fn open_if_tracefs(path: &str) -> Option<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let fd = open(path, flags, Mode::empty()).ok()?;
    let is: FsType = fstatfs(&fd).ok()?.filesystem_type();
    (is == TRACEFS_MAGIC).then_some(fd)
}

/// The mount points of tracefs in a mountinfo file (proc_pid_mountinfo(5)).
pub fn mounted_at(mountinfo: &[u8]) -> Vec<String> {
    let mut places = Vec::new();
    for line in mountinfo.split(|&b| b == b'\n') {
        let Ok(line) = std::str::from_utf8(line) else {
            continue;
        };
        let Some((mount, source)) = cut(line, " - ") else {
            continue;
        };
        if source.split(' ').next() != Some("tracefs") {
            continue;
        }
        // Field 4 is the root within the file system: a bind mount of a part won't do.
        let mut fields = mount.split(' ').skip(3);
        if let (Some("/"), Some(place)) = (fields.next(), fields.next()) {
            places.push(unescape(place));
        }
    }
    places
}

/// Undoes the octal escapes of mountinfo (`\040`); what is no escape stays.
pub fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        let octal = |digits: &str| {
            let all = digits.bytes().all(|b| (b'0'..=b'7').contains(&b));
            all.then(|| u8::from_str_radix(digits, 8).ok()).flatten()
        };
        let split = after.split_at_checked(3);
        match split.and_then(|(digits, left)| Some((octal(digits)?, left))) {
            Some((byte, left)) if byte.is_ascii() => {
                out.push(char::from(byte));
                rest = left;
            }
            _ => {
                out.push('\\');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// One field of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name, without an array's brackets.
    pub name: String,
    /// Bytes from the start of the record.
    pub offset: u16,
    /// Bytes.
    pub size: u16,
    /// Whether it is a signed number.
    pub signed: bool,
}

/// Why a `format` file can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FormatError {
    /// There is no field in it.
    Empty,
    /// A line that starts like a field can't be read (its number, from 1).
    Line(usize),
    /// A field lies outside of any record.
    Range(String),
    /// Two fields have one name.
    Twice(String),
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FormatError::Empty => f.write_str("its format file names no field"),
            FormatError::Line(n) => write!(f, "line {n} of its format file can't be read"),
            FormatError::Range(name) => {
                write!(f, "its format file puts field {name} outside of the record")
            }
            FormatError::Twice(name) => write!(f, "its format file names field {name} twice"),
        }
    }
}

/// A record's layout, from its `format` file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    fields: Vec<Field>,
}

impl Format {
    /// Reads a `format` file (kernel/trace/trace_events.c, f_show: the lines
    /// `\tfield:TYPE NAME[N];\toffset:N;\tsize:N;\tsigned:N;`). What isn't a
    /// field is passed over.
    pub fn parse(text: &[u8]) -> Result<Format, FormatError> {
        let mut fields: Vec<Field> = Vec::new();
        for (index, line) in text.split(|&b| b == b'\n').enumerate() {
            let Some(rest) = line.trim_ascii_start().strip_prefix(b"field:") else {
                continue;
            };
            let bad = || FormatError::Line(index + 1);
            let rest = std::str::from_utf8(rest).map_err(|_| bad())?;
            let mut parts = rest.split(';').map(str::trim);
            let name = field_name(parts.next().unwrap_or("")).ok_or_else(bad)?;
            let mut number = |key: &str| {
                let part = parts.next()?.strip_prefix(key)?.strip_prefix(':')?;
                part.parse::<u32>().ok()
            };
            let (offset, size, signed) = number("offset")
                .zip(number("size"))
                .zip(number("signed"))
                .map(|((offset, size), signed)| (offset, size, signed != 0))
                .ok_or_else(bad)?;
            match offset.checked_add(size) {
                Some(end) if end <= RECORD_LIMIT && size > 0 => {}
                // A dynamic array at the end of a record may have no size.
                Some(end) if end <= RECORD_LIMIT => continue,
                _ => return Err(FormatError::Range(name.into())),
            }
            if fields.iter().any(|f| f.name == name) {
                return Err(FormatError::Twice(name.into()));
            }
            fields.push(Field {
                name: name.into(),
                offset: offset as u16,
                size: size as u16,
                signed,
            });
        }
        if fields.is_empty() {
            return Err(FormatError::Empty);
        }
        Ok(Format { fields })
    }

    /// The field of this name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|f| f.name == name)
    }

    /// Offset and size of a field, for the linker.
    pub fn host_field(&self, name: &str) -> Option<HostField> {
        self.field(name).map(|f| HostField {
            offset: f.offset,
            size: f.size,
        })
    }

    /// All fields in the order of the file.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }
}

/// The identifier at the end of a C declaration, before an array's brackets.
fn field_name(declaration: &str) -> Option<&str> {
    let name = match declaration.strip_suffix(']') {
        Some(array) => array.rsplit_once('[')?.0.trim_end(),
        None => declaration,
    };
    let before = name.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
    let word = name.strip_prefix(before)?;
    let first = word.chars().next()?;
    // A type alone, without a name, has nothing before the word.
    (!before.is_empty() && !first.is_ascii_digit()).then_some(word)
}

/// A tracepoint of this host.
#[derive(Debug)]
pub struct Tracepoint {
    /// Its group, such as `sock`.
    pub group: String,
    /// Its name, such as `inet_sock_set_state`.
    pub name: String,
    /// Its number for perf_event_open(2).
    pub id: u32,
    /// Its record.
    pub format: Format,
}

/// A program on a tracepoint; detached when dropped.
#[derive(Debug)]
pub struct Attached {
    _event: OwnedFd,
}

impl From<OwnedFd> for Attached {
    fn from(fd: OwnedFd) -> Attached {
        Attached { _event: fd }
    }
}

impl Tracepoint {
    /// Attaches a program: one perf event, on any CPU that is online, covers
    /// them all. The event itself only counts and takes no samples.
    pub fn attach(&self, prog: BorrowedFd<'_>, online: &[u32]) -> Result<Attached, Error> {
        let attr = perf_event::Attr::new(perf_event::TYPE_TRACEPOINT, u64::from(self.id));
        let what = format!("{}:{}", self.group, self.name);
        let mut opened = Err(Errno::ENODEV);
        for &cpu in online {
            opened = perf_event::open(&attr, cpu);
            if !matches!(opened, Err(Errno::ENODEV)) {
                break;
            }
        }
        let event = opened.map_err(|errno| match errno {
            Errno::EPERM | Errno::EACCES => Error::new(
                Kind::Permission,
                format!("cannot open tracepoint {what} (perf_event_open: {errno})"),
            )
            .advise("run as root or with CAP_PERFMON"),
            Errno::ENOSYS => Error::new(
                Kind::Unsupported,
                "this kernel has no perf_event_open(2) (CONFIG_PERF_EVENTS)",
            ),
            _ => Error::new(
                Kind::Runtime,
                format!("cannot open tracepoint {what} (perf_event_open: {errno})"),
            )
            .or_limit(errno),
        })?;
        perf_event::set_bpf(event.as_fd(), prog).map_err(|errno| match errno {
            Errno::EACCES => Error::new(
                Kind::Refused,
                format!(
                    "the kernel refused the program for {what} at attach ({errno}): \
                     it reads past the end of the record"
                ),
            )
            .advise("please report this kernel"),
            Errno::E2BIG => Error::new(
                Kind::Runtime,
                format!("cannot attach to {what} ({errno}): too many programs are attached there"),
            ),
            _ => Error::new(
                Kind::Refused,
                format!("cannot attach the program to {what} (PERF_EVENT_IOC_SET_BPF: {errno})"),
            ),
        })?;
        perf_event::enable(event.as_fd()).map_err(|errno| {
            Error::new(
                Kind::Runtime,
                format!("cannot enable tracepoint {what} (PERF_EVENT_IOC_ENABLE: {errno})"),
            )
        })?;
        Ok(Attached { _event: event })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn mountinfo_gives_whole_tracefs_mounts() {
        let text = b"22 1 0:20 / /sys/kernel/tracing rw - tracefs tracefs rw\n\
            23 1 0:20 / /mnt/a\\040b\\134c rw shared:3 - tracefs none rw\n\
            24 1 0:20 /events /mnt/part rw - tracefs none rw\n\
            25 1 0:21 / /proc rw - proc proc rw\n\xff\xfe\nshort\n";
        assert_eq!(mounted_at(text), ["/sys/kernel/tracing", "/mnt/a b\\c"]);
    }

    #[test]
    fn names_of_fields() {
        assert_eq!(field_name("const void * skaddr"), Some("skaddr"));
        assert_eq!(field_name("__u8 saddr[4]"), Some("saddr"));
        assert_eq!(field_name("__data_loc char[] name"), Some("name"));
        assert_eq!(field_name("skaddr"), None);
        assert_eq!(field_name("int 4x"), None);
        // What stands before it may be of any characters.
        assert_eq!(field_name("\u{e9}sport"), Some("sport"));
        assert_eq!(field_name("\u{1f980}a[\u{fc}]"), Some("a"));
        assert_eq!(field_name("int \u{e9}"), None);
        assert_eq!(field_name(""), None);
    }

    #[test]
    fn no_escape_cuts_a_character() {
        for (text, plain) in [
            ("\\040x", " x"),
            ("\\+12", "\\+12"),
            ("\\04", "\\04"),
            ("\\\u{e9}\u{e9}", "\\\u{e9}\u{e9}"),
            ("\\0\u{20ac}", "\\0\u{20ac}"),
        ] {
            assert_eq!(unescape(text), plain);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in ".{0,60}", rest in ";\\PC{0,40}", bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            unescape(&text);
            field_name(&text);
            mounted_at(text.as_bytes());
            mounted_at(&bytes);
            let line = format!("\tfield:{text}{rest}\n\tfield:{text};\toffset:8;\tsize:4;\tsigned:0;\n");
            for format in [line.as_bytes(), &bytes[..]] {
                let _ = Format::parse(format);
                symbols::symbols(format, &text);
            }
        }
    }
}
