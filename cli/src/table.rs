//! Tables for people, in the form that kubectl prints.

/// Lines of equal columns, three spaces between them.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let head = head.map(str::to_owned);
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

#[cfg(test)]
mod tests {
    #[test]
    fn columns_are_as_wide_as_their_widest() {
        let rows = [["a".to_owned(), "long cell".to_owned()], ["größer".to_owned(), "b".to_owned()]];
        let text = super::table(["X", "Y"], &rows);
        assert_eq!(text, "X        Y\na        long cell\ngrößer   b\n");
    }
}
