//! Lines of events and connections.
//!
//! Contract: standard output's line is made first, in its buffer. The log's is the same
//! or, in another format, made anew; it is kept first.

use super::{AHEAD, Formats, Output};
use crate::lifecycle::connection::Connection;
use crate::lifecycle::open::Open;
use crate::output::format::{FormatName, Record, Shown};
use crate::sys::append::append;

/// Makes a line.
type Render<'a> = &'a dyn Fn(&mut Formats, FormatName, &mut Vec<u8>);

impl Output {
    /// Pays what standard output owes; how long its buffer is.
    #[inline(always)]
    fn begin(&mut self) -> usize {
        if self.console.owes() {
            self.formats.pay(self.format, &mut self.console);
        }
        self.console.buffered()
    }

    /// Keeps what was appended to standard output's buffer since [`Output::begin`], and
    /// has the log say it, too; whether there is anything.
    #[inline]
    fn keep(&mut self, start: usize, render: Render<'_>) -> bool {
        let grown = self.console.buffered() > start;
        if self.log.is_some() {
            self.keep_in_log(start, render);
        }
        self.console.keep(start);
        if self.console.is_full() || self.log.as_ref().is_some_and(|l| l.stream.is_full()) {
            self.make_room();
        }
        grown
    }

    #[inline(never)]
    fn keep_in_log(&mut self, start: usize, render: Render<'_>) {
        let formats = &mut self.formats;
        if let Some(log) = &mut self.log {
            let stream = &mut log.stream;
            if stream.owes() {
                formats.pay(self.log_format, stream);
            }
            let out = stream.buffer();
            let from = out.len();
            if self.log_format == self.format {
                let console = self.console.buffer();
                append(out, console.get(start..).unwrap_or_default());
            } else {
                render(formats, self.log_format, out);
            }
            stream.keep(from);
        }
    }

    #[cold]
    #[inline(never)]
    fn make_room(&mut self) {
        match self.patient {
            true => self.outlast(AHEAD),
            false => self.write(),
        }
    }

    /// Whether there is a line on standard output now that was not there before.
    #[inline]
    fn both(&mut self, render: Render<'_>) -> bool {
        let start = self.begin();
        render(&mut self.formats, self.format, self.console.buffer());
        self.keep(start, render)
    }

    /// Shows an event, of this connection where it has one.
    #[inline]
    pub fn event(&mut self, connection: Option<&Connection>, shown: &Shown<'_>) {
        let start = self.begin();
        let (format, out) = (self.format, self.console.buffer());
        self.formats.event(format, out, shown, connection);
        self.keep(start, &|formats, name, out| {
            formats.event(name, out, shown, connection);
        });
    }

    /// Shows a connection that has ended, where the formats have a line for it;
    /// whether standard output has.
    #[inline]
    pub fn connection(&mut self, record: &Record<'_>) -> bool {
        let reasons = std::mem::take(&mut self.reasons);
        let shown =
            self.both(&|formats, name, out| formats.connection(name, out, record, &reasons));
        self.reasons = reasons;
        shown
    }

    /// Shows a connection that is open; it is `now` on the event clock.
    pub(crate) fn still_open(&mut self, open: &Open, now: u64) {
        self.both(&|formats, name, out| match name {
            FormatName::Classic => formats.classic.still_open(out, open, now),
            FormatName::Json => formats.json.still_open(out, open, now),
            FormatName::Picture => {}
        });
    }
}
