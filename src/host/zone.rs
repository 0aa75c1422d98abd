//! The time zone that `TZ` names, as date(1) and all else on a host with glibc
//! understand it.
//!
//! musl, which the program is linked with, takes `EST5EDT` for a rule although
//! there is a file of that name, and a rule that says nothing of when summer
//! begins for one in which it never ends.
//!
//! Contract: the file comes first, then the rule (glibc 2.36 time/tzset.c,
//! tzset_internal() and __tzset_parse_tz(); time/tzfile.c, __tzfile_read()). As
//! there, a process that was given privileges by its file reads no file but
//! those of the system. What can't be understood is UTC.

use crate::sys::{file, time};
use nix::fcntl::OFlag;
use std::env;
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// Where the files of zones are, if `TZDIR` doesn't say.
const ZONES: &[u8] = b"/usr/share/zoneinfo";
/// The one of this host, which may always be read.
const HOST: &[u8] = b"/etc/localtime";

/// When summer begins and ends in the United States, and so wherever a rule
/// doesn't say (glibc 2.36 time/tzset.c, parse_rule()).
const BEGIN: &[u8] = b"M3.2.0";
const END: &[u8] = b"M11.1.0";

/// Lets local time be that of `TZ`, if that is set. Once, while the process has
/// one thread.
pub fn settle() {
    let given = |name| env::var_os(name).map(OsString::into_vec);
    if cfg!(target_env = "musl") {
        if let Some(tz) = given("TZ") {
            let zones = given("TZDIR").unwrap_or_default();
            let meant = understand(&tz, &zones, time::is_secure(), &|path| is_zone(path));
            time::set_zone(meant);
        }
    }
}

/// Whether a file is one of a zone (tzfile(5)). Nothing that could block, or
/// that reading changes, is opened.
fn is_zone(path: &Path) -> bool {
    let mut magic = [0; 4];
    file::is_regular(path)
        && file::open(path, OFlag::O_RDONLY)
            .is_ok_and(|mut file| file.read_exact(&mut magic).is_ok())
        && magic == *b"TZif"
}

/// What musl is to find in `TZ`. `zones` is `TZDIR`, or empty; `secure` whether
/// the process was given privileges; `is_zone` looks at a file.
pub fn understand(
    tz: &[u8],
    zones: &[u8],
    secure: bool,
    is_zone: &dyn Fn(&Path) -> bool,
) -> Vec<u8> {
    let name = tz.strip_prefix(b":").unwrap_or(tz);
    let file = file(name, zones, secure, is_zone);
    file.or_else(|| rule(name))
        .unwrap_or_else(|| b"UTC0".into())
}

fn file(
    name: &[u8],
    zones: &[u8],
    secure: bool,
    is_zone: &dyn Fn(&Path) -> bool,
) -> Option<Vec<u8>> {
    let is_file = |path: &[u8]| is_zone(Path::new(std::ffi::OsStr::from_bytes(path)));
    let below = |folder: &[u8], name: &[u8]| [folder, b"/", name].concat();
    if name.is_empty() || name.contains(&0) {
        return None;
    }
    if secure {
        if name == HOST && is_file(HOST) {
            return Some([b":", HOST].concat());
        }
        // musl then looks for names only, and for none with a dot.
        let name = match name.strip_prefix(b"/") {
            Some(_) => name.strip_prefix(ZONES)?.strip_prefix(b"/")?,
            None => name,
        };
        let fits = !name.contains(&b'.') && !name.starts_with(b"/") && is_file(&below(ZONES, name));
        return fits.then(|| [b":", name].concat());
    }
    let folder = if zones.is_empty() { ZONES } else { zones };
    let path = match name.first() {
        Some(b'/') => name.to_vec(),
        _ => below(folder, name),
    };
    // musl looks for what begins with another letter in folders of its own.
    let from = if path.starts_with(b"/") { "" } else { "./" };
    is_file(&path).then(|| [b":", from.as_bytes(), &path].concat())
}

/// Takes the first bytes of which all fit; the rest.
fn span<'a>(text: &'a [u8], fits: &dyn Fn(&u8) -> bool) -> (&'a [u8], &'a [u8]) {
    let end = text.iter().position(|b| !fits(b)).unwrap_or(text.len());
    text.split_at(end)
}

/// A zone's abbreviation: letters, or more in angle brackets. Returned as
/// `<…>`.
fn abbreviation(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let (mut name, mut rest) = span(text, &u8::is_ascii_alphabetic);
    if name.len() < 3 {
        let inner = text.strip_prefix(b"<")?;
        (name, rest) = span(inner, &|b| b.is_ascii_alphanumeric() || b"+-".contains(b));
        rest = rest.strip_prefix(b">")?;
    }
    (name.len() >= 3).then(|| ([b"<", name, b">"].concat(), rest))
}

/// How far it is behind UTC: hours, minutes and seconds, which are at most 24,
/// 59 and 59.
fn offset(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let sign = text.first().filter(|b| b"+-".contains(b));
    let mut rest = text.get(usize::from(sign.is_some())..)?;
    let mut out = vec![*sign.unwrap_or(&b'+')];
    for (at, most) in [24u32, 59, 59].into_iter().enumerate() {
        let from = match at {
            0 => rest,
            _ => rest.strip_prefix(b":").unwrap_or(b""),
        };
        let (digits, after) = span(from, &u8::is_ascii_digit);
        let number = digits.iter().fold(0u32, |number, digit| {
            number
                .saturating_mul(10)
                .saturating_add(u32::from(digit - b'0'))
        });
        match (digits, at) {
            ([], 0) => return None,
            ([], _) => break,
            _ => {}
        }
        let number = number.min(most).to_string();
        out.extend_from_slice(if at == 0 { b"" } else { b":" });
        out.extend_from_slice(number.as_bytes());
        rest = after;
    }
    Some((out, rest))
}

/// `STDOFFSET[DST[OFFSET][,BEGIN[,END]]]` with everything that it leaves out.
fn rule(text: &[u8]) -> Option<Vec<u8>> {
    let (mut out, rest) = abbreviation(text)?;
    let (number, rest) = offset(rest)?;
    out.extend(number);
    let Some((summer, rest)) = abbreviation(rest) else {
        return Some(out);
    };
    out.extend(summer);
    let (number, rest) = offset(rest).unwrap_or((Vec::new(), rest));
    out.extend(number);
    let rest = rest.strip_prefix(b",").unwrap_or(rest);
    let mut parts = rest.split(|&b| b == b',');
    for default in [BEGIN, END] {
        let given = parts.next().filter(|part| !part.is_empty());
        out.push(b',');
        out.extend_from_slice(given.unwrap_or(default));
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// With these files, or an empty `TZDIR`.
    fn with(files: &[&str], tz: &str, zones: &str, secure: bool) -> String {
        let is_zone = |path: &Path| files.iter().any(|file| path == Path::new(file));
        let meant = understand(tz.as_bytes(), zones.as_bytes(), secure, &is_zone);
        String::from_utf8(meant).expect("text")
    }

    #[test]
    fn the_file_comes_first() {
        let est = "/usr/share/zoneinfo/EST5EDT";
        let files = [
            est,
            "/z/EST5EDT",
            "z/A",
            "/etc/localtime",
            "/usr/x",
            "/usr/share/zoneinfo/../x",
        ];
        for (tz, zones, secure, meant) in [
            ("EST5EDT", "", false, ":/usr/share/zoneinfo/EST5EDT"),
            (":EST5EDT", "", false, ":/usr/share/zoneinfo/EST5EDT"),
            ("EST5EDT", "/z", false, ":/z/EST5EDT"),
            ("EST5EDT", "/none", false, "<EST>+5<EDT>,M3.2.0,M11.1.0"),
            ("A", "z", false, ":./z/A"),
            ("/usr/x", "", false, ":/usr/x"),
            ("../x", "", false, ":/usr/share/zoneinfo/../x"),
            ("/etc/localtime", "", false, ":/etc/localtime"),
            // With privileges: the system's alone, wherever TZDIR points.
            ("EST5EDT", "/z", true, ":EST5EDT"),
            (est, "", true, ":EST5EDT"),
            ("/etc/localtime", "", true, ":/etc/localtime"),
            ("/usr/x", "", true, "UTC0"),
            ("../x", "", true, "UTC0"),
            ("/usr/share/zoneinfo/../x", "", true, "UTC0"),
            ("/usr/share/zoneinfo//usr/x", "", true, "UTC0"),
        ] {
            assert_eq!(with(&files, tz, zones, secure), meant, "{tz} {zones}");
        }
    }

    #[test]
    fn then_the_rule() {
        for (tz, meant) in [
            ("", "UTC0"),
            (":", "UTC0"),
            ("nonsense", "UTC0"),
            ("AB3", "UTC0"),
            ("UTC", "UTC0"),
            ("\u{e9}t\u{e9}5", "UTC0"),
            ("JST-9", "<JST>-9"),
            ("<+0330>-3:30", "<+0330>-3:30"),
            ("EST5EDT", "<EST>+5<EDT>,M3.2.0,M11.1.0"),
            (":EST5EDT,", "<EST>+5<EDT>,M3.2.0,M11.1.0"),
            ("EST5EDT4,M4.1.0/3", "<EST>+5<EDT>+4,M4.1.0/3,M11.1.0"),
            ("AAA1BBB,J60,300/1:30", "<AAA>+1<BBB>,J60,300/1:30"),
            ("AAA99:99:99", "<AAA>+24:59:59"),
            ("AAA99999999999999999999", "<AAA>+24"),
            ("AAA+", "UTC0"),
            ("AAA1?", "<AAA>+1"),
            ("<AAA", "UTC0"),
        ] {
            assert_eq!(with(&[], tz, "", false), meant, "{tz}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(tz in prop::collection::vec(any::<u8>(), 0..30), zones in ".{0,8}", secure: bool, is: bool) {
            let meant = understand(&tz, zones.as_bytes(), secure, &|_| is);
            prop_assert!(!meant.is_empty());
        }

        #[test]
        fn any_rule_is_taken(tz in "[A-Z<>]{0,5}[+-]?[0-9:]{0,9}[A-Z<>+]{0,6}[-0-9:,MJ./]{0,12}") {
            understand(tz.as_bytes(), b"", false, &|_| false);
        }
    }
}
