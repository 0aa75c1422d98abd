//! Console and log: lines go to both, and each takes them at its own pace.
//!
//! Contract: nothing here waits but [`Output::finish`], and that only while a
//! reader goes on reading. The log is written first. What an output lost is said
//! in it, where lines are missing, and in the sums; what can't be said there is
//! said on standard error.

mod drawing;
mod showing;

use super::classic::Classic;
use super::format::{Format, FormatName, Reasons, Record, Shape, Shown, Summary};
use super::json::Json;
use super::log::Log;
use super::metrics::Metrics;
use super::outlast::outlast;
use super::picture::{self, Picture};
use super::report::{self, sums};
use super::sink::Sink;
use super::stream::{Flushed, LIMIT, Lines, Stream};
use super::waits::{OUTPUTS, Ready, Waits};
use crate::error::{Error, Kind};
use crate::host::cgroup::Cgroups;
use crate::lifecycle::Connections;
use crate::lifecycle::connection::Connection;
use crate::model::loss::{Lost, Reason};
use crate::output::notice::{self, notice};
use crate::sandbox::{Names, OutputAccess};
use crate::sys::{Errno, Result, time};
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

/// What the report may run ahead of its reader, in bytes.
const AHEAD: usize = 256 * 1024;

/// Reasons of resets that are known by name, where these were recorded.
const REASONS: usize = 256;

/// The outputs' numbers.
const CONSOLE: usize = 0;
const LOG: usize = 1;

/// Console and log file.
pub struct Output {
    console: Stream,
    format: FormatName,
    log: Option<Log>,
    log_format: FormatName,
    formats: Formats,
    reasons: Reasons,
    waits: Waits,
    /// Whether readers are waited for as long as it takes.
    patient: bool,
    /// Figures, where they are asked for.
    pub(crate) metrics: Option<Box<Metrics>>,
}

/// What lines are made by.
struct Formats {
    classic: Classic,
    json: Json,
    picture: Option<Box<dyn Picture>>,
}

impl Formats {
    /// The picture, as long as it is shown: it may be over, and so is the run.
    fn picture(&mut self) -> Option<&mut Box<dyn Picture>> {
        self.picture.as_mut().filter(|_| picture::is_shown())
    }

    // Not by a table of what the formats do: most events come here.
    #[inline]
    fn event(
        &mut self,
        name: FormatName,
        out: &mut Vec<u8>,
        shown: &Shown<'_>,
        connection: Option<&Connection>,
    ) {
        match name {
            FormatName::Classic => self.classic.event(out, shown, connection),
            FormatName::Json => self.json.event(out, shown, connection),
            FormatName::Picture => {
                if let Some(picture) = self.picture() {
                    picture.event(out, shown, connection);
                }
            }
        }
    }

    #[inline]
    fn connection(
        &mut self,
        name: FormatName,
        out: &mut Vec<u8>,
        record: &Record<'_>,
        why: &Reasons,
    ) {
        match name {
            FormatName::Classic => self.classic.connection(out, record, why),
            FormatName::Json => self.json.connection(out, record, why),
            FormatName::Picture => {
                if let Some(picture) = self.picture() {
                    picture.connection(out, record, why);
                }
            }
        }
    }

    /// Says in a stream what it owes, if now is the time.
    fn pay(&mut self, name: FormatName, stream: &mut Stream) {
        for mut lost in stream.take_owed() {
            if lost.wall == 0 {
                lost.wall = time::realtime();
            }
            self.say(name, stream, lost);
        }
    }

    fn say(&mut self, name: FormatName, stream: &mut Stream, lost: Lost) {
        stream.say(lost, &mut |out, lost| match name {
            FormatName::Classic => self.classic.lost(out, lost),
            FormatName::Json => self.json.lost(out, lost),
            FormatName::Picture => {
                if let Some(picture) = self.picture() {
                    picture.lost(out, lost);
                }
            }
        });
    }
}

impl Output {
    /// Lines in `format` to standard output, and in `log_format` to a log.
    /// `reasons` are the names of reset reasons.
    pub fn new(
        console: File,
        format: FormatName,
        log: Option<Log>,
        log_format: FormatName,
        shape: Shape,
        reasons: Reasons,
    ) -> Result<Output> {
        let slow = (Reason::ConsoleSlow, Reason::ConsoleWrite);
        let mut output = Output {
            console: Stream::new(Some(Sink::shared(console)), LIMIT, slow),
            format,
            log,
            log_format,
            formats: Formats {
                classic: Classic::new(shape),
                json: Json::new(shape),
                picture: None,
            },
            reasons,
            waits: Waits::new()?,
            patient: false,
            metrics: None,
        };
        output.wait(Default::default());
        Ok(output)
    }

    /// Waits for readers as long as it takes, until told to stop: nothing else is to be
    /// done.
    pub(crate) fn be_patient(&mut self) {
        self.patient = true;
    }

    /// The number of a reset's reason that was recorded by its name.
    pub(crate) fn reason(&mut self, name: &str) -> u32 {
        let known = self.reasons.iter().position(|(_, known)| known == name);
        let at = known.unwrap_or(self.reasons.len());
        if known.is_none() && at < REASONS {
            self.reasons.push((at as u32, name.to_owned()));
        }
        at as u32
    }

    /// What is needed of the system later.
    pub fn access(&self) -> OutputAccess<'_> {
        let console = self.console.sink().and_then(Sink::socket);
        OutputAccess {
            log: self.log.as_ref().map(Log::access),
            metrics: self.metrics.as_ref().map(|metrics| metrics.access()),
            keys: self.keys(),
            send: console.into_iter().chain(notice::prepare()).collect(),
            ..self.formats.json.cgroups().access()
        }
    }

    /// These copies of what names and opens files are used from here on.
    pub fn pin(&mut self, pinned: &Names) {
        if let (Some(log), Some(pinned)) = (&mut self.log, pinned.log) {
            log.pin(pinned);
        }
        self.formats.json.cgroups().pin(pinned.below);
        if let Some(metrics) = &mut self.metrics {
            metrics.file().pin(pinned.metrics);
        }
    }

    /// Whether lines tell what a cgroup is in.
    pub(crate) fn tells_of_cgroups(&self) -> bool {
        let log = self.log.as_ref().map(|_| self.log_format);
        self.format == FormatName::Json || log == Some(FormatName::Json)
    }

    /// Lines tell what these say from here on.
    pub(crate) fn know(&mut self, cgroups: Rc<Cgroups>) {
        self.formats.json.know(cgroups);
    }

    /// From here on there are classic lines for connections that have ended, too, or
    /// not.
    pub fn show_connections(&mut self, shown: bool) {
        self.formats.classic.shape.connections = shown;
    }

    /// Says that something is missing.
    pub fn lost(&mut self, lost: &Lost) {
        if let Some(metrics) = &mut self.metrics {
            metrics.lost(lost);
        }
        let log = self.log.as_mut().map(|log| &mut log.stream);
        let outputs = [
            (self.log_format, log),
            (self.format, Some(&mut self.console)),
        ];
        for (format, stream) in outputs {
            let Some(stream) = stream else { continue };
            if stream.owes() {
                self.formats.pay(format, stream);
            }
            match stream.is_dropping() {
                true => stream.owe(*lost),
                false => self.formats.say(format, stream, *lost),
            }
        }
    }

    fn line(&mut self, line: &str) {
        let start = self.console.buffer().len();
        let _ = writeln!(self.console.buffer(), "{line}");
        self.console.keep(start);
    }

    /// Makes the opening line ready, before any event; see
    /// [`Output::announced`].
    pub fn announce(&mut self, opening: &str) {
        if self.format == FormatName::Classic {
            self.line(opening);
        }
    }

    /// Shows the opening line that was made ready: on the console where that is
    /// for people, else on standard error.
    pub fn announced(&mut self, opening: &str) {
        match self.format {
            FormatName::Classic => self.flush(),
            FormatName::Picture if self.keys().is_some() => {}
            FormatName::Json | FormatName::Picture => notice::say(opening),
        }
    }

    /// Writes what is pending, the log first.
    fn write(&mut self) {
        if let Some(log) = &mut self.log {
            match log.flush() {
                Flushed::Fine | Flushed::Full | Flushed::StillFailing => {}
                Flushed::Failed(errno) => notice(&format!(
                    "warning: cannot write the log {}: {errno}; its lines are lost until it works again",
                    log.path()
                )),
                Flushed::Recovered(count) => notice(&format!(
                    "warning: the log {} can be written again; {count} lines are missing in it",
                    log.path()
                )),
                Flushed::Closed => self.log_left(),
            }
        }
        match self.console.flush() {
            Flushed::Fine | Flushed::Full | Flushed::StillFailing | Flushed::Closed => {}
            Flushed::Failed(errno) => notice(&format!(
                "warning: cannot write to standard output: {errno}; lines are lost until it works again"
            )),
            Flushed::Recovered(lines) => notice(&format!(
                "warning: standard output works again; {lines} lines were lost"
            )),
        }
    }

    fn wait(&mut self, ready: [Ready; OUTPUTS]) {
        let log = self.log.as_ref().map(|log| &log.stream);
        self.waits
            .update(CONSOLE, Some(&self.console), ready[CONSOLE]);
        self.waits.update(LOG, log, ready[LOG]);
    }

    fn log_left(&mut self) {
        if let Some(log) = &mut self.log {
            notice(&format!(
                "warning: the reader of the log {} has left; its lines are lost until there is one",
                log.path()
            ));
            log.lack(Errno::EPIPE);
        }
    }

    /// Writes everything that is pending, as far as there is room; tries again
    /// what failed, once in a while.
    pub fn flush(&mut self) {
        if let Some(log) = &mut self.log {
            log.retry();
        }
        self.write();
        self.wait(Default::default());
        notice::attend();
    }

    /// What to wait for: it is readable when [`Output::attend`] has something to do.
    pub fn waits(&self) -> BorrowedFd<'_> {
        self.waits.as_fd()
    }

    /// Looks after the outputs: there is room again, or a reader has left.
    pub fn attend(&mut self) {
        let ready = self.waits.take();
        if ready[CONSOLE].gone {
            self.console.set_closed();
        }
        if ready[LOG].gone {
            self.log_left();
        }
        self.write();
        self.wait(ready);
    }

    /// Reopens the log after a rotation (SIGHUP).
    pub fn reopen_log(&mut self) {
        self.flush();
        if let Some(log) = &mut self.log {
            if let Err(fault) = log.reopen() {
                let rest = match log.is_open() {
                    true => "going on with the old file",
                    false => "going on without a log until it can be",
                };
                notice(&format!(
                    "warning: cannot reopen the log {}: {fault}; {rest}",
                    log.path()
                ));
            }
        }
    }

    /// Whether the reader of standard output has left.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.console.is_closed()
    }

    fn lost_log_lines(&self) -> Lines {
        self.log
            .as_ref()
            .map_or(Lines::default(), |log| log.stream.lost())
    }

    /// Waits until no more than this waits for the readers.
    fn outlast(&mut self, enough: usize) {
        let log = self.log.as_mut().map(|log| &mut log.stream);
        let mut streams: Vec<&mut Stream> = log.into_iter().collect();
        if !self.console.is_closed() {
            streams.push(&mut self.console);
        }
        outlast(&mut streams, enough, self.patient);
    }

    /// Gives the outputs what time their readers need.
    fn settle(&mut self) {
        // Once more for the lines that say what was missing all the time.
        for _ in 0..2 {
            self.formats.pay(self.format, &mut self.console);
            if let Some(log) = &mut self.log {
                self.formats.pay(self.log_format, &mut log.stream);
            }
            self.write();
            self.outlast(0);
        }
        self.write();
    }

    /// The end of a run: the report (classic) or the summary object (json). What
    /// standard output could not be given is an error.
    pub fn finish(
        &mut self,
        connections: &Connections,
        mut summary: Summary,
        wall: u64,
    ) -> std::result::Result<(), Error> {
        self.settle();
        let in_log = self.lost_log_lines().all();
        summary.lost_log_lines = in_log;
        summary.lost_console_lines = self.console.lost().all();
        // One that never was there was said to be missing.
        if self.log.as_ref().is_some_and(Log::was_open) && in_log > 0 {
            notice(&format!("warning: {in_log} lines are missing in the log"));
        }
        self.end_picture(&summary);
        if self.is_closed() {
            // Nobody reads any more: the end is quiet.
            return Ok(());
        }
        match self.format {
            FormatName::Json => {
                notice::say("Stopping monitoring...");
                let totals = connections.totals();
                let out = self.console.buffer();
                let start = out.len();
                self.formats.json.summary(out, wall, &summary, &totals);
                self.console.keep(start);
            }
            FormatName::Classic => self.report(connections, &summary),
            FormatName::Picture => {}
        }
        let before = self.console.lost().all();
        outlast(&mut [&mut self.console], 0, self.patient);
        // One more line is never much; a torn one is.
        let whole = self.console.lost().all() == before && before == summary.lost_console_lines;
        self.verdict(summary, whole)
    }

    /// What is to be said of lines that standard output did not take; `whole`: it
    /// took the sums, with their number.
    fn verdict(&self, mut summary: Summary, whole: bool) -> std::result::Result<(), Error> {
        let lost = self.console.lost();
        summary.lost_console_lines = lost.all();
        if self.is_closed() || lost.all() == 0 {
            return Ok(());
        }
        let sums = match whole {
            true => String::new(),
            false => format!(". {}", sums(&summary)),
        };
        let lines = format!("{} lines are missing on standard output", lost.all());
        if lost.failed == 0 {
            notice(&format!(
                "warning: {lines}, whose reader was too slow{sums}"
            ));
            return Ok(());
        }
        let why = match self.console.failing() {
            Some(errno) => format!("cannot write to standard output: {errno}: "),
            None => String::new(),
        };
        Err(Error::new(Kind::Runtime, format!("{why}{lines}{sums}")))
    }

    fn report(&mut self, connections: &Connections, summary: &Summary) {
        let mut out = Vec::new();
        let terminal = self.console.sink().is_some_and(|s| s.file().is_terminal());
        if terminal {
            // The terminal has just shown ^C.
            out.push(b'\n');
        }
        let (console, patient) = (&mut self.console, self.patient);
        let mut put = |out: &mut Vec<u8>| {
            let start = console.buffer().len();
            console.buffer().append(out);
            console.keep(start);
            if console.is_full() {
                // What goes wrong now shows again at the last flush.
                outlast(&mut [&mut *console], AHEAD, patient);
            }
        };
        let shape = self.formats.classic.shape;
        report::render(&mut out, connections, summary, shape, &mut put);
    }
}
