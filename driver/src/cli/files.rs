//! Files of the user that become part of a node: read where the user is, because the daemon may be elsewhere.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use buildfleet_proto::fleet::BuildkitdConfig;

use super::failure::Failure;
use crate::builder;

/// What buildx reads of a file at most.
pub(super) const LIMIT: u64 = 1024 * 1024;

/// All that comes, or why it is not taken: half of a file must not pass for a whole one.
pub(super) fn bounded(from: impl Read, limit: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    match from.take(limit + 1).read_to_end(&mut bytes) {
        Err(error) => Err(error.to_string()),
        Ok(read) if read as u64 > limit => Err(format!("it has more than {limit} bytes")),
        Ok(_) => Ok(bytes),
    }
}

/// A file's text, or why there is none.
pub(super) fn text(path: &Path) -> Result<String, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    String::from_utf8(bounded(file, LIMIT)?).map_err(|_| "it is not UTF-8".to_owned())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_refused_and_not_cut() {
        assert_eq!(bounded(&b"four"[..], 4), Ok(b"four".to_vec()));
        assert_eq!(bounded(&b"five!"[..], 4), Err("it has more than 4 bytes".to_owned()));
        assert_eq!(bounded(std::io::repeat(0), 4), Err("it has more than 4 bytes".to_owned()));
    }
}
