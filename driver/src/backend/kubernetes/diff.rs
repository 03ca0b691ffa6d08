//! Two texts as a unified diff that fits a terminal: pure.

/// Lines that are shown around a change.
const CONTEXT: usize = 3;

/// Longer lines are folded.
const WIDTH: usize = 80;

/// Beyond so many comparisons the lines between the first and the last change are shown as replaced.
const EFFORT: usize = 4_000_000;

/// What leads from `old` to `new`, by lines; empty when they are equal.
pub(super) fn unified(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let script = script(&old, &new);
    let shown: Vec<bool> = (0..script.len())
        .map(|at| {
            let around = at.saturating_sub(CONTEXT)..(at + CONTEXT + 1).min(script.len());
            script[around].iter().any(|(sign, _)| *sign != ' ')
        })
        .collect();
    let (mut text, mut line_old, mut line_new, mut at) = (String::new(), 1, 1, 0);
    while at < script.len() {
        if !shown[at] {
            (line_old, line_new, at) = (line_old + 1, line_new + 1, at + 1);
            continue;
        }
        let end = (at..script.len()).find(|next| !shown[*next]).unwrap_or(script.len());
        let hunk = &script[at..end];
        let of_old = hunk.iter().filter(|(sign, _)| *sign != '+').count();
        let of_new = hunk.iter().filter(|(sign, _)| *sign != '-').count();
        let begin = |line: usize, count: usize| if count == 0 { line - 1 } else { line };
        let (first_old, first_new) = (begin(line_old, of_old), begin(line_new, of_new));
        text.push_str(&format!("@@ -{first_old},{of_old} +{first_new},{of_new} @@\n"));
        hunk.iter().for_each(|(sign, line)| fold(*sign, line, &mut text));
        (line_old, line_new, at) = (line_old + of_old, line_new + of_new, end);
    }
    text
}

/// All lines of both texts in order: ` ` in both, `-` in the old alone, `+` in the new alone.
fn script<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<(char, &'a str)> {
    let head = old.iter().zip(new).take_while(|(one, other)| one == other).count();
    let (old_rest, new_rest) = (&old[head..], &new[head..]);
    let tail = old_rest.iter().rev().zip(new_rest.iter().rev()).take_while(|(one, other)| one == other).count();
    let (old_rest, new_rest) = (&old_rest[..old_rest.len() - tail], &new_rest[..new_rest.len() - tail]);
    let same = |line: &&'a str| (' ', *line);
    let mut script: Vec<(char, &str)> = old[..head].iter().map(same).collect();
    script.extend(between(old_rest, new_rest));
    script.extend(old[old.len() - tail..].iter().map(same));
    script
}

/// The same for texts that differ at both ends, by their longest common subsequence.
fn between<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<(char, &'a str)> {
    let (rows, columns) = (old.len(), new.len());
    let mut script = Vec::with_capacity(rows + columns);
    let (mut row, mut column) = (0, 0);
    if rows.saturating_mul(columns) <= EFFORT {
        // `longest[r][c]`: how many lines old[r..] and new[c..] have in common, in order.
        let mut longest = vec![vec![0_u32; columns + 1]; rows + 1];
        for r in (0..rows).rev() {
            for c in (0..columns).rev() {
                longest[r][c] = match old[r] == new[c] {
                    true => longest[r + 1][c + 1] + 1,
                    false => longest[r + 1][c].max(longest[r][c + 1]),
                };
            }
        }
        while row < rows && column < columns {
            if old[row] == new[column] {
                script.push((' ', old[row]));
                (row, column) = (row + 1, column + 1);
            } else if longest[row + 1][column] >= longest[row][column + 1] {
                script.push(('-', old[row]));
                row += 1;
            } else {
                script.push(('+', new[column]));
                column += 1;
            }
        }
    }
    script.extend(old[row..].iter().map(|line| ('-', *line)));
    script.extend(new[column..].iter().map(|line| ('+', *line)));
    script
}

/// One line with its sign; what does not fit follows on lines of the same sign, indented.
fn fold(sign: char, line: &str, text: &mut String) {
    let mut rest: Vec<char> = line.chars().collect();
    let mut indent = 0;
    loop {
        let later = rest.split_off(rest.len().min(WIDTH - 1 - indent));
        text.push(sign);
        text.extend(std::iter::repeat_n(' ', indent));
        text.extend(rest);
        text.push('\n');
        if later.is_empty() {
            return;
        }
        (rest, indent) = (later, 8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_have_no_difference() {
        for text in ["", "a\n", "a\nb\nc\n"] {
            assert_eq!(unified(text, text), "");
        }
    }

    #[test]
    fn a_change_is_shown_with_the_lines_around_it() {
        let old = "a\nb\nc\nd\ne\nf\ng\nh\ni\n";
        for (new, wanted) in [
            ("a\nb\nc\nd\nE\nf\ng\nh\ni\n", "@@ -2,7 +2,7 @@\n b\n c\n d\n-e\n+E\n f\n g\n h\n"),
            ("a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n", "@@ -7,3 +7,4 @@\n g\n h\n i\n+j\n"),
            ("b\nc\nd\ne\nf\ng\nh\ni\n", "@@ -1,4 +1,3 @@\n-a\n b\n c\n d\n"),
        ] {
            assert_eq!(unified(old, new), wanted);
        }
        assert_eq!(unified("", "a\nb\n"), "@@ -0,0 +1,2 @@\n+a\n+b\n");
        assert_eq!(unified("a\n", ""), "@@ -1,1 +0,0 @@\n-a\n");
    }

    #[test]
    fn changes_that_are_far_apart_have_hunks_of_their_own() {
        let old: String = (0..30).map(|n| format!("{n}\n")).collect();
        let new = old.replace("5\n", "five\n").replace("2five\n", "25\n").replace("28\n", "x\n");
        let hunks: Vec<String> =
            unified(&old, &new).lines().filter(|line| line.starts_with("@@")).map(str::to_owned).collect();
        assert_eq!(hunks.len(), 3, "{}", unified(&old, &new));
    }

    #[test]
    fn every_line_fits_a_terminal_and_nothing_is_lost() {
        let long = "x".repeat(200);
        let diff = unified("", &format!("{long}\n"));
        assert!(diff.lines().all(|line| line.chars().count() <= WIDTH), "{diff}");
        assert_eq!(diff.matches('x').count(), 200);
    }
}
