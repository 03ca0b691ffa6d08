//! A user whom only one test knows: without privileges, with subordinate ids, and without a trace on the machine.

use std::ffi::OsStr;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User as Account};

use super::call::Call;
use super::tools::{self, BUILDFLEET};

const NAME: &str = "bf-unprivileged";

/// Above what a machine gives to its own users and services; the id of the test's process makes it this run's own.
const FIRST_UID: u32 = 20_000_000;

/// What the user's namespace is made of, far from the ranges that `useradd` gives away.
const SUBORDINATE: Range<u32> = 1_900_000_000..1_900_065_536;

/// In a mount namespace of its own, the files in $1 hide those of /etc; nothing is written there, not even by mistake.
const IN_OWN_NAMESPACE: &str =
    "mount -t overlay overlay -o \"ro,lowerdir=$1:/etc\" /etc || exit; shift; exec setpriv \"$@\"";

/// The user and the programs that it may read, below one directory.
#[derive(Debug)]
pub(crate) struct User {
    uid: u32,
    bin: PathBuf,
    etc: PathBuf,
}

impl User {
    /// Copies of all programs are made in `dir`, which the user is given with these directories below it.
    pub(crate) fn make(dir: &Path, homes: &[PathBuf]) -> Self {
        assert!(Uid::effective().is_root(), "the tests have to run as root, to become another user");
        let uid = FIRST_UID + std::process::id();
        let known = Account::from_uid(Uid::from_raw(uid)).expect("users can be looked up");
        assert!(known.is_none(), "uid {uid} is in use: {known:?}");
        let user = Self { uid, bin: dir.join("bin"), etc: dir.join("etc") };
        user.write_etc();
        user.copy_programs();
        for home in homes.iter().map(PathBuf::as_path).chain([dir]) {
            chown(home, Some(uid), Some(uid)).expect("a directory of our own");
        }
        user.check_namespaces(dir);
        user
    }

    fn write_etc(&self) {
        fs::create_dir(&self.etc).expect("a directory of our own");
        let uid = self.uid;
        for (name, line) in
            [("passwd", format!("{NAME}:x:{uid}:{uid}::/:/bin/sh")), ("group", format!("{NAME}:x:{uid}:"))]
        {
            let own = fs::read_to_string(Path::new("/etc").join(name)).expect("every machine has it");
            fs::write(self.etc.join(name), format!("{}\n{line}\n", own.trim_end())).expect("a file of our own");
        }
        for name in ["subuid", "subgid"] {
            let ids = format!("{NAME}:{}:{}\n", SUBORDINATE.start, SUBORDINATE.len());
            fs::write(self.etc.join(name), ids).expect("a file of our own");
        }
    }

    fn copy_programs(&self) {
        fs::create_dir(&self.bin).expect("a directory of our own");
        let tools = tools::tools();
        let programs = [PathBuf::from(BUILDFLEET), tools.buildkitd.clone(), tools.buildctl.clone(), tools.runc.clone()];
        for program in &programs {
            self.copy(program, "755");
        }
        self.copy(&tools::of_package("rootlesskit", "rootlesskit"), "755");
        // As Debian installs them: they may map the ids that /etc/subuid and /etc/subgid give to who calls them.
        for program in ["newuidmap", "newgidmap"] {
            self.copy(&tools::of_package("uidmap", program), "4755");
        }
    }

    /// By another process: a descriptor that is open for writing here might be inherited by what another test starts just
    /// then, and the program would be busy.
    fn copy(&self, program: &Path, mode: &str) {
        Call::new("install").arg(format!("--mode={mode}")).arg(program).arg(self.path_of(program)).succeeds();
    }

    fn path_of(&self, program: &Path) -> PathBuf {
        self.bin.join(program.file_name().expect("a program has a name"))
    }

    /// At once, where a builder would try until its time is over.
    fn check_namespaces(&self, dir: &Path) {
        let made = self.run("/usr/bin/unshare").words("--user --map-root-user true").end();
        assert!(
            made.is_success(),
            "an unprivileged user cannot make user namespaces here. Look at `sysctl user.max_user_namespaces \
             kernel.unprivileged_userns_clone kernel.apparmor_restrict_unprivileged_userns`, those of them that this \
             kernel has; docs/local.md says what is needed: {made}"
        );
        let mapped = self.run("rootlesskit").arg("true").env("PATH", self.path()).env("TMPDIR", dir).end();
        assert!(
            mapped.is_success(),
            "rootlesskit cannot map subordinate ids here: newuidmap and newgidmap have to be allowed their setuid bit \
             below {}: {mapped}",
            dir.display()
        );
    }

    /// The user's `PATH`.
    pub(crate) fn path(&self) -> String {
        format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.bin.display())
    }

    /// A run of the user's copy of a program of ours, or of one that everybody may run.
    pub(crate) fn run(&self, program: impl AsRef<OsStr>) -> Call {
        let program = Path::new(program.as_ref());
        let own = self.path_of(program);
        let program = if own.is_file() { own } else { program.to_owned() };
        let call = Call::new("/usr/bin/unshare").words("--mount -- /bin/sh -c").arg(IN_OWN_NAMESPACE).arg("sh");
        let call = call.arg(&self.etc).arg(format!("--reuid={}", self.uid)).arg(format!("--regid={}", self.uid));
        call.words("--clear-groups --inh-caps=-all --").arg(program)
    }

    /// Whether the process runs as this user, or as one of the ids that are given to it.
    pub(crate) fn runs(&self, pid: i32) -> bool {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let uids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
        let mut uids = uids.split_whitespace().map(|uid| uid.parse::<u32>().expect("a uid")).peekable();
        uids.peek().is_some() && uids.all(|uid| uid == self.uid || SUBORDINATE.contains(&uid))
    }

    /// Whether a file belongs to one of the ids that are given to the user.
    pub(crate) fn is_subordinate(uid: u32) -> bool {
        SUBORDINATE.contains(&uid)
    }
}
