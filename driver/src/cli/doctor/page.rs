//! Findings as a page of at most 80 columns: pure.

use buildfleet_proto::fleet::Finding;
use buildfleet_proto::fleet::finding::Verdict;

use super::Section;
use crate::cli::table::printable;

const WIDTH: usize = 80;

/// Where the text begins: behind the verdict and the subject.
const INDENT: usize = 27;

/// One section below the other, and at the end how many things do not work.
pub(super) fn text(sections: &[Section]) -> String {
    let sections: Vec<String> = sections.iter().map(section).collect();
    sections.join("\n")
}

fn section(section: &Section) -> String {
    let title = wrapped(&printable(&section.title), WIDTH).join("\n");
    let lines: String = section.findings.iter().map(finding).collect();
    format!("{title}\n{lines}")
}

fn finding(finding: &Finding) -> String {
    let mark = match finding.verdict() {
        Verdict::Works => "ok",
        Verdict::Note => "-",
        Verdict::Warning => "warn",
        Verdict::Fails => "FAIL",
    };
    let mut head = format!("  {mark:<5} {:<18} ", printable(&finding.subject));
    let mut out = String::new();
    for line in wrapped(&printable(&finding.text), WIDTH - INDENT) {
        out.push_str(format!("{head:<INDENT$}{line}").trim_end());
        out.push('\n');
        head.clear();
    }
    let mut arrow = "-> ";
    for line in wrapped(&printable(&finding.hint), WIDTH - INDENT - arrow.len()).iter().filter(|line| !line.is_empty())
    {
        out.push_str(&format!("{:INDENT$}{arrow}{line}\n", ""));
        arrow = "   ";
    }
    out
}

/// Lines of at most `width` characters, broken at spaces; what has none stays whole, so that it can be copied.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut length = 0;
    for word in text.split_whitespace() {
        let long = word.chars().count();
        if length > 0 && length + 1 + long > width {
            lines.push(String::new());
            length = 0;
        }
        if let Some(line) = lines.last_mut() {
            if length > 0 {
                line.push(' ');
                length += 1;
            }
            line.push_str(word);
        }
        length += long;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(subject: &str, verdict: Verdict, text: &str, hint: &str) -> Finding {
        Finding {
            subject: subject.into(),
            verdict: verdict.into(),
            text: text.into(),
            hint: hint.into(),
            node: String::new(),
        }
    }

    #[test]
    fn a_page_fits_eighty_columns_and_says_what_to_do() {
        let sections = [
            Section {
                title: "This machine".into(),
                findings: vec![
                    found("buildfleet", Verdict::Works, "0.1.0", ""),
                    found("docker buildx", Verdict::Note, "not found: `buildctl` and other clients need none", ""),
                ],
            },
            Section {
                title: "Node kube0 of builder kube (kubernetes:///kube?deployment=kube0)".into(),
                findings: vec![
                    found(
                        "API server",
                        Verdict::Works,
                        "context `prod` (https://10.0.0.1:6443), Kubernetes v1.34.2, answers in 3.1 ms",
                        "",
                    ),
                    found(
                        "secrets",
                        Verdict::Fails,
                        "not allowed to create or delete secrets in namespace builds",
                        "docs/rbac.md has the Role for each transport",
                    ),
                    found(
                        "pods/exec",
                        Verdict::Warning,
                        "not allowed to get or create pods/exec in namespace builds: the way by exec is lost",
                        "docs/rbac.md has the Role for each transport and what each of its rights is for",
                    ),
                    found("kubeconfig", Verdict::Works, &format!("/{}/config, context `prod`", "long".repeat(20)), ""),
                ],
            },
        ];
        let page = text(&sections);
        assert_eq!(page, include_str!("../../../../testdata/cli/doctor.txt"));
        let wide: Vec<&str> = page.lines().filter(|line| line.chars().count() > WIDTH).collect();
        // A path stays whole.
        assert!(wide.len() == 1 && wide[0].contains("/longlong"), "{wide:?}");
    }
}
