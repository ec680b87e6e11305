//! Medians, how far the rounds lie apart, and ratios to the first candidate.
//!
//! A ratio is taken in each round and then the median of the ratios, so that what slows down a whole round cancels out. The
//! spread after `±` is half the distance between the lowest and the highest, in percent of the median.

use std::fmt::Write as _;

/// One thing that is measured.
#[derive(Debug)]
pub struct Figure {
    name: &'static str,
    decimals: usize,
    /// Per candidate, in the order of the rounds.
    samples: Vec<Vec<f64>>,
}

impl Figure {
    /// Nothing measured yet; shown with so many decimals.
    pub fn new(name: &'static str, decimals: usize) -> Self {
        Self {
            name,
            decimals,
            samples: Vec::new(),
        }
    }

    /// `12.3 ±4%` and `x 0.87 ±1%`, as far as there is something to say.
    fn cell(&self, candidate: usize) -> String {
        let samples = &self.samples[candidate];
        let mut cell = String::new();
        let Some(middle) = median(samples) else {
            return "-".to_owned();
        };
        let _ = write!(cell, "{middle:.*}{}", self.decimals, spread(samples));
        let ratios: Vec<f64> = samples
            .iter()
            .zip(&self.samples[0])
            .map(|(own, first)| own / first)
            .collect();
        if candidate > 0
            && let Some(ratio) = median(&ratios)
        {
            let _ = write!(cell, "  x {ratio:.2}{}", spread(&ratios));
        }
        cell
    }
}

/// Some figures of all candidates.
#[derive(Debug)]
pub struct Table {
    title: String,
    names: Vec<&'static str>,
    figures: Vec<Figure>,
}

impl Table {
    /// An empty one.
    pub fn new(title: &str, names: &[&'static str], figures: Vec<Figure>) -> Self {
        let figures = figures.into_iter().map(|figure| Figure {
            samples: vec![Vec::new(); names.len()],
            ..figure
        });
        Self {
            title: title.to_owned(),
            names: names.to_vec(),
            figures: figures.collect(),
        }
    }

    /// Adds what `candidate` got in a round for the figure number `figure`.
    pub fn add(&mut self, candidate: usize, figure: usize, value: f64) {
        self.figures[figure].samples[candidate].push(value);
    }

    /// Prints it.
    pub fn print(&self) {
        let mut text = format!("\n{:<20}", self.title);
        for figure in &self.figures {
            let _ = write!(text, "{:<26}", figure.name);
        }
        for (candidate, name) in self.names.iter().enumerate() {
            let _ = write!(text, "\n  {name:<18}");
            for figure in &self.figures {
                let _ = write!(text, "{:<26}", figure.cell(candidate));
            }
        }
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        println!("{}", lines.join("\n"));
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = sorted[(sorted.len() - 1) / 2];
    Some(f64::midpoint(lower, upper))
}

/// ` ±4%`; nothing for a single value.
fn spread(values: &[f64]) -> String {
    let lowest = values.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    match median(values) {
        Some(middle) if values.len() > 1 && middle > 0.0 => {
            format!(" ±{:.0}%", (highest - lowest) / 2.0 / middle * 100.0)
        }
        _ => String::new(),
    }
}
