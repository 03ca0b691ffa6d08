//! One call of a pod to the user's end.

use h2::Reason;

use super::end::Head;
use super::lane::Lane;

/// Services by which a pod reads from the user's end, or asks it. All others may leave something there.
const READING: [&str; 7] = [
    "/moby.filesync.v1.FileSync/",
    "/moby.filesync.v1.Auth/",
    "/moby.buildkit.secrets.v1.Secrets/",
    "/moby.sshforward.v1.SSH/",
    "/moby.upload.v1.Upload/",
    "/moby.buildkit.v1.sourcepolicy.policysession.PolicyVerifier/",
    "/grpc.health.v1.Health/",
];

/// Calls of the content store that read.
const READING_CONTENT: [&str; 2] =
    ["/containerd.services.content.v1.Content/Info", "/containerd.services.content.v1.Content/Read"];

/// A pod that has the session, as the switch knows it.
pub(super) type PodId = u64;

/// The two ends of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    User,
    Pod(PodId),
}

#[derive(Debug)]
pub(super) struct Call {
    pub(super) pod: PodId,
    /// Its number on the pod's end, and on the user's once it has begun there.
    pub(super) at_pod: u32,
    pub(super) at_user: Option<u32>,
    pub(super) to_pod: Lane,
    pub(super) to_user: Lane,
    /// One end wants nothing more, and has said all: the other is told for this reason when it has got that.
    pub(super) forsaken: Option<Reason>,
    /// What it sends may leave something with the user.
    pub(super) delivers: bool,
}

impl Call {
    /// As a pod begins it; the rooms are those of new streams on both ends.
    pub(super) fn begin(pod: PodId, at_pod: u32, head: &Head, room_at_pod: i64, room_at_user: i64) -> Self {
        let path = head.pseudo.path.as_ref().map_or("", |path| &**path);
        Self {
            pod,
            at_pod,
            at_user: None,
            to_pod: Lane::new(room_at_pod),
            to_user: Lane::new(room_at_user),
            forsaken: None,
            delivers: !reads(path),
        }
    }

    /// The lane to one side, and its number there.
    pub(super) fn to(&mut self, side: Side) -> &mut Lane {
        match side {
            Side::User => &mut self.to_user,
            Side::Pod(_) => &mut self.to_pod,
        }
    }

    pub(super) fn from(&mut self, side: Side) -> &mut Lane {
        match side {
            Side::User => &mut self.to_pod,
            Side::Pod(_) => &mut self.to_user,
        }
    }

    pub(super) fn other(&self, side: Side) -> Side {
        match side {
            Side::User => Side::Pod(self.pod),
            Side::Pod(_) => Side::User,
        }
    }

    /// Its number on one side.
    pub(super) fn at(&self, side: Side) -> Option<u32> {
        match side {
            Side::User => self.at_user,
            Side::Pod(_) => Some(self.at_pod),
        }
    }
}

fn reads(path: &str) -> bool {
    READING.iter().any(|service| path.starts_with(service)) || READING_CONTENT.contains(&path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_reads_leave_nothing_at_the_users_end() {
        for (path, wanted) in [
            ("/moby.filesync.v1.FileSync/DiffCopy", true),
            ("/moby.filesync.v1.FileSend/DiffCopy", false),
            ("/moby.filesync.v1.Auth/FetchToken", true),
            ("/moby.buildkit.secrets.v1.Secrets/GetSecret", true),
            ("/moby.buildkit.v1.sourcepolicy.policysession.PolicyVerifier/CheckPolicy", true),
            ("/grpc.health.v1.Health/Check", true),
            ("/containerd.services.content.v1.Content/Read", true),
            ("/containerd.services.content.v1.Content/Write", false),
            ("/some.new.Service/Method", false),
        ] {
            assert_eq!(reads(path), wanted, "{path}");
        }
    }
}
