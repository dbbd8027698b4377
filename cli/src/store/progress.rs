//! How far it is: a bar on the terminal, nothing elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Pause between two drawings.
const PAUSE: Duration = Duration::from_millis(100);
/// The bar, in characters.
const WIDTH: u64 = 30;

pub(crate) struct Progress {
    doing: &'static str,
    total: u64,
    drawn: Option<Instant>,
    is_shown: bool,
}

impl Progress {
    pub(crate) fn new(doing: &'static str) -> Self {
        Self { doing, total: 0, drawn: None, is_shown: std::io::stderr().is_terminal() }
    }

    /// `done` of `total`, in bytes.
    pub(crate) fn at(&mut self, done: u64, total: u64) {
        self.total = total;
        let is_due = self.drawn.is_none_or(|drawn| drawn.elapsed() >= PAUSE);
        if self.is_shown && is_due {
            self.drawn = Some(Instant::now());
            self.draw(&bar(self.doing, done, total));
        }
    }

    fn draw(&self, text: &str) {
        // A terminal that went away does not keep the work from being done.
        let _ = write!(std::io::stderr(), "\r{text}\x1b[K");
    }
}

/// Takes the bar away, so that what is printed next begins a line.
impl Drop for Progress {
    fn drop(&mut self) {
        if self.drawn.is_some() {
            self.draw("");
        }
    }
}

fn bar(doing: &str, done: u64, total: u64) -> String {
    let part = |of: u64| (done.min(total) * of).checked_div(total).unwrap_or(of);
    let (full, percent) = (part(WIDTH), part(100));
    let bar: String = (0..WIDTH).map(|at| if at < full { '#' } else { '.' }).collect();
    format!("{doing} [{bar}] {percent:>3} %")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars() {
        assert_eq!(bar("x", 0, 10), format!("x [{}]   0 %", ".".repeat(30)));
        assert_eq!(bar("x", 5, 10), format!("x [{}{}]  50 %", "#".repeat(15), ".".repeat(15)));
        for (done, total) in [(10, 10), (11, 10), (0, 0)] {
            assert_eq!(bar("x", done, total), format!("x [{}] 100 %", "#".repeat(30)));
        }
    }
}
