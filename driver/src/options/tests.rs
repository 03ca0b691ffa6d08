//! Whole option strings against the verdicts in `testdata/options`, and the reference page against the tables.
//!
//! `BUILDFLEET_BLESS=1 cargo test -p buildfleet options` writes what came out; read the difference before it is committed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::*;

/// One command's `--driver-opt` values and what comes of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    given: Vec<String>,
    /// The options that differ from the defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    accepted: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused: Option<Vec<String>>,
    /// The verdict of docker buildx v0.36 on the same values, for the kubernetes driver (`testdata/options/record-buildx`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    buildx: Option<Verdict>,
    /// Why ours is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Accepted,
    Refused,
}

const DRIVERS: [Driver; 3] = [Driver::Kubernetes, Driver::Local, Driver::Remote];

fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn blessing() -> bool {
    std::env::var_os("BUILDFLEET_BLESS").is_some()
}

fn path_of(driver: Driver) -> PathBuf {
    repository(&format!("testdata/options/{driver}.json"))
}

fn cases(driver: Driver) -> Vec<Case> {
    serde_json::from_str(&std::fs::read_to_string(path_of(driver)).unwrap()).unwrap()
}

/// The fields of options as JSON.
fn fields(options: &DriverOptions) -> BTreeMap<&'static str, Value> {
    let text = |text: &Option<String>| json!(text);
    let quantity = |quantity: &Option<Quantity>| json!(quantity.as_ref().map(ToString::to_string));
    let timeout = ("timeout", json!(options.timeout().as_secs_f64()));
    let loadbalance = ("loadbalance", json!(format!("{:?}", options.loadbalance())));
    let retry = ("retry", json!(options.retry()));
    let default_load = ("default-load", json!(options.default_load()));
    match options {
        DriverOptions::Kubernetes(o) => BTreeMap::from([
            ("namespace", text(&o.namespace)),
            ("image", text(&o.image)),
            ("replicas", json!(o.replicas)),
            ("requests.cpu", quantity(&o.requests.cpu)),
            ("requests.memory", quantity(&o.requests.memory)),
            ("limits.cpu", quantity(&o.limits.cpu)),
            ("limits.memory", quantity(&o.limits.memory)),
            ("requests.ephemeral-storage", quantity(&o.requests.ephemeral_storage)),
            ("limits.ephemeral-storage", quantity(&o.limits.ephemeral_storage)),
            ("hostusers", json!(o.host_users)),
            ("env", json!(o.env)),
            ("labels", json!(o.labels)),
            ("annotations", json!(o.annotations)),
            ("serviceaccount", text(&o.serviceaccount)),
            ("imagepullsecrets", json!(o.imagepullsecrets)),
            ("poddisruptionbudget", json!(o.budget.map(|budget| budget.to_string()))),
            ("manifest-patch", json!(o.manifest_patch.as_ref().map(ManifestPatch::whole))),
            ("affinity", json!(o.affinity)),
            ("topologyspread", json!(o.topology_spread)),
            ("schedulername", text(&o.schedulername)),
            ("priorityclass", text(&o.priorityclass)),
            ("runtimeclass", text(&o.runtimeclass)),
            ("buildkit-root-volume-memory", quantity(&o.memory_volume)),
            ("persistent-volume-claim.requests.storage", quantity(&o.claim.storage)),
            ("storageclass", text(&o.claim.class)),
            ("volume-access-mode", json!(o.claim.access.map(AccessMode::as_str))),
            ("nodeselector", json!(o.nodeselector)),
            ("tolerations", o.tolerations.iter().map(toleration).collect()),
            ("rootless", json!(o.rootless)),
            ("qemu.install", json!(o.qemu_install)),
            ("qemu.image", text(&o.qemu_image)),
            ("transport", json!(format!("{:?}", o.transport))),
            ("ttl", json!(o.ttl.map(|ttl| ttl.to_string()))),
            ("drain-timeout", json!(options.drain_timeout().map(|timeout| timeout.as_secs_f64()))),
            loadbalance,
            retry,
            timeout,
            default_load,
        ]),
        DriverOptions::Local(o) => BTreeMap::from([
            ("replicas", json!(o.replicas)),
            ("rootless", json!(o.rootless)),
            ("buildkitd", json!(o.buildkitd)),
            loadbalance,
            retry,
            timeout,
            default_load,
        ]),
        DriverOptions::Remote(o) => BTreeMap::from([
            ("ca", json!(o.tls.as_ref().map(|tls| &tls.ca))),
            ("client", json!(o.tls.as_ref().map(|tls| &tls.client))),
            ("servername", json!(o.tls.as_ref().map(|tls| &tls.servername))),
            retry,
            timeout,
            default_load,
        ]),
    }
}

fn toleration(t: &Toleration) -> Value {
    let seconds = t.toleration_seconds.map(|seconds| seconds.to_string());
    [
        ("key", &t.key),
        ("operator", &t.operator),
        ("value", &t.value),
        ("effect", &t.effect),
        ("tolerationSeconds", &seconds),
    ]
    .into_iter()
    .filter_map(|(name, value)| value.clone().map(|value| (name.to_owned(), Value::String(value))))
    .collect()
}

/// The case with what comes of it now.
fn run(driver: Driver, case: &Case) -> Case {
    let mut case = Case { accepted: None, refused: None, ..case.clone() };
    match parse_driver_opts(driver, &case.given) {
        Ok((_, options)) => {
            let defaults = fields(&DriverOptions::parse(driver, &DriverOpts::new()).unwrap());
            let changed = fields(&options).into_iter().filter(|(name, value)| defaults[name] != *value);
            case.accepted = Some(changed.map(|(name, value)| (name.to_owned(), value)).collect());
        }
        Err(errors) => case.refused = Some(errors.iter().map(ToString::to_string).collect()),
    }
    case
}

#[test]
fn option_strings_get_their_verdicts() {
    for driver in DRIVERS {
        let cases = cases(driver);
        let now: Vec<Case> = cases.iter().map(|case| run(driver, case)).collect();
        if blessing() {
            let mut text = serde_json::to_string_pretty(&now).unwrap();
            text.push('\n');
            std::fs::write(path_of(driver), text).unwrap();
        } else {
            for (wanted, now) in cases.iter().zip(&now) {
                assert_eq!(now, wanted, "{driver} {:?}", wanted.given);
            }
        }
        assert!(now.iter().filter(|case| case.accepted.is_some()).count() >= 5, "{driver}");
        assert!(now.iter().filter(|case| case.refused.is_some()).count() >= 5, "{driver}");
    }
}

#[test]
fn a_verdict_other_than_that_of_buildx_has_its_reason() {
    let cases = cases(Driver::Kubernetes);
    assert!(cases.iter().filter(|case| case.buildx.is_some()).count() >= 150, "too few to compare with");
    for case in cases {
        let ours = if case.accepted.is_some() { Verdict::Accepted } else { Verdict::Refused };
        let differs = case.buildx.is_some_and(|buildx| buildx != ours);
        assert_eq!(case.reason.is_some(), differs, "{:?}", case.given);
    }
}

#[test]
fn the_page_of_differences_has_every_verdict_that_differs() {
    let mut by_reason: BTreeMap<String, (String, Vec<String>)> = BTreeMap::new();
    for case in cases(Driver::Kubernetes) {
        let Some(reason) = case.reason else { continue };
        let verdicts = if case.accepted.is_some() { "refused, accepted" } else { "accepted, refused" };
        let given = format!("`{}`", case.given.join("` `").replace('\n', "⏎"));
        by_reason.entry(reason).or_insert_with(|| (verdicts.to_owned(), Vec::new())).1.push(given);
    }
    let mut table = "\n| given, as in | buildx, here | reason |\n|---|---|---|\n".to_owned();
    for (reason, (verdicts, given)) in by_reason {
        let _ = writeln!(table, "| {} | {verdicts} | {reason} |", given[..given.len().min(3)].join(", "));
    }
    assert_page("docs/compat.md", |page| between(&page, "<!-- verdicts -->\n", "<!-- end: verdicts -->", &table));
}

#[test]
fn errors_are_one_line_each_in_the_order_of_their_keys() {
    let given = ["timeout=5,replicas=x".to_owned(), "bogus".to_owned(), "image=a b,a\"b".to_owned()];
    let errors = parse_driver_opts(Driver::Kubernetes, &given).unwrap_err();
    let keys: Vec<&str> = errors.iter().map(|error| error.key.as_str()).collect();
    assert_eq!(keys, ["bogus", "image=a b,a\"b", "replicas", "timeout"]);
    assert_eq!(errors.to_string().lines().count(), 4);
}

#[test]
fn a_later_key_wins_over_an_earlier_one() {
    let opts = split_driver_opts(&["a=1,b=2,a=3".to_owned(), "b=x=y".to_owned()]).unwrap();
    assert_eq!(opts, DriverOpts::from([("a".to_owned(), "3".to_owned()), ("b".to_owned(), "x=y".to_owned())]));
}

#[test]
fn every_refused_value_comes_with_what_is_accepted() {
    for driver in DRIVERS {
        for key in keys(driver) {
            let given = DriverOpts::from([(key.name.to_owned(), "\n\0 nonsense".to_owned())]);
            let errors = DriverOptions::parse(driver, &given).unwrap_err().to_string();
            assert!(errors.contains(key.accepts), "{errors}");
        }
    }
}

/// A stream of numbers that is the same in every run (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % end as u64).unwrap()
    }
}

#[test]
fn mutated_option_strings_never_panic_and_are_judged_twice_alike() {
    const ODD: [char; 24] = [
        '"',
        ',',
        '=',
        ';',
        '.',
        '-',
        '+',
        '/',
        '\n',
        '\r',
        '\0',
        ' ',
        'e',
        'E',
        'i',
        'µ',
        'ß',
        '0',
        '9',
        '1',
        'm',
        'h',
        '\u{202e}',
        '\u{10ffff}',
    ];
    let seeds: Vec<(Driver, String)> = DRIVERS
        .into_iter()
        .flat_map(|driver| cases(driver).into_iter().map(move |case| (driver, case.given.join(","))))
        .collect();
    let mut numbers = Numbers(1);
    for round in 0..5_000 {
        let (driver, seed) = &seeds[round % seeds.len()];
        let mut text: Vec<char> = seed.chars().collect();
        for _ in 0..=numbers.below(4) {
            let at = numbers.below(text.len() + 1);
            match numbers.below(4) {
                0 if at < text.len() => drop(text.remove(at)),
                1 if at < text.len() => text.extend_from_within(at..),
                2 => text.truncate(at),
                _ => text.insert(at, ODD[numbers.below(ODD.len())]),
            }
        }
        let given = [text.into_iter().collect::<String>()];
        let first = parse_driver_opts(*driver, &given);
        if let Err(errors) = &first {
            assert!(errors.iter().count() > 0);
        }
        assert_eq!(first, parse_driver_opts(*driver, &given));
        // Every parser meets every text, whatever stands around it.
        for key in keys(*driver) {
            drop(DriverOptions::parse(*driver, &DriverOpts::from([(key.name.to_owned(), given[0].clone())])));
        }
    }
}

#[test]
fn the_reference_page_says_what_the_tables_say() {
    assert_page("docs/driver-options.md", |mut page| {
        for driver in DRIVERS {
            let mut table = "\n| key | accepted | default | what it does |\n|---|---|---|---|\n".to_owned();
            for key in keys(driver) {
                let _ = writeln!(table, "| `{}` | {} | {} | {} |", key.name, key.accepts, key.default, key.doc);
            }
            page = between(&page, &format!("<!-- keys: {driver} -->\n"), &format!("<!-- end: {driver} -->"), &table);
        }
        page
    });
}

/// The page with this text between two marks.
fn between(page: &str, start: &str, end: &str, text: &str) -> String {
    let (head, rest) = page.split_once(start).unwrap_or_else(|| panic!("{start} is missing"));
    let (_, tail) = rest.split_once(end).unwrap_or_else(|| panic!("{end} is missing"));
    format!("{head}{start}{text}\n{end}{tail}")
}

/// The page is what is made of it.
fn assert_page(path: &str, make: impl Fn(String) -> String) {
    let page = std::fs::read_to_string(repository(path)).unwrap();
    let wanted = make(page.clone());
    if blessing() {
        std::fs::write(repository(path), &wanted).unwrap();
    } else {
        assert_eq!(page, wanted, "run BUILDFLEET_BLESS=1 cargo test -p buildfleet options");
    }
}
