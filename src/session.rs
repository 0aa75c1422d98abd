//! The story of a run: open, attach, scan, enter the sandbox, loop, drain, report.
//!
//! Contract: when the opening line is printed, everything is attached, and what
//! is no longer needed is given up (see [`crate::sandbox`]). What exists already
//! is known by then, or is looked for by a helper for some seconds more. One
//! epoll wait serves rings, signals and the outputs; it is woken by a
//! watermark, by a single event only where nothing came for a while, and by a
//! timeout that bounds how long an event can wait.

mod command;
mod interval;
mod judging;
pub(crate) mod notify;
mod pace;
pub mod pump;
mod reload;
pub mod replay;
pub mod search;
mod showing;
mod start;
pub mod view;

use crate::capture::{Confinement, Source};
use crate::cli::{Config, DEFAULT_LOG, FALLBACK_LOG, LogChoice};
use crate::error::{Error, Kind};
use crate::filter::tree::{Expr, Term};
use crate::host::priority::{self, Precedence, Room};
use crate::host::proc;
use crate::host::user::{self, User};
use crate::host::zone;
use crate::model::text::printable;
use crate::output::log::{self, Care, Log};
use crate::output::metrics::Metrics;
use crate::output::notice::notice;
use crate::output::{Output, Picture, Shape};
use crate::sandbox::{self, OutputAccess};
use crate::session::notify::Notify;
use crate::session::reload::FilterFile;
use crate::session::view::{View, say_notes};
use crate::snapshot::broadcast::Broadcasts;
use crate::snapshot::helper::Helper;
use crate::sys::command::Held;
use crate::sys::signal::Signals;
use crate::sys::{Errno, limits, time};
use interval::Interval;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use pace::{IDLE, Pace};
use pump::Pump;
use search::Search;
use std::fs::File;
use std::os::fd::AsFd;
use std::time::Duration;

const MILLI: u64 = 1_000_000;

/// What epoll tells apart.
const WAKE_SIGNAL: u64 = u64::MAX;
const WAKE_OUTPUT: u64 = u64::MAX - 1;
const WAKE_BROADCAST: u64 = u64::MAX - 2;
const WAKE_CLOCK: u64 = u64::MAX - 3;
const WAKE_SEARCH: u64 = u64::MAX - 4;
const WAKE_KEYS: u64 = u64::MAX - 5;

/// Opens the picture that is on standard output instead of lines.
pub type Open = fn(&Config) -> Result<Box<dyn Picture>, Error>;

/// The longest that the end of a run waits for the kernel's last word on
/// connections, in nanoseconds, and how long at a time, in milliseconds.
const LAST_WORDS: u64 = 200 * MILLI;
const LAST_WORD: u8 = 5;

/// Opens the log that was chosen.
fn open_log(config: &Config, user: Option<User>) -> Option<Log> {
    let care = Care {
        own: false,
        user: user.map(|user| user.uid),
        max: config.log_max_size,
    };
    match &config.log {
        LogChoice::Off => None,
        LogChoice::Path(path) => log::open(path, None, care),
        LogChoice::Default => log::open(DEFAULT_LOG, Some(FALLBACK_LOG), care),
    }
}

/// Opens the file of figures, if there is to be one.
fn open_metrics(config: &Config) -> Result<Option<Box<Metrics>>, Error> {
    let Some((path, interval)) = &config.metrics else {
        return Ok(None);
    };
    match Metrics::open(path, *interval) {
        Ok(metrics) => Ok(Some(Box::new(metrics))),
        Err(errno) => {
            let why = match errno {
                Errno::EINVAL => "it is no regular file".to_string(),
                errno => errno.to_string(),
            };
            let path = printable(path);
            let message = format!(
                "cannot write the metrics {path}: {why}; --metrics takes a file in a folder \
                 that this user can write to"
            );
            Err(Error::new(Kind::Usage, message))
        }
    }
}

/// Where nothing was asked for, it is taken where it can be had.
fn take_precedence(wanted: Option<bool>) -> Option<Precedence> {
    match (wanted != Some(false)).then(priority::take)? {
        Ok(precedence) => Some(precedence),
        Err(error) => {
            if wanted == Some(true) {
                notice(&format!("note: {error}"));
            }
            None
        }
    }
}

fn epoll_failed(errno: Errno) -> Error {
    Error::new(
        Kind::Runtime,
        format!("cannot wait for events (epoll): {errno}"),
    )
    .or_limit(errno)
}

/// Traces until told to stop, with this picture instead of lines. Returns the exit code
/// of the command, where there was one to be run that has ended; else 0.
pub fn run(config: &mut Config, picture: Option<Open>, pump: Pump) -> Result<u8, Error> {
    let user = config.user.as_deref().map(user::find).transpose()?;
    // While there is nothing that it could inherit.
    let command = config.command.as_deref();
    let mut command = command
        .map(|words| command::start(words, user))
        .transpose()?;
    if let Some(command) = &command {
        let narrowed = config.filter.narrow(Term::Tree(vec![command.pid()]));
        narrowed.map_err(|why| Error::new(Kind::Usage, ["filter: ", why].concat()))?;
    }
    let config = &*config;
    zone::settle();
    let console = std::io::stdout().as_fd().try_clone_to_owned();
    let console =
        console.map_err(|e| Error::new(Kind::Runtime, format!("standard output: {e}")))?;
    // Signals first: from here on a stop is orderly.
    let signals = Signals::install().map_err(|errno| {
        Error::new(Kind::Runtime, format!("cannot handle signals: {errno}")).or_limit(errno)
    })?;
    let (mut notify, deaf) = Notify::open(std::env::var_os("NOTIFY_SOCKET").as_deref());
    if let Some(why) = deaf {
        notice(&why);
    }
    if command.is_some() {
        signals.watch_children().map_err(|errno| {
            Error::new(Kind::Runtime, format!("cannot watch the command: {errno}"))
        })?;
    }
    let mut filter = FilterFile::open(config)?;
    let metrics = open_metrics(config)?;
    limits::raise_open_files();
    // While there is nothing that it could inherit.
    let helper = config.snapshot.then(Helper::start);
    // Descriptors for what it can't do without, such as two epolls: what it can is the
    // first to have none.
    let kept = [(); 3].map(|()| console.try_clone());
    let mut source = Source::open(
        config.buffer,
        config.transport,
        config.wants,
        config.guard(),
    )?;
    // As soon as the processes are known, for an owner is only believed that is seen after that; it
    // goes on beside what is done here.
    let room = config.connections_max;
    let mut search =
        helper.map_or_else(Search::none, |helper| Search::begin(helper, &source, room));
    let precedence = take_precedence(config.priority);
    say_notes(&mut source);
    judging::say_untold(&config.filter.expr, source.given());
    let log = open_log(config, user);
    drop(kept);
    let opening = match log.as_ref().filter(|log| log.is_open()) {
        Some(log) => format!(
            "Monitoring socket connections with enhanced metrics. Logs will be written to {}",
            log.path()
        ),
        None => {
            "Monitoring socket connections with enhanced metrics. No log is written.".to_string()
        }
    };
    let mut output = Output::new(
        File::from(console),
        config.format,
        log,
        config.log_format,
        Shape {
            netns: proc::own_netns(),
            ..config.shape
        },
        source.reset_reasons(),
    )
    .map_err(epoll_failed)?;
    output.metrics = metrics;
    if let Some(open) = picture {
        output.show(open(config)?);
    }
    let mut view = View::new(config, output, &source);
    let epoll = watch(&source, &signals, &view)?;
    let attached = (&mut source, &mut view, pump);
    let mut broadcasts = start::start(attached, &signals, &opening, &mut search);
    for (fd, wake) in [
        (broadcasts.ready(), WAKE_BROADCAST),
        (search.ready(), WAKE_SEARCH),
    ] {
        let Some(fd) = fd else { continue };
        let added = epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, wake));
        added.map_err(|errno| epoll_failed(errno.into()))?;
    }
    let mut rounds = config.interval.map(Interval::open);
    let asked = rounds.as_ref().and_then(Interval::socket);
    let mut outputs = view.output.access();
    outputs.send.extend(asked);
    let (enforced, pinned) = source.enter_sandbox(Confinement {
        mode: config.sandbox,
        user,
        outputs: OutputAccess {
            filter: filter.as_ref().map(FilterFile::access),
            ..outputs
        },
        receive: broadcasts.ready().is_some() || asked.is_some(),
        kill: search.pidfd(),
        wait: command.is_some(),
    })?;
    say_notes(&mut source);
    if config.sandbox != sandbox::Mode::Off {
        view.output.pin(&pinned);
    }
    if let Some(filter) = &mut filter {
        filter.pin(pinned.filter);
    }
    notice(&format!("note: {enforced}"));
    view.output.announced(&opening);
    notify.ready();
    if let Some(command) = &mut command {
        command.go();
    }
    let deadline = config.duration.map(|d| deadline(time::monotonic(), d));
    let room = Room::new(precedence, time::monotonic());
    let mut sources = (&mut source, &mut broadcasts, &mut search);
    let ears = (&signals, &mut notify, &mut command, filter.as_ref());
    let ends = (deadline, room, &mut rounds);
    watch_until(&mut sources, (&mut view, pump), &epoll, ears, ends)?;
    notify.stopping();

    // Detached first: what is in the rings then is all there will be.
    source.detach();
    (pump.drain)(&mut source, &mut view, &mut search, u64::MAX);
    (pump.held)(&mut source, &mut view);
    search.abandon(&mut view);
    let until = time::monotonic().saturating_add(LAST_WORDS);
    view.last_words(&mut broadcasts, 0);
    while view.connections.expects_last_word() && time::monotonic() < until {
        view.last_words(&mut broadcasts, LAST_WORD);
    }
    // Twice: see [`crate::capture::loss`].
    view.report_losses(&mut source);
    view.report_losses(&mut source);
    (pump.settle)(&mut view, u64::MAX);
    let finished = view.finish(&source);
    view.report_refused();
    let code = command.as_mut().map_or(Some(0), Held::ended);
    if code.is_none() {
        notice("note: the command goes on");
    }
    finished.map(|()| code.unwrap_or(0))
}

/// Lets the programs let all through, until this filter is in force in them, where it
/// can be; whether they do.
fn opened(source: &mut Source, expr: &Expr) -> bool {
    let was = match source.open_guard() {
        Ok(was) => was,
        Err(errno) => {
            notice(&format!(
                "warning: the filter is as it was before: what it keeps away in the kernel can't \
                 be let through (bpf: {errno})"
            ));
            return false;
        }
    };
    match source.renew_guard(expr) {
        Ok(false) if was => notice(
            "note: from now on the filter is decided in user space alone: that of the start is \
             not in force in the kernel any more",
        ),
        Ok(_) => {}
        Err(why) => alone(&why),
    }
    true
}

fn alone(why: &Error) {
    notice(&format!(
        "note: from now on the filter is decided in user space alone: {why}"
    ));
}

/// Goes on with what [`opened`] has begun.
fn step(source: &mut Source) {
    if !source.is_renewing() {
        return;
    }
    match source.step_guard() {
        Ok(true) => notice("note: the filter is in force in the kernel, too"),
        Ok(false) => {}
        Err(why) => alone(&why),
    }
}

fn deadline(now: u64, after: Duration) -> u64 {
    now.saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX))
}

fn readable(cpu: u32) -> EpollEvent {
    EpollEvent::new(EpollFlags::EPOLLIN, u64::from(cpu))
}

fn watch(source: &Source, signals: &Signals, view: &View) -> Result<Epoll, Error> {
    let failed = |errno: nix::Error| epoll_failed(errno.into());
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed)?;
    for (cpu, ring) in source.watched() {
        epoll.add(ring, readable(cpu)).map_err(failed)?;
    }
    let event = EpollEvent::new(EpollFlags::EPOLLIN, WAKE_SIGNAL);
    epoll.add(signals, event).map_err(failed)?;
    let event = EpollEvent::new(EpollFlags::EPOLLIN, WAKE_OUTPUT);
    epoll.add(view.output.waits(), event).map_err(failed)?;
    if let Some(keys) = view.output.keys() {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, WAKE_KEYS);
        epoll.add(keys, event).map_err(failed)?;
    }
    if let Some(set) = view.clock().set() {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, WAKE_CLOCK);
        epoll.add(set, event).map_err(failed)?;
    }
    Ok(epoll)
}

/// What tells it things from outside.
type Ears<'a> = (
    &'a Signals,
    &'a mut Notify,
    &'a mut Option<Held>,
    Option<&'a FilterFile>,
);

fn watch_until(
    (source, broadcasts, search): &mut (&mut Source, &mut Broadcasts, &mut Search),
    (view, pump): (&mut View, Pump),
    epoll: &Epoll,
    (signals, notify, command, filter): Ears<'_>,
    (deadline, mut room, rounds): (Option<u64>, Room, &mut Option<Interval>),
) -> Result<(), Error> {
    let start = time::monotonic();
    let mut losses_at = start;
    let mut told_to_stop = None;
    let mut pace = Pace::new(start);
    // The filter that comes into force when all events from before then are taken.
    let mut new_filter = None;
    let mut events = [EpollEvent::empty(); 16];
    loop {
        let now = time::monotonic();
        let until = deadline.unwrap_or(u64::MAX);
        let wait = pace
            .wait(now, &mut || source.sleep())
            .min(until.saturating_sub(now))
            .min(rounds.as_ref().map_or(u64::MAX, |rounds| rounds.wait(now)))
            .div_ceil(MILLI);
        let wait = if source.is_renewing() { 0 } else { wait };
        let due = view.output.metrics.as_ref().map(|metrics| metrics.due());
        let next = due.unwrap_or(u64::MAX).min(view.output.due());
        let wait = wait.min(next.saturating_sub(now).div_ceil(MILLI));
        let timeout = EpollTimeout::from(wait as u16);
        let ready = match epoll.wait(&mut events, timeout).map_err(Errno::from) {
            Ok(count) => &events[..count],
            Err(Errno::EINTR) => &[],
            Err(errno) => return Err(epoll_failed(errno)),
        };
        let mut woken = false;
        for event in ready {
            let gone = event
                .events()
                .intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP);
            match event.data() {
                WAKE_SIGNAL => signals.acknowledge(),
                WAKE_OUTPUT => view.output.attend(),
                WAKE_KEYS => view.key(),
                // The refresh below sees what has changed.
                WAKE_CLOCK => view.clock().acknowledge(),
                WAKE_BROADCAST => view.last_words(broadcasts, 0),
                // Looked after in any case.
                WAKE_SEARCH => {}
                // The ring's CPU went away; it would be ready for ever.
                cpu if gone => {
                    for (_, ring) in source.watched().filter(|(of, _)| u64::from(*of) == cpu) {
                        let _ = epoll.delete(ring);
                    }
                }
                _ => woken = true,
            }
        }
        if signals.take_hangup() {
            notify.reloading();
            view.output.reopen_log();
            let new = filter.and_then(|filter| view.read_filter(filter));
            if let Some((_, expr)) = &new {
                judging::say_untold(expr, source.given());
            }
            // What the kernel keeps away by the old one would be missed.
            new_filter = new
                .filter(|(_, expr)| opened(source, expr))
                .map(|new| (time::monotonic(), new));
            notify.ready();
        }
        step(source);
        notify.settle();
        view.refresh();
        room.leave(now, time::monotonic());
        let now = time::monotonic();
        if woken {
            pace.woken(now);
        }
        let ended = command.as_mut().map(|command| command.ended().is_some());
        if signals.stop() {
            told_to_stop.get_or_insert(now);
        }
        let stop = told_to_stop.is_some_and(|since| match ended {
            Some(false) => now.saturating_sub(since) >= command::PARTING,
            _ => true,
        });
        let stop = stop || ended == Some(true) || now >= until;
        let settled = now.saturating_sub(start::SETTLE);
        search.read(view);
        let (came, held) = (pump.drain)(source, view, search, settled);
        if let Some((_, new)) = new_filter.take_if(|(since, _)| *since <= settled) {
            view.replace(new, source.processes());
        }
        pace.looked(now, came, held);
        search.step(source, view, settled);
        (pump.settle)(view, settled);
        if let Some(rounds) = rounds {
            rounds.step(view, source.processes());
        }
        if now.saturating_sub(losses_at) >= IDLE {
            losses_at = now;
            view.review(source.processes(), false);
            if view.report_losses(source) {
                // Those that are waited for already are refused, which is fine.
                for (cpu, ring) in source.watched() {
                    let _ = epoll.add(ring, readable(cpu));
                }
            }
        }
        if due.is_some_and(|due| now >= due) {
            view.write_metrics(source.processes());
        }
        view.report_refused();
        view.output.flush();
        view.draw(now);
        if stop || view.is_done() {
            return Ok(());
        }
    }
}
