//! Reading again what was recorded: JSON lines of earlier runs, of one host or of
//! several, to be filtered, shown and reported on as if they came now.
//!
//! Contract: nothing of the kernel is needed but files. Lines of several files come
//! by their times; those of one file in its order. A line that can't be read is
//! said and counted, and no more. No reader of the output makes it lose lines: it
//! is waited for.

mod known;
mod line;
mod pace;
mod said;
mod source;
mod values;

use super::Open;
use super::view::View;
use crate::capture::Transport;
use crate::cli::{Config, LogChoice};
use crate::error::{Error, Kind};
use crate::host::zone;
use crate::model::ability::Abilities;
use crate::model::event::Event;
use crate::model::text::printable;
use crate::output::notice::notice;
use crate::output::place::{identity, kind};
use crate::output::{Output, Summary};
use crate::sys::signal::Signals;
use crate::sys::{Errno, file, limits};
use line::{At, Members};
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, Mode, fstat};
use pace::Pace;
use said::Said;
use source::{Next, Source};
use std::fs::File;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};

/// A file, and its line whose turn is next.
struct Input {
    /// What a person calls it.
    name: String,
    source: Source,
    members: Members,
    /// Where the line stands in the source, and its time; `None` at the end.
    next: Option<(Range<usize>, u64)>,
    /// The lines so far, and those that could not be read.
    number: u64,
    broken: u64,
    /// Lines that tell of nothing that is shown.
    other: u64,
    /// Events, and events lost, of which no sums have told yet.
    received: u64,
    lost: u64,
}

/// Called before it is waited for a line of this file; whether to go on.
type Idle<'a> = dyn FnMut(BorrowedFd<'_>) -> bool + 'a;

fn failed(what: &str, errno: Errno) -> Error {
    Error::new(Kind::Runtime, format!("{what}: {errno}")).or_limit(errno)
}

/// Opens a file; a FIFO waits for its writer, until told to stop.
fn open_file(path: &str, signals: &Signals) -> Result<File, Errno> {
    loop {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        match nix::fcntl::open(path, flags, Mode::empty()).map_err(Errno::from) {
            Err(Errno::EINTR) if !signals.stop() => {}
            file => return file.map(File::from),
        }
    }
}

impl Input {
    #[cold]
    fn open(path: &str, alone: bool, signals: &Signals) -> Result<Input, Error> {
        let (name, file) = match path {
            "-" => {
                let stdin = std::io::stdin().as_fd().try_clone_to_owned();
                let stdin = stdin.map_err(|error| Errno::from_io(&error));
                ("standard input".to_string(), stdin.map(File::from))
            }
            _ => (printable(path), open_file(path, signals)),
        };
        let file = file.map_err(|errno| failed(&["cannot read ", &name].concat(), errno))?;
        Ok(Input {
            name,
            source: Source::new(file),
            members: Members::new(alone),
            next: None,
            number: 0,
            broken: 0,
            other: 0,
            received: 0,
            lost: 0,
        })
    }

    #[cold]
    fn say_broken(&mut self, why: &str) {
        self.broken += 1;
        if self.broken == 1 {
            notice(&format!(
                "warning: line {} of {} can't be read: {why}; it is left out, and what else \
                 can't be read is counted",
                self.number, self.name
            ));
        }
    }

    #[cold]
    fn say_senseless(&mut self, at: At) {
        self.say_broken(&[at.name(), " is missing or makes no sense"].concat());
    }

    /// Goes to the next line that can be read. `idle` is called before it is waited
    /// for one; whether to go on then.
    fn advance(&mut self, idle: &mut Idle<'_>) -> Result<(), Error> {
        self.next = None;
        loop {
            let next = self.source.next();
            match next {
                Next::End => return Ok(()),
                Next::Starved => {
                    if !idle(self.source.file()) {
                        return Ok(());
                    }
                    self.source.fill().map_err(|error| {
                        let errno = Errno::from_io(&error);
                        failed(&["cannot read ", &self.name].concat(), errno)
                    })?;
                    continue;
                }
                _ => self.number += 1,
            }
            let (place, whole) = match next {
                Next::Line(place) => (place, true),
                Next::Cut(place) => (place, false),
                _ => {
                    self.say_broken("it is too long");
                    continue;
                }
            };
            let line = self.source.text(place.clone());
            if !self.members.read(line) {
                if self.number == 1 && self.source.is_compressed() {
                    let why = [&self.name, " is compressed"].concat();
                    let how = ["zcat ", &self.name, " | socket-snoop -r -"].concat();
                    return Err(Error::new(Kind::Runtime, why).advise(how));
                }
                self.say_broken(match whole {
                    true => "it is no object of JSON",
                    false => "it is cut off",
                });
                continue;
            }
            let said = Said::new(line, &self.members);
            let wall = said.wall();
            match said.broken() {
                // Of what was open then the lines of its events tell.
                None if said.text(At::EVENT_NAME) == b"connection.open" => {}
                None => {
                    self.next = Some((place, wall));
                    return Ok(());
                }
                Some(at) => self.say_senseless(at),
            }
        }
    }

    /// Hands on the line whose turn it is.
    fn take(&mut self, view: &mut View, sums: &mut Summary) {
        let Some((place, wall)) = self.next.take() else {
            return;
        };
        let line = self.source.text(place);
        let said = Said::at(line, &self.members, wall);
        match said.text(At::EVENT_NAME) {
            b"summary" => {
                (self.received, self.lost) = (0, 0);
                add(&said, sums);
            }
            b"lost" => {
                if let Some(lost) = said.lost() {
                    if lost.reason.is_of_events() {
                        self.lost = self.lost.saturating_add(lost.count);
                    }
                    view.output.lost(&lost);
                }
            }
            _ => match said.event() {
                Some(event) => self.received += u64::from(show(&said, event, view)),
                None => self.other += 1,
            },
        }
        if let Some(at) = said.broken() {
            self.say_senseless(at);
        }
    }

    /// Whether it has lines, and all of them are no recorded ones.
    fn is_unread(&self) -> bool {
        self.number > 0 && self.broken == self.number
    }

    /// Whether what is read from it is written to it again, without an end.
    fn is_written(&self, outputs: &[FileStat]) -> bool {
        let own = fstat(self.source.file()).ok();
        own.filter(|own| kind(own) == libc::S_IFREG)
            .is_some_and(|own| {
                outputs
                    .iter()
                    .any(|output| identity(output) == identity(&own))
            })
    }

    /// Says what could not be used.
    #[cold]
    fn say_rest(&self) {
        let (broken, other) = (self.broken, self.other);
        if self.is_unread() {
            notice(&format!(
                "warning: none of the {} lines of {} can be read: what is recorded by \
                 --format json or --log-format json can",
                self.number, self.name
            ));
        } else if broken > 1 || other > 0 {
            notice(&format!(
                "note: of the {} lines of {}, {broken} could not be read, and {other} tell of \
                 nothing that is known here",
                self.number, self.name
            ));
        }
    }
}

/// Shows an event, or the end of a connection, if its line makes sense; whether it was
/// an event.
fn show(said: &Said<'_>, event: Event, view: &mut View) -> bool {
    let (id, is_line) = (said.id(), event.is_line());
    if let Some((cgroup, place)) = said.place() {
        view.recall_place(cgroup, place);
    }
    let of_line = (said.segments(), said.time_wait());
    if is_line {
        if said.broken().is_none() {
            view.recall(event, id, of_line);
        }
        return true;
    }
    let (reason, told) = (said.string(At::TCP_RESET_REASON), said.told());
    match id {
        Some(id) if said.broken().is_none() => view.recall_end(event, id, (&told, &reason)),
        _ => said.complain(At::SOCKET_ID),
    }
    false
}

/// Adds the sums of a run.
fn add(said: &Said<'_>, sums: &mut Summary) {
    let ways = [Transport::Tracepoint, Transport::Btf, Transport::Perf];
    let way = said.text(At::EVENTS_TRANSPORT);
    let way = ways
        .into_iter()
        .find(|known| known.name().as_bytes() == way);
    sums.transport = way.map_or(sums.transport, Transport::name);
    let filter = said.string(At::FILTER_EXPRESSION);
    if filter != sums.filter.text {
        sums.filter.changes += u64::from(sums.received > 0);
        if !filter.is_empty() {
            sums.filter.text = filter;
        }
    }
    if let Some(kept) = said.number(At::FILTER_KEPT_AWAY) {
        *sums.filter.kept_away.get_or_insert_default() += kept;
    }
    for (at, sum) in [
        (At::EVENTS_RECEIVED, &mut sums.received),
        (At::LOST_EVENTS, &mut sums.lost),
        (At::CONNECTIONS_SEEN, &mut sums.connections),
        (At::CONNECTIONS_BIRTH_MISSED, &mut sums.birth_missed),
        (At::LOST_CONNECTIONS, &mut sums.refused_connections),
        (At::CONNECTIONS_UNTOUCHED, &mut sums.untouched),
    ] {
        *sum = sum.saturating_add(said.number(at).unwrap_or(0));
    }
}

/// The file whose line is the oldest, and its time.
fn oldest(inputs: &mut [Input]) -> Option<(&mut Input, u64)> {
    let mut first = None::<(&mut Input, u64)>;
    for input in inputs {
        let Some((_, wall)) = input.next else {
            continue;
        };
        if first.as_ref().is_none_or(|(_, least)| wall < *least) {
            first = Some((input, wall));
        }
    }
    first
}

/// Reads the files of a command line again.
pub fn run(config: &Config, picture: Option<Open>) -> Result<u8, Error> {
    zone::settle();
    let console = std::io::stdout().as_fd().try_clone_to_owned();
    let console = console.map_err(|error| failed("standard output", Errno::from_io(&error)))?;
    let signals = Signals::install().map_err(|errno| failed("cannot handle signals", errno))?;
    limits::raise_open_files();
    let usage = |message: &str| Error::new(Kind::Usage, message);
    if config.read.iter().filter(|path| *path == "-").count() > 1 {
        return Err(usage("-r -: standard input can be read once only"));
    }
    let mut outputs: Vec<FileStat> = fstat(&console).into_iter().collect();
    if let LogChoice::Path(path) = &config.log {
        outputs.extend(file::status(path.as_ref()));
    }
    let mut inputs = Vec::new();
    for path in &config.read {
        let input = match Input::open(path, config.read.len() == 1, &signals) {
            Err(_) if signals.stop() => return Ok(0),
            input => input?,
        };
        if input.is_written(&outputs) {
            let message = "cannot read what is written to at once: give standard output, and the \
                           log, another file than ";
            return Err(usage(&[message, &input.name].concat()));
        }
        inputs.push(input);
    }
    let log = super::open_log(config, None);
    let (format, log_format) = (config.format, config.log_format);
    let mut output = Output::new(
        File::from(console),
        format,
        log,
        log_format,
        config.shape,
        Vec::new(),
    )
    .map_err(super::epoll_failed)?;
    output.be_patient();
    if let Some(open) = picture {
        output.show(open(config)?);
    }
    let mut view = View::of(config, output, Abilities::all(), (Transport::Perf, &[]));
    let mut sums = Summary {
        transport: "recorded",
        ..Summary::default()
    };
    let mut pace = Pace::new(&signals, config.speed);
    for input in &mut inputs {
        input.advance(&mut |file| pace.wait_for(&mut view, file))?;
    }
    while let Some((input, wall)) = oldest(&mut inputs) {
        pace.wait(&mut view, wall);
        if view.is_done() || signals.stop() {
            break;
        }
        input.take(&mut view, &mut sums);
        if view.is_done() {
            break;
        }
        input.advance(&mut |file| pace.wait_for(&mut view, file))?;
    }
    pace.linger(&mut view);
    for input in &inputs {
        input.say_rest();
        sums.received += input.received;
        sums.lost += input.lost;
    }
    let unread = inputs.iter().any(Input::is_unread);
    view.finish_recalled(sums, pace.latest())?;
    Ok(u8::from(unread))
}
