//! Users' files, and what `buildkitd` finds in its directory.

use super::*;

const WHOLE: &str = r#"# ours
debug = true
insecure-entitlements = ["security.insecure", 'network.host']

[registry."r.example:5000"]
  ca = ["/home/me/ca.pem", "/other/ca.pem"] # two of one name
  insecure = false
  [[registry."r.example:5000".keypair]]
    key = "/home/me/key.pem"
    cert = "relative/cert.pem"

[registry."docker.io"]
  mirrors = ["mirror.example"]
  keypair = [{ key = "/k", cert = "/c" }]

[worker.oci]
  gckeepstorage = 9000
"#;

fn load(path: &str) -> Result<String, String> {
    if path.contains("missing") { Err("no such file".to_owned()) } else { Ok(format!("content of {path}")) }
}

#[test]
fn certificates_and_keys_come_along_and_the_paths_are_those_of_the_pod() {
    let config = BuildkitdConfig::read(WHOLE, load).unwrap();
    let files = config.files_in("/etc/buildkit");
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "buildkitd.toml",
            "certs/docker.io/c",
            "certs/docker.io/k",
            "certs/r.example_5000/ca.pem",
            "certs/r.example_5000/ca.pem-2",
            "certs/r.example_5000/cert.pem",
            "certs/r.example_5000/key.pem",
        ]
    );
    assert_eq!(files["certs/r.example_5000/ca.pem-2"], "content of /other/ca.pem");
    assert_eq!(files["certs/r.example_5000/cert.pem"], "content of relative/cert.pem");
    let wanted = WHOLE
        .replace("/home/me/ca.pem", "/etc/buildkit/certs/r.example_5000/ca.pem")
        .replace("/other/ca.pem", "/etc/buildkit/certs/r.example_5000/ca.pem-2")
        .replace("/home/me/key.pem", "/etc/buildkit/certs/r.example_5000/key.pem")
        .replace("relative/cert.pem", "/etc/buildkit/certs/r.example_5000/cert.pem")
        .replace("\"/k\"", "\"/etc/buildkit/certs/docker.io/k\"")
        .replace("\"/c\"", "\"/etc/buildkit/certs/docker.io/c\"");
    // All else, comments too, is as the user wrote it.
    assert_eq!(files["buildkitd.toml"].replace([' ', '\t'], ""), wanted.replace([' ', '\t'], ""));
    assert!(config.files_in("/x")["buildkitd.toml"].contains("/x/certs/docker.io/k"));
}

#[test]
fn what_was_read_is_taken_over_and_what_was_not_is_refused() {
    let config = BuildkitdConfig::read(WHOLE, load).unwrap();
    assert_eq!(BuildkitdConfig::try_new(config.toml.clone(), config.files.clone()), Ok(config.clone()));
    let without = BuildkitdConfig::try_new(config.toml, BTreeMap::new()).unwrap_err();
    assert!(without.contains(&ConfigError::Missing("certs/docker.io/k".to_owned())), "{without:?}");
    for name in ["certs/../x", "/etc/passwd", "certs/a", "certs//a", "certs/a/b/c", "other/a/b", "certs/a/b c"] {
        let files = BTreeMap::from([(name.to_owned(), String::new())]);
        let wanted = Err(vec![ConfigError::Name(name.to_owned())]);
        assert_eq!(BuildkitdConfig::try_new(String::new(), files), wanted, "{name}");
    }
}

#[test]
fn all_that_is_wrong_is_said_with_its_key() {
    for (toml, wanted) in [
        ("a = ", &["it is no TOML: line 1: "][..]),
        ("a = 1\nb = [\n", &["it is no TOML: line "]),
        ("a = 1\na = 2", &["it is no TOML: line 2: "]),
        ("insecure-entitlements = \"network.host\"", &["`insecure-entitlements` is no list of strings"]),
        ("registry = 1", &["`registry` is no table"]),
        ("[registry]\n\"r\" = 1", &["`registry.\"r\"` is no table"]),
        ("[registry.r]\nca = \"/a\"", &["`registry.\"r\".ca` is no list of paths"]),
        ("[registry.r]\nca = [1]", &["`registry.\"r\".ca` is no list of paths"]),
        ("[registry.r]\nkeypair = {key = \"/a\"}", &["`registry.\"r\".keypair` is no list of tables"]),
        ("[registry.r]\nkeypair = [{key = 1}]", &["`registry.\"r\".keypair.key` is no path"]),
        (
            "[registry.r]\nca = [\"/missing\"]\n[[registry.r.keypair]]\ncert = \"/missing/2\"",
            &[
                "`registry.\"r\".ca`: failed to read /missing: no such file",
                "`registry.\"r\".keypair.cert`: failed to read /missing/2: no such file",
            ],
        ),
    ] {
        let errors = BuildkitdConfig::read(toml, load).unwrap_err();
        let said: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let fits = said.len() == wanted.len() && said.iter().zip(wanted).all(|(said, wanted)| said.starts_with(wanted));
        assert!(fits && said.iter().all(|said| !said.contains('\n')), "{toml}: {said:#?}");
    }
}

#[test]
fn more_than_a_secret_holds_is_refused() {
    let large = |_: &str| Ok("x".repeat(TOTAL_MAX));
    let errors = BuildkitdConfig::read("[registry.r]\nca = [\"/a\"]", large).unwrap_err();
    assert!(matches!(errors[..], [ConfigError::TooLarge(total)] if total > TOTAL_MAX));
}

#[test]
fn the_configuration_may_allow_the_network_itself() {
    for (toml, allows) in [
        (WHOLE, true),
        ("", false),
        ("insecure-entitlements = [\"security.insecure\"]", false),
        ("[worker]\ninsecure-entitlements = [\"network.host\"]", false),
    ] {
        assert_eq!(BuildkitdConfig::read(toml, load).unwrap().allows_network_host(), allows, "{toml}");
    }
}
