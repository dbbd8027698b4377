//! Tables for people, in the form that kubectl prints.

use std::io::Write as _;

use anyhow::{Context as _, Result};

/// Writes what a command has to say; who reads it may be gone.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn say(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("writing to the output")
}

/// Lines of equal columns, three spaces between them. What would not stay in its cell is escaped: names
/// come from outside.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let head = head.map(str::to_owned);
    let rows: Vec<[String; N]> = rows.iter().map(|row| row.each_ref().map(|cell| harmless(cell))).collect();
    let rows = rows.as_slice();
    let mut widths = [0; N];
    for row in std::iter::once(&head).chain(rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("   ").trim_end().to_owned() + "\n"
    };
    std::iter::once(&head).chain(rows).map(line).collect()
}

/// A text without characters that move the cursor or turn the direction of writing.
fn harmless(text: &str) -> String {
    let is_harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_harmful(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_are_as_wide_as_their_widest() {
        let rows = [["a".to_owned(), "long cell".to_owned()], ["größer".to_owned(), "b".to_owned()]];
        let text = super::table(["X", "Y"], &rows);
        assert_eq!(text, "X        Y\na        long cell\ngrößer   b\n");
    }

    #[test]
    fn a_name_stays_in_its_cell() {
        let rows = [["a\r\nb\u{1b}[2J".to_owned(), "\u{202e}x".to_owned()]];
        assert_eq!(super::table(["X", "Y"], &rows), "X                 Y\na\\r\\nb\\u{1b}[2J   \\u{202e}x\n");
    }
}
