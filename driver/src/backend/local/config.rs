//! Writes what a node's `buildkitd` processes are configured by.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::builder::BuildkitdConfig;

/// A configuration that could not be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfigError {
    #[error("failed to write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the path {} is no text, and buildkitd.toml could not name it", .0.display())]
    Path(PathBuf),
}

/// Writes the files below the node's state directory, and returns the flags that point `buildkitd` to them. Keys are among
/// them: they are readable by their owner alone, who runs `buildkitd`.
pub(super) fn write(config: &BuildkitdConfig, state: &Path) -> Result<[String; 2], ConfigError> {
    let directory = state.join("config");
    let text = directory.to_str().ok_or_else(|| ConfigError::Path(directory.clone()))?;
    for (name, content) in config.files_in(text) {
        let path = directory.join(name);
        let written = write_file(&path, content.as_bytes());
        written.map_err(|source| ConfigError::Write { path, source })?;
    }
    Ok(["--config".to_owned(), BuildkitdConfig::path_in(text)])
}

fn write_file(path: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(content)
}
