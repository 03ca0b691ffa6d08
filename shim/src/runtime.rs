//! Where the daemon's sockets are, which is how a builder in buildx's store is known to be ours.

use std::path::PathBuf;

use crate::environment::Environment;

/// The directory itself.
pub const VARIABLE: &str = "BUILDFLEET_RUNTIME_DIR";

/// Why the directory cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeDirError {
    #[error("{VARIABLE} has to be an absolute path, got `{}`", .0.display())]
    Relative(PathBuf),
    #[error(
        "found no directory for sockets: neither {VARIABLE} nor XDG_RUNTIME_DIR is set, and only root uses /run/buildfleet"
    )]
    None,
}

/// Sockets, and nothing that outlives a reboot.
///
/// # Errors
/// When the environment names none, or one that is relative.
pub fn runtime_dir(environment: &impl Environment) -> Result<PathBuf, RuntimeDirError> {
    match environment.var(VARIABLE).map(PathBuf::from) {
        Some(given) if given.is_relative() => return Err(RuntimeDirError::Relative(given)),
        Some(given) => return Ok(given),
        None => {}
    }
    // The XDG specification has relative paths ignored.
    let xdg = environment.var("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(xdg) = xdg {
        return Ok(xdg.join("buildfleet"));
    }
    let uid = environment.uid();
    if uid == 0 {
        return Ok(PathBuf::from("/run/buildfleet"));
    }
    // What XDG_RUNTIME_DIR would say, for cron jobs and `sudo -u`, which run without it.
    let logind = PathBuf::from(format!("/run/user/{uid}"));
    if environment.exists(&logind) { Ok(logind.join("buildfleet")) } else { Err(RuntimeDirError::None) }
}
