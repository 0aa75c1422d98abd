//! The story of a run: open, attach, loop, drain, report.
//!
//! Contract: when the opening line is printed, everything is attached. One
//! epoll wait serves rings, signals and a reader that leaves; it is woken by a
//! watermark, never by single events, and by a timeout that bounds how long an
//! event can wait.

use crate::cli::{Config, DEFAULT_LOG, FALLBACK_LOG, LogChoice};
use crate::error::{Error, Kind};
use crate::event::Event;
use crate::filter::{Filter, Verdict};
use crate::lifecycle::Connections;
use crate::loss::Losses;
use crate::output::log::Log;
use crate::output::stream::Stream;
use crate::output::{Output, Shown, Summary, notice};
use crate::perf::{Rings, Sample};
use crate::program::{Maps, Program, check_capabilities};
use crate::programs;
use crate::sys::signal::Signals;
use crate::sys::{Errno, time};
use crate::text::{WallClock, printable};
use crate::tracepoint::{Attached, TraceFs};
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

/// What is attached in the kernel.
struct Kernel {
    rings: Rings,
    maps: Maps,
    programs: Vec<Program>,
    attached: Vec<Attached>,
}

impl Kernel {
    fn attach(config: &Config) -> Result<Kernel, Error> {
        check_capabilities()?;
        let tracefs = TraceFs::open()?;
        let rings = Rings::open(config.buffer)?;
        if rings.size() < rings.wanted() {
            notice(&format!(
                "warning: rings of {} KiB per CPU instead of {} KiB: locked memory is limited; \
                 raise kernel.perf_event_mlock_kb or give CAP_IPC_LOCK",
                rings.size() / 1024,
                rings.wanted() / 1024
            ));
        }
        let maps = Maps::create(&rings)?;
        let cpus = rings.cpus();
        let mut programs = Vec::new();
        let mut attached = Vec::new();
        for template in [&programs::STATE, &programs::RETRANSMIT] {
            let tracepoint = tracefs.event(template.group, template.event)?;
            let program = Program::load(template, &tracepoint, &maps)?;
            attached.push(tracepoint.attach(program.as_fd(), &cpus)?);
            programs.push(program);
        }
        Ok(Kernel {
            rings,
            maps,
            programs,
            attached,
        })
    }
}

/// What the events go through.
struct View {
    output: Output,
    connections: Connections,
    filter: Filter,
    clock: WallClock,
    losses: Losses,
    summary: Summary,
    left: u64,
}

impl View {
    /// Takes a sample; whether more are wanted.
    fn sample(&mut self, sample: Sample<'_>) -> bool {
        let mut buffer = [0; crate::event::WIRE_LEN];
        let bytes = sample.data.flatten(&mut buffer);
        self.summary.received += 1;
        match Event::decode(sample.time, sample.cpu, bytes) {
            Ok(event) => self.event(&event),
            Err(_) => self.losses.undecodable(),
        }
        self.left > 0 && !self.output.is_closed()
    }

    fn event(&mut self, event: &Event) {
        let wall = self.clock.wall(event.time);
        let (id, connection) = self.connections.observe(event, wall);
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

    fn report_losses(&mut self, kernel: &Kernel) {
        let (output, wall) = (&mut self.output, time::realtime());
        let (rings, maps) = (&kernel.rings, &kernel.maps);
        let tell = &mut |lost| output.lost(&lost);
        self.losses.poll(rings, maps, &kernel.programs, wall, tell);
    }
}

fn runtime(what: &str, errno: Errno) -> Error {
    Error::new(Kind::Runtime, format!("{what}: {errno}"))
}

/// Traces until told to stop.
pub fn run(config: &Config) -> Result<(), Error> {
    let console = std::io::stdout().as_fd().try_clone_to_owned();
    let console =
        console.map_err(|e| Error::new(Kind::Runtime, format!("standard output: {e}")))?;
    // Signals first: from here on a stop is orderly.
    let signals = Signals::install().map_err(|e| runtime("cannot handle signals", e))?;
    let mut kernel = Kernel::attach(config)?;
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
        output: Output::new(console, config.format, log, config.log_format),
        connections: Connections::new(config.history, time::realtime()),
        filter: config.filter.clone(),
        clock: WallClock::new(),
        losses: Losses::default(),
        summary: Summary::default(),
        left: config.count.unwrap_or(u64::MAX),
    };
    let epoll = watch(&kernel, &signals, &view.output)?;
    view.output.say(&opening);
    let deadline = config.duration.map(|d| deadline(time::monotonic(), d));
    watch_until(&mut kernel, &mut view, &epoll, &signals, deadline)?;

    // Detached first: what is in the rings then is all there will be.
    kernel.attached.clear();
    kernel
        .rings
        .drain(u64::MAX, &mut |sample| view.sample(sample));
    view.report_losses(&kernel);
    view.summary.lost = view.losses.total();
    view.summary.connections = view.connections.seen();
    view.summary.not_held = view.connections.not_held();
    view.output
        .finish(&view.connections, view.summary, time::realtime());
    Ok(())
}

fn deadline(now: u64, after: Duration) -> u64 {
    now.saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX))
}

fn watch(kernel: &Kernel, signals: &Signals, output: &Output) -> Result<Epoll, Error> {
    let failed = |errno| runtime("cannot wait for events (epoll)", errno);
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed)?;
    for (index, ring) in kernel.rings.iter().enumerate() {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, index as u64);
        epoll.add(ring, event).map_err(failed)?;
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
    kernel: &mut Kernel,
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
        let ready = match epoll.wait(&mut events, timeout) {
            Ok(count) => &events[..count],
            Err(Errno::EINTR) => &[],
            Err(errno) => return Err(runtime("cannot wait for events (epoll)", errno)),
        };
        for event in ready {
            let gone = event
                .events()
                .intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP);
            match event.data() {
                WAKE_SIGNAL => signals.acknowledge(),
                WAKE_CONSOLE => view.output.set_closed(),
                // The ring's CPU went away; it would be ready for ever.
                index if gone => {
                    if let Some(ring) = kernel.rings.iter().nth(index as usize) {
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
        held = kernel
            .rings
            .drain(now.saturating_sub(SETTLE), &mut |sample| {
                view.sample(sample)
            });
        if now - losses_at >= IDLE {
            losses_at = now;
            view.report_losses(kernel);
        }
        view.output.flush();
        if stop || view.left == 0 || view.output.is_closed() {
            return Ok(());
        }
    }
}
