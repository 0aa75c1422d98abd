//! The lines of text that a program was assembled from.
//!
//! Contract: a line's text is its statement alone, without comment and label; that of a label is its name. What isn't
//! there is `None`. Shared with build.rs.

/// Lines, by their numbers in the order in which they were added.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Lines {
    files: Vec<String>,
    lines: Vec<Line>,
    /// All texts, one after the other.
    text: String,
}

/// A line; its text starts where that of the one before ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Line {
    file: u16,
    number: u32,
    /// Where its text ends.
    end: u32,
}

/// A place in the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place<'a> {
    /// The file.
    pub file: &'a str,
    /// The line in it, from 1.
    pub number: u32,
    /// The statement, or the label's name.
    pub text: &'a str,
}

impl Lines {
    /// Adds a line; its number. `None` if there are more than the numbers reach.
    pub fn add(&mut self, place: Place<'_>) -> Option<u32> {
        // Lines of one file follow each other.
        let file = self.files.iter().rposition(|name| name == place.file);
        let file = file.unwrap_or_else(|| {
            self.files.push(place.file.to_string());
            self.files.len() - 1
        });
        let file = u16::try_from(file).ok()?;
        self.text.push_str(place.text);
        let line = Line {
            file,
            number: place.number,
            end: u32::try_from(self.text.len()).ok()?,
        };
        self.lines.push(line);
        u32::try_from(self.lines.len() - 1).ok()
    }

    /// The line of that number.
    pub fn get(&self, line: u32) -> Option<Place<'_>> {
        let at = line as usize;
        let Line { file, number, end } = *self.lines.get(at)?;
        let start = match at {
            0 => 0,
            _ => self.lines.get(at - 1)?.end,
        };
        Some(Place {
            file: self.files.get(usize::from(file))?,
            number,
            text: self.text.get(start as usize..end as usize)?,
        })
    }
}
