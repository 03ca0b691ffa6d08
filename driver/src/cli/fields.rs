//! `--format`: text, JSON, or a line of fields for each thing that is listed, in the grammar of docker's commands.

use std::str::FromStr;

use serde_json::Value;

use super::failure::Failure;
use super::table::{columns, padded, printable};

/// What is accepted, for errors.
const ACCEPTED: &str = "accepted are text, json, and for lists fields as in '{{.Name}}', '{{json .}}', '{{json .Name}}' \
                        and 'table {{.Name}}\\t{{.Status}}'";

/// The shape of what goes to stdout, as the user gave it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Shape {
    /// For people.
    #[default]
    Text,
    /// One JSON document per line; see docs/cli.md.
    Json,
    Fields(Template),
}

/// Why `--format` is not accepted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ShapeError {
    #[error("`{0}` is no format: {ACCEPTED}")]
    Unknown(String),
    #[error("`{{{{{0}}}}}` is not a field: {ACCEPTED}")]
    Action(String),
    #[error("`{0}` has a {{{{ without its }}}}")]
    Open(String),
}

/// A line with fields in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    /// With a header, and in columns.
    table: bool,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(String),
    /// As JSON: one field, or all of them.
    Json(Option<String>),
}

/// A field that a command's list has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) name: &'static str,
    /// Above a table.
    pub(super) header: &'static str,
}

/// One thing that is listed.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// In the order of the columns.
    cells: Vec<String>,
    /// The same for a table, where docker marks and shortens some.
    in_table: Vec<String>,
    /// As `--format json` has it.
    json: Value,
}

impl Row {
    pub(super) fn new(cells: Vec<String>, json: Value) -> Self {
        Self { in_table: cells.clone(), cells, json }
    }

    /// With another text in a table for the column of that name.
    pub(super) fn in_table(mut self, known: &[Column], name: &str, text: String) -> Self {
        if let Some(cell) = place(known, name).and_then(|at| self.in_table.get_mut(at)) {
            *cell = text;
        }
        self
    }

    /// As a table has them.
    pub(super) fn table_cells(&self) -> &[String] {
        &self.in_table
    }

    #[cfg(test)]
    pub(super) fn cells(&self) -> &[String] {
        &self.cells
    }

    #[cfg(test)]
    pub(super) fn json(&self) -> &Value {
        &self.json
    }
}

impl FromStr for Shape {
    type Err = ShapeError;

    fn from_str(text: &str) -> Result<Self, ShapeError> {
        match text {
            // Docker's words for its two layouts for people.
            "text" | "table" | "pretty" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            text if text.contains("{{") => Template::parse(text).map(Self::Fields),
            text => Err(ShapeError::Unknown(text.to_owned())),
        }
    }
}

impl Template {
    fn parse(text: &str) -> Result<Self, ShapeError> {
        let (table, line) = match text.strip_prefix("table ") {
            Some(line) => (true, line.trim()),
            None => (false, text),
        };
        // A shell passes these on as two characters each.
        let line = line.replace("\\t", "\t").replace("\\n", "\n");
        let mut parts = Vec::new();
        let mut rest = line.as_str();
        while let Some((before, after)) = rest.split_once("{{") {
            let (action, after) = after.split_once("}}").ok_or_else(|| ShapeError::Open(text.to_owned()))?;
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::parse(action)?);
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        parts.retain(|part| *part != Part::Text(String::new()));
        Ok(Self { table, parts })
    }

    /// The rows, one line each; below a header when a table is wanted.
    ///
    /// # Errors
    /// When there is no such field.
    pub(super) fn render(&self, known: &[Column], rows: &[Row]) -> Result<String, Failure> {
        let unknown: Vec<String> = self.fields().filter(|name| place(known, name).is_none()).map(no_field).collect();
        if !unknown.is_empty() {
            let names: Vec<&str> = known.iter().map(|column| column.name).collect();
            let failure = Failure::usage(unknown.join("\n"));
            return Err(failure.hint(format!("the fields are {}", names.join(", "))));
        }
        Ok(self.written(known, rows, columns))
    }

    /// The same with docker's spaces at the ends of a table's lines; `None` when there is no such field.
    pub(super) fn render_as_docker(&self, known: &[Column], rows: &[Row]) -> Option<String> {
        let has_all = self.fields().all(|name| place(known, name).is_some());
        has_all.then(|| self.written(known, rows, padded))
    }

    fn written(&self, known: &[Column], rows: &[Row], table: fn(&[Vec<String>], usize, usize) -> String) -> String {
        let lines = rows.iter().map(|row| self.line(known, row));
        if !self.table {
            return lines.map(|line| line + "\n").collect();
        }
        let split = |line: String| line.split('\t').map(str::to_owned).collect::<Vec<_>>();
        let rows: Vec<Vec<String>> = std::iter::once(self.header(known)).chain(lines).map(split).collect();
        table(&rows, 10, 3)
    }

    fn fields(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Field(name) | Part::Json(Some(name)) => Some(name.as_str()),
            Part::Text(_) | Part::Json(None) => None,
        })
    }

    fn header(&self, known: &[Column]) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Json(None) => String::new(),
            Part::Field(name) | Part::Json(Some(name)) => {
                place(known, name).map(|at| known[at].header.to_owned()).unwrap_or_default()
            }
        };
        self.parts.iter().map(part).collect()
    }

    fn line(&self, known: &[Column], row: &Row) -> String {
        let cells = if self.table { &row.in_table } else { &row.cells };
        let cell = |name: &str| place(known, name).and_then(|at| cells.get(at)).cloned().unwrap_or_default();
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Field(name) => printable(&cell(name)),
            Part::Json(None) => row.json.to_string(),
            Part::Json(Some(name)) => match row.json.get(name) {
                Some(value) => value.to_string(),
                None => Value::String(cell(name)).to_string(),
            },
        };
        self.parts.iter().map(part).collect()
    }
}

impl Part {
    /// What stands between double braces.
    fn parse(action: &str) -> Result<Self, ShapeError> {
        let refused = || ShapeError::Action(action.to_owned());
        let field = |word: &str| {
            let name = word.strip_prefix('.').filter(|name| !name.is_empty())?;
            name.chars().all(char::is_alphanumeric).then(|| name.to_owned())
        };
        match action.split_whitespace().collect::<Vec<_>>()[..] {
            [word] => field(word).map(Self::Field).ok_or_else(refused),
            ["json", "."] => Ok(Self::Json(None)),
            ["json", word] => field(word).map(|name| Self::Json(Some(name))).ok_or_else(refused),
            _ => Err(refused()),
        }
    }
}

fn place(known: &[Column], name: &str) -> Option<usize> {
    known.iter().position(|column| column.name == name)
}

fn no_field(name: &str) -> String {
    format!("--format has the field `{name}`, which this list does not have")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const KNOWN: [Column; 2] =
        [Column { name: "Name", header: "NAME/NODE" }, Column { name: "CreatedAt", header: "CREATED AT" }];

    fn rows() -> Vec<Row> {
        let row =
            |name: &str, at: &str| Row::new(vec![name.into(), at.into()], json!({ "Name": name, "Pods": [1, 2] }));
        vec![row("kube", "2 days ago").in_table(&KNOWN, "Name", "kube*".into()), row("a\nb", "")]
    }

    fn rendered(format: &str) -> String {
        match format.parse().expect(format) {
            Shape::Fields(template) => template.render(&KNOWN, &rows()).expect(format),
            other => panic!("{format} is {other:?}"),
        }
    }

    #[test]
    fn fields_are_lines_and_tables_have_a_header() {
        for (format, wanted) in [
            ("{{.Name}}", "kube\na b\n"),
            ("{{ .Name }}: {{.CreatedAt}}", "kube: 2 days ago\na b: \n"),
            ("{{.Name}}\\t{{.CreatedAt}}!", "kube\t2 days ago!\na b\t!\n"),
            ("{{json .}}", "{\"Name\":\"kube\",\"Pods\":[1,2]}\n{\"Name\":\"a\\nb\",\"Pods\":[1,2]}\n"),
            ("{{json .Name}} {{json .CreatedAt}}", "\"kube\" \"2 days ago\"\n\"a\\nb\" \"\"\n"),
            ("table {{.Name}}\\t{{.CreatedAt}}", "NAME/NODE   CREATED AT\nkube*       2 days ago\na b\n"),
            ("table {{.CreatedAt}}", "CREATED AT\n2 days ago\n\n"),
        ] {
            assert_eq!(rendered(format), wanted, "{format}");
        }
    }

    #[test]
    fn docker_s_words_for_its_layouts_are_known() {
        for (format, wanted) in
            [("text", Shape::Text), ("table", Shape::Text), ("pretty", Shape::Text), ("json", Shape::Json)]
        {
            assert_eq!(format.parse(), Ok(wanted), "{format}");
        }
    }

    #[test]
    fn all_else_is_an_error_that_says_what_is_accepted() {
        for (format, part) in [
            ("yaml", "`yaml` is no format: accepted are text, json, and for lists fields as in '{{.Name}}'"),
            ("", "`` is no format"),
            ("table Name", "`table Name` is no format"),
            ("{{upper .Name}}", "`{{upper .Name}}` is not a field: accepted are"),
            ("{{range .Nodes}}x{{end}}", "`{{range .Nodes}}` is not a field"),
            ("{{.Nodes.Name}}", "`{{.Nodes.Name}}` is not a field"),
            ("{{Name}}", "`{{Name}}` is not a field"),
            ("{{.}}", "`{{.}}` is not a field"),
            ("{{}}", "`{{}}` is not a field"),
            ("{{.Name", "`{{.Name` has a {{ without its }}"),
        ] {
            let error = format.parse::<Shape>().expect_err(format).to_string();
            assert!(error.contains(part), "{format}: {error}");
        }
    }

    #[test]
    fn fields_that_are_not_there_are_told_together() {
        let Ok(Shape::Fields(template)) = "{{.Nmae}} {{json .Size}} {{.Name}}".parse() else { panic!("it is one") };
        let failure = template.render(&KNOWN, &rows()).expect_err("two are unknown");
        assert_eq!(
            failure.render(),
            "error: --format has the field `Nmae`, which this list does not have\n  \
             --format has the field `Size`, which this list does not have\nhint: the fields are Name, CreatedAt\n"
        );
        assert_eq!(failure.exit() as u8, 2);
    }
}
