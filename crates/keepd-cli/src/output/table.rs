//! Tables: columns with two spaces between them, as wide as their content.

use super::Paint;

/// On which side a column has its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    /// Its heading.
    pub(crate) title: &'static str,
    /// The side of its text.
    pub(crate) align: Align,
    /// It is never narrower, so that it does not jump with every usual value.
    pub(crate) width_min: usize,
}

/// A text in a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    /// What it says.
    pub(crate) text: String,
    /// How it is painted where colours are used.
    pub(crate) paint: Option<Paint>,
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, paint: None }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

/// Returns the lines of a table, each with its line feed, without white space at their ends. Every
/// row has as many cells as there are columns.
pub(crate) fn render(
    columns: &[Column],
    rows: &[Vec<Cell>],
    header: bool,
    colored: bool,
) -> String {
    let titles: Vec<Cell> = columns.iter().map(|column| Cell::from(column.title)).collect();
    let header = header.then_some(&titles);
    let lines: Vec<&Vec<Cell>> = header.into_iter().chain(rows).collect();
    let widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(number, column)| {
            let cells = lines.iter().filter_map(|line| line.get(number));
            let widest = cells.map(|cell| cell.text.chars().count()).max().unwrap_or(0);
            widest.max(column.width_min)
        })
        .collect();
    let mut text = String::new();
    for line in lines {
        write_line(&mut text, columns, &widths, line, colored);
    }
    text
}

fn write_line(
    text: &mut String,
    columns: &[Column],
    widths: &[usize],
    cells: &[Cell],
    colored: bool,
) {
    let start = text.len();
    for (number, ((column, width), cell)) in columns.iter().zip(widths).zip(cells).enumerate() {
        if number > 0 {
            text.push_str("  ");
        }
        // Escape sequences have no width, so the padding is worked out before the paint.
        let padding = " ".repeat(width.saturating_sub(cell.text.chars().count()));
        let painted = match cell.paint {
            Some(paint) if colored => paint.apply(&cell.text),
            Some(_) | None => cell.text.clone(),
        };
        match column.align {
            Align::Left => text.extend([painted, padding]),
            Align::Right => text.extend([padding, painted]),
        }
    }
    let length = text[start..].trim_end().len();
    text.truncate(start + length);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 2] = [
        Column { title: "NAME", align: Align::Left, width_min: 0 },
        Column { title: "PID", align: Align::Right, width_min: 5 },
    ];

    #[test]
    fn columns_are_as_wide_as_needed_and_lines_end_with_ink() {
        let rows = [vec!["a".into(), "17".into()], vec!["übermut".into(), "-".into()]];
        assert_eq!(
            render(&COLUMNS, &rows, true, false),
            "NAME       PID\na           17\nübermut      -\n"
        );
        assert_eq!(render(&COLUMNS, &rows[..1], false, false), "a     17\n");
    }

    #[test]
    fn paint_does_not_move_anything() {
        let good = Cell { text: "1".into(), paint: Some(Paint::Good) };
        let rows = [vec!["a".into(), good]];
        let painted = render(&COLUMNS, &rows, false, true);
        assert_eq!(painted, "a      \x1b[32m1\x1b[0m\n");
        assert_eq!(
            painted.replace("\x1b[32m", "").replace("\x1b[0m", ""),
            render(&COLUMNS, &rows, false, false)
        );
    }
}
