//! What is left of people who never come back is collected, and what somebody uses is not.

use crate::support::clock::{seconds, wait_for};
use crate::support::scene::Scene;

#[test]
fn what_nobody_has_used_for_its_ttl_is_collected_and_nothing_else() {
    let ci = Scene::kube();
    let anna = Scene::beside(&ci);
    let namespace = ci.namespace().name();
    let opts = |more: &str| format!("--driver kubernetes --driver-opt namespace={namespace}{more}");
    // A job that is cancelled removes nothing: its daemon is gone, and with it all that knows of the builder.
    ci.create("job", &format!("{} --bootstrap", opts(",poddisruptionbudget=minAvailable=1")));
    ci.create("disk", &format!("{} --bootstrap", opts(",persistent-volume-claim.requests.storage=64Mi")));
    ci.kill_daemon();
    let kept = anna.create("kept", &format!("{} --bootstrap", opts(",ttl=never")));
    anna.create("left", &format!("{} --bootstrap", opts("")));
    anna.buildfleet("rm left --keep-daemon").succeeds();
    let stock = format!("create --name stock --driver kubernetes --bootstrap --driver-opt namespace={namespace}");
    anna.buildx(&stock).succeeds();

    let gc = |words: &str| anna.buildfleet(&format!("gc --namespace {namespace} {words}"));
    gc("--ttl 5m").fails().says("--ttl: `5m` is less than 30m");
    gc("").succeeds().says("neither it nor --ttl says for how long it is kept").says_nothing_of("removed ");
    gc("--ttl 24h").succeeds().says("its ttl is 24h").says_nothing_of("removed ");
    let anywhere = anna.buildfleet("gc --all-namespaces --ttl 1000h --dry-run").succeeds();
    anywhere.says(namespace).says("deployment job0").says_nothing_of("stock0");

    let before = ci.namespace().objects();
    let (short, dry) = ("--ttl 1s --force", "--ttl 1s --force --dry-run --format json");
    let planned = wait_for("a second without a note", seconds(5), || {
        let planned = gc(dry).succeeds().json_lines();
        let due = planned.iter().filter(|found| found["Result"] == "due").count();
        (due == 7).then_some(planned)
    });
    assert_eq!(ci.namespace().objects(), before);
    let result = |object: &str| {
        let found = planned.iter().find(|found| found["Object"] == object);
        found.map(|found| found["Result"].as_str().unwrap_or_default().to_owned())
    };
    let expected = [
        ("deployment job0", "due"),
        ("secret job0-tls", "due"),
        ("poddisruptionbudget job0", "due"),
        ("statefulset disk0", "due"),
        ("persistentvolumeclaim buildkit-disk0-0", "due"),
        ("deployment kept0", "stays"),
        ("deployment left0", "stays"),
    ];
    for (object, wanted) in expected {
        assert_eq!(result(object).as_deref(), Some(wanted), "{object}: {planned:#?}");
    }
    assert_eq!(result("deployment stock0"), None, "what buildfleet did not make is not its own to judge");
    gc(short).succeeds().says("removed").says("deployment job0").says("its ttl is never").says("on purpose");
    wait_for("the end of what was collected", seconds(45), || {
        let left = ci.namespace().objects();
        (!left.iter().any(|name| name.contains("job0") || name.contains("disk0"))).then_some(())
    });
    kept.buildctl(&anna.contexts().hello(), "").succeeds();
    let left = ci.namespace().objects();
    for stays in ["deployment/kept0", "deployment/left0", "deployment/stock0", "secret/kept0-tls"] {
        assert!(left.contains(&stays.to_owned()), "{stays}: {left:?}");
    }
}
