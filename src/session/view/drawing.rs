//! The picture in the place of lines: its keys, and when it is drawn.

use super::View;
use crate::output::picture;

impl View {
    /// Takes the keys that there are: the user may ask for the end.
    pub(crate) fn key(&mut self) {
        if picture::is_shown() && self.output.key() {
            self.left = 0;
        }
    }

    /// Draws the picture, where there is one and it is due.
    pub(crate) fn draw(&mut self, now: u64) {
        self.draw_at(now, self.clock.wall(now));
    }

    /// The same at this time, on the clock of the picture and that of the day.
    pub(crate) fn draw_at(&mut self, now: u64, wall: u64) {
        if picture::is_shown() {
            let connections = &self.connections;
            self.output.draw(now, wall, &mut |see| {
                connections.each_open(&mut |id, connection| {
                    if connection.is_shown() {
                        see(id, connection);
                    }
                });
            });
        }
    }
}
