//! The story of a run: open, attach, scan, shut the doors, loop, drain, report.
//!
//! Contract: when the opening line is printed, everything is attached, and what
//! is no longer needed is given up (see [`crate::sandbox`]). What exists already
//! is known by then, or is looked for by a helper for some seconds more. One
//! epoll wait serves rings, signals and a reader that leaves; it is woken by a
//! watermark, never by single events, and by a timeout that bounds how long an
//! event can wait.

mod search;
mod start;

use crate::cli::{Config, DEFAULT_LOG, FALLBACK_LOG, LogChoice};
use crate::error::{Error, Kind};
use crate::output::log::Log;
use crate::output::stream::Stream;
use crate::output::{Output, notice};
use crate::perf::Ring;
use crate::priority::{self, Precedence, Room};
use crate::snapshot::broadcast::Broadcasts;
use crate::snapshot::helper::Helper;
use crate::source::{Doors, Source};
use crate::sys::signal::Signals;
use crate::sys::{Errno, limits, time};
use crate::text::printable;
use crate::user;
use crate::view::View;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use search::Search;
use std::fs::File;
use std::os::fd::AsFd;
use std::time::Duration;

const MILLI: u64 = 1_000_000;

/// The longest an event waits to be read.
const IDLE: u64 = 100 * MILLI;
/// The same during the first moments, so that the first event shows at once.
const EAGER: u64 = 10 * MILLI;
/// How long the first moments last.
const EAGER_FOR: u64 = 1000 * MILLI;
/// Samples younger than this wait for the next drain: a CPU may still be
/// writing an older one.
const SETTLE: u64 = MILLI;
/// When to come back for samples that were held back.
const SETTLED: u64 = 2 * MILLI;

/// What epoll tells apart.
const WAKE_SIGNAL: u64 = u64::MAX;
const WAKE_CONSOLE: u64 = u64::MAX - 1;
const WAKE_BROADCAST: u64 = u64::MAX - 2;
const WAKE_SEARCH: u64 = u64::MAX - 3;

/// The longest that the end of a run waits for the kernel's last word on
/// connections, in nanoseconds, and how long at a time, in milliseconds.
const LAST_WORDS: u64 = 200 * MILLI;
const LAST_WORD: u8 = 5;

/// Opens the log that was chosen. A log that can't be written costs a warning,
/// not the run.
fn open_log(choice: &LogChoice) -> Option<Log> {
    let (path, fallback) = match choice {
        LogChoice::Off => return None,
        LogChoice::Path(path) => (path.as_str(), None),
        LogChoice::Default => (DEFAULT_LOG, Some(FALLBACK_LOG)),
    };
    let errno = match Log::open(path, true) {
        Ok(log) => return Some(log),
        Err(errno) => errno,
    };
    let shown = printable(path);
    let Some(fallback) = fallback else {
        notice(&format!(
            "warning: cannot write the log {shown}: {errno}; going on without a log"
        ));
        return None;
    };
    match Log::open(fallback, false) {
        Ok(log) => {
            notice(&format!(
                "warning: cannot write the log {shown}: {errno}; writing {fallback}"
            ));
            Some(log)
        }
        Err(second) => {
            notice(&format!(
                "warning: cannot write the log {shown}: {errno}, nor {fallback}: {second}; \
                 going on without a log"
            ));
            None
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
}

/// Traces until told to stop.
pub fn run(config: &Config) -> Result<(), Error> {
    let console = std::io::stdout().as_fd().try_clone_to_owned();
    let console =
        console.map_err(|e| Error::new(Kind::Runtime, format!("standard output: {e}")))?;
    // Signals first: from here on a stop is orderly.
    let signals = Signals::install()
        .map_err(|errno| Error::new(Kind::Runtime, format!("cannot handle signals: {errno}")))?;
    let user = config.user.as_deref().map(user::find).transpose()?;
    limits::raise_open_files();
    // While there is nothing that it could inherit.
    let helper = config.snapshot.then(Helper::start);
    let mut source = Source::open(config.buffer, config.transport, config.wants)?;
    let precedence = take_precedence(config.priority);
    for note in source.notes() {
        notice(note);
    }
    let log = open_log(&config.log);
    let opening = match &log {
        Some(log) => format!(
            "Monitoring socket connections with enhanced metrics. Logs will be written to {}",
            printable(log.path())
        ),
        None => {
            "Monitoring socket connections with enhanced metrics. No log is written.".to_string()
        }
    };
    let console = Stream::new(File::from(console));
    let output = Output::new(
        console,
        config.format,
        log,
        config.log_format,
        config.shape,
        source.reset_reasons(),
    );
    let mut view = View::new(config, output, &source);
    let epoll = watch(&source, &signals, &view.output)?;
    let helper = (helper, config.history);
    let (mut broadcasts, mut search) =
        start::start(&mut source, &mut view, &signals, &opening, helper);
    for (fd, wake) in [
        (broadcasts.ready(), WAKE_BROADCAST),
        (search.ready(), WAKE_SEARCH),
    ] {
        let Some(fd) = fd else { continue };
        let added = epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, wake));
        added.map_err(|errno| epoll_failed(errno.into()))?;
    }
    let log = view.output.log().map(|log| log.access());
    let (enforced, name) = source.shut_doors(&Doors {
        mode: config.sandbox,
        user,
        log,
        receive: broadcasts.ready().is_some(),
        kill: search.pidfd(),
    })?;
    notice(&format!("note: {enforced}"));
    if let (Some(log), Some(name)) = (view.output.log(), name) {
        log.pin(name);
    }
    view.output.announced(&opening);
    let deadline = config.duration.map(|d| deadline(time::monotonic(), d));
    let room = Room::new(precedence, time::monotonic());
    let mut sources = (&mut source, &mut broadcasts, &mut search);
    watch_until(&mut sources, &mut view, &epoll, &signals, (deadline, room))?;

    // Detached first: what is in the rings then is all there will be.
    source.detach();
    source.drain(u64::MAX, &mut |event| view.take(event));
    search.abandon(&mut view);
    let until = time::monotonic() + LAST_WORDS;
    view.last_words(&mut broadcasts, 0);
    while view.connections.expects_last_word() && time::monotonic() < until {
        view.last_words(&mut broadcasts, LAST_WORD);
    }
    // Twice: see [`crate::loss`].
    view.report_losses(&mut source);
    view.report_losses(&mut source);
    view.finish(source.lost());
    view.report_refused();
    Ok(())
}

fn deadline(now: u64, after: Duration) -> u64 {
    now.saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX))
}

fn readable(ring: &Ring) -> EpollEvent {
    EpollEvent::new(EpollFlags::EPOLLIN, u64::from(ring.cpu()))
}

fn watch(source: &Source, signals: &Signals, output: &Output) -> Result<Epoll, Error> {
    let failed = |errno: nix::Error| epoll_failed(errno.into());
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed)?;
    for ring in source.rings() {
        epoll.add(ring, readable(ring)).map_err(failed)?;
    }
    let event = EpollEvent::new(EpollFlags::EPOLLIN, WAKE_SIGNAL);
    epoll.add(signals, event).map_err(failed)?;
    // A pipe tells when its reader leaves. A regular file can't be waited for,
    // and needn't be.
    let event = EpollEvent::new(EpollFlags::empty(), WAKE_CONSOLE);
    let _ = epoll.add(output.console().file(), event);
    Ok(epoll)
}

fn watch_until(
    (source, broadcasts, search): &mut (&mut Source, &mut Broadcasts, &mut Search),
    view: &mut View,
    epoll: &Epoll,
    signals: &Signals,
    (deadline, mut room): (Option<u64>, Room),
) -> Result<(), Error> {
    let start = time::monotonic();
    let mut losses_at = start;
    let mut held = false;
    let mut events = [EpollEvent::empty(); 16];
    loop {
        let now = time::monotonic();
        let pace = match held {
            true => SETTLED,
            false if now - start < EAGER_FOR => EAGER,
            false => IDLE,
        };
        let until = deadline.unwrap_or(u64::MAX);
        let wait = pace.min(until.saturating_sub(now)).div_ceil(MILLI);
        let timeout = EpollTimeout::from(wait as u8);
        let ready = match epoll.wait(&mut events, timeout).map_err(Errno::from) {
            Ok(count) => &events[..count],
            Err(Errno::EINTR) => &[],
            Err(errno) => return Err(epoll_failed(errno)),
        };
        for event in ready {
            let gone = event
                .events()
                .intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP);
            match event.data() {
                WAKE_SIGNAL => signals.acknowledge(),
                WAKE_CONSOLE => view.output.set_closed(),
                WAKE_BROADCAST => view.last_words(broadcasts, 0),
                // Looked after in any case.
                WAKE_SEARCH => {}
                // The ring's CPU went away; it would be ready for ever.
                cpu if gone => {
                    for ring in source.rings().filter(|r| u64::from(r.cpu()) == cpu) {
                        let _ = epoll.delete(ring);
                    }
                }
                _ => {}
            }
        }
        if signals.take_hangup() {
            view.output.reopen_log();
        }
        view.refresh();
        room.leave(now, time::monotonic());
        let now = time::monotonic();
        let stop = signals.stop() || now >= until;
        let settled = now.saturating_sub(SETTLE);
        search.read(view);
        held = source.drain(settled, &mut |event| {
            search.note(event);
            view.take(event)
        });
        search.step(source, view, settled);
        view.settle(settled);
        if now - losses_at >= IDLE {
            losses_at = now;
            if view.report_losses(source) {
                // Those that are waited for already are refused, which is fine.
                for ring in source.rings() {
                    let _ = epoll.add(ring, readable(ring));
                }
            }
        }
        view.report_refused();
        view.output.flush();
        if stop || view.is_done() {
            return Ok(());
        }
    }
}
