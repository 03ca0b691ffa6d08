//! Build contexts. There is no base image: each starts from nothing with a static busybox.

use std::fs;
use std::path::{Path, PathBuf};

use super::call::Call;
use super::tools::script;

/// A shell and the usual tools, for the platform that is built.
const HEAD: &str = "FROM scratch
ARG TARGETARCH
COPY busybox-${TARGETARCH} /bin/busybox
RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]
";

/// A RUN step that says on which kind of machine it ran.
pub(crate) const UNAME: &str = "RUN echo \"this machine is: $(uname -m)\" | tee /machine\n";

/// Computed by the step, so that the step's own text, which clients print as well, does not have it.
pub(crate) const BEGINS: &str = "begins 42";

/// Makes contexts below one directory.
#[derive(Debug)]
pub(crate) struct Contexts {
    dir: PathBuf,
}

impl Contexts {
    pub(crate) fn make(dir: PathBuf) -> Self {
        Call::new(script("rig/contexts")).arg(&dir).succeeds();
        Self { dir }
    }

    /// The one of the repository: a RUN step that writes the machine's name into `/machine`.
    pub(crate) fn hello(&self) -> PathBuf {
        self.dir.join("hello")
    }

    /// A context whose Dockerfile goes on after [`HEAD`] like this.
    pub(crate) fn with(&self, name: &str, rest: &str) -> PathBuf {
        let dir = self.dir.join(name);
        fs::create_dir_all(&dir).expect("a directory of our own");
        for busybox in ["busybox-amd64", "busybox-arm64"] {
            link(&self.hello().join(busybox), &dir.join(busybox));
        }
        fs::write(dir.join("Dockerfile"), format!("{HEAD}{rest}")).expect("a file of our own");
        dir
    }

    /// A step that takes this long, in whole seconds, and says [`BEGINS`] first. No other context has the same step.
    pub(crate) fn slow(&self, name: &str, seconds: u32) -> PathBuf {
        self.with(name, &format!("RUN : {name} && echo \"begins $((6 * 7))\" && sleep {seconds}\n"))
    }
}

fn link(from: &Path, to: &Path) {
    if !to.exists() {
        fs::hard_link(from, to)
            .unwrap_or_else(|error| panic!("cannot link {} to {}: {error}", from.display(), to.display()));
    }
}
