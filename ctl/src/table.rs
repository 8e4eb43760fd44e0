//! Aligned tables for people: columns as wide as their widest cell, two spaces apart, numbers to the right.

/// Which side of its column a cell stands on.
#[derive(Clone, Copy)]
pub(crate) enum Align {
    Left,
    Right,
}

/// A table under construction.
pub(crate) struct Table {
    align: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column heads.
    pub(crate) fn new(columns: &[(&str, Align)]) -> Self {
        let head = columns.iter().map(|(name, _)| name.to_string()).collect();
        Table { align: columns.iter().map(|(_, align)| *align).collect(), rows: vec![head] }
    }

    /// Adds a row with one cell per column; an empty cell is shown as `-`.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.align.len(), "a row has a cell for each column");
        self.rows.push(cells.into_iter().map(|cell| if cell.is_empty() { "-".to_string() } else { cell }).collect());
    }

    /// The text, each line with its end and without spaces before it.
    pub(crate) fn render(&self) -> String {
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.align.len()).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).zip(&self.align).map(|((cell, width), align)| match align {
                Align::Left => format!("{cell:<width$}"),
                Align::Right => format!("{cell:>width$}"),
            });
            text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}

/// A number of bytes for people.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut size = count as f64;
    let mut unit = "B";
    for next in UNITS {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = next;
    }
    if unit == "B" { format!("{count} B") } else { format!("{size:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_tail() {
        let mut table = Table::new(&[("NAME", Align::Left), ("LAG", Align::Right), ("NOTE", Align::Left)]);
        table.row(vec!["é".into(), "7".into(), String::new()]);
        table.row(vec!["node-10".into(), "1234".into(), "x".into()]);
        assert_eq!(table.render(), "NAME      LAG  NOTE\né           7  -\nnode-10  1234  x\n");
    }

    #[test]
    fn sizes_are_rounded_for_people() {
        assert_eq!([0, 1023, 1024, 1536 * 1024].map(bytes), ["0 B", "1023 B", "1.0 KiB", "1.5 MiB"]);
    }
}
