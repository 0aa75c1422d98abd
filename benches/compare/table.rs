//! Tables as Markdown has them, with their columns in line.
//!
//! Contract: a figure that is no number is shown as `-`.

use std::fmt;

/// The one in the middle, or the mean of two; no number where there is none.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.retain(|figure| figure.is_finite());
    figures.sort_by(f64::total_cmp);
    match figures.len() {
        0 => f64::NAN,
        n => (figures[(n - 1) / 2] + figures[n / 2]) / 2.0,
    }
}

/// A table.
pub struct Table {
    title: String,
    heads: Vec<String>,
    rows: Vec<(String, Vec<String>)>,
}

impl Table {
    /// An empty one.
    pub fn new(title: String, heads: &[&str]) -> Table {
        Table {
            title,
            heads: heads.iter().map(|head| head.to_string()).collect(),
            rows: Vec::new(),
        }
    }

    /// One more row: its name, and figures with their decimals.
    pub fn row(&mut self, name: &str, figures: &[(f64, usize)]) {
        let show = |(figure, decimals): &(f64, usize)| match figure.is_finite() {
            true => format!("{figure:.decimals$}"),
            false => "-".to_string(),
        };
        let cells = figures.iter().map(show).collect();
        self.rows.push((name.to_string(), cells));
    }

    /// The names of the rows.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.rows.iter().map(|(name, _)| name.as_str())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.names().map(|name| name.chars().count()).max();
        let name = name.unwrap_or(0);
        let widths: Vec<usize> = (0..self.heads.len())
            .map(|column| {
                let cells = self.rows.iter().map(|(_, cells)| cells[column].len());
                cells
                    .max()
                    .unwrap_or(0)
                    .max(self.heads[column].chars().count())
            })
            .collect();
        writeln!(f, "{}\n", self.title)?;
        write!(f, "| {:name$} |", "")?;
        for (head, width) in self.heads.iter().zip(&widths) {
            write!(f, " {head:>width$} |")?;
        }
        write!(f, "\n|{:-<1$}|", "", name + 2)?;
        for width in &widths {
            write!(f, "{:-<1$}:|", "", width + 1)?;
        }
        for (row, cells) in &self.rows {
            write!(f, "\n| {row:name$} |")?;
            for (cell, width) in cells.iter().zip(&widths) {
                write!(f, " {cell:>width$} |")?;
            }
        }
        writeln!(f)
    }
}
