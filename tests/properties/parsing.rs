//! What is read as text or as a file: formats, BTF, sock_diag, /proc, arguments.

use std::net::IpAddr;
use std::path::Path;

use super::programs::program;
use socket_snoop::btf::{Btf, Kind};
use socket_snoop::capture::decoder::Decoder;
use socket_snoop::cli::{self, Command};
use socket_snoop::filter::Names;
use socket_snoop::filter::eval::Judge;
use socket_snoop::filter::parse::parse;
use socket_snoop::filter::tree::Expr;
use socket_snoop::host::{proc, symbols, timens, zone};
use socket_snoop::model::event::COMM_LEN;
use socket_snoop::model::text::is_unseen;
use socket_snoop::programs::{self, Name};
use socket_snoop::snapshot::{diag as messages, scan as processes};
use socket_snoop::tracepoint::{Format, Tracepoint, mounted_at, unescape};

/// The programs whose records are read here, too.
const READ: [Name; 6] = [
    programs::STATE,
    programs::RETRANSMIT,
    programs::SYNACK,
    programs::RESET_SENT,
    programs::RESET_RECEIVED,
    programs::DESTROY,
];

/// Up to the first NUL a `format` file, then a record laid out by it.
pub fn formats(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |&b| b == 0);
    let text = parts.next().unwrap_or_default();
    let record = parts.next().unwrap_or_default();
    for (_, name) in symbols::symbols(text, "reason") {
        assert!(symbols::is_name(&name));
    }
    let Ok(format) = Format::parse(text) else {
        return;
    };
    assert!(!format.fields().is_empty());
    for field in format.fields() {
        assert!(field.size > 0 && u32::from(field.offset) + u32::from(field.size) <= 8192);
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        assert!(!field.name.is_empty() && field.name.chars().all(word));
        let found = format.host_field(&field.name).map(|f| (f.offset, f.size));
        assert_eq!(found, Some((field.offset, field.size)));
    }
    for (id, template) in (1..).zip(READ.map(program)) {
        let mut decoder = Decoder::default();
        let tracepoint = Tracepoint {
            group: template.group.clone(),
            name: template.event.clone(),
            id,
            format: format.clone(),
        };
        if let Err(why) = decoder.add(&tracepoint, template) {
            one_line(&why.to_string());
            continue;
        }
        assert!(decoder.longest() <= 8192);
        // The record as it is, and as one of this tracepoint.
        let mut own = record.to_vec();
        let kind = format.field("common_type").map(|f| usize::from(f.offset));
        if let Some(place) = kind.and_then(|at| own.get_mut(at..at + 2)) {
            place.copy_from_slice(&(id as u16).to_ne_bytes());
        }
        for record in [record, &own] {
            if let Ok(Some(decoded)) = decoder.decode(7, 3, record) {
                assert_eq!((decoded.event.time, decoded.event.cpu), (7, 3));
            }
        }
    }
}

/// A message is a line that no terminal obeys.
fn one_line(text: &str) {
    assert!(!text.is_empty() && !text.chars().any(is_unseen), "{text:?}");
}

/// A BTF file, asked for everything that the programs want.
pub fn btf(bytes: &[u8]) {
    let btf = match Btf::parse(bytes.to_vec()) {
        Ok(btf) => btf,
        Err(why) => return one_line(&why.to_string()),
    };
    // A type takes 12 bytes at least.
    assert!(btf.len() <= bytes.len() / 12);
    for template in [
        programs::STATE_BTF,
        programs::RETRANSMIT_BTF,
        programs::RESET_SENT_BTF,
    ]
    .map(program)
    {
        let tracepoint = btf.tracepoint(&template.event);
        for field in &template.fields {
            let found = match &tracepoint {
                Some(tracepoint) => tracepoint.field(&field.name),
                None => btf.field(&field.name),
            };
            let argument = field.name.starts_with("arg");
            assert!(!argument || found.is_none_or(|found| found.size == 8));
        }
    }
    if let Some(function) = btf.function("inet_csk_accept") {
        for field in &program(programs::ACCEPT).fields {
            function.field(&field.name);
        }
        assert!(function.parameters() <= 12);
    }
    for (_, name) in btf.symbols("sk_rst_reason", "SK_RST_REASON_") {
        assert!(symbols::is_name(&name));
    }
    btf.has_enumerator("sk_rst_reason", "SK_RST_REASON_NOT_SPECIFIED");
    for kind in [Kind::Struct, Kind::Typedef, Kind::Func, Kind::Enum] {
        if let Some(id) = btf.find(kind, "sock") {
            assert!(id >= 1 && id as usize <= btf.len());
            btf.size(id);
        }
    }
}

/// An answer of sock_diag, which may as well be what it says of a destroyed
/// socket.
pub fn diag(bytes: &[u8]) {
    let sequence = bytes.get(8..12).and_then(|four| four.try_into().ok());
    let mut sockets = 0;
    messages::read(
        bytes,
        sequence.map_or(1, u32::from_ne_bytes),
        &mut |socket| {
            sockets += 1;
            assert!(messages::STATES.contains(&socket.state));
            assert!(canonical(socket.local.addr) && canonical(socket.peer.addr));
            assert_ne!(socket.cgroup, Some(0));
        },
    );
    assert!(sockets <= bytes.len() / 72);
    if let Some(destroyed) = messages::destroyed(bytes) {
        assert_ne!(destroyed.counters.rtt_us, Some(0));
    }
}

fn canonical(addr: IpAddr) -> bool {
    addr == addr.to_canonical()
}

/// What /proc and the environment say.
pub fn surroundings(bytes: &[u8]) {
    let is_name = |name: &[u8; COMM_LEN]| assert_eq!(name[COMM_LEN - 1], 0);
    if let Some(status) = proc::status_of(bytes) {
        status.name.iter().for_each(is_name);
    }
    proc::name_of(bytes).iter().for_each(is_name);
    is_name(&processes::parse_comm(bytes));
    processes::parse_stat(bytes);
    timens::monotonic(bytes);
    let lines = bytes.split(|&b| b == b'\n').count();
    assert!(mounted_at(bytes).len() <= lines);
    assert!(processes::mounted_namespaces(bytes).len() <= lines);
    let text = String::from_utf8_lossy(bytes);
    assert!(unescape(&text).len() <= text.len());
    let mut parts = bytes.splitn(2, |&b| b == 0);
    let (tz, zones) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    for (secure, found) in [(false, false), (false, true), (true, false), (true, true)] {
        let meant = zone::understand(tz, zones, secure, &|path: &Path| {
            let inside =
                path.starts_with("/usr/share/zoneinfo") || path == Path::new("/etc/localtime");
            assert!(
                !secure || inside && !path.components().any(|c| c.as_os_str() == ".."),
                "{path:?}"
            );
            found
        });
        assert!(!meant.is_empty());
    }
}

/// Arguments, one a line; what stands before the first line break is
/// `SOCKET_SNOOP_LOG`.
pub fn command_line(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split('\n').map(str::to_owned);
    let log = lines.next().filter(|log| !log.is_empty());
    let args: Vec<String> = lines.collect();
    match cli::parse(&args, log.map(Into::into), true) {
        Ok(Command::Print(text)) => assert!(text.ends_with('\n')),
        Ok(Command::Full(what)) => panic!("{what}: not here"),
        Ok(Command::Run(config) | Command::Check(config) | Command::List(config, _)) => {
            assert!(
                config
                    .buffer
                    .is_none_or(|bytes| (1..=1 << 30).contains(&bytes))
            );
            assert!(config.history > 0 && config.count != Some(0));
            assert!(config.duration.is_none_or(|time| !time.is_zero()));
            same_again(&config.filter.expr);
        }
        Err(error) => {
            assert_eq!(error.exit_code(), 2);
            // A mistake in the filter has a caret under it.
            let text = error.to_string();
            assert!(text.contains('^') || !text.contains('\n'), "{text}");
            text.lines().for_each(one_line);
        }
    }
}

/// Names of which each stands for its length.
struct Lengths;

impl Names for Lengths {
    fn user(&self, name: &str) -> Result<u32, String> {
        Ok(name.len() as u32)
    }
    fn cgroup(&self, path: &str) -> Result<u64, String> {
        Ok(path.len() as u64)
    }
    fn netns(&self, path: &str) -> Result<u32, String> {
        Ok(path.len() as u32)
    }
}

/// What is printed of an expression is read as the same.
fn same_again(expr: &Expr) {
    let text = expr.text();
    match parse(&text, &Lengths) {
        Ok(again) => assert_eq!(again, *expr, "{text}"),
        Err(mistake) => panic!("{}", mistake.show(&text, None)),
    }
}

/// A filter is any text.
pub fn filter(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match parse(&text, &Lengths) {
        Ok(expr) => {
            same_again(&expr);
            same_again(&!expr.clone());
            // It can be asked, or says why not.
            let _ = Judge::new(&expr);
        }
        Err(mistake) => {
            let shown = mistake.show(&text, Some("a file"));
            assert!(shown.contains('^'), "{shown}");
            shown.lines().for_each(one_line);
        }
    }
}
