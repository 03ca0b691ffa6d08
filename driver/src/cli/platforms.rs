//! A node's platforms as `ls` and `inspect` show them: buildx's marks, order and groups.

use std::collections::BTreeMap;

use crate::builder::Platform;

/// How many groups `ls` shows.
const GROUPS: usize = 4;

/// The architectures that are shown first when not all are.
const MAJOR: [&str; 7] =
    ["linux/amd64", "linux/arm64", "linux/arm", "linux/ppc64le", "linux/s390x", "linux/riscv64", "linux/mips64"];

/// The given platforms with a `*`, then those of the pods that were not given.
pub(super) fn marked(explicit: &[String], reported: &[String]) -> Vec<String> {
    let given = explicit.iter().map(|platform| format!("{platform}*"));
    let others = reported.iter().filter(|platform| !explicit.contains(platform)).cloned();
    given.chain(others).collect()
}

/// The given platforms, then those of the pods, each once.
pub(super) fn all(explicit: &[String], reported: &[String]) -> Vec<String> {
    let others = reported.iter().filter(|platform| !explicit.contains(platform));
    explicit.iter().chain(others).cloned().collect()
}

/// At most four groups of one architecture each, with the number of their members, and how many platforms are left out.
pub(super) fn grouped(marked: &[String]) -> String {
    let mut groups: BTreeMap<String, Vec<&String>> = BTreeMap::new();
    for platform in marked {
        groups.entry(group_of(platform)).or_default().push(platform);
    }
    let rank = |group: &str| MAJOR.iter().position(|major| *major == group).unwrap_or(MAJOR.len());
    let mut order: Vec<&String> = groups.keys().collect();
    order.sort_by_key(|group| rank(group));
    let mut shown = 0;
    let mut words = Vec::new();
    for group in order.into_iter().take(GROUPS) {
        let members = &groups[group];
        shown += members.len();
        words.push(match members.as_slice() {
            [one] => (*one).clone(),
            several => {
                let mark = if several.iter().any(|member| member.ends_with('*')) { "*" } else { "" };
                format!("{group}{mark} (+{})", several.len())
            }
        });
    }
    if marked.len() > shown {
        words.push(format!("({} more)", marked.len() - shown));
    }
    words.join(", ")
}

fn group_of(platform: &str) -> String {
    let bare = platform.trim_end_matches('*');
    match bare.parse::<Platform>() {
        Ok(platform) => format!("{}/{}", platform.os(), platform.arch()),
        Err(_) => bare.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Vec<String> {
        text.split(", ").filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    // What docker-buildx v0.36.0 shows for these.
    #[test]
    fn platforms_are_grouped_as_buildx_groups_them() {
        for (marked, wanted) in [
            ("", ""),
            ("linux/arm64*", "linux/arm64*"),
            (
                "linux/amd64*, linux/amd64/v2, linux/amd64/v3, linux/amd64/v4, linux/arm64, linux/386",
                "linux/amd64* (+4), linux/arm64, linux/386",
            ),
            (
                "linux/amd64*, linux/arm64*, linux/riscv64*, linux/s390x*, linux/ppc64le*, linux/386*, linux/arm/v7*, linux/arm/v6*, linux/mips64*",
                "linux/amd64*, linux/arm64*, linux/arm* (+2), linux/ppc64le*, (4 more)",
            ),
            (
                "linux/amd64/v2*, linux/amd64*, linux/386*, windows/amd64*, freebsd/amd64*, linux/loong64*",
                "linux/amd64* (+2), freebsd/amd64*, linux/386*, linux/loong64*, (1 more)",
            ),
        ] {
            assert_eq!(grouped(&list(marked)), wanted, "{marked}");
        }
    }

    #[test]
    fn given_platforms_come_first_with_a_star() {
        let marked = marked(&list("linux/arm64"), &list("linux/amd64, linux/arm64"));
        assert_eq!(marked, list("linux/arm64*, linux/amd64"));
    }

    #[test]
    fn each_platform_is_listed_once() {
        assert_eq!(all(&list("linux/arm64"), &list("linux/amd64, linux/arm64")), list("linux/arm64, linux/amd64"));
    }
}
