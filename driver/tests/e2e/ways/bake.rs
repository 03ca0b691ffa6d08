//! Bakes of targets that build on each other.

use std::fs;

use serde_json::Value;

use crate::support::builder::Builder;
use crate::support::clock::seconds;
use crate::support::registry;
use crate::support::scene::Scene;

const ON_BASE: &str = "FROM base
ARG WHICH
RUN echo \"$WHICH $((6 * 7)) on $(cat /base)\" >/app && cat /app
";

/// Two applications on one base; one of them is pushed, all is described in one file.
pub(super) fn links_targets(scene: &Scene, builder: &Builder<'_>) {
    let context = scene.contexts().with("bake", "RUN echo \"the base $((40 + 3))\" >/base\n");
    fs::write(context.join("Dockerfile.app"), ON_BASE).expect("a file of our own");
    let image = registry::image(&format!("{}-baked", scene.namespace().name()));
    let (out, facts) = (scene.path("baked"), scene.path("baked.json"));
    let file = format!(
        r#"
variable "WORD" {{ default = "unset" }}
group "default" {{ targets = ["app", "pushed"] }}
target "base" {{
  context = "."
}}
target "on-base" {{
  context = "."
  dockerfile = "Dockerfile.app"
  contexts = {{ base = "target:base" }}
}}
target "app" {{
  inherits = ["on-base"]
  name = "app-${{which}}"
  matrix = {{ which = ["first", "second"] }}
  args = {{ WHICH = "${{which}}-${{WORD}}" }}
  output = ["type=local,dest={}/${{which}}"]
}}
target "pushed" {{
  inherits = ["on-base"]
  args = {{ WHICH = "pushed-${{WORD}}" }}
  output = ["type=image,name={image},push=true,registry.insecure=true"]
}}
"#,
        out.display()
    );
    fs::write(context.join("docker-bake.hcl"), file).expect("a file of our own");
    // Since it writes outside of the context, bake wants that allowed.
    let bake = |words: &str| {
        let call = scene.buildx("bake --progress=plain --builder").arg(builder.name()).dir(&context);
        call.arg(format!("--allow=fs.write={}", scene.path("").display())).words(words).env("WORD", "set")
    };
    let built = bake("--metadata-file").arg(&facts).within(seconds(120)).succeeds();
    for which in ["first", "second"] {
        let made = fs::read_to_string(out.join(which).join("app")).expect("the step's file");
        assert_eq!(made, format!("{which}-set 42 on the base 43\n"));
    }
    built.says("pushed-set 42 on the base 43");
    let text = fs::read_to_string(&facts).expect("buildx wrote it");
    let facts: Value = serde_json::from_str(&text).expect("buildx writes JSON");
    assert_eq!(facts["pushed"]["containerimage.digest"].as_str(), Some(registry::digest(&image).as_str()), "{facts:#}");
    for target in ["app-first", "app-second", "pushed"] {
        let build = facts[target]["buildx.build.ref"].as_str().unwrap_or_else(|| panic!("no ref: {facts:#}"));
        assert!(build.starts_with(builder.name()), "{build}");
    }

    // Values from the command line win, and what is not asked for is not built.
    let other = scene.path("baked-again");
    let built =
        bake(&format!("app-first --set *.args.WHICH=third --set app-first.output=type=local,dest={}", other.display()));
    built.succeeds().says_nothing_of("pushed");
    assert_eq!(fs::read_to_string(other.join("app")).expect("the step's file"), "third 42 on the base 43\n");
}
