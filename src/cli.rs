//! The command line: argh's structs, then a validated [`Config`].
//!
//! Contract: every value is checked here; what comes out can be used as it is.

mod extras;
pub(crate) mod filter;
mod log;
mod values;

use crate::bpf::guard::Guard;
use crate::capture::Transport;
use crate::error::{Error, Kind};
use crate::filter::eval::Judge;
use crate::filter::{Filter, Flags};
use crate::model::ability::Abilities;
use crate::model::text::printable;
use crate::output::{FormatName, Shape};
use crate::sandbox;
use argh::FromArgs;
pub use log::LogChoice;
use std::ffi::OsString;
use std::net::IpAddr;
use std::time::Duration;
use values::{
    parse_address, parse_belief, parse_format, parse_lifecycles, parse_lines, parse_log_size,
    parse_positive, parse_sandbox, parse_seconds, parse_size, parse_speed, parse_switch,
    parse_transport,
};

/// The log file of the original.
pub const DEFAULT_LOG: &str = "/var/log/socket_monitor.log";
/// Where the log goes when nothing was asked for and the default can't be written.
pub const FALLBACK_LOG: &str = "./socket_monitor.log";
/// Connections held for the report by default.
const DEFAULT_HISTORY: usize = 8192;
/// Connections whose lifecycle is told by default.
const DEFAULT_LIFECYCLES: usize = 50;
/// As many as the programs remember owners of.
const DEFAULT_CONNECTIONS: usize = 65536;

/// How often figures are written.
const METRICS_INTERVAL: Duration = Duration::from_secs(15);

/// Show every TCP connection of this host live; Ctrl-C ends with a report.
#[derive(FromArgs, Debug)]
#[cfg_attr(test, derive(argh::ArgsInfo))]
#[argh(
    usage = "[OPTIONS] [FILTER] [-- COMMAND ARG...]",
    example = "Everything, on the console and in /var/log/socket_monitor.log:\n  {command_name}",
    example = "Connections to port 443, ten seconds long, no log file:\n  {command_name} --dst-port 443 --duration 10 --no-log",
    example = "What curl does over the network:\n  {command_name} 'comm curl and not net 127.0.0.0/8'",
    example = "What a command does, and what it starts:\n  {command_name} -- git fetch",
    example = "JSON for another program:\n  {command_name} --format json --no-log | jq .",
    note = "Exit codes: 0 done, 1 failed while running, 2 bad command line, 3 permission missing, 4 kernel feature missing, 5 program refused by the kernel. SIGHUP reopens the log file, and reads the filter's file again. What a filter can ask for: --help filter."
)]
struct Args {
    /// show only sockets that belong to this process id
    #[argh(option, arg_name = "PID")]
    pid: Option<u32>,

    /// show only this local address (IPv4 or IPv6)
    #[argh(option, arg_name = "ADDRESS", from_str_fn(parse_address))]
    src_ip: Option<IpAddr>,

    /// show only this peer address (IPv4 or IPv6)
    #[argh(option, arg_name = "ADDRESS", from_str_fn(parse_address))]
    dst_ip: Option<IpAddr>,

    /// show only this local port
    #[argh(option, arg_name = "PORT")]
    src_port: Option<u16>,

    /// show only this peer port
    #[argh(option, arg_name = "PORT")]
    dst_port: Option<u16>,

    /// show only connections becoming established
    #[argh(switch)]
    active_only: bool,

    /// a file with a filter, which must match, too; read again on SIGHUP
    #[argh(option, arg_name = "FILE")]
    filter_file: Option<String>,

    /// show listeners and half-open sockets too (address 0.0.0.0 or ::)
    #[argh(switch)]
    all: bool,

    /// name the task on the CPU in classic lines, too (ON_CPU)
    #[argh(switch)]
    on_cpu: bool,

    /// show a line for each connection at its end, too (JSON always has it)
    #[argh(switch)]
    connections: bool,

    /// show nothing but a line for each connection at its end
    #[argh(switch)]
    closed_only: bool,

    /// what standard output carries: classic (default), json, or trace (for Perfetto)
    #[argh(
        option,
        arg_name = "FORMAT",
        from_str_fn(parse_format),
        default = "FormatName::Classic"
    )]
    format: FormatName,

    /// a live table instead of lines, drawn this often (default: 2)
    #[argh(option, arg_name = "SECONDS", from_str_fn(parse_seconds))]
    top: Option<Duration>,

    /// read recorded JSON lines instead of tracing (-: standard input); several are merged by time
    #[argh(option, short = 'r', arg_name = "FILE")]
    read: Vec<String>,

    /// with -r: so many times their pace (default: max; with --top: 1)
    #[argh(option, arg_name = "N|max", from_str_fn(parse_speed))]
    speed: Option<u64>,

    /// log file to append to (default: $SOCKET_SNOOP_LOG, else /var/log/socket_monitor.log)
    #[argh(option, arg_name = "PATH")]
    log_file: Option<String>,

    /// write no log file
    #[argh(switch)]
    no_log: bool,

    /// what the log file holds: classic (default) or json
    #[argh(
        option,
        arg_name = "FORMAT",
        from_str_fn(parse_lines),
        default = "FormatName::Classic"
    )]
    log_format: FormatName,

    /// size, such as 512K, 64M or 1G, at which the log is renamed to PATH.1 and begun anew (default: never)
    #[argh(option, arg_name = "SIZE", from_str_fn(parse_log_size))]
    log_max_size: Option<u64>,

    /// a file for Prometheus' figures, written anew every now and then
    #[argh(option, arg_name = "FILE")]
    metrics: Option<String>,

    /// how often that is (default: 15)
    #[argh(option, arg_name = "SECONDS", from_str_fn(parse_seconds))]
    metrics_interval: Option<Duration>,

    /// stop after this time, such as 10 or 0.5
    #[argh(option, arg_name = "SECONDS", from_str_fn(parse_seconds))]
    duration: Option<Duration>,

    /// a record of each connection that is open, every so often
    #[argh(option, arg_name = "SECONDS", from_str_fn(parse_seconds))]
    interval: Option<Duration>,

    /// stop after showing this many events
    #[argh(option, arg_name = "N", from_str_fn(parse_positive))]
    count: Option<u64>,

    /// ring buffer of each CPU in bytes, such as 256K or 4M, rounded up to a power of two of pages (default: 2M, less on hosts with more than 32 CPUs or little memory)
    #[argh(option, arg_name = "SIZE", from_str_fn(parse_size))]
    buffer: Option<usize>,

    /// connections that may be open at once; beyond, they are a loss (default: 65536)
    #[argh(option, arg_name = "N", from_str_fn(parse_positive))]
    connections_max: Option<u64>,

    /// connections that have ended, held for the report (default: 8192)
    #[argh(option, arg_name = "N", from_str_fn(parse_positive))]
    history: Option<u64>,

    /// connections whose lifecycle the report tells, the latest: a number, or all (default: 50)
    #[argh(
        option,
        arg_name = "N|all",
        from_str_fn(parse_lifecycles),
        default = "Some(DEFAULT_LIFECYCLES)"
    )]
    lifecycles: Option<usize>,

    /// learn who accepted a connection at its first read, too (costs time at every read of the host)
    #[argh(switch)]
    accept_owner: bool,

    /// how the owner of a socket is told: lock (default) or transitions, as on hosts without BTF;
    /// for tests, see bpf-asm/README.md
    #[argh(
        option,
        hidden_help,
        arg_name = "NAME",
        from_str_fn(parse_belief),
        default = "false"
    )]
    owner_by: bool,

    /// do not look for sockets that are open before the start
    #[argh(switch)]
    no_snapshot: bool,

    /// how events are obtained: tracepoint, btf or perf (default: the first that works)
    #[argh(option, arg_name = "NAME", from_str_fn(parse_transport))]
    transport: Option<Transport>,

    /// what is given up once everything is attached: off, on (default) or strict
    #[argh(
        option,
        arg_name = "MODE",
        from_str_fn(parse_sandbox),
        default = "sandbox::Mode::On"
    )]
    sandbox: sandbox::Mode,

    /// become this user once everything is attached
    #[argh(option, arg_name = "NAME|UID")]
    user: Option<String>,

    /// take precedence over other processes: on (default, where allowed) or off
    #[argh(option, arg_name = "on|off", from_str_fn(parse_switch))]
    priority: Option<bool>,

    /// say what this host gives and what will be on, and exit: 0 all, 1 some, 2 can't run
    #[argh(switch)]
    check: bool,

    /// print the programs that a run would load, as they are linked for this host, and exit; nothing is loaded. With a filter, that alone as it is compiled; with it in the programs by -d -d
    #[argh(switch, short = 'd')]
    dump: u8,

    /// with -d: for a host whose tracepoints' format files are here
    #[argh(option, arg_name = "DIR")]
    formats: Option<String>,

    /// with -d: for a host whose BTF this is, or whose vmlinux
    #[argh(option, arg_name = "FILE")]
    btf: Option<String>,

    /// write those programs as ELF objects, and exit
    #[argh(option, arg_name = "DIR")]
    export_object: Option<String>,

    /// print the version and exit
    #[argh(switch)]
    version: bool,

    /// what is shown, as tcpdump and ss have it; see --help filter
    #[argh(positional, arg_name = "FILTER")]
    filter: Vec<String>,
}

/// What a run is to do.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which events are shown.
    pub filter: Filter,
    /// The file that a part of that is from.
    pub filter_file: Option<String>,
    /// What lines there are, and what they hold.
    pub shape: Shape,
    /// Format on standard output.
    pub format: FormatName,
    /// How often the table is drawn that is the picture there, where it is that.
    pub top: Option<Duration>,
    /// Files of recorded lines to be read instead of tracing.
    pub read: Vec<String>,
    /// How many times their pace these are read; `None` is as fast as it goes.
    pub speed: Option<u64>,
    /// Log file.
    pub log: LogChoice,
    /// Format in the log file.
    pub log_format: FormatName,
    /// Bytes at which the log is begun anew.
    pub log_max_size: Option<u64>,
    /// The file for figures, and how often it is written.
    pub metrics: Option<(String, Duration)>,
    /// When to stop.
    pub duration: Option<Duration>,
    /// How often open connections are told of.
    pub interval: Option<Duration>,
    /// After how many shown events to stop.
    pub count: Option<u64>,
    /// Ring size in bytes per CPU.
    pub buffer: Option<usize>,
    /// Connections that may be open at once.
    pub connections_max: usize,
    /// Connections that have ended, held for the report.
    pub history: usize,
    /// Whether to look for what is open before the start.
    pub snapshot: bool,
    /// How events are obtained; `None` is the first way that works.
    pub transport: Option<Transport>,
    /// What is given up once everything is attached.
    pub sandbox: sandbox::Mode,
    /// Which user to become then: a name or a number.
    pub user: Option<String>,
    /// A command to run, with its arguments: its sockets and those of its descendants
    /// are shown, and a run ends with it.
    pub command: Option<Vec<String>>,
    /// Whether to take precedence over other processes; `None` is where that is
    /// allowed.
    pub priority: Option<bool>,
    /// Which programs are wanted, and how.
    pub wants: Abilities,
}

impl Config {
    /// What of the filter is for the kernel: with a file that may change, one of which
    /// another can take the place where programs can still be loaded then.
    pub(crate) fn guard(&self) -> Option<Guard> {
        match self.filter_file.is_some() && self.sandbox == sandbox::Mode::Off {
            true => Guard::renewable(&self.filter.expr),
            false => Guard::compile(&self.filter.expr),
        }
    }
}

/// What the command line asks for.
#[derive(Clone, Debug)]
pub enum Command {
    /// Trace.
    Run(Box<Config>),
    /// Say what a run would do.
    Check(Box<Config>),
    /// Say what programs a run would load.
    List(Box<Config>, Listing),
    /// Print this text and end well.
    Print(String),
    /// Run the edition that has what is asked for: this.
    Full(&'static str),
}

/// What is to be told of the programs, and of which host's.
#[derive(Clone, Debug)]
pub struct Listing {
    /// Whether to print them: the user's filter alone, where there is one (1), or
    /// the programs in any case (more).
    pub print: u8,
    /// The folder to write objects to.
    pub export: Option<String>,
    /// The folder of another host's `format` files.
    pub formats: Option<String>,
    /// Another host's BTF.
    pub btf: Option<String>,
}

fn size(given: Option<u64>, default: usize) -> usize {
    given.map_or(default, |n| usize::try_from(n).unwrap_or(usize::MAX))
}

/// Understands the arguments (without the program's name). `env_log` is
/// `SOCKET_SNOOP_LOG`; `full`: this edition has all of it.
pub fn parse(args: &[String], env_log: Option<OsString>, full: bool) -> Result<Command, Error> {
    let (args, command) = match args.iter().position(|arg| arg == "--") {
        Some(at) => (&args[..at], Some(args[at + 1..].to_vec())),
        None => (args, None),
    };
    if command.as_ref().is_some_and(Vec::is_empty) {
        let message = "-- is followed by no command; see socket-snoop --help";
        return Err(Error::new(Kind::Usage, message));
    }
    if args.windows(2).any(|pair| pair == ["--help", "filter"]) {
        return Ok(Command::Print(filter::HELP.into()));
    }
    let args = extras::split_values(args);
    if let Some(what) = extras::find(&args).filter(|_| !full) {
        return Ok(Command::Full(what));
    }
    let args = match Args::from_args(&["socket-snoop"], &args) {
        Ok(args) => args,
        Err(exit) if exit.status.is_ok() => return Ok(Command::Print(exit.output)),
        Err(exit) => {
            let first = exit.output.lines().find(|line| !line.trim().is_empty());
            return Err(Error::new(
                Kind::Usage,
                format!(
                    "{}; see socket-snoop --help",
                    printable(first.unwrap_or("bad usage"))
                ),
            ));
        }
    };
    if args.version {
        let version = concat!("socket-snoop ", env!("SOCKET_SNOOP_VERSION"), "\n");
        return Ok(Command::Print(version.into()));
    }
    let asked = (
        !args.read.is_empty(),
        args.top.is_some(),
        args.speed.is_some(),
        args.closed_only,
    );
    let of_now = args.duration.is_some()
        || args.interval.is_some()
        || args.buffer.is_some()
        || args.transport.is_some()
        || args.user.is_some()
        || args.priority.is_some()
        || args.no_snapshot
        || args.metrics.is_some()
        || args.accept_owner
        || args.check
        || args.dump > 0
        || args.export_object.is_some()
        || command.is_some();
    let extra = full && extras::check(asked, args.format, of_now)?;
    let no_log = args.no_log || extra && args.log_file.is_none();
    let log = log::choose(no_log, args.log_file, env_log)?;
    if args.metrics.is_none() && args.metrics_interval.is_some() {
        let message = "--metrics-interval goes with --metrics; see socket-snoop --help";
        return Err(Error::new(Kind::Usage, message));
    }
    let mut wants = Abilities::ACCEPTS;
    wants.set(Abilities::READS, args.accept_owner);
    wants.set(Abilities::LOCK, !args.owner_by);
    let flags = Flags {
        pid: args.pid,
        src_ip: args.src_ip,
        dst_ip: args.dst_ip,
        src_port: args.src_port,
        dst_port: args.dst_port,
        active_only: args.active_only,
    };
    wants.set(Abilities::ON_CPU, args.on_cpu);
    let base = filter::of(&flags, &args.filter)?;
    let expr = filter::with_file(args.filter_file.as_deref(), &base)?;
    // What is told late must be judged as it would have been in time: not by who is around,
    // nor by another filter.
    let asks = Judge::new(&expr).map_or(true, |judge| judge.asks_for_owners());
    let judged_late = args.filter_file.is_none() && command.is_none() && !asks;
    wants.set(Abilities::HELD, args.closed_only && judged_late);
    let config = Box::new(Config {
        filter: Filter {
            expr,
            base,
            all: args.all,
        },
        filter_file: args.filter_file,
        shape: Shape {
            on_cpu: args.on_cpu,
            connections: args.connections || args.closed_only,
            closed_only: args.closed_only,
            netns: None,
            lifecycles: args.lifecycles,
        },
        format: match args.top {
            Some(_) if full => FormatName::Picture,
            _ => args.format,
        },
        top: args.top,
        speed: extras::speed(args.speed, args.top),
        read: args.read,
        log,
        log_format: args.log_format,
        log_max_size: args.log_max_size,
        metrics: args
            .metrics
            .map(|path| (path, args.metrics_interval.unwrap_or(METRICS_INTERVAL))),
        duration: args.duration,
        interval: args.interval,
        count: args.count,
        buffer: args.buffer,
        connections_max: size(args.connections_max, DEFAULT_CONNECTIONS),
        history: size(args.history, DEFAULT_HISTORY),
        snapshot: !args.no_snapshot,
        transport: args.transport,
        sandbox: args.sandbox,
        user: args.user,
        command,
        priority: args.priority,
        wants,
    });
    let listing = Listing {
        print: args.dump,
        export: args.export_object,
        formats: args.formats,
        btf: args.btf,
    };
    if listing.print > 0 || listing.export.is_some() {
        return Ok(Command::List(config, listing));
    }
    if listing.formats.is_some() || listing.btf.is_some() {
        let message = "--formats and --btf go with -d or --export-object; see socket-snoop --help";
        return Err(Error::new(Kind::Usage, message));
    }
    Ok(match args.check {
        true => Command::Check(config),
        false => Command::Run(config),
    })
}

#[cfg(test)]
mod tests;
