//! Columns of text, padded as docker's tables are.

/// Rows whose cells line up. A column is as wide as its widest cell and the padding, and at least `min` wide; the last
/// cell of a row is not padded.
pub(super) fn columns(rows: &[Vec<String>], min: usize, padding: usize) -> String {
    let padded = padded(rows, min, padding);
    padded.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// The same with the spaces before an empty last cell, as docker prints them.
pub(super) fn padded(rows: &[Vec<String>], min: usize, padding: usize) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        for (i, cell) in row.iter().enumerate() {
            let width = (cell.chars().count() + padding).max(min);
            match widths.get_mut(i) {
                Some(widest) => *widest = width.max(*widest),
                None => widths.push(width),
            }
        }
    }
    let mut text = String::new();
    for row in rows {
        for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let width = if at + 1 < row.len() { *width } else { 0 };
            text.push_str(&format!("{:width$}", printable(cell)));
        }
        text.push('\n');
    }
    text
}

/// Names and values, aligned by tabs of eight as docker aligns what stands below a table.
pub(super) fn tabbed(rows: &[Vec<String>]) -> String {
    const TAB: usize = 8;
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let wide = |at: usize| {
        // The last cell of a row ends no column.
        let cells = rows.iter().filter(|row| row.len() > at + 1).map(|row| row[at].chars().count());
        cells.max().map_or(0, |widest| (widest + 1).next_multiple_of(TAB))
    };
    let widths: Vec<usize> = (0..count).map(wide).collect();
    let mut text = String::new();
    for row in rows {
        for (at, cell) in row.iter().enumerate() {
            let cell = printable(cell);
            text.push_str(&cell);
            if at + 1 < row.len() {
                text.push_str(&"\t".repeat((widths[at] - cell.chars().count()).div_ceil(TAB)));
            }
        }
        text.push('\n');
    }
    text
}

/// Text for one line: what a pod or a registry said ends no row and moves no cursor.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[&[&str]]) -> Vec<Vec<String>> {
        rows.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect()
    }

    #[test]
    fn columns_are_padded_to_their_widest_cell() {
        let table = rows(&[&["NAME", "STATUS", "X"], &["kube-long-name", "running", "y"], &["a", "", ""]]);
        assert_eq!(columns(&table, 10, 3), "NAME             STATUS    X\nkube-long-name   running   y\na\n");
    }

    #[test]
    fn tabs_reach_the_same_stop() {
        let lines = rows(&[&["Reclaimable:", "1kB"], &["Total:", "12kB"]]);
        assert_eq!(tabbed(&lines), "Reclaimable:\t1kB\nTotal:\t\t12kB\n");
        assert_eq!(tabbed(&rows(&[&["Total:", "1kB"]])), "Total:\t1kB\n");
        assert_eq!(tabbed(&rows(&[&["A", "B", "C"], &["1234567", "", "c"]])), "A\tB\tC\n1234567\t\tc\n");
    }

    #[test]
    fn control_characters_do_not_leave_their_cell() {
        assert_eq!(columns(&rows(&[&["a\nb\u{1b}[31m", "c"]]), 0, 1), "a b [31m c\n");
    }
}
