//! Tables in Markdown that line up on a terminal, too.

/// Makes a table with columns of even width: those with these numbers to the left, because they
/// hold words, the others to the right.
pub fn table<const COUNT: usize>(
    head: [&str; COUNT],
    words: &[usize],
    rows: &[[String; COUNT]],
) -> String {
    let head = head.map(str::to_owned);
    // A rule of a column needs a dash and a colon.
    let mut widths = [2; COUNT];
    for row in std::iter::once(&head).chain(rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let is_left = |column: usize| words.contains(&column);
    let mut text = String::new();
    for (number, row) in std::iter::once(&head).chain(rows).enumerate() {
        let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
            if is_left(column) { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        text += &format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "));
        if number == 0 {
            let rules = widths.iter().enumerate().map(|(column, width)| {
                let dashes = "-".repeat(width - 1);
                if is_left(column) { format!("-{dashes}") } else { format!("{dashes}:") }
            });
            text += &format!("| {} |\n", rules.collect::<Vec<_>>().join(" | "));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_left_and_numbers_right() {
        let rows = [["a".to_owned(), "12.5".to_owned()], ["long".to_owned(), "1".to_owned()]];
        let expected = "| what |    n |\n| ---- | ---: |\n| a    | 12.5 |\n| long |    1 |\n";
        assert_eq!(table(["what", "n"], &[0], &rows), expected);
    }
}
