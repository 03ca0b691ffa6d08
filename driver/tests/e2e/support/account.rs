//! A service account with the rights that the documentation asks for, and kubeconfigs for it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::namespace::Namespace;
use super::tools::changed_kubeconfig;

/// As the documentation names it.
pub(crate) const ACCOUNT: &str = "buildfleet";

const DOCUMENT: &str = "docs/rbac.md";

/// What has a Role of its own, and the heading above it.
const ROLES: [(&str, &str); 5] = [
    ("attach", "## `create --attach`"),
    ("kube-pod", "## `kube-pod://`"),
    ("kube-service", "## `kube-service://`"),
    ("gc", "## `gc`"),
    ("manifests", "## `manifests`"),
];

/// The service account in a test's namespace.
#[derive(Debug)]
pub(crate) struct Account<'a> {
    namespace: &'a Namespace,
    dir: PathBuf,
}

impl<'a> Account<'a> {
    /// With the documented Role, or with what the documentation leaves of it for one transport, or with one of [`ROLES`].
    pub(crate) fn make(namespace: &'a Namespace, dir: PathBuf, transport: Option<&str>) -> Self {
        fs::create_dir_all(&dir).expect("a directory of our own");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(DOCUMENT);
        let document = fs::read_to_string(&path).expect("the documentation is in the repository");
        let own = ROLES.iter().find(|(name, _)| transport == Some(*name));
        let section =
            own.map_or(document.as_str(), |(_, heading)| document.split_once(heading).expect("a section for it").1);
        let objects = fenced_yaml(section).replace("namespace: builds", &format!("namespace: {}", namespace.name()));
        let file = dir.join("rbac.yaml");
        fs::write(&file, objects).expect("a file of our own");
        let transport = transport.filter(|_| own.is_none());
        let superfluous = transport.map(|transport| not_needed(&document, transport)).unwrap_or_default();
        // kubectl reads YAML for us.
        let read = namespace.kubectl("create --dry-run=client --output json --filename").arg(&file).succeeds();
        for (index, mut object) in documents(&read.stdout).into_iter().enumerate() {
            if object["kind"] == "Role" {
                take_away(&mut object, &superfluous);
            }
            let file = dir.join(format!("rbac-{index}.json"));
            fs::write(&file, object.to_string()).expect("a file of our own");
            namespace.kubectl("create --filename").arg(&file).succeeds();
        }
        namespace.kubectl("create serviceaccount").arg(ACCOUNT).succeeds();
        Self { namespace, dir }
    }

    pub(crate) fn token(&self) -> String {
        self.namespace.kubectl("create token").arg(ACCOUNT).succeeds().word().to_owned()
    }

    /// The cluster's own file, whose current context is the same cluster with this user alone.
    pub(crate) fn kubeconfig(&self, name: &str, user: &Value) -> PathBuf {
        let file = self.dir.join(name);
        changed_kubeconfig(&file, |config| {
            config["users"] = serde_json::json!([{ "name": ACCOUNT, "user": user }]);
            config["contexts"][0]["context"]["user"] = ACCOUNT.into();
            config["contexts"][0]["context"]["namespace"] = self.namespace.name().into();
        });
        file
    }

    /// The account itself is no builder's leftover.
    pub(crate) fn remove(self) {
        self.namespace.kubectl("delete serviceaccount").arg(ACCOUNT).succeeds();
        self.namespace.kubectl("delete role,rolebinding").arg(ACCOUNT).succeeds();
    }
}

fn fenced_yaml(document: &str) -> String {
    let (_, rest) = document.split_once("```yaml\n").expect("the documentation has a Role");
    rest.split_once("```").expect("the fence is closed").0.to_owned()
}

/// The resources in the row of this transport, in the table of what one transport does without.
fn not_needed(document: &str, transport: &str) -> Vec<String> {
    let (_, table) = document.split_once("| transport | not needed |").expect("the documentation has the table");
    let row = table.lines().find_map(|line| line.strip_prefix(&format!("| `{transport}` |")));
    let row = row.unwrap_or_else(|| panic!("{DOCUMENT} has no row for {transport}"));
    let resources: Vec<String> = row.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    assert!(!resources.is_empty(), "{DOCUMENT} takes nothing away for {transport}: {row}");
    resources
}

fn take_away(role: &mut Value, superfluous: &[String]) {
    let rules = role["rules"].as_array_mut().expect("a Role has rules");
    let mut taken = Vec::new();
    for rule in rules.iter_mut() {
        rule["resources"].as_array_mut().expect("a rule has resources").retain(|resource| {
            let name = resource.as_str().expect("a name");
            let goes = superfluous.iter().any(|other| other == name);
            if goes {
                taken.push(name.to_owned());
            }
            !goes
        });
    }
    rules.retain(|rule| rule["resources"] != serde_json::json!([]));
    assert_eq!(taken.len(), superfluous.len(), "the Role has {taken:?} of {superfluous:?}");
}

fn documents(text: &str) -> Vec<Value> {
    let documents: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(text).into_iter().collect();
    let documents = documents.expect("JSON documents");
    // One List, or one document each, as kubectl likes.
    documents
        .into_iter()
        .flat_map(|document| match document["items"].as_array() {
            Some(items) => items.clone(),
            None => vec![document],
        })
        .collect()
}
