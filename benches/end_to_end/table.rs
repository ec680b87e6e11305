//! Medians, how far the rounds lie apart, and ratios to the first candidate.
//!
//! A ratio is taken in each round and then the median of the ratios, so that what slows down a whole round cancels out. The
//! spread after `±` is half the distance between the lowest and the highest, in percent of the median.

use std::fmt::Write as _;

/// One thing that is measured.
#[derive(Debug)]
pub struct Figure {
    name: String,
    decimals: usize,
    /// Per candidate, in the order of the rounds.
    samples: Vec<Vec<f64>>,
}

impl Figure {
    /// Nothing measured yet; shown with so many decimals.
    pub fn new(name: String, decimals: usize) -> Self {
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
        let ratios = self.ratios(candidate);
        if candidate > 0
            && let Some(ratio) = median(&ratios)
        {
            let _ = write!(cell, "  x {ratio:.2}{}", spread(&ratios));
        }
        cell
    }

    /// To the first candidate, round by round.
    fn ratios(&self, candidate: usize) -> Vec<f64> {
        let pairs = self.samples[candidate].iter().zip(&self.samples[0]);
        pairs.map(|(own, first)| own / first).collect()
    }
}

/// What was measured beside what it may be.
#[derive(Debug)]
pub struct Verdict {
    title: String,
    target: String,
    measured: String,
    is_met: Option<bool>,
}

/// Prints all verdicts as one table.
pub fn print_verdicts(verdicts: &[Verdict]) {
    println!(
        "\n{:<26}{:<26}{:<26}met",
        "against the targets", "target", "measured"
    );
    for one in verdicts {
        let met = match one.is_met {
            Some(true) => "yes",
            Some(false) => "no",
            None => "-",
        };
        println!(
            "  {:<24}{:<26}{:<26}{met}",
            one.title, one.target, one.measured
        );
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

    /// Whether the last candidate comes to at most `most` times the first in one figure.
    pub fn verdict_of_ratio(&self, figure: usize, most: f64) -> Verdict {
        let figure = &self.figures[figure];
        let last = self.names.len() - 1;
        let ratios = figure.ratios(last);
        let ratio = median(&ratios).filter(|_| last > 0);
        Verdict {
            title: self.title.clone(),
            target: format!("{} x {most:.2}", figure.name),
            measured: ratio.map_or_else(
                || "-".to_owned(),
                |ratio| format!("x {ratio:.2}{}", spread(&ratios)),
            ),
            is_met: ratio.map(|ratio| ratio <= most),
        }
    }

    /// Whether one figure of the last candidate is at most `most`.
    pub fn verdict_of_value(&self, figure: usize, most: f64) -> Verdict {
        let figure = &self.figures[figure];
        let samples = &figure.samples[self.names.len() - 1];
        let value = median(samples);
        Verdict {
            title: self.title.clone(),
            target: format!("{} {most:.0}", figure.name),
            measured: value.map_or_else(
                || "-".to_owned(),
                |value| format!("{value:.0}{}", spread(samples)),
            ),
            is_met: value.map(|value| value <= most),
        }
    }

    /// Prints it.
    pub fn print(&self) {
        let mut text = format!("\n{:<22}", self.title);
        for figure in &self.figures {
            let _ = write!(text, "{:<28}", figure.name);
        }
        for (candidate, name) in self.names.iter().enumerate() {
            let _ = write!(text, "\n  {name:<20}");
            for figure in &self.figures {
                let _ = write!(text, "{:<28}", figure.cell(candidate));
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
