//! Who this daemon is to others that use the same objects of a cluster.

use nix::unistd::{Uid, User, gethostname};

use crate::backend::Installation;

/// The user and the machine that it runs for, whatever `id` the store has for it. Clients of its sockets are the same user.
pub(super) fn of(id: String) -> Installation {
    let uid = Uid::effective();
    let user = User::from_uid(uid).ok().flatten().map_or_else(|| format!("uid{uid}"), |user| user.name);
    let host = gethostname().ok().map(|host| host.to_string_lossy().into_owned());
    let host = host.filter(|host| !host.is_empty()).unwrap_or_else(|| "localhost".to_owned());
    // An annotation has one word for it.
    Installation { id, who: format!("{user}@{host}").replace(char::is_whitespace, "-") }
}
