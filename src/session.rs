//! The story of a run: open, attach, shut the doors, loop, drain, report.
//!
//! Contract: when the opening line is printed, everything is attached, and what
//! is no longer needed is given up (see [`crate::sandbox`]). One
//! epoll wait serves rings, signals and a reader that leaves; it is woken by a
//! watermark, never by single events, and by a timeout that bounds how long an
//! event can wait.

use crate::cli::{Config, DEFAULT_LOG, FALLBACK_LOG, LogChoice};
use crate::error::{Error, Kind};
use crate::event::Event;
use crate::filter::{Filter, Verdict};
use crate::lifecycle::Connections;
use crate::output::log::Log;
use crate::output::stream::Stream;
use crate::output::{Output, Shown, Summary, notice};
use crate::perf::Ring;
use crate::source::Source;
use crate::sys::seccomp::take_refused;
use crate::sys::signal::Signals;
use crate::sys::{Errno, time};
use crate::text::{WallClock, printable};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
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

/// What the events go through.
struct View {
    output: Output,
    connections: Connections,
    filter: Filter,
    clock: WallClock,
    summary: Summary,
    left: u64,
    /// System calls that were refused.
    refused: Vec<i32>,
}

impl View {
    /// Takes an event; whether more are wanted.
    fn take(&mut self, event: &Event) -> bool {
        if event.is_line() {
            self.summary.received += 1;
            self.event(event);
        }
        self.left > 0 && !self.output.is_closed()
    }

    fn event(&mut self, event: &Event) {
        let wall = self.clock.wall(event.time);
        let (id, connection) = self.connections.observe(event, wall);
        let completed;
        let event = match (event.owner, connection.owner()) {
            (None, Some(owner)) => {
                completed = Event {
                    owner: Some(owner),
                    ..*event
                };
                &completed
            }
            _ => event,
        };
        let verdict = self.filter.judge(event);
        let mut show = |event: &Event, wall| {
            if self.left > 0 {
                self.left -= 1;
                self.summary.shown += 1;
                self.output.event(&Shown { event, wall, id });
            }
        };
        // What waited for the local port is judged now, as if it had had it.
        if event.local.port != 0 {
            if let Some(held) = connection.held.take() {
                let mut complete = held.0;
                complete.local.port = event.local.port;
                if self.filter.judge(&complete) == Verdict::Show {
                    connection.mark_shown();
                    show(&held.0, held.1);
                }
            }
        }
        match verdict {
            Verdict::Show => {
                connection.mark_shown();
                show(event, wall);
            }
            Verdict::NotYet => connection.held = Some(Box::new((*event, wall))),
            Verdict::Skip => {}
        }
        self.connections.finish(event);
    }

    /// Says which system calls were refused; each once.
    fn report_refused(&mut self) {
        let Some(call) = take_refused() else { return };
        if !self.refused.contains(&call) {
            self.refused.push(call);
            notice(&format!(
                "warning: sandbox refused system call {call}; please report it"
            ));
        }
    }

    /// Says what was lost; whether the source has new rings.
    fn report_losses(&mut self, source: &mut Source) -> bool {
        let output = &mut self.output;
        source.losses(time::realtime(), &mut |lost| output.lost(&lost))
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
    let mut source = Source::open(config.buffer, config.transport, config.wants)?;
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
    let mut view = View {
        output: Output::new(
            console,
            config.format,
            log,
            config.log_format,
            config.on_cpu,
        ),
        connections: Connections::new(config.history, time::realtime()),
        filter: config.filter.clone(),
        clock: WallClock::new(),
        summary: Summary {
            transport: source.transport().name(),
            ..Summary::default()
        },
        left: config.count.unwrap_or(u64::MAX),
        refused: Vec::new(),
    };
    let epoll = watch(&source, &signals, &view.output)?;
    let log = view.output.log().map(|log| log.access());
    let (enforced, name) = source.shut_doors(config.sandbox, log);
    notice(&format!("note: {enforced}"));
    if let (Some(log), Some(name)) = (view.output.log(), name) {
        log.pin(name);
    }
    view.output.say(&opening);
    let deadline = config.duration.map(|d| deadline(time::monotonic(), d));
    watch_until(&mut source, &mut view, &epoll, &signals, deadline)?;

    // Detached first: what is in the rings then is all there will be.
    source.detach();
    source.drain(u64::MAX, &mut |event| view.take(event));
    view.report_losses(&mut source);
    view.summary.lost = source.lost();
    view.summary.connections = view.connections.seen();
    view.summary.not_held = view.connections.not_held();
    view.output
        .finish(&view.connections, view.summary, time::realtime());
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
    source: &mut Source,
    view: &mut View,
    epoll: &Epoll,
    signals: &Signals,
    deadline: Option<u64>,
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
        view.clock.refresh();
        let now = time::monotonic();
        let stop = signals.stop() || now >= until;
        held = source.drain(now.saturating_sub(SETTLE), &mut |event| view.take(event));
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
        if stop || view.left == 0 || view.output.is_closed() {
            return Ok(());
        }
    }
}
