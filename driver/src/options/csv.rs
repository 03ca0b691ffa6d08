//! One occurrence of `--driver-opt`, or of another option with several fields, into its fields, as buildx splits it.

/// Why an occurrence is no CSV record. Columns count bytes from 1, as buildx prints them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CsvError {
    #[error("nothing is given")]
    Empty,
    #[error("a bare `\"` at column {column} in a field that is not quoted")]
    BareQuote { column: usize },
    #[error("the quoted field ends at column {column} and something other than a comma follows")]
    AfterQuote { column: usize },
    #[error("the quoted field is not closed by `\"` (column {column})")]
    Unclosed { column: usize },
}

/// The fields of one record. The rules are those of Go's `encoding/csv` for a single line, which is all that buildx reads
/// (`tonistiigi/go-csvvalue`): a line feed inside the record belongs to its field, one at the end is dropped.
pub fn fields(record: &str) -> Result<Vec<String>, CsvError> {
    let line = record.strip_suffix("\r\n").or_else(|| record.strip_suffix('\n')).unwrap_or(record);
    if line.is_empty() {
        return Err(CsvError::Empty);
    }
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let next = if let Some(quoted) = rest.strip_prefix('"') {
            let (field, after) = quoted_field(line, quoted)?;
            fields.push(field);
            after.strip_prefix(',')
        } else {
            let (field, next) = rest.split_once(',').map_or((rest, None), |(field, next)| (field, Some(next)));
            if let Some(at) = field.find('"') {
                return Err(CsvError::BareQuote { column: column(line, rest) + at });
            }
            fields.push(field.to_owned());
            next
        };
        match next {
            Some(next) => rest = next,
            None => return Ok(fields),
        }
    }
}

/// The record of these fields: what [`fields`] gives back.
pub fn record(fields: &[String]) -> String {
    let quoted = fields.iter().map(|field| format!("\"{}\"", field.replace('"', "\"\"")));
    quoted.collect::<Vec<_>>().join(",")
}

/// The content of a quoted field, and what follows its closing quote: nothing, or a comma.
fn quoted_field<'a>(line: &str, quoted: &'a str) -> Result<(String, &'a str), CsvError> {
    let mut field = String::new();
    let mut rest = quoted;
    loop {
        let Some((content, after)) = rest.split_once('"') else {
            return Err(CsvError::Unclosed { column: column(line, rest) });
        };
        field.push_str(content);
        if let Some(after) = after.strip_prefix('"') {
            field.push('"');
            rest = after;
        } else if after.is_empty() || after.starts_with(',') {
            return Ok((field, after));
        } else {
            return Err(CsvError::AfterQuote { column: column(line, after) - 1 });
        }
    }
}

/// The column at which `rest`, an end of `line`, begins.
fn column(line: &str, rest: &str) -> usize {
    line.len() - rest.len() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_split_as_go_does() {
        for (record, wanted) in [
            ("replicas=2", &["replicas=2"][..]),
            ("a=1,b=2", &["a=1", "b=2"]),
            (r#""tolerations=key=a,value=b;key=c",replicas=2"#, &["tolerations=key=a,value=b;key=c", "replicas=2"]),
            (r#""a=say ""hi""",b=2"#, &[r#"a=say "hi""#, "b=2"]),
            (r#""""#, &[""]),
            (r#""a=1","#, &["a=1", ""]),
            (",", &["", ""]),
            (" a = 1 , b", &[" a = 1 ", " b"]),
            ("#a=1", &["#a=1"]),
            ("a=1\n", &["a=1"]),
            ("a=1\r\n", &["a=1"]),
            ("a=1\nb=2,c=3", &["a=1\nb=2", "c=3"]),
            ("a=ü,b=2", &["a=ü", "b=2"]),
        ] {
            assert_eq!(fields(record).unwrap(), wanted, "{record:?}");
            assert_eq!(fields(&super::record(&fields(record).unwrap())).unwrap(), wanted, "{record:?}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused_at_the_same_column() {
        // The columns are those that docker buildx v0.36 prints.
        for (record, wanted) in [
            ("", CsvError::Empty),
            ("\n", CsvError::Empty),
            (r#"a"b=c"#, CsvError::BareQuote { column: 2 }),
            (r#"namespace=a="b""#, CsvError::BareQuote { column: 13 }),
            (r#"a=1,b="2""#, CsvError::BareQuote { column: 7 }),
            (r#""replicas=2"#, CsvError::Unclosed { column: 2 }),
            (r#""replicas=2"x"#, CsvError::AfterQuote { column: 12 }),
            (r#""a""#.strip_suffix('"').unwrap(), CsvError::Unclosed { column: 2 }),
        ] {
            assert_eq!(fields(record), Err(wanted), "{record:?}");
        }
    }
}
