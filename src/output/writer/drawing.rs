//! The picture in the place of standard output's lines.
//!
//! Contract: see [`Picture`]. It is not drawn while what was drawn before waits for the
//! reader, and is finished when the outputs are dropped at the latest.

use super::Output;
use crate::output::format::Summary;
use crate::output::notice;
use crate::output::outlast::outlast;
use crate::output::picture::{self, Picture, Visit};
use crate::sys::signal;
use std::os::fd::BorrowedFd;

impl Output {
    /// From here on this is on standard output.
    pub(crate) fn show(&mut self, picture: Box<dyn Picture>) {
        if picture.keys().is_some() {
            notice::hold(true);
        }
        self.formats.picture = Some(picture);
        picture::set_shown();
    }

    /// Whether there is one.
    pub(crate) fn has_picture(&self) -> bool {
        picture::is_shown() && self.formats.picture.is_some()
    }

    /// The terminal whose keys the picture takes.
    pub(crate) fn keys(&self) -> Option<BorrowedFd<'_>> {
        match picture::is_shown() {
            true => self.formats.picture.as_ref()?.keys(),
            false => None,
        }
    }

    /// Takes what keys there are; whether the user has asked for the end.
    pub(crate) fn key(&mut self) -> bool {
        let picture = self.formats.picture.as_mut();
        picture.is_some_and(|picture| picture.key())
    }

    /// When the picture is to be drawn.
    pub(crate) fn due(&self) -> u64 {
        match &self.formats.picture {
            _ if !picture::is_shown() => u64::MAX,
            Some(picture) if self.console.waiting() == 0 => picture.due(),
            _ => u64::MAX,
        }
    }

    /// Draws the picture where it is due.
    pub(crate) fn draw(&mut self, now: u64, wall: u64, open: &mut Visit<'_>) {
        let Some(picture) = &mut self.formats.picture else {
            return;
        };
        if signal::take_resized() {
            picture.resized();
        }
        if self.console.waiting() == 0 && now >= picture.due() {
            let out = self.console.buffer();
            let start = out.len();
            picture.draw(now, wall, open, out);
            self.console.keep(start);
            self.flush();
        }
    }

    /// Finishes the picture, where there is one still.
    pub(super) fn end_picture(&mut self, summary: &Summary) {
        if !picture::is_shown() {
            return;
        }
        if let Some(mut picture) = self.formats.picture.take() {
            let out = self.console.buffer();
            let start = out.len();
            picture.finish(summary, out);
            self.console.keep(start);
            outlast(&mut [&mut self.console], 0, self.patient);
            notice::hold(false);
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.end_picture(&Summary::default());
    }
}
