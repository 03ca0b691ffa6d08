//! The user's ssh agent, lent to a step.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::builder::Builder;
use crate::support::call::Call;
use crate::support::scene::Scene;
use crate::support::service::Agent;
use crate::support::tools::on_path;

/// The agent says which keys it has, and signs with one.
const STEP: &str = "COPY programs /
COPY key.pub /key.pub
RUN --mount=type=ssh,required=true ssh-add -l && ssh-add -T /key.pub && echo \"signed $((6 * 7))\"
";
const OF_ANOTHER_NAME: &str = "COPY programs /
RUN --mount=type=ssh,id=work,required=true ssh-add -l
";

pub(super) fn signs_for_a_step(scene: &Scene, builder: &Builder<'_>) {
    let agent = Agent::start(&scene.path("agent"));
    let context = scene.contexts().with("agent", STEP);
    put_ssh_add_into(&context.join("programs"));
    fs::copy(agent.public_key(), context.join("key.pub")).expect("a file of our own");
    let socket = agent.socket().display();

    builder.buildx(&context, "").fails().says("ssh");
    let built = builder.buildx(&context, "--ssh default --no-cache").env("SSH_AUTH_SOCK", agent.socket()).succeeds();
    built.says(agent.fingerprint()).says("signed 42");
    let built = builder.buildctl(&context, &format!("--ssh default={socket} --no-cache")).succeeds();
    built.says(agent.fingerprint()).says("signed 42");
    // Without an agent, of the key alone.
    let key = agent.key().display();
    builder.buildx(&context, &format!("--ssh default={key} --no-cache")).succeeds().says("signed 42");

    fs::write(context.join("Dockerfile.work"), other_dockerfile(&context)).expect("a file of our own");
    let file = format!("--file {} --no-cache", context.join("Dockerfile.work").display());
    builder.buildx(&context, &format!("{file} --ssh default={socket}")).fails().says("work");
    let built = builder.buildx(&context, &format!("{file} --ssh work={socket}")).succeeds();
    built.says(agent.fingerprint());
}

fn other_dockerfile(context: &Path) -> String {
    let own = fs::read_to_string(context.join("Dockerfile")).expect("a file of our own");
    own.strip_suffix(STEP).expect("the context's own step").to_owned() + OF_ANOTHER_NAME
}

/// The program with all that it is linked to.
fn put_ssh_add_into(root: &Path) {
    let program = on_path("ssh-add").expect("it comes with ssh-agent");
    let linked = Call::new("ldd").arg(&program).succeeds();
    let libraries = linked.stdout.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from);
    for file in libraries.chain([program.clone()]) {
        let to = match file == program {
            true => root.join("bin/ssh-add"),
            false => root.join(file.strip_prefix("/").expect("an absolute path")),
        };
        fs::create_dir_all(to.parent().expect("below the root")).expect("a directory of our own");
        fs::copy(&file, &to).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
}
