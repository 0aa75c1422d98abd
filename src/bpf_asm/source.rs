//! Where everything came from: the lines that were read, and which of them each item and each label stands on.

use super::lex::statement;
use super::open::Place;
use super::program::AsmError;
use crate::bpf_link::{self, Lines, Template};
use std::collections::HashMap;
use std::sync::Arc;

/// Where everything came from.
#[derive(Default)]
pub(super) struct Source {
    /// Every line read: file, number, text.
    pub(super) lines: Vec<(String, usize, String)>,
    /// The place of each item.
    pub(super) items: Vec<Place>,
    /// The labels: the item that each stands before, its name and its place.
    pub(super) labels: Vec<(usize, String, Place)>,
}

impl Source {
    /// An error at a place.
    pub(super) fn error(&self, (line, col): Place, message: String) -> AsmError {
        let (file, line, text) = self.lines.get(line).cloned().unwrap_or_default();
        AsmError {
            file,
            line,
            col,
            message,
            text,
        }
    }

    /// Tells the program where its items and labels stand.
    pub(super) fn tell<'s>(&'s self, program: &mut Template) {
        let mut all = Lines::default();
        // What is included or used twice is one text.
        let mut known = HashMap::new();
        let mut add = |(line, col): Place, label: Option<&'s str>| {
            let (file, number, text) = self.lines.get(line)?;
            let text = label.unwrap_or_else(|| statement(text, col));
            let number = u32::try_from(*number).ok()?;
            if let Some(line) = known.get(&(file, number, text)) {
                return Some(*line);
            }
            let line = all.add(bpf_link::Place { file, number, text })?;
            known.insert((file, number, text), line);
            Some(line)
        };
        let items = self.items.iter().map_while(|place| add(*place, None));
        program.lines = items.collect();
        let labels = self.labels.iter().map_while(|(item, name, place)| {
            let item = u32::try_from(*item).ok()?;
            Some((item, add(*place, Some(name.as_str()))?))
        });
        program.labels = labels.collect();
        program.text = Arc::new(all);
    }
}
