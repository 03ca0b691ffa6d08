//! Files of the user that become part of a node: read where the user is, because the daemon may be elsewhere.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use buildfleet_proto::fleet::BuildkitdConfig;

use super::failure::Failure;
use crate::builder;

/// What buildx reads of a file at most.
const LIMIT: u64 = 1024 * 1024;

/// A file's text, or why there is none.
pub(super) fn text(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(LIMIT + 1).read_to_string(&mut text));
    match read {
        Err(error) => Err(error.to_string()),
        Ok(read) if read as u64 > LIMIT => Err(format!("it has more than {LIMIT} bytes")),
        Ok(_) => Ok(text),
    }
}

/// A `buildkitd.toml` with the files that it names. As in buildx, their paths are seen from the working directory.
pub(super) fn buildkitd_config(path: &Path) -> Result<BuildkitdConfig, Failure> {
    let option = || format!("--buildkitd-config {}", path.display());
    let toml = text(path).map_err(|problem| Failure::usage(format!("failed to read {}: {problem}", option())))?;
    let config = builder::BuildkitdConfig::read(&toml, |named| text(Path::new(named))).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(|error| format!("{}: {error}", option())).collect();
        Failure::usage(lines.join("\n"))
    })?;
    let files = config.named().iter().map(|(name, content)| (name.clone(), content.clone())).collect();
    Ok(BuildkitdConfig { toml: config.toml().to_owned(), files })
}
